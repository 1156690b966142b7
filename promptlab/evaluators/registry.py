"""The built-in metrics by name. Each is loaded when it is first used."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from promptlab import plugins
from promptlab.errors import ConfigError, UnknownNameError
from promptlab.evaluators import plugged
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.of_runs import RunEvaluator
from promptlab.loading import loading

_METRICS: dict[str, tuple[str, tuple[str, ...]]] = {
    "exact_match": ("matching:ExactMatch", ()),
    "contains": ("matching:Contains", ()),
    "starts_with": ("matching:StartsWith", ()),
    "regex_match": ("matching:RegexMatch", ("regex",)),
    "numeric_match": ("numeric:NumericMatch", ()),
    "is_json": ("structure:IsJson", ("json_valid",)),
    "json_schema": ("structure:JsonSchema", ()),
    "token_f1": ("overlap:TokenF1", ("f1_score", "f1")),
    "bleu": ("overlap:Bleu", ("bleu_score",)),
    "rouge": ("overlap:Rouge", ("rouge_score",)),
    "edit_distance": ("distance:EditDistance", ("levenshtein",)),
    "length": ("bounds:Length", ()),
    "semantic_similarity": ("semantic:SemanticSimilarity", ("cosine_similarity",)),
    "latency": ("bounds:Latency", ()),
    "cost": ("bounds:Cost", ()),
    "rubric": ("judging.verdicts:Rubric", ("criteria",)),
    "closed_qa": ("judging.verdicts:ClosedQa", ()),
    "factuality": ("judging.verdicts:Factuality", ()),
    "faithfulness": ("judging.claims:Faithfulness", ("groundedness",)),
    "answer_relevance": ("judging.claims:AnswerRelevance", ("relevance", "answer_relevancy")),
    "context_precision": ("judging.claims:ContextPrecision", ()),
    "context_recall": ("judging.claims:ContextRecall", ()),
    "factual_correctness": ("judging.claims:FactualCorrectness", ()),
    "instruction_following": ("judging.claims:InstructionFollowing", ("prompt_alignment",)),
    "coherence": ("judging.verdicts:Coherence", ()),
    "fluency": ("judging.verdicts:Fluency", ()),
    "harmful_content": ("judging.verdicts:HarmfulContent", ("harmfulness",)),
    "summarization": ("judging.claims:Summarization", ()),
    "g_eval": ("judging.g_eval:GEval", ()),
    "pairwise": ("judging.pairwise:Pairwise", ()),
    "goal_reached": ("judging.verdicts:GoalReached", ("agent_goal_accuracy",)),
    "tool_choice": ("judging.claims:ToolChoice", ()),
    "choice": ("choice:Choice", ("multiple_choice",)),
    "json_fields": ("json_fields:JsonFields", ()),
    "refusal": ("refusals:Refusal", ()),
    "wer": ("error_rates:Wer", ("word_error_rate",)),
    "cer": ("error_rates:Cer", ("character_error_rate",)),
    "chrf": ("error_rates:Chrf", ()),
    "ter": ("error_rates:Ter", ()),
    "retrieval": ("retrieval:Retrieval", ()),
    "tool_calls": ("agents:ToolCalls", ()),
    "trajectory": ("agents:Trajectory", ()),
    "turn_count": ("agents:TurnCount", ()),
    "no_error_calls": ("agents:NoErrorCalls", ()),
    "sql_result": ("sql_result:SqlResult", ()),
    "classification": ("classification:Classification", ("confusion_matrix", "classification_report")),
    "corpus_bleu": ("corpus:CorpusBleu", ()),
    "corpus_chrf": ("corpus:CorpusChrf", ()),
    "combined": ("combined:Combined", ("composite",)),
    "math_equal": ("math_equal:MathEqual", ("math_verify",)),
    "code_tests": ("code_tests:CodeTests", ("unit_tests",)),
    "meteor": ("meteor:Meteor", ()),
    "bertscore": ("bertscore:BertScore", ("bert_score",)),
    "calibration": ("calibration:Calibration", ("reliability", "expected_calibration_error")),
}
"""Name → "module:Class" and further names."""

_EXTRAS = dict.fromkeys(
    ("bleu", "rouge", "chrf", "ter", "corpus_bleu", "corpus_chrf", "meteor"), "metrics"
) | {
    "math_equal": "math",
    "bertscore": "bertscore",
}
_CUSTOM = (
    'For an evaluator of your own give the object too: {"metric": "my_metric", "evaluator": '
    'MyEvaluator()}; in YAML evaluator: "path/to/file.py:MyEvaluator".'
)


def _normal(name: str) -> str:
    """Names are the same when their letters and digits are: ExactMatch, exact-match, EXACT_MATCH."""
    return re.sub(r"[\W_]", "", name).lower()


_NAMES = {_normal(name): metric for metric, (_, aliases) in _METRICS.items() for name in (metric, *aliases)}


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricInfo:
    """A built-in metric: what it reads, takes and gives."""

    name: str
    aliases: tuple[str, ...]
    description: str
    """One sentence."""
    inputs: Mapping[str, str | None]
    """Input → its default mapping, or None when the user must map it."""
    params: Mapping[str, Mapping[str, Any]]
    """Parameter → JSON Schema of its value: type, bounds, choices, `default` (absent when
    required), `description`."""
    required: tuple[str, ...]
    """Parameters without a default."""
    value_range: tuple[float | None, float | None]
    """The lowest and highest value; None for no limit."""
    higher_is_better: bool
    """With default parameters."""
    needs_embedding: bool
    needs_judge: bool
    """Whether it asks models of its own: those of the metric's `judge`."""
    any_inputs: bool
    """Whether further inputs may be mapped, under any names: a judge is shown them."""
    scores: tuple[str, ...]
    """The names of its scores, where it gives several: each is a metric of its own."""
    of_run: bool
    """Whether it scores the run as a whole, and not each case."""
    extra: str | None
    """The optional set of packages that it needs, as in `pip install 'promptlab-serverless[metrics]'`."""


def known() -> list[str]:
    """The names of all built-in metrics, sorted, without aliases."""
    return sorted(_METRICS)


def offered() -> tuple[list[MetricInfo], list[str]]:
    """Describe the built-in metrics and then those of installed packages; and say which cannot be loaded."""
    found, problems = [describe(name) for name in known()], list[str]()
    for name in plugins.names(plugins.EVALUATORS):
        if _normal(name) not in _NAMES:  # a built-in metric is never replaced
            try:
                found.append(describe(name))
            except ConfigError as error:
                problems.append(str(error))
    return found, problems


def exists(metric: str) -> bool:
    """Whether there is such a metric, built in or of an installed package; it may be one that cannot be
    loaded."""
    try:
        canonical(metric)
    except UnknownNameError:
        return False
    return True


def canonical(metric: str) -> str:
    """A metric's own name, from any way to write it or an alias.

    Raises:
        UnknownNameError: there is no such built-in metric.
    """
    normal = _normal(metric)
    name = _NAMES.get(normal)
    if name is None:
        further = plugins.names(plugins.EVALUATORS)
        name = next((plugin for plugin in further if _normal(plugin) == normal), None)
        if name is None:
            raise UnknownNameError("metric", metric, [*known(), *further], _CUSTOM)
    return name


def build(metric: str, params: Mapping[str, Any] | None = None) -> Evaluator:
    """A built-in evaluator, ready for any number of cases and threads.

    Raises:
        UnknownNameError: there is no such metric; the message has the nearest names and how a custom
            evaluator is given.
        ConfigError: a parameter is unknown, missing or out of its bounds; a pattern or schema is invalid.
        MissingExtraError: its optional package is not installed.
    """
    name, given = canonical(metric), dict(params or {})
    if name not in _METRICS:
        return plugged.make(name, given)
    cls = _load(name)
    # The schema of the parameters takes 7 ms to make: a metric without any needs none.
    valid = _valid(cls) if given else []
    if unknown := [key for key in given if key not in valid]:
        near = difflib.get_close_matches(str(unknown[0]), valid, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"Metric {name!r} has no parameter {str(unknown[0])!r}.{hint} {_listed(valid)}")
    try:
        return cls(**given)
    except ValidationError as error:
        raise ConfigError(f"Metric {name!r}: {_explain(error)}. {_listed(_valid(cls))}") from error


def describe(metric: str) -> MetricInfo:
    """Describe what a metric reads, takes and gives. Works without its optional package.

    Raises:
        UnknownNameError: there is no such metric.
    """
    name = canonical(metric)
    cls = _load(name)
    schema = _parameters(cls) if name in _METRICS else plugged.parameters(cls)
    return MetricInfo(
        name=name,
        aliases=_METRICS[name][1] if name in _METRICS else (),
        description=(cls.__doc__ or "").partition("\n")[0],
        inputs=dict(getattr(cls, "inputs", {})),
        params={
            key: {k: v for k, v in value.items() if k != "title"}
            for key, value in schema["properties"].items()
        },
        required=tuple(schema.get("required", ())),
        value_range=getattr(cls, "value_range", (None, None)),
        higher_is_better=_first(getattr(cls, "higher_is_better", True)),
        needs_embedding=getattr(cls, "needs_embedding", False),
        needs_judge=getattr(cls, "needs_judge", False),
        any_inputs=getattr(cls, "any_inputs", False),
        scores=_names(cls),
        of_run=issubclass(cls, RunEvaluator),
        extra=_EXTRAS.get(name),
    )


def score_names(metric: str, params: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the scores of a metric that gives several, with these parameters; none of one that gives one, and
    of one that is not there.

    Raises:
        ConfigError: the scores depend on a parameter, and it is wrong.
    """
    if not exists(metric):
        return ()
    found = getattr(_load(canonical(metric)), "scores", ())
    return tuple(build(metric, params).scores if isinstance(found, property) else found)


def _names(cls: type[Evaluator]) -> tuple[str, ...]:
    found = getattr(cls, "scores", ())
    # Of one whose scores depend on its parameters: those with the default ones.
    return tuple(getattr(cls(), "scores", ())) if isinstance(found, property) else tuple(found)


def _first(better: bool | Mapping[str, bool]) -> bool:
    return next(iter(better.values()), True) if isinstance(better, Mapping) else better


def _load(name: str) -> type[Evaluator]:
    if name not in _METRICS:
        return cast("type[Evaluator]", plugins.load(plugins.EVALUATORS, name))
    module, _, cls = _METRICS[name][0].partition(":")
    with loading():
        return cast(
            "type[Evaluator]", getattr(importlib.import_module(f"promptlab.evaluators.{module}"), cls)
        )


def _parameters(cls: type[Evaluator]) -> dict[str, Any]:
    return TypeAdapter(cls).json_schema()


def _valid(cls: type[Evaluator]) -> list[str]:
    return list(_parameters(cls)["properties"])


def _listed(valid: list[str]) -> str:
    return f"Its parameters: {', '.join(valid)}."


def _explain(error: ValidationError) -> str:
    """Say what is wrong, in one sentence a parameter."""
    by_name: dict[str, list[str]] = {}
    values: dict[str, Any] = {}
    for item in error.errors(include_url=False):
        name = str(item["loc"][0]) if item["loc"] else ""
        text = item["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        text = "is required" if item["type"] == "missing" else text
        by_name.setdefault(name, []).append(text)
        if name and item["type"] != "missing":
            values[name] = item["input"]
    lines = []
    for name, texts in by_name.items():
        got = (
            f" (got {str(values[name])[:80]!r})"
            if isinstance(values.get(name), str)
            else f" (got {str(values[name])[:80]})"
            if name in values
            else ""
        )
        lines.append(f"{name} {' or '.join(dict.fromkeys(texts))}{got}".strip())
    return "; ".join(lines)
