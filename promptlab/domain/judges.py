"""The models that judge answers, as they are configured and recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from promptlab.domain.model_config import CacheConfig, ModelConfig, cache_given

MOST_JUDGES = 20
"""Judges of one metric."""
KEPT_DAYS = 90.0
"""For how many days a judgement is kept for equal inputs, where nothing else is said."""
Structured = Literal["schema", "json", "none"]
_OWN = ("allow_self", "repeats", "structured")


class JudgeConfig(ModelConfig):
    """A model that judges, and how it is asked. Any further field is sent to its provider as it is."""

    cache: CacheConfig | Literal[False] | None = Field(
        default=CacheConfig(expires_days=KEPT_DAYS),
        description="Whether equal inputs get the judgement of before: true, false, or {expires_days: 7}. "
        "For 90 days by default.",
    )
    allow_self: bool = Field(
        default=False, description="Whether it may be the model whose answers it judges, or share its name."
    )
    repeats: int = Field(
        default=1, ge=1, le=20, description="How often it judges each answer; the mean of these counts."
    )
    structured: Structured | None = Field(
        default=None,
        description="How its answer is kept to its form. schema: by a JSON schema; json: by the provider's "
        "JSON mode; none: by the prompt alone. By default as its provider can.",
    )

    @field_validator("cache", mode="before")
    @classmethod
    def _cache_is_kept(cls, value: Any) -> Any:
        return CacheConfig(expires_days=KEPT_DAYS) if value is None else cache_given(value)

    def model(self) -> ModelConfig:
        """The configuration of the model itself."""
        given = {name: getattr(self, name) for name in type(self).model_fields if name not in _OWN}
        unset = {name for name, value in given.items() if value is None}
        fields: Mapping[str, Any] = {name: value for name, value in given.items() if name not in unset}
        return ModelConfig.model_validate({**fields, **self.extra_params})

    @classmethod
    def of(cls, config: ModelConfig) -> JudgeConfig:
        """A judge of the configuration of a model that is there already."""
        if isinstance(config, cls):
            return config
        given = {name: getattr(config, name) for name in config.model_fields_set}
        return cls.model_validate({**given, **config.extra_params})
