"""A worker that is given several shards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from functions.runtime import RESERVE_S, ManifestLine, each_shard
from promptlab.domain.assets import Shard
from promptlab.engine.job import Outcome
from tests.functions.conftest import Context

LINE = ManifestLine(
    number=3,
    first=150,
    count=50,
    offset=0,
    length=9,
    more=tuple(ManifestLine(number=n, first=50 * n, count=50, offset=9, length=9) for n in (4, 5)),
)


@dataclass
class Steps:
    """Records which shards a step was done for, and gives each what `ends` says."""

    ends: Callable[[int], Outcome]

    def __post_init__(self) -> None:
        self.done: list[int] = []

    def __call__(self, shard: Shard, left_s: float) -> Outcome:
        self.done.append(shard.number)
        return self.ends(shard.number)


def test_every_shard_of_a_line_is_done() -> None:
    """In order; what is left of each adds up."""
    steps = Steps(lambda number: Outcome(remaining=number))
    assert each_shard(LINE, Context(), steps) == Outcome(remaining=12)
    assert steps.done == [3, 4, 5]


def test_a_fault_of_one_shard_takes_nothing_from_the_others() -> None:
    """It is raised in the end, so that the state machine tries the line again."""

    def ends(number: int) -> Outcome:
        if number == 3:
            raise RuntimeError("the disk of shard 3")
        return Outcome()

    steps = Steps(ends)
    with pytest.raises(RuntimeError, match="the disk of shard 3"):
        each_shard(LINE, Context(), steps)
    assert steps.done == [3, 4, 5]


def test_a_long_pause_is_not_spent_in_the_worker() -> None:
    """The shards behind it wait, too: whoever asked for the pause asked them as well."""
    steps = Steps(lambda number: Outcome(remaining=7, wait_s=30) if number == 4 else Outcome())
    assert each_shard(LINE, Context(), steps) == Outcome(remaining=57, wait_s=30)
    assert steps.done == [3, 4]


def test_no_further_shard_is_begun_when_time_is_short() -> None:
    """The first one always is: it decides itself what it can do in the time."""
    steps = Steps(lambda number: Outcome())
    assert each_shard(LINE, Context(remaining_s=RESERVE_S / 2), steps) == Outcome(remaining=100)
    assert steps.done == [3]
