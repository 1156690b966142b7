"""The form of a new run as an address, and the experiment that it describes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import yaml

from promptlab.domain.code import StoredCode
from promptlab.domain.experiment import RESPONSE, CodeRef, Experiment, Metric, is_special
from promptlab.domain.judges import JudgeConfig
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.results import RunRecord
from promptlab.errors import ConfigError
from promptlab.evaluators.registry import MetricInfo, canonical, describe, exists
from promptlab.experiments.config import ExperimentConfig
from promptlab.experiments.subset import First, Sample
from promptlab_studio.views.conversation_form import conversation_of, conversation_pairs
from promptlab_studio.views.run_bounds import bound_pairs, bounds_of
from promptlab_studio.views.run_rules import MISSING, rule_pairs, rules_of
from promptlab_studio.views.state import Pairs, Query, whole

MODEL_NUMBERS = {
    "temperature": float,
    "max_tokens": int,
    "seed": int,
    "max_concurrent_tasks": int,
    "max_retries": int,
    "timeout_s": float,
}
MAX_STEPS = 2_000
"""Characters of an extraction that is typed."""
AGENT_PARAMS, AGENT_TASKS = "agent_params", "agent_max_concurrent_tasks"
MODEL_TEXTS = ("endpoint", "api_key_env", "api_key_secret")
_EXPECTED = re.compile(
    r"^(reference|expected|expected_\w+|answer|target|label|gold|golden|ground_truth|truth|correct|solution|output)$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class InputField:
    """One input of a metric and what it is mapped to."""

    name: str
    field: str
    """The form field's name."""
    value: str
    suggested: bool
    """Whether the value is our guess and not the user's."""


@dataclass(frozen=True, slots=True)
class ParamField:
    """One parameter of a metric."""

    name: str
    field: str
    value: str
    description: str
    choices: Sequence[str]
    required: bool
    hint: str


@dataclass(frozen=True, slots=True)
class MetricForm:
    """A chosen metric with its fields."""

    info: MetricInfo
    inputs: Sequence[InputField]
    params: Sequence[ParamField]
    extracts: Sequence[ParamField] = ()
    """The steps of its extraction, of the answer and of the reference, where it reads them; and how what is
    missing counts."""
    judge: str = ""
    """The models that judge, as they are typed: names with spaces between, or their configuration as JSON."""

    @property
    def judge_field(self) -> str:
        return f"j.{self.info.name}"


EXTRACTS = {"extract": "response", "extract_reference": "reference"}
"""Fields of extraction, and the input that each is of."""
MISSING_SAID = (
    "How cases without a score count: fail, what is the model's doing as the worst value; bound, in no mean "
    "but in its worst-case range; exclude, nowhere."
)
_EXTRACT_HINTS = {
    "extract": "last_number, or [{after: 'Answer:'}, choice]",
    "extract_reference": "{after: '####'}",
}


@dataclass(frozen=True, slots=True)
class CodeForm:
    """A chosen piece of code with its fields."""

    text: str
    """What names it: `scoring@3/rules:Length`."""
    name: str
    """What its metric is called."""
    mapping: str
    params: str
    missing: str = ""

    @property
    def missing_field(self) -> str:
        return f"x.{self.text}"

    @property
    def mapping_field(self) -> str:
        return f"c.{self.text}"

    @property
    def params_field(self) -> str:
        return f"a.{self.text}"


def code_forms(query: Query, columns: Sequence[str]) -> list[CodeForm]:
    """The chosen code; without a mapping it gets the answer, and the column that is most likely expected."""
    found: list[CodeForm] = []
    for text in dict.fromkeys(query.all("code")):
        code = StoredCode.parse(text)
        if code is None:
            continue
        name = code.qualname or code.name
        taken = sum(form.name == name or form.name.startswith(f"{name}_") for form in found)
        expected = suggested("reference", columns)
        given = query.get(f"c.{text}") or " ".join(
            (
                f"response={RESPONSE}",
                *((f"reference={expected}",) if expected and " " not in expected else ()),
            )
        )
        called, params = f"{name}_{taken + 1}" if taken else name, query.get(f"a.{text}")
        found.append(CodeForm(text, called, given, params, query.get(f"x.{text}")))
    return found


def _code_metric(form: CodeForm) -> dict[str, Any]:
    """The metric of a chosen piece of code.

    Raises:
        ConfigError: its inputs or its arguments are not written as they are to be.
    """
    try:
        pairs = [part.split("=", 1) for part in shlex.split(form.mapping)]
    except ValueError as error:
        raise ConfigError(f"Inputs of {form.text}: {error}.") from None
    if wrong := next((pair for pair in pairs if len(pair) < 2), None):
        raise ConfigError(
            f"Inputs of {form.text}: {wrong[0]!r} is no pair. Write input=column, as in "
            "response=$inference reference=answer; a column with spaces in quotes."
        )
    params = _object(form.params, form.text)
    return {
        "metric": form.name,
        "evaluator": form.text,
        "column_mapping": dict(pairs),
        "params": params,
        "missing": form.missing or None,
    }


def metric_forms(query: Query, columns: Sequence[str]) -> list[MetricForm]:
    """The chosen metrics; an input without a mapping gets the column that fits best.

    Raises:
        UnknownNameError: there is no such metric.
    """
    return [
        _metric_form(query, describe(name), columns)
        for name in dict.fromkeys(canonical(n) for n in query.all("metric"))
    ]


def _metric_form(query: Query, info: MetricInfo, columns: Sequence[str]) -> MetricForm:
    inputs, params = [], []
    for name, default in info.inputs.items():
        field = f"m.{info.name}.{name}"
        given = query.get(field)
        value = given if given in columns or is_special(given) else default or suggested(name, columns)
        inputs.append(InputField(name, field, value, not given and not default and bool(value)))
    for name, schema in info.params.items():
        field = f"p.{info.name}.{name}"
        choices = (
            ["true", "false"] if schema.get("type") == "boolean" else [str(c) for c in schema.get("enum", ())]
        )
        hint = "" if schema.get("default") is None else _as_text(schema["default"])
        params.append(
            ParamField(
                name,
                field,
                query.get(field),
                str(schema.get("description", "")),
                choices,
                name in info.required,
                hint,
            )
        )
    extracts = [
        ParamField(
            name,
            field := f"e.{info.name}.{name}",
            query.get(field),
            f"What of the {of} is judged, in steps, as in YAML; all of it by default.",
            (),
            False,
            _EXTRACT_HINTS[name],
        )
        for name, of in EXTRACTS.items()
        if of in info.inputs
    ]
    field = f"e.{info.name}.missing"
    hint = "as its kind"
    extracts.append(ParamField("missing", field, query.get(field), MISSING_SAID, MISSING, False, hint))
    return MetricForm(info, inputs, params, extracts, query.get(f"j.{info.name}"))


def _steps(form: MetricForm) -> dict[str, Any]:
    """The steps of a metric's extractions, as they are typed, and how what is missing counts.

    Raises:
        ConfigError: they are no YAML.
    """
    found = {}
    for field in form.extracts:
        if not field.value.strip():
            continue
        if field.name == "missing":
            found["missing"] = field.value
            continue
        try:
            found[field.name] = yaml.safe_load(field.value[:MAX_STEPS])
        except (yaml.YAMLError, RecursionError):
            raise ConfigError(
                f"{field.name} of {form.info.name} is not written as steps are: {_EXTRACT_HINTS[field.name]}."
            ) from None
    return found


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value, default=str).decode()


def suggested(name: str, columns: Sequence[str]) -> str:
    """The column that an input most likely means: its own name, else one that sounds
    like what is expected."""
    exact = {c.casefold(): c for c in columns}
    if name.casefold() in exact:
        return exact[name.casefold()]
    return next((c for c in columns if _EXPECTED.match(c)), "") if name != "response" else RESPONSE


def experiment_of(query: Query, columns: Sequence[str]) -> dict[str, Any]:
    """The experiment that the form describes, as the SDK takes it.

    Raises:
        ConfigError: a field does not say what it should.
    """
    agent = query.get("agent")
    for name, text in (("prompt", "a prompt"), ("dataset", "a dataset"), ("model", "a model")):
        if not query.get(name) and (name == "dataset" or not agent):
            raise ConfigError(f"Choose {text} first.")
    evaluation: list[dict[str, Any]] = [
        {
            "metric": form.info.name,
            "column_mapping": {i.name: i.value for i in form.inputs if i.value},
            "params": params_of(form),
            **_steps(form),
            **({"judge": judges_of(form.judge, form.info.name)} if form.info.needs_judge else {}),
        }
        for form in metric_forms(query, columns)
    ] + [_code_metric(form) for form in code_forms(query, columns)]
    trials = query.get("trials", "1")
    asked = _agent_of(query) if agent else {"prompt_template": query.get("prompt"), "model": model_of(query)}
    called = agent.rpartition(":")[2] if agent else query.get("prompt")
    return {
        "name": query.get("name") or called.partition("@")[0],
        "dataset": query.get("dataset"),
        **asked,
        "evaluation": evaluation,
        "trials": trials if (number := whole(trials)) is None else number,
        **conversation_of(query),
        **bounds_of(query),
        **rules_of(query),
        "tags": [t for t in re.split(r"[\s,]+", query.get("tags")) if t],
    }


MORE_PROMPTS, MORE_MODELS = "more_prompts", "more_models"
"""Fields of further prompts, and of further models with spaces between: each combination is then a run."""


def further_prompts(query: Query) -> list[str]:
    """The prompts of the form besides the first, each once."""
    return list(dict.fromkeys(one for one in query.all(MORE_PROMPTS) if one and one != query.get("prompt")))


def further_models(query: Query) -> list[str]:
    """The models of the form besides the first, each once."""
    return list(dict.fromkeys(one for one in query.get(MORE_MODELS).split() if one != query.get("model")))


def sweep_of(query: Query, columns: Sequence[str]) -> dict[str, Any] | None:
    """The sweep that the form describes, with every further prompt and model; None where it has none.

    Raises:
        ConfigError: a field does not say what it should.
    """
    prompts, models = further_prompts(query), further_models(query)
    if query.get("agent") or not (prompts or models):
        return None
    one = experiment_of(query, columns)
    if prompts:
        one["prompt_template"] = [one["prompt_template"], *prompts]
    if models:
        # The parameters of the first; its name alone would leave them out.
        base = {} if "code" in one["model"] else one["model"]
        given = [{**base, "name": name} for name in models]
        one["model"] = [one["model"], *given]
    return one


ROWS = (("", "all of them"), ("first", "the first"), ("sample", "a random sample of"))
"""Which rows of the dataset a run is over."""


def rows_of(query: Query) -> First | Sample | None:
    """The rows that are chosen; None: all.

    Raises:
        ConfigError: their number, or the seed of a sample, is none.
    """
    choice = query.get("rows")
    if choice == "":
        return None
    count, seed = whole(query.get("rows_n")), whole(query.get("rows_seed", "0"))
    if choice not in dict(ROWS):
        raise ConfigError(f"rows={choice!r} is not known: first or sample, or nothing for all.")
    if not count:
        raise ConfigError(f"How many rows? A whole number from 1 on, not {query.get('rows_n')!r}.")
    if seed is None:
        raise ConfigError(f"The seed of a sample is a whole number, not {query.get('rows_seed')!r}.")
    return First(count) if choice == "first" else Sample(count, seed)


def rows_asked(query: Query, rows: int) -> int:
    """How many rows of a dataset with so many rows the run will be over, as far as the form says."""
    count = whole(query.get("rows_n")) if query.get("rows") else None
    return min(rows, count) if count else rows


def judges_of(text: str, metric: str) -> Any:
    """The judges of a metric as they are typed; None where nothing is.

    Raises:
        ConfigError: they are neither names nor JSON, or bring a key.
    """
    text = text.strip()
    if not text.startswith(("{", "[")):
        return text.split() or None
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"Judge of {metric} is not valid JSON: {error}.") from None
    if any(
        "api_key" in one for one in (found if isinstance(found, list) else [found]) if isinstance(one, dict)
    ):
        raise ConfigError(f"Judge of {metric}: a key must not be sent: name its variable or secret.")
    return found


def _judges_typed(metric: Metric) -> str:
    """The judges of a metric as one would type them."""
    usual = JudgeConfig(name="a/b").public()
    given = [
        {name: value for name, value in one.public().items() if name == "name" or usual.get(name) != value}
        for one in metric.judge or ()
    ]
    if all(one.keys() == {"name"} for one in given):
        return " ".join(one["name"] for one in given)
    return orjson.dumps(given if len(given) > 1 else given[0]).decode()


def _agent_of(query: Query) -> dict[str, Any]:
    """The agent, which stands in place of prompt and model.

    Raises:
        ConfigError: its arguments or its limit are not written as they are to be.
    """
    agent, at_once = query.get("agent"), query.get(AGENT_TASKS)
    if at_once and whole(at_once) is None:
        raise ConfigError(f"{AGENT_TASKS} must be a whole number (got {at_once!r}).")
    found: dict[str, Any] = {
        "agent_proxy": {"code": agent, "params": _object(query.get(AGENT_PARAMS), agent)}
    }
    return found | ({AGENT_TASKS: whole(at_once)} if at_once else {})


def _object(text: str, of: str) -> dict[str, Any]:
    """Arguments as they are typed.

    Raises:
        ConfigError: they are no JSON object.
    """
    try:
        params = orjson.loads(text) if text.strip() else {}
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"Arguments of {of} are not valid JSON: {error}.") from None
    if not isinstance(params, dict):
        raise ConfigError(f'Arguments of {of} are a JSON object such as {{"least": 3}}.')
    return params


def model_of(query: Query) -> dict[str, Any]:
    """The model's configuration.

    Raises:
        ConfigError: a number is none, or the other parameters are not a JSON object.
    """
    if StoredCode.parse(query.get("model")):
        return {"code": query.get("model")}
    model: dict[str, Any] = {"name": query.get("model")}
    for name, kind in MODEL_NUMBERS.items():
        if text := query.get(name):
            try:
                model[name] = kind(text)
            except ValueError:
                raise ConfigError(
                    f"{name} must be a {'whole number' if kind is int else 'number'} (got {text!r})."
                ) from None
    model |= {name: query.get(name) for name in MODEL_TEXTS if query.get(name)}
    if query.get("batch"):
        model["batch"] = True
    if other := query.get("other"):
        try:
            more = orjson.loads(other)
        except orjson.JSONDecodeError as error:
            raise ConfigError(f"Other parameters are not valid JSON: {error}.") from None
        if not isinstance(more, dict) or "api_key" in more:
            raise ConfigError(
                'Other parameters are a JSON object such as {"top_p": 0.9}, without a key: name the key\'s '
                "variable or secret."
            )
        model |= more
    return model


def params_of(form: MetricForm) -> dict[str, Any]:
    found = {}
    for param in form.params:
        if param.value == "":
            continue
        kinds = (
            {"string"}
            if "type" not in form.info.params[param.name]
            else {str(form.info.params[param.name]["type"])}
        )
        kinds |= {str(one.get("type")) for one in form.info.params[param.name].get("anyOf", ())}
        try:
            found[param.name] = param.value if kinds == {"string"} else orjson.loads(param.value)
        except orjson.JSONDecodeError:
            found[param.name] = param.value
    return found


def fields_from(run: RunRecord) -> tuple[Pairs, list[str]]:
    """The form's fields for the experiment of a run, and what of it the form cannot hold."""
    experiment = Experiment.model_validate(run.experiment)
    model: Mapping[str, Any] = experiment.model.public()
    usual = ModelConfig.model_fields
    pairs: list[tuple[str, str]] = [
        ("name", experiment.name),
        ("dataset", f"{experiment.dataset.name}@{experiment.dataset.version}"),
        ("model", model["name"]),
    ]
    if experiment.prompt_template:
        pairs.append(("prompt", f"{experiment.prompt_template.name}@{experiment.prompt_template.version}"))
    pairs += [
        (name, str(model[name]))
        for name in (*MODEL_NUMBERS, *MODEL_TEXTS)
        if model.get(name, usual[name].default) != usual[name].default
        and not isinstance(model.get(name), dict)
    ]
    pairs += [("batch", "yes")] if model.get("batch") else []
    ours = (*MODEL_NUMBERS, *MODEL_TEXTS, "batch", "name")
    other = {k: v for k, v in model.items() if k not in ours or (k != "name" and isinstance(v, dict))}
    pairs += [("other", orjson.dumps(other).decode())] if other else []
    pairs += [("trials", str(experiment.trials))] if experiment.trials != 1 else []
    pairs += [("tags", " ".join(run.tags))] if run.tags else []
    pairs += bound_pairs(run, experiment)
    pairs += rule_pairs(run, experiment)
    left: list[str] = []
    if experiment.agent is not None:
        pairs = [pair for pair in pairs if pair[0] not in ("model", *MODEL_NUMBERS, *MODEL_TEXTS, "other")]
        if experiment.agent.bundle:
            pairs += _agent_pairs(experiment.agent, model["max_concurrent_tasks"])
        else:
            left.append("its agent: it is code of your own and runs from Python")
    pairs += conversation_pairs(experiment.conversation, left)
    if experiment.model_code is not None:
        if experiment.model_code.bundle and not experiment.model_code.params:
            of_model = ("model", *MODEL_NUMBERS, *MODEL_TEXTS, "batch", "other")
            pairs = [pair for pair in pairs if pair[0] not in of_model]
            pairs.append(("model", _kept(experiment.model_code)))
        else:
            left.append("its model: it is code of your own and runs from Python")
    seen: set[str] = set()
    for metric in experiment.evaluation:
        if metric.code is not None and metric.code.bundle:
            pairs += _code_pairs(metric)
        elif metric.code is not None:
            left.append(f"the metric {metric.name!r}: it is code of your own and runs from Python")
        elif not exists(metric.metric):
            left.append(f"the metric {metric.name!r}: there is no {metric.metric!r} any more")
        elif canonical(metric.metric) in seen:
            left.append(f"the metric {metric.name!r}: the form has {metric.metric!r} once")
        else:
            name = canonical(metric.metric)
            seen.add(name)
            pairs.append(("metric", name))
            pairs += [(f"m.{name}.{key}", value) for key, value in metric.column_mapping.items()]
            pairs += [(f"p.{name}.{key}", _as_text(value)) for key, value in metric.params.items()]
            pairs += [
                (f"e.{name}.{field}", orjson.dumps([step.as_written() for step in steps]).decode())
                for field in EXTRACTS
                if (steps := getattr(metric, field))
            ]
            pairs += [(f"j.{name}", _judges_typed(metric))] if metric.judge else []
            pairs += [(f"e.{name}.missing", metric.missing)] if metric.missing else []
    return tuple(pairs), left


def _kept(code: CodeRef) -> str:
    return f"{code.bundle}/{code.module}:{code.qualname}" if code.qualname else str(code.bundle)


def _agent_pairs(agent: CodeRef, at_once: int) -> list[tuple[str, str]]:
    found = [("agent", _kept(agent))]
    found += [(AGENT_PARAMS, orjson.dumps(dict(agent.params)).decode())] if agent.params else []
    usual = ExperimentConfig.model_fields[AGENT_TASKS].default
    return [*found, (AGENT_TASKS, str(at_once))] if at_once != usual else found


def _code_pairs(metric: Metric) -> list[tuple[str, str]]:
    """The form's fields for a metric that is code of the lab's."""
    assert metric.code is not None
    text = _kept(metric.code)
    mapping = " ".join(
        shlex.quote(f"{name}={column}") if " " in column else f"{name}={column}"
        for name, column in metric.column_mapping.items()
    )
    found = [("code", text), (f"c.{text}", mapping)]
    found += [(f"x.{text}", metric.missing)] if metric.missing else []
    return [*found, (f"a.{text}", orjson.dumps(metric.params).decode())] if metric.params else found
