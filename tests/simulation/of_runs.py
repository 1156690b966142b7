"""Metrics of a run as a whole, whose intervals are bootstraps."""

from __future__ import annotations

import math

import numpy as np

from promptlab.evaluators.classification import Classification
from promptlab.evaluators.of_runs import RunCase
from promptlab.statistics import RESAMPLES, Interval
from promptlab.statistics.bootstrap import corrected_interval
from tests.simulation.coverage import Table, percent

LABELS = ("a", "b", "c")
PRIORS = np.array([0.6, 0.3, 0.1])
CONFUSION = np.array([[0.85, 0.1, 0.05], [0.2, 0.7, 0.1], [0.25, 0.25, 0.5]])
"""How often a row of each label is answered with each label."""
SHOWN = ("accuracy", "balanced_accuracy", "f1_macro", "kappa", "mcc")


def run_metrics_table(repetitions: int = 10_000, sizes: tuple[int, ...] = (50, 200)) -> Table:
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
            joint = np.bincount(labels * 9 + one * 3 + two, minlength=27).reshape(3, 3, 3)
            drawn = random.multinomial(n, joint.ravel() / n, size=RESAMPLES).reshape(-1, 3, 3, 3)
            first, second = (scores(np.concatenate([joint[None], drawn]).sum(axis)) for axis in (3, 2))
            for name in SHOWN:
                for of, found, wanted in (
                    ("mean", first[name], truth[name]),
                    ("difference", second[name] - first[name], 0.0),
                ):
                    ends = interval_of(found, n)
                    hits[name, n, of] += ends is not None and ends.low <= wanted <= ends.high
    for name in SHOWN:
        shares = [hits[name, n, of] / repetitions for of in ("mean", "difference") for n in sizes]
        yield (name, *map(percent, shares))


def interval_of(values: np.ndarray, rows: int) -> Interval | None:
    """What `bootstrap` makes of an estimate over so many rows, the first one, and of its resamples."""
    known = values[1:][~np.isnan(values[1:])].tolist()
    if math.isnan(values[0]) or len(known) < 0.95 * RESAMPLES:
        return None
    return corrected_interval(float(values[0]), known, rows)


def scores(counts: np.ndarray) -> dict[str, np.ndarray]:
    """The scores that `Classification` gives of matrices of label and answer, by numpy, which is fast enough
    to be repeated 10,000 times; not a number where it gives none."""
    n = counts.sum((1, 2)).astype(float)
    truth, said, right = counts.sum(2), counts.sum(1), np.diagonal(counts, axis1=1, axis2=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        recall, precision = (np.where(of > 0, right / of, 0.0) for of in (truth, said))
        f1 = np.where(right > 0, 2 * precision * recall / (precision + recall), 0.0)
        there, known = truth > 0, (truth > 0) | (said > 0)
        agreed, products = right.sum(1) / n, (truth * said).sum(1)
        chance = products / n**2
        spread = (n**2 - (said**2).sum(1)) * (n**2 - (truth**2).sum(1))
        return {
            "accuracy": agreed,
            "balanced_accuracy": (recall * there).sum(1) / there.sum(1),
            "f1_macro": (f1 * known).sum(1) / known.sum(1),
            "kappa": np.where(chance < 1, (agreed - chance) / (1 - chance), np.nan),
            "mcc": np.where(spread > 0, (agreed * n**2 - products) / np.sqrt(spread), np.nan),
        }


def _answers(random: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    ends = CONFUSION.cumsum(1)[labels]
    return np.minimum((random.random(len(labels))[:, None] > ends).sum(1), 2)


def unit(metric: Classification, truth: int, answer: int) -> dict[str, float]:
    case = RunCase({"reference": LABELS[truth], "response": LABELS[answer]})
    # As a summary keeps them: without what is only shown.
    return {name: one for name, one in metric.counts(case).items() if not name.startswith(".")}


def _values(metric: Classification, shares: np.ndarray) -> dict[str, float]:
    """The scores of the whole population."""
    total: dict[str, float] = {}
    for truth in range(3):
        for answer in range(3):
            for name, one in unit(metric, truth, answer).items():
                total[name] = total.get(name, 0.0) + one * float(shares[truth, answer])
    return {name: value for name, value in metric.values(total).items() if value is not None}
