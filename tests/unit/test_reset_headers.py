"""When a limit is whole again, as providers' headers say it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from promptlab.models.failures import reset_after_s, status_error
from promptlab.models.rates import left_in

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


def openai(of: str, limit: str, remaining: str, reset: str) -> dict[str, str]:
    told = {"limit": limit, "remaining": remaining, "reset": reset}
    return {f"x-ratelimit-{name}-{of}": value for name, value in told.items()}


def anthropic(of: str, limit: str, remaining: str, reset: str) -> dict[str, str]:
    told = {"limit": limit, "remaining": remaining, "reset": reset}
    return {f"anthropic-ratelimit-{of}-{name}": value for name, value in told.items()}


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        (openai("requests", "60", "59", "1s"), [("requests", 60.0, 59.0, 1.0)]),
        (openai("requests", "10000", "9999", "6ms"), [("requests", 10_000.0, 9_999.0, 166.67)]),
        (openai("tokens", "150000", "149984", "6ms"), [("tokens", 150_000.0, 149_984.0, 2_500.0)]),
        (openai("tokens", "18000", "9000", "10s"), [("tokens", 18_000.0, 9_000.0, 900.0)]),
        (openai("requests", "14400", "14370", "2m59.56s"), []),  # Groq's of a day
        (openai("requests", "60", "60", "0s"), []),  # it is whole
        (openai("requests", "60", "-1", "1s"), []),
        (openai("requests", "60", "59", "soon"), []),
        (openai("requests", "many", "59", "1s"), []),
        (
            openai("requests", "60", "30", "30s") | openai("tokens", "6000", "3000", "30s"),
            [("requests", 60.0, 30.0, 1.0), ("tokens", 6_000.0, 3_000.0, 100.0)],
        ),
        (
            anthropic("requests", "50", "49", "2026-11-26T12:00:02Z")
            | anthropic("input-tokens", "30000", "20000", "2026-11-26T12:00:20Z")
            | anthropic("output-tokens", "8000", "8000", "2026-11-26T12:00:00Z"),
            [("requests", 50.0, 49.0, 0.83), ("input-tokens", 30_000.0, 20_000.0, 500.0)],
        ),
        (
            {"x-ratelimit-limit": "60", "x-ratelimit-remaining": "5", "x-ratelimit-reset": "10"},
            [("requests", 60.0, 5.0, None)],
        ),
        ({"x-ratelimit-limit": "60", "x-ratelimit-remaining": "5", "x-ratelimit-reset": "7200"}, []),
        ({"x-ratelimit-remaining": "5"}, []),
        ({}, []),
    ],
)
def test_what_is_left_of_a_limit_and_how_fast_it_comes_back(
    headers: dict[str, str], found: list[tuple[str, float, float, float | None]]
) -> None:
    """In OpenAI's form, Anthropic's, and of a window that is whole at once; of a minute, not of a day."""
    told = left_in(headers, now=NOW)
    assert [(left.of, left.limit, left.remaining) for left in told] == [one[:3] for one in found]
    for left, (_, _, _, fill) in zip(told, found, strict=True):
        assert left.fill == (fill if fill is None else pytest.approx(fill, rel=0.01))
