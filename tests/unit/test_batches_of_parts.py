"""Batch mode of prompts with tools and media: what is sent, and what comes back as messages."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from promptlab import Dataset, Message, PromptTemplate, Reasoning, ToolCall
from promptlab.engine.batch_files import Batch, BatchWriter
from promptlab.errors import ModelError
from promptlab.models.batches.base import Limits
from tests.batch_server import Life
from tests.unit.test_batches import FastClock, Serve, clock, experiment, mortal_lab, serve, small

__all__ = ["clock", "serve"]

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 40).decode()
CALL = {"name": "rate", "arguments": {"day": "Monday"}}
_USAGE = {
    "openai": {"usage": {"prompt_tokens": 9, "completion_tokens": 4}},
    "anthropic": {"usage": {"input_tokens": 9, "output_tokens": 4}},
    "bedrock": {"usage": {"inputTokens": 9, "outputTokens": 4}},
    "gemini": {"usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 4}},
}
_FUNCTION = {"id": "c1", "type": "function", "function": {"name": "rate", "arguments": '{"day":"Monday"}'}}
_BLOCKS = {
    "anthropic": [
        {"type": "thinking", "thinking": "Which day?", "signature": "s"},
        {"type": "tool_use", "id": "c1", "name": "rate", "input": {"day": "Monday"}},
    ],
    "bedrock": [
        {"reasoningContent": {"reasoningText": {"text": "Which day?", "signature": "s"}}},
        {"toolUse": {"toolUseId": "c1", "name": "rate", "input": {"day": "Monday"}}},
    ],
    "gemini": [
        {"text": "Which day?", "thought": True},
        {"functionCall": {"id": "c1", "name": "rate", "args": {"day": "Monday"}}},
    ],
}
ANSWERS: dict[str, dict[str, Any]] = {
    "openai": {
        "choices": [
            {
                "message": {
                    "role": "assistant",
                    "reasoning_content": "Which day?",
                    "tool_calls": [_FUNCTION],
                },
                "finish_reason": "tool_calls",
            }
        ]
    },
    "anthropic": {"content": _BLOCKS["anthropic"], "stop_reason": "tool_use"},
    "bedrock": {"output": {"message": {"content": _BLOCKS["bedrock"]}}, "stopReason": "tool_use"},
    "gemini": {"candidates": [{"content": {"parts": _BLOCKS["gemini"]}, "finishReason": "STOP"}]},
}
SENT = {
    "openai": (
        lambda body: body["messages"][-1]["content"][1]["image_url"]["url"],
        lambda body: (body["tools"][0]["function"]["name"], body["tool_choice"]),
        (f"data:image/png;base64,{PNG}", ("rate", "required")),
    ),
    "anthropic": (
        lambda body: body["messages"][-1]["content"][1]["source"]["data"],
        lambda body: (body["tools"][0]["name"], body["tool_choice"]["type"]),
        (PNG, ("rate", "any")),
    ),
    "bedrock": (
        lambda body: body["messages"][-1]["content"][1]["image"]["source"]["bytes"],
        lambda body: (
            body["toolConfig"]["tools"][0]["toolSpec"]["name"],
            body["toolConfig"]["toolChoice"],
        ),
        (PNG, ("rate", {"any": {}})),
    ),
    "gemini": (
        lambda body: body["contents"][-1]["parts"][1]["inlineData"]["data"],
        lambda body: (
            body["tools"][0]["functionDeclarations"][0]["name"],
            body["toolConfig"]["functionCallingConfig"]["mode"],
        ),
        (PNG, ("rate", "ANY")),
    ),
}


def asking() -> PromptTemplate:
    """A prompt with a picture and a tool that has to be called."""
    content = [{"type": "text", "text": "What is it in <n>?"}, {"type": "image", "column": "photo"}]
    tool = {"name": "rate", "parameters": {"type": "object", "properties": {"day": {"type": "string"}}}}
    return PromptTemplate(
        name="look", messages=[{"role": "user", "content": content}], tools=[tool], tool_choice="required"
    )


@pytest.mark.parametrize("kind", list(ANSWERS))
async def test_pictures_and_tools_go_out_and_calls_come_back(
    kind: str, tmp_path: Path, serve: Serve, clock: FastClock
) -> None:
    """In each provider's form, in a file; the answer has what was thought and the call, as one call has."""
    _, limits = small(kind, 5)
    server = serve(kind, lambda prompt: ANSWERS[kind] | _USAGE[kind])
    rows = [{"n": f"{n}", "photo": f"data:image/png;base64,{PNG}"} for n in range(6)]
    changes = {
        "prompt_template": asking(),
        "dataset": Dataset(name="photos", rows=rows, media={"photo": "image"}),
        "evaluation": [],
    }
    lab = mortal_lab(tmp_path / "lab.db", clock, Life(), limits)
    run = await lab.run(experiment(kind, server, 6, **changes))
    found = [row async for row in lab.results(run.run_id)]
    await lab.close()
    assert (run.status, run.error, len(found), server.direct) == ("completed", None, 6, [])
    picture, tool, expected = SENT[kind]
    bodies = [body for made in server.batches for body in made.bodies]
    assert {(picture(body), str(tool(body))) for body in bodies} == {(expected[0], str(expected[1]))}
    assert found[0]["response"] == "" and found[0]["completion_tokens"] == 4
    parts = [part for message in found[0]["messages"] for part in message["parts"]]
    assert [part["type"] for part in parts] == ["reasoning", "tool_call"]
    assert (parts[0]["content"], parts[1]["name"], parts[1]["arguments"]) == ("Which day?", *CALL.values())
    assert Message("assistant", (Reasoning("Which day?"), ToolCall(**CALL))).tool_calls


async def test_files_of_batches_hold_their_bounds(tmp_path: Path) -> None:
    """Requests go from the end of one file to the beginning of the next where that has too few; a request
    that is longer than a line of results may be is refused."""
    made: list[tuple[Batch, bytes]] = []

    async def keep(batch: Batch, path: Path) -> None:
        made.append((batch, path.read_bytes()))

    def writer(usd: float | None = None) -> BatchWriter:
        made.clear()
        name, limits = "m", Limits(10, 1 << 40, 4)
        return BatchWriter(lambda number: f"b{number}", keep, limits, name, 0, 9, tmp_path, usd)

    def line(custom_id: str) -> bytes:
        return f'{{"id":"{custom_id}"}}'.encode()

    def lines() -> Iterator[list[str]]:
        for batch, data in made:
            found = data.decode().splitlines()
            assert (batch.cases, batch.size_bytes) == (len(found), len(data))
            assert all(f'"b{batch.number}-s0' in line for line in found)
            yield sorted(line.partition("-c")[2].partition("-")[0].zfill(2) for line in found)

    for rows, usd, sizes in ((22, None, [10, 8, 4]), (10, None, [10]), (3, None, []), (11, None, [7, 4])):
        out = writer(usd)
        for n in range(rows):
            await out.add(line, f"s0-c{n}-t0", (0, n, 0), 1.0)
        await out.end()
        found = list(lines())
        assert [len(one) for one in found] == sizes
        assert sorted(case for one in found for case in one) == [f"{n:02}" for n in range(sum(sizes))]
        assert [batch.last[1] for batch, _ in made] == [int(one[-1]) for one in found]
    cheap = writer(2.0)
    for n in range(6):
        await cheap.add(line, f"s0-c{n}-t0", (0, n, 0), 1.0)
    await cheap.end()
    assert [len(one) for one in lines()] == [4]  # the others are too few for a batch
    with pytest.raises(ModelError, match="at most 33,554,432"):
        await writer().add(lambda name: b"x" * (33 << 20), "s0-c0-t0", (0, 0, 0), 1.0)
