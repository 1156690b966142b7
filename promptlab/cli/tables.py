"""Tables that fit the terminal: lines fold between words, and where a table has no room for that, each row is
a paragraph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from promptlab.report import all_failed, brief, dollars, duration, number

if TYPE_CHECKING:
    from promptlab.cloud.estimate import Estimate
    from promptlab.cloud.sweeps import SweepEstimate
    from promptlab.deleting.journal import Deletion
    from promptlab.domain.assets import AssetVersion
    from promptlab.domain.results import Progress, RunRecord
    from promptlab.queries.sql import SqlAnswer

_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE")
_HASH = 12
"""Characters of a hash that people see."""
_STATUS = {"completed": "green", "decided": "green", "running": "cyan"}


class _Fitted:
    """A table where it fits without folding inside a word; else a paragraph a row."""

    def __init__(self, columns: Sequence[str], *, right: Sequence[str], whole: Sequence[str]) -> None:
        self._columns, self._right, self._whole = columns, right, whole
        self._rows: list[tuple[str | Text, ...]] = []

    def add_row(self, *cells: str | Text) -> None:
        """Add a row, whose last cells may be missing; a cell of several lines keeps them."""
        self._rows.append((*cells, *[""] * (len(self._columns) - len(cells))))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for column in self._columns:
            table.add_column(
                column,
                justify="right" if column in self._right else "left",
                overflow="fold",
                no_wrap=column in self._whole,
            )
        for row in self._rows:
            table.add_row(*row)
        if Measurement.get(console, options, table).minimum <= options.max_width and self._has_room(
            options.max_width
        ):
            yield table
        else:
            yield from map(self._paragraph, self._rows)

    def _has_room(self, width: int) -> bool:
        """Whether every column has room for its longest word, or its longest line if it is not folded."""
        needed = 0
        for place, column in enumerate(self._columns):
            cells = [column, *(str(row[place]) for row in self._rows)]
            pieces = [
                piece
                for cell in cells
                for piece in (cell.splitlines() if column in self._whole else cell.split())
            ]
            needed += max(map(cell_len, pieces), default=0) + 2
        return needed <= width

    def _paragraph(self, row: Sequence[str | Text]) -> Text:
        first, *others = row
        named = [
            Text.assemble(f"{column} " if column in self._right else "", cell)
            for column, cell in zip(self._columns[1:], others, strict=True)
            if str(cell)
        ]
        parts = [Text(", ").join(part.split()) if "\n" in part.plain else part for part in named]
        return Text.assemble(first, "\n  ", Text(", ").join(parts))


def _table(*columns: str, right: Sequence[str] = (), whole: Sequence[str] = ()) -> _Fitted:
    """Begin a table without lines; `right` has the columns of numbers, `whole` those that are not folded."""
    return _Fitted(columns, right=right, whole=whole)


def runs_table(runs: Sequence[tuple[RunRecord, Progress | None]]) -> RenderableType:
    """Show one line a run, with the means of its metrics."""
    numbers = ("cases", "failed", "cost")
    table = _table(
        "run", "name", "status", *numbers, "metrics", right=numbers, whole=("run", "status", *numbers)
    )
    for run, progress in runs:
        facts = brief(run, progress)
        metrics = [
            f"{name} {number(metric['mean'])}{_of(metric)}" for name, metric in facts["metrics"].items()
        ]
        counts = (f"{run.cases:,}", f"{facts['failed']:,}", dollars(facts["cost_usd"]))
        none = all_failed(facts)
        status = (
            Text("unreadable", "red")
            if run.unreadable
            else Text("all failed", "red")
            if none
            else Text(run.status.replace("_", " "), _STATUS.get(run.status, "yellow"))
        )
        name = "\n".join((run.called, *(f"@{label}" for label in run.labels)))
        table.add_row(run.run_id, name, status, *counts, "\n".join(metrics))
    return table


def _of(metric: Mapping[str, Any]) -> str:
    """Say how many rows the mean is of where some have no value."""
    missing = metric.get("missing_rows")
    return f" ({metric['n']:,} of {metric['rows']:,})" if missing else ""


def deletions_table(deletions: Sequence[Deletion]) -> RenderableType:
    """Show one line a deletion."""
    whole = ("asked for", "gone")
    table = _table("what", "which", "by", *whole, right=(), whole=whole)
    for one in deletions:
        what = {"prompt_template": "prompt"}.get(one.what, one.what)
        done = one.done_at[:19] if one.done_at else Text("under way", "yellow")
        table.add_row(what, one.id, one.by, one.at[:19], done)
    return table


def configuration(run: RunRecord) -> RenderableType:
    """Everything that the run depends on, as it is recorded."""
    spec = run.experiment
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for kind in ("dataset", "prompt_template"):
        if asset := spec.get(kind):
            table.add_row(
                kind.replace("_template", ""), f"{asset['name']}@{asset['version']}  sha256 {asset['hash']}"
            )
    for kind in ("model", "embedding_model"):
        if model := spec.get(kind):
            table.add_row(kind.replace("_", " "), _pairs(model))
    for kind in ("agent", "model_code"):
        if code := spec.get(kind):
            table.add_row(kind.replace("_", " "), _code(code))
    metrics = (("metric", _metric(metric)) for metric in spec.get("evaluation", ()))
    for name, value in (*_conversation(spec), *metrics):
        table.add_row(name, value)
    table.add_row("trials", str(spec.get("trials", 1)))
    for model, price in spec.get("prices", {}).items():
        table.add_row("price", f"{model}: {_pairs(price)}")
    for name, words in (("tags", run.tags), ("labels", run.labels), ("commit", (run.commit or "",))):
        if any(words):
            table.add_row(name, ", ".join(words))
    if spec.get("hash"):
        table.add_row("experiment", f"sha256 {spec['hash']}")
    times = [
        f"created {run.created_at}",
        *([f"ended {run.finished_at}"] if run.finished_at else []),
        *([f"resumed {run.generation} ×"] if run.generation else []),
    ]
    table.add_row("times", ", ".join(times))
    return table


def _conversation(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Return what a run's conversations are, if its cases are some."""
    if talk := spec.get("conversation"):
        played = talk.get("simulated_user") or {}
        yield "conversation", _pairs({key: value for key, value in talk.items() if key != "simulated_user"})
        if played:
            yield "simulated user", _pairs({**played, "model": _pairs(played["model"])})


def _metric(metric: Mapping[str, Any]) -> str:
    called = (
        metric["name"] if metric["name"] == metric["metric"] else f"{metric['name']} ({metric['metric']})"
    )
    code = f" {_code(metric['code'])}" if metric.get("code") else ""
    params = f"; {_pairs(metric['params'])}" if metric.get("params") else ""
    judges = ", ".join(str(judge["name"]) for judge in metric.get("judge") or ())
    judged = f"; judged by {judges}" if judges else ""
    return f"{called}{code}: {_pairs(metric['column_mapping'])}{params}{judged}"


def _code(code: Mapping[str, Any]) -> str:
    return f"{code.get('file') or code.get('module')}:{code['qualname']}"


def _pairs(value: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={item}" if key != "name" else str(item) for key, item in value.items())


def failures_table(failures: Sequence[Mapping[str, Any]], *, more: bool) -> RenderableType:
    """Some failed cases and failed scores, with their messages; `more`: there may be more of them."""
    numbers = ("case", "attempts")
    table = _table("case", "id", "what", "attempts", "message", right=numbers, whole=numbers)
    for failure in failures:
        what = failure["type"] if failure["metric"] is None else f"metric {failure['metric']}"
        trial = f" trial {failure['trial'] + 1}" if failure["trial"] else ""
        table.add_row(
            f"{failure['case']:,}{trial}", failure["id"], what, f"{failure['attempts']:,}", failure["message"]
        )
    shown = f"The first {len(failures):,} failed cases" if more else "Failed cases"
    return Group(Text(f"{shown}:", style="yellow"), table)


def attempts_table(tries: Sequence[Mapping[str, Any]], attempts: int) -> RenderableType:
    """One line an attempt of a case; `attempts` is how many there were."""
    names = ("no.", "began (UTC)", "took", "outcome", "cost", "what came back")
    table = _table(*names, right=("no.", "took", "cost"), whole=names[:-1])
    last = 0
    for one in tries:
        if one["number"] > last + 1:
            table.add_row("…", f"{one['number'] - last - 1:,} more")
        last = one["number"]
        outcome = " ".join(str(part) for part in (one["type"] or "answered", one["status"]) if part)
        request = f"(request {one['request_id']})" if one["request_id"] else ""
        table.add_row(
            str(one["number"]),
            one["started_at"][11:19],
            duration(one["duration_ms"] / 1000),
            outcome,
            dollars(one["cost_usd"]),
            " ".join([*(one["said"] or "").split(), request]),
        )
    return Group(Text(f"{attempts:,} attempt{'s' if attempts != 1 else ''}:", style="bold"), table)


def answer_table(answer: SqlAnswer) -> RenderableType:
    """The rows that a question in SQL gave."""
    numbers = [name for name, kind in zip(answer.columns, answer.types, strict=True) if kind in _NUMBERS]
    table = _table(*answer.columns, right=numbers)
    for row in answer.rows:
        table.add_row(*("" if value is None else Text(str(value)) for value in row))
    return table


def assets_table(assets: Sequence[AssetVersion]) -> _Fitted:
    """One line an asset, or one line a version."""
    table = _table("name", "version", "labels", "created", "hash", "description", right=("version",))
    for asset in assets:
        table.add_row(
            asset.name,
            str(asset.version),
            ", ".join(asset.labels),
            asset.created_at[:10],
            asset.hash[:_HASH],
            asset.description,
        )
    return table


def prompt_text(asset: AssetVersion) -> RenderableType:
    """A prompt's text, as it is."""
    content = asset.content
    messages = content["messages"] or [
        {"role": role, "content": text}
        for role, text in (("system", content["system_prompt"]), ("user", content["user_prompt"]))
        if text
    ]
    jinja = ", jinja2" if content["template_format"] == "jinja2" else ""
    parts = [
        part
        for message in messages
        for part in (Text(f"{message['role']}:", style="bold"), Text(message["content"]), Text())
    ]
    return Group(Text(f"{asset.name}@{asset.version}{jinja}", style="bold"), Text(), *parts[:-1])


def code_shape(asset: AssetVersion) -> RenderableType:
    """The files of a piece of code, what they define, and its packages."""
    content = asset.content
    table = _table("file", "bytes", right=("bytes",))
    for file in content["files"]:
        table.add_row(file["path"], f"{file['bytes']:,}")
    parts: list[RenderableType] = [Text(f"{asset.name}@{asset.version}", style="bold"), Text(), table]
    for entry in content.get("entries", ()):
        parts.append(Text(f"{asset.name}@{asset.version}/{entry['module']}:{entry['name']}  {entry['kind']}"))
    if content["pickled_bytes"]:
        parts.append(Text(f"an object of {content['pickled_bytes']:,} bytes, for Python {content['python']}"))
    if content["requirements"]:
        parts.append(Text(f"packages: {', '.join(content['requirements'])}"))
    return Group(*parts)


def dataset_shape(asset: AssetVersion) -> RenderableType:
    """How many rows a dataset has, and its columns."""
    content = asset.content
    table = _table("column", "type", "rows", right=("rows",))
    for column in content["columns"]:
        table.add_row(column["name"], column["type"], f"{column['rows']:,}")
    named = f"named by {content['id_column']!r}" if content["id_column"] else "named by their numbers"
    return Group(
        Text(f"{asset.name}@{asset.version}: {content['rows']:,} rows, {named}, {content['bytes']:,} bytes"),
        Text(),
        table,
    )


def estimate_tables(found: Estimate) -> RenderableType:
    """Build the tables of an estimate: what a run would cost, how long it would take, and what
    an unused stack costs."""
    course = [*_course(found), *([_tried_line(found)] if found.tried is not None else [])]
    return Group(_money(found), Text(), *map(Text, course), Text(), _idle(found))


def laptop_tables(found: Estimate) -> RenderableType:
    """Show what a run on this machine would cost, and how long it would take."""
    table = _table("dollars", "low", "expected", "high", right=("low", "expected", "high"))
    rows = [
        (found.model, found.model_usd),
        ("in batches, within a day", found.batch_usd),
        ("in the flex tier, slower", found.flex_usd),
    ]
    for name, usd in rows[: 1 if found.model_usd is None else None]:
        if usd is not None or name == found.model:
            cells = (usd.low, usd.expected, usd.high) if usd else (None, None, None)
            table.add_row(name, *map(dollars, cells))
    return Group(table, Text(), *map(Text, _laptop_lines(found)))


def sweep_tables(found: SweepEstimate) -> RenderableType:
    """Show what each run of a sweep would cost, and all together."""
    axes = list(dict.fromkeys(axis for choices, _ in found.cells for axis in choices))
    numbers = ("low", "expected", "high", "at most", "time")
    table = _table(*axes, *numbers, right=numbers)
    for choices, one in found.cells:
        usd = (
            (one.model_usd.low, one.model_usd.expected, one.model_usd.high) if one.model_usd else (None,) * 3
        )
        texts = [choices.get(axis, "") for axis in axes]
        wall = duration(one.laptop_wall_s.expected)
        table.add_row(*texts, *map(dollars, usd), dollars(one.worst_usd), wall)
    total, wall_s = found.model_usd, found.laptop_wall_s
    cases = sum(one.work.cases for _, one in found.cells)
    costs = "of unknown cost"
    if total is not None:
        costs = f"{dollars(total.low)} … {dollars(total.expected)} … {dollars(total.high)}"
    lines = [
        f"All {len(found.cells)} runs: {cases:,} cases, {costs}, {duration(wall_s.low)} … "
        f"{duration(wall_s.high)} one after the other."
    ]
    if found.max_cost_usd is not None:
        lines.append(f"Its max_cost_usd, {dollars(found.max_cost_usd)}, is for all of them together.")
    elif found.worst_usd is not None:
        lines.append(f"At most {dollars(found.worst_usd)}; --max-cost-usd bounds all of them together.")
    return Group(table, Text(), *map(Text, lines))


def _tried_line(found: Estimate) -> str:
    assert found.tried is not None
    failed = f", {found.tried.failed:,} of them failed" if found.tried.failed else ""
    return (
        f"{found.tried.cases:,} cases were run to see ({found.tried.run_id}{failed}): "
        f"{found.prompt_tokens.expected:,.0f} tokens read and {found.answer_tokens.expected:,.0f} written a "
        "call."
    )


def _laptop_lines(found: Estimate) -> list[str]:
    wall, read, written = found.laptop_wall_s, found.prompt_tokens, found.answer_tokens
    lines = [
        f"{found.work.cases:,} cases take {duration(wall.low)} … {duration(wall.expected)} … "
        f"{duration(wall.high)} on one machine, by {found.limited_by}."
    ]
    if found.worst_usd is not None:
        lines.append(
            f"At most {dollars(found.worst_usd)}, were every answer as long as it may be; --max-cost-usd "
            "bounds it."
        )
    lines += _judge_lines(found)
    if found.user_usd is not None:
        lines.append(f"The simulated users: about {dollars(found.user_usd.expected)} more.")
    if found.metrics_usd:
        lines.append(f"The metrics' own calls: about {dollars(found.metrics_usd)} more.")
    if found.tried is not None:
        lines.append(_tried_line(found))
    else:
        lines.append(
            f"{_one(found)} reads {read.low:,.0f} … {read.high:,.0f} tokens (from {found.sampled:,} rows) "
            f"and is taken to write {written.low:,.0f} … {written.high:,.0f}: --try 20 runs 20 rows to see."
        )
    return lines


def _one(found: Estimate) -> str:
    """Return what tokens are of: a call, or all turns of a case."""
    if (turns := found.turns) is None:
        return "A call"
    if turns.low == turns.high:
        return f"A case of {turns.expected:,.3g} turns"
    return f"A case of {turns.low:,.3g} … {turns.expected:,.3g} … {turns.high:,.3g} turns"


def _judge_lines(found: Estimate) -> list[str]:
    return [
        f"{one.metric}, judged by {one.judge}: {one.calls:,.0f} calls of {one.prompt_tokens.expected:,.0f} + "
        f"{one.answer_tokens.expected:,.0f} tokens, "
        + (
            "at a price that is not known."
            if one.usd is None
            else f"{dollars(one.usd.low)} … {dollars(one.usd.expected)} … {dollars(one.usd.high)}."
        )
        for one in found.judges
    ]


def _money(found: Estimate) -> _Fitted:
    table = _table("a run", "low", "expected", "high", right=("low", "expected", "high"))
    rows = [
        (f"{found.model}, tokens", found.model_usd),
        *([("the same in batches, within a day", found.batch_usd)] if found.batch_usd else []),
        *found.services.items(),
        ("all but the model", found.cloud_usd),
    ]
    if found.model_usd is not None:
        parts = [
            (found.model_usd.low, found.cloud_usd.low),
            (found.model_usd.expected, found.cloud_usd.expected),
            (found.model_usd.high, found.cloud_usd.high),
        ]
        rows.append(("in all", type(found.cloud_usd)(*map(sum, parts))))
    for name, usd in rows:
        table.add_row(
            name, *((dollars(usd.low), dollars(usd.expected), dollars(usd.high)) if usd else ("unknown",) * 3)
        )
    return table


def _course(found: Estimate) -> list[str]:
    work, run, wall = found.work, found.simulated, found.wall_s
    read, written = found.prompt_tokens, found.answer_tokens
    lines = [
        f"{work.cases:,} cases in {work.shards:,} shards, {work.together} to a worker, "
        f"{run.workers:,} workers at once: "
        f"{duration(wall.low)} … {duration(wall.expected)} … {duration(wall.high)}",
        f"{_one(found)} reads {read.low:,.0f} … {read.expected:,.0f} … {read.high:,.0f} tokens (from "
        f"{found.sampled:,} rows) and is taken to write "
        f"{written.low:,.0f} … {written.expected:,.0f} … {written.high:,.0f}, in {work.latency_s:g} s.",
    ]
    if not run.throttles:
        lines.append(
            f"No quota of the account is hit; MaxConcurrency may be up to {found.widest:,} for runs of "
            "this kind."
        )
    for throttle in run.throttles:
        lines.append(
            f"Throttled: {throttle.limit}, {throttle.waits:,} times, {duration(throttle.longest_s)} at "
            "most. No answer is lost."
        )
    if run.gives_up:
        lines.append(
            "That is longer than retries go on: some shards would be given up, and the run would have to "
            "be resumed."
        )
    if run.throttles:
        lines.append(f"MaxConcurrency {found.widest:,} stays inside the quotas.")
    return lines


def _idle(found: Estimate) -> _Fitted:
    table = _table("a month in which nothing runs", "from", "to", "", right=("from", "to"))
    for item in found.idle:
        table.add_row(item.what, dollars(item.low_usd), dollars(item.high_usd), item.why)
    table.add_row(
        "in all", dollars(sum(i.low_usd for i in found.idle)), dollars(sum(i.high_usd for i in found.idle))
    )
    return table
