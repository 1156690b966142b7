"""The blobs of one machine: a folder, one file a blob."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from promptlab.adapters.local.private import FILE, make_folder, own_folder
from promptlab.domain.keys import is_key, parts_of
from promptlab.errors import BlobNotFoundError

PIECE = 1 << 20
"""Bytes of one piece of a stream."""
EXPIRES_S = 24 * 3600.0
"""Seconds after which unfinished work is removed."""
# No part of a key can be called this, so that no half-written file is ever taken for a blob.
_UNFINISHED = "~unfinished"
_BINARY = getattr(os, "O_BINARY", 0)  # Windows would turn line ends
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class FileBlobs:
    """The Blobs under a folder, which the first write creates.

    A blob appears by renaming a finished file, and its bytes are on the disk before that.
    What killed processes left in `~unfinished`, and uploads that nobody read, are removed
    after a day, on the first write.

    Every method raises ValueError, naming the key and the rule, for a key that breaks the rules.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder: Path | None = Path(folder).absolute()
        self._root = self.folder
        self._tidy = self._owned = False

    async def put(self, key: str, data: bytes) -> None:
        await asyncio.to_thread(self._write, self._path(key), lambda file: file.write(data))

    async def put_file(self, key: str, path: Path) -> None:
        await asyncio.to_thread(self._copy, self._path(key), path)

    async def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        self._path(key)
        return await asyncio.to_thread(self._read, key, offset, length)

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        # Held open: a blob that is replaced meanwhile goes on as it was.
        opening = asyncio.ensure_future(asyncio.to_thread(self._open, key))
        try:
            file = await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The thread opens it all the same.
            opening.add_done_callback(lambda done: None if done.exception() else done.result().close())
            raise
        try:
            while piece := await asyncio.to_thread(file.read, PIECE):
                yield piece
        finally:
            file.close()

    async def exists(self, key: str) -> bool:
        return await asyncio.to_thread(os.path.isfile, self._path(key))

    async def keys(self, prefix: str) -> list[str]:
        return await asyncio.to_thread(lambda: sorted(self._keys(prefix)))

    async def files(self, keys: Sequence[str], folder: Path) -> list[Path]:
        paths = [self._path(key) for key in keys]
        there = await asyncio.to_thread(lambda: [path.is_file() for path in paths])
        for key, found in zip(keys, there, strict=True):
            if not found:
                raise BlobNotFoundError(key)
        return paths

    async def delete(self, key: str) -> None:
        await asyncio.to_thread(self._delete, self._path(key))

    async def erase(self, prefix: str, *, limit: int = 1000) -> int:
        return await asyncio.to_thread(self._erase, prefix, limit)

    async def close(self) -> None:
        """Nothing is held."""

    def _path(self, key: str) -> Path:
        if not self._owned:
            self._owned = True
            own_folder(self._root)
        return self._root.joinpath(*parts_of(key))

    def _write(self, path: Path, write: Callable[[BinaryIO], object]) -> None:
        if not self._tidy:
            self._tidy = True
            self._expire()
        unfinished = self._root / _UNFINISHED / uuid.uuid4().hex
        make_folder(unfinished.parent)
        try:
            opened = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY | _BINARY, FILE)
            with os.fdopen(opened, "wb") as file:
                write(file)
                file.flush()
                # Else a power cut may leave a blob that is there but empty.
                os.fsync(file.fileno())
            make_folder(path.parent)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    def _expire(self) -> None:
        """Remove old files under the prefixes of unfinished work, as the bucket's lifecycle rules do."""
        before = time.time() - EXPIRES_S
        for prefix in (_UNFINISHED, "uploads", "exports"):
            for folder, _, names in os.walk(self._root / prefix, topdown=False):
                with contextlib.suppress(OSError):  # another process may be doing the same
                    for path in (Path(folder, name) for name in names):
                        if path.stat().st_mtime < before:
                            path.unlink()
                    if Path(folder) != self._root / prefix and Path(folder).stat().st_mtime < before:
                        Path(folder).rmdir()

    def _copy(self, path: Path, source: Path) -> None:
        with source.open("rb") as content:
            self._write(path, lambda file: shutil.copyfileobj(content, file, PIECE))

    def _open(self, key: str) -> BinaryIO:
        try:
            return self._path(key).open("rb")
        except _ABSENT:
            raise BlobNotFoundError(key) from None

    def _read(self, key: str, offset: int, length: int | None) -> bytes:
        with self._open(key) as file:
            file.seek(offset)
            return file.read(-1 if length is None else length)

    def _delete(self, path: Path) -> None:
        # The path may be the folder of other keys: then there is no such blob.
        if path.is_file():
            path.unlink(missing_ok=True)

    def _erase(self, prefix: str, limit: int) -> int:
        some = list(islice(self._keys(prefix), limit))
        folders = set[Path]()
        for key in some:
            path = self._path(key)
            path.unlink(missing_ok=True)
            folders |= set(path.parents[: key.count("/")])
        for folder in sorted(folders, key=lambda path: -len(path.parts)):
            with contextlib.suppress(OSError):  # it holds more, or somebody just wrote into it
                folder.rmdir()
        return len(some)

    def _keys(self, prefix: str) -> Iterator[str]:
        start, _, _ = prefix.rpartition("/")
        if any(part in ("", ".", "..", _UNFINISHED) for part in start.split("/") if start):
            return
        for folder, folders, names in os.walk(self._root / start):
            if _UNFINISHED in folders:
                folders.remove(_UNFINISHED)
            for name in names:
                key = Path(folder, name).relative_to(self._root).as_posix()
                if key.startswith(prefix) and is_key(key):
                    yield key
