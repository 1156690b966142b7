"""MiniStack, which keeps what it has also where it is killed. Runs in its environment:

    .cloud/ministack/bin/python infra/kept_aws.py

MiniStack by itself saves its state when it is told to end, and a `kill -9`, or a machine without power, takes
all since then: the runs of a day. Here each service's state is saved some seconds after it changed; and each
write to a table is in a journal before it is answered, for what a table has was paid for. A table itself is
saved seldom then: at 100,000 items that takes seconds, in which nothing else is answered.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, BinaryIO

import invited
from ministack import app as ministack
from ministack.core import persistence, responses

EVERY_S = 2.0
SHARE = 20
"""Saving takes at most a twentieth of the time: the next one is put off for that."""
LONG_JOURNAL = 16 << 20
"""Bytes of a journal from which on the tables are saved, so that a start does not do a day's writes again."""

TRIES, PAUSE_S = 20, 0.05
"""At the end: how often what changes in another thread meanwhile is tried to be saved."""

Handler = Callable[[str, str, dict[str, str], bytes, Any], Awaitable[tuple[int, Any, Any]]]


class Journal:
    """The writes to tables since these were saved, in their order.

    Args:
        path: its file; `saved` is the file of the tables.
    """

    def __init__(self, path: Path, saved: Path) -> None:
        self._path, self._saved = path, saved
        self._file: BinaryIO | None = None

    async def replay(self, handler: Handler) -> int:
        """Do again what was done after the tables were saved; how many writes. All that is journaled
        succeeded, on the very tables that were saved, so conditions and counters come out as they did."""
        if not self._path.exists():
            return 0
        if self.is_saved():
            return 0  # killed before the journal was emptied
        done = 0
        with self._path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break  # cut off in the middle: it was never answered
                account, region, target, body = json.loads(line)
                responses.set_request_account_id(account)
                responses.set_request_region(region)
                await handler("POST", "/", {"x-amz-target": target}, body.encode(), {})
                done += 1
        return done

    def add(self, target: str, body: bytes) -> None:
        """Note a write; it is with the kernel when this returns, and a killed process loses it no more."""
        if self._file is None:
            self._file = self._path.open("ab", buffering=0)
        line = [responses.get_account_id(), responses.get_region(), target, body.decode()]
        self._file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")

    def is_saved(self) -> bool:
        """Whether the tables were saved after the last write."""
        if not (self._path.exists() and self._saved.exists()):
            return self._saved.exists()
        return self._saved.stat().st_mtime_ns > self._path.stat().st_mtime_ns

    def is_long(self) -> bool:
        return self._file is not None and self._file.tell() > LONG_JOURNAL

    def begin_anew(self) -> None:
        """Empty it: the tables are saved."""
        if self._file:
            self._file.close()
        self._file = self._path.open("wb", buffering=0)


class Keeper:
    """Notes what changes, and saves it."""

    def __init__(self, folder: Path) -> None:
        self._journal = Journal(folder / "tables.journal", folder / "dynamodb.json")
        self._changed: set[str] = set()
        self._keys = {module: key for key, module in ministack._state_map.items()}
        self._task: asyncio.Task[None] | None = None
        self._handlers = dict(ministack.SERVICE_HANDLERS)
        self._hashes: dict[int, tuple[bytes, str]] = {}

    def watch(self) -> None:
        """Stand before every service, and hash the code of a function once: 50 MB each, and each version."""
        functions = ministack._get_module("lambda_svc")
        write = functions._write_code_blob

        def written(code: bytes) -> str:
            known, name = self._hashes.get(id(code), (b"", ""))
            if known is not code:
                name = write(code)
                self._hashes[id(code)] = code, name
            return name

        functions._write_code_blob = written
        for name, handler in self._handlers.items():
            module = ministack.SERVICE_REGISTRY[name]["module"]
            ministack.SERVICE_HANDLERS[name] = self._watched(module, handler)

    def _watched(self, module: str, handler: Handler) -> Handler:
        async def watched(
            method: str, path: str, headers: dict[str, str], body: bytes, query: Any
        ) -> tuple[int, Any, Any]:
            answer = await handler(method, path, headers, body, query)
            target = headers.get("x-amz-target", "")
            if target.startswith("DynamoDB_") and _is_item_write(target):
                if answer[0] < 300:
                    self._journal.add(target, body)
            elif method not in ("GET", "HEAD") and not path.endswith("/invocations"):
                self._changed.add(module)
            return answer

        return watched

    async def begin(self) -> None:
        """Bring the tables to where they were; save from now on, and at the end."""
        if done := await self._journal.replay(self._handlers["dynamodb"]):
            ministack.logger.info("Did %s writes to tables again, from the journal", done)
        self._task = asyncio.create_task(self._go_on())
        # In the place of the server's, which waits for requests that are under way: a worker's, of minutes.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._end)

    def _end(self) -> None:
        """Save what changed, and end with the workers. Nothing is answered meanwhile: no write comes between,
        and no worker makes another call before the answer of its last one is recorded.

        Writes to tables are in the journal: to save these, too, took a minute on a busy machine.
        """
        for _ in range(TRIES):
            self._save_changed()
            if not self._changed:
                break
            time.sleep(PAUSE_S)
        _end_all()

    async def _go_on(self) -> None:
        pause_s = EVERY_S
        while True:
            await asyncio.sleep(pause_s)
            began = time.monotonic()
            self._save_changed()
            pause_s = max(EVERY_S, SHARE * (time.monotonic() - began))

    def _save_changed(self) -> None:
        changed, self._changed = self._changed, set()
        if "cloudformation" in changed:  # it makes things of all services
            changed = set(self._keys)
        elif changed:
            # What others change by themselves: executions go on, logs are written.
            changed |= {"stepfunctions"}
        if self._journal.is_long():
            changed |= {"dynamodb"}
        for module in sorted(changed):
            try:
                self._save(module)
            except RuntimeError:  # it changed in another thread meanwhile
                self._changed.add(module)

    def _save(self, module: str) -> None:
        loaded = ministack._loaded_modules.get(module) or sys.modules.get(f"ministack.services.{module}")
        state = loaded.get_state() if loaded and hasattr(loaded, "get_state") else None
        if state is not None:
            save(self._keys[module], state)
            if module == "dynamodb" and self._journal.is_saved():
                self._journal.begin_anew()


def save(service: str, state: dict[str, Any]) -> None:
    """Save the state of a service as MiniStack does, in a tenth of its time: whole texts are made by json's
    encoder in C, streams by the one in Python."""
    folder = Path(persistence.STATE_DIR)
    folder.mkdir(parents=True, exist_ok=True)
    wrapped = {"__ministack_format__": persistence._state_format_version(service), "payload": state}
    new = folder / f"{service}.json.tmp"
    new.write_text(json.dumps(wrapped, default=persistence._json_default))
    new.replace(folder / f"{service}.json")


def _is_item_write(target: str) -> bool:
    """Whether a request changes items; what changes a table itself is saved with it."""
    action = target.rpartition(".")[2]
    return action in ("PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems")


def kept(keeper: Keeper) -> Callable[..., Awaitable[None]]:
    """MiniStack's app, with the keeper told of its beginning."""
    inner = ministack.app

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def told(message: Any) -> None:
            if message["type"] == "lifespan.startup.complete":
                await keeper.begin()
            await send(message)

        await inner(scope, receive, told if scope["type"] == "lifespan" else send)

    return app


def _end_all() -> None:
    """End this process, and the workers in its group where it has one of its own."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    persistence.logger.setLevel("WARNING")  # it says each file that it saves
    keeper = Keeper(Path(os.environ["STATE_DIR"]))
    keeper.watch()
    invited.provide()
    ministack.app = kept(keeper)
    ministack.main()
