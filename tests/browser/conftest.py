"""A Studio over a real lab with real runs, and Chromium to look at it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvicorn
from playwright.sync_api import Browser, ConsoleMessage, Page, expect
from promptlab_studio.app import create_app
from promptlab_studio.server import bind

from promptlab.domain.results import RunRecord
from promptlab.store_lab import StoreLab
from tests.browser import labs
from tests.browser.chromium import MISSING, chromium, launched
from tests.studio.told import Told

ROOT = Path(__file__).parent.parent.parent
Made = TypeVar("Made")
PATIENCE_S = 60
"""How long a page may take on a busy machine; with 20 others on two cores some took 15 s."""
expect.set_options(timeout=PATIENCE_S * 1000)


@dataclass
class Site:
    """A Studio that is being served from a thread of its own."""

    folder: Path
    url: str = ""
    runs: list[RunRecord] = field(default_factory=list)
    lab: StoreLab = field(init=False)
    _loop: asyncio.AbstractEventLoop = field(init=False)
    _server: uvicorn.Server = field(init=False)

    def call(self, work: Callable[[StoreLab], Awaitable[Made]]) -> Made:
        """Do something with the lab, in the server's loop."""

        async def doing() -> Made:
            return await work(self.lab)

        return asyncio.run_coroutine_threadsafe(doing(), self._loop).result(PATIENCE_S)

    def serve(self, fill: Callable[[StoreLab], Awaitable[Any]], ready: threading.Event) -> None:
        """Fill the lab and serve it until `stop`."""
        asyncio.run(self._serve(fill, ready))

    async def _serve(self, fill: Callable[[StoreLab], Awaitable[Any]], ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self.lab = labs.open_lab(self.folder, Told())
        app = create_app(self.lab)
        try:
            self.runs = list(await fill(self.lab) or [])
            listener = bind("127.0.0.1", 0)
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            self._server = uvicorn.Server(
                uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
            )
            self._loop.call_soon(ready.set)
            await self._server.serve(sockets=[listener])
            listener.close()
        finally:
            ready.set()
            await self.lab.close()

    def stop(self) -> None:
        """Stop serving."""
        self._server.should_exit = True


def serving(folder: Path, fill: Callable[[StoreLab], Awaitable[Any]]) -> Iterator[Site]:
    """A site over a lab that `fill` filled, for as long as it is needed."""
    folder.mkdir(exist_ok=True)
    site, ready = Site(folder), threading.Event()
    thread = threading.Thread(target=site.serve, args=(fill, ready))
    thread.start()
    assert ready.wait(4 * PATIENCE_S) and site.url, "the site did not start"
    try:
        yield site
    finally:
        site.stop()
        thread.join(PATIENCE_S)


async def _with_runs(lab: StoreLab) -> list[RunRecord]:
    await labs.add_assets(lab)
    await labs.add_code(lab)
    return await labs.add_runs(lab)


@pytest.fixture(scope="session", autouse=True)
def built() -> None:
    """The front-end files are there."""
    if not (ROOT / "studio/promptlab_studio/static/manifest.json").exists():
        subprocess.run([str(ROOT / "frontend/build.sh"), sys.executable], check=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A Studio with finished runs. Its tests add what they need and leave the rest alone."""
    yield from serving(tmp_path_factory.mktemp("site"), _with_runs)


@pytest.fixture(scope="module")
def empty_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A Studio in which nobody has done anything yet."""

    async def nothing(lab: StoreLab) -> None:
        return None

    yield from serving(tmp_path_factory.mktemp("empty"), nothing)


# Its loop runs for as long as Playwright does, so it ends with the module: other modules have async tests.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; without it the tests that need it are skipped, and say how to get it."""
    if chromium() is None:
        pytest.skip(MISSING)
    with launched() as started:
        yield started


@dataclass
class Complaints:
    """The messages of the browser's console, policy violations included."""

    lines: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        """Listen to a page."""
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.lines.append(f"exception: {error}"))

    def _hear(self, message: ConsoleMessage) -> None:
        # Going to another page cuts off what the last one was asking, and htmx says so: no fault of either.
        # Where a request fails for another reason, Chromium itself says "Failed to load resource".
        cut_off = message.text.startswith(("htmx:afterRequest", "htmx:sendAbort", "htmx:sendError"))
        if message.type in ("error", "warning") and not cut_off:
            self.lines.append(f"{message.type}: {message.text}")


@pytest.fixture
def complaints() -> Complaints:
    """Collect what the browser complained about during the test."""
    return Complaints()


@pytest.fixture
def page(browser: Browser, complaints: Complaints) -> Iterator[Page]:
    """A page of 1400 × 900; the test fails when the browser complains."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, color_scheme="light")
    context.set_default_timeout(PATIENCE_S * 1000)
    opened = context.new_page()
    complaints.watch(opened)
    yield opened
    if not opened.is_closed():
        opened.evaluate("0")  # what was said until now is heard before this is answered
    heard = list(complaints.lines)
    context.close()  # which cuts off requests that are under way
    assert heard == []
