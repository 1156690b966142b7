"""Verdicts: each word where it belongs, and never against its interval or its p."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import strategies as st

from promptlab.statistics import Clusters, PairedData, holm, judge, paired_data
from tests.unit.oracles import over


def counted(rose: int, fell: int, n: int, **more: object) -> PairedData:
    """Pass/fail of n rows, half of the ties passed."""
    ties = n - rose - fell
    base = [0.0] * rose + [1.0] * fell + [float(k % 2) for k in range(ties)]
    other = [1.0] * rose + [0.0] * fell + base[rose + fell :]
    return replace(paired_data(base, other), **more)  # type: ignore[arg-type]


def test_gsm8k_is_worse() -> None:
    """6b_verification → 175b_finetuning, to the last digit."""
    (found,) = judge([counted(152, 209, 1319)])
    assert (found.wins, found.losses, found.ties, found.verdict) == (152, 209, 958, "worse")
    assert found.method == "tango"
    assert found.difference == pytest.approx(-57 / 1319)
    assert (found.ci_low, found.ci_high) == pytest.approx((-0.071458, -0.015052), abs=5e-7)
    assert found.p == found.p_adjusted == pytest.approx(0.0026873913284714, rel=1e-12)
    assert found.p_exact == pytest.approx(0.0031506568803606, rel=1e-12)


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        (counted(6, 0, 14), "too few cases"),
        (counted(4, 0, 60), "too few cases"),
        (counted(30, 5, 100), "better"),
        (counted(5, 30, 100), "worse"),
        (counted(30, 5, 100, higher_is_better=False), "worse"),
        (counted(0, 0, 1000), "the same within δ"),
        (counted(0, 0, 50), "too few cases"),
        (counted(10, 10, 4000), "the same within δ"),
        (counted(60, 45, 1200), "not worse by more than δ"),
        (counted(45, 60, 1200, higher_is_better=False), "not worse by more than δ"),
        (counted(45, 60, 1200), "no evidence of a difference"),
        (counted(12, 10, 100), "no evidence of a difference"),
        (counted(12, 10, 100, margin=0.2), "the same within δ"),
        (counted(30, 5, 100, missing_other=40, extremes=(-0.1, 0.4)), "depends on missing scores"),
        (counted(30, 5, 100, missing_other=1, extremes=(0.2, 0.3)), "better"),
        (counted(12, 10, 100, missing_other=1, extremes=(0.01, 0.03)), "no evidence of a difference"),
        (counted(0, 0, 100, missing_other=30, extremes=(-0.2, 0.1)), "too few cases"),
        (counted(12, 10, 100, missing_other=30, extremes=(-0.2, 0.1)), "depends on missing scores"),
        (counted(30, 5, 100, clusters=Clusters(4, 0.01, "CR1")), "too few cases"),
        (counted(30, 5, 100, clusters=Clusters(20, 0.05, "CR1")), "better"),
        (counted(30, 5, 100, clusters=Clusters(20, 0.2, "CR1")), "no evidence of a difference"),
        (counted(30, 5, 100, fact=True), None),
        (paired_data([], []), "too few cases"),
    ],
)
def test_each_word_where_it_belongs(data: PairedData, verdict: str | None) -> None:
    """In the order of the specification."""
    (found,) = judge([data])
    assert found.verdict == verdict


def test_no_evidence_comes_with_what_could_have_been_seen() -> None:
    """The smallest difference of these rows, and the rows for δ."""
    (found,) = judge([counted(12, 10, 100)])
    assert found.minimum_detectable == pytest.approx(0.134, abs=0.005)
    assert found.rows_needed is not None and 4000 < found.rows_needed < 5000
    (few,) = judge([counted(3, 1, 5)])
    assert few.rows_needed is not None and few.rows_needed >= 15
    (numbers,) = judge([paired_data([3.0, 5.0] * 20, [4.0, 4.5] * 20, bounds=None, margin=0.1)])
    assert (numbers.method, numbers.rows_needed) == ("t", 453)


def test_holm_is_over_all_metrics_and_runs_but_facts() -> None:
    """Of three tests; the interval of each stays its own."""
    family = [counted(30, 15, 200), counted(30, 16, 200), counted(20, 20, 200), counted(1, 9, 20, fact=True)]
    found = judge(family)
    assert [one.p_adjusted for one in found[:3]] == pytest.approx(holm([one.p or 0 for one in found[:3]]))
    assert found[3].p_adjusted is None
    alone = judge(family[:1])[0]
    assert (alone.ci_low, alone.ci_high, alone.p) == (found[0].ci_low, found[0].ci_high, found[0].p)
    assert (alone.verdict, found[0].verdict) == ("better", "not worse by more than δ")


values = st.one_of(
    st.lists(st.sampled_from([0.0, 1.0, None]), min_size=1, max_size=80),
    st.lists(st.one_of(st.none(), st.integers(0, 100).map(lambda v: v / 100)), min_size=1, max_size=80),
)
metric = st.tuples(
    values,
    st.integers(0, 2**31),
    st.sampled_from([0.0, 0.1, 0.4]),
    st.booleans(),
    st.sampled_from([None, 0.02, 0.1]),
    st.booleans(),
)


def made(
    base: Sequence[float | None], seed: int, moved: float, higher: bool, margin: float | None, bounded: bool
) -> PairedData:
    """A second run in which some values move up, some are another row's, and some are missing."""
    choose = random.Random(seed)
    binary = all(v in (0.0, 1.0, None) for v in base)
    other = [
        None if choose.random() < 0.05 else choose.choice(base) if choose.random() < 0.3 else v for v in base
    ]
    other = [
        v if v is None or choose.random() > moved else 1.0 if binary else min(1.0, v + 0.3) for v in other
    ]
    bounds = (0.0, 1.0) if bounded else None
    return paired_data(base, other, bounds=bounds, higher_is_better=higher, margin=margin)


@over(st.lists(metric, min_size=1, max_size=4), examples=150)
def test_a_verdict_its_interval_and_its_p_never_contradict_each_other(family: list[tuple]) -> None:  # type: ignore[type-arg]
    """Over pass/fail and numbers, bounded and not, with and without margins and missing scores."""
    data = [made(*one) for one in family]
    for one, found in zip(data, judge(data), strict=True):
        up = (found.difference or 0) * (1 if one.higher_is_better else -1)
        assert found.wins + found.losses + found.ties == found.n
        if found.p is None:
            assert found.verdict == "too few cases"
            continue
        assert found.ci_low is not None and found.ci_high is not None and found.p_adjusted is not None
        assert found.ci_low <= found.ci_high
        inside = found.ci_low < 0 < found.ci_high
        assert not inside if found.p <= 0.05 else found.ci_low <= 0 <= found.ci_high
        assert found.p_adjusted >= found.p
        if found.verdict in ("better", "worse"):
            assert found.p_adjusted <= 0.05 and (up > 0) == (found.verdict == "better")
            assert found.worst_low is None or not found.worst_low <= 0 <= found.worst_high  # type: ignore[operator]
        elif found.verdict not in ("too few cases", "depends on missing scores"):
            assert found.p_adjusted > 0.05 or found.difference == 0
        low, high = (found.ci_low, found.ci_high) if one.higher_is_better else (-found.ci_high, -found.ci_low)
        if found.verdict == "the same within δ":
            assert found.margin is not None and -found.margin < low and high < found.margin
        if found.verdict == "not worse by more than δ":
            assert found.margin is not None and low > -found.margin


def test_mid_p_never_rejects_where_tangos_interval_includes_0() -> None:
    """Every count of up to 60 discordant pairs."""
    for b in range(61):
        for c in range(b, 61 - b):
            (found,) = judge([counted(b, c, 61)])
            assert found.p is not None and (found.p <= 0.05) == (not found.ci_low <= 0 <= found.ci_high)  # type: ignore[operator]


def test_pairs_of_different_rows_are_refused() -> None:
    """Both need a value, or None, for each row."""
    with pytest.raises(ValueError, match="got 1 and 2"):
        paired_data([1.0], [1.0, 0.0])
