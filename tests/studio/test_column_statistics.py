"""Figures of a dataset's columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from promptlab_studio.views.datasets import ColumnView, column_views

from promptlab.assets.column_statistics import MOST_COLUMNS, SAMPLE, Statistics, statistics
from promptlab.domain.assets import Column, Dataset
from tests.browser import labs


async def looked_at(folder: Path, rows: list[dict[str, Any]], **bounds: int) -> Statistics:
    """The statistics of rows."""
    lab = labs.open_lab(folder)
    try:
        made = await lab.assets.create(Dataset(name="rows", rows=rows))
        assert isinstance(made, Dataset) and made.content is not None
        return await statistics(lab.blobs, made.content, **bounds)
    finally:
        await lab.close()


def in_words(found: Statistics) -> list[ColumnView]:
    """The columns as their page shows them."""
    shown = column_views(found)
    assert shown is not None
    return shown


@pytest.mark.parametrize("count", [40, SAMPLE * 3])
async def test_small_and_large_datasets_are_told_alike(tmp_path: Path, count: int) -> None:
    """By hand or by DuckDB: the same words."""
    rows = [
        {
            "text": "x" * (1 + n % 7),
            "n": n % 11,
            "f": n / 2,
            "b": n % 2 == 0,
            "j": [n % 3],
            'it\'s "odd"': "same",
            "void": None,
        }
        for n in range(count)
    ]
    rows[5].pop("text")
    found = await looked_at(tmp_path, rows)
    assert found.rows == count
    told = {c.column.name: (c.different, c.spread) for c in in_words(found)}
    assert told == {
        "text": ("7", "1 to 7 characters"),
        "n": ("11", "0 to 10"),
        "f": (f"{count:,}", f"0.0 to {(count - 1) / 2}"),
        "b": ("2", ""),
        "j": ("3", "3 characters"),
        'it\'s "odd"': ("1", "4 characters"),
        "void": ("0", ""),
    }


async def test_many_columns_are_counted(tmp_path: Path) -> None:
    """As many as a dataset's page shows, of each kind, over more rows than are looked at by hand."""
    rows = [
        {f"c{c:02}": (n % (c + 1), n % (c + 1) + 0.5, f"v{n % (c + 1)}")[c % 3] for c in range(MOST_COLUMNS)}
        for n in range(SAMPLE * 2)
    ]
    found = await looked_at(tmp_path, rows)
    assert [(one.different, one.estimated) for one in found.columns] == [
        (c + 1, False) for c in range(MOST_COLUMNS)
    ]


async def test_values_that_come_late_count(tmp_path: Path) -> None:
    """Not only those of the first rows."""
    found = await looked_at(tmp_path, [{"n": n} for n in range(SAMPLE + 1)] + [{"n": 1_000_000}])
    (column,) = in_words(found)
    assert (column.different, column.spread, column.example) == ("502", "0 to 1000000", "0")


async def test_names_that_differ_only_in_case_are_told_of_all_rows(tmp_path: Path) -> None:
    """DuckDB holds them for one column."""
    rows = [{"a": n, "É": 1, "A": -n, "é": "x" * (n % 3), "b": 7} for n in range(SAMPLE * 2)]
    found = await looked_at(tmp_path, rows)
    assert found.rows == SAMPLE * 2
    assert [(f.column.name, c.spread) for f, c in zip(found.columns, in_words(found), strict=True)] == [
        ("a", "0 to 999"),
        ("É", "1"),
        ("A", "-999 to 0"),
        ("é", "0 to 2 characters"),
        ("b", "7"),
    ]


async def test_many_different_values_are_estimated(tmp_path: Path) -> None:
    """Counting every value would need memory for each."""
    rows = [{"n": n, "few": n % 5} for n in range(SAMPLE * 4)]
    found = await looked_at(tmp_path, rows, most_counted=100)
    assert in_words(found)[1].different == "5"
    assert in_words(found)[0].different.startswith("≈ ")


@pytest.mark.parametrize("count", [3, SAMPLE * 2])
async def test_the_lowest_and_the_highest_number_are_shown_exactly(tmp_path: Path, count: int) -> None:
    """Whole numbers of 19 digits, and numbers as the data has them, however many rows there are."""
    rows: list[dict[str, Any]] = [{"whole": 9007199254740993, "number": 3.14159265} for _ in range(count)]
    rows[1] = {"whole": 9223372036854775807, "number": 12345678.9}
    rows[2] = {"whole": 9007199254740995, "number": 1e-12}
    whole, number = in_words(await looked_at(tmp_path, rows))
    assert whole.spread == "9007199254740993 to 9223372036854775807"
    assert number.spread == "1e-12 to 12345678.9"


@pytest.mark.parametrize("count", [300, SAMPLE * 3])
async def test_nulls_and_rows_without_the_column_are_missing(tmp_path: Path, count: int) -> None:
    """Counted as the rows come in, and again where they are read, as of datasets that an
    older version took in."""
    rows: list[dict[str, Any]] = [
        {"id": n, "note": None if n % 3 else "x", "n": None if n % 2 else 1, "j": [n], "void": None}
        for n in range(count)
    ]
    for row in rows[:30]:
        del row["note"]
    missing = {"id": 0, "note": count * 2 // 3 + 10, "n": count // 2, "j": 0, "void": count}
    found = await looked_at(tmp_path, rows)
    assert {c.column.name: c.missing for c in found.columns} == missing
    assert {c.column.name: c.column.missing(count) for c in found.columns} == missing
    assert Column(name="old", type="string", rows=3).missing(3) is None
