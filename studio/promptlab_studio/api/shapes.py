"""The bodies that the API takes. Unknown fields are refused, and so is whatever a request must not bring:
code, files of the server, keys."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from promptlab.domain.assets import ChatMessage, Dataset, PromptTemplate
from promptlab.domain.choice import DESCRIPTION_CHARS, TITLE_CHARS
from promptlab.domain.code import MAX_FILES, MAX_WHEEL_BYTES, MAX_WHEELS, PYTHON, STORED, Wheel
from promptlab.domain.conversation import Conversation
from promptlab.domain.experiment import When
from promptlab.domain.extraction import Steps
from promptlab.domain.judges import MOST_JUDGES, JudgeConfig
from promptlab.domain.messages import Modality
from promptlab.domain.model_config import EXAMPLE_MODEL, CacheConfig, ModelConfig
from promptlab.domain.prompt_parts import MOST_TOOLS, ToolSpec
from promptlab.domain.stopping import StopConfig
from promptlab.domain.written import Written, scalars_of
from promptlab.experiments.config import MOST_DEADLINE_S, CodeConfig, Commit, ExperimentConfig
from promptlab.gates import Gates
from promptlab.queries.sql import MOST_SQL_CHARS
from promptlab.results.formats import ExportFormat
from promptlab_studio.problems import AS_FIELDS, AS_MODEL, BY_CODE, BY_REFERENCE
from promptlab_studio.security import MAX_UPLOAD_BYTES

UPLOAD_KEY = r"^uploads/[0-9a-f]{32}/[A-Za-z0-9._-]{1,120}$"


Model = TypeVar("Model", bound=BaseModel)


MOST_FIELDS, MOST_MESSAGES, MOST_MAPPED, MOST_METRICS, MOST_TAGS = 50_000, 1_000, 1_000, 100, 50


Whole = Annotated[int, Field(strict=True)]
"""A number as the document has it: a text of digits is none."""
Number = Annotated[float, Field(strict=True)]
"""Likewise; `false` is no 0."""
Flag = Annotated[bool, Field(strict=True)]
OneTag = Annotated[str, Field(min_length=1, max_length=100)]


def _few(most: int) -> BeforeValidator:
    """Count the parts of a value before they are looked at: each that is wrong would be an error of its own,
    and 400,000 of them took 5 s."""

    def counted(value: Any) -> Any:
        if isinstance(value, list | dict) and len(value) > most:
            raise ValueError(f"there are {len(value):,}, and may be {most:,}")
        return value

    return BeforeValidator(counted)


class Body(Written):
    """The base of all bodies."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _has_few_fields(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > MOST_FIELDS:
            raise ValueError(f"this object has {len(value):,} fields")
        return value

    @field_validator("*", mode="before", check_fields=False)
    @classmethod
    def _is_as_documented(cls, value: Any, info: ValidationInfo) -> Any:
        kinds = scalars_of(cls, info.field_name) if info.field_name is not None else frozenset()
        if isinstance(value, str) and kinds and str not in kinds:
            raise ValueError(f"a text is no {'flag' if kinds == {bool} else 'number'}")
        if isinstance(value, int | float) and kinds == {bool} and not isinstance(value, bool):
            raise ValueError("a number is no flag: true or false")
        return value


class PromptIn(Body):
    """A prompt template's fields: system_prompt and user_prompt, or messages."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"name": "qa", "system_prompt": "Be terse.", "user_prompt": "Answer: <question>"}]
        }
    )

    name: str = Field(description="The asset's name; versions share it.", min_length=1, max_length=200)
    description: str = Field(default="", description="What it is for.", max_length=10_000)
    system_prompt: str = Field(
        default="", description="The system message, with placeholders such as <question>."
    )
    user_prompt: str = Field(default="", description="The user message, with placeholders.")
    messages: (
        Annotated[tuple[ChatMessage, ...], _few(MOST_MESSAGES), Field(max_length=MOST_MESSAGES)]
        | Annotated[str, Field(pattern=r"^\$.+", max_length=1_000)]
    ) = Field(
        default=(),
        description="A list of chat messages, in place of system_prompt and user_prompt; or `$column`, the "
        "column of the dataset that holds a whole transcript.",
    )
    tools: tuple[ToolSpec, ...] = Field(
        default=(), max_length=MOST_TOOLS, description="The functions that the model may call."
    )
    tool_choice: str | None = Field(
        default=None, max_length=64, description="auto, none, required, or the name of a tool."
    )
    template_format: str = Field(
        default="simple",
        pattern="^(simple|jinja2)$",
        description="How placeholders are written: `<name>` or `{{ name }}`.",
    )

    def asset(self) -> PromptTemplate:
        """The template.

        Raises:
            RequestValidationError: it breaks a rule of templates.
        """
        return _checked(PromptTemplate, self.model_dump(), "prompt_template")


class RowsIn(Body):
    """A dataset's rows, written out."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"name": "questions", "rows": [{"question": "What is 2 + 2?", "answer": "4"}]}]
        }
    )

    name: str = Field(description="The asset's name; versions share it.", min_length=1, max_length=200)
    description: str = Field(default="", description="What it is for.", max_length=10_000)
    rows: list[dict[str, Any]] = Field(fail_fast=True, description="The rows, one object each.")
    media: dict[str, Modality] = Field(
        default_factory=dict,
        max_length=100,
        description="The columns that hold media, and of which kind: image, audio, video or document. A "
        "value "
        "is a data: or an https address, or a list of these.",
    )
    id_column: str | None = Field(
        default=None,
        description="The column that names a row. Default: `id` if there is one, else row numbers from 0.",
    )

    def asset(self) -> Dataset:
        """The dataset.

        Raises:
            RequestValidationError: it breaks a rule of datasets.
        """
        return _checked(Dataset, self.model_dump(), "dataset").without_files()


class DatasetIn(Body):
    """A dataset version to create: from rows, or from a file that was uploaded."""

    model_config = ConfigDict(json_schema_extra=RowsIn.model_config["json_schema_extra"])

    name: str = Field(description="The asset's name; versions share it.", min_length=1, max_length=200)
    description: str = Field(default="", description="What it is for.", max_length=10_000)
    rows: Annotated[list[dict[str, Any]], Field(fail_fast=True)] | None = Field(
        default=None, description="The rows, one object each."
    )
    upload: str | None = Field(
        default=None,
        pattern=UPLOAD_KEY,
        description="The key that POST /datasets/uploads gave, once the file is there.",
    )
    media: dict[str, Modality] = Field(
        default_factory=dict,
        max_length=100,
        description="The columns that hold media, and of which kind: image, audio, video or document. A "
        "value "
        "is a data: or an https address, of an uploaded zip the path of a file in it, or a list of these.",
    )
    id_column: str | None = Field(
        default=None,
        description="The column that names a row. Default: `id` if there is one, else row numbers from 0.",
    )

    delimiter: str | None = Field(
        default=None,
        min_length=1,
        max_length=1,
        description="What stands between the fields of an uploaded CSV file. Default: as the file says or "
        "looks.",
    )

    @model_validator(mode="after")
    def _has_one_source(self) -> DatasetIn:
        if (self.rows is None) == (self.upload is None):
            raise ValueError("give either rows or upload")
        if self.delimiter is not None and self.upload is None:
            raise ValueError("a delimiter is for an uploaded CSV file")
        return self


class IngestIn(Body):
    """A dataset version to create from a file that was uploaded, however large."""

    name: str = Field(description="The asset's name; versions share it.", min_length=1, max_length=200)
    description: str = Field(default="", description="What it is for.", max_length=10_000)
    upload: str = Field(
        pattern=UPLOAD_KEY,
        description="The key that POST /datasets/uploads gave, once the file is there.",
        examples=["uploads/" + "0" * 32 + "/questions.jsonl"],
    )
    media: dict[str, Modality] = Field(
        default_factory=dict,
        max_length=100,
        description="The columns that hold media, and of which kind: image, audio, video or document. A "
        "value "
        "is a data: or an https address, of an uploaded zip the path of a file in it, or a list of these.",
    )
    id_column: str | None = Field(
        default=None,
        description="The column that names a row. Default: `id` if there is one, else row numbers from 0.",
    )
    delimiter: str | None = Field(
        default=None,
        min_length=1,
        max_length=1,
        description="What stands between the fields of a CSV file. Default: as the file says or looks.",
    )


class ExportIn(Body):
    """A file of a run's results."""

    format: ExportFormat = Field(default="csv", description="The file's format.")
    delimiter: str = Field(
        default=",",
        min_length=1,
        max_length=1,
        description="What stands between the values of a CSV file.",
    )
    bom: Flag = Field(
        default=False, description="Whether a CSV file begins with a byte order mark, as Excel likes it."
    )


class UploadIn(Body):
    """A file that is about to be uploaded."""

    file_name: str = Field(
        description="Its name; the suffix says what it is.",
        pattern=r"(?i)^[^/\\]{1,200}\.((jsonl|ndjson|json|csv|tsv)(\.gz)?|parquet|xlsx|zip)$",
        examples=["questions.jsonl"],
    )
    size_bytes: Whole = Field(
        ge=0,
        le=MAX_UPLOAD_BYTES,
        description="Its length; in the cloud upload_url takes a body of this length only.",
        examples=[52_480],
    )


class CodeIn(Body):
    """A version of code to create: source text, and what it needs."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "scoring",
                    "files": {
                        "scoring.py": "def length(data):\n    return len(data['response'])\n",
                    },
                }
            ]
        }
    )

    name: str = Field(description="The asset's name; versions share it.", min_length=1, max_length=200)
    description: str = Field(default="", description="What it is for.", max_length=10_000)
    files: Annotated[dict[str, str], _few(MAX_FILES)] = Field(
        default_factory=dict, description="Text by path, importable from its root: scoring/rules.py."
    )
    pickled: str | None = Field(
        default=None,
        description="An object as base64 of a pickle, which only the sandbox reads; see docs/sdk.md.",
    )
    requirements: Annotated[tuple[str, ...], _few(MAX_WHEELS)] = Field(
        default=(), description="Packages beyond those of GET /sandbox, as name==version."
    )
    wheels: Annotated[tuple[Wheel, ...], _few(MAX_WHEELS)] = Field(
        default=(), description="Their files, which POST /code/wheels has taken."
    )
    python: str = Field(
        default=PYTHON, pattern=r"^3\.[0-9]{1,2}$", description="The Python of the object and the wheels."
    )
    upload: str | None = Field(
        default=None,
        pattern=UPLOAD_KEY,
        description="The key that POST /code/uploads gave: a JSON file of `files` and `pickled`.",
    )


class CodeUploadIn(Body):
    """A wheel, or a JSON file of code, that is about to be uploaded."""

    file_name: str = Field(pattern=r"^[^/\\]{1,200}\.(whl|json)$", description="Its name.")
    size_bytes: Whole = Field(
        ge=1, le=MAX_WHEEL_BYTES, description="Its length; in the cloud upload_url takes this length only."
    )


class WheelIn(Body):
    """A wheel to keep."""

    file_name: str = Field(max_length=250, description="The wheel's file name.")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="The SHA-256 (hex) of the file.")
    size_bytes: Whole = Field(ge=1, le=MAX_WHEEL_BYTES, description="The length of the file.")

    upload: str | None = Field(
        default=None, pattern=UPLOAD_KEY, description="The key that POST /code/uploads gave."
    )


class KeptCode(Body):
    """Code that the lab keeps, in place of a model or of prompt and model."""

    code: str = Field(
        pattern=f"^{STORED}$", description="name@version/module:name, or name@version for an object."
    )
    params: dict[str, Any] = Field(default_factory=dict, description="Arguments of the class or function.")
    config: dict[str, Any] | None = Field(
        default=None, description="A model's configuration, where it differs from what its class says."
    )

    @model_validator(mode="before")
    @classmethod
    def _is_no_text(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError(
                "a function of one's own is code that the lab keeps (POST /api/v1/code): "
                '{"code": "agents@0/agent:answer"}'
            )
        return value

    @field_validator("config")
    @classmethod
    def _brings_no_key(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None:
            _without_key(ModelConfig.model_validate(value))
        return value


Given = TypeVar("Given", bound=ModelConfig)


def _without_key(model: Given) -> Given:
    if model.api_key is not None:
        raise ValueError(
            "a key must not be sent: name it with api_key_secret (`promptlab cloud secrets set NAME`), "
            "or with api_key_env on one's own machine"
        )
    return model


JudgeIn = Annotated[JudgeConfig, AfterValidator(_without_key)]


class EvaluationIn(Body):
    """One metric: a built-in one, or code that the lab keeps."""

    metric: str = Field(
        min_length=1, description="A metric that GET /metrics lists; with `evaluator` any name."
    )
    evaluator: str | None = Field(
        default=None,
        description="Code that the lab keeps: name@version/module:name, or name@version for an object.",
    )
    name: str | None = Field(
        default=None,
        min_length=1,
        description="What to call it in results, where a metric is used more than once.",
    )
    column_mapping: Annotated[dict[str, str], _few(MOST_MAPPED)] = Field(
        default_factory=dict,
        description="Evaluator input → dataset column, or $inference for the model's answer.",
    )
    params: dict[str, Any] = Field(default_factory=dict, description="The metric's parameters.")
    when: When | None = Field(
        default=None,
        description="Rows that the metric applies to, as in {column: kind, is: math}; all by default.",
    )
    timeout_s: float | None = Field(
        default=None,
        gt=0,
        le=3600,
        description="How long one evaluation may take, in seconds; by default 60. Longer is a failed score.",
    )
    scores: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = Field(
        default=(),
        max_length=50,
        description="The names of the scores that a metric of an installed package, or code, gives, as its "
        "class says by default: each is then a metric, NAME.score.",
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

    headline: Flag = Field(
        default=False,
        description="The metric that runs are judged by first; the first metric by default.",
    )

    judge: JudgeIn | Annotated[tuple[JudgeIn, ...], _few(MOST_JUDGES)] | None = Field(
        default=None,
        description="The model that judges, of metrics that ask one (`needs_judge` in GET /metrics); a list "
        "is a jury.",
    )

    @model_validator(mode="before")
    @classmethod
    def _brings_no_code(cls, value: Any) -> Any:
        given = value.get("evaluator") if isinstance(value, dict) else None
        if given is not None and not (isinstance(given, str) and re.fullmatch(STORED, given[:1000])):
            raise ValueError(
                "an evaluator is code that the lab keeps (POST /api/v1/code), named as in "
                "scoring@3/rules:Length; or leave it out and use a built-in metric (GET /api/v1/metrics)"
            )
        return value


def _how(value: Any) -> str:
    return BY_REFERENCE if isinstance(value, str) else AS_FIELDS


Reference = Annotated[str, Field(min_length=1, max_length=300, examples=["qa@3"])]
PromptChoice = Annotated[
    Annotated[Reference, Tag(BY_REFERENCE)] | Annotated[PromptIn, Tag(AS_FIELDS)], Discriminator(_how)
]
RowsChoice = Annotated[
    Annotated[Reference, Tag(BY_REFERENCE)] | Annotated[RowsIn, Tag(AS_FIELDS)], Discriminator(_how)
]
ModelIn = Annotated[ModelConfig, AfterValidator(_without_key)]


def _user_without_key(talk: Conversation) -> Conversation:
    if talk.simulated_user is not None:
        _without_key(talk.simulated_user.model)
    return talk


ConversationIn = Annotated[Conversation, AfterValidator(_user_without_key)]


def _model_form(value: Any) -> str:
    return (
        BY_CODE if isinstance(value, KeptCode) or (isinstance(value, dict) and "code" in value) else AS_MODEL
    )


ModelChoice = Annotated[
    Annotated[ModelIn, Tag(AS_MODEL)] | Annotated[KeptCode, Tag(BY_CODE)], Discriminator(_model_form)
]
_MODEL_NAMES = AliasChoices(
    "model", "inference_model", "inference_model_config", "completion_model", "completion_model_config"
)


class WebhookIn(Body):
    """Where the end of a run is told."""

    url: str = Field(
        min_length=1,
        max_length=2_000,
        description="An https address that takes a POST; public, where the lab is hosted.",
        examples=["https://ci.example.com/promptlab"],
    )


class RunIn(Body):
    """An experiment to run: what the YAML and the SDK's dict say, in JSON."""

    model_config = ConfigDict(
        populate_by_name=True,
        protected_namespaces=(),
        json_schema_extra={
            "examples": [
                {
                    "name": "capitals",
                    "prompt_template": {"name": "ask", "user_prompt": "<question>"},
                    "dataset": "questions@0",
                    "model": {"name": EXAMPLE_MODEL, "api_key_secret": "openai", "temperature": 0},
                    "evaluation": [
                        {
                            "metric": "exact_match",
                            "column_mapping": {"response": "$inference", "reference": "answer"},
                        }
                    ],
                    "tags": ["nightly"],
                }
            ]
        },
    )

    name: str = Field(
        default="experiment",
        min_length=1,
        max_length=200,
        description="The experiment's name; its runs share it.",
    )
    prompt_template: PromptChoice | None = Field(
        default=None,
        description="The prompt: fields of a template, or a reference such as qa@3 or qa@production.",
    )
    dataset: RowsChoice = Field(description="The rows: written out, or a reference such as questions@0.")
    model: ModelChoice | None = Field(
        default=None,
        validation_alias=_MODEL_NAMES,
        description="The model's configuration; only its name, provider/model, will do. Or code that the lab "
        "keeps.",
    )
    agent_proxy: KeptCode | None = Field(
        default=None,
        description="A function of the row that the lab keeps, in place of prompt_template and model.",
    )
    agent_max_concurrent_tasks: int = Field(
        default=10, ge=1, le=10_000, description="Calls of the agent in flight at most."
    )
    embedding_model: ModelIn | None = Field(
        default=None,
        validation_alias=AliasChoices("embedding_model", "embedding_model_config"),
        description="For metrics such as semantic_similarity.",
    )
    conversation: ConversationIn | None = Field(
        default=None,
        description="Makes each case a dialogue of several turns, whose user's part is in the dataset or is "
        "played by a model.",
    )
    evaluation: Annotated[tuple[EvaluationIn, ...], _few(MOST_METRICS)] = Field(
        default=(), max_length=MOST_METRICS, description="The metrics."
    )
    trials: Whole = Field(default=1, ge=1, le=100, description="How often each row is asked.")
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
    cache: Flag | CacheConfig | None = Field(
        default=None, description="Whether equal requests are answered from the store, also of earlier runs."
    )
    max_cost_usd: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Dollars that the run's calls may cost, its metrics' with them.",
    )
    tags: Annotated[tuple[OneTag, ...], _few(MOST_TAGS)] = Field(
        default=(), max_length=MOST_TAGS, description="Words to find the run by."
    )
    cluster_by: str | None = Field(
        default=None,
        min_length=1,
        max_length=1_000,
        description="The dataset column whose values tell which rows belong together.",
    )
    slices: tuple[Annotated[str, Field(min_length=1, max_length=1_000)], ...] = Field(
        default=(), max_length=20, description="Dataset columns to look at the metrics by."
    )
    strict: Flag = Field(
        default=False,
        description="Refuse the experiment where it would only be warned of (see `warnings` of a run).",
    )

    stop: StopConfig | None = Field(
        default=None,
        description="End the run as soon as it is known how it compares with another one.",
    )
    gates: Gates | None = Field(
        default=None,
        description="What the run must keep to: a list of checks, or {baseline, quarantine, checks}; POST "
        "/runs/{run_id}/gate judges them.",
    )
    commit: Commit | None = Field(
        default=None, description="The commit of your code that the run is made at."
    )
    webhook: WebhookIn | None = Field(
        default=None,
        description="Where the end is told, signed; the secret is in this answer, and nowhere else.",
    )

    def experiment(self) -> ExperimentConfig:
        """The typed experiment.

        Raises:
            RequestValidationError: it breaks a rule of experiments.
        """
        fields = {
            "name": self.name,
            "prompt_template": self.prompt_template.asset()
            if isinstance(self.prompt_template, PromptIn)
            else self.prompt_template,
            "dataset": self.dataset if isinstance(self.dataset, str) else self.dataset.asset(),
            "model": _code(self.model),
            "agent_proxy": _code(self.agent_proxy),
            "agent_max_concurrent_tasks": self.agent_max_concurrent_tasks,
            "embedding_model": self.embedding_model,
            "conversation": self.conversation,
            "evaluation": [item.model_dump() for item in self.evaluation],
            "trials": self.trials,
            "max_failures": self.max_failures,
            "case_deadline_s": self.case_deadline_s,
            "run_deadline_s": self.run_deadline_s,
            "tags": self.tags,
            "cluster_by": self.cluster_by,
            "slices": self.slices,
            "max_cost_usd": self.max_cost_usd,
            "commit": self.commit,
            "stop": self.stop,
            "gates": self.gates,
            "cache": self.cache,
            "strict": self.strict,
        }
        return _checked(ExperimentConfig, fields)


class RunEditIn(Body):
    """Changes to a run; what is left out stays as it is."""

    tags: Annotated[tuple[OneTag, ...] | None, _few(MOST_TAGS)] = Field(
        default=None, max_length=MOST_TAGS, description="All of its tags."
    )
    archived: Flag | None = Field(default=None, description="Whether lists leave it out.")
    title: str | None = Field(
        default=None, max_length=TITLE_CHARS, description="What it is called; empty: as its experiment."
    )
    description: str | None = Field(
        default=None, max_length=DESCRIPTION_CHARS, description="What is said of it; empty: nothing."
    )


class ResumeIn(Body):
    """The cases to do again."""

    failed: Flag = Field(default=False, description="Do the failed cases again, too.")
    errors: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field(
        default=(),
        max_length=100,
        description="Do those again that failed with one of these types of error, and no others.",
    )
    max_cost_usd: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Another budget for the run, over all of its passes; without, it keeps the one it has.",
    )


class ScoreIn(Body):
    """Metrics to score a completed run by."""

    evaluation: Annotated[tuple[EvaluationIn, ...], _few(MOST_METRICS)] = Field(
        min_length=1,
        max_length=MOST_METRICS,
        description="The metrics: one that is new is added, one of a name that is there takes its place.",
    )
    only: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field(
        default=(), max_length=MOST_METRICS, description="The names of those that are wanted; by default all."
    )
    max_cost_usd: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Another budget for the run, over all of its passes; without, it keeps the one it has.",
    )


class LabelIn(Body):
    """The version that a label is to point to."""

    version: Whole = Field(ge=0, description="The version.")


class SqlIn(Body):
    """A question about a run."""

    sql: str = Field(
        min_length=1,
        max_length=MOST_SQL_CHARS,
        description="One SELECT over the table `cases`, in DuckDB's SQL: `SELECT error_type, count(*) "
        "FROM cases GROUP BY ALL`.",
    )


class PreviewIn(Body):
    """A template and rows to fill it with."""

    prompt_template: PromptChoice = Field(description="The prompt: fields of a template, or a reference.")
    dataset: RowsChoice = Field(description="The rows: written out, or a reference.")
    limit: Whole = Field(default=3, ge=1, le=20, description="How many rows; long prompts make it fewer.")
    whole: Flag = Field(
        default=False,
        description="Cut no texts: a long answer then is a redirect to a file, in the cloud.",
    )
    evaluation: Annotated[tuple[EvaluationIn, ...], _few(MOST_METRICS)] = Field(
        default=(),
        max_length=MOST_METRICS,
        description="The metrics, for a warning where the prompt shows what they expect.",
    )


def _code(given: Any) -> Any:
    """Code that the lab keeps, as experiments have it; anything else as it is."""
    return CodeConfig(**given.model_dump()) if isinstance(given, KeptCode) else given


def _checked(model: type[Model], fields: dict[str, Any], *where: str) -> Model:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise RequestValidationError(
            [{**item, "loc": ("body", *where, *item["loc"])} for item in error.errors(include_url=False)]
        ) from None
