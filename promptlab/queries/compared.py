"""The choice of what a comparison shows, without the SQL and the statistics of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from promptlab.errors import ConfigError

if TYPE_CHECKING:
    from promptlab.queries.filters import Filter

Change = Literal["all", "different", "regressed", "improved", "same"]
"""`different`: a score or a label differs, or only one run has it; `same`: not so; `regressed`, `improved`:
by the metric's direction."""
MAX_COMPARED = 4
"""Runs of one comparison at most, the base included."""


@dataclass(frozen=True, slots=True)
class Compared:
    """The choice of a page's pairs of cases."""

    change: Change = "all"
    metric: str | None = None
    """The metric that `change` is about; None: any that is not a mere fact."""
    other: int | None = None
    """The run, by its place in `others`, that `change` is about; None: any."""
    text: str = ""
    """A part of what a search of any of the runs would find (`Filter.text`)."""
    margins: Mapping[str, float] = field(default_factory=dict)
    """δ by metric, a difference that does not matter; under "" that of all others."""
    least: float | None = None
    """Pairs whose difference, other − base, is this or more, of the chosen metric and run."""
    most: float | None = None
    """The greatest difference, as `least`; a pair without a difference is in no range."""
    rows: Filter | None = None
    """Pairs whose case in the base run matches; but for its text, which is `text` here."""


def margins_of(given: float | Mapping[str, float] | Sequence[str] | None) -> dict[str, float]:
    """Read δ by metric; under "" that of all others.

    Args:
        given: one δ for all, δ by metric, or texts: `0.02`, `length=20`.

    Raises:
        ConfigError: one is no number above 0.
    """
    if given is None:
        return {}
    if isinstance(given, int | float):
        pairs = [("", given)]
    elif isinstance(given, Mapping):
        pairs = list(given.items())
    else:
        pairs = [(text.rpartition("=")[0].strip(), text.rpartition("=")[2]) for text in given]  # type: ignore[misc]
    found = {}
    for name, value in pairs:
        try:
            margin = float(value)
        except (TypeError, ValueError):
            margin = math.nan
        if not (math.isfinite(margin) and margin > 0):
            said = f"{name}={value}" if name else repr(value)
            raise ConfigError(f"margin {said}: it must be a number above 0, as in 0.02 or length=20")
        found[name] = margin
    return found


def where_of(texts: Iterable[str]) -> Filter | None:
    """Read which rows are meant: `COLUMN=VALUE` of dataset columns, each of which must hold; None for all.

    Raises:
        ConfigError: one has no `=`.
    """
    from promptlab.queries.filters import Filter

    pairs = []
    for text in texts:
        column, sign, value = text.partition("=")
        if not (column and sign):
            raise ConfigError(f"where {text!r}: it must be COLUMN=VALUE, as in language=en.")
        pairs.append((column, value))
    return Filter(values=tuple(pairs)) if pairs else None


def where_texts(rows: Filter | None) -> list[str]:
    """Write which rows are meant as `where_of` reads it.

    Raises:
        ConfigError: the filter has more than values of columns.
    """
    if rows is None:
        return []
    if replace(rows, values=()) != type(rows)():
        raise ConfigError("A comparison through a Studio can be narrowed by values of dataset columns only.")
    return [f"{column}={value}" for column, value in rows.values]


def margin_texts(margins: Mapping[str, float]) -> list[str]:
    """Write margins as `margins_of` reads them."""
    return [f"{name}={value!r}" if name else repr(value) for name, value in margins.items()]
