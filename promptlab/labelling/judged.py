"""Who judged the cases of a run, and how its jury voted: read from the scores in the ledger, which alone have
it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from promptlab.domain.experiment import Metric
from promptlab.domain.judged_by import FINGERPRINT, VERSION, VOTES
from promptlab.domain.results import CaseKey, Score
from promptlab.ports import Ledger

_AT_ONCE = 16
"""Shards that are read at the same time."""
_MOST_VERSIONS = 20


@dataclass(slots=True)
class Judged:
    """One metric's judgements of a run."""

    prints: dict[CaseKey, str] = field(default_factory=dict)
    """The fingerprint of each score."""
    versions: set[str] = field(default_factory=set)
    votes: list[Sequence[float | str]] = field(default_factory=list)
    """Of each case that several voted on, what each said: labels, or numbers where there are no labels."""

    @property
    def counts(self) -> Counter[str]:
        """How many scores each fingerprint has."""
        return Counter(self.prints.values())

    def add(self, key: CaseKey, score: Score) -> None:
        """Take one score."""
        if score.error is not None:
            return
        if isinstance(found := score.metadata.get(FINGERPRINT), str):
            self.prints[key] = found
        votes = score.metadata.get(VOTES)
        listed = votes if isinstance(votes, list) else []
        for one in (score.metadata, *(vote for vote in listed if isinstance(vote, Mapping))):
            if isinstance(version := one.get(VERSION), str) and len(self.versions) < _MOST_VERSIONS:
                self.versions.add(version)
        said = [what for vote in listed if (what := _said(vote)) is not None]
        if len(said) > 1 and len({type(what) for what in said}) == 1:
            self.votes.append(said)


def _said(vote: Any) -> float | str | None:
    if not isinstance(vote, Mapping):
        return None
    label, value = vote.get("label"), vote.get("value")
    if isinstance(label, str):
        return label
    return float(value) if isinstance(value, int | float) else None


async def judged_by(ledger: Ledger, run_id: str, metrics: Sequence[Metric]) -> dict[str, Judged]:
    """Read the judgements of some metrics of a run."""
    found = {metric.name: Judged() for metric in metrics}
    if not found:
        return found
    numbers = [shard.number async for shard in ledger.shards(run_id)]
    for start in range(0, len(numbers), _AT_ONCE):
        some = numbers[start : start + _AT_ONCE]
        for sets in await asyncio.gather(*(ledger.get_scores(run_id, number) for number in some)):
            for one in sets:
                for name, judged in found.items():
                    if (score := one.scores.get(name)) is not None:
                        judged.add(one.key, score)
    return found
