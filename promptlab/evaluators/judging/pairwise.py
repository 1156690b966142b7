"""pairwise: which of two answers is better, asked in both orders."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from promptlab.evaluators.judging.asking import Asked, Question
from promptlab.evaluators.judging.base import Judge, Vote
from promptlab.evaluators.judging.forms import label_form
from promptlab.evaluators.judging.texts import shown
from promptlab.evaluators.text import STRICT, response_of, text_of

_FIRST, _SECOND, _EQUAL = "first", "second", "equal"


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class Pairwise(Judge):
    """Whether the response beats another answer to the question: a win only if it does in both orders."""

    inputs = {"response": "$inference", "other": None}
    any_inputs: ClassVar[bool] = True
    renamed_inputs: ClassVar = {"reference": "other", "expected": "other", "query": "question"}
    scores = ("win", "consistency")

    criterion: str = Field(
        "Which answer helps the asker more: it is correct, and answers what was asked and nothing else.",
        min_length=1,
        max_length=20_000,
        description="What better means.",
    )

    async def judged(self, asked: Asked, repeat: int, data: dict[str, Any]) -> Vote:
        """Judge a case once: two calls, one with each order. Neither answer has a name."""
        ours, other = response_of(data), text_of(data.get("other"), "other")
        before = shown(data, [name for name in data if name not in ("response", "other")])
        orders = [self._question(before, ours, other), self._question(before, other, ours)]
        one, two = await asked.ask_all(orders, repeat)
        wins = {_FIRST: 1, _EQUAL: 0, _SECOND: -1}
        there, back = wins[one.found["label"]], -wins[two.found["label"]]
        said = {1: "win", 0: "tie", -1: "loss"}
        agreed = there == back
        label = said[there] if agreed else "tie"
        reason = (
            one.found["reasoning"]
            if agreed
            else f"a tie, for the orders differ ({said[there]}, then {said[back]}). {one.found['reasoning']}"
        )
        values = {"win": {"win": 1.0, "tie": 0.5, "loss": 0.0}[label], "consistency": float(agreed)}
        return Vote(values, reason, [one, two], label, {"label": label})

    def _question(self, before: list[tuple[str, str]], first: str, second: str) -> Question:
        return Question(
            "Two answers were given to the same request. Compare the FIRST ANSWER with the SECOND ANSWER by "
            f"this criterion alone: {self.criterion}\nThe order in which they stand, their length and their "
            "tone do not count. Say what decides, then label which is better: first, second, or equal if "
            "neither is.",
            [*before, ("first answer", first), ("second answer", second)],
            label_form((_FIRST, _SECOND, _EQUAL)),
        )
