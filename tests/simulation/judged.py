"""A judge that likes one run's style: what it says of two runs that are equally good, and what labels make of
it."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np

from promptlab.domain.experiment import Metric
from promptlab.domain.labels import CaseLabel
from promptlab.domain.results import CaseKey
from promptlab.labelling.correcting import corrected_difference
from promptlab.labelling.people import Counted
from promptlab.statistics import Moments, judge, paired_data, ppi_difference
from tests.simulation.coverage import percent
from tests.simulation.families import data_of

METRIC = Metric(name="rubric", metric="rubric", column_mapping={})
RATES = ((0.8, 0.8), (0.9, 0.7))
"""TPR and TNR of the judge on the answers of A, and of B."""


def one(seed: int, rows: int, labelled: int, good: float = 0.7) -> tuple[bool, bool]:
    """Simulate two runs without a true difference: whether the judge says that they differ, and whether the
    corrected comparison does."""
    rng = random.Random(seed)
    hard = [rng.random() < good for _ in range(rows)]
    # Rows are easy or hard for both: half of them come out alike.
    truths = [[is_easy if rng.random() < 0.5 else rng.random() < good for is_easy in hard] for _ in RATES]
    judged = [
        [rng.random() < tpr if truth else rng.random() >= tnr for truth in said]
        for said, (tpr, tnr) in zip(truths, RATES, strict=True)
    ]
    (alone,) = judge([paired_data(*[[float(v) for v in values] for values in judged])])
    chosen = rng.sample(range(rows), labelled)
    corrected = corrected_difference(
        METRIC,
        [{CaseKey(n, 0): float(value) for n, value in enumerate(values)} for values in judged],
        [
            Counted([CaseLabel(case=n, passed=said[n], rater="p", random=True) for n in chosen], False, True)
            for said in truths
        ],
    )
    assert corrected is not None
    return alone.verdict in ("better", "worse"), corrected.verdict in ("better", "worse")


def false_differences(seeds: int, rows: int = 1_000, labelled: int = 100) -> tuple[float, float]:
    """The shares of seeds in which the judge, and the corrected comparison, say that the runs differ."""
    found = [one(seed, rows, labelled) for seed in range(seeds)]
    return sum(a for a, _ in found) / seeds, sum(b for _, b in found) / seeds


def many(
    random: np.random.Generator, repetitions: int, rows: int, labelled: int, good: float = 0.7
) -> tuple[float, float]:
    """The same shares, by numpy, with the labels of the first rows, which are as random as any."""
    easy = random.random((repetitions, rows)) < good
    truths, judged = [], []
    for tpr, tnr in RATES:
        own = random.random((repetitions, rows)) < good
        truth = np.where(random.random((repetitions, rows)) < 0.5, easy, own)
        passes = random.random((repetitions, rows)) < np.where(truth, tpr, 1 - tnr)
        truths.append(truth.astype(float))
        judged.append(passes.astype(float))
    alone = sum(judge([one])[0].verdict in ("better", "worse") for one in data_of(*judged, kind="binary"))
    apart = judged[1] - judged[0]
    labels = (truths[1] - truths[0])[:, :labelled].tolist()
    proven = 0
    for of_people, too, rest in zip(labels, apart[:, :labelled].tolist(), apart[:, labelled:], strict=True):
        moments = Moments(len(rest), float(rest.mean()), float(((rest - rest.mean()) ** 2).sum()))
        found = ppi_difference(moments, of_people, too)
        proven += not found.low <= 0 <= found.high
    return alone / repetitions, proven / repetitions


def false_differences_table(repetitions: int = 100_000) -> Iterator[tuple[str, ...]]:
    """No true difference, TPR .8 and TNR .8 on A, .9 and .7 on B."""
    yield "rows", "labels", "the judge says different", "corrected says different"
    for rows, labelled in ((300, 50), (300, 100), (1_000, 100)):
        generator = np.random.default_rng(24)
        parts = [min(500, repetitions - began) for began in range(0, repetitions, 500)]
        found = [many(generator, part, rows, labelled) for part in parts]
        shares = [
            sum(one[k] * part for one, part in zip(found, parts, strict=True)) / repetitions for k in (0, 1)
        ]
        yield f"{rows:,}", str(labelled), *map(percent, shares)
