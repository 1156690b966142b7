"""The model to call, and how to call it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator

from promptlab.domain.written import Written

EXAMPLE_MODEL = "openai/gpt-6-luna"
"""Today's cheap model, as examples everywhere name it; a test keeps them from naming
one that is about to end."""
MOST_PARAMETERS = 100
"""Further fields of a model, which are sent to its provider as they are."""
Retries = Annotated[int, Field(ge=0, le=100)]
RetriedKind = Literal["server_error", "timeout", "connection", "conflict", "invalid_response", "rate_limit"]
"""The types of errors after which a call is made again."""
_OURS = (
    (
        "max_concurrent_tasks",
        r"(max_?)?(concurrency|concurrent(_?(calls|requests|tasks))?|in_?flight|workers|connections)"
        r"|(max|n)_?parallel(ism|_?(calls|requests|tasks))?|parallel(ism|_?(calls|requests|tasks))?"
        r"|(concurrency|parallelism)_?limit|(num|n)_?(workers|threads)|threads|semaphore|pool_?size",
    ),
    (
        "requests_per_minute",
        r"(max_?)?(requests|req|calls|queries|prompts)_?(per|an?)_?(m|min|minute)|(max_?)?[rq]pm(_?limit)?",
    ),
    ("tokens_per_minute", r"(max_?)?(tokens|tok)_?(per|an?)_?(m|min|minute)|(max_?)?tpm(_?limit)?"),
    ("timeout_s", r"(request_?)?time_?out(_?(ms|sec|secs|seconds|in_?seconds))?|deadline(_?s)?"),
    ("max_retries", r"((num|n|max)_?)?(retry|retries|attempts)|retry_?(count|limit)"),
    ("endpoint", r"(api_?)?base(_?ur[il])?|api_?(url|endpoint|host)|ur[il]"),
)
"""Our parameters, and the names that other libraries have for them: no provider takes one of those."""
_LIMITS = re.compile(
    r"(max_?)?(requests|req|tokens|tok|calls|queries|prompts)_?(per|an?)_?(s|sec|second|m|min|minute|h|hour|d|day)"
    r"|(max_?)?[rtq]p[smhd](_?limit)?|rate_?limits?(_?\w+)?|throttle(_?\w+)?|quota|burst"
    r"|(max_?)?(cost|budget|spend|dollars)(_?usd)?"
)
"""Names of limits that no provider takes and that we do not have: sent on, they would seem to work."""


_SECRETS = re.compile(
    r"((extra|default|custom|http|request)_?)?headers?|(extra|default)_?(query|params)|authorization|auth(_?\w+)?"
    r"|(api|access|auth|bearer|id)_?token|token|bearer|password|secret|credentials?|cookies?|x_api_key"
)
"""Names under which a key would be recorded with every run, and sent in a body."""


def misplaced(parameter: str) -> str | None:
    """Say what is wrong with a parameter that would be sent to a provider although
    it is meant for the caller.

    Returns:
        What to do instead; None for a name that may be a provider's own.
    """
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", parameter).lower().replace("-", "_").replace(" ", "_")
    for ours, names in _OURS:
        if re.fullmatch(names, name):
            return f"did you mean {ours!r}?"
    if _SECRETS.fullmatch(name):
        return (
            "parameters are recorded with every run, and no headers are taken from them. A key is named: "
            "api_key_env=NAME_API_KEY, or api_key_secret=NAME in the cloud"
        )
    if _LIMITS.fullmatch(name):
        return (
            "PromptLab has no such limit; requests_per_minute and tokens_per_minute are shared by all runs, "
            "max_concurrent_tasks bounds the calls in flight, and answers 429 slow a run down by themselves."
        )
    return None


def _is_object(value: Any) -> bool:
    """Whether a value can be called, or asked as a model is."""
    return callable(value) or hasattr(value, "invoke") or hasattr(value, "ainvoke")


class CacheConfig(Written):
    """How long answers are kept, to be given again to an equal request."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    expires_days: float = Field(
        default=30, gt=0, le=365, allow_inf_nan=False, description="Days after which an answer is forgotten."
    )


def cache_given(value: Any) -> Any:
    """Read `true` as the default cache."""
    return CacheConfig() if value is True else value


class ModelConfig(Written):
    """The model to call, and how to call it. Any further field is sent to the provider as it is."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    name: str = Field(description=f"provider/model, as in {EXAMPLE_MODEL}.")
    endpoint: str | None = Field(default=None, description="Base URL, in place of the provider's own.")
    api_key: SecretStr | None = Field(
        default=None,
        exclude=True,
        repr=False,
        description="The key itself. Never stored: prefer api_key_env.",
    )
    api_key_env: str | None = Field(default=None, description="The environment variable that holds the key.")
    api_key_secret: str | None = Field(
        default=None, description="The secret that holds the key, for runs in the cloud."
    )
    api_version: str | None = Field(default=None, description="Azure's API version.")
    max_concurrent_tasks: int = Field(default=10, ge=1, le=10_000, description="Calls in flight at most.")
    requests_per_minute: int | None = Field(
        default=None,
        ge=1,
        le=10_000_000,
        description="Calls a minute at most, by all runs and workers of the lab with this model and key.",
    )
    tokens_per_minute: int | None = Field(
        default=None,
        ge=1,
        le=10_000_000_000,
        description="Tokens a minute at most, read and written, counted in the same way.",
    )
    timeout_s: float = Field(
        default=120, gt=0, allow_inf_nan=False, description="Seconds to wait for one answer."
    )
    max_retries: Retries | dict[RetriedKind, Retries] = Field(
        default=5,
        description="Further tries after a server error, a timeout or a broken connection; or those of "
        "single types of errors, as in {timeout: 2, server_error: 5}, and 5 for each that is not named.",
    )
    outage_s: float | None = Field(
        default=None,
        ge=0,
        le=86_400,
        allow_inf_nan=False,
        description="Seconds for which a run waits while nothing answers at all; 600 by default, 0 for none.",
    )
    cache: CacheConfig | Literal[False] | None = Field(
        default=None,
        description="Whether equal requests are answered from the store: true, false, or {expires_days: 7}. "
        "By default as the run has it.",
    )
    temperature: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="Sampling temperature."
    )
    max_tokens: int | None = Field(default=None, ge=1, description="Tokens to write at most.")
    seed: int | None = Field(default=None, description="Sampling seed, where the provider has one.")
    response_format: Mapping[str, Any] | None = Field(
        default=None, description="Structured output, as the provider takes it."
    )
    api: Literal["chat", "responses"] | None = Field(
        default=None,
        description="Which of OpenAI's protocols is spoken: chat completions, or the Responses API.",
    )
    stream: bool | None = Field(
        default=None,
        description="Whether answers are asked for as streams of events, and gathered: for servers that give "
        "no others. By default where a server says that it wants that.",
    )
    reasoning_tags: Annotated[str, Field(pattern=r"^[A-Za-z][\w-]*$", max_length=51)] | None = Field(
        default=None,
        description="The tag in which the model writes thoughts into its answer, to be kept apart from it: "
        "true for think, as in <think>…</think>, or another name.",
    )
    keep_raw: bool | None = Field(
        default=None,
        description="Keep the body of each answer as the provider sent it, in metadata.raw.",
    )
    batch: bool | None = Field(
        default=None,
        description="Ask through the provider's batch mode: half the price, within a day.",
    )
    input_usd_per_mtok: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="Dollars for a million tokens read; overrides the price table.",
    )
    output_usd_per_mtok: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="Dollars for a million tokens written; overrides the price table.",
    )

    @model_validator(mode="before")
    @classmethod
    def _check_fields(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, Mapping):
            value = {
                k: v for k, v in value.items() if k != "type"
            }  # the predecessor's "completion" or "embedding"
            further = value.keys() - cls.model_fields.keys()
            if len(further) > MOST_PARAMETERS:
                raise ValueError(
                    f"{len(further):,} parameters beyond those that PromptLab knows: at most "
                    f"{MOST_PARAMETERS}"
                )
            if _is_object(value.get("model")):
                name = type(value["model"]).__name__
                raise ValueError(
                    "a configuration holds no model itself: give the experiment the object alone, as in "
                    f'"model": {name}(…) or "embedding_model": {name}(…), of a subclass of promptlab.Model'
                )
            for key in further:
                near = difflib.get_close_matches(str(key)[:100], cls.model_fields, n=1, cutoff=0.85)
                if near:
                    raise ValueError(f"unknown model parameter {key!r}: did you mean {near[0]!r}?")
        return value

    @field_validator("cache", mode="before")
    @classmethod
    def _cache_is_one(cls, value: Any) -> Any:
        return cache_given(value)

    @field_validator("reasoning_tags", mode="before")
    @classmethod
    def _tags_are_named(cls, value: Any) -> Any:
        return "think" if value is True else None if value is False else value

    @field_validator("name")
    @classmethod
    def _name_has_provider(cls, value: str) -> str:
        provider, slash, model = value.partition("/")
        if not (provider and slash and model):
            raise ValueError(f"{value!r} is not provider/model, as in {EXAMPLE_MODEL!r} or 'ollama/llama3.2'")
        return value

    @property
    def provider(self) -> str:
        return self.name.partition("/")[0]

    @property
    def model_id(self) -> str:
        """The name that the provider knows."""
        return self.name.partition("/")[2]

    @property
    def extra_params(self) -> dict[str, Any]:
        """Fields beyond ours, sent as they are."""
        return dict(self.model_extra or {})

    def public(self) -> dict[str, Any]:
        """JSON without any key: what stores and logs may see."""
        return self.model_dump(mode="json", exclude_none=True)
