"""Filters and sort orders of a run's cases: as values, and as SQL over the run's index.

Names from outside become SQL only after they were found among the table's columns, and then quoted;
values are bound parameters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from promptlab.domain.results import CaseKey
from promptlab.duck import quoted
from promptlab.errors import UnknownNameError
from promptlab.results.index import PREFIX_CHARS
from promptlab.results.table import TOKEN_COUNTS, Columns

Status = Literal["ok", "failed"]
_NUMBERS = ("BIGINT", "DOUBLE", "INTEGER")
# Rising by how often English uses them, roughly.
_FREQUENT = "vbywgpfmucdlhrsnioate "
_STARTS = 100


@dataclass(frozen=True, slots=True)
class Range:
    """Values of one number column between two bounds; a histogram's bin is one."""

    column: str
    """As in the results table: `score.<metric>`, `latency_ms`, `cost_usd`,
    `prompt_tokens`, `input.<column>` …"""
    low: float | None = None
    """Values from here on (included)."""
    high: float | None = None
    """Values up to here."""
    closed: bool = True
    """Whether `high` itself is included."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A choice of cases: all conditions must hold. The empty filter means every case. Metrics are named as in
    the table (`Columns.scores`)."""

    text: str = ""
    """A part of the id, an input, the answer, an error message, a label or a reason, whatever its case."""
    status: Status | None = None
    """`failed`: the call failed; `ok`: there is an answer. Failed scores are found by `unscored`."""
    error_type: str | None = None
    """The type of the call's error: as in `Summary.errors`."""
    ranges: tuple[Range, ...] = ()
    passed: tuple[tuple[str, bool], ...] = ()
    """(metric, whether it passed)."""
    labels: tuple[tuple[str, str], ...] = ()
    """(metric, its label)."""
    unscored: tuple[str, ...] = ()
    """Metrics whose evaluator failed."""
    finish_reason: str | None = None
    """Why the model stopped: as in `Summary.finish_reasons`."""
    cases: tuple[CaseKey, ...] | None = None
    """Only these cases: those that people labelled, say. None: any."""
    values: tuple[tuple[str, str], ...] = ()
    """(dataset column, its value as text): rows with it, texts that begin with the same 48 letters, whatever
    their case, as in a slice; an empty text: rows without a value."""


NO_FILTER = Filter()


def number_columns(shape: Columns) -> list[str]:
    """The columns that ranges and histograms are of."""
    return [name for name, kind in shape.types.items() if kind in _NUMBERS and name not in ("case", "trial")]


def sort_columns(shape: Columns) -> list[str]:
    """List the columns that cases can be sorted by: those that the index of a run has, without the reasons
    and messages of scores."""
    unsorted = ("reason.", "score_error.", "judged.")
    beside = ("metadata", "tries", "cached", "messages", "trace", *TOKEN_COUNTS)
    return [name for name in shape.types if name not in beside and not name.startswith(unsorted)]


def number_column(name: str, shape: Columns) -> str:
    """The SQL of a number column.

    Raises:
        UnknownNameError: there is none of this name.
    """
    return _column(name, "number column", number_columns(shape))


def known_metric(name: str, shape: Columns) -> None:
    """Check that the table has a metric.

    Raises:
        UnknownNameError: it has none of this name.
    """
    _column(name, "metric", [metric for _, metric in shape.scores])


def _column(name: str, what: str, known: list[str]) -> str:
    if name not in known:
        raise UnknownNameError(what, name, known)
    return quoted(name)


def condition(filter: Filter, shape: Columns) -> tuple[str, list[Any]]:
    """A filter but for its text as a condition on the index, and its parameters.

    Raises:
        UnknownNameError: it names a column or a metric that the table does not have.
    """
    parts, values = ["true"], list[Any]()
    for part, given in _conditions(filter, shape):
        parts.append(part)
        values += given
    return " AND ".join(parts), values


def _conditions(filter: Filter, shape: Columns) -> Iterator[tuple[str, list[Any]]]:
    metrics = [metric for _, metric in shape.scores]
    if filter.status:
        yield f"error IS {'NOT ' if filter.status == 'failed' else ''}NULL", []
    if filter.error_type is not None:
        yield "error = ?", [_clean(filter.error_type)]
    if filter.finish_reason is not None:
        yield "finish_reason = ?", [_clean(filter.finish_reason)]
    for bounds in filter.ranges:
        column = number_column(bounds.column, shape)
        if bounds.low is not None:
            yield f"{column} >= ?::DOUBLE", [bounds.low]
        if bounds.high is not None:
            yield f"{column} {'<=' if bounds.closed else '<'} ?::DOUBLE", [bounds.high]
    for metric, passed in filter.passed:
        _column(metric, "metric", metrics)
        yield f"{quoted(f'passed.{metric}')} = ?", [passed]
    for metric, label in filter.labels:
        _column(metric, "metric", metrics)
        yield f"{quoted(f'label.{metric}')} = ?", [_clean(label)]
    for column, value in filter.values:
        yield _value(column, value, shape)
    if filter.cases is not None:
        # A trial has at most six digits.
        yield (
            f'"case"::BIGINT * {10**6} + trial IN (SELECT unnest(?::BIGINT[]))',
            [[key.case * 10**6 + key.trial for key in filter.cases]],
        )
    for metric in filter.unscored:
        _column(metric, "metric", metrics)
        yield quoted(f"unscored.{metric}"), []


def _value(column: str, value: str, shape: Columns) -> tuple[str, list[Any]]:
    """Whether a row has a value in a column of its dataset."""
    names = {source: name for source, name, _ in shape.inputs}
    if column not in names:
        raise UnknownNameError("dataset column", column, names)
    name, kind = quoted(names[column]), shape.types[names[column]]
    if value == "":
        return f"({name} IS NULL OR CAST({name} AS VARCHAR) = '')", []
    if kind == "VARCHAR":
        return f"{name} = lower(left(?, {PREFIX_CHARS}))", [_clean(value)]
    if kind == "DOUBLE":  # what is no number is in no row
        return f"{name} = TRY_CAST(? AS DOUBLE)", [_clean(value)]
    return f"CAST({name} AS VARCHAR) = ?", [_clean(value)]


def contains(column: str, text: str) -> tuple[str, list[Any]]:
    """Whether a lower-cased column has a text in it.

    DuckDB stops at each occurrence of the first letter looked for (`apples`: 25 ms of 100 went into
    `a`s), so the end of the text that begins with its rarest letter is looked for before the whole.
    """
    text = _clean(text)
    starts = range(max(1, min(len(text) - 2, _STARTS)))
    tail = text[min(starts, key=lambda at: _FREQUENT.rfind(text[at].lower())) :]
    whole = f"contains({column}, lower(?))"
    return (whole, [text]) if tail == text else (f"contains({column}, lower(?)) AND {whole}", [tail, text])


def _clean(text: str) -> str:
    """The text without half characters, which no column has and SQL cannot be asked for."""
    return text.encode("utf-8", "replace").decode()


def order(sort: str, shape: Columns) -> list[str]:
    """The index's columns that stand for a sort by one of the table's.

    Raises:
        UnknownNameError: there is no such column, or nothing sorts by it.
    """
    _column(sort, "column to sort by", sort_columns(shape))
    return {"case": [], "id": ["id_text", "id_number"], "error_type": ["error"]}.get(sort, [quoted(sort)])
