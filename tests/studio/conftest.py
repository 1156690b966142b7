"""Studios that tests talk to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from promptlab_studio.auth import Auth

from tests.servers import ModelServer
from tests.studio.builders import right
from tests.studio.large_lab import Asked, lab_with_large_things
from tests.studio.live import TOKEN, LiveStudio


@pytest.fixture
def model() -> Iterator[ModelServer]:
    """A provider that answers right."""
    with ModelServer(right) as server:
        yield server


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[LiveStudio]:
    """A laptop's Studio."""
    with LiveStudio(tmp_path) as live:
        yield live


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[LiveStudio]:
    """A Studio that wants a token, over plain http as on a local AWS."""
    with LiveStudio(tmp_path, auth=Auth(TOKEN, secure=False)) as live:
        yield live


@pytest.fixture
def api(studio: LiveStudio) -> Iterator[httpx.Client]:
    """A client of the laptop's API."""
    with studio.client() as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def asked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Asked]:
    """One lab for all: what requests change of it does not matter here."""
    lab, ids = await lab_with_large_things(tmp_path_factory.mktemp("lab"))
    found = Asked(lab, ids)
    await found.send("GET", "/")  # what is loaded once is loaded
    yield found
    await found.client.aclose()
    await lab.close()
