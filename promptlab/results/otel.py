"""Writes the cases of a run as OpenTelemetry traces: OTLP JSON, one line a case, as its file exporter does;
and a last line with the scores of the run as a whole.

Names are those of the conventions for generative AI, version 1.38
(opentelemetry.io/docs/specs/semconv/gen-ai); what they have no name for begins with `promptlab.`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from promptlab.assets.rows import read_index, row_id
from promptlab.domain.messages import Message, text_message
from promptlab.domain.results import Completion, RunRecord, Score
from promptlab.domain.run_metrics import RunMetric
from promptlab.domain.summary import Summary
from promptlab.results.run_table import RunTable
from promptlab.results.table import Case

SCHEMA = "https://opentelemetry.io/schemas/1.38.0"
_KINDS = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}
_PROVIDERS = {
    "anthropic": "anthropic",
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "cohere": "cohere",
    "deepseek": "deepseek",
    "gemini": "gcp.gemini",
    "groq": "groq",
    "mistral": "mistral_ai",
    "openai": "openai",
    "perplexity": "perplexity",
    "xai": "x_ai",
}
"""Our providers by the conventions' names; others are called as here."""


async def write_traces(table: RunTable, path: Path) -> None:
    """Write a run's cases to a file, a line each, in order, and then the scores of the run as a whole, if it
    has any; of a run that is not complete, what there is."""
    with path.open("wb") as file:
        async for shard in read_index(table.blobs, table.content):
            for case in await table.answered(shard):
                traced = _Traced(table, case)
                file.write(orjson.dumps(traced.request(), option=orjson.OPT_APPEND_NEWLINE))
        summary = Summary.from_json(table.run.summary) if table.run.summary else Summary()
        if summary.run_metrics:
            whole = _of_run(table.run, summary.run_metrics)
            file.write(orjson.dumps(whole, option=orjson.OPT_APPEND_NEWLINE))


def _of_run(run: RunRecord, metrics: Mapping[str, RunMetric]) -> dict[str, Any]:
    """The scores of a run as a whole: events of a span as long as the run took, in a trace of its own."""
    start = _time(run.started_at or run.created_at)
    end = start + timedelta(seconds=run.wall_s)
    events = [
        {
            "timeUnixNano": _nanos(end),
            "name": "gen_ai.evaluation.result",
            "attributes": _attributes(
                [
                    ("gen_ai.evaluation.name", name),
                    ("gen_ai.evaluation.score.value", score.value),
                    ("gen_ai.evaluation.score.label", score.label),
                    ("gen_ai.evaluation.explanation", score.error or score.reason),
                    ("promptlab.evaluation.ci_low", score.low),
                    ("promptlab.evaluation.ci_high", score.high),
                    ("promptlab.evaluation.cases", metric.cases),
                ]
            ),
        }
        for metric in metrics.values()
        for name, score in metric.values.items()
    ]
    span = {
        "traceId": _digits(run.run_id, 32),
        "spanId": _digits(f"{run.run_id}/run", 16),
        "name": f"run {run.name}",
        "kind": _KINDS["internal"],
        "startTimeUnixNano": _nanos(start),
        "endTimeUnixNano": _nanos(end),
        "attributes": _attributes([("promptlab.cases", run.cases)]),
        "events": events,
    }
    return _request(run, [span])


def _request(run: RunRecord, spans: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Spans of a run as an export request of OTLP."""
    service = [("service.name", "promptlab"), ("promptlab.run.id", run.run_id)]
    resource = {"attributes": _attributes([*service, ("promptlab.experiment.name", run.name)])}
    found = {"scope": {"name": "promptlab"}, "spans": spans, "schemaUrl": SCHEMA}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [found], "schemaUrl": SCHEMA}]}


class _Traced:
    """One case as a trace: a span of its own, below it its turns and the spans that its code made."""

    def __init__(self, table: RunTable, case: Case) -> None:
        self._table, self._case, self._done = table, case, case.completion
        self._run, done = table.run, case.completion
        self._key = f"{self._run.run_id}/{done.case}/{done.trial}"
        self._trace_id = _digits(self._key, 32)
        self._root = _digits(f"{self._key}/case", 16)
        end = _time(done.created_at or self._run.started_at or self._run.created_at)
        took = timedelta(milliseconds=done.latency_ms or 0.0)
        spans = [_time(str(span["start"])) for span in self._recorded() if span.get("start")]
        self._start, self._end = min([end - took, *spans]), end

    def request(self) -> dict[str, Any]:
        """The case as an export request of OTLP."""
        return _request(self._run, [self._whole(), *self._turns(), *self._own()])

    def _recorded(self) -> Sequence[Mapping[str, Any]]:
        return self._done.trace.spans if self._done.trace else ()

    def _whole(self) -> dict[str, Any]:
        done, row = self._done, self._case.row
        operation, about = self._operation()
        attributes = [
            ("gen_ai.operation.name", operation),
            *about,
            ("gen_ai.conversation.id", self._key if done.trace and done.trace.turns else None),
            ("gen_ai.usage.input_tokens", done.prompt_tokens),
            ("gen_ai.usage.output_tokens", done.completion_tokens),
            ("gen_ai.response.finish_reasons", [done.finish_reason] if done.finish_reason else None),
            ("gen_ai.output.messages", _messages(self._said(done))),
            ("error.type", done.error.type if done.error else None),
            ("promptlab.case", done.case),
            ("promptlab.trial", done.trial),
            ("promptlab.row.id", row_id(row, self._table.content, done.case)),
            ("promptlab.attempts", done.attempts),
            ("promptlab.cost_usd", done.cost_usd),
            ("promptlab.cached", done.cached or None),
            ("promptlab.metadata", _json(dict(done.metadata)) if done.metadata else None),
        ]
        span = self._span(f"{operation} {about[0][1]}", self._root, "", self._start, self._end)
        span |= {"kind": _KINDS["internal" if operation == "invoke_agent" else "client"]}
        span |= {"attributes": _attributes(attributes), "events": list(self._events())}
        if done.error:
            span["status"] = {"code": 2, "message": done.error.message}
        return span

    def _operation(self) -> tuple[str, list[tuple[str, Any]]]:
        """Return what the case is: a call of a model, or of an agent."""
        provider, _, model = str(self._run.experiment["model"]["name"]).partition("/")
        if provider == "agent":
            return "invoke_agent", [("gen_ai.agent.name", model)]
        return "chat", [
            ("gen_ai.request.model", model),
            ("gen_ai.provider.name", _PROVIDERS.get(provider, provider)),
        ]

    def _said(self, done: Completion) -> Sequence[Message]:
        if done.messages:
            return done.messages
        return () if done.response is None else (text_message("assistant", done.response),)

    def _events(self) -> Iterator[dict[str, Any]]:
        """An event for each score."""
        scores = self._case.scores.scores if self._case.scores else {}
        for name, score in scores.items():
            found = [
                ("gen_ai.evaluation.name", name),
                ("gen_ai.evaluation.score.value", score.value),
                ("gen_ai.evaluation.score.label", _label(score)),
                ("gen_ai.evaluation.explanation", score.error.message if score.error else score.reason),
                ("error.type", score.error.type if score.error else None),
            ]
            yield {
                "timeUnixNano": _nanos(self._end),
                "name": "gen_ai.evaluation.result",
                "attributes": _attributes(found),
            }

    def _turns(self) -> Iterator[dict[str, Any]]:
        """A span for each turn of a conversation, one after another, as long as its answer took."""
        operation, about = self._operation()
        at = self._start
        for turn in self._done.trace.turns if self._done.trace else ():
            took = timedelta(milliseconds=turn.get("latency_ms") or 0.0)
            finish = turn.get("finish_reason")
            said = [text_message("user", turn["user"])] if turn.get("user") else []
            answer = [text_message("assistant", turn["assistant"])] if turn.get("assistant") else []
            attributes = [
                ("gen_ai.operation.name", operation),
                *about,
                ("gen_ai.conversation.id", self._key),
                ("gen_ai.usage.input_tokens", turn.get("prompt_tokens")),
                ("gen_ai.usage.output_tokens", turn.get("completion_tokens")),
                ("gen_ai.response.finish_reasons", [finish] if finish else None),
                ("gen_ai.input.messages", _messages(said)),
                ("gen_ai.output.messages", _messages(answer)),
                ("promptlab.turn", turn.get("number")),
                ("promptlab.cost_usd", turn.get("cost_usd")),
            ]
            own = _digits(f"{self._key}/turn/{turn.get('number')}", 16)
            span = self._span(f"{operation} {about[0][1]}", own, self._root, at, at + took)
            yield {**span, "kind": _KINDS["client"], "attributes": _attributes(attributes)}
            at += took

    def _own(self) -> Iterator[dict[str, Any]]:
        """The spans that the code of the case made, in this trace: those without a parent are the case's."""
        known = {str(span.get("span_id")) for span in self._recorded()}
        for number, span in enumerate(self._recorded()):
            parent = str(span.get("parent_id"))
            own = str(span.get("span_id") or _digits(f"{self._key}/span/{number}", 16))
            start = _time(str(span["start"])) if span.get("start") else self._start
            end = start + timedelta(milliseconds=float(span.get("duration_ms") or 0.0))
            above = parent if parent in known else self._root
            found = self._span(str(span.get("name")), own, above, start, end)
            found["kind"] = _KINDS.get(str(span.get("kind")), 1)
            found["attributes"] = _attributes((span.get("attributes") or {}).items())
            if events := span.get("events"):
                found["events"] = [_event(event, start) for event in events]
            if span.get("status") in ("ok", "error"):
                code = 1 if span["status"] == "ok" else 2
                found["status"] = {"code": code, **({"message": span["error"]} if span.get("error") else {})}
            yield found

    def _span(self, name: str, own: str, parent: str, start: datetime, end: datetime) -> dict[str, Any]:
        ids = {"traceId": self._trace_id, "spanId": own, **({"parentSpanId": parent} if parent else {})}
        return {**ids, "name": name, "startTimeUnixNano": _nanos(start), "endTimeUnixNano": _nanos(end)}


def _event(event: Mapping[str, Any], start: datetime) -> dict[str, Any]:
    at = _time(str(event["at"])) if event.get("at") else start
    attributes = _attributes((event.get("attributes") or {}).items())
    return {"timeUnixNano": _nanos(at), "name": str(event.get("name")), "attributes": attributes}


def _label(score: Score) -> str | None:
    if score.label is not None or score.passed is None:
        return score.label
    return "pass" if score.passed else "fail"


def _messages(messages: Sequence[Message]) -> str | None:
    """Messages as an attribute: JSON, as the conventions want it where a span holds no structures."""
    return _json([message.to_json() for message in messages]) if messages else None


def _json(value: Any) -> str:
    return orjson.dumps(value, default=dict).decode()


def _attributes(pairs: Any) -> list[dict[str, Any]]:
    return [{"key": str(name), "value": _value(value)} for name, value in pairs if value is not None]


def _value(value: Any) -> dict[str, Any]:
    """A value in OTLP's JSON, in which 64-bit integers are texts."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list | tuple):
        return {"arrayValue": {"values": [_value(one) for one in value if one is not None]}}
    return {"stringValue": value if isinstance(value, str) else _json(value)}


def _digits(text: str, many: int) -> str:
    """An id that is the same in every export."""
    return hashlib.sha256(text.encode()).hexdigest()[:many]


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _nanos(time: datetime) -> str:
    whole = time - datetime.fromtimestamp(0, UTC)
    return str(((whole.days * 86_400 + whole.seconds) * 1_000_000 + whole.microseconds) * 1000)
