"""Numbers, times and addresses as pages show them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from markupsafe import Markup, escape

from promptlab.domain.results import Progress
from promptlab.domain.spending import total_tokens
from promptlab.report import duration
from promptlab_studio.views.digits import figure, money
from promptlab_studio.views.status import state_of, symbol_of

_NONE = "–"


def count(value: float | None) -> str:
    """1,234; 123k; 12.3M."""
    if value is None:
        return "–"
    if abs(value) < 100_000:
        return f"{value:,.0f}"
    return f"{value / 1_000:,.0f}k" if abs(value) < 10_000_000 else f"{value / 1_000_000:,.1f}M"


def tokens(sums: Progress) -> str:
    """All tokens of a run so far: `12.3M tokens`, `tokens unknown`, `41,922 tokens of 9 of 10 cases`."""
    total = total_tokens(sums.prompt_tokens, sums.completion_tokens)
    if total is None:
        return "tokens unknown"
    known = f" of {sums.done - sums.unknown_tokens:,} of {sums.done:,} cases" if sums.unknown_tokens else ""
    return f"{count(total)} tokens{known}"


def size(value: float) -> str:
    """`512 bytes`, `38 KB`, `1.2 MB`."""
    if value < 1024:
        return f"{value:.0f} bytes"
    return f"{value / 1024:,.0f} KB" if value < 1 << 20 else f"{value / (1 << 20):,.1f} MB"


def milliseconds(value: float | None) -> str:
    """`0.4 ms`, `85 ms`, `1.24 s`."""
    if value is None:
        return "–"
    if value < 1000:
        return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"
    return f"{value / 1000:.2f} s" if value < 100_000 else duration(value / 1000)


def milliseconds_pair(low: float | None, high: float | None) -> str:
    """`14 / 19 ms`, `0.80 / 1.24 s`."""
    if low is None or high is None:
        return "–"
    if high < 1000:
        return f"{low:.0f} / {high:.0f} ms" if high >= 10 else f"{low:.1f} / {high:.1f} ms"
    return f"{low / 1000:.2f} / {high / 1000:.2f} s"


def percent(part: float, whole: float) -> str:
    """A share, never rounded to 0% or 100% when it is neither."""
    if not whole:
        return "–"
    share = 100 * part / whole
    if 0 < share < 0.1:
        return "<0.1%"
    if 99.9 < share < 100:
        return ">99.9%"
    return f"{share:.0f}%" if share in (0, 100) else f"{share:.1f}%"


def local(value: str) -> datetime:
    """An ISO time as a time of this machine's zone: on a laptop the reader's own, on AWS
    UTC unless `TZ` is set."""
    return datetime.fromisoformat(value).astimezone()


def when(value: str | None) -> str:
    """`23 Nov 09:15`, of another year `23 Nov 2025 09:15`: an ISO time in the local zone."""
    if not value:
        return _NONE
    moment = local(value)
    year = "" if moment.year == datetime.now(UTC).year else f" {moment.year}"
    return f"{moment.day} {moment:%b}{year} {moment:%H:%M}"


def clock(value: str) -> str:
    """`09:15:02.125`: the time of day of an ISO time, in the local zone."""
    return f"{local(value):%H:%M:%S.%f}"[:-3]


def when_exactly(value: str | None) -> str:
    """`2026-11-23 09:15:04 CET (UTC+01:00)`: the same with its zone, for titles."""
    if not value:
        return _NONE
    moment = local(value)
    return f"{moment:%Y-%m-%d %H:%M:%S} {moment.tzname()} (UTC{moment:%z})"


def starter(started_by: str) -> str:
    """`ada`, `ada@example.com`, `token 5d1c`, `admin token`: who started a run."""
    kind, _, name = started_by.partition(":")
    return f"token {name}" if kind == "token" and name else name or kind.replace("-", " ")


def pretty(value: Any) -> str:
    """Indented JSON; what JSON does not know, as text."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str).decode()


def exact(value: Any) -> str:
    """A value of the data as it is: text as text, all else as JSON, and no digit rounded away."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return repr(value)  # JSON has no word for what is not finite
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # JSON of a library ends at 64 bits
    return orjson.dumps(value, default=str).decode()


def one_line(value: Any) -> str:
    """A value of the data in a table cell: `exact`, on one line."""
    return " ".join(exact(value).split())


def breakable(text: str) -> Markup:
    """A name that may go on in the next line after each `_` and `/`."""
    return Markup(re.sub(r"([_/])(?=\w)", r"\1<wbr>", str(escape(text))))


def prompt_url(name: str, version: int | None = None) -> str:
    """The page of a prompt. Names may be `..`, so they are never part of the path."""
    return "/prompt?" + urlencode({"name": name} | ({} if version is None else {"version": version}))


def dataset_url(name: str, version: int | None = None) -> str:
    """The page of a dataset."""
    return "/dataset?" + urlencode({"name": name} | ({} if version is None else {"version": version}))


def code_url(name: str, version: int | str | None = None, **more: object) -> str:
    """The page of a piece of code; `file` of it, or what differs `against` another version."""
    fields = {"name": name, "version": version, **more}
    return "/source?" + urlencode({key: value for key, value in fields.items() if value is not None})


def run_url(run_id: str, rest: str = "") -> str:
    """The page of a run, or one below it."""
    return f"/runs/{quote(run_id, safe='')}{rest}"


def sweep_url(sweep_id: str, rest: str = "") -> str:
    """The page of a sweep, or one below it."""
    return f"/sweeps/{quote(sweep_id, safe='')}{rest}"


def addresses(values: Sequence[str], name: str) -> str:
    """Values as one parameter of an address, given as often as there are values."""
    return urlencode([(name, value) for value in values])


FILTERS: Mapping[str, Callable[..., Any]] = {
    "number": figure,
    "dollars": money,
    "duration": duration,
    "count": count,
    "money": money,
    "tokens": tokens,
    "bytes": size,
    "ms": milliseconds,
    "ms_pair": milliseconds_pair,
    "when": when,
    "clock": clock,
    "when_exactly": when_exactly,
    "starter": starter,
    "pretty": pretty,
    "one_line": one_line,
    "exact": exact,
    "addresses": addresses,
    "state": state_of,
    "status_symbol": symbol_of,
    "prompt_url": prompt_url,
    "dataset_url": dataset_url,
    "code_url": code_url,
    "run_url": run_url,
    "sweep_url": sweep_url,
    "percent": percent,
    "breakable": breakable,
}
