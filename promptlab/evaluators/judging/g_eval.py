"""g_eval: a mark by steps that are made once and stored with the experiment."""

from __future__ import annotations

import copy
from typing import ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from promptlab.evaluators.judging.asking import Asked, Question
from promptlab.evaluators.judging.forms import Form
from promptlab.evaluators.judging.verdicts import Sorting
from promptlab.evaluators.text import STRICT

MOST_STEPS = 20
_STEPS = Form("steps", {"items": {"type": "array", "items": {"type": "string"}}})
_MARKS = {str(mark): (mark - 1) / 4 for mark in range(1, 6)}


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class GEval(Sorting):
    """A mark from 1 to 5 by a criterion, along steps that the judge works out once; as a score 0 to 1."""

    own_labels: ClassVar[dict[str, float]] = _MARKS

    criterion: str = Field(min_length=1, max_length=20_000, description="What a good response is.")
    steps: list[str] = Field(
        [],
        max_length=MOST_STEPS,
        description="The steps of the evaluation. Without any the first judge makes them from the criterion "
        "before the run begins; they are stored with the experiment, and the same for every case.",
    )

    def told(self) -> str:
        """The task, with the criterion, its steps and the marks."""
        steps = "\n".join(f"{number}. {step}" for number, step in enumerate(self.steps, 1))
        labels = ", ".join(self.table)
        return (
            f"Mark the RESPONSE by this criterion: {self.criterion}\nGo through these steps, and write down "
            f"briefly what each gives:\n{steps}\nThen give the mark as the label, one of {labels}: the "
            f"worst is {min(self.table, key=lambda label: self.table[label])}, the best "
            f"{max(self.table, key=lambda label: self.table[label])}."
        )

    def with_steps(self, steps: list[str]) -> GEval:
        """Make a copy that has these steps, and this one's judges."""
        made = copy.copy(self)
        vars(made)["steps"] = steps
        return made

    async def make_steps(self, asked: Asked) -> list[str]:
        """Have a judge make the steps of the evaluation from the criterion.

        Raises:
            UnreadableError: its answers cannot be read.
            ModelError: its call failed.
        """
        question = Question(
            "Write the steps by which a careful examiner finds out how well a response meets the CRITERION: "
            f"three to six, at most {MOST_STEPS}, one sentence each, in an order that makes sense, so that "
            "two examiners who follow them come to the same mark. Do not speak of the scale of marks.",
            [("criterion", self.criterion)],
            _STEPS,
        )
        made = await asked.ask(question)
        return [str(step)[:2_000] for step in made.found["items"] if str(step).strip()][:MOST_STEPS]
