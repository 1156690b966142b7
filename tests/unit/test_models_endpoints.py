"""Endpoints in every form that people have, and proxies that are left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from promptlab import PromptLab
from promptlab.domain.deployments import deployment_warnings
from promptlab.domain.prices import price_of
from promptlab.errors import ConfigError, MissingKeyError
from promptlab.models.endpoints import proxy_for
from promptlab.models.registry import get_model
from tests.servers import ModelServer

AZURE = "https://res.openai.azure.com"
FOUNDRY = "https://res.services.ai.azure.com"
CHAT = "/chat/completions"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "openai_base_url", "openai_api_base"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def chat_url(name: str, **config: Any) -> str:
    model: Any = get_model(name, api_key="sk-0123456789abcdef", **config)
    return str(model._chat_url if hasattr(model, "_chat_url") else model._url)


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://h:8000/v1", f"http://h:8000/v1{CHAT}"),
        (" http://h:8000/v1/\n", f"http://h:8000/v1{CHAT}"),
        (f"http://h:8000/v1{CHAT}", f"http://h:8000/v1{CHAT}"),
        ("http://h:8000/v1/embeddings/", f"http://h:8000/v1{CHAT}"),
        ("http://h:8000/v1#part", f"http://h:8000/v1{CHAT}"),
        ("http://h:8000/v1/?tenant=a", f"http://h:8000/v1{CHAT}?tenant=a"),
    ],
)
def test_endpoint_is_taken_as_it_is_written(endpoint: str, url: str) -> None:
    """With spaces, a slash, a fragment, a query, or as the whole URL of a request."""
    assert chat_url("openai/x", endpoint=endpoint) == url


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        (
            f"{AZURE}/openai/deployments/dep{CHAT}?api-version=2025-01-01-preview",
            f"{AZURE}/openai/deployments/dep{CHAT}?api-version=2025-01-01-preview",
        ),
        (f"{AZURE}/openai/deployments/dep", f"{AZURE}/openai/deployments/dep{CHAT}?api-version=2024-10-21"),
        (f"{AZURE}/openai/v1/?api-version=preview", f"{AZURE}/openai/v1{CHAT}?api-version=preview"),
        (f"{AZURE}?api-version=2024-06-01", f"{AZURE}/openai/deployments/gpt{CHAT}?api-version=2024-06-01"),
        (
            f"{AZURE}/openai/responses?api-version=2025-04-01-preview",
            f"{AZURE}/openai/deployments/gpt{CHAT}?api-version=2025-04-01-preview",
        ),
        (f"{AZURE}/openai/v1/responses", f"{AZURE}/openai/v1{CHAT}"),
        (
            f"{FOUNDRY}/models{CHAT}?api-version=2024-05-01-preview",
            f"{FOUNDRY}/models{CHAT}?api-version=2024-05-01-preview",
        ),
        (f"{FOUNDRY}/models", f"{FOUNDRY}/models{CHAT}?api-version=2024-05-01-preview"),
    ],
)
def test_azure_target_uri_is_an_endpoint(endpoint: str, url: str) -> None:
    """As the portal shows it: its deployment and its version are used."""
    assert chat_url("azure/gpt", endpoint=endpoint) == url


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (f"/openai/deployments/prod{CHAT}?api-version=2025-01-01-preview", "prod"),
        ("/openai/deployments/my%20prod/", "my prod"),
        (f"/openai/deployments/GPT-4o{CHAT}", None),
        ("/openai/v1", None),
        ("", None),
    ],
)
def test_azure_endpoint_of_another_deployment_is_said(path: str, named: str | None) -> None:
    """Both names stand in the warning, and the deployment of the endpoint is asked in every way."""
    config = {"endpoint": f"{AZURE}{path}", "api_key": "k"}
    chat: Any = get_model("azure/gpt-4o", **config)
    said = deployment_warnings([chat.config, chat.config])
    assert len(said) == (named is not None)
    if named is None:
        return
    assert repr(named) in said[0] and "'gpt-4o'" in said[0] and f"azure/{named}" in said[0]
    assert f"/deployments/{named.replace(' ', '%20')}/" in chat_url(
        "azure/gpt-4o", endpoint=config["endpoint"]
    )
    for way in ({}, {"api": "responses"}, {"batch": True}):
        model: Any = get_model("azure/gpt-4o", **config, **way)
        assert model.payload([{"role": "user", "content": "?"}])["model"] == named


def test_azure_endpoint_of_another_deployment_is_said_before_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what else is probably not meant; also where the environment names it."""
    with ModelServer() as server, PromptLab({"db_file": str(tmp_path / "lab.db")}) as pl:
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", f"{server.url}/openai/deployments/prod")
        monkeypatch.setenv("AZURE_OPENAI_API_KEY", "k")
        run = pl.experiment.run(
            {
                "name": "azure",
                "prompt_template": {"name": "ask", "user_prompt": "<q>"},
                "dataset": {"name": "rows", "rows": [{"q": "1"}]},
                "model": "azure/gpt-4o",
                "evaluation": [],
            }
        )
        assert {request.path for request in server.requests} == {f"/openai/deployments/prod{CHAT}"}
    (said,) = run.warnings
    assert "'prod'" in said and "azure/gpt-4o" in said


@pytest.mark.parametrize(
    ("name", "variable", "path"),
    [
        ("openai/gpt-4.1", "OPENAI_BASE_URL", CHAT),
        ("openai/gpt-4.1", "OPENAI_API_BASE", CHAT),
        ("anthropic/claude-sonnet-4", "ANTHROPIC_BASE_URL", "/messages"),
        ("anthropic/claude-sonnet-4", "ANTHROPIC_API_BASE", "/messages"),
        ("groq/llama-3.1-8b-instant", "GROQ_BASE_URL", CHAT),
        ("groq/llama-3.1-8b-instant", "GROQ_API_BASE", CHAT),
    ],
)
def test_endpoint_of_the_environment_is_followed(
    monkeypatch: pytest.MonkeyPatch, name: str, variable: str, path: str
) -> None:
    """As the providers' own clients do; it is recorded, and the provider's own prices do not hold there."""
    assert price_of(get_model(name).config) is not None
    monkeypatch.setenv(variable, "http://gateway.internal/v1")
    assert chat_url(name) == f"http://gateway.internal/v1{path}"
    model = get_model(name)
    assert model.config.public()["endpoint"] == "http://gateway.internal/v1"
    assert price_of(model.config) is None
    assert chat_url(name, endpoint="http://mine/v1") == f"http://mine/v1{path}"
    monkeypatch.setenv(variable, "gateway")
    with pytest.raises(ConfigError, match=variable):
        get_model(name)


@pytest.mark.parametrize("provider", ["openrouter", "deepseek", "mistral", "groq", "vllm", "azure"])
def test_every_provider_has_a_variable_for_its_address(
    monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    """Else prompts and keys would go to the public API in place of a company's gateway."""
    variable = {"azure": "AZURE_OPENAI_ENDPOINT"}.get(provider, f"{provider.upper()}_BASE_URL")
    monkeypatch.setenv(variable, "https://gateway.example/openai/v1")
    assert chat_url(f"{provider}/x") == f"https://gateway.example/openai/v1{CHAT}"


async def test_the_providers_own_endpoint_wants_a_key_however_it_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Named in the environment or in the configuration, it is the same."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.openai.com/v1")
    with pytest.raises(MissingKeyError):
        await get_model("openai/x").check()


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000/v1", True),
        ("127.0.0.0/8", "http://127.0.0.1:8000/v1", True),
        ("10.0.0.0/8", "http://127.0.0.1:8000/v1", False),
        ("127.0.0.1:8000", "http://127.0.0.1:8000/v1", True),
        ("127.0.0.1:8000", "http://127.0.0.1:9000/v1", False),
        ("models.example:80", "http://models.example/v1", True),
        ("example", "http://models.example/v1", True),
        (".example", "http://models.example/v1", True),
        ("*.example", "http://models.example/v1", True),
        ("ample", "http://models.example/v1", False),
        ("fd00::/8", "http://[fd00::1]:8000/v1", True),
        ("[::1]:8000", "http://[::1]:8000/v1", True),
        ("a, *", "http://models.example/v1", True),
        (",", "http://models.example/v1", False),
    ],
)
def test_no_proxy_names_hosts_networks_and_ports(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, url: str, direct: bool
) -> None:
    """In the forms that other programs read."""
    monkeypatch.setenv("http_proxy", "127.0.0.1:3128")
    monkeypatch.setenv("no_proxy", no_proxy)
    assert proxy_for(url) == (None if direct else "http://127.0.0.1:3128")


async def test_call_goes_past_a_dead_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network in no_proxy is enough."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.0/8")
    with ModelServer() as server:
        model = get_model("openai/x", endpoint=server.openai_url)
        assert (await model.achat([{"role": "user", "content": "hi"}])).response == "ok"
        await model.aclose()
