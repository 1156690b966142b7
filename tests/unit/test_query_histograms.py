"""Edges of histograms."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from promptlab import Dataset, Evaluator, PromptTemplate
from promptlab.queries.histograms import nice_edges
from promptlab.store_lab import StoreLab


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
        (1 - 2**-52, 1.0),  # steps below the precision of the values
        (0.1234567890126, 0.1234567890134),
        (0.1234567890127, 0.1234567890128),
        (1e15 + 0.125, 1e15 + 0.25),
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


@pytest.mark.parametrize("size", [1.0, 1e-7, 1e-13, 1e-300, 1e250])
def test_the_smallest_of_values_have_bins_as_others_do(size: float) -> None:
    """A millionth of a cent a call is a cost."""
    edges = nice_edges(1.1 * size, 1.9 * size, 20)
    assert len(edges) == len(nice_edges(1.1, 1.9, 20)) > 10
    assert edges[3] / size == pytest.approx(nice_edges(1.1, 1.9, 20)[3])


def test_a_highest_value_on_an_edge_has_no_bin_of_its_own() -> None:
    """The last bin includes its upper edge: a further one would hold that value only."""
    assert nice_edges(0.0, 10.0, 10) == [float(n) for n in range(11)]


def test_a_high_value_that_is_not_far_off_does_not_widen_the_last_bin() -> None:
    """All bins are of one width then."""
    edges = nice_edges(0.5, 100.5, 20, tail=90.0)
    assert {round(high - low, 9) for low, high in pairwise(edges)} == {5.0}
    assert edges[-1] >= 100.5


@pytest.mark.parametrize("most", [1.0, 12.0])
async def test_the_highest_value_is_in_the_last_bin(tmp_path: Path, most: float) -> None:
    """Every value is in a bin, also one that is the last edge itself."""

    class Share(Evaluator):
        """A tenth of the most, two tenths, …, the most."""

        inputs = {"n": "n"}

        def evaluate(self, data: dict[str, Any]) -> float:
            return most * (int(data["n"]) + 1) / 10

    lab = StoreLab.open({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    run = await lab.run(
        {
            "name": "shares",
            "prompt_template": PromptTemplate(name="p", user_prompt="<n>"),
            "dataset": Dataset(name="d", rows=[{"n": n} for n in range(10)]),
            "model": "simulated/echo",
            "evaluation": [{"metric": "share", "evaluator": Share(), "column_mapping": {"n": "n"}}],
        }
    )
    found = await (await lab.results_of(run)).histogram("score.share")
    assert (found.count, found.missing) == (10, 0)
    assert found.bins[-1].high == most and found.bins[-1].count > 0
    assert sum(bin.count for bin in found.bins) == 10
    await lab.close()
