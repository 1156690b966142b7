"""Experiments: the configuration a user writes, and the resolved experiment a run records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator

from promptlab.domain.conversation import Conversation
from promptlab.domain.extraction import Step
from promptlab.domain.judges import JudgeConfig
from promptlab.domain.model_config import ModelConfig

RESPONSE = "$inference"
"""In a column_mapping: the model's answer. `$completion` means the same."""
PROMPT = "$prompt"
"""In a column_mapping: the text that was sent to the model, its messages one after the other."""
METADATA = "$metadata"
"""In a column_mapping: the answer's metadata; `$metadata.x` is the value of its key `x`."""
SPECIAL = (
    "$inference",
    "$completion",
    "$prompt",
    "$finish_reason",
    "$latency_ms",
    "$cost_usd",
    "$prompt_tokens",
    "$completion_tokens",
    "$metadata",
    "$messages",
    "$tool_calls",
    "$reasoning",
    "$contexts",
    "$turns",
    "$spans",
)
"""Everything that a column_mapping may name besides the dataset's columns and the keys of `$metadata`."""


def is_special(source: str) -> bool:
    """Whether a column_mapping's source is a value of the answer."""
    return source in SPECIAL or (source.startswith(f"{METADATA}.") and len(source) > len(METADATA) + 1)


SCORES = ("score", "passed", "label")
"""What a metric of a run may map of another metric: `$score.exact_match`, `$passed.polite`, `$label.tone`."""


def score_source(source: str) -> tuple[str, str] | None:
    """The part and the metric that a source names, as in `$score.exact_match`; None where it names none."""
    part, point, metric = source.removeprefix("$").partition(".")
    return (part, metric) if source.startswith("$") and point and part in SCORES and metric else None


EVALUATION_TIMEOUT_S = 60.0
"""How long one evaluation may take, in seconds, unless its metric says otherwise."""


class AssetRef(BaseModel):
    """A pinned version of an asset."""

    model_config = ConfigDict(frozen=True)

    name: str
    version: int
    hash: str


class CodeRef(BaseModel):
    """A reference to a user's own class or function."""

    model_config = ConfigDict(frozen=True)

    qualname: str
    """The name inside its module."""
    module: str | None = None
    """The module to import, unless it is a script."""
    file: str | None = None
    """The script's path."""
    rebuildable: bool = True
    """Whether calling the class with `params` gives the same object back."""
    params: dict[str, Any] | None = None
    """The arguments of a model's class or an agent's function; a metric's are the metric's own."""
    bundle: str | None = None
    """The code asset that has it, as `name@version`: then it runs in the sandbox, from there. An empty
    `qualname` is the bundle's pickled object itself."""
    bundle_hash: str | None = None
    """The SHA-256 (hex) of that version's content."""
    source_hash: str | None = None
    """The SHA-256 (hex) of the source of a metric's class or function, where that is at hand."""


Scalar = str | bool | int | float | None


class When(BaseModel):
    """The rows that a metric applies to, by the value of one column. Exactly one of `is`, `is_not` and `in`.

    Values are equal as in JSON: 1 and 1.0 are, 1 and true or 1 and "1" are not. A row without the
    column has null there.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        json_schema_extra={"minProperties": 2, "maxProperties": 2},
    )

    column: str = Field(min_length=1, description="The dataset column to look at.")
    equals: Scalar = Field(default=None, alias="is", description="Rows with this value.")
    differs: Scalar = Field(default=None, alias="is_not", description="Rows with any other value.")
    among: tuple[Scalar, ...] = Field(
        default=(),
        alias="in",
        min_length=1,
        max_length=1000,
        strict=False,
        fail_fast=True,
        description="Rows with one of these values.",
    )

    @model_validator(mode="after")
    def _has_one_test(self) -> When:
        if len(self.model_fields_set - {"column"}) != 1:
            raise ValueError("give exactly one of is, is_not and in, as in when: {column: kind, is: math}")
        return self

    @property
    def values(self) -> tuple[Scalar, ...]:
        """The values that a row is compared with."""
        if "among" in self.model_fields_set:
            return self.among
        return (self.differs if "differs" in self.model_fields_set else self.equals,)

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Whether the metric applies to a row."""
        found = row.get(self.column)
        equal = any(_equal(found, value) for value in self.values)
        return equal != ("differs" in self.model_fields_set)

    def described(self) -> str:
        """Say the condition in words: `kind is "math"`."""
        test = next(iter(self._as_written().keys() - {"column"})).replace("_", " ")
        shown = ", ".join(orjson.dumps(value).decode() for value in self.values[:20])
        return f"{self.column} {test} {shown}{', …' if len(self.values) > 20 else ''}"

    @model_serializer
    def _as_written(self) -> dict[str, Any]:
        name = (self.model_fields_set - {"column"}).pop()
        value = list(self.among) if name == "among" else self.values[0]
        return {"column": self.column, str(type(self).model_fields[name].alias): value}


def _equal(a: Any, b: Any) -> bool:
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


FACTS = {"length": ("min", "max"), "latency": ("max_ms",), "cost": ("max_usd",), "turn_count": ("min", "max")}
"""Built-in metrics that measure, and the parameters that bound them."""


PART_JUDGED = frozenset({"choice", "math_equal", "code_tests", "sql_result"})
"""Built-in metrics that find the part of the answer that they judge by themselves."""


Missing = Literal["fail", "exclude", "bound"]
"""How cases without a score count. `fail`: what is the model's doing (a refusal, no usable answer) as the
worst value, the rest as `bound`; `bound`: in no mean, but in its worst-case range; `exclude`: nowhere."""


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
    when: When | None = None
    """The rows that it applies to; None for all."""
    timeout_s: float | None = None
    """How long one evaluation may take; None for EVALUATION_TIMEOUT_S."""
    isolated: bool | None = None
    """Whether it is evaluated in processes of its own; None where that follows from what it is."""

    headline: bool | None = None
    """Whether this is the metric that a run is judged by first."""
    missing: Missing | None = None
    """How cases without a score count; None for the default."""
    value_range: tuple[float, float] | None = None
    """The least and the greatest value, where the evaluator says so, and they are not 0 and 1."""
    cluster_by: str | None = None
    """The dataset column whose values tell which rows belong together; None where rows are independent."""
    evaluator: str | None = None
    """What the evaluator is called, where it gives several scores: each is a metric of its own."""
    part: str | None = None
    """The name of the evaluator's score that this is; None where it gives one only."""
    judge: tuple[JudgeConfig, ...] | None = None
    """The models that judge; None for a metric that asks none."""
    judge_code: tuple[CodeRef | None, ...] | None = None
    """References to those of them that are of a user's own class, in the same order."""
    since: int | None = None
    """The pass in which it was added to the run, or replaced another; None where the run began with it."""
    kept: str | None = None
    """What it was called before another took its name: its scores are kept, and no more are made."""
    extract: tuple[Step, ...] | None = None
    """The steps that take what is judged out of the answer; None where all of it is."""
    extract_reference: tuple[Step, ...] | None = None
    """The same for the reference."""

    @property
    def result_names(self) -> tuple[str, ...]:
        """Its names in results."""
        return (self.name,)

    @property
    def judges_part(self) -> bool:
        """Whether what was judged is a part of the answer, which is kept beside the score."""
        return self.extract is not None or (self.code is None and self.metric in PART_JUDGED)

    @property
    def evaluator_name(self) -> str:
        """The name of the evaluator: one evaluation gives the scores of all metrics that share it."""
        return self.evaluator or self.name

    @property
    def is_fact(self) -> bool:
        """Whether it only measures: length, latency and cost are neither better nor worse without a bound."""
        return self.code is None and self.metric in FACTS and not self.is_bounded

    @property
    def is_bounded(self) -> bool:
        """Whether it is a measure with a bound, so that keeping the bound is what counts."""
        bounds = FACTS.get(self.metric, ()) if self.code is None else ()
        return any(self.params.get(name) is not None for name in bounds)

    @property
    def may_be_a_share(self) -> bool:
        """Whether a mean of zeros and ones is the share of cases that pass, and not one
        of lengths or distances."""
        return self.code is not None or self.metric not in (*FACTS, "edit_distance", "wer", "cer", "ter")

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The range of its values: the evaluator's, else 0 to 1, which holds as long as no value is beyond;
        None for measures, which have none."""
        if self.value_range is not None:
            return self.value_range
        return (0.0, 1.0) if self.may_be_a_share else None

    @property
    def has_declared_bounds(self) -> bool:
        """Whether the range is known, and not only what the values look like."""
        return self.value_range is not None or (self.code is None and self.may_be_a_share)

    @property
    def reference_column(self) -> str | None:
        """The dataset column that holds the reference; None for a metric that reads none."""
        column = self.column_mapping.get("reference", "$")
        return None if column.startswith("$") else column

    def applies_to(self, row: Mapping[str, Any]) -> bool:
        """Whether a dataset row is to be scored by this metric, if it is labelled."""
        return self.when is None or self.when.holds(row)

    def is_labelled(self, row: Mapping[str, Any]) -> bool:
        """Whether a dataset row has the reference that this metric reads; yes for a
        metric that reads none."""
        column = self.reference_column
        if column is None:
            return True
        value = row.get(column)
        return bool(value.strip()) if isinstance(value, str) else value is not None and value != []


class RunMetricSpec(Metric):
    """One metric of the run as a whole, in a resolved experiment."""

    scores: tuple[str, ...] = ()
    """The names of its scores, where it gives several."""
    better: dict[str, bool] = {}
    """Whether higher is better, by name, where that differs from `higher_is_better`."""

    @property
    def result_names(self) -> tuple[str, ...]:
        """Its names in results: its own, or one for each of its scores."""
        return tuple(f"{self.name}.{score}" for score in self.scores) or (self.name,)


def parts_of(metrics: Sequence[Metric]) -> dict[str, list[tuple[str, str]]]:
    """The metrics that share an evaluator, by its name: the name of each, and of the score that it is."""
    found: dict[str, list[tuple[str, str]]] = {}
    for metric in metrics:
        if metric.part is not None:
            found.setdefault(metric.evaluator_name, []).append((metric.name, metric.part))
    return found


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
    conversation: Conversation | None = None
    """How each case is a dialogue; None: it is one call."""
    evaluation: tuple[Metric, ...] = ()
    run_evaluation: tuple[RunMetricSpec, ...] = ()
    """The metrics of the run as a whole."""
    trials: int = 1
    max_failures: float | None = None
    """How many cases may fail before the run is stopped: a count, or below 1 a share; None for any number."""
    case_deadline_s: float | None = None
    """How long a case may take over all of its attempts and waits, in seconds; None: for any time."""
    run_deadline_s: float | None = None
    """How long each pass of a run may take, in seconds; None: any time."""
    prices: dict[str, Any] = {}
    """The rows of the price table that the run uses, with its date."""
    hash: str = ""
    """SHA-256 of all of the above: equal for runs of the same experiment."""
    warnings: tuple[str, ...] = ()
    """Warnings about what was probably not meant, as said before the first call. Not part of the hash."""
    slices: tuple[str, ...] = ()
    """Dataset columns to look at the metrics by. Not part of the hash."""

    @property
    def judged_ahead(self) -> bool:
        """Whether a judge is in batch mode: then answers are scored once it was asked about all of them."""
        return any(judge.batch for metric in self.evaluation for judge in metric.judge or ())

    @property
    def headline(self) -> Metric | None:
        """The metric that a run is judged by first: the one that says so, else the first
        that is not a mere fact."""
        chosen = [m for m in self.evaluation if m.headline]
        verdicts = [m for m in self.evaluation if not m.is_fact]
        return next(iter([*chosen, *verdicts, *self.evaluation]), None)

    @property
    def scores_of_run(self) -> tuple[str, ...]:
        """The scores of the run as a whole, by their names in results."""
        return tuple(name for metric in self.run_evaluation for name in metric.result_names)

    @property
    def own_scores_of_run(self) -> tuple[str, ...]:
        """Those of them that are of a user's own code."""
        own = (metric for metric in self.run_evaluation if metric.code is not None)
        return tuple(name for metric in own for name in metric.result_names)

    def to_json(self) -> dict[str, Any]:
        found = self.model_dump(mode="json", exclude_none=True)
        return {k: v for k, v in found.items() if v or k not in ("warnings", "slices", "run_evaluation")}
