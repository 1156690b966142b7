"""The results table: one row a case, the same columns in parts, results.parquet, exports and DataFrames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import orjson

from promptlab.assets.rows import row_id
from promptlab.domain.assets import DatasetContent
from promptlab.domain.experiment import Metric
from promptlab.domain.results import CaseKey, Completion, Score, ScoreSet
from promptlab.duck import literal, quoted

_TYPES = {
    "string": "VARCHAR",
    "integer": "BIGINT",
    "number": "DOUBLE",
    "boolean": "BOOLEAN",
    "json": "VARCHAR",
}
_ATTEMPT = {
    "number": "INTEGER",
    "started_at": "VARCHAR",
    "duration_ms": "DOUBLE",
    "status": "INTEGER",
    "type": "VARCHAR",
    "said": "VARCHAR",
    "request_id": "VARCHAR",
    "prompt_tokens": "BIGINT",
    "completion_tokens": "BIGINT",
    "cost_usd": "DOUBLE",
}
_PART = {
    "type": "VARCHAR",
    "content": "VARCHAR",
    "signature": "VARCHAR",
    "id": "VARCHAR",
    "name": "VARCHAR",
    "arguments": "JSON",
    "response": "JSON",
    "is_error": "BOOLEAN",
    "modality": "VARCHAR",
    "mime_type": "VARCHAR",
    "sha256": "VARCHAR",
    "size": "BIGINT",
    "uri": "VARCHAR",
    "file_id": "VARCHAR",
}


_MEDIA = ("modality", "mime_type")
_KINDS: dict[str, tuple[str, ...]] = {
    "text": ("content",),
    "reasoning": ("content",),
    "tool_call": ("id", "name", "arguments"),
    "tool_call_response": ("id", "response"),
    "blob": (*_MEDIA, "sha256", "size"),
    "uri": (*_MEDIA, "uri"),
    "file": (*_MEDIA, "file_id"),
}
"""The fields of each kind of part."""
_MAYBE = {"reasoning": "signature", "tool_call_response": "is_error"}
"""A further field of some, which most lack."""


def _structs(fields: Mapping[str, str]) -> str:
    return f"STRUCT({', '.join(f'{quoted(name)} {kind}' for name, kind in fields.items())})[]"


ATTEMPTS = _structs(_ATTEMPT)
"""DuckDB's type of a case's attempts: the fields of `Attempt`."""
MESSAGES = _structs({"role": "VARCHAR", "parts": _structs(_PART), "finish_reason": "VARCHAR"})
"""DuckDB's type of a case's messages: those of `Message` and of all kinds of parts; null where a kind of part
has no such field."""
_COMPLETION = {
    "response": "VARCHAR",
    "error_type": "VARCHAR",
    "error_message": "VARCHAR",
    "finish_reason": "VARCHAR",
    "prompt_tokens": "BIGINT",
    "completion_tokens": "BIGINT",
    "latency_ms": "DOUBLE",
    "cost_usd": "DOUBLE",
    "attempts": "INTEGER",
    "metadata": "VARCHAR",
    "tries": ATTEMPTS,
    "cached": "BOOLEAN",
    "messages": MESSAGES,
    "trace": "VARCHAR",
    "cached_tokens": "BIGINT",
    "cache_write_tokens": "BIGINT",
    "reasoning_tokens": "BIGINT",
}
TOKEN_COUNTS = ("cached_tokens", "cache_write_tokens", "reasoning_tokens")
"""Columns of tokens that are known of few answers."""
_ALWAYS = tuple(
    name
    for name in _COMPLETION
    if name not in ("error_type", "error_message", "metadata", "tries", "messages", "trace", *TOKEN_COUNTS)
)
"""The completion's columns that a row has whatever they hold."""
_SCORE = {
    "score": "DOUBLE",
    "passed": "BOOLEAN",
    "label": "VARCHAR",
    "reason": "VARCHAR",
    "score_error": "VARCHAR",
}
_JUDGED = {"judged": "VARCHAR"}
"""The further column of a metric that judges a part of the answer."""


@dataclass(frozen=True, slots=True)
class Case:
    """A dataset row, what the model answered, and how that was scored."""

    row: dict[str, Any]
    completion: Completion
    scores: ScoreSet | None


@dataclass(frozen=True, slots=True)
class Columns:
    """The table's columns for one dataset and one set of metrics."""

    types: dict[str, str]
    """Name → DuckDB type, in order."""
    inputs: tuple[tuple[str, str, bool], ...]
    """(dataset column, its name in the table, whether its values are written as JSON text)."""
    scores: tuple[tuple[str, str], ...]
    """(metric, its name in the table)."""
    judged: tuple[tuple[str, str], ...] = ()
    """(metric of the run as a whole, the column with what it takes out of each answer)."""


def columns(content: DatasetContent, metrics: Sequence[Metric], of_run: Sequence[Metric] = ()) -> Columns:
    """The columns: `case`, `trial`, `id`, `input.<column>` …, the completion's, per metric
    `score.<metric>` …, and `judged.<metric>` of those of the run as a whole that take something out of
    the answer."""
    return _columns(
        tuple((c.name, c.type) for c in content.columns),
        tuple((m.name, m.judges_part) for m in metrics),
        tuple(m.name for m in of_run if m.judges_part),
    )


@lru_cache(maxsize=64)
def _columns(
    inputs: tuple[tuple[str, str], ...], metrics: tuple[tuple[str, bool], ...], of_run: tuple[str, ...]
) -> Columns:
    # SQL names are the same whatever their case; two columns that differ only so get a number.
    taken: set[str] = set()

    def unique(name: str) -> str:
        candidate, n = name, 2
        while candidate.lower() in taken:
            candidate, n = f"{name}_{n}", n + 1
        taken.add(candidate.lower())
        return candidate

    named = tuple((name, unique(name), kind) for name, kind in inputs)
    taken.clear()
    scores = tuple((name, unique(name)) for name, _ in metrics)
    judged = tuple((name, f"judged.{unique(name)}") for name in of_run)
    types = {"case": "BIGINT", "trial": "INTEGER", "id": "VARCHAR"}
    types |= {f"input.{unique_name}": _TYPES[kind] for _, unique_name, kind in named}
    types |= _COMPLETION
    for (_, unique_name), (_, judges_part) in zip(scores, metrics, strict=True):
        parts = _SCORE | _JUDGED if judges_part else _SCORE
        types |= {f"{part}.{unique_name}": kind for part, kind in parts.items()}
    types |= dict.fromkeys((column for _, column in judged), "VARCHAR")
    return Columns(
        types,
        tuple(
            (name, f"input.{unique_name}", kind in ("string", "json")) for name, unique_name, kind in named
        ),
        scores,
        judged,
    )


def with_answer_columns(names: Sequence[str]) -> list[str]:
    """Add to the columns of a results file those that an older version left out, in their place."""
    there = [name for name in names if name in _COMPLETION]
    if len(there) == len(_COMPLETION) or not there:
        return list(names)
    at = names.index(there[0])
    others = [name for name in names[at:] if name not in _COMPLETION]
    return [*names[:at], *_COMPLETION, *others]


def known_type(name: str) -> str | None:
    """DuckDB's type of a column whose name alone tells it; None for those of a dataset."""
    fixed: str | None = {"case": "BIGINT", "trial": "INTEGER", "id": "VARCHAR", **_COMPLETION}.get(name)
    part, point, _ = name.partition(".")
    return fixed or ((_SCORE | _JUDGED).get(part) if point else None)


def messages_sql(value: str) -> str:
    """Make SQL of a case's messages as JSON, each part with the fields of its kind only."""
    kinds = []
    for kind, fields in _KINDS.items():
        there = _MAYBE.get(kind)
        if there is not None:
            # False is as good as nothing.
            has = f"p.type = '{kind}' AND coalesce(p.{quoted(there)}::VARCHAR, 'false') <> 'false'"
            kinds.append(f"WHEN {has} THEN {_object('p', ('type', *fields, there))}")
        kinds.append(f"WHEN p.type = '{kind}' THEN {_object('p', ('type', *fields))}")
    part = f"CASE {' '.join(kinds)} END"
    parts = f"'parts', list_transform(m.parts, lambda p: {part})"
    said = f"json_object('role', m.role, {parts}"
    message = (
        f"CASE WHEN m.finish_reason IS NULL THEN {said}) ELSE {said}, 'finish_reason', m.finish_reason) END"
    )
    return f"to_json(list_transform({value}, lambda m: {message}))"


def _object(of: str, fields: Sequence[str]) -> str:
    return f"json_object({', '.join(f'{literal(name)}, {of}.{quoted(name)}' for name in fields)})"


def natural(row: dict[str, Any]) -> dict[str, Any]:
    """Give a row that was read from Parquet with its messages as `Message.to_json` gives them."""
    if not row.get("messages"):
        return row
    said = [
        {"role": m["role"], "parts": [_natural_part(part) for part in m["parts"]]}
        | ({} if m["finish_reason"] is None else {"finish_reason": m["finish_reason"]})
        for m in row["messages"]
    ]
    return {**row, "messages": said}


def _natural_part(part: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: part[name] for name in ("type", *_KINDS[part["type"]])}
    for name in ("arguments", "response"):
        if isinstance(found.get(name), str):
            found[name] = orjson.loads(found[name])
    maybe = _MAYBE.get(part["type"])
    return found | {maybe: part[maybe]} if maybe is not None and part.get(maybe) else found


def input_row(
    content: DatasetContent, metrics: Sequence[Metric], source: Mapping[str, Any], key: CaseKey
) -> dict[str, Any]:
    """Return the part of a table's row that is known before the case is answered."""
    row: dict[str, Any] = {"case": key.case, "trial": key.trial, "id": row_id(source, content, key.case)}
    for column, name, text in columns(content, metrics).inputs:
        value = source.get(column)
        if value is not None:
            row[name] = value if not text or isinstance(value, str) else orjson.dumps(value).decode()
    return row


def table_row(
    content: DatasetContent,
    metrics: Sequence[Metric],
    case: Case,
    judged: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """One row of the table; a column without a value is left out. `judged` is what metrics of the run as a
    whole take out of the answer, by column."""
    shape, done = columns(content, metrics), case.completion
    row = input_row(content, metrics, case.row, done.key)
    for name in _ALWAYS:
        row[name] = getattr(done, name)
    for name in TOKEN_COUNTS:
        if (count := getattr(done, name)) is not None:
            row[name] = count
    if done.messages:
        row["messages"] = [message.to_json() for message in done.messages]
    if done.trace is not None:
        row["trace"] = orjson.dumps(done.trace.to_json()).decode()
    if done.metadata:
        row["metadata"] = orjson.dumps(done.metadata, default=dict).decode()
    if done.tries:
        row["tries"] = [asdict(attempt) for attempt in done.tries]
    if done.error:
        row["error_type"], row["error_message"] = done.error.type, done.error.message
    for metric, name in shape.scores if case.scores else ():
        score = case.scores.scores.get(metric)  # type: ignore[union-attr]
        if score is not None:
            row.update(_score_cells(name, score))
            if score.judged is not None and f"judged.{name}" in shape.types:
                row[f"judged.{name}"] = score.judged
    row.update(judged or {})
    return row


def _score_cells(name: str, score: Score) -> dict[str, Any]:
    values = {
        "score": score.value,
        "passed": score.passed,
        "label": score.label,
        "reason": score.reason,
        "score_error": score.error and score.error.message,
    }
    return {f"{part}.{name}": value for part, value in values.items() if value is not None}
