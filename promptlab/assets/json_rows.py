"""Dataset rows as JSON objects, and the errors of those that are not.

A value that JSON does not have (NaN, an integer beyond 64 bits) is an error, never a guess.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import orjson

from promptlab.errors import DatasetError

MAX_ROW_BYTES = 10_000_000
"""A row's canonical JSON may have as many bytes."""

MAX_VALUES = 1_000_000
"""Values of a row: two million keys were parsed in 0.7 s, and searched for one that is twice there in 1.3 s,
with the interpreter held."""
_MAX_DEPTH = 200  # orjson writes 254 levels
_LOOK = -(2**60)
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"(\s*+:)?', re.DOTALL)
_LONG_DIGITS = re.compile(rb"\d{19}")
_WIDE = 2.0**63  # orjson reads integers beyond 64 bits as floats, and digits are gone


def parse_row(text: bytes, name: str, pattern: str, number: int) -> dict[str, Any]:
    """One row from its JSON text.

    Args:
        text: one JSON object.
        name: the file, for errors.
        pattern: how a place in it is named, with `{}` for its number.
        number: the row's number in that.

    Raises:
        DatasetError: it is not valid JSON, not an object, of too many values, or has one that JSON cannot
            hold.
    """
    if len(text) > MAX_VALUES and _most_values(text) > MAX_VALUES:
        raise _too_many(name + pattern.format(number))
    try:
        row = orjson.loads(text)
        if type(row) is dict:
            keys = len(row) + _count_keys(row.values())
            # Colons are counted first, which is fast; they are also in texts.
            if keys >= 0 and (text.count(b":") == keys or _written_keys(text) == keys):
                return row
    except orjson.JSONDecodeError as error:
        raise _broken(text, error, name + pattern.format(number)) from error
    except RecursionError:
        raise _too_deep(name + pattern.format(number)) from None
    where = name + pattern.format(number)
    if type(row) is not dict:
        kind = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(
            type(row), "a number"
        )
        raise DatasetError(
            f"{where}: this is {kind}, not an object. Each line must be one whole JSON object, as in "
            f'{{"question": "…"}}.'
        )
    if twice := _repeated_key(text):
        raise DatasetError(
            f"{where}: the key {clip(repr(twice[0]))} is there twice. One of its values would be lost: "
            "rename it."
        )
    if wide := _wide_integer(text):
        raise DatasetError(
            f"{where}: the integer {clip(wide)} does not fit into 64 bits, and its last digits would be "
            "lost. Write it as a string."
        )
    return row


def _most_values(text: bytes) -> int:
    """Count what may begin a value in a JSON text: beyond MAX_VALUES without what stands in texts."""
    for found in (text, _STRING.sub(b"", text)):
        count = sum(map(found.count, (b",", b"[", b"{")))
        if count <= MAX_VALUES:
            break
    return count


def body_fault(text: bytes) -> str | None:
    """Say what in a JSON text would be lost or take too long, though its reader takes it; None if nothing.

    A key that an object has twice, an integer of more than 64 bits, more than MAX_VALUES values. None also
    where the text is no valid JSON.
    """
    if _most_values(text) > MAX_VALUES:
        return f"there are more than {MAX_VALUES:,} values. Upload a large dataset as a file."
    if (key := repeated_key(text)) is not None:
        return f"the key {clip(repr(key))} is there twice in one object. Rename one, or leave it out."
    try:
        wide = _wide_integer(text) if _LONG_DIGITS.search(text) else None
    except (ValueError, RecursionError):
        return None
    if wide is not None:
        return f"the integer {clip(wide)} does not fit into 64 bits. Write it as a string, or as a float."
    return None


def repeated_key(text: bytes) -> str | None:
    """Find the first key that an object in a JSON text has twice; None also where the
    text is no valid JSON."""
    try:
        keys = _count_keys([orjson.loads(text)])
    except orjson.JSONDecodeError:
        keys = _LOOK  # Python's reader takes more than JSON: NaN, 1e400
    except RecursionError:
        return None
    try:
        if keys >= 0 and _written_keys(text) == keys:
            return None
        found = _repeated_key(text)
    except (ValueError, RecursionError):
        return None
    return found[0] if found else None


def _count_keys(values: Iterable[Any], depth: int = 1) -> int:
    """Count the keys of all objects in here; below zero: a number may have been an
    integer of more than 64 bits.

    Raises:
        RecursionError: the values nest too deeply.
    """
    if depth > _MAX_DEPTH:
        raise RecursionError
    count = 0
    for value in values:
        kind = type(value)
        if kind is float:
            if not -_WIDE < value < _WIDE:
                return _LOOK
        elif kind is list:
            count += _count_keys(value, depth + 1)
        elif kind is dict:
            count += len(value) + _count_keys(value.values(), depth + 1)
    return count


def _written_keys(text: bytes) -> int:
    """Count the keys in a JSON text, those that are there twice as two."""
    return sum(1 for found in _STRING.finditer(text) if found[1])


def _repeated_key(text: bytes) -> tuple[str] | None:
    """The first key that an object of a JSON text has twice."""
    found: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                found.append(key)
            seen.add(key)

    json.loads(text, object_pairs_hook=note, parse_int=str)
    return (found[0],) if found else None


def _wide_integer(text: bytes) -> str | None:
    """The first integer in a JSON text that does not fit into 64 bits."""
    wide: list[str] = []

    def note(digits: str) -> None:
        # By length first: int() refuses very long texts.
        if len(digits.lstrip("-")) > 20 or not -(2**63) <= int(digits) < 2**64:
            wide.append(digits)

    json.loads(text, parse_int=note)
    return wide[0] if wide else None


def _broken(line: bytes, error: orjson.JSONDecodeError, where: str) -> DatasetError:
    """Say why a line cannot be read, in words that help to fix it."""
    try:
        text = line.decode()
    except UnicodeDecodeError as bad:
        return not_utf8(line, bad, where)
    if "depth" in error.msg:
        return _too_deep(where)
    constants: list[str] = []
    try:
        json.loads(text, parse_constant=constants.append)
    except ValueError:
        constants.clear()
    if constants:
        return DatasetError(
            f"{where}: {constants[0]} is not JSON and stands for no value. Write null in its place."
        )
    start = max(0, error.pos - 30)
    snippet = ("…" if start else "") + text[start : error.pos + 30].rstrip("\r\n")
    reason = error.msg.partition(": line ")[0]
    return DatasetError(
        f"{where}, column {error.pos + 1}: not valid JSON ({reason}) near {snippet!r}. Each line must "
        "be one whole JSON object."
    )


class _TooManyError(Exception):
    """A row has more than MAX_VALUES."""


def plain_row(row: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """A row given as a Python mapping, in JSON's types.

    Decimals become text, so that no digit is lost; dates, times and durations ISO 8601 text, UUIDs text,
    enums their values, tuples lists, and NumPy's and pandas' values Python's.

    Raises:
        DatasetError: a value has no such form; the message names its column.
    """
    plain: dict[str, Any] = {}
    values = iter(range(1, MAX_VALUES))
    for name, value in row.items():
        try:
            plain[_text(name, "a column's name")] = (
                value if type(value) is str and value.isascii() else _plain(value, values)
            )
        except (TypeError, ValueError) as error:
            raise DatasetError(f"{where}, column {named(name)}: {error}") from error
        except RecursionError:
            raise _too_deep(where) from None
        except _TooManyError:
            raise _too_many(where) from None
    return plain


def _plain(value: Any, values: Iterator[int], depth: int = 1) -> Any:
    """Turn a value, and take one of `values` for each that is in it: ten lists that hold each other ten times
    are ten thousand million."""
    if depth > _MAX_DEPTH:
        raise RecursionError
    if not next(values, 0):
        raise _TooManyError
    if isinstance(value, Enum):
        return _plain(value.value, values, depth + 1)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, "this text")
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, Mapping):
        return {_text(k, "a key"): _plain(v, values, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, values, depth + 1) for v in value]
    return _foreign(value, values, depth)


def _foreign(value: Any, values: Iterator[int], depth: int) -> Any:
    if isinstance(value, date | time | Decimal | UUID):
        if value != value or (isinstance(value, Decimal) and not value.is_finite()):
            raise ValueError(f"{value} stands for no value: use None in its place.")
        return value.isoformat() if isinstance(value, date | time) else str(value)
    if isinstance(value, timedelta):
        return _duration(value)
    # NumPy has its times as plain integers in tolist(), whose unit would be lost.
    if hasattr(value, "tolist") and getattr(getattr(value, "dtype", None), "kind", "") not in "mM":
        return _plain(value.tolist(), values, depth + 1)
    remedy = (
        "encode it as base64 text"
        if isinstance(value, bytes | bytearray)
        else "use a string, a number, a bool, None, a list or a dict"
    )
    raise TypeError(f"a {type(value).__name__} has no place in JSON: {remedy}.")


def _duration(value: timedelta) -> str:
    """A duration as ISO 8601 text in seconds, as in `PT1.5S`."""
    if value != value:
        raise ValueError(f"{value} stands for no value: use None in its place.")
    whole = (value.days * 86_400 + value.seconds) * 10**9 + value.microseconds * 1_000
    whole += int(getattr(value, "nanoseconds", 0))  # pandas has them
    seconds, rest = divmod(abs(whole), 10**9)
    digits = f".{rest:09}".rstrip("0") if rest else ""
    return f"{'-' if whole < 0 else ''}PT{seconds}{digits}S"


def _number(value: float) -> int | float:
    if isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            raise ValueError("this integer does not fit into 64 bits: give it as a string.")
        return int(value)
    if not math.isfinite(value):
        raise ValueError(f"{value} is not JSON and stands for no value: use None in its place.")
    return float(value)


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a string, not the {type(value).__name__} {named(value)}.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{what} has half of a surrogate pair ({value[error.start]!a} at {error.start}), which UTF-8 "
            "cannot write: remove it."
        ) from error
    return str(value)


def not_utf8(line: bytes, error: UnicodeDecodeError, where: str) -> DatasetError:
    """A line that is in another encoding."""
    return DatasetError(
        f"{where}: byte 0x{line[error.start]:02x} at position {error.start + 1} is not UTF-8. Save "
        "the file as UTF-8."
    )


def too_big(where: str, size: int, *, at_least: bool = False) -> DatasetError:
    """A row over the limit."""
    count = f"{'at least ' if at_least else ''}{size:,}"
    return DatasetError(
        f"{where}: this row has {count} bytes; a row may have {MAX_ROW_BYTES:,}. Split it, or keep "
        "its large text elsewhere."
    )


def _too_deep(where: str) -> DatasetError:
    return DatasetError(
        f"{where}: lists and objects are nested more than {_MAX_DEPTH} levels deep. Store the inner "
        "part as a string."
    )


def _too_many(where: str) -> DatasetError:
    return DatasetError(
        f"{where}: this row has more than {MAX_VALUES:,} values. Split it, or keep its long lists elsewhere."
    )


def named(value: Any) -> str:
    """A value of any kind for a message, as short as `clip` makes it."""
    try:
        return clip(repr(value))
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number that is too long to be written"


def clip(text: str, length: int = 60) -> str:
    """The beginning of a text, for a message."""
    return text if len(text) <= length else f"{text[:length]}…"
