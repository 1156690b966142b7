"""Studios that tests talk to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from promptlab_studio.auth import Auth

from tests.servers import ModelServer
from tests.studio.builders import right
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
