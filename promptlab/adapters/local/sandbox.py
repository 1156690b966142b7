"""The sandbox as processes of this machine, for tests and for who wants it without a cloud. Linux only."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

import orjson

from promptlab.adapters.bundles import BundleSender
from promptlab.errors import SandboxError
from promptlab.ports import Blobs


class LocalSandbox:
    """One guard, which answers one question after the other."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._sender = BundleSender(blobs, self._url)
        self._guard: Any = None
        self._lock = threading.Lock()

    async def ask(self, bundle_hash: str, event: Mapping[str, Any]) -> dict[str, Any]:
        """Run one invocation.

        Raises:
            SandboxError: it refuses, or code cannot be confined on this machine.
        """
        return await self._sender.ask(bundle_hash, event, self._invoke)

    async def close(self) -> None:
        """End its processes."""
        await asyncio.to_thread(self._end)

    async def _url(self, key: str) -> str:
        return key

    async def _invoke(self, payload: bytes) -> dict[str, Any]:
        loop = asyncio.get_running_loop()

        def fetch(key: str, most: int) -> bytes:
            return asyncio.run_coroutine_threadsafe(self._blobs.get(key, length=most + 1), loop).result()

        return await asyncio.to_thread(self._answer, payload, fetch)

    def _answer(self, payload: bytes, fetch: Any) -> dict[str, Any]:
        from promptlab.engine.sandbox.child import SandboxUnavailableError
        from promptlab.engine.sandbox.guard import Guard
        from promptlab.engine.sandbox.request import EventError

        with self._lock:
            try:
                self._guard = self._guard or Guard()
                self._guard.fetch = fetch
                # As it would come back from elsewhere.
                answer: dict[str, Any] = orjson.loads(orjson.dumps(self._guard.answer(orjson.loads(payload))))
                return answer
            except EventError as error:
                return {"refused": str(error)}
            except SandboxUnavailableError as error:
                self._close()
                raise SandboxError(f"Code of users cannot be confined on this machine: {error}") from error

    def _end(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.close()
