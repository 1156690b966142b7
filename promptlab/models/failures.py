"""What a provider's refusal means: HTTP answers and broken connections as `ModelError`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from promptlab.errors import ModelError
from promptlab.models.answers import json_text

MAX_MESSAGE = 500
"""Characters of a provider's own message that are kept."""
_FILTERED = re.compile(r"content[ _-]?(filter|management|policy)|safety system|moderation", re.IGNORECASE)
_QUOTA = re.compile(
    r"insufficient_(quota|balance|credits?)|insufficient balance|credit balance|exceeded your current quota|billing_hard_limit",
    re.IGNORECASE,
)


def status_error(
    model: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    url: str = "",
    now: datetime | None = None,
) -> ModelError:
    """The error that an HTTP answer other than 200 stands for.

    Args:
        headers: with names in lower case, or caseless.
        now: the time that a `Retry-After` date counts from; default: now.
    """
    said, code = provider_message(body)
    kind, retryable = classify(status, f"{code} {said}")
    text = f"{model}: HTTP {status} {_MEANING[kind]}{f': {said}' if said else ''}"
    if status == 404 or 300 <= status < 400:
        text += f" ({url})" if url else ""
    wait_s = retry_after_s(headers, now=now) if retryable else None
    return ModelError(text, type=kind, status=status, retryable=retryable, retry_after_s=wait_s)


_MEANING = {
    "authentication": "the key was refused",
    "quota": "the account has no credit left",
    "not_found": "not found",
    "bad_request": "the request was refused",
    "content_filter": "a content filter refused the request",
    "timeout": "the provider timed out",
    "rate_limit": "too many requests",
    "conflict": "the provider was not ready",
    "server_error": "the provider failed",
}


def classify(status: int, text: str) -> tuple[str, bool]:
    """An HTTP status, with the provider's code and message, as (ModelError.type, retryable)."""
    if status in (400, 402, 403, 429) and _QUOTA.search(text):
        return "quota", False
    if status in (400, 403, 422) and _FILTERED.search(text):
        return "content_filter", False
    known = {401: "authentication", 402: "quota", 403: "authentication", 404: "not_found"}
    if status in known:
        return known[status], False
    again = {408: "timeout", 409: "conflict", 425: "conflict", 429: "rate_limit"}
    if status in again:
        return again[status], True
    return ("server_error", True) if status >= 500 else ("bad_request", False)


def provider_message(body: bytes) -> tuple[str, str]:
    """The provider's own message and error code from an error's body, whatever its shape."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return trim(re.sub(r"<[^>]*>", " ", body[:20_000].decode("utf-8", "replace"))), ""
    return message_of(value)


def message_of(value: Any) -> tuple[str, str]:
    """The same, from parsed JSON."""
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict):
        return trim(str(value)), ""
    error = value.get("error", value)
    if not isinstance(error, dict):
        return trim(str(error)), str(value.get("code") or "")
    inner = error.get("innererror")
    codes = [
        error.get("code"),
        error.get("type"),
        error.get("status"),
        inner.get("code") if isinstance(inner, dict) else None,
    ]
    said = error.get("message") or error.get("Message") or error.get("detail") or json_text(error)
    return trim(said if isinstance(said, str) else json_text(said)), " ".join(
        str(code) for code in codes if code
    )


def trim(text: str) -> str:
    """On one line, and not too long."""
    text = " ".join(text.split())
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"


def retry_after_s(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Seconds that the provider asks to wait: `retry-after-ms`, or `Retry-After` as a number or an HTTP date (RFC 9110, 10.2.3)."""
    ms = _number(headers.get("retry-after-ms"))
    if ms is not None:
        return ms / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None or value is None:
        return seconds
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else None
    except ValueError:
        return None
    return number if number is not None and math.isfinite(number) and number >= 0 else None
