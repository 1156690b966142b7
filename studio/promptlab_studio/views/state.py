"""The state of a page, read from its address and written back into links: nothing of it is kept elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from promptlab.errors import ConfigError
from promptlab.queries.query_engine import Filter, Range
from promptlab_studio.views.format import exact

Pairs = tuple[tuple[str, str], ...]


def whole(text: str) -> int | None:
    """The whole number from 0 to 999,999,999 that a parameter or a field is, or None."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


@dataclass(frozen=True, slots=True)
class Query:
    """The parameters of an address, without the empty ones."""

    path: str
    pairs: Pairs

    @classmethod
    def of(cls, path: str, params: QueryParams) -> Query:
        """From a request."""
        return cls(path, tuple((k, v) for k, v in params.multi_items() if v != ""))

    def get(self, name: str, default: str = "") -> str:
        """The last value of a parameter."""
        return next((v for k, v in reversed(self.pairs) if k == name), default)

    def all(self, name: str) -> list[str]:
        """Every value of a parameter, each once."""
        return list(dict.fromkeys(v for k, v in self.pairs if k == name))

    def page(self) -> int:
        """The page, from 1."""
        return whole(self.get("page")) or 1

    def url(self, **changes: Any) -> str:
        """The address with some parameters set (None removes one) and, unless it is given,
        back on the first page."""
        changes = {"page": None, **changes}
        kept = [(k, v) for k, v in self.pairs if k not in changes]
        for name, value in changes.items():
            kept += [
                (name, str(v))
                for v in (value if isinstance(value, list | tuple) else [value])
                if v is not None and v != ""
            ]
        return self.path + (f"?{urlencode(kept)}" if kept else "")

    def plus(self, name: str, value: str) -> str:
        """The address with one more value of a parameter."""
        return self.url(**{name: [*[v for v in self.all(name) if v != value], value]})

    def minus(self, name: str, value: str) -> str:
        """The address with one value of a parameter less."""
        return self.url(**{name: [v for v in self.all(name) if v != value]})

    def toggled(self, name: str, value: str) -> str:
        """With the value if it is not there, without it if it is."""
        return self.minus(name, value) if value in self.all(name) else self.plus(name, value)

    def filters(self) -> Pairs:
        """Those that say which cases are meant, or in what order."""
        return self.only(*FILTER_PARAMS, "sort")

    def selects(self) -> bool:
        """Whether it means some of the cases only."""
        return bool(self.only(*FILTER_PARAMS))

    def unfiltered(self) -> str:
        """The address of all cases, in the same order and columns."""
        return self.url(**dict.fromkeys(FILTER_PARAMS))

    def only(self, *names: str) -> Pairs:
        """Some of the parameters."""
        return tuple((k, v) for k, v in self.pairs if k in names)

    def sorted_by(self, name: str, *, descending_first: bool = False) -> str:
        """The address that sorts by a column; once more turns the order round."""
        now, down = self.get("sort"), self.get("desc") == "1"
        return self.url(sort=name, desc="1" if (not down if now == name else descending_first) else None)


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a filter, in words, and the address without it."""

    text: str
    without: str


FILTER_PARAMS = (
    "q",
    "status",
    "error",
    "range",
    "pass",
    "fail",
    "label",
    "unscored",
    "finish",
    "where",
    "people",
)
"""Parameters of an address that say which cases are meant."""
VIEW_PARAMS = (*FILTER_PARAMS, "sort", "desc", "col")
"""These, the order and the columns: what stays while one goes from case to case."""


def range_value(column: str, low: float | None, high: float | None, *, closed: bool = True) -> str:
    """A range of values as a parameter: `column~low~high`, with `~o` where `high` is not included."""
    return "~".join([column, "" if low is None else repr(low), "" if high is None else repr(high)]) + (
        "" if closed else "~o"
    )


def parse_range(text: str) -> Range:
    """The opposite of `range_value`.

    Raises:
        ConfigError: it is not such a text.
    """
    body, closed = (text[:-2], False) if text.endswith("~o") else (text, True)
    parts = body.rsplit("~", 2)
    try:
        column, low, high = parts[0], *(float(p) if p else None for p in parts[1:])
    except ValueError:
        column, low, high = "", None, None
    if len(parts) != 3 or not column or any(v is not None and not math.isfinite(v) for v in (low, high)):
        raise ConfigError(f"{text!r} is not a range: write column~low~high, as in latency_ms~100~250.")
    return Range(column, low, high, closed)


def _pair(text: str, what: str) -> tuple[str, str]:
    metric, tilde, label = text.partition("~")
    if not tilde:
        raise ConfigError(f"{text!r} is not a {what}: write metric~{what}.")
    return metric, label


def filter_of(query: Query) -> Filter:
    """Read the filter that an address means.

    Raises:
        ConfigError: a parameter is not what it should be.
    """
    status = query.get("status")
    if status not in ("", "ok", "failed"):
        raise ConfigError(f"status={status!r} is not known: ok or failed.")
    verdicts: Iterable[tuple[str, bool]] = [(m, True) for m in query.all("pass")] + [
        (m, False) for m in query.all("fail")
    ]
    return Filter(
        text=query.get("q").strip(),
        status=status or None,  # type: ignore[arg-type]
        error_type=query.get("error") or None,
        finish_reason=query.get("finish") or None,
        ranges=tuple(parse_range(r) for r in query.all("range")),
        passed=tuple(verdicts),
        labels=tuple(_pair(v, "label") for v in query.all("label")),
        unscored=tuple(query.all("unscored")),
        values=tuple(_pair(v, "value") for v in query.all("where")),
    )


def conditions(query: Query) -> list[Condition]:
    """The filter of an address in words, but for the search text and the status, which
    have fields of their own."""
    found = [Condition(f"error: {query.get('error')}", query.url(error=None))] if query.get("error") else []
    if query.get("finish"):
        found.append(Condition(f"finished: {query.get('finish')}", query.url(finish=None)))
    if query.get("people"):
        said = {"any": "labelled", "pass": "people pass", "fail": "people fail"}.get(
            query.get("people"), "labelled"
        )
        found.append(Condition(said, query.url(people=None)))
    for text in query.all("range"):
        found.append(Condition(_in_words(parse_range(text)), query.minus("range", text)))
    for name, verb in (("pass", "passed"), ("fail", "did not pass"), ("unscored", "not scored")):
        found += [Condition(f"{metric}: {verb}", query.minus(name, metric)) for metric in query.all(name)]
    for text in query.all("label"):
        metric, label = _pair(text, "label")
        found.append(Condition(f"{metric}: {label}", query.minus("label", text)))
    for text in query.all("where"):
        column, value = _pair(text, "value")
        found.append(Condition(f"{column}: {value or '(none)'}", query.minus("where", text)))
    return found


def _in_words(range_: Range) -> str:
    name = range_.column.removeprefix("score.").removeprefix("input.")
    if range_.low is not None and range_.high is not None:
        return f"{name}: {exact(range_.low)} {'to' if range_.closed else 'to below'} {exact(range_.high)}"
    if range_.low is not None:
        return f"{name} ≥ {exact(range_.low)}"
    return f"{name} {'≤' if range_.closed else '<'} {exact(range_.high)}"
