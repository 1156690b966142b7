"""Answers that are more than a text: recorded, scored, exported and given again; a text as ever."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest
from rich.console import Console

from promptlab import Dataset, Evaluator, Model, ModelResponse, PromptLab, PromptTemplate
from promptlab.adapters.records import completion_body, completion_from, to_json
from promptlab.cli.case import case_text
from promptlab.domain.messages import Message, Reasoning, Text, ToolCall, ToolCallResponse
from promptlab.domain.results import Completion
from promptlab.domain.trace import Trace
from promptlab.engine.answers import MOST_MESSAGES
from promptlab.errors import ConfigError
from tests.servers import ModelServer

SAID: list[dict[str, Any]] = [
    {
        "role": "assistant",
        "parts": [
            {"type": "reasoning", "content": "I should look it up.", "signature": "s/1"},
            {"type": "tool_call", "id": "c1", "name": "find", "arguments": {"q": "7", "page": None}},
            {"type": "tool_call", "id": None, "name": "say", "arguments": "not JSON"},
        ],
    },
    {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": '{"n": 7}'}]},
    {
        "role": "assistant",
        "parts": [{"type": "text", "content": "It is 7."}],
        "finish_reason": "stop",
    },
]
"""In OpenTelemetry's form."""


class Talker(Model):
    """Answers odd rows with a text, the others with messages as objects, in both forms that are read."""

    cacheable = True

    async def ainvoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        if int(user_prompt) % 2:
            return ModelResponse(f"It is {user_prompt}.", reasoning_tokens=None)
        call = '{"q": "7", "page": null}'
        return ModelResponse(
            prompt_tokens=20,
            completion_tokens=9,
            cached_tokens=12,
            reasoning_tokens=4,
            messages=[  # type: ignore[list-item]
                {
                    "role": "assistant",
                    "parts": [
                        {"type": "reasoning", "content": "I should look it up.", "signature": "s/1"},
                        {"type": "tool_call", "id": "c1", "name": "find", "arguments": call},
                        {"type": "tool_call", "name": "say", "arguments": "not JSON"},
                    ],
                },
                {"role": "tool", "tool_call_id": "c1", "content": '{"n": 7}'},
                {"role": "assistant", "content": "It is 7.", "finish_reason": "stop"},
            ],
        )


class Sees(Evaluator):
    """Says what it was given."""

    def evaluate(self, data: dict[str, Any]) -> dict[str, Any]:
        return {"value": 1, "reason": orjson.dumps(data).decode()}


def experiment(model: Any, **changes: Any) -> dict[str, Any]:
    return {
        "name": "talk",
        "dataset": Dataset(name="numbers", rows=[{"n": n} for n in range(4)]),
        "prompt_template": PromptTemplate(name="say", user_prompt="<n>"),
        "model": model,
        "evaluation": [{"metric": "length"}],
        **changes,
    }


@pytest.fixture
def pl(tmp_path: Path) -> Any:
    with PromptLab(str(tmp_path / "lab.db")) as lab:
        yield lab


def test_messages_are_recorded_and_the_last_text_is_the_answer(pl: PromptLab) -> None:
    """What was thought is in the messages only; an answer of one text has none."""
    rows = pl.experiment.run(experiment(Talker()), quiet=True).results()
    assert [row["response"] for row in rows] == ["It is 7.", "It is 1.", "It is 7.", "It is 3."]
    said = rows[0]["messages"]
    assert [message.to_json() for message in said] == SAID
    assert said[0].reasoning == "I should look it up." and said[0].tool_calls[0].name == "find"
    assert (rows[0]["cached_tokens"], rows[0]["cache_write_tokens"], rows[0]["reasoning_tokens"]) == (
        12,
        None,
        4,
    )
    assert rows[0]["finish_reason"] == "stop"
    assert rows[1]["messages"] is None and rows[1]["cached_tokens"] is None


def test_exports_have_messages_in_each_form(pl: PromptLab, tmp_path: Path) -> None:
    """Nested in JSON lines and in Parquet, as JSON in CSV."""
    run = pl.experiment.run(experiment(Talker()), quiet=True)
    for end in ("csv", "jsonl", "parquet"):
        run.export(str(tmp_path / f"out.{end}"))
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert lines[2]["messages"] == SAID and lines[3]["messages"] is None
    with (tmp_path / "out.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert json.loads(cells[2]["messages"]) == SAID and cells[3]["messages"] == ""
    with duckdb.connect() as con:
        found = con.execute(
            "SELECT messages[1].parts[2].name, messages[1].parts[2].arguments ->> 'q' "
            f"FROM '{tmp_path / 'out.parquet'}' ORDER BY \"case\""
        ).fetchall()
    assert found == [("find", "7"), (None, None), ("find", "7"), (None, None)]


def test_evaluators_are_given_what_was_said(pl: PromptLab) -> None:
    """As plain JSON; of an answer that is a text the one message that it is."""
    sources = ("messages", "tool_calls", "reasoning", "contexts", "turns", "spans", "finish_reason")
    evaluation = [
        {"metric": "sees", "evaluator": Sees(), "column_mapping": {name: f"${name}" for name in sources}}
    ]
    run = pl.experiment.run(experiment(Talker(), evaluation=evaluation), quiet=True)
    saw = [json.loads(row["reason.sees"]) for row in run.results()]
    assert saw[0].pop("messages") == SAID
    assert saw[0].pop("tool_calls") == [
        {"id": "c1", "name": "find", "arguments": {"q": "7", "page": None}},
        {"id": None, "name": "say", "arguments": "not JSON"},
    ]
    empty: dict[str, Any] = {"contexts": [], "turns": [], "spans": []}
    assert saw[0] == empty | {"reasoning": "I should look it up.", "finish_reason": "stop"}
    assert saw[1]["messages"] == [{"role": "assistant", "parts": [{"type": "text", "content": "It is 1."}]}]
    assert (saw[1]["tool_calls"], saw[1]["reasoning"]) == ([], None)


def test_an_unknown_source_names_all(pl: PromptLab) -> None:
    """Before the first call."""
    evaluation = [{"metric": "sees", "evaluator": Sees(), "column_mapping": {"a": "$tools"}}]
    with pytest.raises(
        ConfigError, match=r"\$messages.*\$tool_calls.*\$reasoning.*\$contexts.*\$turns.*\$spans"
    ):
        pl.experiment.run(experiment(Talker(), evaluation=evaluation), quiet=True)


def test_messages_come_from_the_cache(pl: PromptLab) -> None:
    """With their tokens; the answer is marked."""
    pl.experiment.run(experiment(Talker(), cache=True), quiet=True)
    rows = pl.experiment.run(experiment(Talker(), cache=True), quiet=True).results()
    assert [row["cached"] for row in rows] == [True] * 4
    assert [message.to_json() for message in rows[0]["messages"]] == SAID
    assert rows[0]["reasoning_tokens"] == 4 and rows[1]["messages"] is None


def test_a_text_takes_no_more_room_than_ever() -> None:
    """No field that was added since is in its record; what an older version recorded is read."""
    done = Completion(shard=0, case=1, trial=0, response="four", prompt_tokens=3)
    body = orjson.loads(to_json(completion_body(done)))
    assert set(body) == {
        *("shard", "case", "trial", "generation", "response", "prompt_tokens", "completion_tokens"),
        *("latency_ms", "cost_usd", "attempts", "tries", "finish_reason", "metadata", "error", "cached"),
        "created_at",
    }
    assert completion_from(body) == done


class TooLong(Model):
    """Says more than is kept."""

    async def ainvoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        call = ToolCall("write", {"text": "x" * (MOST_MESSAGES + 1)})
        trace = Trace(contexts=("y" * (MOST_MESSAGES + 1),))
        said = [Message("assistant", (call,)), Message("assistant", (Text("Done."),))]
        return ModelResponse(messages=said, trace=trace)


def test_messages_that_are_too_long_are_left_out_and_the_answer_stays(pl: PromptLab) -> None:
    """It was paid for; the metadata says what is missing."""
    row = pl.experiment.run(experiment(TooLong()), quiet=True).results()[0]
    assert (row["response"], row["messages"], row["trace"], row["error_type"]) == ("Done.", None, None, None)
    assert "messages of 4,194" in row["metadata"] and "a trace of 4,194" in row["metadata"]


class Agentlike(Model):
    """Answers with what happened beside."""

    async def ainvoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        said = [
            Message("assistant", (Reasoning("hm"), ToolCall("find", {}, "a"))),
            Message("tool", (ToolCallResponse({"n": [1, 2]}, "a"),)),
            Message("assistant", (Text("Two."),)),
        ]
        return ModelResponse(messages=said, trace=Trace(contexts=("one", {"text": "two"})))


def test_a_trace_is_recorded(pl: PromptLab) -> None:
    """And given as an object."""
    row = pl.experiment.run(experiment(Agentlike()), quiet=True).results()[0]
    assert row["trace"] == Trace(contexts=("one", {"text": "two"}))
    assert row["messages"][1].parts == (ToolCallResponse({"n": [1, 2]}, "a"),)


class Broken(Model):
    """Answers with messages that are none."""

    async def ainvoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        if user_prompt == "0":
            return ModelResponse(messages=[{"role": "robot", "content": "x"}])  # type: ignore[list-item]
        return ModelResponse(messages=[Message("assistant", (ToolCall("f", {"a": object()}),))])


def test_what_is_no_message_is_an_error_of_its_case(pl: PromptLab) -> None:
    """In words."""
    rows = pl.experiment.run(experiment(Broken()), quiet=True).results()
    assert "role 'robot' is none of system" in rows[0]["error_message"]
    assert rows[1]["error_type"] == "invalid_response" and "object" in rows[1]["error_message"]


def test_an_answer_of_one_text_is_stored_without_messages(pl: PromptLab) -> None:
    """Of a provider, too."""
    with ModelServer(lambda request: "fine") as server:
        model = {"name": "openai/mini", "endpoint": server.openai_url}
        rows = pl.experiment.run(experiment(model), quiet=True).results()
    assert {row["messages"] for row in rows} == {None}


def test_the_command_line_shows_a_case_as_a_chat() -> None:
    """Thoughts, calls of tools and what they gave, each in a line."""
    call = {"type": "tool_call", "id": "1", "name": "add", "arguments": {"a": 1}}
    messages = [
        {"role": "assistant", "parts": [{"type": "reasoning", "content": "hm"}, call]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "1", "response": "2"}]},
        {"role": "assistant", "parts": [{"type": "text", "content": "It is 2."}]},
    ]
    case = {"case": 0, "trial": 0, "id": "0", "tries": None, "attempts": 1, "messages": messages}
    console = Console(file=io.StringIO(), width=100)
    console.print(*case_text(case))
    assert isinstance(console.file, io.StringIO)
    lines = [line.rstrip().split("  ")[-1].strip() for line in console.file.getvalue().splitlines()]
    made = ["assistant: (thinks) hm", 'assistant: calls add({"a":1})']
    said = [*made, "tool: is given 2", "assistant: It is 2."]
    assert [line for line in lines if ": " in line] == said
