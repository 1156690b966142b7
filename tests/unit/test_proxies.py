"""Calls through a real proxy, and over TLS that is not trusted: who said no, and what to do."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from promptlab.adapters.http.client import ApiClient
from promptlab.errors import ConfigError, EndpointUnreachableError, ModelError
from promptlab.models.registry import get_model
from tests.proxies import Proxy, TlsProvider
from tests.servers import ModelServer, Reply

PROMPT = [{"role": "user", "content": "hi"}]
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TlsProvider]:
    """A provider over TLS, whose certificate is trusted."""
    with TlsProvider(tmp_path) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
        yield server


async def asked(endpoint: str, **config: Any) -> str | ModelError:
    """The answer to one call, or its error."""
    model = get_model("openai/x", endpoint=endpoint, api_key="none", **config)
    try:
        return (await model.achat(PROMPT)).response
    except ModelError as error:
        return error
    finally:
        await model.aclose()


async def test_calls_go_through_a_proxy_with_its_password(
    provider: TlsProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By CONNECT over https, as a whole address over http."""
    with Proxy(user="me:secret-of-the-proxy") as proxy, ModelServer() as plain:
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://me:secret-of-the-proxy@127.0.0.1:{proxy.port}")
        assert await asked(provider.url) == "ok"
        assert await asked(plain.openai_url) == "ok"
        assert [line.split()[0] for line in proxy.asked] == ["CONNECT", "POST"]
        monkeypatch.setenv("no_proxy", f"127.0.0.1:{plain.port}")
        assert [await asked(plain.openai_url), await asked(provider.url)] == ["ok", "ok"]
        assert [line.split()[0] for line in proxy.asked] == ["CONNECT", "POST", "CONNECT"]


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize(
    ("status", "type_", "retryable", "said"),
    [
        (407, "authentication", False, "USER:PASSWORD"),
        (502, "connection", True, "did not get through to 127.0.0.1"),
        (403, "connection", False, "no_proxy=127.0.0.1 goes without it"),
    ],
)
async def test_what_a_proxy_refuses_is_said_of_the_proxy(
    provider: TlsProvider,
    monkeypatch: pytest.MonkeyPatch,
    secure: bool,
    status: int,
    type_: str,
    retryable: bool,
    said: str,
) -> None:
    """And not of the provider, whose key or server would be looked at in vain; the password is not said."""
    with Proxy(refusing=status) as proxy, ModelServer() as plain:
        address = f"http://me:secret-of-the-proxy@127.0.0.1:{proxy.port}"
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, address)
        error = await asked(provider.url if secure else plain.openai_url)
        assert isinstance(error, ModelError)
        assert (error.type, error.status, error.retryable, error.sent) == (type_, status, retryable, False)
        assert f"HTTP {status} of the proxy {proxy.url}, not of the provider" in str(error)
        assert said in str(error) and "secret-of" not in str(error)
        assert plain.requests == []


async def test_a_providers_own_error_stays_its_own_behind_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 502 that the provider gave is no proxy's."""
    with Proxy() as proxy, ModelServer(lambda request: Reply(status=502, text="mine")) as plain:
        monkeypatch.setenv("http_proxy", proxy.url)
        error = await asked(plain.openai_url)
    assert isinstance(error, ModelError) and error.type == "server_error" and "proxy" not in str(error)


async def test_a_proxy_that_is_gone_is_named(provider: TlsProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the check before a run, and in a call."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("https_proxy", dead)
        error = await asked(provider.url)
        assert isinstance(error, ModelError) and f"the proxy {dead} before {provider.url}" in str(error)
        assert (error.type, error.retryable, error.sent) == ("connection", True, False)
        model = get_model("openai/x", endpoint=provider.url, api_key="none")
        with pytest.raises(EndpointUnreachableError, match=f"{dead}, the proxy before .*no_proxy=127.0.0.1"):
            await model.check()


async def test_tls_errors_name_the_certificates(
    provider: TlsProvider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without SSL_CERT_FILE they say that there is one to set, with it which one is not enough."""
    assert await asked(provider.url) == "ok"
    monkeypatch.delenv("SSL_CERT_FILE")
    untrusted = await asked(provider.url)
    assert isinstance(untrusted, ModelError) and not untrusted.retryable
    assert "no trusted TLS connection" in str(untrusted) and "set SSL_CERT_FILE to the file" in str(untrusted)
    other = tmp_path / "other"
    other.mkdir()
    with TlsProvider(other) as another:
        monkeypatch.setenv("SSL_CERT_FILE", str(another.certificate))
        assert f"SSL_CERT_FILE={another.certificate}" in str(await asked(provider.url))


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_file_without_certificates_is_said_before_a_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    """It is a mistake of this machine's settings, and no failure of each case."""
    file = tmp_path / "ca.pem"
    if content:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    model = get_model("openai/x", endpoint="https://127.0.0.1:9/v1", api_key="none")
    with pytest.raises(ConfigError, match=f"SSL_CERT_FILE={file}: .*in PEM form"):
        await model.check()


async def test_bedrock_keeps_to_no_proxy_with_networks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As every other provider; a proxy that refuses is named, and so are certificates."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)

    async def ask(endpoint: str) -> str | ModelError:
        model = get_model("bedrock/some.model", endpoint=endpoint)
        try:
            return (await model.achat(PROMPT)).response
        except ModelError as error:
            return error
        finally:
            await model.aclose()

    with Proxy(refusing=502) as proxy, ModelServer() as server, TlsProvider(tmp_path) as secure:
        monkeypatch.setenv("http_proxy", proxy.url)
        refused = await ask(server.url)
        monkeypatch.setenv("https_proxy", proxy.url)
        refused_secure = await ask(secure.url)
        monkeypatch.setenv("no_proxy", "127.0.0.0/8")
        assert await ask(server.url) == "ok"
        untrusted = await ask(secure.url.removesuffix("/v1"))
    assert isinstance(refused, ModelError)
    assert isinstance(refused_secure, ModelError) and refused_secure.type == "connection"
    assert "the proxy before Bedrock made no connection" in str(refused_secure) and "502" in str(
        refused_secure
    )
    assert isinstance(untrusted, ModelError) and not untrusted.retryable and "AWS_CA_BUNDLE" in str(untrusted)


async def test_the_client_of_a_hosted_studio_follows_the_same_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A network and a port in no_proxy, too, which httpx by itself does not read."""
    with Proxy(user="me:secret-of-the-proxy") as proxy, ModelServer() as server:
        monkeypatch.setenv("http_proxy", f"http://me:secret-of-the-proxy@127.0.0.1:{proxy.port}")

        async def ask(url: str) -> None:
            client = ApiClient(url, None)
            assert await client.get("/runs") == {"error": {"message": "no such path: /api/v1/runs"}}
            await client.aclose()

        await ask(server.url)
        assert len(proxy.asked) == 1
        monkeypatch.setenv("no_proxy", "10.0.0.0/8,127.0.0.0/8")
        await ask(server.url)
        monkeypatch.setenv("no_proxy", f"127.0.0.1:{server.port}")
        await ask(server.url)
        monkeypatch.setenv("no_proxy", "10.0.0.0/8")
        await ask(f"http://studio.localhost:{server.port}")  # always this machine
        assert len(proxy.asked) == 1
        await ask(server.url)
        assert len(proxy.asked) == 2
