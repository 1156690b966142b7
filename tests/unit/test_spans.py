"""OpenTelemetry spans of agents: each case has its own, within bounds, whoever made the provider."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import orjson
import pytest

pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")

from opentelemetry.sdk.trace import TracerProvider

from promptlab.models.recording import CaseRecorder, recording
from promptlab.models.spans import MOST_SPAN, _collector

AGENTS = """
import asyncio, sys, threading
from contextvars import copy_context
import orjson
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from promptlab import Dataset, PromptLab

if sys.argv[2] == "own":
    trace.set_tracer_provider(TracerProvider())
tracer = trace.get_tracer("agents")

def sync_agent(row):
    with tracer.start_as_current_span("invoke_agent", attributes={"gen_ai.operation.name": "invoke_agent"}):
        with tracer.start_as_current_span(f"chat {row['n']}") as span:
            span.set_attribute("gen_ai.usage.input_tokens", 3)
            span.add_event("said", {"what": "x"})
    return "ok"

async def async_agent(row):
    async def tool(name):
        with tracer.start_as_current_span(f"execute_tool {name} {row['n']}"):
            await asyncio.sleep(0.01)
    with tracer.start_as_current_span("invoke_agent"):
        await asyncio.gather(tool("a"), tool("b"))
    if row["n"] == 3:
        raise ValueError("no")
    return "ok"

with PromptLab({"db_file": sys.argv[1]}) as pl:
    with tracer.start_as_current_span("outside"):
        pass
    for agent in (sync_agent, async_agent):
        rows = Dataset(name="rows", rows=[{"n": n} for n in range(10)])
        run = pl.experiment.run({"name": "a", "dataset": rows, "agent_proxy": agent})
        print(orjson.dumps([row["trace"].spans for row in run.results()]).decode())
"""


@pytest.mark.parametrize("provider", ["own", "none"])
def test_spans_that_end_in_a_case_are_its_own(provider: str, tmp_path: Path) -> None:
    """Of agents in threads and in tasks, also of one that fails; no other span is in a case."""
    command = [sys.executable, "-c", AGENTS, str(tmp_path / "lab.db"), provider]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    in_threads, in_tasks = (orjson.loads(line) for line in done.stdout.splitlines())
    for number, spans in enumerate(in_threads):
        assert [span["name"] for span in spans] == ["invoke_agent", f"chat {number}"]
        agent, chat = spans
        assert chat["parent_id"] == agent["span_id"] and agent["parent_id"] is None
        assert chat["attributes"] == {"gen_ai.usage.input_tokens": 3}
        assert chat["events"][0]["attributes"] == {"what": "x"}
        assert 0 <= chat["duration_ms"] <= agent["duration_ms"] and agent["start"].endswith("Z")
    for number, spans in enumerate(in_tasks):
        tools = {f"execute_tool a {number}", f"execute_tool b {number}"}
        assert {span["name"] for span in spans} == {"invoke_agent", *tools}


def test_a_span_is_kept_within_bounds() -> None:
    """Long texts are cut, values that are no JSON are said in words."""
    provider, case = TracerProvider(), CaseRecorder()
    provider.add_span_processor(_collector())
    tracer = provider.get_tracer("t")
    with recording(case), tracer.start_as_current_span("n" * 10_000) as span:
        for number in range(100):
            span.set_attribute(f"text {number}", "x" * 1_000_000)
        span.set_attribute("many", [2**60, True, 0.5])
        span.set_attribute("odd", float("nan"))
    trace = case.trace()
    assert trace is not None
    (found,) = trace.spans
    assert len(orjson.dumps(found)) <= MOST_SPAN and len(found["name"]) < 600
    assert found["attributes"]["many"] == [str(2**60), True, 0.5]


def test_a_span_that_ends_elsewhere_belongs_to_where_it_began() -> None:
    """Frameworks end spans in generators and callbacks, whose context is another one."""
    provider, case = TracerProvider(), CaseRecorder()
    provider.add_span_processor(_collector())
    with recording(case):
        span = provider.get_tracer("t").start_span("late")
    ending = threading.Thread(target=span.end)
    ending.start()
    ending.join()
    asyncio.run(asyncio.sleep(0))
    trace = case.trace()
    assert trace is not None and [one["name"] for one in trace.spans] == ["late"]
