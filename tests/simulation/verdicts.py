"""False positives of the verdict as shipped: the whole of `judge`, over runs that do not differ."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from scipy import stats

from promptlab.statistics import PairedData, e_value, judge, mcnemar, obrien_fleming
from promptlab.statistics.sequential import Sequential
from promptlab.statistics.verdicts import paired_data
from tests.simulation.coverage import f1_like, percent
from tests.simulation.families import Kind, families, over_clusters

Table = Iterator[tuple[str, ...]]
DIFFERENT = ("better", "worse")


def mid_p_table(sizes: tuple[int, ...] = (20, 50, 100, 200, 1000)) -> Table:
    """False *better* or *worse* of one pass/fail metric, exactly, with the rule of five discordant pairs."""
    yield ("n", "ψ .02", ".05", ".1", ".2", ".3", ".5")
    for n in sizes:
        critical = list[int]()
        for d in range(n + 1):
            k = critical[-1] if critical else -1
            while 2 * (k + 1) < d and d >= 5 and mcnemar(k + 1, d - k - 1).mid_p <= 0.05:
                k += 1
            critical.append(k)
        size = 2 * stats.binom.cdf(critical, np.arange(n + 1), 0.5)
        shares = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
        yield (f"{n:,}", *(percent(stats.binom.pmf(np.arange(n + 1), n, p) @ size) for p in shares))


def false_positives_table(
    repetitions: int = 10_000, n: int = 100, sizes: tuple[int, ...] = (1, 2, 5, 10)
) -> Table:
    """At least one *better* or *worse* among m metrics of runs that do not differ, 100 rows."""
    kinds: tuple[tuple[Kind, float], ...] = (
        ("plain", 0.0),
        ("plain", 0.7),
        ("trials", 0.0),
        ("clusters of 5", 0.0),
        ("clusters of 2 to 18", 0.0),
        ("missing", 0.0),
    )
    yield (
        "metrics",
        *("pass/fail", "pass/fail, correlated", "3 trials", "clusters of 5", "clusters of 2 to 18"),
        "3% missing",
    )
    for m in sizes:
        row = []
        for kind, alike in kinds:
            random = np.random.default_rng(16)
            false = sum(
                any(one.verdict in DIFFERENT for one in judge(family))
                for family in families(random, repetitions, n, m, alike, kind)
            )
            row.append(percent(false / repetitions))
        yield (f"{m}", *row)


def stopping_table(repetitions: int = 10_000) -> Table:
    """Ten waves with O'Brien–Fleming at 4%, the e-process at M ≥ 100 after each pair: shown (calls)."""
    yield ("n, ψ", "δ = 0", ".05", ".10", ".20")
    bounds = obrien_fleming(10, 0.04)
    for n, psi in ((200, 0.2), (500, 0.2), (1319, 0.27)):
        row = []
        for delta in (0.0, 0.05, 0.1, 0.2):
            random = np.random.default_rng(17)
            ends = [stopped(random, n, psi, delta, bounds) for _ in range(repetitions)]
            share = np.mean([shown for shown, _ in ends])
            row.append(f"{percent(share)} ({np.mean([calls for _, calls in ends]):,.0f})")
        yield (f"{n:,}, {psi:g}", *row)


_NEEDED: dict[int, int] = {}


def needed(discordant: int) -> int:
    """The least max(b, c) of so many discordant pairs with M ≥ 100; beyond them where there is none."""
    if discordant not in _NEEDED:
        k = (discordant + 1) // 2
        while k <= discordant and e_value(k, discordant - k) < 100:
            k += 1
        _NEEDED[discordant] = k
    return _NEEDED[discordant]


def stopped(
    random: np.random.Generator, n: int, psi: float, delta: float, bounds: list[float]
) -> tuple[bool, int]:
    """Whether a difference was shown, and after how many calls."""
    u = random.random(n)
    up, down = u < (psi + delta) / 2, (u >= (psi + delta) / 2) & (u < psi)
    b, c = np.cumsum(up), np.cumsum(down)
    places = np.flatnonzero(up | down)
    least = np.array([needed(d) for d in range(1, len(places) + 1)])
    hit = np.flatnonzero(np.maximum(b[places], c[places]) >= least)
    at = int(places[hit[0]]) + 1 if len(hit) else n + 1
    for k, bound in enumerate(bounds):
        size = round(n * (k + 1) / len(bounds))
        if at <= size:
            return True, at
        up_to, down_to = int(b[size - 1]), int(c[size - 1])
        if up_to + down_to and abs(up_to - down_to) / math.sqrt(up_to + down_to) >= bound:
            return True, size
    return False, n


def not_worse_table(repetitions: int = 10_000, sizes: tuple[int, ...] = (50, 200)) -> Table:
    """*Not worse*, *the same* or *better* of one metric whose true loss is δ (.05), in %; exact of pass/fail
    in the table of Tango."""
    yield ("data", *(f"n = {n}" for n in sizes))
    for kind in ("pass/fail", "F1-like", "3 trials", "clusters of 5", "3% missing"):
        row = []
        for n in sizes:
            random = np.random.default_rng(20)
            false = sum(
                judge([worse_by(random, n, kind, 0.05)])[0].verdict in PASSING for _ in range(repetitions)
            )
            row.append(percent(false / repetitions))
        yield (kind, *row)


PASSING = ("better", "the same within δ", "not worse by more than δ")


def worse_by(random: np.random.Generator, n: int, kind: str, delta: float) -> PairedData:
    """One metric of two runs, the other of which is worse by δ in the mean of its population."""
    if kind == "F1-like":
        base, fresh, u = f1_like(random, 1, n)[0], f1_like(random, 1, n)[0], random.random(n)
        lost = delta / 0.55  # its mean: so many answers are worth nothing now, a fifth are others
        other = np.where(u < lost, 0.0, np.where(u < lost + 0.2, fresh, base))
        return paired_data(base.tolist(), other.tolist(), margin=delta)
    rate = np.repeat(random.beta(2, 1, n // 5), 5) if kind == "clusters of 5" else random.beta(2, 1, n)
    lower = rate * (1 - delta / (2 / 3))
    if kind == "3 trials":
        base, other = random.binomial(3, rate) / 3, random.binomial(3, lower) / 3
    else:
        u, own = random.random((2, n))
        base, other = (
            (u < rate).astype(float),
            (np.where(own < 0.6, u, own / 0.4 - 1.5) < lower).astype(float),
        )
    one, two = base.tolist(), other.tolist()
    if kind == "3% missing":
        gone = random.random((2, n)) < 0.015
        one = [None if g else v for v, g in zip(one, gone[0].tolist(), strict=True)]
        two = [None if g else v for v, g in zip(two, gone[1].tolist(), strict=True)]
    data = paired_data(one, two, margin=delta)
    if kind == "clusters of 5":
        return over_clusters(base[None], other[None], [data], (5,) * (n // 5))[0]
    return data


SEQUENCES = ("pass/fail", "3% missing", "F1-like", "3 trials")


def sequential_table(repetitions: int = 10_000, n: int = 200, delta: float = 0.1) -> Table:
    """The rule as a whole, case by case, 200 rows in ten waves: what it decides where nothing is to be
    decided, and how often it calls two runs the same that differ by δ, in %."""
    yield ("data", "no difference: better or worse", "the same, of runs δ = .1 apart", "no difference: calls")
    for kind in SEQUENCES:
        random = np.random.default_rng(21)
        wrong = same = calls = 0
        for _ in range(repetitions):
            found = run_of(random, n, kind, 0.0, None)
            wrong += found.decided is not None
            calls += found.decided.n if found.decided else n
            apart = run_of(random, n, kind, delta, delta).decided
            same += apart is not None and apart.verdict == "the same within δ"
        yield kind, percent(wrong / repetitions), percent(same / repetitions), f"{calls / repetitions:.0f}"


def run_of(random: np.random.Generator, n: int, kind: str, delta: float, margin: float | None) -> Sequential:
    """A run that is worse by δ, judged after each of its cases."""
    u, own = random.random((2, n))
    rule = Sequential(n, margin=margin, span=None if kind == "pass/fail" else 1.0)
    if kind == "F1-like":
        base, fresh = f1_like(random, 1, n)[0], f1_like(random, 1, n)[0]
        lost = delta / 0.55
        d = np.where(u < lost, 0.0, np.where(u < lost + 0.2, fresh, base)) - base
    elif kind == "3 trials":
        rate = random.beta(2, 1, n)
        d = (random.binomial(3, rate * (1 - 1.5 * delta)) - random.binomial(3, rate)) / 3
    else:
        before = np.where(u < 0.7, own, u / 0.3 - 7 / 3)  # seven rows in ten are as hard for both
        d = (own < 0.7 - delta).astype(float) - (before < 0.7).astype(float)
    found: list[float | None] = d.tolist()
    if kind == "3% missing":
        gone = random.random(n) < np.where(d < 0, 0.06, 0.02)
        found = [None if g else v for v, g in zip(found, gone.tolist(), strict=True)]
    rule.add(found)
    return rule
