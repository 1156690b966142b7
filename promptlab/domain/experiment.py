"""What to run: the configuration a user writes, and the resolved experiment a run records."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Discriminator, Field, SecretStr, Tag, ValidationError, field_validator, model_validator

from promptlab.domain.assets import Dataset, PromptTemplate
from promptlab.errors import ConfigError

if TYPE_CHECKING:
    from promptlab.models.base import Model

RESPONSE = "$inference"
"""In a column_mapping: the model's answer. `$completion` means the same."""
SPECIAL = ("$inference", "$completion", "$latency_ms", "$cost_usd", "$prompt_tokens", "$completion_tokens")
"""Everything that a column_mapping may name besides the dataset's columns."""


class ModelConfig(BaseModel):
    """Which model to call, and how. Any further field is sent to the provider as it is."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    name: str = Field(description="provider/model, as in openai/gpt-4o-mini.")
    endpoint: str | None = Field(default=None, description="Base URL, in place of the provider's own.")
    api_key: SecretStr | None = Field(default=None, exclude=True, repr=False, description="The key itself. Never stored: prefer api_key_env.")
    api_key_env: str | None = Field(default=None, description="The environment variable that holds the key.")
    api_key_secret: str | None = Field(default=None, description="The secret that holds the key, for runs in the cloud.")
    api_version: str | None = Field(default=None, description="Azure's API version.")
    max_concurrent_tasks: int = Field(default=10, ge=1, le=10_000, description="Calls in flight at most.")
    timeout_s: float = Field(default=120, gt=0, description="Seconds to wait for one answer.")
    max_retries: int = Field(default=5, ge=0, le=100, description="Further tries after a server error, a timeout or a broken connection.")
    temperature: float | None = Field(default=None, ge=0, description="Sampling temperature.")
    max_tokens: int | None = Field(default=None, ge=1, description="Tokens to write at most.")
    seed: int | None = Field(default=None, description="Sampling seed, where the provider has one.")
    response_format: Mapping[str, Any] | None = Field(default=None, description="Structured output, as the provider takes it.")
    input_usd_per_mtok: float | None = Field(default=None, ge=0, description="Dollars for a million tokens read; overrides the price table.")
    output_usd_per_mtok: float | None = Field(default=None, ge=0, description="Dollars for a million tokens written; overrides the price table.")

    @model_validator(mode="before")
    @classmethod
    def _check_fields(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, Mapping):
            value = {k: v for k, v in value.items() if k != "type"}  # the predecessor's "completion" or "embedding"
            for key in value.keys() - cls.model_fields.keys():
                near = difflib.get_close_matches(key, cls.model_fields, n=1, cutoff=0.85)
                if near:
                    raise ValueError(f"unknown model parameter {key!r}: did you mean {near[0]!r}?")
        return value

    @field_validator("name")
    @classmethod
    def _name_has_provider(cls, value: str) -> str:
        provider, slash, model = value.partition("/")
        if not (provider and slash and model):
            raise ValueError(f"{value!r} is not provider/model, as in 'openai/gpt-4o-mini' or 'ollama/llama3.2'")
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


class EvaluationConfig(BaseModel):
    """One metric of an experiment."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    metric: str = Field(min_length=1, description="A built-in metric, or any name for a custom evaluator.")
    name: str | None = Field(default=None, min_length=1, description="What to call it in results, where a metric is used more than once.")
    column_mapping: Mapping[str, str] = Field(default_factory=dict, description="Evaluator input → dataset column, or $inference for the model's answer.")
    params: Mapping[str, Any] = Field(default_factory=dict, description="The built-in metric's parameters.")
    evaluator: Any = Field(default=None, description='A custom Evaluator object; in YAML "module:Class" or "path/to/file.py:Class".')

    @property
    def result_name(self) -> str:
        """Its name in results."""
        return self.name or self.metric


def _form(value: Any) -> str:
    """Which form of an asset was written: messages then speak of that form only."""
    return "reference" if isinstance(value, str) else "fields"


PromptChoice = Annotated[Annotated[PromptTemplate, Tag("fields")] | Annotated[str, Tag("reference")], Discriminator(_form)]
DatasetChoice = Annotated[Annotated[Dataset, Tag("fields")] | Annotated[str, Tag("reference")], Discriminator(_form)]


class ExperimentConfig(BaseModel):
    """What to run, as a user writes it: prompt template × dataset × model × evaluators × parameters.

    Assets may be objects, dicts of their fields, or references (`"qa"`, `"qa@3"`, `"qa@production"`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, protected_namespaces=(), populate_by_name=True)

    name: str = Field(default="experiment", min_length=1, max_length=200, description="The experiment's name; its runs share it.")
    prompt_template: PromptChoice | None = Field(default=None, description="The prompt: fields of a template, or a reference such as qa@3.")
    dataset: DatasetChoice = Field(description="The rows: fields of a dataset, or a reference such as questions@0.")
    model: Any = Field(
        default=None,
        validation_alias=AliasChoices("model", "inference_model", "inference_model_config", "completion_model", "completion_model_config"),
        description="The model to run: provider/model, or its configuration.",
    )
    embedding_model: Any = Field(
        default=None,
        validation_alias=AliasChoices("embedding_model", "embedding_model_config"),
        description="The embedding model that metrics such as semantic_similarity use.",
    )
    agent_proxy: Callable[..., Any] | None = Field(default=None, description="A function of the row, in place of prompt and model.")
    agent_max_concurrent_tasks: int = Field(default=10, ge=1, le=10_000, description="Calls of the agent in flight at most.")
    evaluation: tuple[EvaluationConfig, ...] = Field(default=(), description="The metrics.")
    trials: int = Field(default=1, ge=1, le=100, description="How often each row is asked.")
    tags: tuple[str, ...] = Field(default=(), description="Words to find the run by.")

    @field_validator("model", "embedding_model")
    @classmethod
    def _model_is_one(cls, value: Any) -> Model | ModelConfig | None:
        from promptlab.models.base import Model

        if value is None or isinstance(value, Model | ModelConfig):
            return value
        if isinstance(value, str | Mapping):
            return ModelConfig.model_validate(value)
        raise ValueError(f"expected a Model, a ModelConfig, a dict or 'provider/model', got {type(value).__name__}")

    @model_validator(mode="after")
    def _is_whole(self) -> ExperimentConfig:
        if self.agent_proxy is None:
            missing = [what for what, value in (("prompt_template", self.prompt_template), ("model", self.model)) if value is None]
            if missing:
                raise ValueError(f"an experiment needs {' and '.join(missing)} (or an agent_proxy in place of both)")
        elif self.prompt_template is not None or self.model is not None:
            raise ValueError("agent_proxy stands in place of prompt_template and model: give one or the other")
        names = [e.result_name for e in self.evaluation]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"metric {twice[0]!r} is there {names.count(twice[0])} times: give each its own `name`")
        return self

    @classmethod
    def parse(cls, value: ExperimentConfig | Mapping[str, Any]) -> ExperimentConfig:
        """The typed form of what a user wrote.

        Raises:
            ConfigError: a field is missing, unknown or of the wrong kind; all such fields are named.
        """
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise ConfigError(f"An experiment is a dict or an ExperimentConfig, not a {type(value).__name__}. A YAML file is run with `promptlab run FILE`.")
        try:
            return cls.model_validate(dict(value))
        except ValidationError as error:
            raise ConfigError(explain(error, "experiment", cls)) from None


_ALIASES = ("inference_model", "completion_model_config", "embedding_model_config")
_NESTED: dict[str, type[BaseModel]] = {"prompt_template": PromptTemplate, "dataset": Dataset, "evaluation": EvaluationConfig}
_PLAIN = {
    "missing": "is required",
    "tuple_type": "must be a list",
    "model_type": "must be a name, or a mapping of its fields",
    "dict_type": "must be a mapping",
}


def explain(error: ValidationError, what: str, model: type[BaseModel]) -> str:
    """A validation error in plain words: one line a field, with the nearest known name for an unknown one."""
    lines = []
    for item in error.errors(include_url=False):
        # Pydantic adds the tags of our unions to the path: forms, not fields.
        place = [p for p in item["loc"] if p not in ("fields", "reference")]
        text = _PLAIN.get(item["type"]) or item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            fields = _NESTED.get(str(place[0]), model).model_fields if len(place) > 1 else [*model.model_fields, *_ALIASES]
            near = difflib.get_close_matches(str(place[-1]), fields, n=1)
            text = f"unknown field{f', did you mean {near[0]!r}?' if near else ''}"
        elif item["type"] not in ("value_error", "missing") and not isinstance(item["input"], dict | list):
            text += f" (got {item['input']!r})"
        path = ".".join(map(str, place))
        lines.append(f"{path}: {text}" if path else text)
    lines = list(dict.fromkeys(lines))
    return f"This {what} is not valid: {lines[0]}" if len(lines) == 1 else f"This {what} is not valid:\n" + "\n".join(f"  - {line}" for line in lines)


class AssetRef(BaseModel):
    """A pinned version of an asset."""

    model_config = ConfigDict(frozen=True)

    name: str
    version: int
    hash: str


class CodeRef(BaseModel):
    """Where a user's own class or function can be found again."""

    model_config = ConfigDict(frozen=True)

    qualname: str
    """The name inside its module."""
    module: str | None = None
    """The module to import, unless it is a script."""
    file: str | None = None
    """The script's path."""
    rebuildable: bool = True
    """Whether calling the class without arguments gives the same object back."""


class Metric(BaseModel):
    """One metric of a resolved experiment."""

    model_config = ConfigDict(frozen=True)

    name: str
    metric: str
    column_mapping: dict[str, str]
    params: dict[str, Any] = {}
    code: CodeRef | None = None
    higher_is_better: bool = True
    needs_embedding: bool = False


class Experiment(BaseModel):
    """A resolved experiment: everything that a run depends on, as JSON, without keys."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    name: str
    prompt_template: AssetRef | None = None
    dataset: AssetRef
    model: ModelConfig
    """The model's configuration; for an agent its name and limits."""
    model_code: CodeRef | None = None
    """Set when the model is a user's own class."""
    embedding_model: ModelConfig | None = None
    embedding_model_code: CodeRef | None = None
    agent: CodeRef | None = None
    evaluation: tuple[Metric, ...] = ()
    trials: int = 1
    prices: dict[str, Any] = {}
    """The rows of the price table that the run uses, with its date."""
    hash: str = ""
    """SHA-256 of all of the above: equal for runs of the same experiment."""

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_none=True)
