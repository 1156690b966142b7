"""Makes a DataFrame of a run's rows, with the types that the results table has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from promptlab.errors import MissingExtraError
from promptlab.results.table import known_type

if TYPE_CHECKING:
    import pandas

# Nullable types: pandas' own integers have no room for a missing value, and become floats of 15 digits.
_PANDAS = {"BIGINT": "Int64", "INTEGER": "Int64", "BOOLEAN": "boolean", "DOUBLE": "float64"}
_VALUES = {int: "BIGINT", bool: "BOOLEAN", float: "DOUBLE", str: "VARCHAR"}


def to_frame(rows: Sequence[Mapping[str, Any]]) -> pandas.DataFrame:
    """Make a DataFrame, a column for each of the table.

    Whole numbers are `Int64` and keep all 19 digits, pass and fail are `boolean`, both with `NA` where there
    is nothing; other numbers are `float64`, with NaN.

    Raises:
        MissingExtraError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise MissingExtraError("Results.to_pandas()", "pandas") from None
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    series = {name: pandas.Series(values, dtype=_dtype(name, values)) for name, values in columns.items()}
    return pandas.DataFrame(series, columns=names, index=range(len(rows)))


def _dtype(name: str, values: Sequence[Any]) -> str | None:
    """pandas' type of a column; None: whatever pandas makes of the values."""
    kind = known_type(name)
    if kind is None:
        kinds = {type(value) for value in values if value is not None}
        kind = _VALUES.get(kinds.pop()) if len(kinds) == 1 else None
    return _PANDAS.get(kind) if kind else None
