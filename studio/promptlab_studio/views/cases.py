"""The table of a run's cases: which columns, which rows, and what stands in the cells."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from promptlab.domain.experiment import Experiment
from promptlab.domain.results import RunRecord
from promptlab.queries.query_engine import CaseRows, Facets
from promptlab.results.table import TOKEN_COUNTS, Columns
from promptlab_studio.views.digits import figure, money
from promptlab_studio.views.format import milliseconds, one_line, run_url
from promptlab_studio.views.state import VIEW_PARAMS, Query, conditions

SIZE = 50
TEXT_CHARS = 160
"""The most characters that a cell can show on a wide screen; the rest is in the case."""
_SHOWN_METRICS, _SHOWN_INPUTS = 4, 1
_SHORT, _MIDDLING, _DIGITS = 12, 16, 19
"""Characters that columns of 112, 138 and 168 px have room for, the last in small and beside a sign."""
LONG = "c-n"
_NUMBERS = {"prompt_tokens": "Read", "completion_tokens": "Written", "attempts": "Attempts"}
_NAMES = {
    "id": "Case",
    "response": "Answer",
    "latency_ms": "Latency",
    "cost_usd": "Cost",
    "error_type": "Error",
    "finish_reason": "Finish",
    **_NUMBERS,
}
_COUNTED = {"calls": "Calls", "turns": "Turns"}
"""Columns of a page on which any case has such."""
USUAL = frozenset({"stop", "end_turn", "stop_sequence", "completed", "complete", "eos", "eos_token"})
"""Finish reasons of an answer that is whole: these are no news."""
TEXT = "c-text"
FULL = 1358
"""Pixels of a table that fills a window of 1400."""
WIDTHS = {TEXT: 245, "c-id": 84, "c-m": 112, "c-l": 138, LONG: 168, "c-s": 84}
"""Pixels of the columns, as the style sheet has them; of texts the least."""
_HIDDEN = ("case", "trial", "error_message", "metadata", "tries", "messages", "trace", *TOKEN_COUNTS)
_IN_SCORE = ("passed.", "label.", "score_error.")
"""Prefixes of the columns that the cell of a metric's score shows, too."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table."""

    key: str
    """As in the results table."""
    text: str
    css: str
    down: bool = False
    """Sorts downwards first."""
    sorts: bool = True
    """Whether cases can be sorted by it."""


@dataclass(frozen=True, slots=True)
class Cell:
    """The content of a cell, and how it looks."""

    text: str
    css: str = ""


@dataclass(frozen=True, slots=True)
class CaseRow:
    """A case in the table."""

    anchor: str
    url: str
    cells: Sequence[Cell]
    pending: bool


@dataclass(frozen=True, slots=True)
class CasesView:
    """A page of cases with all that is around it."""

    columns: Sequence[Column]
    choices: Sequence[tuple[str, str, bool, bool]]
    """Every column that could be shown: key, name, whether it is, and whether it is unless
    another choice was made."""
    rows: Sequence[CaseRow]
    page: CaseRows
    facets: Facets | None
    conditions: Sequence[Any]
    by_column: Sequence[str]
    """The dataset's columns, of which a value can be a filter."""
    odd_finishes: Sequence[tuple[str, int]]
    """Finish reasons of cases that match, other than the usual ones, and how many these are."""
    least: int
    """The width at which every column can be read, in pixels."""


def shown_columns(
    run: RunRecord, table: Columns, experiment: Experiment, placeholders: Sequence[str], query: Query
) -> list[Column]:
    """The columns that the address names, or else: input, expected, answer, scores, latency, cost."""
    keys = [k for k in query.all("col") if k in table.types] or _default(
        run, table, experiment, placeholders, query
    )
    expected = [f"input.{name}" for name in expected_columns(experiment)]
    return [_column(key, table, expected) for key in ("id", *(k for k in keys if k not in ("id", *_HIDDEN)))]


def _default(
    run: RunRecord, table: Columns, experiment: Experiment, placeholders: Sequence[str], query: Query
) -> list[str]:
    names = {source: name for source, name, _ in table.inputs}
    expected = [v for v in expected_columns(experiment) if v in names]
    expected = expected[:1]
    asked = [p for p in placeholders if p in names and p not in expected] or [
        n for n in names if n not in expected and n != "id"
    ]
    inputs = [names[name] for name in [*asked[:_SHOWN_INPUTS], *expected]]
    metrics = table.scores
    if query.get("status") == "failed" or query.get("error"):
        # Who looks for what failed wants to see where.
        summary = run.summary["metrics"] if run.summary else {}
        metrics = tuple(sorted(metrics, key=lambda m: not summary.get(m[0], {}).get("failed")))
    scores = [
        key
        for _, name in metrics[:_SHOWN_METRICS]
        for key in (f"judged.{name}", f"score.{name}")
        if key in table.types
    ]
    return [*inputs, "response", *scores, "latency_ms", "cost_usd"]


_ASKED = frozenset(
    [
        *("question", "query", "context", "contexts", "text", "instructions", "messages", "goal", "tools"),
        *("database", "retrieved"),
    ]
)
"""Inputs of metrics that say what was asked, and not what is right."""


def expected_columns(experiment: Experiment) -> list[str]:
    """The dataset's columns that answers are held against; what else a judge is shown is none."""
    return list(
        dict.fromkeys(
            column
            for metric in experiment.evaluation
            for name, column in metric.column_mapping.items()
            if not column.startswith("$")
            and (name in ("reference", "other") if metric.judge else name not in _ASKED)
        )
    )


def _column(key: str, table: Columns, expected: Sequence[str] = ()) -> Column:
    kind = table.types[key]
    if key.startswith("judged."):
        return Column(key, "Judged", TEXT)
    if key == "id":
        return Column(key, "Case", "c-id")
    if key.startswith("score."):
        return Column(key, key.removeprefix("score."), "c-m")
    if kind in ("DOUBLE", "BIGINT", "INTEGER") and not key.startswith("input."):
        return Column(key, _NAMES.get(key, key), "c-s num", True)
    name = _NAMES.get(key, key.removeprefix("input."))
    return Column(
        key,
        "Expected" if key in expected else name,
        TEXT if key == "response" or kind == "VARCHAR" else "c-m",
    )


def cases_view(
    run: RunRecord,
    table: Columns,
    experiment: Experiment,
    placeholders: Sequence[str],
    query: Query,
    page: CaseRows,
    facets: Facets | None,
) -> CasesView:
    """The table of the cases that an address asked for.

    Args:
        run: the run.
        table: the columns of its results.
        experiment: what ran.
        placeholders: those of its prompt.
        query: the page's address.
        page: the cases.
        facets: the counts of what matches; None while the run has no results.
    """
    columns = [_fitted(c, page.rows) for c in shown_columns(run, table, experiment, placeholders, query)]
    if not query.all("col"):
        columns += [
            Column(key, text, "c-s num", sorts=False)
            for key, text in _COUNTED.items()
            if any(row.get(key) for row in page.rows)
        ]
    shown, usual = {c.key for c in columns}, set(_default(run, table, experiment, placeholders, query))
    rest, measured = urlencode(query.only(*VIEW_PARAMS)), measured_metrics(run, table)
    return CasesView(
        columns=columns,
        choices=[
            (k, _column_name(k), k in shown, k in usual)
            for k in table.types
            if k not in ("id", *_HIDDEN) and not k.startswith(_IN_SCORE)
        ],
        rows=[_row(run.run_id, columns, row, rest, measured) for row in page.rows],
        page=page,
        facets=facets,
        conditions=conditions(query),
        by_column=[source for source, _, _ in table.inputs],
        odd_finishes=[
            (reason, n)
            for reason, n in (facets.finish_reasons if facets else {}).items()
            if reason.lower() not in USUAL
        ][:4],
        least=least_width(sum(WIDTHS[c.css.split(" ")[0]] for c in columns)),
    )


def least_width(pixels: int) -> int:
    """The width of a table as the style sheet knows it: in steps of 20 px where it may fit a
    window, of 100 beyond. A window of 1400 has room for 1358: with one step more the costs were cut."""
    if 1340 < pixels <= FULL:
        return FULL
    step = 20 if pixels <= 1480 else 100
    return min(6000, -(-pixels // step) * step)


def _column_name(key: str) -> str:
    kind, dot, name = key.partition(".")
    if not dot:
        return _NAMES.get(key, key)
    named = {"input": name, "score": f"metric {name}", "reason": f"reason of {name}"}
    return (named | {"judged": f"judged by {name}"}).get(kind, key)


def _fitted(column: Column, rows: Sequence[Mapping[str, Any]]) -> Column:
    """Short values need no wide column; a number has the room that all of its digits need."""
    if column.key == "response" or not column.key.startswith(("id", "input.", "judged.")):
        return column
    values = [row.get(column.key) for row in rows]
    longest = max((len(one_line(value).lstrip("-")) for value in values), default=0)
    if column.css == TEXT and longest <= _SHORT:
        return replace(column, css="c-l" if column.text.startswith("Expected") else "c-m")
    if column.css == "c-id" and longest > _SHORT - 2:
        digits = any(str(value).isdecimal() and len(str(value)) > _MIDDLING for value in values)
        return replace(column, css=css_of_number(longest) if digits else "c-l")
    return replace(column, css=css_of_number(longest)) if column.css == "c-m" else column


def css_of_number(longest: int) -> str:
    """The width of a column of numbers whose longest has so many characters: none is cut."""
    return "c-m" if longest <= _SHORT else LONG if longest <= _DIGITS else TEXT


def case_path(run_id: str, case: int, trial: int) -> str:
    """The address of a case."""
    return run_url(run_id, f"/cases/{case}" + (f".{trial}" if trial else ""))


def measured_metrics(run: RunRecord, table: Columns) -> set[str]:
    """Metrics of a run, as columns name them, whose values say more than pass or fail. Before the run's end
    none is known."""
    metrics = run.summary["metrics"] if run.summary else {}
    return {name for metric, name in table.scores if metric in metrics and not metrics[metric]["binary"]}


def _row(
    run_id: str,
    columns: Sequence[Column],
    row: Mapping[str, Any],
    rest: str,
    measured: Collection[str],
) -> CaseRow:
    case, trial = row["case"], row["trial"]
    url = case_path(run_id, case, trial) + (f"?{rest}" if rest else "")
    cells = [_cell(column.key, row, measured) for column in columns[1:]]
    cells = [
        replace(cell, css="long") if column.css == LONG else cell
        for column, cell in zip(columns[1:], cells, strict=True)
    ]
    label = f"{row['id']}" + (f" · {trial + 1}" if trial else "")
    return CaseRow(f"c{case}-{trial}", url, [Cell(label), *cells], bool(row.get("pending")))


def _cell(key: str, row: Mapping[str, Any], measured: Collection[str]) -> Cell:
    if key == "response":
        return _answer(row)
    if key.startswith("score."):
        name = key.removeprefix("score.")
        return _score_cell(name, row, measured=name in measured)
    value = row.get(key)
    if key == "latency_ms":
        return Cell(milliseconds(value), "num")
    if key == "cost_usd":
        return Cell("–" if value is None else money(value), "num")
    if key in _NUMBERS or key in _COUNTED:
        return Cell("–" if value is None else f"{value:,}", "num")
    return Cell(one_line(value))


def _answer(row: Mapping[str, Any]) -> Cell:
    if row.get("pending"):
        return Cell("○ waiting", "muted")
    if row.get("error_type"):
        return Cell(f"✕ {row['error_type']}: {one_line(row.get('error_message'))}", "bad")
    return Cell(one_line(row.get("response")))


def beside_verdict(value: float | None, passed: bool | None, *, measured: bool) -> str:
    """A score's value, where it says more than pass or fail."""
    return "" if value is None or (passed is not None and value in (0, 1) and not measured) else figure(value)


def _score_cell(name: str, row: Mapping[str, Any], *, measured: bool) -> Cell:
    passed, value, label = row.get(f"passed.{name}"), row.get(f"score.{name}"), row.get(f"label.{name}")
    if error := row.get(f"score_error.{name}"):
        return Cell(f"! {one_line(error)}", "warn")
    if passed is not None:
        shown = beside_verdict(value, passed, measured=measured)
        return Cell(f"✓ pass {shown}".rstrip(), "good") if passed else Cell(f"✕ fail {shown}".rstrip(), "bad")
    if label is not None:
        return Cell(one_line(label))
    return (
        Cell("" if row.get("pending") or row.get("error_type") else "–", "muted")
        if value is None
        else Cell(figure(value))
    )
