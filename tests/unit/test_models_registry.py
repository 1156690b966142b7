"""get_model: from a name or a configuration to a model, or to an error that says what is wrong."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from promptlab.domain.model_config import ModelConfig
from promptlab.domain.prices import LISTED_HOSTS
from promptlab.errors import ConfigError, UnknownNameError
from promptlab.models.base import Model
from promptlab.models.http import HttpModel
from promptlab.models.registry import PROVIDERS, get_model


def test_a_name_a_dict_and_a_config_mean_the_same():
    """And parameters override what they hold."""
    config = ModelConfig(name="simulated/x", temperature=0.5)
    for given in (
        "simulated/x",
        {"name": "simulated/x"},
        {"name": "simulated/x", "type": "completion"},
        config,
    ):
        model = get_model(given, temperature=0.25, top_p=0.5)
        assert (model.name, model.config.temperature, model.config.extra_params) == (
            "simulated/x",
            0.25,
            {"top_p": 0.5},
        )
    assert config.temperature == 0.5


def test_every_registered_provider_is_there():
    """The registry's strings lead to classes."""
    for target in PROVIDERS.values():
        module, _, name = target.partition(":")
        assert issubclass(getattr(importlib.import_module(module), name), Model)


def test_own_prices_hold_at_default_endpoints():
    """The hosts of the price table are those of the providers."""
    for provider, host in LISTED_HOSTS.items():
        module, _, name = PROVIDERS[provider].partition(":")
        made: type[HttpModel] = getattr(importlib.import_module(module), name)
        assert (
            made.default_endpoint is not None
            and made.default_endpoint.partition("//")[2].partition("/")[0] == host
        )


def test_unknown_provider_names_the_nearest():
    """A typing error is found."""
    with pytest.raises(UnknownNameError, match=r"Unknown model provider 'opnai'. Did you mean 'openai'"):
        get_model("opnai/gpt-4o")


@pytest.mark.parametrize(
    ("given", "params", "words"),
    [
        ("gpt-6-luna", {}, "provider/model"),
        ("", {}, "provider/model"),
        ({}, {}, "name: is required"),
        ("openai/x", {"temperature": -1}, "temperature"),
        ("openai/x", {"max_concurrent_tasks": 0}, "max_concurrent_tasks"),
        ("openai/x", {"temprature": 0}, "did you mean 'temperature'"),
        ("openai/x", {"stream_options": {}}, "'stream_options' is not supported"),
        ("ollama/x", {"stream": True}, "stream is for providers that speak OpenAI's protocol or Anthropic's"),
        (
            "anthropic/x",
            {"api": "responses"},
            "api 'responses' is for providers that speak OpenAI's protocol",
        ),
        ("openai/x", {"api": "responses", "batch": True}, "leave out api, or batch"),
        ("openai/x", {"tools": object()}, "must be JSON"),
        (42, {}, "not int"),
        (None, {}, "not NoneType"),
    ],
)
def test_wrong_configuration_is_explained(given: Any, params: dict[str, Any], words: str):
    """A ConfigError in plain words, and no validation library's."""
    with pytest.raises(ConfigError, match=words):
        get_model(given, **params)


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "__call__"])
def test_a_configuration_that_holds_a_model_is_met_with_the_way_to_give_one(way: str) -> None:
    """Whichever way the object is asked; a string under that name is a parameter as any."""
    holder = type("Mine", (), {way: lambda self: None})()
    with pytest.raises(ConfigError, match=r'a configuration holds no model itself: .* "model": Mine\(…\)'):
        get_model({"name": "openai/x", "model": holder})
    assert ModelConfig.model_validate({"name": "openai/x", "model": "y"}).extra_params == {"model": "y"}


def test_defaults_are_those_of_the_docs() -> None:
    """Ten calls in flight, two minutes an answer, five further tries; all else as the provider has it."""
    config = ModelConfig(name="openai/gpt-6-luna")
    assert config.public() == {
        "name": "openai/gpt-6-luna",
        "max_concurrent_tasks": 10,
        "timeout_s": 120,
        "max_retries": 5,
    }
    assert (config.provider, config.model_id) == ("openai", "gpt-6-luna")
    assert ModelConfig(name="openrouter/openai/x").model_id == "openai/x"


def test_key_of_a_wrong_type_is_not_shown():
    """Whatever was passed as api_key stays out of the message."""
    with pytest.raises(ConfigError) as caught:
        get_model("openai/x", api_key=123456789)
    assert "123456789" not in str(caught.value)


def test_model_has_a_readable_repr():
    """Its class and name."""
    assert repr(get_model("openai/gpt-6-luna", api_key="sk-5ecret")) == "<OpenAIModel openai/gpt-6-luna>"


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("concurrency", "max_concurrent_tasks"),
        ("maxConcurrency", "max_concurrent_tasks"),
        ("max_parallel", "max_concurrent_tasks"),
        ("max-workers", "max_concurrent_tasks"),
        ("max_concurrent_requests", "max_concurrent_tasks"),
        ("timeout", "timeout_s"),
        ("request_timeout", "timeout_s"),
        ("num_retries", "max_retries"),
        ("base_url", "endpoint"),
        ("api_base", "endpoint"),
        ("rpm", "did you mean 'requests_per_minute'"),
        ("tpm", "did you mean 'tokens_per_minute'"),
        ("max_rpm", "did you mean 'requests_per_minute'"),
        ("qps", "no such limit"),
        ("requestsPerMinute", "did you mean 'requests_per_minute'"),
        ("max_tokens_per_minute", "did you mean 'tokens_per_minute'"),
        ("rate_limit", "no such limit"),
        ("max_cost_usd", "no such limit"),
    ],
)
@pytest.mark.parametrize("model", ["openai/x", "anthropic/x", "ollama/x", "simulated/x"])
def test_limit_is_never_sent_as_a_parameter(name: str, remedy: str, model: str) -> None:
    """A provider that ignores it would let it seem to work; the error has our name
    for it, if there is one."""
    with pytest.raises(ConfigError, match=f"{name}.*{remedy}"):
        get_model(model, **{name: 60})


@pytest.mark.parametrize(
    "name",
    [
        *("parallel_tool_calls", "max_completion_tokens", "num_thread", "top_p", "best_of", "n", "logprobs"),
        *("rope_frequency_base", "max_thinking_tokens", "service_tier", "keep_alive", "min_tokens"),
    ],
)
def test_parameters_that_providers_have_are_sent(name: str) -> None:
    """They only look a little like limits."""
    assert get_model("openai/x", **{name: 1}).config.extra_params == {name: 1}


def test_stored_configuration_with_a_limit_can_still_be_read() -> None:
    """Runs of older versions have some."""
    assert ModelConfig(name="openai/x", rpm=60).extra_params == {"rpm": 60}  # type: ignore[call-arg]
