"""Keys are hidden in whichever text of a result they stand, right before it is recorded."""

from __future__ import annotations

from typing import Any

import pytest

from promptlab.domain.masking import remember
from promptlab.domain.messages import Media, Message, Reasoning, Text, ToolCall, ToolCallResponse
from promptlab.domain.results import Completion, Failure, Score, ScoreSet
from promptlab.domain.trace import Trace
from promptlab.engine.keyless import without_keys

KEY = "sk-proj-7Yq2vX9bLm4KzR8tWc3N"
SAID = f"the key is {KEY}."
CLEAN = "the key is ***."
remember(KEY)


def completion(**fields: Any) -> Completion:
    return Completion(shard=0, case=1, trial=0, attempts=2, latency_ms=3.5, **fields)


def scores(score: Score) -> ScoreSet:
    return ScoreSet(shard=0, case=1, trial=0, scores={"sound": Score(0.5, reason="fine"), "m": score})


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ({"response": SAID}, {"response": CLEAN}),
        ({"finish_reason": SAID}, {"finish_reason": CLEAN}),
        ({"metadata": {"a": [SAID]}}, {"metadata": {"a": [CLEAN]}}),
        ({"metadata": {SAID: 1}}, {"metadata": {CLEAN: 1}}),
        ({"error": Failure("timeout", SAID)}, {"error": Failure("timeout", CLEAN)}),
        ({"error": Failure(SAID, "x")}, {"error": Failure(CLEAN, "x")}),
        *(
            (
                {"messages": (Message("assistant", (d, Text("x")), "stop"),)},
                {"messages": (Message("assistant", (c, Text("x")), "stop"),)},
            )
            for d, c in [
                (Text(SAID), Text(CLEAN)),
                (Reasoning(SAID), Reasoning(CLEAN)),
                (ToolCall("f", {"a": [SAID]}), ToolCall("f", {"a": [CLEAN]})),
                (ToolCall(SAID, SAID, SAID), ToolCall(CLEAN, CLEAN, CLEAN)),
                (ToolCallResponse({SAID: 1}, "c"), ToolCallResponse({CLEAN: 1}, "c")),
                (Media(modality="image", uri=SAID), Media(modality="image", uri=CLEAN)),
            ]
        ),
        (
            {"trace": Trace(contexts=(SAID,), spans=({"name": SAID},), turns=({"user": SAID},))},
            {"trace": Trace(contexts=(CLEAN,), spans=({"name": CLEAN},), turns=({"user": CLEAN},))},
        ),
    ],
)
def test_an_answer_is_recorded_without_keys(dirty: dict[str, Any], clean: dict[str, Any]) -> None:
    """All else of it stays."""
    assert without_keys(completion(**dirty)) == completion(**clean)


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ({"label": SAID}, {"label": CLEAN}),
        ({"reason": SAID}, {"reason": CLEAN}),
        ({"metadata": {"a": SAID}}, {"metadata": {"a": CLEAN}}),
        ({"error": Failure("evaluator_error", SAID)}, {"error": Failure("evaluator_error", CLEAN)}),
    ],
)
def test_a_score_is_recorded_without_keys(dirty: dict[str, Any], clean: dict[str, Any]) -> None:
    """The others of its case stay, and so does its value."""
    assert without_keys(scores(Score(0.25, **dirty))) == scores(Score(0.25, **clean))


def test_a_result_without_keys_is_itself() -> None:
    """Nothing is made anew; anything else that is recorded is left alone."""
    for result in (
        completion(response="fine", metadata={"a": 1}),
        scores(Score(0.5, reason="fine")),
        scores(Score(1.0)),
        7,
    ):
        assert without_keys(result) is result
