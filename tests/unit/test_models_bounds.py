"""Whatever an endpoint sends takes so much memory and no more, at every provider, and
has an error with a name."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from promptlab.domain.masking import Mask
from promptlab.errors import ModelError
from promptlab.models.base import Model
from promptlab.models.bodies import MAX_ANSWER_BYTES
from promptlab.models.registry import get_model
from tests.servers import ModelServer, Reply

PROMPT = [{"role": "user", "content": "hi"}]
CHAT = ["openai/x", "anthropic/x", "ollama/x", "bedrock/us.amazon.nova-lite-v1:0"]
EMBED = ["openai/x", "ollama/x", "bedrock/amazon.titan-embed-text-v2:0", "bedrock/cohere.embed-english-v3"]
KEY = 'sk-ab/cd"0123456789'


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "http_proxy",
        "HTTP_PROXY",
        "all_proxy",
        "ALL_PROXY",
        "AWS_PROFILE",
        "AWS_BEARER_TOKEN_BEDROCK",
    ):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("ACCESS_KEY_ID", "id"), ("SECRET_ACCESS_KEY", "5ecret"), ("REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


def model_at(server: ModelServer, name: str, **params: Any) -> Model:
    given = {} if name.startswith("bedrock") else {"api_key": KEY}
    endpoint = server.openai_url if name.startswith("openai") else server.url
    return get_model(name, endpoint=endpoint, **given, **params)


async def failure(server: ModelServer, name: str, *, embeds: bool = False) -> ModelError:
    model = model_at(server, name, max_retries=0)
    with pytest.raises(ModelError) as caught:
        await (model.aembed(["text"]) if embeds else model.achat(PROMPT))
    await model.aclose()
    return caught.value


@pytest.mark.parametrize(("name", "embeds"), [(n, False) for n in CHAT] + [(n, True) for n in EMBED])
async def test_body_without_an_end_is_too_large(server: ModelServer, name: str, embeds: bool) -> None:
    """It is left where it is, and the error has a type and says the bound."""
    server.script(Reply(body=b'{"text": "', endless=b"x" * 2**18))
    tracemalloc.start()
    error = await failure(server, name, embeds=embeds)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (error.type, error.retryable) == ("answer_too_large", False)
    assert "larger than 16 MB" in str(error)
    assert peak < 6 * MAX_ANSWER_BYTES


@pytest.mark.parametrize("name", CHAT)
async def test_refusal_without_an_end_is_read_in_part(server: ModelServer, name: str) -> None:
    """The status says what it is."""
    server.script(Reply(status=500, body=b"out of order ", endless=b"x" * 2**18))
    error = await failure(server, name)
    assert (error.type, error.status) == ("server_error", 500)
    assert len(str(error)) < 700


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("gzip, gzip", lambda data: gzip.compress(gzip.compress(data))),
    ],
)
async def test_compressed_answer_is_read_and_a_bomb_is_not(
    server: ModelServer, encoding: str, pack: Any
) -> None:
    """In every encoding that is asked for; the bound is that of the decompressed text."""
    answer = json.dumps({"choices": [{"message": {"content": "small"}}]}).encode()
    headers = {"Content-Encoding": encoding}
    server.script(Reply(body=pack(answer), headers=headers))
    model = model_at(server, "openai/x")
    assert (await model.achat(PROMPT)).response == "small"
    await model.aclose()
    server.script(Reply(body=pack(bytes(4 * MAX_ANSWER_BYTES)), headers=headers))
    tracemalloc.start()
    error = await failure(server, "openai/x")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert error.type == "answer_too_large"
    assert peak < 6 * MAX_ANSWER_BYTES


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip, gzip", "gzip, br"])
async def test_encoding_that_was_not_asked_for_is_an_error(server: ModelServer, encoding: str) -> None:
    """Nothing decodes it without a bound, whatever is installed here."""
    server.script(Reply(body=b"\x00" * 100, headers={"Content-Encoding": encoding}))
    error = await failure(server, "openai/x")
    assert error.type == "invalid_response" and "Content-Encoding" in str(error)


async def test_compressed_answer_that_breaks_off_is_an_error(server: ModelServer) -> None:
    """Half of a gzip file is no answer, and what follows a whole one is no part of it."""
    whole = gzip.compress(json.dumps({"choices": [{"message": {"content": "small"}}]}).encode())
    server.script(
        Reply(body=whole[:-9], headers={"Content-Encoding": "gzip"}),
        Reply(body=whole + b"more", headers={"Content-Encoding": "gzip"}),
    )
    assert "breaks off" in str(await failure(server, "openai/x"))
    model = model_at(server, "openai/x")
    assert (await model.achat(PROMPT)).response == "small"
    await model.aclose()


@pytest.mark.parametrize("filler", [b"[],", b"{},", b"1,"])
async def test_answer_of_millions_of_values_is_too_large(server: ModelServer, filler: bytes) -> None:
    """JSON takes twenty times its length in memory."""
    body = b'{"a":[' + filler * (15_000_000 // len(filler)) + b"0]}"
    server.script(Reply(body=body))
    assert (await failure(server, "openai/x")).type == "answer_too_large"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=b'data: {"choices": []}\n\n'),
        Reply(headers={"Content-Type": "text/event-stream"}, endless=b"data: 1\n\n"),
    ],
)
async def test_stream_of_events_is_named(server: ModelServer, reply: Reply) -> None:
    """A server that streams without being asked, to who cannot read it."""
    server.script(reply)
    error = await failure(server, "ollama/x")
    assert error.type == "invalid_response" and "stream of events" in str(error)


async def test_stream_without_end_is_read_no_further_than_any_answer(server: ModelServer) -> None:
    """Its events are not gathered as they come."""
    server.script(Reply(headers={"Content-Type": "text/event-stream"}, endless=b"data: 1\n\n" * 1000))
    assert (await failure(server, "openai/x")).type == "answer_too_large"


@pytest.mark.parametrize("part", [b"X-a: " + b"a" * 1000 + b"\r\n", b"a" * 1000])
async def test_headers_without_an_end_are_an_error(server: ModelServer, part: bytes) -> None:
    """Many headers, and one long header."""
    server.script(Reply(body=b"", headers={"X-Odd": "1\r\nX-Endless: " + (part * 1000).decode()}))
    error = await failure(server, "openai/x")
    assert error.type == "invalid_response" and len(str(error)) < 1000


@pytest.mark.parametrize("name", ["openai/x", "anthropic/x", "ollama/x"])
@pytest.mark.parametrize("embeds", [False, True])
async def test_rate_limit_in_an_answer_200_is_one(server: ModelServer, name: str, embeds: bool) -> None:
    """At every provider, also for embeddings, with the wait that it asks for."""
    if embeds and name == "anthropic/x":
        pytest.skip("has no embeddings")
    busy = {"error": {"type": "rate_limit_error", "message": "slow down"}}
    server.script(Reply(body=busy, headers={"Retry-After": "999"}))
    error = await failure(server, name, embeds=embeds)
    assert (error.type, error.retry_after_s) == ("rate_limit", 999.0)


GEMINI = {
    "message": "You exceeded your current quota. Please retry in 1.5s.",
    "details": [
        {"violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"}]},
        {"retryDelay": "2s"},
    ],
}


async def test_limit_of_a_minute_is_no_empty_account(server: ModelServer) -> None:
    """Google words both alike; the details tell them apart, and say how long to wait."""
    server.script(Reply(status=429, body=json.dumps([{"error": GEMINI}]).encode()))
    error = await failure(server, "openai/x")
    assert (error.type, error.retryable, error.retry_after_s) == ("rate_limit", True, 2.0)
    of_a_day = json.loads(json.dumps(GEMINI).replace("PerMinute", "PerDay"))
    server.script(Reply(status=429, body={"error": of_a_day}))
    error = await failure(server, "openai/x")
    assert (error.type, error.retryable) == ("quota", False)


async def test_quota_says_until_when(server: ModelServer) -> None:
    """OpenRouter has the time in the body."""
    reset = {"headers": {"X-RateLimit-Reset": "4070908800000"}}
    server.script(
        Reply(status=429, body={"error": {"message": "free-models-per-day", "code": 429, "metadata": reset}})
    )
    error = await failure(server, "openai/x")
    assert error.type == "quota" and "until more than a year from now" in str(error)


# Keys


@pytest.mark.parametrize(
    ("key", "said", "shown"),
    [
        (KEY, json.dumps(KEY), "***"),
        (KEY, json.dumps(KEY).replace("/", "\\/"), "***"),
        (KEY, json.dumps(KEY).replace("s", "\\u0073").replace("b", "\\U0062".lower()), "***"),
        (KEY, json.dumps(json.dumps({"key": KEY}).replace("/", "\\/")), '{"key": "***"}'),
        ("short-1", json.dumps("the key short-1 is wrong"), "the key *** is wrong"),
        ("short-1", '"the key\\nshort-1, is wrong"', "the key ***, is wrong"),
        ("short-1", '"the key\\u000ashor\\u0074-1"', "the key ***"),
        ("abc", '"abc is not abcd"', "*** is not abcd"),
        ("none", '"none is no key"', "none is no key"),
    ],
)
async def test_key_is_hidden_however_it_is_written(
    server: ModelServer, key: str, said: str, shown: str
) -> None:
    """Short ones as whole words, escaped ones too, in answers and in errors."""
    server.script(
        Reply(body=b'{"choices": [{"message": {"content": %s}}]}' % said.encode()),
        Reply(status=401, body=b'{"error": {"message": %s}}' % said.encode()),
    )
    model = get_model("openai/x", endpoint=server.openai_url, api_key=key)
    answer = await model.achat(PROMPT)
    assert " ".join(answer.response.split()) == shown
    with pytest.raises(ModelError) as caught:
        await model.achat(PROMPT)
    assert str(caught.value).endswith(f": {shown}")
    await model.aclose()


async def test_key_is_hidden_before_a_message_is_cut(server: ModelServer) -> None:
    """No first half of it is left at the cut."""
    server.script(Reply(status=400, text="x" * 490 + " " + KEY))
    assert KEY[:6] not in str(await failure(server, "openai/x"))


@pytest.mark.parametrize("filler", [b"\\", b"s", b"\\u0073", b"sk-", b"\\\\u007"])
def test_hiding_a_key_takes_linear_time(filler: bytes) -> None:
    """A megabyte of what begins like the key is as it was."""
    data = filler * (2**20 // len(filler))
    assert Mask(KEY).hide(data) == data
