"""An experiment's configuration as a user writes it: as a dict, as objects or from a file."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from promptlab.deprecated import PAGE, warn_old
from promptlab.domain.assets import Dataset, PromptTemplate
from promptlab.domain.choice import checked_tags
from promptlab.domain.code import STORED
from promptlab.domain.conversation import Conversation
from promptlab.domain.experiment import Missing, When
from promptlab.domain.explain import explain
from promptlab.domain.extraction import Steps
from promptlab.domain.judges import MOST_JUDGES, JudgeConfig
from promptlab.domain.model_config import CacheConfig, ModelConfig, cache_given
from promptlab.domain.names import Visible
from promptlab.domain.stopping import StopConfig
from promptlab.domain.written import Written
from promptlab.errors import ConfigError
from promptlab.evaluators.registry import score_names
from promptlab.gates.config import Gates
from promptlab.models.base import Model
from promptlab.program import program


class EvaluationConfig(Written):
    """One metric of an experiment."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    metric: Visible = Field(
        min_length=1, max_length=200, description="A built-in metric, or any name for a custom evaluator."
    )
    name: Visible | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="What to call it in results, where a metric is used more than once.",
    )
    column_mapping: Mapping[str, str] = Field(
        default_factory=dict,
        description="Evaluator input → dataset column, or $inference for the model's answer.",
    )
    params: Mapping[str, Any] = Field(
        default_factory=dict,
        description="The metric's parameters; of a class or function of your own, its arguments.",
    )
    evaluator: Any = Field(
        default=None,
        description='A custom Evaluator or a function of the inputs; in YAML "module:Class" or '
        '"path/to/file.py:Class". In a hosted lab also code that it keeps: "name@version/module:Class".',
    )

    timeout_s: float | None = Field(
        default=None,
        gt=0,
        le=3600,
        description="How long one evaluation may take, in seconds; by default 60. Longer is a failed score.",
    )
    isolated: bool | None = Field(
        default=None,
        description="Whether an evaluator of your own runs in processes of its own: on every core, and where "
        "whatever it does can be ended. By default those named in text do, and objects that compute for "
        "long.",
    )
    when: When | None = Field(
        default=None,
        description="Rows that the metric applies to, as in {column: kind, is: math}; all by default.",
    )

    scores: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = Field(
        default=(),
        max_length=50,
        description="The names of the scores that an evaluator of your own gives, as its class says by "
        "default: each is then a metric, NAME.score.",
    )

    missing: Missing | None = Field(
        default=None,
        description="How cases without a score count. fail: what is the model's doing (a refusal, no usable "
        "answer) as the worst value, the rest as bound; bound: in no mean, but in its worst-case range; "
        "exclude: nowhere. By default fail of pass/fail and of metrics with a known range, else bound.",
    )

    extract: Steps = Field(
        default=(),
        description="What of the answer is judged, as a step or a chain of steps: last_number, boxed, "
        "choice, code_block, {after: 'Answer:'}, {json: $.path}, {regex: '…'}, {strip: reasoning}. By "
        "default all of it.",
    )
    extract_reference: Steps = Field(
        default=(), description="What of the reference counts, in the same steps. By default all of it."
    )

    headline: bool = Field(
        default=False,
        description="The metric that runs are judged by first, in comparisons too; the first metric by "
        "default.",
    )

    judge: Any = Field(
        default=None,
        description="The model that judges, of metrics that ask one: provider/model or its configuration. A "
        "list is a jury.",
    )

    @field_validator("judge")
    @classmethod
    def _judges_are_models(cls, value: Any) -> tuple[JudgeConfig | Model, ...] | None:
        return None if value is None else judges_given(value)

    @field_serializer("judge")
    def _judges_as_written(self, value: Any) -> list[dict[str, Any]] | None:
        if value is None:
            return None
        return [(one.config if isinstance(one, Model) else one).public() for one in value]

    @property
    def result_name(self) -> str:
        """Its name in results."""
        return self.name or self.metric

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Its metrics in results, as far as the configuration tells: an evaluator's class may have more.

        Raises:
            ConfigError: the scores of a built-in metric depend on a parameter, and it is wrong.
        """
        own = self.evaluator is not None
        scores = self.scores or (() if own else score_names(self.metric, self.params))
        return tuple(f"{self.result_name}.{score}" for score in scores) or (self.result_name,)


COMMIT, COMMIT_CHARS = r"^[A-Za-z0-9][A-Za-z0-9._/+-]*$", 100
Commit = Annotated[str, Field(min_length=1, max_length=COMMIT_CHARS, pattern=COMMIT)]
"""A commit's hash, or another name of it."""


def judges_given(value: Any) -> tuple[JudgeConfig | Model, ...]:
    """Read the judges of a metric: one, or a list.

    Raises:
        ValueError: one is none.
    """
    given = value if isinstance(value, list | tuple) else [value]
    if not 1 <= len(given) <= MOST_JUDGES:
        raise ValueError(f"judge: 1 to {MOST_JUDGES} models, not {len(given)}")
    for one in given:
        if not isinstance(one, Model | ModelConfig | str | Mapping):
            raise ValueError(
                "judge: expected 'provider/model', a dict, a ModelConfig or a Model, got "
                f"{type(one).__name__}"
            )
    return tuple(
        one
        if isinstance(one, Model | JudgeConfig)
        else JudgeConfig.of(one)
        if isinstance(one, ModelConfig)
        else JudgeConfig.model_validate(one)
        for one in given
    )


CODE = rf"^((.+\.py|[A-Za-z_][\w.]*):[A-Za-z_][\w.]*|{STORED})$"
"""How code is named: `path/to/file.py:name` or `module:name`; and what a hosted lab keeps, as
`name@version/module:name`."""


class CodeConfig(Written):
    """A class or function of the user's own, by name, with the values that it is given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str = Field(pattern=CODE, description='"module:name" or "path/to/file.py:name".')
    params: Mapping[str, Any] = Field(
        default_factory=dict,
        description="A class's constructor arguments; a function's further keyword arguments.",
    )
    config: Mapping[str, Any] | None = Field(
        default=None,
        description="A model's configuration, where its object was sent to a hosted lab with one.",
    )


class CodeOptions(Written):
    """What code of one's own needs where a hosted lab runs it; a local store does not look at it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requirements: tuple[Annotated[str, Field(max_length=300)], ...] = Field(
        default=(),
        max_length=100,
        description="Packages that the hosted lab does not have itself, each as name==version.",
    )
    files: tuple[Annotated[str, Field(min_length=1, max_length=1000)], ...] = Field(
        default=(),
        max_length=100,
        description="Files of text that the code reads from beside its modules, as in scoring/words.txt.",
    )


def _as_code(value: Any) -> CodeConfig | None:
    """The code that a text or a mapping names; None for what names a model or is an object."""
    if isinstance(value, CodeConfig):
        return value
    if isinstance(value, str) and re.match(CODE, value):
        return CodeConfig(code=value)
    return CodeConfig.model_validate(value) if isinstance(value, Mapping) and "code" in value else None


def _model_within(value: Any, field: str) -> Any:
    """Take the object out of promptlab 0.1's `{"name": …, "type": …, "model": object}`; the rest as it is."""
    if not isinstance(value, Mapping) or "model" not in value:
        return value
    further = sorted(map(str, value.keys() - {"name", "type", "model"}))
    if value["model"] is None:
        return {key: item for key, item in value.items() if key != "model"}
    if not isinstance(value["model"], Model):
        return value
    name = type(value["model"]).__name__
    if further:
        raise ValueError(
            f"{', '.join(further)} beside an object would change nothing: give the object these when it "
            "is made, as in "
            f'super().__init__({{"name": "custom/mine", "{further[0]}": …}}), and write "{field}": {name}(…)'
        )
    old = "completion_model_config" if field == "model" else "embedding_model_config"
    warn_old(f'"{old}": {{"name": …, "model": {name}(…)}}', f'"{field}": {name}(…)')
    return value["model"]


def _reference_within(value: Any, field: str) -> Any:
    """Read `{"id": …, "version": …}` as the reference `id@version`; the rest as it is."""
    if not isinstance(value, Mapping) or value.keys() not in ({"id", "version"}, {"name", "version"}, {"id"}):
        return value
    name, version = value.get("id", value.get("name")), value.get("version")
    if not isinstance(name, str) or not isinstance(version, int | None):
        return value
    at = "" if version is None else f"@{version}"
    written = "{" + ", ".join(f'"{key}": …' for key in value) + "}"
    try:
        uuid.UUID(name)
    except ValueError:
        warn_old(f'"{field}": {written}', f'"{field}": "{name}{at}"')
        return f"{name}{at}"
    raise ValueError(
        f'assets have names and no ids: write "{field}": "NAME{at}", or the asset itself, as in '
        f'"{field}": pl.asset.get("NAME"{f", {version}" if version is not None else ""}) ({PAGE})'
    )


def _form(value: Any) -> str:
    """Tell which form of an asset was written: messages then speak of that form only."""
    return "reference" if isinstance(value, str) else "fields"


PromptChoice = Annotated[
    Annotated[PromptTemplate, Tag("fields")] | Annotated[str, Tag("reference")], Discriminator(_form)
]

DatasetChoice = Annotated[
    Annotated[Dataset, Tag("fields")] | Annotated[str, Tag("reference")], Discriminator(_form)
]


MOST_DEADLINE_S = 14 * 86_400.0
"""Seconds of a deadline at most: what an execution in the cloud may take."""
MOST_TEXT = 100_000
"""Characters of the texts among an experiment's parameters: a pattern of 10,000 is compiled in 0.1 s, and a
hundred of them took one request 8 s."""
MOST_PARAMETERS = 1_000_000
"""Characters of all parameters, schemas with them: fifty of 20,000 parts took a request 4 s."""


def _size(value: Any, most: int) -> int:
    """Count the characters of a value, as JSON would have them, or a little more than `most`."""
    found, left = 0, [value]
    while left and found <= most:
        one = left.pop()
        if isinstance(one, str):
            found += len(one) + 2
        elif isinstance(one, Mapping):
            left += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple):
            left += one
        found += 1
    return found


class ExperimentConfig(Written):
    """An experiment, as a user writes it: prompt template × dataset × model × evaluators × parameters.

    Assets may be objects, dicts of their fields, or references (`"qa"`, `"qa@3"`, `"qa@production"`).
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        protected_namespaces=(),
        populate_by_name=True,
    )

    name: Visible = Field(
        default="experiment",
        min_length=1,
        max_length=200,
        description="The experiment's name; its runs share it.",
    )
    prompt_template: PromptChoice | None = Field(
        default=None, description="The prompt: fields of a template, or a reference such as qa@3."
    )
    dataset: DatasetChoice = Field(
        description="The rows: fields of a dataset, or a reference such as questions@0."
    )
    model: Any = Field(
        default=None,
        validation_alias=AliasChoices(
            "model",
            "inference_model",
            "inference_model_config",
            "completion_model",
            "completion_model_config",
        ),
        description="The model to run: provider/model, or its configuration.",
    )
    embedding_model: Any = Field(
        default=None,
        validation_alias=AliasChoices("embedding_model", "embedding_model_config"),
        description="The embedding model that metrics such as semantic_similarity use.",
    )
    agent_proxy: Any = Field(
        default=None,
        description="A function of the row, in place of prompt and model; in YAML its name, or its `code` "
        "and `params`.",
    )
    agent_max_concurrent_tasks: int = Field(
        default=10, ge=1, le=10_000, description="Calls of the agent in flight at most."
    )
    conversation: Conversation | None = Field(
        default=None,
        description="Makes each case a dialogue of several turns with the model or agent, whose user's part "
        "is in the dataset or is played by a model.",
    )
    evaluation: tuple[EvaluationConfig, ...] = Field(default=(), description="The metrics.")
    trials: int = Field(default=1, ge=1, le=100, description="How often each row is asked.")
    max_failures: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="Stop the run once more cases than this have failed: a count, or below 1 a share of all.",
    )
    case_deadline_s: float | None = Field(
        default=None,
        gt=0,
        le=MOST_DEADLINE_S,
        description="How long a case may take over all of its attempts and the waits between them, in "
        "seconds. Then it has failed, with the error type deadline.",
    )
    run_deadline_s: float | None = Field(
        default=None,
        gt=0,
        le=MOST_DEADLINE_S,
        description="How long each pass of the run may take, in seconds. Then it is interrupted, and can be "
        "resumed.",
    )
    tags: tuple[str, ...] = Field(default=(), description="Words to find the run by.")
    cluster_by: str | None = Field(
        default=None,
        min_length=1,
        max_length=1_000,
        description="The dataset column whose values tell which rows belong together (a conversation, a "
        "document): intervals and verdicts then know of it.",
    )
    slices: tuple[Annotated[str, Field(min_length=1, max_length=1_000)], ...] = Field(
        default=(),
        max_length=20,
        description="Dataset columns to look at the metrics by.",
    )
    cache: CacheConfig | Literal[False] | None = Field(
        default=None,
        description="Whether equal requests are answered from the store, also of earlier runs: true, or "
        "{expires_days: 7}.",
    )
    max_cost_usd: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Dollars that the run's calls may cost, its metrics' with them. A call that could go "
        "beyond is not made: the run ends as budget_reached.",
    )
    stop: StopConfig | None = Field(
        default=None,
        description="End the run as soon as it is known how it compares with another one, as in "
        "{against: production, metric: correct, margin: 0.02}.",
    )
    gates: Gates | None = Field(
        default=None,
        description="What a run must keep to: a list of checks, or {baseline, quarantine, checks}. "
        "`promptlab gate` judges them (docs/gates.md).",
    )
    commit: Commit | None = Field(
        default=None, description="The commit of your code that the run is made at, to find it by."
    )
    code: CodeOptions | None = Field(
        default=None, description="What code of one's own needs where a hosted lab runs it."
    )
    strict: bool = Field(
        default=False,
        description="Refuse the experiment where it would only be warned of: the expected answer in the "
        "prompt, "
        "a placeholder in another syntax, a prompt without any.",
    )

    @field_validator("prompt_template", "dataset", mode="before")
    @classmethod
    def _asset_is_one(cls, value: Any, info: ValidationInfo) -> Any:
        return _reference_within(value, str(info.field_name))

    @field_validator("model", "embedding_model")
    @classmethod
    def _model_is_one(cls, value: Any, info: ValidationInfo) -> Model | ModelConfig | CodeConfig | None:
        value = _model_within(value, str(info.field_name))
        if code := _as_code(value):
            return code
        if value is None or isinstance(value, Model | ModelConfig):
            return value
        if isinstance(value, str | Mapping):
            return ModelConfig.model_validate(value)
        raise ValueError(
            f"expected a Model, a ModelConfig, a dict or 'provider/model', got {type(value).__name__}"
        )

    @field_validator("max_failures")
    @classmethod
    def _failures_are_a_count_or_a_share(cls, value: float | None) -> float | None:
        if value is not None and value >= 1 and not value.is_integer():
            raise ValueError(f"{value:g} is neither a count (10) nor a share of all cases (0.1)")
        return value

    @field_validator("cache", mode="before")
    @classmethod
    def _cache_is_one(cls, value: Any) -> Any:
        return cache_given(value)

    @field_validator("tags")
    @classmethod
    def _tags_are_usable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return checked_tags(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None

    @field_validator("evaluation")
    @classmethod
    def _parameters_are_short(cls, value: tuple[EvaluationConfig, ...]) -> tuple[EvaluationConfig, ...]:
        texts = sum(len(text) for e in value for text in e.params.values() if isinstance(text, str))
        if texts > MOST_TEXT:
            raise ValueError(
                f"the parameters of the metrics have {texts:,} characters of text (patterns, say); together "
                f"they may have {MOST_TEXT:,}"
            )
        size = sum(_size(e.params, MOST_PARAMETERS + 1) for e in value)
        if size > MOST_PARAMETERS:
            raise ValueError(
                f"the parameters of the metrics have more than {MOST_PARAMETERS:,} characters (schemas), "
                "which is the most together"
            )
        return value

    @model_validator(mode="after")
    def _gates_are_of_its_metrics(self) -> ExperimentConfig:
        if self.gates is not None:
            try:
                self.gates.check_names(*self.gated_names)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        return self

    @property
    def gated_names(self) -> tuple[list[str], list[str]]:
        """The metrics that conditions and gates may be about: their names, and those of evaluators of one's
        own, whose classes may give several scores."""
        names = [name for metric in self.evaluation for name in metric.metric_names]
        return names, [metric.result_name for metric in self.evaluation if metric.evaluator is not None]

    @field_validator("agent_proxy")
    @classmethod
    def _agent_is_one(cls, value: Any) -> Any:
        if value is None or callable(value):
            return value
        if code := _as_code(value):
            return code
        raise ValueError(
            'expected a function of the row; in YAML "path/to/file.py:function" or a mapping of code and '
            "params"
        )

    @model_validator(mode="after")
    def _is_whole(self) -> ExperimentConfig:
        if self.agent_proxy is None:
            missing = [
                what
                for what, value in (("prompt_template", self.prompt_template), ("model", self.model))
                if value is None
            ]
            if missing:
                raise ValueError(
                    f"an experiment needs {' and '.join(missing)} (or an agent_proxy in place of both)"
                )
        elif self.prompt_template is not None or self.model is not None:
            raise ValueError(
                "agent_proxy stands in place of prompt_template and model: give one or the other"
            )
        names = [e.result_name for e in self.evaluation]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(
                f"metric {twice[0]!r} is there {names.count(twice[0])} times: give each its own `name`"
            )
        heads = [m.result_name for m in self.evaluation if m.headline]
        if len(heads) > 1:
            raise ValueError(f"{' and '.join(heads)} are all `headline: true`: leave it to one of them")
        return self

    def requiring(self, requirements: Sequence[str]) -> ExperimentConfig:
        """The experiment with further packages for its code."""
        if not requirements:
            return self
        code = self.code or CodeOptions()
        wanted = tuple(dict.fromkeys((*code.requirements, *requirements)))
        return self.model_copy(update={"code": code.model_copy(update={"requirements": wanted})})

    @property
    def cache_days(self) -> float | None:
        """For how many days answers are kept; None: they are not."""
        return self.cache.expires_days if isinstance(self.cache, CacheConfig) else None

    def within(self, max_cost_usd: float | None) -> ExperimentConfig:
        """The experiment with another budget; None: with the one that it has.

        Raises:
            ConfigError: it is no sum.
        """
        if max_cost_usd is None:
            return self
        if not 0 < max_cost_usd < float("inf"):
            raise ConfigError(f"max_cost_usd is a number of dollars above 0, not {max_cost_usd}.")
        return self.model_copy(update={"max_cost_usd": max_cost_usd})

    def at_commit(self, commit: str | None) -> ExperimentConfig:
        """The experiment with another commit; None: with the one that it has.

        Raises:
            ConfigError: it is no commit.
        """
        if commit is None:
            return self
        if len(commit) > COMMIT_CHARS or re.fullmatch(COMMIT, commit) is None:
            raise ConfigError(
                f"commit {commit[:COMMIT_CHARS]!r} is none: 1 to {COMMIT_CHARS} letters, digits and . _ / + -"
            )
        return self.model_copy(update={"commit": commit})

    @classmethod
    def parse(cls, value: ExperimentConfig | Mapping[str, Any]) -> ExperimentConfig:
        """The typed form of what a user wrote.

        Raises:
            ConfigError: a field is missing, unknown or of the wrong kind; all such fields are named.
        """
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise ConfigError(
                f"An experiment is a dict or an ExperimentConfig, not a {type(value).__name__}. A YAML "
                f"file is run with `{program()} run FILE`."
            )
        if "matrix" in value or any(isinstance(value.get(one), list | tuple) for one in _SEVERAL):
            raise no_sweep()
        try:
            return cls.model_validate(dict(value))
        except ValidationError as error:
            raise ConfigError(explain_experiment(error)) from None


def no_sweep() -> ConfigError:
    """Make the error for an experiment with a matrix where one experiment is wanted."""
    return ConfigError(
        "a matrix, or several models or prompts, make a sweep, and one experiment is wanted here: "
        f"`{program()} run FILE`, pl.experiment.sweep(…) and POST /api/v1/sweeps run it"
    )


_SEVERAL = ("model", "prompt_template")


_ALIASES = ("inference_model", "completion_model_config", "embedding_model_config")


_NESTED: dict[str, type[BaseModel]] = {
    "prompt_template": PromptTemplate,
    "dataset": Dataset,
    "conversation": Conversation,
    "evaluation": EvaluationConfig,
}


def explain_experiment(error: ValidationError) -> str:
    """Say in plain words what is wrong with an experiment's configuration."""
    return explain(error, "experiment", ExperimentConfig, aliases=_ALIASES, nested=_NESTED)
