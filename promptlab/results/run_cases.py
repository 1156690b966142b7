"""Reads the cases of a run from its results file, as far as metrics of the run as a whole need them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from promptlab.domain.experiment import METADATA, Metric, score_source
from promptlab.domain.messages import Message, read_messages
from promptlab.domain.results import Completion, Failure
from promptlab.domain.trace import trace_from
from promptlab.duck import connect, parquet, quoted, reading_results
from promptlab.results.table import Case, Columns, natural

FETCH = 500
_FROM_MESSAGES = frozenset({"$messages", "$tool_calls", "$reasoning"})
_FROM_TRACE = frozenset({"$contexts", "$turns", "$spans"})
_ALWAYS = ("case", "trial", "id", "response", "error_type", "error_message")
_PLAIN = (
    "finish_reason",
    "latency_ms",
    "cost_usd",
    "prompt_tokens",
    "completion_tokens",
)


def read_cases(
    path: Path, shape: Columns, json_columns: frozenset[str], metrics: Sequence[Metric]
) -> Iterator[tuple[str, Case, Mapping[str, Any]]]:
    """Read the cases with what metrics look at, in order: of a case the row's id, its row (the columns that
    are named) with its answer, and the scores that are named, by their source (`$score.exact_match`).

    Args:
        path: the results file, in a scratch folder.
        shape: the run's columns.
        json_columns: columns of the dataset whose values are JSON.
        metrics: what is to be computed.

    Raises:
        StoreDamagedError: the file is damaged.
    """
    sources = {source for metric in metrics for source in metric.column_mapping.values()}
    sources |= {metric.when.column for metric in metrics if metric.when is not None}
    sources |= {metric.cluster_by for metric in metrics if metric.cluster_by is not None}
    inputs = {source: name for source, name, _ in shape.inputs if source in sources}
    scores = {source: _score_column(source, shape) for source in sources if score_source(source)}
    names = [*_ALWAYS, *_PLAIN, *inputs.values(), *dict.fromkeys(scores.values())]
    if any(s == METADATA or s.startswith(f"{METADATA}.") for s in sources):
        names.append("metadata")
    names += ["messages"] if any(_is_said(source) for source in sources) else []
    names += ["trace"] if sources & _FROM_TRACE else []
    chosen = ", ".join(quoted(name) for name in names)
    with reading_results(), connect(path.parent) as con:
        cursor = con.execute(f"SELECT {chosen} FROM {parquet(path)}")
        while rows := cursor.fetchmany(FETCH):
            for found in rows:
                row = dict(zip(names, found, strict=True))
                given = {source: _value(row[name], source in json_columns) for source, name in inputs.items()}
                found_scores = {source: row[name] for source, name in scores.items()}
                yield str(row["id"]), Case(given, _completion(row), None), found_scores


def _is_said(source: str) -> bool:
    return source in _FROM_MESSAGES or source == METADATA or source.startswith(f"{METADATA}.tool_calls")


def _score_column(source: str, shape: Columns) -> str:
    part, name = score_source(source) or ("", "")
    return f"{part}.{dict(shape.scores)[name]}"


def _value(value: Any, is_json: bool) -> Any:
    return orjson.loads(value) if is_json and isinstance(value, str) else value


def _completion(row: Mapping[str, Any]) -> Completion:
    metadata = row.get("metadata")
    kind = row["error_type"]
    said: tuple[Message, ...] = ()
    if row.get("messages"):
        said = read_messages(natural(dict(row))["messages"])
    return Completion(
        shard=0,
        case=row["case"],
        trial=row["trial"],
        response=row["response"],
        error=Failure(kind, row["error_message"] or "") if kind else None,
        metadata=orjson.loads(metadata) if metadata else {},
        messages=said,
        trace=trace_from(orjson.loads(row["trace"])) if row.get("trace") else None,
        **{name: row[name] for name in _PLAIN},
    )
