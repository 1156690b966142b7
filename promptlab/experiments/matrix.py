"""Several experiments in one: a matrix over prompts, models and parameters, each cell of which is an
experiment over the same rows."""

from __future__ import annotations

import difflib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from promptlab.domain.assets import PromptTemplate
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.sweeps import MOST_CELLS
from promptlab.errors import ConfigError
from promptlab.experiments.config import ExperimentConfig
from promptlab.experiments.overrides import MODEL_NAMES, with_value
from promptlab.models.base import Model

MATRIX = "matrix"
MOST_AXES = 6
AXES = ("model", "prompt_template", "agent_proxy", "conversation")
"""What a matrix may change, with the fields below it. Whatever decides which rows are asked, and how they are
scored, is the same in every cell: they are ranked over the same rows, by the same metrics."""
_CHARS = 60


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of a matrix."""

    choices: Mapping[str, str]
    """What was chosen on each axis, in words: `{"model": "openai/x", "model.temperature": "0.7"}`."""
    config: ExperimentConfig


@dataclass(frozen=True, slots=True)
class SweepConfig:
    """Experiments over the same rows that differ in prompt, model or parameters."""

    cells: tuple[Cell, ...]

    @property
    def name(self) -> str:
        """The experiment's name, which all of its runs share."""
        return self.cells[0].config.name

    def over(self, configs: Sequence[ExperimentConfig]) -> SweepConfig:
        """Give the sweep with other experiments in its cells."""
        return SweepConfig(
            tuple(Cell(cell.choices, config) for cell, config in zip(self.cells, configs, strict=True))
        )

    def updated(self, changes: Mapping[str, Any]) -> SweepConfig:
        """Give the sweep with some fields of every cell changed."""
        return self.over([cell.config.model_copy(update=dict(changes)) for cell in self.cells])

    @classmethod
    def parse(cls, value: SweepConfig | Mapping[str, Any]) -> SweepConfig:
        """Read what a user wrote: an experiment with a `matrix`, or with several models or prompts.

        Raises:
            ConfigError: an axis is wrong, there are too many cells, or one is no experiment; it is named.
        """
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise ConfigError(f"A sweep is a dict, not a {type(value).__name__}.")
        return cls(tuple(Cell(choices, parsed_cell(choices, one)) for choices, one in expanded(value)))


def has_matrix(value: Mapping[str, Any]) -> bool:
    """Whether an experiment, as it was written, is several."""
    return MATRIX in value or any(isinstance(value.get(name), list | tuple) for name in _LISTED)


_LISTED = ("prompt_template", "model", *MODEL_NAMES)


def parsed_cell(choices: Mapping[str, str], value: Mapping[str, Any]) -> ExperimentConfig:
    """Read one cell.

    Raises:
        ConfigError: it is no experiment; the message names the cell.
    """
    try:
        return ExperimentConfig.parse(value)
    except ConfigError as error:
        raise ConfigError(f"{said(choices)}: {error}") from None


def said(choices: Mapping[str, str]) -> str:
    """Name a cell by what was chosen: `model=openai/x, model.temperature=0.7`."""
    return ", ".join(f"{axis}={text}" for axis, text in choices.items())


def expanded(value: Mapping[str, Any]) -> list[tuple[dict[str, str], dict[str, Any]]]:
    """Give the cells of a matrix, in the order of its axes, the last one fastest.

    Returns:
        What was chosen in each, in words, and the fields of its experiment.

    Raises:
        ConfigError: an axis is wrong, or there are too many cells.
    """
    base = {name: one for name, one in value.items() if name != MATRIX}
    axes = _axes(value, base)
    count = 1
    for _, values in axes:
        count *= len(values)
    if count > MOST_CELLS:
        sizes = " × ".join(f"{len(values)} of {axis}" for axis, values in axes)
        raise ConfigError(
            f"matrix: {sizes} are {count:,} cells, and a sweep has {MOST_CELLS} at most: leave some out, or "
            "make two of it."
        )
    names = [(axis, _named(values)) for axis, values in axes]
    cells = []
    for places in itertools.product(*(range(len(values)) for _, values in axes)):
        choices = {axis: texts[place] for (axis, texts), place in zip(names, places, strict=True)}
        made = dict(base)
        # Whole models and prompts first, then the fields in them.
        for (axis, values), place in sorted(
            zip(axes, places, strict=True), key=lambda one: one[0][0].count(".")
        ):
            made = _changed(made, axis, values[place])
        cells.append((choices, made))
    return cells


def _axes(value: Mapping[str, Any], base: dict[str, Any]) -> list[tuple[str, Sequence[Any]]]:
    given = value.get(MATRIX, {})
    if not isinstance(given, Mapping):
        raise ConfigError(
            "matrix: it is a mapping of what changes to a list of values, as in {model: [openai/gpt-6-luna, "
            "openai/gpt-5.6-sol], model.temperature: [0, 0.7]}"
        )
    axes: dict[str, Sequence[Any]] = {}
    for name in _LISTED:
        if isinstance(several := value.get(name), list | tuple):
            axes["prompt_template" if name == "prompt_template" else "model"] = several
            del base[name]
    for axis, values in given.items():
        if axis in axes or axis in MODEL_NAMES:
            raise ConfigError(
                f"matrix: {axis} is there twice: name its values in one place, under {_plain(axis)}."
            )
        if axis in AXES and base.get(axis) is not None:
            raise ConfigError(
                f"matrix: {axis} is in the matrix and beside it: leave the one beside it out, or add it to "
                "the list."
            )
        axes[str(axis)] = values
    if len(axes) > MOST_AXES:
        raise ConfigError(f"matrix: {len(axes)} things change, and {MOST_AXES} may.")
    for axis, values in axes.items():
        _check_axis(axis, values)
    return list(axes.items())


def _plain(axis: str) -> str:
    return "model" if axis in MODEL_NAMES else axis


def _check_axis(axis: str, values: Any) -> None:
    root = axis.partition(".")[0]
    if root not in AXES:
        near = difflib.get_close_matches(root[:100], AXES, n=1, cutoff=0.5)
        known = f"It may change {', '.join(AXES)} and fields of these."
        raise ConfigError(
            f"matrix: {axis[:100]!r} cannot change from cell to cell, for all are ranked over the same rows "
            f"and by the same metrics. {f'Did you mean {near[0]!r}?' if near else known}"
        )
    if not isinstance(values, list | tuple) or not values:
        raise ConfigError(f"matrix: {axis} needs a list of values, as in {axis}: [a, b]")
    if len(values) > MOST_CELLS:
        raise ConfigError(
            f"matrix: {axis} has {len(values):,} values, and a sweep has {MOST_CELLS} cells at most."
        )
    for n, one in enumerate(values):
        if any(one == before and type(one) is type(before) for before in values[:n]):
            raise ConfigError(f"matrix: {axis} has the value {_text(one)} twice: leave one out.")


def _changed(made: dict[str, Any], axis: str, value: Any) -> dict[str, Any]:
    names = axis.split(".")
    if names[0] == "model" and "model" not in made and len(names) > 1:
        names[0] = next((name for name in MODEL_NAMES if name in made), "model")
    if isinstance(at := made.get(names[0]), ModelConfig) and len(names) > 1:
        made = {**made, names[0]: at.model_dump(exclude_unset=True)}
    elif isinstance(at, PromptTemplate) and len(names) > 1:
        made = {**made, names[0]: {"name": at.name, "description": at.description, **at.content()}}
    try:
        if names[0] == "prompt_template" and len(names) > 1 and isinstance(made.get(names[0]), str):
            raise TypeError(f"the prompt is the reference {made[names[0]]!r}")
        return dict(with_value(made, names, value))
    except (LookupError, TypeError) as error:
        raise ConfigError(
            f"matrix: {axis}: {error}. Fields change in a configuration, not in a reference or an object."
        ) from None


def _named(values: Sequence[Any]) -> list[str]:
    """Name the values of an axis, each differently."""
    texts = [_text(value) for value in values]
    for n, value in enumerate(values):
        if texts.count(_text(value)) > 1 and isinstance(value, Mapping):
            more = {k: v for k, v in value.items() if k != "name"}
            texts[n] = f"{texts[n]} {json.dumps(more, default=str)}"[:_CHARS] if more else texts[n]
    seen: dict[str, int] = {}
    for n, text in enumerate(texts):
        seen[text] = seen.get(text, 0) + 1
        if seen[text] > 1:
            texts[n] = f"{text} ({seen[text]})"
    return texts


def _text(value: Any) -> str:
    match value:
        case Model():
            text = value.config.name
        case ModelConfig() | Mapping() | PromptTemplate():
            name = value.get("name", value.get("code")) if isinstance(value, Mapping) else value.name
            text = json.dumps(value, default=str) if name is None else str(name)
            version = getattr(value, "version", None)
            text += f"@{version}" if version is not None else ""
        case str():
            text = value
        case bool() | int() | float() | None | list() | tuple():
            text = json.dumps(value, default=str)
        case _:
            text = getattr(value, "__name__", type(value).__name__)
    return text if len(text) <= _CHARS else f"{text[: _CHARS - 1]}…"
