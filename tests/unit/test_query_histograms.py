"""Edges of histograms."""

from __future__ import annotations

import math

import pytest

from promptlab.queries.histograms import nice_edges


def test_shares_have_edges_of_the_whole_unit() -> None:
    """Values in [0, 1] are shown on [0, 1], so that two runs look alike."""
    assert nice_edges(0.31, 0.42, 20) == [n / 20 for n in range(21)]
    assert nice_edges(0, 1, 20, binary=True) == [0.0, 0.5, 1.0]


def test_whole_numbers_have_a_bin_each_where_they_are_few() -> None:
    """Ratings of 1 to 5 are five bins."""
    assert nice_edges(1, 5, 20, whole=True) == [1, 2, 3, 4, 5, 6]


def test_outliers_share_the_last_bin() -> None:
    """One answer of an hour does not make the others one bar."""
    edges = nice_edges(103, 3_600_000, 20, tail=1_980)
    assert edges[:3] == [100, 200, 300]
    assert edges[-2:] == [1_900, 3_600_000]


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (-3.2, 7.7),
        (0, 1e-9),
        (5, 5),
        (-1, -1),
        (0, 0),
        (1e15, 1e15 + 1),
        (-1e308, 1e308),
        (0.1, 0.3),
        (99, 101),
        (1e-320, 5e-320),
        (-math.pi, 1e6),
    ],
)
@pytest.mark.parametrize("whole", [False, True])
def test_edges_rise_and_hold_every_value(low: float, high: float, whole: bool) -> None:
    """Whatever the numbers, edges are rising, finite and not too many, and no value is outside."""
    edges = nice_edges(low, high, 20, whole=whole, tail=high)
    assert edges == sorted(set(edges))
    assert 2 <= len(edges) <= 24
    assert edges[0] <= low
    assert edges[-1] >= high
    assert all(map(math.isfinite, edges))
