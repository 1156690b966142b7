"""The table of docs/models.md, row by row: what a provider's refusal is, and whether it stops a run."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from promptlab.errors import ModelError
from promptlab.models.failures import Hopeless, hopeless, is_long_wait, same_words, status_error, status_in

DOCS = Path(__file__).parents[2] / "docs" / "models.md"
ROW = re.compile(r"^\| (\w+) \| (\d+) \| `(\{.*\})` \| `(\w+)` \| (.+) \|$", re.MULTILINE)
WORDS = {"every call": Hopeless.ACCOUNT, "this request": Hopeless.REQUEST, "–": None}
ROWS = ROW.findall(DOCS.read_text())
NOW = datetime(2026, 9, 1, tzinfo=UTC)


def error_of(status: int, body: str) -> ModelError:
    """The error of an answer, as HttpModel makes it."""
    inner = status_in(orjson.loads(body)) if status == 200 else status
    assert inner is not None, body
    return status_error("m", inner, {}, body.encode(), now=NOW)


def test_the_table_is_read_whole() -> None:
    """A row in another form would be checked by nobody."""
    text = DOCS.read_text().partition("### Errors that stop a run")[2].partition("\n## ")[0]
    assert len(ROWS) == sum(line.startswith("| ") for line in text.splitlines()) - 2 > 30


@pytest.mark.parametrize(("provider", "status", "body", "kind", "words"), ROWS)
def test_a_refusal_is_what_the_docs_say(provider: str, status: str, body: str, kind: str, words: str) -> None:
    """Its type, and whether it says that no further call can succeed."""
    error = error_of(int(status), body)
    assert (error.type, hopeless(error)) == (kind, WORDS[words])
    assert error.retryable is (WORDS[words] is None and kind != "content_filter")


def test_a_quota_of_a_day_says_until_when() -> None:
    """OpenRouter's reset time."""
    (body,) = [body for _, _, body, _, _ in ROWS if "X-RateLimit-Reset" in body]
    assert "until 2026-09-24 00:00 UTC" in str(error_of(429, body))


def test_a_wait_that_nobody_waits_is_hopeless_and_a_shorter_one_is_not() -> None:
    """By the provider's own number of seconds."""
    long = ModelError("later", type="rate_limit", retry_after_s=301)
    assert is_long_wait(long) and hopeless(long) is Hopeless.ACCOUNT
    assert hopeless(ModelError("tired", type="rate_limit", retry_after_s=10)) is None


def test_a_certificate_is_hopeless_and_a_broken_connection_is_not() -> None:
    """The one is refused before anything is sent, each time."""
    assert hopeless(ModelError("tls", type="connection", sent=False)) is Hopeless.ACCOUNT
    assert hopeless(ModelError("reset", type="connection", retryable=True)) is None


def test_messages_that_differ_in_numbers_and_ids_say_the_same() -> None:
    """So a limit that every request breaks is seen as one."""
    one, two = (f"Limit 6000, Requested {n}. req_{n}ab" for n in (7001, 8002))
    assert same_words(one) == same_words(two) != same_words("Unknown parameter")
