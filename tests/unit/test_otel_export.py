"""Runs as OTLP JSON: what OpenTelemetry's own readers take, whatever a case has in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from promptlab import Dataset, PromptLab, PromptTemplate, Run, Score
from promptlab.models.recording import CaseRecorder
from tests.servers import ModelServer, Reply


@pytest.fixture
def pl(tmp_path: Path) -> Iterator[PromptLab]:
    with PromptLab({"db_file": str(tmp_path / "lab.db")}) as lab:
        yield lab


def traces(run: Run, folder: Path) -> list[list[dict[str, Any]]]:
    """The spans of each line, and what every export owes."""
    lines = run.export(folder / "run.otel.jsonl").read_bytes().splitlines()
    found = []
    for line in lines:
        (resource,) = orjson.loads(line)["resourceSpans"]
        (scope,) = resource["scopeSpans"]
        names = {one["key"]: one["value"] for one in resource["resource"]["attributes"]}
        assert names["promptlab.run.id"] == {"stringValue": run.run_id}
        assert scope["schemaUrl"] == "https://opentelemetry.io/schemas/1.38.0"
        spans = scope["spans"]
        ids = [span["spanId"] for span in spans]
        assert len(set(ids)) == len(ids) and len({span["traceId"] for span in spans}) == 1
        assert "parentSpanId" not in spans[0]
        assert all(span["parentSpanId"] in ids for span in spans[1:])
        for span in spans:
            assert len(span["spanId"]) == 16 and len(span["traceId"]) == 32
            assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])
        found.append(spans)
    return found


def plain(value: dict[str, Any]) -> Any:
    """A value of OTLP as Python's."""
    ((kind, found),) = value.items()
    if kind == "arrayValue":
        return [plain(one) for one in found["values"]]
    return int(found) if kind == "intValue" else found


def attributes(of: dict[str, Any]) -> dict[str, Any]:
    return {one["key"]: plain(one["value"]) for one in of["attributes"]}


def odd(data: dict[str, Any]) -> Score | float:
    if data["response"] == "to b":
        raise ValueError("cannot say")
    return Score(label="fine", reason="because ü")


def test_a_run_of_calls(pl: PromptLab, tmp_path: Path) -> None:
    """A span a case with tokens, cost and finish reason; an event a score; a failed case has its error."""
    rows = [{"id": "x", "q": "a"}, {"id": "y", "q": "b"}, {"id": "z", "q": "c"}]
    with ModelServer(lambda request: f"to {request.prompt}") as server:
        server.script(Reply(status=400, text="no"), prompt="c")
        model = {"name": "openai/mini", "endpoint": server.openai_url}
        prices = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}
        metrics = [
            {"metric": "contains", "params": {"values": "to a"}},
            {"metric": "odd", "evaluator": odd, "column_mapping": {"response": "$inference"}},
        ]
        run = pl.experiment.run(
            {
                "name": "calls",
                "dataset": Dataset(name="rows", rows=rows),
                "prompt_template": PromptTemplate(name="ask", user_prompt="<q>"),
                "model": {**model, **prices},
                "evaluation": metrics,
                "trials": 2,
            }
        )
    found = traces(run, tmp_path)
    assert len(found) == 6 and len({spans[0]["traceId"] for spans in found}) == 6
    (first,) = found[0]
    said = attributes(first)
    assert first["name"] == "chat mini" and first["kind"] == 3
    assert said["gen_ai.operation.name"] == "chat" and said["gen_ai.provider.name"] == "openai"
    assert said["gen_ai.request.model"] == "mini" and said["gen_ai.response.finish_reasons"] == ["stop"]
    assert said["gen_ai.usage.output_tokens"] == 4 and said["promptlab.row.id"] == "x"
    assert orjson.loads(said["gen_ai.output.messages"])[0]["parts"][0]["content"] == "to a"
    events = [attributes(event) for event in first["events"]]
    assert {event["name"] for event in first["events"]} == {"gen_ai.evaluation.result"}
    assert events[0] == {
        "gen_ai.evaluation.name": "contains",
        "gen_ai.evaluation.score.value": 1.0,
        "gen_ai.evaluation.score.label": "pass",
    }
    assert events[1]["gen_ai.evaluation.score.label"] == "fine"
    assert events[1]["gen_ai.evaluation.explanation"] == "because ü"
    broken = [attributes(event) for event in found[2][0]["events"]]
    assert broken[0]["gen_ai.evaluation.score.label"] == "fail" and broken[1]["error.type"]
    failed = found[4][0]
    assert failed["status"]["code"] == 2 and attributes(failed)["error.type"] == "bad_request"
    assert not failed["events"]
    assert traces(run, tmp_path) == found


def test_a_conversation_with_an_agent(pl: PromptLab, tmp_path: Path) -> None:
    """Turns and the agent's own spans are below the case's, also those whose parents are elsewhere."""

    def agent(row: dict[str, Any], case: CaseRecorder) -> str:
        begun = {"name": "outer", "span_id": f"{len(case.messages):016x}", "parent_id": "f" * 16}
        attributes = {"n": 1, "x": 0.5, "yes": True, "many": ["a", None, 2], "deep": {"a": 1}}
        case.add_span({**begun, "start": "2026-11-26T10:00:00.000001Z", "duration_ms": 2.5})
        child = {
            "name": "inner",
            "span_id": f"{100 + len(case.messages):016x}",
            "parent_id": begun["span_id"],
        }
        event = {"name": "said", "at": "2026-11-26T10:00:00Z", "attributes": {"k": "v"}}
        more = {
            "status": "error",
            "error": "broke",
            "kind": "client",
            "attributes": attributes,
            "events": [event],
        }
        case.add_span({**child, "start": "2026-11-26T10:00:00.000002Z", "duration_ms": 1, **more})
        return f"to {case.messages[-1].text}"

    config = {
        "name": "talk",
        "agent_proxy": agent,
        "dataset": Dataset(name="talks", rows=[{"said": ["a", "b"]}]),
        "conversation": {"user_turns": "$said"},
    }
    (spans,) = traces(pl.experiment.run(config), tmp_path)
    names = [span["name"].partition(" ")[0] for span in spans]
    assert names == ["invoke_agent"] * 3 + ["outer", "inner"] * 2
    whole, first, _, outer, inner, *_ = spans
    assert attributes(whole)["gen_ai.conversation.id"] == attributes(first)["gen_ai.conversation.id"]
    assert orjson.loads(attributes(first)["gen_ai.input.messages"])[0]["parts"][0]["content"] == "a"
    assert attributes(first)["promptlab.turn"] == 1
    assert outer["parentSpanId"] == whole["spanId"] and inner["parentSpanId"] == outer["spanId"]
    assert int(outer["endTimeUnixNano"]) - int(outer["startTimeUnixNano"]) == 2_500_000
    assert outer["startTimeUnixNano"].endswith("000001000")
    assert inner["status"] == {"code": 2, "message": "broke"} and inner["kind"] == 3
    deep = attributes(inner)
    assert deep == {"n": 1, "x": 0.5, "yes": True, "many": ["a", 2], "deep": '{"a":1}'}
    assert attributes(inner["events"][0]) == {"k": "v"}


def test_a_failed_case_says_what_its_code_raised(pl: PromptLab, tmp_path: Path) -> None:
    """As the status and the error of its span."""

    def agent(row: dict[str, Any]) -> str:
        raise KeyboardInterrupt

    config = {"name": "none", "agent_proxy": agent, "dataset": Dataset(name="rows", rows=[{"q": 1}])}
    run = pl.experiment.run(config)
    (spans,) = traces(run, tmp_path)
    assert attributes(spans[0])["error.type"] == "KeyboardInterrupt"
