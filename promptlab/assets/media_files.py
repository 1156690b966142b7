"""The media of a dataset: files beside it, data and addresses become what rows keep, a hash or an address."""

from __future__ import annotations

import base64
import hashlib
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import urlsplit

from promptlab.domain.media_in import MOST_MEDIUM
from promptlab.domain.messages import Media, Modality, read_media_value
from promptlab.errors import DatasetError, MessageError

MOST_FILES = 20_000
"""Different files of one dataset."""
MOST_BYTES = 4 << 30
"""Bytes of all different files of one dataset."""
MOST_ADDRESS = 8_192
MOST_IN_CELL = 100
"""Media of one row's column."""
_CHUNK = 1 << 20
_DATA = re.compile(r"data:[\w.+-]+/[\w.+-]+(?:;[\w=.-]+)*;base64,", re.ASCII | re.IGNORECASE)
_SIGNS: tuple[tuple[Modality, str, bytes], ...] = (
    ("image", "image/png", rb"\x89PNG\r\n\x1a\n"),
    ("image", "image/jpeg", rb"\xff\xd8\xff"),
    ("image", "image/gif", rb"GIF8[79]a"),
    ("image", "image/webp", rb"RIFF.{4}WEBP"),
    ("document", "application/pdf", rb"%PDF-"),
    ("audio", "audio/wav", rb"RIFF.{4}WAVE"),
    ("audio", "audio/mpeg", rb"ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]"),
    ("audio", "audio/flac", rb"fLaC"),
    ("audio", "audio/ogg", rb"OggS"),
    ("audio", "audio/mp4", rb".{4}ftypM4[AB]"),
    ("video", "video/mp4", rb".{4}ftyp"),
    ("video", "video/webm", rb"\x1aE\xdf\xa3"),
)
"""What files of each type begin with: a file is what its bytes say, whatever its name does."""
_PATTERNS = [(modality, mime, re.compile(sign, re.DOTALL)) for modality, mime, sign in _SIGNS]


def mime_of(head: bytes, modality: Modality) -> str | None:
    """Find the type of a file by its first bytes; None where it is none of a modality."""
    return next((mime for kind, mime, sign in _PATTERNS if kind == modality and sign.match(head)), None)


class Beside(Protocol):
    """The files that the rows of a dataset may name."""

    def open(self, value: str, where: str) -> AbstractContextManager[IO[bytes]]:
        """Open the file that a row names, at the place `where`.

        Raises:
            DatasetError: there is none, or it cannot be read.
        """
        ...


class FolderBeside:
    """The files of a folder, and of those below it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    @contextmanager
    def open(self, value: str, where: str) -> Iterator[IO[bytes]]:
        """Open the file that a row names.

        Raises:
            DatasetError: it is elsewhere, or cannot be read.
        """
        try:
            source = (self._folder / value).resolve()
            is_file = source.is_relative_to(self._folder) and stat.S_ISREG(source.stat().st_mode)
        except OSError as error:
            raise self._unreadable(value, where, error.strerror or str(error)) from None
        except (ValueError, RuntimeError) as error:  # a null character; links in a circle, before Python 3.13
            raise self._unreadable(value, where, str(error)) from None
        if not source.is_relative_to(self._folder):
            raise DatasetError(
                f"{where}: {value[:100]!r} is not beside the dataset: files are in its folder "
                f"{self._folder}, or below it."
            )
        if not is_file:  # nobody may ever write into a named pipe
            raise self._unreadable(value, where, "it is no file, but a folder or a device")
        try:
            with source.open("rb") as file:
                yield file
        except OSError as error:
            raise self._unreadable(value, where, error.strerror or str(error)) from None

    def _unreadable(self, value: str, where: str, why: str) -> DatasetError:
        return DatasetError(
            f"{where}: the file {value[:100]!r} cannot be read: {why[:300]} (in {self._folder})."
        )


class MediaFiles:
    """Takes the media of a dataset's rows, in the thread that reads these."""

    def __init__(
        self, columns: Mapping[str, Modality], beside: Beside | None, folder: Path, kept: Mapping[str, Path]
    ) -> None:
        """Begin.

        Args:
            columns: the columns that hold media.
            beside: the files that may be named; None: none may.
            folder: where copies go.
            kept: files of before, by their hash.
        """
        self._columns, self._folder = dict(columns), folder / "media"
        self._beside = beside
        self._seen: dict[str, Media] = {}
        self._bytes = 0
        self._kept = kept
        self.files: dict[str, Path] = {}
        """The copies, by hash."""
        self.named: set[str] = set()
        """Hashes of media that must be in the store already."""
        self.addressed: set[str] = set()
        """The columns in which any medium is an address."""
        if self._columns:
            self._folder.mkdir()

    def placed(self, row: dict[str, Any], where: str) -> dict[str, Any]:
        """Give a row with what it keeps of its media.

        Raises:
            DatasetError: a medium cannot be had, is of another kind, too large, or there are too many.
        """
        for column, modality in self._columns.items():
            value = row.get(column)
            if value is None or value == "":
                if column in row:
                    row[column] = None
                continue
            place = f"{where}, column {column!r}"
            if isinstance(value, list) and len(value) > MOST_IN_CELL:
                raise DatasetError(f"{place}: {len(value):,} media; at most {MOST_IN_CELL} are taken.")
            items = value if isinstance(value, list) else [value]
            taken = [self._one(item, modality, place) for item in items]
            if any(media.uri is not None for media in taken):
                self.addressed.add(column)
            found = [media.to_json() for media in taken]
            row[column] = found if isinstance(value, list) else found[0]
        return row

    def _one(self, value: Any, modality: Modality, where: str) -> Media:
        if not isinstance(value, str):
            return self._named(value, modality, where)
        if value[:5].lower() == "data:":
            return self._data(value, modality, where)
        if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", value):
            return self._address(value, modality, where)
        if (known := self._seen.get(f"{modality}:{value}")) is None:
            known = self._seen[f"{modality}:{value}"] = self._file(value, modality, where)
        return known

    def _named(self, value: Any, modality: Modality, where: str) -> Media:
        """A medium as rows of a dataset in the store have it."""
        try:
            media = read_media_value(value, modality, where)
        except MessageError:
            raise DatasetError(
                f"{where}: {type(value).__name__} is no medium. Give a file's path beside the dataset, a "
                f"data: "
                "address or an https address."
            ) from None
        if media.modality != modality:
            raise DatasetError(f"{where}: it is of the kind {media.modality}, not {modality}.")
        if media.uri is not None:
            return self._address(media.uri, modality, where)
        if media.sha256 is None or not re.fullmatch(r"[0-9a-f]{64}", media.sha256):
            raise DatasetError(f"{where}: it names no file by its hash.")
        if (path := self._kept.get(media.sha256)) is not None:
            self.files.setdefault(media.sha256, path)
        else:
            self.named.add(media.sha256)
        return media

    def _address(self, value: str, modality: Modality, where: str) -> Media:
        try:
            parts = urlsplit(value)
            usable = parts.scheme == "https" and parts.hostname and "@" not in parts.netloc
        except ValueError:
            usable = False
        if not usable or len(value) > MOST_ADDRESS:
            raise DatasetError(
                f"{where}: {value[:100]!r} cannot be sent: an address of media begins with https://, has "
                f"no user "
                f"or password in it, and at most {MOST_ADDRESS:,} characters."
            )
        return Media(modality=modality, uri=value)

    def _data(self, value: str, modality: Modality, where: str) -> Media:
        if not (found := _DATA.match(value)):
            raise DatasetError(
                f"{where}: a data: address is data:<type>;base64,<data>; it is {value[:60]!r}."
            )
        if (len(value) - found.end()) * 3 // 4 > MOST_MEDIUM + 2:
            raise _too_large(where, (len(value) - found.end()) * 3 // 4)
        coded = value[found.end() :]
        if "\n" in coded:
            coded = "".join(coded.split())  # in lines, as many programs write it
        try:
            data = base64.b64decode(coded, validate=True)
        except ValueError as error:
            raise DatasetError(f"{where}: its base64 cannot be read: {error}.") from None
        path = self._folder / "given"
        path.write_bytes(data)
        return self._take(path, hashlib.sha256(data).hexdigest(), len(data), data[:64], modality, where)

    def _file(self, value: str, modality: Modality, where: str) -> Media:
        if self._beside is None:
            raise DatasetError(
                f"{where}: {value[:100]!r} is a file, and here is none: give data: or https addresses "
                f"(the SDK and "
                "the command line send files as data)."
            )
        path, sha, size, head = self._folder / "given", hashlib.sha256(), 0, b""
        with self._beside.open(value, where) as file, path.open("wb") as out:
            while chunk := file.read(_CHUNK):
                head = head or chunk[:64]
                size += len(chunk)
                if size > MOST_MEDIUM:
                    raise _too_large(f"{where}: {value[:100]!r}", size)
                sha.update(chunk)
                out.write(chunk)
        return self._take(path, sha.hexdigest(), size, head, modality, f"{where}: {value[:100]!r}")

    def _take(self, path: Path, sha: str, size: int, head: bytes, modality: Modality, where: str) -> Media:
        mime = mime_of(head, modality)
        if mime is None:
            known = ", ".join(mime for kind, mime, _ in _SIGNS if kind == modality)
            raise DatasetError(f"{where}: it is none of {known}, by its first bytes.")
        if sha not in self.files:
            self._bytes += size
            if len(self.files) == MOST_FILES or self._bytes > MOST_BYTES:
                raise DatasetError(
                    f"{where}: with it the dataset has more than {MOST_FILES:,} different files, or more "
                    f"than "
                    f"{MOST_BYTES >> 30} GB of them: give their https addresses, or make several datasets."
                )
            self.files[sha] = path.rename(self._folder / sha)
        return Media(modality=modality, mime_type=mime, sha256=sha, size=size)


def _too_large(where: str, size: int) -> DatasetError:
    return DatasetError(
        f"{where}: {size:,} bytes and more; at most {MOST_MEDIUM:,} are taken. Make it smaller, or give "
        "an https address."
    )
