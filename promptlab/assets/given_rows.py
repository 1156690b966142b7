"""Reads rows that are given as Python objects: dicts, DataFrames, Hugging Face datasets.

Objects of other libraries are known by what they can do, so that none of them is imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from promptlab.assets.json_rows import named, plain_row
from promptlab.assets.sources import MAX_COLUMNS, Broken, Rows, first_repeated
from promptlab.errors import DatasetError

_BATCH = 1_000
"""How many rows of a table of columns are turned at once."""


def iterate_rows(rows: Any) -> Iterator[Any]:
    """Iterate over rows as Python values, whatever holds them. Whatever pandas takes for missing is None.

    Raises:
        DatasetError: the columns of a table are too many, or not usable.
    """
    if hasattr(rows, "itertuples"):  # pandas
        names = _names(rows.columns)
        return (dict(zip(names, row, strict=True)) for row in _present(rows))
    if hasattr(rows, "iter_rows"):  # polars
        _names(rows.columns)
        return iter(rows.iter_rows(named=True))
    if hasattr(rows, "to_batches"):  # PyArrow
        _names(rows.column_names)
        return chain.from_iterable(batch.to_pylist() for batch in rows.to_batches(max_chunksize=_BATCH))
    return iter(rows)


def _names(columns: Iterable[Any]) -> list[Any]:
    names = list(columns)
    if len(names) > MAX_COLUMNS:
        raise DatasetError(
            f"rows: the table has {len(names):,} columns; a dataset may have {MAX_COLUMNS:,}. "
            "Nest what varies."
        )
    if (twice := first_repeated(names)) is not None:
        raise DatasetError(f"rows: the table has two columns {named(twice)}. Give each its own name.")
    return names


def _present(frame: Any) -> Iterator[list[Any]]:
    """The rows of a pandas DataFrame, with None for NaN, NaT and NA."""
    for start in range(0, len(frame), _BATCH):
        part = frame.iloc[start : start + _BATCH]
        for row, missing in zip(
            part.itertuples(index=False, name=None),
            part.isna().itertuples(index=False, name=None),
            strict=True,
        ):
            yield [None if gone else value for value, gone in zip(row, missing, strict=True)]


def given_rows(rows: Any) -> Rows:
    """Read rows given as Python objects, in JSON's types."""
    broken = Broken()
    for number, row in enumerate(iterate_rows(rows)):
        try:
            if not isinstance(row, Mapping):
                raise DatasetError(
                    f"rows[{number}] is a {type(row).__name__}, not a dict. Give a list of dicts, "
                    "as in [{'question': '…'}]."
                )
            plain = plain_row(row, f"rows[{number}]")
        except DatasetError as error:
            broken.add(error)
        else:
            yield number, plain
    broken.check()
