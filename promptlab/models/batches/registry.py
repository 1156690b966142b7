"""Which models have a batch mode, and what speaks to it; loaded on use."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from promptlab.domain.model_config import ModelConfig
from promptlab.errors import ConfigError
from promptlab.models.base import Model

if TYPE_CHECKING:
    from promptlab.models.batches.base import Batches, Limits

PROVIDERS = ("anthropic", "azure", "bedrock", "openai")
"""Providers with a batch mode; Gemini's is that of `openai/…` with Gemini's endpoint."""


def has_batch_mode(config: ModelConfig) -> bool:
    """Whether a model's provider has a batch mode."""
    return config.provider in PROVIDERS


@dataclass(frozen=True, slots=True)
class BatchModes:
    """Makes what speaks to the batch mode of a model."""

    limits: Limits | None = None
    """The bounds of a batch, in place of those that each provider documents."""

    def of(self, model: Model) -> Batches:
        """Make it.

        Raises:
            ConfigError: the model has no batch mode, or lacks a setting.
        """
        found = batches_of(model)
        if self.limits is not None:
            found.limits = self.limits
        return found


AS_DOCUMENTED = BatchModes()
"""With each provider's own bounds."""


def batches_of(model: Model) -> Batches:
    """The batch mode of a model.

    Raises:
        ConfigError: it has none, or lacks a setting.
    """
    provider = model.config.provider
    if not type(model).__module__.startswith("promptlab.models.") or provider not in PROVIDERS:
        raise ConfigError(
            f"Model {model.name!r} has no batch mode: {', '.join(PROVIDERS)} and Gemini (openai/… with its "
            "endpoint) have one. Leave batch out."
        )
    if model.config.extra_params.get("service_tier") is not None:
        raise ConfigError(
            f"Model {model.name!r}: batch mode is a tier of its own: leave service_tier out, or batch"
        )
    if provider in ("openai", "azure"):
        gemini = importlib.import_module("promptlab.models.batches.gemini")
        if provider == "openai" and gemini.is_gemini(getattr(model, "endpoint", "")):
            found: Batches = gemini.GeminiBatches(model)
            return found
        return _made("openai:OpenAIBatches", model)
    names = {"anthropic": "anthropic:AnthropicBatches", "bedrock": "bedrock:BedrockBatches"}
    return _made(names[provider], model)


def _made(name: str, model: Model) -> Batches:
    from promptlab.models.batches.base import Batches

    module, _, cls = name.partition(":")
    made = getattr(importlib.import_module(f"promptlab.models.batches.{module}"), cls)(model)
    assert isinstance(made, Batches)
    return made
