"""Stopping a run as soon as it is known how it compares: what is asked for, and in which order cases are
done."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ConfigDict, Field

from promptlab.domain.names import Visible
from promptlab.domain.written import Written

LOOKS = 10
MOST_LOOKS = 100
MOST_SEED = 2**31 - 1
FIRST_STEP = 50
"""Cases after which the e-process is looked at for the first time; then after twice as many each time, up to
the end of the first wave. Each step waits for its last answer, and a set has few of them this way."""
EVERY_KEY = 2**63 - 1


class StopConfig(Written):
    """When a run ends early: once it is known how it compares with another run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    against: str = Field(
        min_length=1,
        max_length=200,
        description="The run to compare with: its id, or a label of the experiment such as production.",
    )
    metric: Visible | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="The metric that decides; the experiment's headline by default.",
    )
    margin: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="δ: end also once the two runs are the same within it.",
    )
    looks: int = Field(
        default=LOOKS, ge=1, le=MOST_LOOKS, description="How many waves the cases are done in, 1 to 100."
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        le=MOST_SEED,
        description="What the random order of the cases is made of; drawn, and recorded, by default.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRule:
    """What a run was told, as it is recorded with it."""

    base: str
    """The id of the run that it is compared with."""
    label: str | None
    """The label that named that run, at the start."""
    metric: str
    margin: float | None
    looks: int
    seed: int

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> StopRule:
        """Read it from a run's record."""
        names = ("base", "label", "metric", "margin", "looks", "seed")
        return cls(**{name: value.get(name) for name in names})  # type: ignore[arg-type]

    def to_json(self) -> dict[str, Any]:
        """Write it as a run's record has it."""
        return asdict(self)

    def written(self) -> StopConfig:
        """Give it as it was asked for, with a new order."""
        return StopConfig(
            against=self.label or self.base, metric=self.metric, margin=self.margin, looks=self.looks
        )


def place_of(seed: int, case: int) -> int:
    """Where a case stands in the order of a seed: cases come by rising numbers.

    A hash and no list, so that a worker knows it of each case by itself: 1 µs, whatever the dataset's size.
    """
    digest = hashlib.blake2b(f"{seed}:{case}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """A prefix of the order: the cases that may be done by now."""

    seed: int
    rows: int
    """How many dataset rows it has."""
    last: int
    """The place of the last of them."""

    @classmethod
    def of(cls, seed: int, total: int, rows: int) -> Reach:
        """The first `rows` rows of the order of `total`."""
        if rows >= total:
            return cls(seed=seed, rows=total, last=EVERY_KEY)
        return cls(seed=seed, rows=rows, last=sorted(place_of(seed, n) for n in range(total))[rows - 1])

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Reach:
        """Read it from a run's record."""
        return cls(seed=value["seed"], rows=value["rows"], last=value["last"])

    def to_json(self) -> dict[str, Any]:
        """Write it as a run's record has it."""
        return asdict(self)

    def holds(self, case: int) -> bool:
        """Whether a dataset row is in it."""
        return self.last == EVERY_KEY or place_of(self.seed, case) <= self.last

    def count(self, first: int, count: int) -> int:
        """How many of `count` rows from row `first` on are in it."""
        return count if self.last == EVERY_KEY else sum(map(self.holds, range(first, first + count)))


def wave_ends(rows: int, looks: int) -> list[int]:
    """The rows at the end of each wave."""
    looks = min(looks, rows)
    return [-(-rows * (k + 1) // looks) for k in range(looks)]


def next_rows(done: int, rows: int, looks: int) -> int:
    """How many rows of the order the next step reaches, `done` being those of the one before."""
    end = next(end for end in wave_ends(rows, looks) if end > done)
    early = FIRST_STEP
    while early <= done:
        early *= 2
    first = wave_ends(rows, looks)[0]
    return min(end, early) if done < first else end
