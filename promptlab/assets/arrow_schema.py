"""Reads the Arrow schema that pandas, polars and PyArrow write beside a Parquet file's own.

Only it knows a duration's unit, and the names of fields as they were. The form: a flatbuffer in an IPC
message, see
https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc and
Schema.fbs.
"""

from __future__ import annotations

import base64
import binascii
import struct
from dataclasses import dataclass

_DURATION = 18
_POWERS = (0, 3, 6, 9)
"""Seconds, milliseconds, microseconds, nanoseconds: digits behind the point."""
_MOST_DEPTH = 64


@dataclass(frozen=True, slots=True)
class ArrowField:
    """A field of the schema."""

    name: str
    digits: int | None
    """For a duration: a value is in units of 10**-digits seconds."""
    children: tuple[ArrowField, ...]


def arrow_fields(text: bytes) -> tuple[ArrowField, ...] | None:
    """Read the fields of a value of `ARROW:schema`; None where it cannot be understood."""
    try:
        data = base64.b64decode(text)
        start = 8 if data[:4] == b"\xff\xff\xff\xff" else 4
        message = _Table.root(data[start:])
        schema = message.table(2)
        return tuple(_field(field, 0) for field in schema.tables(1))
    except (struct.error, IndexError, ValueError, binascii.Error):
        return None


def _field(table: _Table, depth: int) -> ArrowField:
    if depth > _MOST_DEPTH:
        raise ValueError("nested too deeply")
    digits = None
    if table.number(2, "B", 0) == _DURATION:
        digits = _POWERS[table.table(3).number(0, "h", 1)]
    return ArrowField(table.text(0), digits, tuple(_field(child, depth + 1) for child in table.tables(5)))


@dataclass(frozen=True, slots=True)
class _Table:
    """A table of a flatbuffer."""

    data: bytes
    at: int

    @classmethod
    def root(cls, data: bytes) -> _Table:
        return cls(data, struct.unpack_from("<I", data)[0])

    def _where(self, field: int) -> int:
        """Return the offset of a field; 0: it has its default."""
        vtable = self.at - self._read("i", self.at)
        offset = self._read("H", vtable + 4 + 2 * field) if 4 + 2 * field < self._read("H", vtable) else 0
        return self.at + offset if offset else 0

    def _read(self, kind: str, at: int) -> int:
        if at < 0:
            raise ValueError("outside of the data")
        return int(struct.unpack_from(f"<{kind}", self.data, at)[0])

    def _follow(self, at: int) -> int:
        return at + self._read("I", at)

    def number(self, field: int, kind: str, default: int) -> int:
        at = self._where(field)
        return self._read(kind, at) if at else default

    def table(self, field: int) -> _Table:
        return _Table(self.data, self._follow(self._where(field)))

    def tables(self, field: int) -> list[_Table]:
        where = self._where(field)
        if not where:
            return []
        at = self._follow(where)
        count = self._read("I", at)
        if count > len(self.data):
            raise ValueError("more fields than bytes")
        return [_Table(self.data, self._follow(at + 4 + 4 * n)) for n in range(count)]

    def text(self, field: int) -> str:
        where = self._where(field)
        if not where:
            return ""
        at = self._follow(where)
        return self.data[at + 4 : at + 4 + self._read("I", at)].decode()
