"""Columns of numbers are as wide as the longest of a page."""

from __future__ import annotations

import pytest
from promptlab_studio.views.cases import TEXT, css_of_number
from promptlab_studio.views.datasets import column_css

from promptlab.domain.assets import Column

WHOLE = "-9223372036854775808"
DOUBLE = "-1.7976931348623157e+308"


@pytest.mark.parametrize(
    ("longest", "css"),
    [(0, "c-m"), (12, "c-m"), (13, "c-n"), (len(WHOLE) - 1, "c-n"), (len(WHOLE), TEXT), (len(DOUBLE), TEXT)],
)
def test_a_number_is_never_cut(longest: int, css: str) -> None:
    """The largest integer, whose sign is not counted, and the longest double have a width that holds them."""
    assert css_of_number(longest) == css


def test_the_rows_of_a_dataset_say_how_wide_its_columns_are() -> None:
    """Numbers as they need; texts as texts, whatever stands in them; a page without rows has columns, too."""
    columns = [
        Column(name=n, type=kind, rows=2) for n, kind in (("n", "integer"), ("m", "number"), ("t", "string"))
    ]
    assert column_css(columns, [["1", DOUBLE, "a"], [WHOLE, "0.5", "b"]]) == ["c-n", TEXT, TEXT]
    assert column_css(columns, []) == ["c-m", "c-m", TEXT]
