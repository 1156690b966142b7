"""A provider's refusals: HTTP answers and broken connections as `ModelError`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any

import orjson

from promptlab.domain.results import MAX_SAID
from promptlab.errors import ModelError
from promptlab.models.answers import json_text, mapping
from promptlab.models.retry import MAX_WAIT_S

LONGEST_WAIT_S = 366 * 86_400.0
"""A wait that is asked for counts as this long at most: 1e400 seconds, or until the year 9999."""
MAX_MESSAGE = 500
"""Characters of a provider's own message that are kept."""
_FILTERED = re.compile(r"content[ _-]?(filter|management|policy)|safety system|moderation", re.IGNORECASE)
_QUOTA = re.compile(
    r"insufficient_(quota|balance|credits?)|insufficient balance|credit balance|exceeded your current quota"
    r"|billing_(hard_limit|not_active)|account is not active|allocated quota|quota (has been |is )?exhausted"
    r"|free-models-per-day|per ?day",
    re.IGNORECASE,
)
# Gemini words its limit of a minute as it words an empty account; the details say which it is.
_OF_A_MINUTE = re.compile(r"per[ _-]?minute", re.IGNORECASE)
OF_A_DAY = re.compile(r"per[ _-]?day", re.IGNORECASE)
# Google refuses a wrong key with 400, Mistral, DeepSeek and OpenRouter an unknown model.
_NO_KEY = re.compile(r"api[ _]key (not valid|is invalid|expired)|api_key_invalid", re.IGNORECASE)
NO_MODEL = re.compile(
    r"model_not_found|model not exist|invalid[_ ]model\b|not a valid model|model identifier is invalid"
    r"|deploymentnotfound|unknown model",
    re.IGNORECASE,
)
_TOO_LARGE = re.compile(r"request too large", re.IGNORECASE)
_RETRY_IN = re.compile(r"(?:retry|try again) in (\d{1,9}(?:\.\d{1,9})?) ?s", re.IGNORECASE)
ACCOUNT = frozenset({"authentication", "quota", "not_found", "MissingKeyError", "ConfigError"})
"""Types of errors that say something of the key, the account or the endpoint, nothing of what was asked."""
_OF_THE_REQUEST = frozenset({"bad_request", "invalid_response"})
_OWN = re.compile(r"\S*\d\S*")
"""What differs between two messages that say the same: numbers, ids."""


_STREAM = re.compile(
    r"only\W+(\w+\W+){0,4}stream|stream(ing)?\W+(\w+\W+){0,4}(required|only|must|to be true)"
    r"|(requires?|must|enable|set)\W+(\w+\W+){0,4}stream|stream\s*=\s*true",
    re.IGNORECASE,
)


def wants_stream(error: ModelError) -> bool:
    """Whether a server refused a request for it answers as a stream of events only."""
    return error.status in (400, 422) and _STREAM.search(str(error)) is not None


class Hopeless(Enum):
    """Why a call would be refused again, whenever it is made."""

    ACCOUNT = "account"
    """The key, the account, the model or the endpoint is refused: every other call would be, too."""
    REQUEST = "request"
    """This request is refused: so is every other, if all are refused in the same words from the first on."""


def hopeless(error: ModelError) -> Hopeless | None:
    """Tell whether an error says that no further call can succeed, or may say so."""
    if error.retryable:
        return None
    if error.type in ACCOUNT or is_long_wait(error):
        return Hopeless.ACCOUNT
    if error.type == "connection" and not error.sent:
        return Hopeless.ACCOUNT  # a certificate that is not trusted, an address that must not be reached
    return Hopeless.REQUEST if error.type in _OF_THE_REQUEST else None


def is_long_wait(error: ModelError) -> bool:
    """Whether a provider wants no call for longer than any waits."""
    return error.type == "rate_limit" and (error.retry_after_s or 0.0) > MAX_WAIT_S


def same_words(message: str) -> str:
    """A message without what is its request's own."""
    return _OWN.sub("#", message[:MAX_MESSAGE])


_NAMED = {
    400: re.compile(r"invalid_request|invalid_argument|bad_request", re.IGNORECASE),
    401: re.compile(r"authentication|invalid_api_key|unauthorized|unauthenticated", re.IGNORECASE),
    403: re.compile(r"permission", re.IGNORECASE),
    404: re.compile(r"not_found", re.IGNORECASE),
    408: re.compile(r"timeout|deadline_exceeded", re.IGNORECASE),
    429: re.compile(r"rate_?limit|too_?many_?requests|resource_exhausted|throttl|quota", re.IGNORECASE),
    503: re.compile(r"overloaded|unavailable|capacity", re.IGNORECASE),
    500: re.compile(r"server_error|internal|api_error", re.IGNORECASE),
}
"""The HTTP status that an error's name stands for, where an answer 200 holds the error."""


def status_error(
    model: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    url: str = "",
    now: datetime | None = None,
) -> ModelError:
    """Make the error that an HTTP answer other than 200 stands for.

    Args:
        headers: with names in lower case, or caseless.
        now: the time that a `Retry-After` date counts from; default: now.
    """
    now = now or datetime.now(UTC)
    value = _parsed(body)
    said, code = provider_message(body) if value is None else message_of(value)
    wait_s = retry_after_s(headers, now=now)
    wait_s = _wait_in(value, said, now) if wait_s is None else wait_s
    if wait_s is None and status == 429:
        wait_s = reset_after_s(headers, now=now)
    kind, retryable = classify(status, f"{code} {said} {_limits(value)}")
    text = f"{model}: HTTP {status} {_MEANING[kind]}{f': {said}' if said else ''}"
    if status == 404 or 300 <= status < 400:
        text += f" ({url})" if url else ""
    if kind == "quota" and wait_s:
        text += f" (until {until(now, wait_s)})"
    wait_s = wait_s if retryable else None
    error = ModelError(text, type=kind, status=status, retryable=retryable, retry_after_s=wait_s)
    error.said = text_said(body)
    error.request_id = request_id(headers)
    return error


def text_said(body: bytes) -> str:
    """The beginning of a body, as an attempt keeps it."""
    return body[: 4 * MAX_SAID].decode("utf-8", "replace")[:MAX_SAID]


_REQUEST_IDS = (
    "request-id",  # Anthropic
    "x-request-id",
    "apim-request-id",  # Azure
    "x-amzn-requestid",
    "x-goog-request-id",
    "cf-ray",
)


def request_id(headers: Mapping[str, str]) -> str | None:
    """Find the provider's own name for a call in its answer's headers."""
    found = next((value for name in _REQUEST_IDS if (value := headers.get(name))), None)
    return found[:200] if found else None


_MEANING = {
    "authentication": "the key was refused",
    "quota": "the credit or quota of the account is used up",
    "not_found": "not found",
    "bad_request": "the request was refused",
    "content_filter": "a content filter refused the request",
    "timeout": "the provider timed out",
    "rate_limit": "too many requests",
    "conflict": "the provider was not ready",
    "server_error": "the provider failed",
}


def classify(status: int, text: str) -> tuple[str, bool]:
    """Turn an HTTP status, with the provider's code and message, into (ModelError.type, retryable)."""
    if status == 429 and _TOO_LARGE.search(text):
        return "bad_request", False
    brief = status == 429 and _OF_A_MINUTE.search(text) and not OF_A_DAY.search(text)
    if status in (400, 402, 403, 429) and _QUOTA.search(text) and not brief:
        return "quota", False
    if status in (400, 403, 422) and _FILTERED.search(text):
        return "content_filter", False
    if status == 400 and _NO_KEY.search(text):
        return "authentication", False
    if status == 400 and NO_MODEL.search(text):
        return "not_found", False
    known = {401: "authentication", 402: "quota", 403: "authentication", 404: "not_found"}
    if status in known:
        return known[status], False
    # 498 is Groq's: no room in the flex tier.
    again = {408: "timeout", 409: "conflict", 425: "conflict", 429: "rate_limit", 498: "rate_limit"}
    if status in again:
        return again[status], True
    return ("server_error", True) if status >= 500 else ("bad_request", False)


def status_in(value: Any) -> int | None:
    """Find the HTTP status of an error that an answer 200 holds: `{"error": {…}}`, or
    its code beside its message.

    The code may be a number, a number in a text, or a name such as `rate_limit_exceeded`.
    """
    if not isinstance(value, dict):
        return None
    error = value.get("error") or value
    if not isinstance(error, dict):
        return next((status for status, named in _NAMED.items() if named.search(str(error)[:500])), None)
    codes = [error.get(name) for name in ("code", "status", "type")]
    for code in codes:
        number = seconds_of(code) if not isinstance(code, bool) else None
        if number is not None and 400 <= number < 600:
            return int(number)
    named_as = " ".join(code[:100] for code in codes if isinstance(code, str))
    return next((status for status, named in _NAMED.items() if named.search(named_as)), None)


def until(now: datetime, wait_s: float) -> str:
    """Say when a wait of so many seconds ends."""
    if wait_s >= LONGEST_WAIT_S:
        return "more than a year from now"
    return f"{now + timedelta(seconds=wait_s):%Y-%m-%d %H:%M} UTC"


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def provider_message(body: bytes) -> tuple[str, str]:
    """Find the provider's own message and error code in an error's body, whatever its shape."""
    value = _parsed(body)
    if value is None:
        return trim(re.sub(r"<[^<>]*>", " ", body[:20_000].decode("utf-8", "replace"))), ""
    return message_of(value)


def _error_in(value: Any) -> dict[str, Any]:
    """The error of a body as an object, which is empty where it is none."""
    value = value[0] if isinstance(value, list) and value else value
    return mapping(mapping(value).get("error", value))


def _details(value: Any) -> list[dict[str, Any]]:
    found = _error_in(value).get("details")
    return [mapping(item) for item in found[:100]] if isinstance(found, list) else []


def _limits(value: Any) -> str:
    """The names of the limits that were met, as Google's `details` have them."""
    lists = [item.get("violations") for item in _details(value)]
    violations = [mapping(one) for found in lists if isinstance(found, list) for one in found[:100]]
    return " ".join(str(one.get("quotaId", ""))[:200] for one in violations)


def _wait_in(value: Any, said: str, now: datetime) -> float | None:
    """The wait in seconds that a body asks for: Google's retryDelay, OpenRouter's reset time, or words."""
    for item in _details(value):
        delay = item.get("retryDelay")
        if isinstance(delay, str) and (found := seconds_of(delay.removesuffix("s"))) is not None:
            return found
    headers = mapping(mapping(_error_in(value).get("metadata")).get("headers"))
    reset = seconds_of(headers.get("X-RateLimit-Reset"), unit_s=0.001, most_s=1e12)
    if reset is not None:
        return min(max(0.0, reset - now.timestamp()), LONGEST_WAIT_S)
    words = _RETRY_IN.search(said)
    return seconds_of(words[1]) if words else None


def message_of(value: Any) -> tuple[str, str]:
    """The same, from parsed JSON."""
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict):
        return trim(str(value)), ""
    error = value.get("error", value)
    if not isinstance(error, dict):
        return trim(str(error)), str(value.get("code") or "")[:200]
    inner = error.get("innererror")
    codes = [
        error.get("code"),
        error.get("type"),
        error.get("status"),
        inner.get("code") if isinstance(inner, dict) else None,
    ]
    said = error.get("message") or error.get("Message") or error.get("detail") or json_text(error)
    return trim(said if isinstance(said, str) else json_text(said)), " ".join(
        str(code)[:200] for code in codes if code
    )


def trim(text: str) -> str:
    """Put a text on one line, and cut it."""
    text = " ".join(text[: 10 * MAX_MESSAGE].split())
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"


def retry_after_s(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Read how many seconds the provider asks to wait, up to LONGEST_WAIT_S.

    `retry-after-ms`, or `Retry-After` as a number or an HTTP date (RFC 9110, 10.2.3); what is neither,
    or negative, asks for nothing.
    """
    ms = seconds_of(headers.get("retry-after-ms"), unit_s=0.001)
    if ms is not None:
        return ms
    value = headers.get("retry-after")
    seconds = seconds_of(value)
    if seconds is not None or value is None:
        return seconds
    try:
        date = parsedate_to_datetime(value[:100])
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        wait_s = (date - (now or datetime.now(UTC))).total_seconds()
    except (ValueError, OverflowError, TypeError, IndexError):  # the last three: dates that no calendar has
        return None
    return min(max(0.0, wait_s), LONGEST_WAIT_S)


_COUNTED = (
    *((f"x-ratelimit-remaining-{of}", f"x-ratelimit-reset-{of}") for of in ("requests", "tokens")),
    *(
        (f"anthropic-ratelimit-{of}-remaining", f"anthropic-ratelimit-{of}-reset")
        for of in ("requests", "tokens", "input-tokens", "output-tokens")
    ),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
)
"""Headers by which a provider says what is left of a limit, and when it is whole again."""
_DURATION = re.compile(
    r"(?=[\d.])(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9}(?:\.\d{1,9})?)s)?(?:(\d{1,12}(?:\.\d{1,9})?)ms)?"
)
_SECONDS_OF_2001 = 1e9


def reset_after_s(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Read from the headers of a 429 in how many seconds a limit of which nothing is left is whole again: the
    longest of them; None where no header tells.

    The time is a duration as in Go (`6m0s`, `120ms`: OpenAI, Groq), a time of day (RFC 3339: Anthropic), a
    number of seconds, or one of seconds or milliseconds since 1970.
    """
    now = now or datetime.now(UTC)
    waits = [
        wait_s
        for remaining, reset in _COUNTED
        if seconds_of(headers.get(remaining)) == 0.0 and (wait_s := until_reset(headers.get(reset), now))
    ]
    return max(waits, default=None)


def until_reset(value: str | None, now: datetime) -> float | None:
    """Read the seconds until a reset, in any of the forms of `reset_after_s`; None for what is none."""
    text = (value or "").strip()[:100]
    number = seconds_of(text, most_s=1e15)
    if number is not None:
        if number >= _SECONDS_OF_2001:
            number = (number / 1000 if number >= 1000 * _SECONDS_OF_2001 else number) - now.timestamp()
        return min(max(0.0, number), LONGEST_WAIT_S)
    if found := _DURATION.fullmatch(text):
        hours, minutes, seconds, ms = (float(part or 0) for part in found.groups())
        return min(3600 * hours + 60 * minutes + seconds + ms / 1000, LONGEST_WAIT_S)
    try:
        at = datetime.fromisoformat(text)
        return min(max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds()), LONGEST_WAIT_S)
    except (ValueError, OverflowError):
        return None


def seconds_of(value: Any, *, unit_s: float = 1.0, most_s: float = LONGEST_WAIT_S) -> float | None:
    """Read a number of units as seconds, cut at `most_s`; None for what is no such number."""
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        return None
    if math.isnan(number) or number < 0:
        return None
    return min(number * unit_s, most_s)
