"""Spans of agents that are written with libraries of others: for real, with these installed for the test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

PACKAGES = [
    "pydantic-ai-slim[openai]==2.68.0",
    "openai-agents==0.24.0",
    "openinference-instrumentation-openai-agents==2.6.0",
    "opentelemetry-sdk>=1.30,<2",
]
BEGIN = """
import orjson, sys
from promptlab import Dataset, PromptLab
from tests.servers import ModelServer, Reply

CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bonn"}'}}

def answer(request):
    if any(message["role"] == "tool" for message in request.json["messages"]):
        return "it is sunny"
    message = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    choices = [{"index": 0, "message": message, "finish_reason": "tool_calls"}]
    usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    made = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
    return Reply(body=made | {"choices": choices, "usage": usage})

server = ModelServer(answer).__enter__()
"""
PYDANTIC_AI = """
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

Agent.instrument_all()
agent = Agent(OpenAIChatModel("m", provider=OpenAIProvider(base_url=server.openai_url, api_key="k")))

@agent.tool_plain
def weather(city: str) -> str:
    return "sunny in " + city

async def ask(row):
    return (await agent.run(row["q"])).output
"""
OPENAI_AGENTS = """
from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool
from openai import AsyncOpenAI
from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

trace.set_tracer_provider(TracerProvider())
OpenAIAgentsInstrumentor().instrument(exclusive_processor=True)

@function_tool
def weather(city: str) -> str:
    return "sunny in " + city

client = AsyncOpenAI(base_url=server.openai_url, api_key="k")
agent = Agent(name="a", model=OpenAIChatCompletionsModel("m", client), tools=[weather])

async def ask(row):
    return (await Runner.run(agent, row["q"])).final_output
"""
END = """
rows = Dataset(name="rows", rows=[{"q": f"How is the weather, {n}?"} for n in range(4)])
with PromptLab({"db_file": sys.argv[1]}) as pl:
    run = pl.experiment.run({"name": "a", "dataset": rows, "agent_proxy": ask}, quiet=True)
    spans = [row["trace"].spans for row in run.results()]
    print(orjson.dumps([[row["response"] for row in run.results()], spans]).decode())
server.__exit__(None, None, None)
"""


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the libraries."""
    folder = tmp_path_factory.mktemp("libraries")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--target"]
    done = subprocess.run(
        [*pip, str(folder), *PACKAGES], capture_output=True, text=True, check=False, timeout=600
    )
    if "No matching distribution" in done.stderr or "onnection" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(
    ("agent", "names"),
    [
        (PYDANTIC_AI, ["invoke_agent agent", "chat m", "execute_tool weather", "chat m"]),
        (OPENAI_AGENTS, ["a", "generation", "weather", "generation"]),
    ],
    ids=["pydantic-ai", "openai-agents"],
)
@pytest.mark.long
def test_an_agent_of_a_library_has_its_spans_with_its_cases(
    agent: str, names: list[str], libraries: Path, tmp_path: Path
) -> None:
    """Each case has those of its own run: the agent, both calls of the model, and the call of the tool."""
    script = tmp_path / "script.py"
    script.write_text(BEGIN + agent + END)
    path = os.pathsep.join([str(Path(__file__).resolve().parents[2]), str(libraries)])
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "lab.db")],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    responses, cases = orjson.loads(done.stdout.splitlines()[-1])
    assert responses == ["it is sunny"] * 4
    assert len({span["trace_id"] for spans in cases for span in spans}) == 4
    for spans in cases:
        assert [span["name"] for span in spans if span["name"] in names] == names
        assert len({span["trace_id"] for span in spans}) == 1
