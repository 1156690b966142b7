"""A dataset's columns and rows, as its page shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from promptlab.assets.column_statistics import ColumnFigures, Statistics
from promptlab.domain.assets import Column
from promptlab_studio.views.cases import TEXT, WIDTHS, css_of_number, least_width
from promptlab_studio.views.format import count, one_line

MOST_COLUMNS = 12
"""Columns of the rows' table; a page never has more elements than a browser likes."""
CELL = 200
_EXAMPLE = 80


@dataclass(frozen=True, slots=True)
class ColumnView:
    """The content of a column, in words."""

    column: Column
    different: str
    """How many different values."""
    spread: str
    """From the lowest number to the highest, or the lengths of texts."""
    example: str
    missing: int
    """In how many of the rows that were read there is no value."""


def column_views(statistics: Statistics | None) -> list[ColumnView] | None:
    """The columns in words; None while nobody has read them."""
    return None if statistics is None else [_column(c) for c in statistics.columns]


def _column(found: ColumnFigures) -> ColumnView:
    different = f"{found.different:,}"
    if found.estimated:
        different = f"≈ {count(float(f'{found.different:.2g}'))}"
    return ColumnView(
        found.column, different, _spread(found), one_line(found.example)[:_EXAMPLE], found.missing
    )


def _spread(found: ColumnFigures) -> str:
    low, high, kind = found.low, found.high, found.column.type
    if low is None or kind == "boolean":
        return ""
    if kind in ("integer", "number"):
        shown = one_line(low)
        return shown if low == high else f"{shown} to {one_line(high)}"
    return f"{low:,} characters" if low == high else f"{low:,} to {high:,} characters"


def cells_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[list[str]]:
    """A page of rows as the table's cells; a value that a row has not is empty."""
    return [[one_line(row[name])[:CELL] if name in row else "" for name in columns] for row in rows]


def column_css(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[str]:
    """How wide the columns of the rows' table are: texts are read, no number is cut."""
    longest = [
        max((len(cell.lstrip("-")) for cell in cells), default=0) for cells in zip(*rows, strict=True)
    ] or [0] * len(columns)
    return [
        TEXT if column.type in ("string", "json") else css_of_number(most)
        for column, most in zip(columns, longest, strict=True)
    ]


def rows_width(css: Sequence[str]) -> int:
    """The width at which every column of the rows' table can be read, in pixels."""
    return least_width(WIDTHS["c-s"] + sum(WIDTHS[one] for one in css))
