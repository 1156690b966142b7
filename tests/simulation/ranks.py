"""Rankings of sweeps, and metrics of a run as a whole, whose intervals are bootstraps."""

from __future__ import annotations

import numpy as np
from scipy import stats

from promptlab.evaluators.classification import Classification
from promptlab.evaluators.of_runs import RunCase
from promptlab.statistics import (
    RESAMPLES,
    PairedData,
    Ranked,
    bootstrap,
    judge,
    median_interval,
    paired_bootstrap,
)
from tests.simulation.coverage import Table, percent

SWEEPS = ((3, 100), (5, 100), (5, 400), (10, 400))
"""Runs and rows."""
STEP = 0.02
"""How much better each run is than the next one, where they differ: the best one is right in 80% of rows."""


def shares_of(random: np.random.Generator, runs: int, rows: int, step: float) -> np.ndarray:
    """Pass or fail of runs over the same rows: a row is as hard for all, so that half of it is shared."""
    common, own = random.random(rows), random.random((runs, rows))
    u = np.where(random.random(rows) < 0.5, common, own)
    rates = 0.8 - step * np.arange(runs)
    return (u < rates[:, None]).astype(float)


def ranks_of(random: np.random.Generator, values: np.ndarray) -> list[Ranked]:
    """What `bootstrap_ranks` makes of these runs, by numpy, which is fast enough to be repeated 10,000 times.
    Rows that are alike are drawn together."""
    runs, rows = values.shape
    places = 1 << np.arange(runs)
    alike, counts = np.unique(places @ values.astype(int), return_counts=True)
    passed = (alike[:, None] & places) > 0
    means = random.multinomial(rows, counts / rows, size=RESAMPLES) @ passed / rows
    above = means[:, None, :] - means[:, :, None] > 1e-12
    low, tied = 1 + above.sum(2), (~above & ~above.transpose(0, 2, 1)).sum(2)
    best = ((low == 1) / tied).mean(0)
    ends = np.sort(low, 0)[25], np.sort(low + tied - 1, 0)[-26]
    return [Ranked(float(p), int(a), int(b)) for p, a, b in zip(best, *ends, strict=True)]


def ranking_table(repetitions: int = 10_000, sweeps: tuple[tuple[int, int], ...] = SWEEPS) -> Table:
    """Rank intervals, P(best) and verdicts against the leader, of runs .02 apart and of equal ones."""
    yield (
        "runs, rows",
        "rank interval holds the true rank",
        "P(best) ≥ 95%: how often, and how often it is the best",
        "called worse than the leader: how often is it",
        "equal runs: P(best) ≥ 95%",
        "equal runs: some is worse than the leader",
    )
    for runs, rows in sweeps:
        random = np.random.default_rng(18)
        held = sure = right = called = truly = equal_sure = equal_worse = 0
        for _ in range(repetitions):
            values = shares_of(random, runs, rows, STEP)
            ranked = ranks_of(random, values)
            held += sum(one.low <= place + 1 <= one.high for place, one in enumerate(ranked))
            best = int(np.argmax([one.p_best for one in ranked]))
            if ranked[best].p_best >= 0.95:
                sure, right = sure + 1, right + (best == 0)
            leader, worse = behind(values)
            called, truly = called + len(worse), truly + sum(n > leader for n in worse)
            equal = shares_of(random, runs, rows, 0.0)
            equal_sure += any(one.p_best >= 0.95 for one in ranks_of(random, equal))
            equal_worse += bool(behind(equal)[1])
        yield (
            f"{runs}, {rows}",
            percent(held / repetitions / runs),
            f"{percent(sure / repetitions)}, {percent(right / max(sure, 1))}",
            percent(truly / max(called, 1)),
            percent(equal_sure / repetitions),
            percent(equal_worse / repetitions),
        )


def behind(values: np.ndarray) -> tuple[int, list[int]]:
    """The run with the best mean, and those that are called worse than it, over all pairs."""
    leader, runs = int(values.mean(1).argmax()), len(values)
    others = [n for n in range(runs) if n != leader]
    found = judge([_pair(values[leader], values[n]) for n in others], tests=runs * (runs - 1) // 2)
    return leader, [n for n, one in zip(others, found, strict=True) if one.verdict == "worse"]


def _pair(base: np.ndarray, other: np.ndarray) -> PairedData:
    d = other - base
    return PairedData(
        n=len(d),
        kind="binary",
        base_mean=float(base.mean()),
        other_mean=float(other.mean()),
        difference=float(d.mean()),
        deviation=float(d.std(ddof=1)),
        rose=int((d > 0).sum()),
        fell=int((d < 0).sum()),
        bounds=(0.0, 1.0),
    )


LABELS = ("a", "b", "c")
PRIORS = np.array([0.6, 0.3, 0.1])
CONFUSION = np.array([[0.85, 0.1, 0.05], [0.2, 0.7, 0.1], [0.25, 0.25, 0.5]])
"""How often a row of each label is answered with each label."""
SHOWN = ("accuracy", "balanced_accuracy", "f1_macro", "kappa", "mcc")


def run_metrics_table(repetitions: int = 1_000, sizes: tuple[int, ...] = (50, 200)) -> Table:
    """Bootstrap intervals of a confusion matrix with three labels, and of differences of two such runs."""
    yield ("score", *(f"n = {n}" for n in sizes), *(f"difference, n = {n}" for n in sizes))
    metric = Classification(labels=list(LABELS))
    truth = _values(metric, PRIORS[:, None] * CONFUSION)
    hits = {(name, n, of): 0 for name in SHOWN for n in sizes for of in ("mean", "difference")}
    for n in sizes:
        random = np.random.default_rng(19)
        for _ in range(repetitions):
            labels = random.choice(3, size=n, p=PRIORS)
            one, two = (_answers(random, labels) for _ in range(2))
            units = [[_unit(metric, t, a) for t, a in zip(labels, said, strict=True)] for said in (one, two)]
            for name, found in bootstrap(units[0], metric.values).items():
                if name in SHOWN:
                    hits[name, n, "mean"] += found.interval.low <= truth[name] <= found.interval.high
            pairs = list(zip(*units, strict=True))
            for name, found in paired_bootstrap(pairs, metric.values).items():
                if name in SHOWN:
                    hits[name, n, "difference"] += found.interval.low <= 0 <= found.interval.high
    for name in SHOWN:
        shares = [hits[name, n, of] / repetitions for of in ("mean", "difference") for n in sizes]
        yield (name, *map(percent, shares))


def _answers(random: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    ends = CONFUSION.cumsum(1)[labels]
    return (random.random(len(labels))[:, None] > ends).sum(1)


def _unit(metric: Classification, truth: int, answer: int) -> dict[str, float]:
    case = RunCase({"reference": LABELS[truth], "response": LABELS[min(answer, 2)]})
    # As a summary keeps them: without what is only shown.
    return {name: one for name, one in metric.counts(case).items() if not name.startswith(".")}


def _values(metric: Classification, shares: np.ndarray) -> dict[str, float]:
    """The scores of the whole population."""
    total: dict[str, float] = {}
    for truth in range(3):
        for answer in range(3):
            for name, one in _unit(metric, truth, answer).items():
                total[name] = total.get(name, 0.0) + one * float(shares[truth, answer])
    return {name: value for name, value in metric.values(total).items() if value is not None}


def medians_table(sizes: tuple[int, ...] = (6, 10, 20, 50, 100)) -> Table:
    """The order-statistic interval of a median, exactly: of any continuous data."""
    yield ("n", "covered")
    for n in sizes:
        places = median_interval([float(k) for k in range(1, n + 1)])
        assert places is not None
        low, high = round(places.low), round(places.high)
        yield f"{n}", percent(stats.binom.cdf(high - 1, n, 0.5) - stats.binom.cdf(low - 1, n, 0.5))
