"""How many digits computed figures have."""

from __future__ import annotations

import pytest
from promptlab_studio.views.digits import Digits, difference, figure, money, money_decimals


def test_figures_of_a_metric_share_their_decimals() -> None:
    """A mean, its interval and a difference are read side by side."""
    digits = Digits.of([0.5625, 0.5, 0.0123])
    assert [digits.show(v) for v in (0.5625, 0.5, 0.0123)] == ["0.562", "0.500", "0.012"]
    assert digits.between(0.5331, 0.59) == "0.533 to 0.590"
    assert digits.between(-0.0123, -0.0001) == "−0.012 to 0.000"
    assert [Digits.of([1319.2, 12.0]).show(v) for v in (1319.2, 12.0)] == ["1,319", "12"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.21, "+0.210"), (-0.0123, "−0.012"), (0.0, "0"), (0.0001, "0"), (-0.0001, "0"), (None, "–")],
)
def test_a_difference_has_a_sign_unless_nothing_is_left_of_it(value: float | None, text: str) -> None:
    """`+0` would say that something is better."""
    assert Digits.of([0.5, value]).signed(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (6.9e-4, "0.000690"),
        (15.0, "15"),
        (-0.0, "0"),
        (0.5, "0.500"),
        (12.345, "12.35"),
        (1e15, "1.00e+15"),
        (3e-9, "3.00e-09"),
    ],
)
def test_a_figure_alone_is_readable(value: float, text: str) -> None:
    """Small ones are written out, and only what cannot be read otherwise has an exponent."""
    assert figure(value) == text


def test_the_change_of_whole_figures_is_whole() -> None:
    """42 words after 109 are 67 less, not 67.00."""
    found = [difference(-67, 42), difference(9, 83), difference(0.5, 83), difference(-0.836, 0.0534)]
    assert found == ["−67", "+9", "+0.50", "−0.836"]


def test_sums_that_stand_together_share_their_decimals() -> None:
    """A column of costs lines up; what is too small for it says so."""
    costs = [12.5, 0.0004, 0.0, None]
    assert [money(cost, money_decimals(costs)) for cost in costs] == ["$12.50", "<$0.01", "$0.00", "–"]
    assert [money(v) for v in (0.0412, 0.00037, 3.2)] == ["$0.0412", "$0.000370", "$3.20"]
