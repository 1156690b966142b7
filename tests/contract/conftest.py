"""The adapters that the contract suite holds to promptlab/ports.py. A new adapter joins by one line here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from promptlab_studio.auth import Auth

from promptlab.adapters.aws.dynamodb_ledger import DynamoDBLedger
from promptlab.adapters.aws.project_blobs import ProjectBlobs
from promptlab.adapters.aws.s3_blobs import S3Blobs
from promptlab.adapters.http.lab import RemoteLab
from promptlab.adapters.local.file_blobs import FileBlobs
from promptlab.adapters.local.sqlite_ledger import SqliteLedger
from promptlab.lab import Lab, open_lab
from promptlab.ports import Blobs, Ledger
from tests import aws
from tests.studio.live import TOKEN, LiveStudio


def _sqlite(request: pytest.FixtureRequest) -> Callable[[], Ledger]:
    path: Path = request.getfixturevalue("tmp_path") / "promptlab.db"
    return lambda: SqliteLedger(path)


def _folder(request: pytest.FixtureRequest) -> Callable[[], Blobs]:
    folder: Path = request.getfixturevalue("tmp_path") / "blobs"
    return lambda: FileBlobs(folder)


def _dynamodb(request: pytest.FixtureRequest) -> Callable[[], Ledger]:
    aws.credentials(request.getfixturevalue("monkeypatch"))
    folder: Path = request.getfixturevalue("tmp_path") / "blobs"
    table = aws.new_table()
    return lambda: DynamoDBLedger(table, FileBlobs(folder), session=aws.session())


def _project(request: pytest.FixtureRequest) -> Callable[[], Ledger]:
    aws.credentials(request.getfixturevalue("monkeypatch"))
    files = FileBlobs(request.getfixturevalue("tmp_path") / "blobs")
    table = aws.new_table()

    def opened() -> Ledger:
        whole = DynamoDBLedger(table, files, session=aws.session())
        return whole.for_project("team", ProjectBlobs(files, "team"))

    return opened


def _s3_project(request: pytest.FixtureRequest) -> Callable[[], Blobs]:
    aws.credentials(request.getfixturevalue("monkeypatch"))
    bucket = aws.new_bucket()
    return lambda: _Closing(S3Blobs(bucket, session=aws.session()), "team")


class _Closing(ProjectBlobs):
    """The blobs of a project that take the lab's with them."""

    async def close(self) -> None:
        await self._blobs.close()


def _s3(request: pytest.FixtureRequest) -> Callable[[], Blobs]:
    aws.credentials(request.getfixturevalue("monkeypatch"))
    bucket = aws.new_bucket()
    return lambda: S3Blobs(bucket, session=aws.session())


# Each makes a function that opens one and the same store, empty at first, as often as it is called.
LEDGERS: dict[str, Callable[[pytest.FixtureRequest], Callable[[], Ledger]]] = {
    "sqlite": _sqlite,
    "dynamodb": _dynamodb,
    "project": _project,
}
BLOBS: dict[str, Callable[[pytest.FixtureRequest], Callable[[], Blobs]]] = {
    "folder": _folder,
    "s3": _s3,
    "project": _s3_project,
}


@pytest.fixture(params=LEDGERS)
async def open_ledger(request: pytest.FixtureRequest) -> AsyncIterator[Callable[[], Ledger]]:
    """Opens the same store again and again, as several processes do."""
    opener = LEDGERS[request.param](request)
    opened: list[Ledger] = []

    def opens() -> Ledger:
        opened.append(opener())
        return opened[-1]

    yield opens
    for ledger in opened:
        await ledger.close()


@pytest.fixture
def ledger(open_ledger: Callable[[], Ledger]) -> Ledger:
    return open_ledger()


@pytest.fixture(params=BLOBS)
async def blobs(request: pytest.FixtureRequest) -> AsyncIterator[Blobs]:
    opened = BLOBS[request.param](request)()
    yield opened
    await opened.close()


@pytest.fixture(params=["store", "remote"])
async def lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Lab]:
    """A lab with nothing in it."""
    if request.param == "store":
        opened = open_lab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
        yield opened
        await opened.close()
        return
    with LiveStudio(tmp_path, auth=Auth(TOKEN, secure=False)) as studio:
        opened = RemoteLab(studio.url, TOKEN)
        yield opened
        await opened.close()
