"""A verdict, its interval and its p never contradict each other, whatever was compared."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import strategies as st

from promptlab.statistics import Clusters, Judgement, PairedData, clustered, judge, paired_data
from tests.unit.oracles import over

Values = list[float | None]
KINDS: dict[str, tuple[Callable[[random.Random], float], tuple[float, float] | None]] = {
    "pass/fail": (lambda r: float(r.random() < 0.8), (0.0, 1.0)),
    "share": (lambda r: r.choice([0.0, 1.0, r.random()]), (0.0, 1.0)),
    "mark": (lambda r: float(r.choice([1, 3, 5, 5, 5])), (1.0, 5.0)),
    "trials": (lambda r: r.randrange(4) / 3, (0.0, 1.0)),
    "equal": (lambda r: 0.7, (0.0, 1.0)),
    "number": (lambda r: r.gauss(0, 1) * 10 ** r.randrange(-3, 6), None),
    "huge": (lambda r: r.gauss(0, 1) * 1e149, None),
    "tiny": (lambda r: r.gauss(0, 1) * 10.0 ** -r.choice([100, 160, 300, 310]), None),
}
SIZES = (0, 1, 2, 3, 14, 15, 16, 20, 40, 120)


def drawn(r: random.Random) -> tuple[PairedData, PairedData]:
    """One metric of two runs, and the same the other way round."""
    draw, bounds = KINDS[r.choice(list(KINDS))]
    n, share, gone = r.choice(SIZES), r.choice([0, 0.1, 0.5, 1]), r.choice([0, 0, 0.05, 0.5, 1])
    shift = 0.0 if bounds else r.choice([0.0, 1.0, -1e-9])
    base: Values = [draw(r) for _ in range(n)]
    other: Values = [(draw(r) if r.random() < share else value or 0.0) + shift for value in base]
    sides = [base, other]
    for side in r.choice([[0], [1], [0, 1]]):
        sides[side] = [None if r.random() < gone else value for value in sides[side]]
    margin, higher = r.choice([None, 0.02, 0.3, 1e-9, 5.0]), r.random() < 0.5
    one, back = (
        paired_data(a, b, bounds=bounds, margin=margin, higher_is_better=higher)
        for a, b in (sides, sides[::-1])
    )
    if one.n and r.random() < 0.35:
        found = over_groups(*sides, r.choice([1, 4, 5, 6, 12, 60]), r)
        one, back = replace(one, clusters=found), replace(back, clusters=found)
    return one, back


def over_groups(base: Values, other: Values, groups: int, r: random.Random) -> Clusters:
    """Groups of random sizes."""
    sums: dict[object, tuple[float, int]] = {}
    for a, b in zip(base, other, strict=True):
        if a is not None and b is not None:
            group = r.choice([0, r.randrange(groups)])
            total, size = sums.get(group, (0.0, 0))
            sums[group] = total + b - a, size + 1
    if len(sums) < 5:
        return Clusters(len(sums), 0.0, "CR1")
    found = clustered(sums)
    return Clusters(found.clusters, found.stderr, found.method, found.df)


def contradictions(data: PairedData, found: Judgement) -> Sequence[str]:
    """What does not go together in a judgement."""
    p, low, high, verdict = found.p, found.ci_low, found.ci_high, found.verdict
    if p is None or low is None or high is None or found.difference is None or found.p_adjusted is None:
        return [] if verdict == "too few cases" and low is None and p is None else ["half a judgement"]
    numbers = (p, low, high, found.stderr, found.p_exact, found.minimum_detectable, found.worst_low)
    proven, sign = verdict in ("better", "worse"), 1 if data.higher_is_better else -1
    margin = found.margin or 0.0
    within = -margin < low and high < margin
    reach = math.inf if data.bounds is None else data.bounds[1] - data.bounds[0]
    wrong = {
        "a number that is none": not all(v is None or math.isfinite(v) for v in numbers),
        "p above .05 and 0 outside": p > 0.05 and not low <= 0 <= high,
        "p of .05 at most and 0 inside": p <= 0.05 and low < 0 < high,
        "the difference outside": not low <= found.difference <= high,
        "beyond what can be": low < -reach or high > reach,
        "no width": low == high and data.bounds is not None,
        "p adjusted downwards": not p <= found.p_adjusted <= 1,
        "rows that do not add up": found.wins + found.losses + found.ties != found.n,
        "proven by too little": proven and not (found.p_adjusted <= 0.05 and found.n >= 15),
        "proven with 0 inside": proven and low < 0 < high,
        "better by less": proven and (found.difference * sign > 0) != (verdict == "better"),
        "the same, and beyond δ": verdict == "the same within δ" and not within,
        "not the same, and within δ": verdict == "no evidence of a difference" and within,
        "not worse, and beyond δ": verdict == "not worse by more than δ"
        and not (low > -margin if sign > 0 else high < margin),
        "proven, and missing scores turn it": proven
        and found.worst_low is not None
        and found.worst_high is not None
        and found.worst_low <= 0 <= found.worst_high,
    }
    return [name for name, is_so in wrong.items() if is_so]


MIRRORED = {"better": "worse", "worse": "better"}


@over(st.integers(0, 2**32), examples=200)
def test_nothing_that_is_said_of_two_runs_contradicts_itself(seed: int) -> None:
    """Of pass/fail, numbers with and without a range, trials, clusters and missing scores; and the other way
    round everything is mirrored."""
    r = random.Random(seed)
    pairs = [drawn(r) for _ in range(r.choice([1, 1, 2, 4]))]
    there, back = (judge([pair[side] for pair in pairs]) for side in (0, 1))
    for (data, _), one, two in zip(pairs, there, back, strict=True):
        assert contradictions(data, one) == []
        if one.p is not None and two.p is not None and one.ci_low is not None and two.ci_high is not None:
            assert one.p == pytest.approx(two.p, rel=1e-6, abs=1e-12)
            assert one.ci_low == pytest.approx(-two.ci_high, rel=1e-6, abs=1e-9 * abs(one.difference or 1))
        if "not worse by more than δ" not in (one.verdict, two.verdict):
            assert two.verdict == MIRRORED.get(one.verdict or "", one.verdict)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e151])
def test_values_that_are_no_numbers_are_refused(value: float) -> None:
    """In words, and not by a verdict about them."""
    with pytest.raises(ValueError, match="values must be numbers from"):
        paired_data([1.0, value], [0.0, None], bounds=None)
