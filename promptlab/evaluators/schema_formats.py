"""The formats of JSON Schema (Draft 2020-12, 7.3), each in time that grows with the text's length only."""

from __future__ import annotations

import ipaddress
import re
import uuid
from collections.abc import Callable
from datetime import date, datetime
from typing import Any
from urllib.parse import urlsplit

from promptlab.evaluators.patterns import MAX_PATTERN, SafePattern

_MAX_CHARS = 10_000
"""No text of a format is longer; beyond, it does not have the format."""
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIME = re.compile(r"(\d{2}:\d{2}):(\d{2})(?:\.\d+)?(?:z|[+-]\d{2}:[0-5]\d)", re.ASCII | re.IGNORECASE)
_DURATION = re.compile(
    r"P(?!$)(?:\d+W|(?:\d+Y)?(?:\d+M)?(?:\d+D)?(?:T(?=\d)(?:\d+H)?(?:\d+M)?(?:\d+S)?)?)", re.ASCII
)
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOSTNAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*")
_EMAIL = re.compile(r"[^\s@<>()\[\],;:\"\\]{1,64}@[^\s@]{1,255}")
_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_URI = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})*")
_IRI = re.compile(r"(?:[^\s<>\"{}|\\^`%\x00-\x20\x7f]|%[0-9A-Fa-f]{2})*")


def _date(text: str) -> bool:
    return bool(_DATE.fullmatch(text) and date.fromisoformat(text))


def _time(text: str) -> bool:
    found = _TIME.fullmatch(text)
    # A leap second is the last second of a day in UTC; that it is one is not checked.
    return bool(found and int(found[2]) <= 60 and datetime.strptime(found[1], "%H:%M"))


def _date_time(text: str) -> bool:
    return text[10:11] in ("T", "t", " ") and _date(text[:10]) and _time(text[11:])


def _uri(text: str) -> bool:
    return bool(_SCHEME.match(text)) and _uri_reference(text)


def _uri_reference(text: str) -> bool:
    urlsplit(text)
    return bool(_URI.fullmatch(text))


def _iri(text: str) -> bool:
    return bool(_SCHEME.match(text)) and _iri_reference(text)


def _iri_reference(text: str) -> bool:
    urlsplit(text)
    return bool(_IRI.fullmatch(text))


def _uuid(text: str) -> bool:
    return str(uuid.UUID(text)) == text.lower()


def _email(text: str) -> bool:
    return bool(_EMAIL.fullmatch(text)) and bool(_HOSTNAME.fullmatch(text.rpartition("@")[2]))


def _regex(text: str) -> bool:
    return len(text) <= MAX_PATTERN and bool(SafePattern(text, name="regex", timeout_s=1.0))


_CHECKS: dict[str, Callable[[str], Any]] = {
    "date": _date,
    "time": _time,
    "date-time": _date_time,
    "duration": _DURATION.fullmatch,
    "email": _email,
    "idn-email": _EMAIL.fullmatch,
    "hostname": _HOSTNAME.fullmatch,
    "ipv4": ipaddress.IPv4Address,
    "ipv6": ipaddress.IPv6Address,
    "uri": _uri,
    "uri-reference": _uri_reference,
    "iri": _iri,
    "iri-reference": _iri_reference,
    "uuid": _uuid,
    "json-pointer": _POINTER.fullmatch,
    "regex": _regex,
}


def _checked(check: Callable[[str], Any]) -> Callable[[object], bool]:
    def holds(value: object) -> bool:
        if not isinstance(value, str):
            return True
        try:
            return len(value) <= _MAX_CHARS and bool(check(value))
        except ValueError:
            return False

    return holds


FORMATS = {name: _checked(check) for name, check in _CHECKS.items()}
"""Format → whether a value has it. Values that are no texts have every format, as the specification says."""
