"""Turns a dataset into what the engine reads: canonical rows, and the index of their shards.

One pass, with memory that does not grow with the rows: each row is checked and written to a
temporary file as one compact JSON object a line, and the shard index beside it. Only `commit` puts
them into blobs, under the SHA-256 of the rows.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Set
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson

from promptlab.assets.json_rows import MAX_ROW_BYTES, too_big
from promptlab.assets.media_files import Beside, FolderBeside, MediaFiles
from promptlab.assets.readers import ZIP, kind_of_file, open_source, regular_file
from promptlab.assets.row_checks import Ids, SeenColumns
from promptlab.assets.sources import MAX_COLUMNS, Source
from promptlab.assets.zipped import ZippedDataset
from promptlab.domain.assets import Column, Dataset, DatasetContent, Shard
from promptlab.domain.keys import media_key
from promptlab.errors import DatasetError
from promptlab.ports import Blobs
from promptlab.scratch import ScratchFolder

TOLD_ROWS = 1_000
"""Rows after which whoever waits is told of them."""
SHARD_ROWS = 50
"""Rows of a shard at most (decided in the design: the cost of a worker against its length)."""
SHARD_BYTES = 8 << 20
"""A shard takes no further row that would bring it over this; one row alone may be longer."""


@dataclass(frozen=True, slots=True)
class StagedDataset:
    """A dataset that was read and found good, in temporary files."""

    content: DatasetContent
    hash: str
    """SHA-256 (hex) of the rows."""
    rows_path: Path
    index_path: Path
    media: Mapping[str, Path] = field(default_factory=dict)
    """The files of its media, by their hash."""
    named: frozenset[str] = frozenset()
    """Hashes of media that its rows name, and that must be in the store already."""


@asynccontextmanager
async def stage(
    dataset: Dataset, on_rows: Callable[[int], None] | None = None
) -> AsyncIterator[StagedDataset]:
    """Read and check a dataset, in a thread; its temporary files go at the end of the block. `on_rows` is
    told, in that thread, how many rows were read so far.

    Raises:
        DatasetError: it cannot be read, or breaks a rule; the message has the file, the line and the remedy.
    """
    folder = ScratchFolder("ingest")
    stop = threading.Event()
    work = asyncio.get_running_loop().run_in_executor(None, _stage, dataset, folder.path, stop, on_rows)
    try:
        yield await asyncio.shield(work)
    finally:
        # When cancelled, the thread still writes: it has to end before its folder goes.
        stop.set()
        try:
            await asyncio.wait([work])
            work.exception()  # when cancelled, nobody else asks for it
        finally:
            await asyncio.to_thread(folder.close)


async def commit(staged: StagedDataset, blobs: Blobs) -> None:
    """Put the rows and their index into blobs, unless they are there, and each medium once.

    Raises:
        DatasetError: a row names a medium by its hash, which the store does not have.
    """
    for sha256 in sorted(staged.named - staged.media.keys()):
        if not await blobs.exists(media_key(sha256)):
            raise DatasetError(f"A row names the medium {sha256[:12]}…, which the store does not have.")
    for sha256, path in staged.media.items():
        if not await blobs.exists(media_key(sha256)):
            await blobs.put_file(media_key(sha256), path)
    if staged.content.media is not None:
        listed = "\n".join(sorted({*staged.media, *staged.named}))
        await blobs.put(staged.content.media, listed.encode())
    for key, path in ((staged.content.blob, staged.rows_path), (staged.content.index, staged.index_path)):
        if not await blobs.exists(key):
            await blobs.put_file(key, path)


class _Stopped(Exception):
    """Nobody waits for the result any more."""


def _stage(
    dataset: Dataset, folder: Path, stop: threading.Event, on_rows: Callable[[int], None] | None
) -> StagedDataset:
    if dataset.file_path is None or dataset.rows is not None or kind_of_file(str(dataset.file_path)) != ZIP:
        source = open_source(dataset, folder)  # first: it says what is wrong with a path
        beside = None if dataset.media_folder is None else FolderBeside(dataset.media_folder)
        return _staged(dataset, source, beside, folder, stop, on_rows)
    name = str(dataset.file_path)
    with ZippedDataset(regular_file(name), name) as packed:
        rows = f"{name}/{packed.rows}", packed.unpack_rows(folder)
        return _staged(dataset, open_source(dataset, folder, rows), packed, folder, stop, on_rows)


def _staged(
    dataset: Dataset,
    source: Source,
    beside: Beside | None,
    folder: Path,
    stop: threading.Event,
    on_rows: Callable[[int], None] | None,
) -> StagedDataset:
    columns, ids = SeenColumns(), Ids(folder, dataset.id_column, source)
    media = MediaFiles(dataset.media, beside, folder, dataset._kept)
    rows_path, index_path = folder / "rows.jsonl", folder / "index.jsonl"
    count = largest = 0
    with _Shards(rows_path, index_path, stop) as shards, closing(ids), closing(source.rows):
        for number, row in source.rows:
            if dataset.media:
                row = media.placed(row, source.where(number))
            line = orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
            size = len(line) - 1
            if size > largest:
                largest = size
                if size > MAX_ROW_BYTES:
                    raise too_big(source.where(number), size)
            columns.add(count, row)
            if columns.count > MAX_COLUMNS:
                raise DatasetError(
                    f"{source.where(number)}: with this row the dataset has more than {MAX_COLUMNS:,} "
                    "columns. Nest what varies in one column."
                )
            ids.add(number, row)
            shards.add(line)
            count += 1
            if on_rows and count % TOLD_ROWS == 0:
                on_rows(count)
        if not count:
            raise DatasetError(f"{source.name} has no rows: a dataset needs one at least.")
        id_column = ids.checked()
    digest = shards.sha.hexdigest()
    content = DatasetContent(
        blob=f"datasets/{digest}.jsonl",
        index=f"datasets/{digest}.index.jsonl",
        rows=count,
        bytes=shards.offset,
        shards=shards.number,
        columns=_with_media(columns.result(count), dataset, media.addressed),
        id_column=id_column,
        largest_row_bytes=largest,
        media=f"datasets/{digest}.media.txt" if media.files or media.named else None,
        addresses=bool(media.addressed),
    )
    return StagedDataset(content, digest, rows_path, index_path, media.files, frozenset(media.named))


def _with_media(columns: tuple[Column, ...], dataset: Dataset, addressed: Set[str]) -> tuple[Column, ...]:
    names = {column.name for column in columns}
    if lacking := next((name for name in dataset.media if name not in names), None):
        raise DatasetError(
            f"Dataset {dataset.name!r}: media names the column {lacking[:100]!r}, which it does not "
            f"have; it has "
            f"{', '.join(sorted(names)[:20])}."
        )
    return tuple(
        replace(c, media=kind, by_address=None if kind is None else c.name in addressed)
        for c in columns
        for kind in (dataset.media.get(c.name),)
    )


class _Shards:
    """Writes rows and their shard index, and hashes the rows."""

    def __init__(self, rows_path: Path, index_path: Path, stop: threading.Event) -> None:
        self._paths, self._stop = (rows_path, index_path), stop
        self._lines: list[bytes] = []
        self._size = 0
        self.sha = hashlib.sha256()
        self.number = self.first = self.offset = 0

    def __enter__(self) -> _Shards:
        self._rows, self._index = (path.open("wb") for path in self._paths)
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        try:
            if failed is None:
                self._flush()
        finally:
            self._rows.close()
            self._index.close()

    def add(self, line: bytes) -> None:
        if self._lines and (len(self._lines) == SHARD_ROWS or self._size + len(line) > SHARD_BYTES):
            self._flush()
        self._lines.append(line)
        self._size += len(line)

    def _flush(self) -> None:
        if self._stop.is_set():
            raise _Stopped
        data = self._lines[0] if len(self._lines) == 1 else b"".join(self._lines)
        shard = Shard(self.number, self.first, len(self._lines), self.offset, len(data))
        self._rows.write(data)
        self._index.write(orjson.dumps(shard, option=orjson.OPT_APPEND_NEWLINE))
        self.sha.update(data)
        self.number, self.first, self.offset = (
            self.number + 1,
            self.first + shard.count,
            self.offset + shard.length,
        )
        self._lines, self._size = [], 0
