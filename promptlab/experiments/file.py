"""The experiment that a user writes in YAML: reading it, and the JSON Schema that
editors complete it with."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import AliasChoices, BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticOmit

from promptlab.domain.assets import ChatMessage, Dataset, PromptTemplate
from promptlab.domain.experiment import SPECIAL
from promptlab.domain.judges import MOST_JUDGES, JudgeConfig
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.sweeps import MOST_CELLS
from promptlab.errors import ConfigError, DatasetError, PromptLabError
from promptlab.experiments.config import CODE, CodeConfig, EvaluationConfig, ExperimentConfig, no_sweep
from promptlab.experiments.expansion import expand_environment, with_texts
from promptlab.experiments.matrix import (
    MATRIX,
    Cell,
    SweepConfig,
    expanded,
    has_matrix,
    parsed_cell,
)
from promptlab.experiments.overrides import changed
from promptlab.experiments.yaml_bounds import check_bounds
from promptlab.experiments.yaml_reading import (
    MERGE,
    YamlLoader,
    check_twice,
    open_yaml,
    place_of,
    read_yaml,
    syntax_words,
)
from promptlab.named_files import check_regular, working_folder
from promptlab.program import program


@dataclass(frozen=True, slots=True)
class ExperimentFile:
    """An experiment that was read from a file."""

    config: ExperimentConfig
    folder: Path
    """The folder of the file, absolute: relative paths in it count from here."""


@dataclass(frozen=True, slots=True)
class SweepFile:
    """A sweep that was read from a file: an experiment with a matrix."""

    config: SweepConfig
    folder: Path
    """As of `ExperimentFile`."""


def load_experiment(path: Path, changes: Sequence[str] = ()) -> ExperimentFile:
    """Read the experiment in a YAML file, as `load`; a sweep is refused.

    Raises:
        ConfigError: as of `load`; or it is a sweep.
        DatasetError: the dataset's file is in neither folder.
    """
    found = load(path, changes)
    if isinstance(found, SweepFile):
        raise ConfigError(f"{path}: {no_sweep()}")
    return found


def load(path: Path, changes: Sequence[str] = ()) -> ExperimentFile | SweepFile:
    """Read the experiment, or the sweep, in a YAML file. Paths in it start at its folder or, if nothing is
    there, at the working folder.

    Args:
        path: the file.
        changes: fields to change, as in `model.temperature=0`; see `experiments.overrides`.

    Raises:
        ConfigError: it cannot be read, is not YAML, has a key twice, or a field is unknown, missing or of the
            wrong kind.
        DatasetError: the dataset's file is in neither folder.
    """
    loader = open_yaml(path)
    try:
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            found = "empty" if root is None else "no mapping"
            raise ConfigError(
                f"{path} is {found}: an experiment is a mapping, with name, dataset, prompt_template, "
                f"model and evaluation (`{program()} schema`)."
            )
        check_bounds(path, root)
        check_twice(path, root)
        expand_environment(root, loader, path)
        _check_experiment(path, root)
        value = loader.construct_document(root)
        value = changed(value, changes, _value) if changes else value
    except yaml.YAMLError as error:
        raise ConfigError(syntax_words(path, error)) from None
    except RecursionError:
        raise ConfigError(
            f"{path}: brackets are nested too deep. Put rows into a file of their own."
        ) from None
    finally:
        loader.dispose()
    folder = path.absolute().parent
    try:
        if not has_matrix(value):
            return ExperimentFile(ExperimentConfig.parse(_with_paths(value, folder)), folder)
        cells = [(choices, _with_paths(one, folder)) for choices, one in expanded(value)]
        return SweepFile(SweepConfig(tuple(Cell(c, parsed_cell(c, one)) for c, one in cells)), folder)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def load_evaluation(path: Path) -> tuple[list[Any], Path]:
    """Read the metrics of a YAML file: an experiment, or a mapping with `evaluation` alone.

    Returns:
        The metrics, and the folder from which relative paths in them count.

    Raises:
        ConfigError: it cannot be read, is not YAML, or has no `evaluation`.
    """
    value = read_yaml(path)
    given = value.get("evaluation") if isinstance(value, dict) else None
    if not isinstance(given, list):
        raise ConfigError(f"{path}: there are no metrics: a mapping with a list `evaluation` is needed.")
    folder = path.absolute().parent
    return list(_with_paths({"evaluation": given}, folder)["evaluation"]), folder


def _value(text: str) -> Any:
    """Read a value as YAML does."""
    try:
        return yaml.load(text, YamlLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"--set: the value {text[:80]!r} is not valid YAML: {error}.") from None


def _check_experiment(path: Path, root: yaml.MappingNode) -> None:
    """Refuse unknown fields here, where their lines are known."""
    for key, value in _fields(path, root, ExperimentConfig, "an experiment"):
        match key:
            case "dataset":
                list(_fields(path, value, Dataset, "a dataset"))
            case "prompt_template":
                for inner, messages in _fields(path, value, PromptTemplate, "a prompt template"):
                    for message in (
                        messages.value
                        if inner == "messages" and isinstance(messages, yaml.SequenceNode)
                        else ()
                    ):
                        list(_fields(path, message, ChatMessage, "a message"))
            case "evaluation" if isinstance(value, yaml.SequenceNode):
                for item in value.value:
                    list(_fields(path, item, EvaluationConfig, "an evaluation"))


def _fields(
    path: Path, node: yaml.Node, model: type[BaseModel], what: str
) -> Iterator[tuple[str, yaml.Node]]:
    known = [*_names(model), *([MATRIX] if model is ExperimentConfig else [])]
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{place_of(path, key)}: a field's name is a text: put it in quotes.")
        name = str(key.value)
        if name not in known and key.tag != MERGE:
            name = name if len(name) <= 200 else f"{name[:200]}…"
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = (
                f"Did you mean {near[0]!r}?"
                if near
                else f"Its fields: {', '.join(n for n in model.model_fields if not n.startswith('agent_'))}."
            )
            raise ConfigError(f"{place_of(path, key)}: {what} has no field {name!r}. {hint}")
        yield name, value


def _names(model: type[BaseModel], *fields: str) -> list[str]:
    """The names that a model's fields, or those of them, may be written with."""
    names: list[str] = []
    for name, field in model.model_fields.items():
        if fields and name not in fields:
            continue
        alias = field.validation_alias
        names += map(str, alias.choices) if isinstance(alias, AliasChoices) else [name]
    return names


def _with_paths(value: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The experiment with the paths of files that it names made absolute."""
    value = dict(value)
    dataset, evaluation = value.get("dataset"), value.get("evaluation")
    if isinstance(dataset, dict) and isinstance(dataset.get("file_path"), str):
        value["dataset"] = {
            **dataset,
            "file_path": _find(
                dataset["file_path"], folder, f"dataset {dataset.get('name')!r}", DatasetError
            ),
        }
    if isinstance(evaluation, list):
        value["evaluation"] = [
            {
                **item,
                "evaluator": _with_code_path(item["evaluator"], folder, f"metric {item.get('metric')!r}"),
            }
            if isinstance(item, dict) and "evaluator" in item
            else item
            for item in evaluation
        ]
    for field in {*_names(ExperimentConfig, "model", "embedding_model", "agent_proxy")} & value.keys():
        value[field] = _with_code_path(value[field], folder, field)
    if "prompt_template" in value:
        value["prompt_template"] = with_texts(
            value["prompt_template"], lambda file, whose: _find(file, folder, whose, ConfigError)
        )
    return value


def _with_code_path(value: Any, folder: Path, whose: str) -> Any:
    """A reference to code in a file, or a mapping with one in `code`, with the file's absolute path."""
    if isinstance(value, dict) and "code" in value:
        return {**value, "code": _with_code_path(value["code"], folder, whose)}
    file, _, name = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not file.endswith(".py"):
        return value
    return f"{_find(file, folder, whose, ConfigError)}:{name}"


def _find(file: str, folder: Path, whose: str, error: type[PromptLabError]) -> str:
    bases = [base for base in (folder, working_folder()) if base is not None]
    places = list(dict.fromkeys(base.absolute() / Path(file).expanduser() for base in bases))
    for place in places:
        if place.exists():
            check_regular(place, whose, error)
            return str(place)
    where = (
        f"neither {places[0]} (beside the experiment) nor {places[-1]} (in the working folder) is there"
        if len(places) > 1
        else f"{places[0]} is not there"
    )
    raise error(f"{whose}: no file {file!r}: {where}.")


class _Generator(GenerateJsonSchema):
    """Leaves out what YAML cannot say (a function) and titles that only repeat the names."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> Any:
        raise PydanticOmit

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def experiment_schema(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of an experiment's YAML, with descriptions.

    Args:
        metrics: the built-in metrics to suggest: name → `{"description": …, "params": {parameter: its
            schema}, "required": […]}`.
    """
    schema = ExperimentConfig.model_json_schema(schema_generator=_Generator)
    defs, fields = schema.pop("$defs"), schema.pop("properties")

    defs["CodeConfig"] = CodeConfig.model_json_schema(schema_generator=_Generator)
    defs["ModelConfig"] = _plain(ModelConfig.model_json_schema(schema_generator=_Generator))
    defs["JudgeConfig"] = JudgeConfig.model_json_schema(schema_generator=_Generator)
    defs |= defs["JudgeConfig"].pop("$defs", {})
    # In a condition null is a value: rows that have none.
    defs = {name: d if name == "When" else _plain(d) for name, d in sorted(defs.items())}
    for asset, field in (("Dataset", "dataset"), ("PromptTemplate", "prompt_template")):
        del defs[asset]["properties"][
            "version"
        ]  # a version has its content already: it is named by `name@version`
        fields[field] = {
            "anyOf": [{"$ref": f"#/$defs/{asset}"}, {"type": "string"}],
            "description": fields[field]["description"],
        }
    defs["Dataset"]["properties"]["file_path"]["type"] = "string"
    for field in ("model", "embedding_model"):
        name = {"type": "string", "pattern": f"^[^/]+/.+|{CODE}"}
        fields[field] = {
            "anyOf": [name, {"$ref": "#/$defs/ModelConfig"}, {"$ref": "#/$defs/CodeConfig"}],
            "description": fields[field]["description"],
        }
    played = defs["SimulatedUser"]["properties"]["model"]
    defs["SimulatedUser"]["properties"]["model"] = {
        "anyOf": [{"type": "string", "pattern": "^[^/]+/.+"}, {"$ref": "#/$defs/ModelConfig"}],
        "description": played["description"],
    }
    for field in ("model", "prompt_template"):
        several = {"type": "array", "items": {"anyOf": fields[field]["anyOf"]}, "minItems": 1}
        fields[field]["anyOf"] = [*fields[field]["anyOf"], several]
    fields[MATRIX] = {
        "type": "object",
        "description": "What changes from run to run, each with a list of values: model, prompt_template, "
        f"and fields of these such as model.temperature. All combinations, {MOST_CELLS} at most, are one "
        "sweep (docs/sweeps.md).",
        "additionalProperties": {"type": "array", "minItems": 1, "maxItems": MOST_CELLS},
    }
    fields["agent_proxy"] = {
        "anyOf": [{"type": "string", "pattern": CODE}, {"$ref": "#/$defs/CodeConfig"}],
        "description": fields["agent_proxy"]["description"],
    }
    _suggest(defs["EvaluationConfig"], metrics)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A PromptLab experiment",
        "description": "What to run: prompt template × dataset × model × evaluators × parameters.",
        "type": "object",
        "additionalProperties": False,
        "required": ["dataset"],
        "anyOf": [
            {
                "oneOf": [{"required": ["prompt_template", "model"]}, {"required": ["agent_proxy"]}],
                "not": {"required": [MATRIX]},
            },
            {"required": [MATRIX]},
        ],
        "properties": fields,
        "$defs": defs,
    }


def _plain(definition: dict[str, Any]) -> dict[str, Any]:
    """A definition without the `null` that stands for a field left out: an editor would offer it."""
    for field in definition["properties"].values():
        options = [option for option in field.get("anyOf", ()) if option != {"type": "null"}]
        if options:
            del field["anyOf"]
            field.update(options[0])
            if field.get("default", ...) is None:
                del field["default"]
    return definition


def _suggest(evaluation: dict[str, Any], metrics: Mapping[str, Mapping[str, Any]]) -> None:
    """Add the names of metrics and of their parameters; a custom evaluator may have any name."""
    fields = evaluation["properties"]
    names = [{"const": name, "description": metric["description"]} for name, metric in metrics.items()]
    fields["metric"] = {
        "anyOf": [*names, {"type": "string", "minLength": 1}],
        "description": fields["metric"]["description"],
    }
    fields["column_mapping"]["additionalProperties"] = {
        "anyOf": [
            {"enum": list(SPECIAL)},
            {"pattern": r"^\$metadata\..+$", "description": "A key of the answer's metadata."},
            {"type": "string"},
        ]
    }
    judge = [{"type": "string", "pattern": "^[^/]+/.+"}, {"$ref": "#/$defs/JudgeConfig"}]
    jury = {"type": "array", "items": {"anyOf": judge}, "minItems": 1, "maxItems": MOST_JUDGES}
    fields["judge"] = {"anyOf": [*judge, jury], "description": fields["judge"]["description"]}
    fields["evaluator"] = {
        "type": "string",
        "pattern": "^.+:.+$",
        "description": 'A custom evaluator: "module:Class" or "path/to/file.py:Class".',
    }
    evaluation["allOf"] = [
        {
            "if": {
                "properties": {"metric": {"const": name}},
                "required": ["metric"],
                "not": {"required": ["evaluator"]},
            },
            "then": {
                "properties": {
                    "params": {
                        "properties": dict(metric["params"]),
                        "required": list(metric["required"]),
                        "additionalProperties": False,
                    }
                },
                **({"required": ["params"]} if metric["required"] else {}),
            },
        }
        for name, metric in metrics.items()
    ]
