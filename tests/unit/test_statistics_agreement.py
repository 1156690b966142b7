"""Agreement of raters: published values."""

from __future__ import annotations

import math

import pytest

from promptlab.statistics import (
    Moments,
    Table,
    kappa,
    krippendorff,
    labels_needed,
    length_slope,
    ppi_difference,
)

# Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), the example of four observers.
EXAMPLE: list[list[float | str]] = [
    [1, 1, 1],
    [2, 2, 3, 2],
    [3, 3, 3, 3],
    [3, 3, 3, 3],
    [2, 2, 2, 2],
    [1, 2, 3, 4],
    [4, 4, 4, 4],
    [1, 1, 2, 1],
    [2, 2, 2, 2],
    [5, 5, 5],
    [1, 1],
    [3],
]


def test_alpha_is_krippendorffs() -> None:
    """.743 of labels and .849 of numbers; none where nobody differs."""
    assert krippendorff(EXAMPLE) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff(EXAMPLE, "interval") == pytest.approx(0.849, abs=5e-4)
    assert krippendorff([[1, 1], [1, 1]]) is None and krippendorff([[1]]) is None


@pytest.mark.parametrize(
    ("rate", "labels"),
    [(0.85, 481), (0.88, 184), (0.9, 112), (0.92, 74), (0.95, 40), (0.8, None), (0.805, None)],
)
def test_labels_that_certify_are_as_many_as_specified(rate: float, labels: int | None) -> None:
    """The lower Wilson bound reaches .80 with a probability of 80%."""
    assert labels_needed(rate) == labels


def test_kappa_is_cohens() -> None:
    """.4 of the textbook's 20, 5, 10, 15; none where one never changes its mind."""
    assert kappa(Table(20, 5, 10, 15)) == pytest.approx(0.4)
    assert kappa(Table(10, 0, 0, 0)) is None and kappa(Table(0, 0, 0, 0)) is None


def test_the_slope_on_length_is_that_of_least_squares() -> None:
    """.1 a doubling, exactly; trials of one row do not make it surer; none of few rows."""
    lengths = [2.0 ** (n % 5) for n in range(40)]
    scores = [0.1 * math.log2(length) + (0.02 if n % 2 else -0.02) for n, length in enumerate(lengths)]
    found = length_slope(scores, lengths, list(range(40)))
    assert found is not None and found.per_doubling == pytest.approx(0.1) and found.is_proven
    doubled = length_slope(scores * 2, lengths * 2, [*range(40)] * 2)
    assert doubled is not None and doubled.high - doubled.low > 0.97 * (found.high - found.low)
    assert length_slope(scores[:19], lengths[:19], list(range(19))) is None


def test_a_corrected_difference_is_worked_out_by_hand() -> None:
    """λ̂, θ̂ and the interval of four labelled rows; a judge that tells nothing counts for nothing."""
    found = ppi_difference([1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 1.0])
    # Cov = 1/3 over (1 + 1) · 2/7: λ̂ = 7/12; θ̂ = 7/24 + 5/24 = .5.
    assert found.weight == pytest.approx(7 / 12) and found.mean == pytest.approx(0.5)
    none = ppi_difference(Moments(10, 0.7, 0.0), [1.0, 0.0, 1.0, 0.0], [0.7] * 4)
    assert none.weight == 0 and none.mean == pytest.approx(0.5)
    with pytest.raises(ValueError, match="three labelled rows"):
        ppi_difference([1.0, 0.0], [1.0, 0.0], [1.0, 0.0])
