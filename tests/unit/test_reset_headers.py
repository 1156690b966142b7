"""When a limit is whole again, as providers' headers say it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from promptlab.models.failures import reset_after_s, status_error

NOW = datetime(2026, 11, 26, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "120ms"}, 0.12),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m2.5s"}, 62.5),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-requests": "9", "x-ratelimit-reset-requests": "6m0s"}, None),
        ({"x-ratelimit-reset-requests": "6m0s"}, None),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "3s",
            },
            3.0,
        ),
        (
            {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2026-11-26T12:00:07Z",
            },
            7.0,
        ),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "5"}, 5.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": f"{NOW.timestamp() + 4:.0f}"}, 4.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": f"{1000 * NOW.timestamp() + 4000:.0f}"}, 4.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "soon"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": ""}, None),
        ({"x-ratelimit-remaining": "none", "x-ratelimit-reset": "5"}, None),
        ({}, None),
    ],
)
def test_the_reset_of_a_limit_of_which_nothing_is_left_is_the_wait(
    headers: dict[str, str], seconds: float | None
) -> None:
    """The longest of several; what is not understood asks for nothing."""
    found = reset_after_s(headers, now=NOW)
    assert found == (seconds if seconds is None else pytest.approx(seconds))


def test_retry_after_goes_before_a_reset() -> None:
    """It says when to ask again, and not when all is whole again."""
    reset = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20s"}
    assert status_error("m", 429, reset, b"{}", now=NOW).retry_after_s == 20.0
    assert status_error("m", 429, {**reset, "retry-after": "2"}, b"{}", now=NOW).retry_after_s == 2.0
