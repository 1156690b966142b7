"""Who judged the cases of a run: the versions that judges answered with, which no configuration says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from promptlab.domain.results import Score
from promptlab.domain.statistics import as_count, as_object

FINGERPRINT, VOTES, JUDGE, VERSION = "fingerprint", "votes", "judge", "version"
"""Keys of a score's metadata, as judges write them."""
_MOST = 20
"""Different versions, and fingerprints, that are counted by name."""
_OTHERS = "…"


@dataclass(slots=True)
class JudgedBy:
    """The judges of one metric's scores, each with the number of scores."""

    versions: dict[str, int] = field(default_factory=dict)
    """`openai/gpt-6-luna as gpt-6-luna-2026-08-01`: the judge, and what whoever answered calls itself."""
    fingerprints: dict[str, int] = field(default_factory=dict)
    """Of model, version, parameters, prompt and form, all of a case's votes together."""

    def add(self, score: Score) -> None:
        """Count one score."""
        if isinstance(found := score.metadata.get(FINGERPRINT), str):
            _count(self.fingerprints, found)
        votes = score.metadata.get(VOTES)
        listed = votes if isinstance(votes, list) else []
        each = [one for one in (score.metadata, *listed) if isinstance(one, Mapping)]
        for said in sorted({f"{one.get(JUDGE)} as {one[VERSION]}" for one in each if one.get(VERSION)}):
            _count(self.versions, said)

    def merge(self, other: Self) -> None:
        """Add all that `other` has counted."""
        for said, count in other.versions.items():
            _count(self.versions, said, count)
        for said, count in other.fingerprints.items():
            _count(self.fingerprints, said, count)

    def differs(self, other: Self) -> str | None:
        """Say why two runs with equal configurations were not judged alike; None where they were, or where
        one of them does not tell.

        A case may be judged by one question or by several, so that one run has fingerprints which the other
        lacks; with none in common, every question was another one.
        """
        if self.versions and other.versions and self.versions.keys() != other.versions.keys():
            one, two = (", ".join(sorted(by.versions)) for by in (self, other))
            return f"its judge answered as another version: {one} in one run and {two} in the other"
        mine, theirs = self.fingerprints.keys(), other.fingerprints.keys()
        if mine and theirs and not mine & theirs:
            return "the fingerprint of its judge differs: another version, prompt or form"
        return None

    def to_json(self) -> dict[str, Any]:
        """Write it as a summary keeps it."""
        return {"versions": dict(self.versions), "fingerprints": dict(self.fingerprints)}

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read what `to_json` wrote.

        Raises:
            StoreDamagedError: a count in it is none.
        """
        found = as_object(value, "judges")
        return cls(
            *(
                {str(key): as_count(n, name) for key, n in as_object(found.get(name, {}), name).items()}
                for name in ("versions", "fingerprints")
            )
        )


def judges_of(summary: Mapping[str, Any] | None) -> dict[str, JudgedBy]:
    """Read from a run's summary, as JSON, who judged its metrics; those that tell, by their names."""
    metrics = (summary or {}).get("metrics") or {}
    return {name: JudgedBy.from_json(one["judges"]) for name, one in metrics.items() if one.get("judges")}


def _count(counts: dict[str, int], said: str, count: int = 1) -> None:
    if said not in counts and len(counts) >= _MOST:
        said = _OTHERS
    counts[said] = counts.get(said, 0) + count
