"""A metric that asks models: each judges by itself, and their votes become one score."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import statistics
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as filled
from typing import Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from promptlab.domain.judged_by import FINGERPRINT, VOTES
from promptlab.domain.results import Score
from promptlab.evaluators.base import Evaluator, Returned
from promptlab.evaluators.judging.asking import Asked, Judgement
from promptlab.evaluators.text import STRICT
from promptlab.models.ahead import LaterError

MOST_REASON = 4_000
"""Characters of a judge's reasoning that a score keeps; of each of several, a tenth."""


@dataclass(frozen=True, slots=True)
class Vote:
    """What one judge made of one case, once."""

    values: Mapping[str, float | None]
    """By name of the score; under "" where the metric gives one."""
    reason: str
    judgements: Sequence[Judgement]
    label: str | None = None
    details: Mapping[str, Any] = filled(default_factory=dict)


class TiedError(ValueError):
    """The votes of a jury that no majority decides."""


@checked_dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class Judge(Evaluator, ABC):
    """The base of metrics that ask models. A subclass says what one judge makes of one case."""

    inputs = {"response": "$inference"}
    needs_judge = True
    value_range: ClassVar = (0.0, 1.0)

    guidance: str = Field(
        "",
        max_length=20_000,
        description="Further rules for the judge: what counts in your field, how cases on the border go.",
    )

    def with_models(self, models: Mapping[str, Any]) -> Evaluator:
        """Make a copy that has its judges (`judges`: pairs of their configuration and model)."""
        bound = copy.copy(self)
        # No fields: parameters are what is written in an experiment.
        vars(bound)["asked"] = [Asked(config, model, self.guidance) for config, model in models["judges"]]
        vars(bound)["models"] = [model for _, model in models["judges"]]
        return bound

    @property
    def table(self) -> Mapping[str, float] | None:
        """Label → value; None for a metric that does not sort."""
        return None

    @abstractmethod
    async def judged(self, asked: Asked, repeat: int, data: dict[str, Any]) -> Vote:
        """Judge a case once, by one judge.

        Raises:
            UnreadableError: the judge's answers cannot be read.
            ModelError: its call failed.
            ValueError: an input is missing or too long.
        """

    async def evaluate(self, data: dict[str, Any]) -> Returned:
        """Score one case: every judge at the same time, its repeats one after the other.

        Raises:
            TiedError: no majority, and no label in the middle.
            Exception: what `judged` raises; the others' judgements are kept, and not asked for again.
        """
        panel: list[Asked] = getattr(self, "asked", [])
        if not panel:
            raise ValueError("no judge: name a model in the metric's `judge`")
        if len(panel) == 1:  # no task for what would be the only one
            return self._score([await self._repeats(panel[0], data)])
        made = await asyncio.gather(*(self._repeats(one, data) for one in panel), return_exceptions=True)
        for error in made:
            if isinstance(error, BaseException):
                raise error
        votes = [votes for votes in made if not isinstance(votes, BaseException)]
        return self._score(votes)

    async def _repeats(self, asked: Asked, data: dict[str, Any]) -> list[Vote]:
        votes, later = list[Vote](), None
        for repeat in range(asked.config.repeats):
            try:
                votes.append(await self.judged(asked, repeat, data))
            except LaterError as error:  # a batch takes the questions of all repeats
                later = error
        if later is not None:
            raise later
        return votes

    def _score(self, panel: Sequence[Sequence[Vote]]) -> Returned:
        votes = [vote for each in panel for vote in each]
        metadata = self._metadata(votes)
        if self.table is not None:
            return self._by_label(panel, metadata)
        names = list(votes[0].values)
        found = {name: _mean([vote.values[name] for vote in votes]) for name in names}
        label = votes[0].label if all(vote.label == votes[0].label for vote in votes) else None
        made = {
            name: Score(
                value=value,
                label=(label or "nothing to judge") if value is None else None,
                reason=_reason(votes) if number == 0 else None,
                # The other parts of an evaluation have the same judge: once is enough.
                metadata=metadata if number == 0 else {FINGERPRINT: metadata[FINGERPRINT]},
            )
            for number, (name, value) in enumerate(found.items())
        }
        return made[""] if list(made) == [""] else made

    def _by_label(self, panel: Sequence[Sequence[Vote]], metadata: Mapping[str, Any]) -> Score:
        assert self.table is not None
        if len(panel) == 1:  # repeats of one judge: their mean
            labels = [str(vote.label) for vote in panel[0]]
            value = statistics.fmean(self.table[label] for label in labels)
            common = Counter(labels).most_common(2)
            label = common[0][0] if len(common) == 1 or common[0][1] > common[1][1] else None
            passed = bool(value) if _is_yes_no(self.table) and value in (0.0, 1.0) else None
            reason = _reason(panel[0], label)
            return Score(value=value, label=label, passed=passed, reason=reason, metadata=metadata)
        each = [majority([str(vote.label) for vote in votes], self.table) for votes in panel]
        label = majority(each, self.table)
        value = self.table[label]
        agree = sum(one == label for one in each)
        votes = [vote for votes in panel for vote in votes]
        return Score(
            value=value,
            label=label,
            passed=bool(value) if _is_yes_no(self.table) else None,
            reason=f"{agree} of {len(each)} judges say {label}. {_reason(votes, label)}",
            metadata=metadata,
        )

    def _metadata(self, votes: Sequence[Vote]) -> dict[str, Any]:
        all_of = {one.fingerprint: one for vote in votes for one in vote.judgements}
        prints = sorted(all_of)
        together = prints[0] if len(prints) == 1 else _digest(prints)
        if len(votes) == 1:
            details = dict(votes[0].details)
            return {**votes[0].judgements[0].to_json(), FINGERPRINT: together, **details}
        short = MOST_REASON // 10
        listed = [
            {
                **vote.judgements[0].to_json(),
                **({"label": vote.label} if vote.label is not None else {}),
                **{name or "value": value for name, value in vote.values.items() if value is not None},
                "reason": vote.reason[:short],
            }
            for vote in votes
        ]
        return {FINGERPRINT: together, VOTES: listed}


def majority(labels: Sequence[str], table: Mapping[str, float]) -> str:
    """The label that most say; of a tie the one in the middle of those that tie, by their values.

    Raises:
        TiedError: there is none in the middle.
    """
    counts = Counter(labels)
    most = max(counts.values())
    ranked = sorted(table, key=lambda label: table[label])
    tied = [rank for rank, label in enumerate(ranked) if counts[label] == most]
    # Of three and more the middle one is one of them; of two a label that nobody may have said.
    if len(tied) % 2:
        return ranked[tied[len(tied) // 2]]
    low, high = tied[len(tied) // 2 - 1], tied[len(tied) // 2]
    middle = low + high
    if middle % 2:
        names = " and ".join(ranked[rank] for rank in tied)
        raise TiedError(f"the judges are tied between {names}, and no label is in the middle: no score")
    return ranked[middle // 2]


def _digest(prints: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(prints).encode()).hexdigest()[:16]


def _is_yes_no(table: Mapping[str, float]) -> bool:
    return set(table.values()) == {0.0, 1.0}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _reason(votes: Sequence[Vote], label: str | None = None) -> str:
    """The reasoning of the first vote that is as the majority."""
    found = next((vote for vote in votes if label is None or vote.label == label), votes[0])
    return found.reason[:MOST_REASON]
