"""Answers and errors of a user's own model, as every store can hold them."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from promptlab import ModelError, ModelResponse
from promptlab.engine.answers import checked, plain, said_by

ANSWER = ModelResponse(
    "yes", prompt_tokens=3, completion_tokens=4, latency_ms=5.0, cost_usd=0.5, finish_reason="stop"
)


class Text(str):
    """A string of a user's own class."""


def test_an_answer_keeps_all_that_is_right_in_it() -> None:
    """What it does not say is measured, or unknown."""
    assert checked(ANSWER, 9.0, "m") == ANSWER
    assert checked(ModelResponse("yes"), 9.0, "m") == ModelResponse("yes", latency_ms=9.0)
    assert checked(replace(ANSWER, metadata={"a": [1, {"b": None}]}), 9.0, "m").metadata == {
        "a": [1, {"b": None}]
    }
    loose = SimpleNamespace(
        response=Text("yes"),
        prompt_tokens=3.0,
        completion_tokens="4",
        latency_ms="5",
        cost_usd=0.5,
        finish_reason=Text("stop"),
        metadata={},
    )
    found = checked(loose, 9.0, "m")
    assert found == ANSWER and type(found.response) is str and type(found.finish_reason) is str


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"response": None}, "response is a NoneType, not a string"),
        ({"response": b"yes"}, "response is a bytes, not a string"),
        ({"latency_ms": math.inf}, "latency_ms is inf, not a finite number"),
        ({"cost_usd": math.nan}, "cost_usd is nan, not a finite number"),
        ({"cost_usd": "free"}, "could not convert string to float: 'free'"),
        ({"prompt_tokens": "many"}, "invalid literal for int"),
        ({"metadata": {"x": object()}}, "Type is not JSON serializable: object"),
    ],
)
def test_an_answer_that_no_store_can_hold_is_an_error_that_says_why(
    change: dict[str, Any], words: str
) -> None:
    """And whose it is."""
    with pytest.raises(ModelError, match="m answered what is not a ModelResponse: ") as raised:
        checked(replace(ANSWER, **change), 9.0, "m")
    assert words in str(raised.value) and raised.value.type == "invalid_response"
    with pytest.raises(ModelError, match="'int' object has no attribute 'response'"):
        checked(7, 9.0, "m")


@pytest.mark.parametrize(
    ("change", "is_plain"),
    [
        ({}, True),
        ({"metadata": None}, True),
        ({"metadata": {"x": Text("y")}}, True),
        ({"response": Text("yes")}, False),
        ({"prompt_tokens": Text("3")}, False),
        ({"completion_tokens": True}, False),
        ({"latency_ms": Text("5")}, False),
        ({"cost_usd": Text("5")}, False),
        ({"finish_reason": Text("stop")}, False),
        ({"metadata": []}, False),
    ],
)
def test_what_runs_no_code_when_it_is_read_is_plain(change: dict[str, Any], is_plain: bool) -> None:
    """Anything of a user's own class may."""
    assert plain(replace(ANSWER, **change)) == is_plain
    assert not plain(SimpleNamespace(response="yes"))


class Odd(ModelError):
    """An error of a user's own class, with fields of any types."""

    def __init__(self, words: str, **fields: Any) -> None:
        super().__init__(words, type="error")
        vars(self).update(fields)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ("error", False, True, None)),
        ({"type": "rate_limit", "retryable": True}, ("rate_limit", True, True, None)),
        ({"type": 7}, ("Odd", False, True, None)),
        ({"type": ""}, ("Odd", False, True, None)),
        ({"retryable": "yes"}, ("error", False, True, None)),
        ({"sent": False}, ("error", False, False, None)),
        ({"sent": None}, ("error", False, True, None)),
        ({"retry_after_s": 3}, ("error", False, True, 3.0)),
        ({"retry_after_s": 0}, ("error", False, True, 0.0)),
        ({"retry_after_s": -1}, ("error", False, True, None)),
        ({"retry_after_s": math.inf}, ("error", False, True, None)),
        ({"retry_after_s": "3"}, ("error", False, True, None)),
    ],
)
async def test_an_error_has_fields_of_the_right_types(
    fields: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    """Of those that are not, the defaults; its words without the name of its class."""
    error = await said_by(Odd("no answer", **fields))
    assert type(error) is ModelError and str(error) == "no answer"
    assert (error.type, error.retryable, error.sent, error.retry_after_s) == expected
