"""Answers of messages where the code is its user's and runs in the sandbox: sent back, kept, and scored."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from functions import runtime
from promptlab.domain.code import CodeBundle
from tests.functions.conftest import Machine
from tests.functions.test_sandbox import Invoked, invoked, rows  # noqa: F401 - a fixture

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
CODE = '''
from promptlab import Evaluator, Model, ModelResponse, Score

def said(question):
    """What was said: a call of a tool, what it gave, and the answer."""
    return [
        {"role": "assistant", "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "look_up", "arguments": '{"of": "it"}'}}]},
        {"role": "tool", "tool_call_id": "1", "content": "sunny"},
        {"role": "assistant", "content": "it is sunny in " + question},
    ]

class Messages(Model):
    async def ainvoke(self, system_prompt, user_prompt):
        return ModelResponse(messages=said(user_prompt))

def looks(data):
    roles = [message["role"] for message in data["messages"]]
    calls = [call["name"] for call in data["calls"]]
    return Score(value=len(roles), reason=" ".join(roles) + " " + ",".join(calls))
'''


def test_messages_come_out_of_the_sandbox_and_go_in_again(
    machine: Machine,
    invoked: Invoked,  # noqa: F811
) -> None:
    """Of a model: the text is the last message's, and `$messages` has all of them."""
    runtime.run(machine.lab.assets.create(CodeBundle(name="mine", files={"m.py": CODE})))
    config: dict[str, Any] = {
        "name": "own",
        "dataset": {"name": "places", "rows": [{"place": f"town {n}"} for n in range(12)]},
        "evaluation": [
            {
                "metric": "looks",
                "evaluator": "mine@0/m:looks",
                "column_mapping": {"messages": "$messages", "calls": "$tool_calls"},
            },
            {"metric": "no_error_calls"},
        ],
        "prompt_template": {"name": "ask", "user_prompt": "<place>"},
        "model": {"code": "mine@0/m:Messages"},
    }
    run = machine.start(config)
    assert machine.execute(run.run_id) == {"status": "completed"}
    found = rows(machine, run.run_id)
    assert [row["response"] for row in found] == [f"it is sunny in town {n}" for n in range(12)]
    for row in found:
        messages = row["messages"] if isinstance(row["messages"], list) else json.loads(row["messages"])
        assert [message["role"] for message in messages][-3:] == ["assistant", "tool", "assistant"]
        assert row["reason.looks"].endswith("assistant tool assistant look_up")
