"""A dataset as a zip: the file of its rows, and beside it the media that they name.

Nothing is unpacked under a
name that stands in the zip: the rows into a scratch file, media as they are read."""

from __future__ import annotations

import posixpath
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from promptlab.assets.readers import SUFFIXES, TEXT_SUFFIXES, kind_of_file
from promptlab.assets.sources import BUFFER, Budget, read_errors
from promptlab.errors import DatasetError

MOST_DIRECTORY = 16 << 20
"""Bytes of a zip's list of its files: some 200,000 of them. Python holds ten times as much."""
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
"""The records at the end of a zip (APPNOTE.TXT 4.3.14 to 4.3.16)."""
_TEXTS = ", ".join((*SUFFIXES, *(f"{suffix}.gz" for suffix in TEXT_SUFFIXES)))


class ZippedDataset:
    """The files of a zip, of which one has the rows. Close it, or use it in `with`."""

    def __init__(self, path: Path, name: str) -> None:
        """Open it.

        Args:
            path: the zip.
            name: what errors call it.

        Raises:
            DatasetError: it is no zip, lists too many files, or has none or several of rows.
        """
        self.name = name
        with read_errors(name, path):
            _check_directory(path, name)
            try:
                self._zip = zipfile.ZipFile(path)
            except zipfile.BadZipFile as error:
                raise DatasetError(f"{name} is not a zip that can be read: {error}. Pack it again.") from None
        self._files = {
            _composed(info.filename): info
            for info in self._zip.infolist()
            if not info.is_dir() and _counts(info.filename)
        }
        try:
            self.rows = self._rows()
        except DatasetError:
            self._zip.close()
            raise

    def __enter__(self) -> ZippedDataset:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def _rows(self) -> str:
        """Find the file that has the rows: of those that can be read, the one of the outermost folder."""
        found = [name for name in self._files if kind_of_file(name) in SUFFIXES]
        if not found:
            raise DatasetError(
                f"{self.name} has no file of rows: put one of {_TEXTS} into it, beside the media that it "
                "names."
            )
        least = min(name.count("/") for name in found)
        outermost = sorted(name for name in found if name.count("/") == least)
        if len(outermost) > 1:
            raise DatasetError(
                f"{self.name} has {len(outermost)} files that may be the rows: {_some(outermost)}. Leave one "
                "of them in its outermost folder."
            )
        return outermost[0]

    def unpack_rows(self, folder: Path) -> Path:
        """Unpack the file of the rows into a folder.

        Raises:
            DatasetError: it is broken, or unpacks to too much.
        """
        path = folder / f"unpacked{''.join(PurePosixPath(self.rows).suffixes[-2:])}"
        info = self._files[self.rows]
        budget = Budget(f"{self.name}/{self.rows}", info.compress_size)
        with self._opened(self.rows) as file, path.open("wb") as out:
            while data := file.read(BUFFER):
                budget.add(len(data))
                out.write(data)
        return path

    @contextmanager
    def open(self, value: str, where: str) -> Iterator[IO[bytes]]:
        """Open the file that a row names.

        Args:
            value: its path, from the folder of the rows' file.
            where: the place in the dataset that names it, for errors.

        Raises:
            DatasetError: there is none, or it is broken.
        """
        value = _composed(value.replace("\\", "/"))
        name = posixpath.normpath(posixpath.join(posixpath.dirname(self.rows), value))
        if name not in self._files and all("/" not in one for one in self._files):
            name = posixpath.basename(name)  # files that were chosen one by one have no folder
        if name not in self._files:
            there = _some(sorted(self._files.keys() - {self.rows})) or "no other file"
            raise DatasetError(
                f"{where}: the zip has no file {value[:100]!r} beside the rows; it has {there}."
            )
        with self._opened(name) as file:
            yield file

    @contextmanager
    def _opened(self, name: str) -> Iterator[IO[bytes]]:
        try:
            with self._zip.open(self._files[name]) as file:
                yield file
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            OSError,
            NotImplementedError,
            RuntimeError,
        ) as error:
            # RuntimeError: it is encrypted; NotImplementedError: packed in a way that Python does not know.
            raise DatasetError(
                f"{self.name}: its file {name[:100]!r} cannot be read: {error}. Pack it again, without a "
                "password."
            ) from None


def _composed(name: str) -> str:
    """A name with its accents in the letters, as rows have them: macOS packs names with accents beside."""
    return unicodedata.normalize("NFC", name)


def _counts(name: str) -> bool:
    """Whether a file of a zip is one of the user's, and not what macOS puts beside each."""
    parts = name.split("/")
    return "__MACOSX" not in parts and not any(part.startswith(".") for part in parts)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(repr(name[:100]) for name in names[:5]) + more


def _check_directory(path: Path, name: str) -> None:
    """Look how long a zip's list of files is, before Python reads it into memory.

    Raises:
        DatasetError: it is longer than MOST_DIRECTORY.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - (1 << 16) - _END.size))
        tail = file.read()
        at = tail.rfind(b"PK\x05\x06")
        if at < 0 or len(tail) - at < _END.size:
            raise DatasetError(f"{name} is not a zip that can be read: its end is missing. Pack it again.")
        listed = _END.unpack_from(tail, at)[5]
        if listed == 0xFFFFFFFF and at >= _LOCATOR.size:
            _, _, where, _ = _LOCATOR.unpack_from(tail, at - _LOCATOR.size)
            file.seek(min(where, size))
            end = file.read(_END_64.size)
            listed = _END_64.unpack(end)[8] if len(end) == _END_64.size else listed
    if listed > MOST_DIRECTORY:
        raise DatasetError(
            f"{name}: its list of files has {listed:,} bytes; at most {MOST_DIRECTORY:,} are read. Make "
            "several datasets."
        )
