"""Models by name: provider → the module and class that speak to it, loaded on use."""

from __future__ import annotations

import asyncio
import importlib
import sys
from types import ModuleType
from typing import Any

from pydantic import SecretStr, ValidationError

from promptlab import plugins
from promptlab.domain.explain import explain
from promptlab.domain.model_config import ModelConfig
from promptlab.errors import ConfigError, UnknownNameError
from promptlab.loading import loading
from promptlab.models.base import Model

PROVIDERS = {
    "anthropic": "promptlab.models.anthropic:AnthropicModel",
    "azure": "promptlab.models.openai_compatible:AzureModel",
    "bedrock": "promptlab.models.bedrock:BedrockModel",
    "deepseek": "promptlab.models.openai_compatible:DeepSeekModel",
    "groq": "promptlab.models.openai_compatible:GroqModel",
    "mistral": "promptlab.models.openai_compatible:MistralModel",
    "ollama": "promptlab.models.ollama:OllamaModel",
    "openai": "promptlab.models.openai_compatible:OpenAIModel",
    "openrouter": "promptlab.models.openai_compatible:OpenRouterModel",
    "simulated": "promptlab.models.simulated:SimulatedModel",
    "vllm": "promptlab.models.openai_compatible:VllmModel",
}


def get_model(name_or_config: str | ModelConfig | dict[str, Any], /, **params: Any) -> Model:
    """The model that a name or a configuration describes.

    Args:
        name_or_config: `provider/model` as in `openai/gpt-6-luna`, or a configuration.
        params: fields of `ModelConfig` (endpoint, api_key, temperature, …) that are added to it or
            override it; any other is sent to the provider as it is.

    Raises:
        UnknownNameError: there is no such provider.
        ConfigError: a parameter is wrong.
        MissingExtraError: the provider needs an optional package.
    """
    config = _config(name_or_config, params)
    if config.provider not in PROVIDERS:
        if plugins.load(plugins.PROVIDERS, config.provider) is not None:
            return _plugged(config)
        remedy = (
            "A server that speaks OpenAI's protocol is openai/<model> with endpoint=…; your own class "
            "is a subclass of Model."
        )
        raise UnknownNameError("model provider", config.provider, provider_names(), remedy)
    made = provider_of(config.provider)(config)
    assert isinstance(made, Model)
    return made


def provider_names() -> list[str]:
    """List what may stand before the slash of a model's name, sorted: built in or of a package."""
    return sorted({*PROVIDERS, *plugins.names(plugins.PROVIDERS)})


def provider_of(name: str) -> Any:
    """Load a provider's class (an installed package may have a function in its place).

    Raises:
        ConfigError: a package's cannot be loaded; the message names the package.
    """
    if name not in PROVIDERS:
        return plugins.load(plugins.PROVIDERS, name)
    module, _, cls = PROVIDERS[name].partition(":")
    return getattr(_loaded(module), cls)


async def load_provider(provider: str) -> None:
    """Load the module of a built-in provider, if it is not there yet, without holding the event loop.

    aiohttp reads the system's certificates when it is imported: 50 ms here, in which other threads run.
    """
    module = PROVIDERS.get(provider, "").partition(":")[0]
    if module and module not in sys.modules:
        await asyncio.to_thread(_loaded, module)


def _loaded(module: str) -> ModuleType:
    with loading():
        return importlib.import_module(module)


def _plugged(config: ModelConfig) -> Model:
    """The model of a provider that an installed package registers."""
    made = plugins.make(plugins.PROVIDERS, config.provider, config)
    if not isinstance(made, Model):
        raise ConfigError(
            f"The model provider {config.provider!r} of an installed package gives no promptlab.Model but a "
            f"{type(made).__name__}: update that package, or uninstall it."
        )
    return made


def is_registered(model: Model) -> bool:
    """Whether a model's configuration alone brings it back: it is built in, or of a registered provider."""
    if type(model).__module__.startswith("promptlab.models."):
        return True
    provider = model.config.provider
    return provider not in PROVIDERS and plugins.load(plugins.PROVIDERS, provider) is type(model)


def _config(given: str | ModelConfig | dict[str, Any], params: dict[str, Any]) -> ModelConfig:
    if isinstance(given, ModelConfig) and not params:
        return given
    fields: dict[str, Any]
    if isinstance(given, ModelConfig):
        # Not model_dump, which leaves the key out.
        fields = {name: getattr(given, name) for name in given.model_fields_set}
    elif isinstance(given, str):
        fields = {"name": given}
    elif isinstance(given, dict):
        fields = given
    else:
        raise ConfigError(
            f"get_model takes 'provider/model', a ModelConfig or a dict, not {type(given).__name__}"
        )
    if not isinstance(fields.get("api_key", params.get("api_key")), str | SecretStr | None):
        raise ConfigError("This model is not valid: api_key: must be text")  # without showing it
    try:
        return ModelConfig.model_validate({**fields, **params})
    except ValidationError as error:
        raise ConfigError(explain(error, "model", ModelConfig)) from None
