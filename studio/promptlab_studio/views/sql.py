"""The SQL of a run: a question, and the rows that it gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from promptlab.queries.sql import SqlAnswer
from promptlab_studio.views.format import exact, run_url

MOST_CELLS = 1_600
"""Values that the page shows; the API gives all of an answer."""
CELL_CHARS = 600
"""Characters of a value that the page shows."""
CHAR_PX, PADDING_PX, LEAST_PX, MOST_PX = 9, 18, 64, 480
"""Pixels of a character, of what stands around a value, and of the narrowest and the widest column."""
_NUMBERS = ("INT", "BIGINT", "HUGEINT", "SMALLINT", "TINYINT", "UINT", "UBIG", "DOUBLE", "FLOAT", "DECIMAL")


@dataclass(frozen=True, slots=True)
class SqlCell:
    """A value, and the page of the case that it names."""

    text: str
    css: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class SqlHead:
    """A column."""

    name: str
    kind: str
    """DuckDB's type."""
    css: str
    width: int
    """Pixels: by its longest value. Found by the browser, it would change as further rows arrive."""


@dataclass(frozen=True, slots=True)
class SqlRows:
    """An answer as a table."""

    heads: list[SqlHead]
    rows: list[list[SqlCell]]
    given: int
    """Rows of the answer."""
    more: bool

    @property
    def width(self) -> int:
        """Pixels of the table."""
        return sum(head.width for head in self.heads)


def sql_rows(run_id: str, answer: SqlAnswer) -> SqlRows:
    """Lay out an answer; a column called `case` leads to its case, of the trial in the column `trial`."""
    css = ["num" if kind.startswith(_NUMBERS) and "[" not in kind else "" for kind in answer.types]
    case = answer.columns.index("case") if "case" in answer.columns else None
    trial = answer.columns.index("trial") if "trial" in answer.columns else None
    rows = []
    shown = max(1, MOST_CELLS // max(1, len(answer.columns)))
    for values in answer.rows[:shown]:
        cells = [SqlCell(_short(exact(value)), kind) for value, kind in zip(values, css, strict=True)]
        if case is not None and type(values[case]) is int:
            of_trial = f".{values[trial]}" if trial is not None and values[trial] else ""
            url = run_url(run_id, f"/cases/{values[case]}{of_trial}")
            cells[case] = SqlCell(cells[case].text, css[case], url)
        rows.append(cells)
    heads = [
        SqlHead(name, kind, look, _width(name, [row[place].text for row in rows]))
        for place, (name, kind, look) in enumerate(zip(answer.columns, answer.types, css, strict=True))
    ]
    return SqlRows(heads, rows, len(answer.rows), answer.more)


def _width(name: str, texts: list[str]) -> int:
    """Pixels that the longest line of some values takes, within bounds."""
    longest = max((len(line) for text in (name, *texts) for line in text.split("\n")), default=0)
    return min(max(longest * CHAR_PX + PADDING_PX, LEAST_PX), MOST_PX)


def named(columns: Mapping[str, str]) -> list[tuple[str, str]]:
    """The columns as one writes them in a question, with their types; those of structs in short."""
    return [
        (name if name.isidentifier() else f'"{name}"', "JSON" if "STRUCT" in kind else kind)
        for name, kind in columns.items()
    ]


def _short(text: str) -> str:
    return text if len(text) <= CELL_CHARS else f"{text[:CELL_CHARS]}…"
