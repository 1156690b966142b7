"""A judge that likes one run's style: what it says of two runs that are equally good, and what labels make of
it."""

from __future__ import annotations

import random
from collections.abc import Iterator

from promptlab.domain.experiment import Metric
from promptlab.domain.labels import CaseLabel
from promptlab.domain.results import CaseKey
from promptlab.labelling.correcting import corrected_difference
from promptlab.labelling.people import Counted
from promptlab.statistics import judge, paired_data

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


def false_differences_table(repetitions: int = 1_000) -> Iterator[tuple[str, ...]]:
    """No true difference, TPR .8 and TNR .8 on A, .9 and .7 on B."""
    yield "rows", "labels", "the judge says different", "corrected says different"
    for rows, labelled in ((300, 50), (300, 100), (1_000, 100)):
        alone, corrected = false_differences(repetitions, rows, labelled)
        yield f"{rows:,}", str(labelled), f"{alone:.1%}", f"{corrected:.1%}"
