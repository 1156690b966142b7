"""LiteLLM's proxy, for real: what it makes of tools, thoughts, pictures and usage is read as any server's.

Skipped unless PROMPTLAB_LITELLM names its program: `pip install 'litellm[proxy]'` in an environment apart,
then `PROMPTLAB_LITELLM=/path/to/bin/litellm make test`.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from promptlab.domain.chat import ChatRequest, Tool
from promptlab.domain.messages import Media, Message, Text, ToolCallResponse, text_message
from promptlab.errors import ModelError
from promptlab.models.base import Model
from promptlab.models.registry import get_model
from tests.servers import PATIENCE_S, ModelServer, Reply, Request

KEY = f"sk-{secrets.token_hex(32)}"
PROGRAM = os.environ.get("PROMPTLAB_LITELLM", "")
pytestmark = pytest.mark.skipif(not PROGRAM, reason="PROMPTLAB_LITELLM names no program")

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = Tool("weather", "The weather of a city.", SCHEMA)
CALLS = [
    {
        "id": f"c{number}",
        "type": "function",
        "function": {"name": "weather", "arguments": json.dumps({"city": city})},
    }
    for number, city in enumerate(("Rome", "Oslo"), 1)
]
USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 60},
    "completion_tokens_details": {"reasoning_tokens": 5},
}


SAID = {"type": "output_text", "text": "20 degrees", "annotations": []}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "upstream",
    "output": [
        {"id": "m1", "type": "message", "role": "assistant", "status": "completed", "content": [SAID]}
    ],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 9,
        "output_tokens": 3,
        "total_tokens": 12,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    },
}


def upstream(request: Request) -> Reply | str:
    """A model that calls two tools at once, thinks, and sees no pictures."""
    if not request.json:
        return Reply(status=404)  # it looks for more than it is asked
    if request.path.endswith("/responses"):
        return Reply(body=RESPONSE)
    last = request.json["messages"][-1]
    if isinstance(last["content"], list) and any(part["type"] == "image_url" for part in last["content"]):
        return Reply(status=400, text="this model does not support image input")
    if last["role"] == "tool" or not request.json.get("tools"):
        return "20 degrees"
    message = {"role": "assistant", "content": None, "reasoning_content": "Two cities.", "tool_calls": CALLS}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    about = {"id": "1", "object": "chat.completion", "created": 1, "model": "upstream"}
    return Reply(body={**about, "choices": [choice], "usage": USAGE})


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The proxy's address, before a server of this process."""
    folder: Path = tmp_path_factory.mktemp("litellm")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ModelServer(upstream) as server:
        given: dict[str, Any] = {"model": "openai/upstream", "api_base": server.openai_url, "api_key": "k"}
        listed = [{"model_name": "tested", "litellm_params": given}]
        config = folder / "config.yaml"
        config.write_text(json.dumps({"model_list": listed, "litellm_settings": {"num_retries": 0}}))
        # Without a key, or with a weak one, it refuses to start.
        quiet = {
            "LITELLM_MASTER_KEY": KEY,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_TELEMETRY": "False",
            "NO_PROXY": "127.0.0.1",
        }
        command = [PROGRAM, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **quiet}, cwd=folder
            )
            try:
                _wait_for(f"http://127.0.0.1:{port}/health/liveliness", process, folder / "log")
                yield f"http://127.0.0.1:{port}/v1"
            finally:
                process.terminate()
                process.wait(30)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text("utf-8", "replace")[-3000:]
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(log.read_text("utf-8", "replace")[-3000:])


def model(proxy: str, **params: Any) -> Model:
    return get_model("openai/tested", endpoint=proxy, api_key=KEY, **params)


ASKED = ChatRequest((text_message("user", "Weather in Rome and Oslo?"),), (WEATHER,), "auto")


async def test_calls_thoughts_and_usage_come_through(proxy: str) -> None:
    """And a conversation goes on with what the tools gave back."""
    tested = model(proxy)
    answer = await tested.achat(ASKED)
    message = answer.messages[0]
    assert [call.arguments for call in message.tool_calls] == [{"city": "Rome"}, {"city": "Oslo"}]
    assert message.reasoning == "Two cities."
    assert (answer.response, answer.finish_reason) == ("", "tool_calls")
    assert (answer.prompt_tokens, answer.completion_tokens) == (100, 20)
    assert (answer.cached_tokens, answer.reasoning_tokens) == (60, 5)
    results = Message("tool", tuple(ToolCallResponse("20", call.id) for call in message.tool_calls))
    further = await tested.achat(ChatRequest((*ASKED.messages, message, results), (WEATHER,)))
    await tested.aclose()
    assert further.response == "20 degrees"


async def test_a_refused_picture_is_a_bad_request(proxy: str) -> None:
    """With the words of the server behind the proxy."""
    tested = model(proxy)
    picture = Media(modality="image", uri="https://example.com/a.png")
    with pytest.raises(ModelError, match="does not support image input") as caught:
        await tested.achat(ChatRequest((Message("user", (Text("What is it?"), picture)),)))
    await tested.aclose()
    assert (caught.value.type, caught.value.retryable) == ("bad_request", False)


async def test_the_responses_api_of_the_proxy_answers(proxy: str) -> None:
    """Which passes it on."""
    tested = model(proxy, api="responses")
    answer = await tested.achat([{"role": "user", "content": "How warm is it?"}])
    await tested.aclose()
    assert (answer.response, answer.prompt_tokens, answer.completion_tokens) == ("20 degrees", 9, 3)
