"""Metrics of two runs that do not differ, many comparisons at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np

from promptlab.statistics import Clusters, PairedData, clustered

Kind = Literal["plain", "trials", "clusters of 5", "clusters of 2 to 18", "missing"]
CLUSTERS: dict[Kind, tuple[int, ...]] = {
    "clusters of 5": (5,) * 20,
    "clusters of 2 to 18": (2, 2, 3, 4, 5, 7, 8, 10, 12, 13, 16, 18),
}
"""The rows of each cluster, 100 in all."""
LEANS = 0.3
"""The share of a cluster's rows that come out as the cluster does, in one run by itself."""
_AT_ONCE = 200


def families(
    random: np.random.Generator, repetitions: int, n: int, m: int, alike: float, kind: Kind
) -> Iterator[list[PairedData]]:
    """Draw m metrics of two runs that do not differ, each row as hard for both; `alike` is the share of rows
    on which all metrics agree."""
    for began in range(0, repetitions, _AT_ONCE):
        many = min(_AT_ONCE, repetitions - began)
        base, other = _drawn(random, (many, m, n), alike, kind)
        if kind == "missing":  # 3% of either, more often where it fails
            base, other = (_with_gaps(random, values) for values in (base, other))
        flat = [values.reshape(-1, n) for values in (base, other)]
        found = data_of(*flat, kind="bounded" if kind == "trials" else "binary")
        if kind in CLUSTERS:
            found = over_clusters(*flat, found, CLUSTERS[kind])
        for k in range(many):
            yield found[k * m : (k + 1) * m]


def _drawn(
    random: np.random.Generator, shape: tuple[int, int, int], alike: float, kind: Kind
) -> tuple[np.ndarray, np.ndarray]:
    hard = random.beta(0.5, 0.5, shape)
    if kind == "trials":
        return random.binomial(3, hard) / 3, random.binomial(3, hard) / 3
    agree = random.random(shape) < alike
    made = []
    for _ in range(2):
        common = random.random((shape[0], 1, shape[2]))
        u = np.where(agree, common, random.random(shape))
        if kind in CLUSTERS:
            sizes = CLUSTERS[kind]
            shared = np.repeat(random.random((*shape[:2], len(sizes))), sizes, axis=2)
            u = np.where(random.random(shape) < LEANS, shared, u)
        made.append((u < hard).astype(float))
    return made[0], made[1]


def _with_gaps(random: np.random.Generator, values: np.ndarray) -> np.ndarray:
    return np.where(random.random(values.shape) < np.where(values == 0, 0.05, 0.01), np.nan, values)


def data_of(
    base: np.ndarray, other: np.ndarray, *, kind: Literal["binary", "bounded"], margin: float | None = None
) -> list[PairedData]:
    """Sum up pairs of values from 0 to 1, a metric in each row, as `paired_data` does; without a value where
    there is no number."""
    gone = np.isnan(base), np.isnan(other)
    both = ~(gone[0] | gone[1])
    n = both.sum(1)
    d = np.where(both, other - base, 0.0)
    mean = d.sum(1) / n
    deviation = np.sqrt((np.where(both, d - mean[:, None], 0.0) ** 2).sum(1) / (n - 1))
    least = (np.where(gone[1], 0.0, other) - np.where(gone[0], 1.0, base)).mean(1)
    most = (np.where(gone[1], 1.0, other) - np.where(gone[0], 0.0, base)).mean(1)
    columns = (
        n,
        *(np.where(both, values, 0.0).sum(1) / n for values in (base, other)),
        *(mean, deviation, (d > 0).sum(1), (d < 0).sum(1), gone[0].sum(1), gone[1].sum(1), least, most),
    )
    return [
        PairedData(
            n=rows,
            kind=kind,
            base_mean=one,
            other_mean=two,
            difference=difference,
            deviation=spread,
            rose=rose,
            fell=fell,
            bounds=(0.0, 1.0),
            missing_base=lost,
            missing_other=lost_too,
            extremes=(low, high) if lost or lost_too else None,
            margin=margin,
        )
        for rows, one, two, difference, spread, rose, fell, lost, lost_too, low, high in zip(
            *(column.tolist() for column in columns), strict=True
        )
    ]


def over_clusters(
    base: np.ndarray, other: np.ndarray, data: list[PairedData], sizes: tuple[int, ...]
) -> list[PairedData]:
    """Add the standard errors over clusters of so many rows, one after the other."""
    sums = np.add.reduceat(other - base, np.cumsum((0, *sizes[:-1])), axis=1)
    made = []
    for one, row in zip(data, sums.tolist(), strict=True):
        found = clustered(dict(enumerate(zip(row, sizes, strict=True))))
        made.append(replace(one, clusters=Clusters(found.clusters, found.stderr, found.method, found.df)))
    return made
