"""`max_retries` of single types of errors."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from promptlab.domain.model_config import ModelConfig
from promptlab.errors import ModelError
from promptlab.models.retry import Postponed, RetryPolicy, Tries, with_retries
from tests.unit.test_retry import Clock

NOTHING = Tries()
POLICY = RetryPolicy.of({"timeout": 2, "rate_limit": 1})


async def calls(*kinds: str, before: Tries = NOTHING) -> int:
    """How often a call is made that fails with these types, one after another."""
    made = 0

    async def attempt() -> None:
        nonlocal made
        made += 1
        raise ModelError("no", type=kinds[min(made, len(kinds)) - 1], retryable=True)

    with pytest.raises(ModelError):
        await with_retries(attempt, POLICY, clock=Clock(), before=before)
    return made


async def test_each_type_has_its_number_and_the_others_have_the_usual_one() -> None:
    """Counted by itself: a timeout takes nothing from what a server error may have."""
    assert await calls("timeout") == 3
    assert await calls("rate_limit") == 2
    assert await calls("server_error") == 6
    assert await calls("timeout", "server_error", "timeout", "server_error", "timeout") == 5
    assert await calls("invalid_response") == 2


async def test_what_was_tried_before_a_pause_counts() -> None:
    """The next worker goes on with the same numbers, as they come back from a store: as lists."""

    async def attempt() -> None:
        raise ModelError("no", type="timeout", retryable=True)

    with pytest.raises(Postponed) as told:
        await with_retries(attempt, POLICY, clock=Clock(), max_pause_s=0.0, jitter=lambda: 1.0)
    assert told.value.tries.kinds == (("timeout", 1),)
    assert await calls("timeout", before=Tries(1, 0, 0, 0.5, kinds=[["timeout", 1]])) == 2  # type: ignore[arg-type]


def test_an_unknown_type_and_a_negative_number_are_refused() -> None:
    """A number for all, as before, is one."""
    assert ModelConfig(name="openai/m", max_retries=3).max_retries == 3
    for wrong in ({"tiemout": 1}, {"timeout": -1}, -1, 101):
        with pytest.raises(ValidationError):
            ModelConfig(name="openai/m", max_retries=wrong)  # type: ignore[arg-type]
