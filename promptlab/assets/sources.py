"""Parts that all readers of dataset rows share: the place of a row, its errors, and bytes that are
counted as they are decoded."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import zlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Generator, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from promptlab.errors import DatasetError

MAX_COLUMNS = 2_000
MOST_BROKEN = 10
"""How many broken rows one error lists."""
DECODED_BYTES = 256 << 20
"""A compressed file may always decode to as much as this, …"""
DECODED_TIMES = 100
"""… and to as many times its own size."""
BUFFER = 1 << 20
Name = TypeVar("Name", bound=Hashable)
Rows = Generator[tuple[int, dict[str, Any]], None, None]


@dataclass(frozen=True, slots=True)
class Source:
    """The rows of a dataset, and how to name the place of one."""

    name: str
    """The file as the user gave it, or `rows`."""
    pattern: str
    """A row's place in it, with `{}` for its number."""
    rows: Rows
    """(number, row)."""

    def where(self, number: int) -> str:
        """Name a row's place, as in `questions.jsonl, line 7`."""
        return self.name + self.pattern.format(number)


def first_repeated(names: Sequence[Name]) -> Name | None:
    """The first of some names that is there twice; None if each is there once."""
    return next((name for name, times in Counter(names).items() if times > 1), None)


class Broken:
    """The rows of a source that cannot be used, so that one who fixes them reads of more than the first."""

    def __init__(self) -> None:
        self._said: list[str] = []

    def add(self, error: DatasetError) -> None:
        """Keep a row's error for the end.

        Raises:
            DatasetError: it is the last of MOST_BROKEN.
        """
        self._said.append(str(error))
        if len(self._said) == MOST_BROKEN:
            self._said.append(f"Reading stopped there, after {MOST_BROKEN} of them.")
            self.check()

    def check(self) -> None:
        """Report all of them.

        Raises:
            DatasetError: there are any, a line each.
        """
        if self._said:
            raise DatasetError("\n".join(self._said))


class Budget:
    """Counts the bytes that a compressed file decodes to, while it does."""

    def __init__(self, name: str, file_bytes: int) -> None:
        self._name, self._file = name, file_bytes
        self.limit = max(DECODED_BYTES, DECODED_TIMES * file_bytes)
        self._used = 0

    def add(self, decoded: int) -> None:
        """Count more bytes.

        Raises:
            DatasetError: there are too many.
        """
        self._used += decoded
        self.check(self._used)

    def check(self, decoded: int) -> None:
        """Look whether a file may decode to so many bytes.

        Raises:
            DatasetError: they are too many.
        """
        if decoded > self.limit:
            raise DatasetError(
                f"{self._name}: its {self._file:,} bytes decode to more than {self.limit:,}. A compressed "
                "file may "
                f"decode to {DECODED_TIMES} times its size, and always to {DECODED_BYTES:,} bytes. "
                "Give the rows as a plain .jsonl file."
            )


@contextlib.contextmanager
def read_errors(name: str, path: Path) -> Iterator[None]:
    """Say in words why a file cannot be read.

    Raises:
        DatasetError: in place of an OSError.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise DatasetError(
            f"There is no file {name!r}: looked for {path}. A relative file_path starts at the working "
            "folder."
        ) from error
    except PermissionError as error:
        raise DatasetError(
            f"{name} cannot be read: permission denied for {path}. Make it readable for the user who runs "
            "this."
        ) from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"{name} cannot be read: {error} ({path}).") from error


class _Stream(io.RawIOBase):
    """Bytes that come from a function, in a form that can be buffered."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.piece(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    @abstractmethod
    def piece(self, size: int) -> bytes:
        """Read at most `size` bytes; none at the end."""


class _Unpacked(_Stream):
    """The content of a gzip file, counted while it is unpacked."""

    def __init__(self, file: io.BufferedReader, name: str, budget: Budget) -> None:
        self._gzip, self._name, self._budget = gzip.GzipFile(fileobj=file, mode="rb"), name, budget

    def piece(self, size: int) -> bytes:
        try:
            data = self._gzip.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DatasetError(
                f"{self._name} is not a whole gzip file: {error}. Compress it again."
            ) from error
        self._budget.add(len(data))
        return data


class _Recoded(_Stream):
    """UTF-16 or UTF-32 as UTF-8."""

    def __init__(self, file: io.BufferedReader, name: str, encoding: str) -> None:
        self._file, self._name, self._encoding = file, name, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._rest = b""

    def piece(self, size: int) -> bytes:
        while not self._rest:
            data = self._file.read(BUFFER)
            try:
                self._rest = self._decoder.decode(data, not data).encode()
            except UnicodeError as error:
                raise DatasetError(
                    f"{self._name} looks like {self._encoding.upper()} and is not: {error}. Save it as UTF-8."
                ) from error
            if not data:
                break
        found, self._rest = self._rest[:size], self._rest[size:]
        return found


_BOM = b"\xef\xbb\xbf"
_MARKS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


@contextlib.contextmanager
def open_text(path: Path, name: str) -> Iterator[io.BufferedReader]:
    """Open a text file as UTF-8, behind its byte order mark if it has one; UTF-16 is recoded, gzip unpacked.

    Raises:
        DatasetError: it cannot be opened; while reading: it is broken, or unpacks to too much.
    """
    with contextlib.ExitStack() as stack:
        with read_errors(name, path):
            file: io.BufferedReader = stack.enter_context(io.BufferedReader(io.FileIO(path), BUFFER))
            if path.suffix.lower() == ".gz":
                budget = Budget(name, path.stat().st_size)
                file = stack.enter_context(io.BufferedReader(_Unpacked(file, name, budget), BUFFER))
        head = file.peek(4)[:4]
        if encoding := _encoding(head):
            file = stack.enter_context(io.BufferedReader(_Recoded(file, name, encoding), BUFFER))
        elif head.startswith(_BOM):
            file.read(len(_BOM))
        yield file


def _encoding(head: bytes) -> str | None:
    """The encoding of a text, unless UTF-8: by its byte order mark, or by the zeros
    beside its first character."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    if len(head) >= 2 and head[0] and not head[1]:
        return "utf-16-le"
    return "utf-16-be" if len(head) >= 2 and head[1] and not head[0] else None
