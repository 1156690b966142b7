"""Every HTTP provider with answers, refusals, broken connections, keys and event loops."""

from __future__ import annotations

import asyncio
import gc
import gzip
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from promptlab.domain.model_config import ModelConfig
from promptlab.domain.secrets import Secret
from promptlab.errors import ConfigError, EndpointUnreachableError, MissingKeyError, ModelError
from promptlab.models.base import Model
from promptlab.models.failures import LONGEST_WAIT_S, retry_after_s
from promptlab.models.registry import get_model
from tests.servers import ModelServer, Reply, Request

KEY = "sk-test-5ecret"
PROMPT = [{"role": "user", "content": "hi"}]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "OPENAI_API_KEY",
        "http_proxy",
        "HTTP_PROXY",
        "all_proxy",
        "ALL_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port that is taken, so that nobody else gets it, and refuses connections."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def model_at(server: ModelServer, **params: Any) -> Model:
    return get_model("openai/gpt-test", endpoint=server.openai_url, **params)


async def failure(model: Model) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await model.achat(PROMPT)
    await model.aclose()
    return caught.value


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, "bad_request", False),
        (401, "authentication", False),
        (402, "quota", False),
        (403, "authentication", False),
        (404, "not_found", False),
        (408, "timeout", True),
        (409, "conflict", True),
        (422, "bad_request", False),
        (425, "conflict", True),
        (429, "rate_limit", True),
        (498, "rate_limit", True),
        (500, "server_error", True),
        (503, "server_error", True),
        (529, "server_error", True),
        (307, "bad_request", False),
    ],
)
async def test_status_becomes_a_typed_error(server: ModelServer, status: int, kind: str, retryable: bool):
    """Each HTTP status has one type, and is retried or not; the provider's own words are in the message."""
    server.script(Reply(status=status, text="the provider's words"))
    error = await failure(model_at(server))
    assert (error.type, error.retryable, error.status) == (kind, retryable, status)
    assert "the provider's words" in str(error)
    assert "openai/gpt-test" in str(error)


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (429, {"message": "You exceeded your current quota", "code": "insufficient_quota"}, "quota"),
        (429, {"message": "Your account is not active", "code": "billing_not_active"}, "quota"),
        (429, {"message": "week allocated quota has been exhausted; it will reset"}, "quota"),
        (429, {"message": "Rate limit exceeded: free-models-per-day."}, "quota"),
        (429, {"message": "Request too large for m: Limit 30000, Requested 45000."}, "bad_request"),
        (400, {"message": "Your credit balance is too low to access the API"}, "quota"),
        (400, {"message": "The response was filtered", "code": "content_filter"}, "content_filter"),
        (
            400,
            {"message": "no", "innererror": {"code": "ResponsibleAIPolicyViolation: content_filter"}},
            "content_filter",
        ),
        (
            400,
            {"message": "Unsupported parameter: 'max_tokens'", "code": "unsupported_parameter"},
            "bad_request",
        ),
    ],
)
async def test_code_says_more_than_the_status(
    server: ModelServer, status: int, error: dict[str, Any], kind: str
):
    """An empty account and a content filter are no matter of trying again."""
    server.script(Reply(status=status, body={"error": error}))
    found = await failure(model_at(server))
    assert (found.type, found.retryable) == (kind, False)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0.25"}, 0.25),
        ({"retry-after-ms": "1500", "Retry-After": "2"}, 1.5),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "1e400"}, LONGEST_WAIT_S),
        ({"Retry-After": "9" * 400}, LONGEST_WAIT_S),
        ({"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}, LONGEST_WAIT_S),
        ({"Retry-After": "Fri, 31 Dec 9999 23:59:59 -1200"}, LONGEST_WAIT_S),
        ({"Retry-After": "Fri, 31 Dec 99999999999999999999 23:59:59 GMT"}, None),
        ({"retry-after-ms": "1e400"}, LONGEST_WAIT_S),
        ({"retry-after-ms": "-1", "Retry-After": "2"}, 2.0),
        ({}, None),
    ],
)
async def test_retry_after_is_read_in_each_form(
    server: ModelServer, headers: dict[str, str], expected: float | None
):
    """Seconds, fractions, milliseconds; nonsense is no request to wait, and no wait is longer than a year."""
    server.script(Reply(status=429, headers=headers))
    assert (await failure(model_at(server))).retry_after_s == expected


async def test_retry_after_may_be_a_date(server: ModelServer):
    """An HTTP date in the far future is a wait; one in the past is none."""
    now = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
    date = format_datetime(now + timedelta(seconds=90), usegmt=True)
    assert retry_after_s({"retry-after": date}, now=now) == 90.0
    assert retry_after_s({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}, now=now) == 0.0
    server.script(
        Reply(
            status=503,
            headers={"Retry-After": format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)},
        )
    )
    wait_s = (await failure(model_at(server))).retry_after_s
    assert wait_s is not None and 3000 < wait_s <= 3600


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>gateway</html>",
        b'{"choices": [{"mess',
        b"[1, 2]",
        b'"text"',
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{}]}',
        b'{"choices": [{"message": {}}]}',
    ],
)
async def test_answer_200_without_an_answer_is_an_error(server: ModelServer, body: bytes):
    """Whatever comes instead of the JSON that was asked for is recorded, not raised as a traceback."""
    server.script(Reply(body=body))
    error = await failure(model_at(server))
    assert (error.type, error.retryable) == ("invalid_response", True)


@pytest.mark.parametrize(
    "body",
    [
        b"<html><h1>502 Bad Gateway</h1></html>",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"detail": [{"msg": "no"}]}',
        b'{"error": "text"}',
    ],
)
async def test_error_body_may_have_any_shape(server: ModelServer, body: bytes):
    """HTML, broken text and unknown JSON still make an error with its status."""
    server.script(Reply(status=502, body=body))
    error = await failure(model_at(server))
    assert (error.type, error.status) == ("server_error", 502)
    assert len(str(error)) < 700 and "<" not in str(error)


async def test_long_error_message_is_cut(server: ModelServer):
    """A provider that repeats the whole prompt does not fill the store."""
    server.script(Reply(status=400, text="x" * 100_000))
    assert len(str(await failure(model_at(server)))) < 700


async def test_dropped_connection_is_retryable(server: ModelServer):
    """A connection that ends without an answer, or in the middle of one."""
    server.script(Reply(drop=True), Reply(truncate=True))
    model = model_at(server)
    for _ in range(2):
        error = await failure(model)
        assert (error.type, error.retryable, error.status) == ("connection", True, None)


async def test_stale_connection_costs_nothing_but_a_retry(server: ModelServer):
    """A kept connection that turns out to be dead is replaced."""
    model = model_at(server)
    await model.ainvoke("", "first")
    server.script(Reply(drop=True), prompt="second")
    assert (await model.ainvoke("", "second")).response == "ok"
    assert [r.connection for r in server.requests] == [1, 1, 2]
    await model.aclose()


async def test_connection_is_kept_between_calls(server: ModelServer):
    """Three calls, one after another, are one connection; a closing server gets a new one."""
    model = model_at(server)
    for _ in range(3):
        await model.achat(PROMPT)
    assert server.connections == 1
    server.script(Reply(headers={"Connection": "close"}), prompt="bye")
    await model.ainvoke("", "bye")
    await model.achat(PROMPT)
    assert server.connections == 2
    await model.aclose()


async def test_refused_connection_is_retryable(dead_port: int):
    """Nothing listens: a connection error that names the endpoint."""
    error = await failure(get_model("openai/x", endpoint=f"http://127.0.0.1:{dead_port}/v1"))
    assert (error.type, error.retryable) == ("connection", True)
    assert "127.0.0.1" in str(error)


async def test_late_answer_is_a_timeout(server: ModelServer):
    """timeout_s is for the whole answer."""
    server.script(Reply(hang=True))
    error = await failure(model_at(server, timeout_s=0.05))
    assert (error.type, error.retryable) == ("timeout", True)
    assert "0.05 s" in str(error)


async def test_not_http_is_an_invalid_response():
    """A port that speaks something else."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail ready\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as mail:
        port = mail.sockets[0].getsockname()[1]
        error = await failure(get_model("openai/x", endpoint=f"http://127.0.0.1:{port}/v1"))
    assert error.type == "invalid_response"


async def test_compressed_answers_are_read(server: ModelServer):
    """gzip is asked for and undone; broken gzip is an invalid answer."""
    body = b'{"choices": [{"message": {"content": "small"}}]}'
    server.script(
        Reply(body=gzip.compress(body), headers={"Content-Encoding": "gzip"}),
        Reply(body=b"junk", headers={"Content-Encoding": "gzip"}),
    )
    model = model_at(server)
    assert (await model.achat(PROMPT)).response == "small"
    assert (await failure(model)).type == "invalid_response"
    assert server.requests[0].headers["accept-encoding"] == "gzip, deflate"


async def test_unicode_and_huge_texts_survive():
    """Every character arrives and comes back; 12 MB are no problem."""
    text = 'Ünïcode "quoted" \\ 漢字 🎉 \u2028 \x00 end'
    with ModelServer(
        lambda request: request.prompt if len(request.prompt) < 1000 else "é" * 2_000_000
    ) as server:
        model = model_at(server)
        assert (await model.ainvoke("", text)).response == text
        assert len((await model.ainvoke("", "x" * 1_000_000)).response) == 2_000_000
        await model.aclose()


async def test_text_that_is_not_unicode_is_a_bad_request(server: ModelServer):
    """A lone surrogate, which JSON can hold, fails its case and nothing else."""
    model = model_at(server)
    with pytest.raises(ModelError, match="surrogate") as caught:
        await model.ainvoke("", "half a pair: \ud83c")
    assert (caught.value.type, caught.value.attempts, server.requests) == ("bad_request", 1, [])


async def test_ainvoke_retries_and_achat_does_not(server: ModelServer):
    """One attempt for the engine, which retries itself; as many as configured for a user."""
    server.script(
        Reply(status=500), Reply(status=429, headers={"Retry-After": "0"}), Reply(status=500, text="third")
    )
    model = model_at(server, max_retries=2)
    assert (await model.ainvoke("", "hi")).response == "ok"
    assert [r.attempt for r in server.requests] == [1, 2, 3, 4]
    server.script(Reply(status=500), prompt="other")
    with pytest.raises(ModelError):
        await model.achat([{"role": "user", "content": "other"}])
    await model.aclose()


async def test_no_more_calls_in_flight_than_allowed():
    """max_concurrent_tasks bounds ainvoke as well."""
    with ModelServer(lambda request: Reply(hang=True)) as server:
        model = model_at(server, max_concurrent_tasks=3)
        calls = [asyncio.create_task(model.ainvoke("", str(i))) for i in range(9)]
        await asyncio.to_thread(server.wait_for_requests, 3)
        server.release()
        await asyncio.gather(*calls)
        assert server.peak == 3
        await model.aclose()


async def test_cancelled_call_leaves_the_model_usable(server: ModelServer):
    """Ctrl-C in the middle of a call."""
    server.script(Reply(hang=True), prompt="slow")
    model = model_at(server)
    task = asyncio.create_task(model.ainvoke("", "slow"))
    await asyncio.to_thread(server.wait_for_requests, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await model.ainvoke("", "hi")).response == "ok"
    await model.aclose()


# Keys


async def test_key_comes_from_the_config_then_the_named_variable_then_the_usual_one(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
):
    """The order of the sources; a resolved secret goes before all of them."""
    monkeypatch.setenv("OPENAI_API_KEY", "usual")
    monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
    monkeypatch.setenv("SOME_API_KEY", "named\n")
    monkeypatch.setenv("TEAM_OPENAI_API_KEY", "hidden")
    for params, expected in [
        ({}, "usual"),
        ({"api_key_secret": "team/openai"}, "hidden"),
        ({"api_key_env": "SOME_API_KEY"}, "named"),
        ({"api_key_env": "SOME_API_KEY", "api_key": "given"}, "given"),
    ]:
        model = model_at(server, **params)
        await model.achat(PROMPT)
        assert server.requests[-1].headers["authorization"] == f"Bearer {expected}"
        model.use_secret(Secret("resolved"))  # type: ignore[attr-defined]
        await model.achat(PROMPT)
        assert server.requests[-1].headers["authorization"] == "Bearer resolved"
        await model.aclose()


async def test_no_key_is_sent_to_an_endpoint_that_needs_none(server: ModelServer):
    """A custom endpoint without a key gets no Authorization header."""
    model = model_at(server)
    await model.check()
    await model.achat(PROMPT)
    assert "authorization" not in server.requests[0].headers
    await model.aclose()


@pytest.mark.parametrize(
    ("name", "params", "variable"),
    [
        ("openai/gpt-6-luna", {}, "OPENAI_API_KEY"),
        ("openai/gpt-6-luna", {"api_key": ""}, "OPENAI_API_KEY"),
        ("anthropic/claude", {}, "ANTHROPIC_API_KEY"),
        ("openrouter/openai/gpt-4o", {}, "OPENROUTER_API_KEY"),
        ("deepseek/deepseek-chat", {}, "DEEPSEEK_API_KEY"),
        ("groq/llama", {}, "GROQ_API_KEY"),
        ("mistral/mistral-small", {}, "MISTRAL_API_KEY"),
        ("azure/dep", {"endpoint": "https://me.openai.azure.com"}, "AZURE_OPENAI_API_KEY"),
        (
            "openai/x",
            {"endpoint": "http://127.0.0.1:9/v1", "api_key_env": "NO_SUCH_API_KEY"},
            "NO_SUCH_API_KEY",
        ),
        ("ollama/x", {"api_key_env": "NO_SUCH_API_KEY"}, "NO_SUCH_API_KEY"),
        ("openai/x", {"api_key_secret": "NO_SUCH_API_KEY"}, "NO_SUCH_API_KEY"),
    ],
)
async def test_missing_key_is_found_before_the_first_call(
    monkeypatch: pytest.MonkeyPatch, name: str, params: dict[str, Any], variable: str
):
    """check() names the variable; so does a call without it."""
    monkeypatch.delenv(variable, raising=False)
    model = get_model(name, **params)
    for call in (model.check(), model.achat(PROMPT)):
        with pytest.raises(MissingKeyError, match=variable) as caught:
            await call
        assert caught.value.variable == variable


@pytest.mark.parametrize("key", ["sk-a\nb", "sk-“quoted”", "sk a", "  "])
async def test_key_that_cannot_be_sent_is_explained_without_showing_it(
    monkeypatch: pytest.MonkeyPatch, server: ModelServer, key: str
):
    """A key with a line break or a typographic quote is a configuration error."""
    model = model_at(server, api_key=key)
    with pytest.raises(ConfigError, match="cannot be sent") as caught:
        await model.check()
    assert "sk" not in str(caught.value).replace("gpt-test", "")
    monkeypatch.setenv("SOME_API_KEY", "sk-ä")
    with pytest.raises(ConfigError, match="SOME_API_KEY"):
        await model_at(server, api_key_env="SOME_API_KEY").achat(PROMPT)


async def test_key_is_nowhere_but_in_the_header(caplog: pytest.LogCaptureFixture):
    """Not in repr, dumps, logs or errors, not even when the provider repeats it."""

    def tell(request: Request) -> Reply:
        return Reply(status=401, text=f"Incorrect API key provided: {request.headers['authorization']}")

    with ModelServer(tell) as server, caplog.at_level(logging.DEBUG):
        model = model_at(server, api_key=KEY)
        with pytest.raises(ModelError, match=r"Incorrect API key provided: Bearer \*\*\*") as caught:
            await model.ainvoke("", "hi")
        server.script(Reply(body={"error": {"message": f"echo {KEY}"}}), prompt="echo")
        with pytest.raises(ModelError) as echoed:
            await model.achat([{"role": "user", "content": "echo"}])
        await model.aclose()
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    error: BaseException | None = caught.value
    shown = [
        repr(model),
        str(vars(model)["config"]),
        repr(model.config),
        str(model.config.model_dump()),
        model.config.model_dump_json(),
    ]
    shown += [str(model.config.public()), caplog.text, repr(echoed.value)]
    while error is not None:
        shown += [str(error), repr(error)]
        error = error.__cause__ or error.__context__
    assert KEY not in "\n".join(shown)


# check()


async def test_check_makes_no_request(server: ModelServer):
    """A TCP connection is all, so nothing can be paid for."""
    await model_at(server).check()
    assert server.requests == []


@pytest.mark.parametrize(
    ("name", "hint"), [("openai/x", "Check the endpoint"), ("ollama/llama3.2", "Check the endpoint")]
)
async def test_unreachable_endpoint_is_named_with_its_model_and_cause(dead_port: int, name: str, hint: str):
    """The error says which URL, for which model, why, and what to do."""
    url = f"http://127.0.0.1:{dead_port}/v1"
    with pytest.raises(EndpointUnreachableError) as caught:
        await get_model(name, endpoint=url).check()
    assert all(part in str(caught.value) for part in (url.removesuffix("/v1"), name, "refused", hint))


async def test_ollama_that_does_not_run_says_how_to_start_it(dead_port: int, monkeypatch: pytest.MonkeyPatch):
    """Without an endpoint of one's own the remedy is `ollama serve`."""
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{dead_port}")
    with pytest.raises(EndpointUnreachableError, match="ollama serve"):
        await get_model("ollama/llama3.2").check()


async def test_proxy_carries_calls_and_spares_the_check(server: ModelServer, monkeypatch: pytest.MonkeyPatch):
    """Behind a proxy the endpoint's own name need not resolve here."""
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    model = get_model("openai/x", endpoint="http://models.example.invalid/v1")
    await model.check()
    assert (await model.achat(PROMPT)).response == "ok"
    assert server.requests[0].path == "http://models.example.invalid/v1/chat/completions"
    direct = model_at(server)
    await direct.achat(PROMPT)
    assert server.requests[1].path == "/v1/chat/completions"
    await model.aclose()
    await direct.aclose()


@pytest.mark.parametrize(
    "endpoint", ["localhost:8000", "ftp://host/v1", "http://", "http://host:port/v1", "not a url", ""]
)
def test_endpoint_that_is_no_url_is_refused(endpoint: str):
    """Before anything is run."""
    with pytest.raises(ConfigError, match="endpoint"):
        get_model("openai/x", endpoint=endpoint)


def test_endpoint_with_a_password_is_refused():
    """Endpoints are stored; passwords are not."""
    with pytest.raises(ConfigError, match="user name or password") as caught:
        get_model("openai/x", endpoint="https://me:hunter2@host/v1")
    assert "hunter2" not in str(caught.value)


async def test_endpoint_may_have_a_query_and_a_slash(server: ModelServer):
    """Gateways ask for both."""
    model = get_model("openai/x", endpoint=f"{server.openai_url}/?tenant=a")
    await model.achat(PROMPT)
    assert (server.requests[0].path, server.requests[0].query) == ("/v1/chat/completions", "tenant=a")
    await model.aclose()


# Event loops


def test_one_model_serves_many_event_loops(server: ModelServer, caplog: pytest.LogCaptureFixture):
    """asyncio.run after asyncio.run, and sync calls between them, without a word about unclosed sessions."""
    model = model_at(server)
    for _ in range(2):
        assert asyncio.run(model.ainvoke("", "hi")).response == "ok"
        assert model.invoke("", "hi").response == "ok"
    gc.collect()
    assert server.connections == 3  # one a loop: the sync calls share one
    assert caplog.text == ""


async def test_sync_call_works_inside_a_running_loop(server: ModelServer):
    """As in a notebook."""
    assert model_at(server).invoke("", "hi").response == "ok"


async def test_forgotten_model_closes_its_connections(server: ModelServer, caplog: pytest.LogCaptureFixture):
    """A model that goes away without aclose leaves no warning behind."""
    model = model_at(server)
    await model.achat(PROMPT)
    del model
    gc.collect()
    for _ in range(5):
        await asyncio.sleep(0)
    assert caplog.text == ""


async def test_model_can_be_used_after_aclose(server: ModelServer):
    """Closing releases connections, not the model; closing twice is fine."""
    model = model_at(server)
    for _ in range(2):
        assert (await model.achat(PROMPT)).response == "ok"
        await model.aclose()
        await model.aclose()
    assert server.connections == 2


def test_script_ends_without_a_word(server: ModelServer):
    """A plain script that calls `invoke` and ends prints nothing to standard error."""
    code = (
        "from promptlab.models.registry import get_model\nm = get_model('openai/x', "
        f"endpoint={server.openai_url!r})\nprint(m.invoke('', 'hi').response)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", code],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("ok\n", "", 0)


LEFT = """
import asyncio, gc, sys
from promptlab.models.registry import get_model

class Held:
    pass

def model():
    return get_model("openai/x", endpoint=sys.argv[1], max_retries=0)

def sync():
    held = Held()
    held.me, held.model = held, model()
    try:
        held.model.invoke("", "hi")
    except Exception as error:
        held.error = error

async def on_the_loop():
    for _ in range(3):
        held = Held()
        held.me, held.model = held, model()
        try:
            await held.model.ainvoke("", "hi")
        except Exception as error:
            held.error = error
        del held
        gc.collect()

for _ in range(3):
    sync()
    gc.collect()
asyncio.run(on_the_loop())
async def last():
    held = Held()
    held.me, held.model = held, model()
    await held.model.aembed(["text"])
try:
    asyncio.run(last())
except Exception as error:
    kept = error
sync()
"""


def test_failed_calls_leave_no_session_behind(server: ModelServer):
    """Also where the error is kept and makes a cycle of its model, which only the garbage collector ends."""
    server.answer = lambda request: Reply(status=500)
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", LEFT, server.openai_url],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


async def test_proxy_that_is_no_address_leaves_no_session_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """The call fails before anything is open."""
    for proxy, why in (("http://[::1", "not an address"), ("socks5://host:1", "only http and https")):
        monkeypatch.setenv("http_proxy", proxy)
        with pytest.raises(ConfigError, match=why):
            await get_model("openai/x", endpoint="http://models.example.invalid/v1").achat(PROMPT)
    gc.collect()
    assert caplog.text == ""


def test_importing_models_loads_no_http_client():
    """`import promptlab` stays fast."""
    code = (
        "import sys, promptlab.models, promptlab.models.registry, promptlab.domain.prices\nprint([m "
        "for m in ('httpx', 'aiohttp', 'boto3') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    assert done.stdout == "[]\n"


def test_model_pickles_no_surprise_into_its_config():
    """A ModelConfig given to get_model is kept as it is."""
    config = ModelConfig(name="openai/x", api_key=KEY, endpoint="http://127.0.0.1:9/v1")
    assert get_model(config).config is config
    changed = get_model(config, temperature=0.5)
    assert changed.config.temperature == 0.5 and changed.config.api_key is not None
    assert changed.config.api_key.get_secret_value() == KEY
