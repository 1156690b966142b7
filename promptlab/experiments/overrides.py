"""Changes to an experiment's fields: `model.temperature=0`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from promptlab.errors import ConfigError

MOST, CHARS = 100, 10_000
"""How many changes there may be, and how long each."""
MODEL_NAMES = ("inference_model", "inference_model_config", "completion_model", "completion_model_config")


def changed(value: Mapping[str, Any], changes: Sequence[str], parse: Callable[[str], Any]) -> dict[str, Any]:
    """Give an experiment's fields with some of them changed.

    A change is `PATH=VALUE`; a path is names joined by dots, and in a list a number from 0 or, in
    `evaluation`, a metric's name. What is not there yet is added; a wrong name is then found as one
    of the file would be.

    Args:
        value: the fields.
        changes: the changes, made one after the other.
        parse: reads a value, as YAML.

    Raises:
        ConfigError: a change cannot be made; the message has it.
    """
    if len(changes) > MOST:
        raise ConfigError(f"{len(changes):,} changes with --set: {MOST} at most. Write a file of its own.")
    made = dict(value)
    for change in changes:
        path, equals, text = change.partition("=")
        shown = change if len(change) <= 80 else change[:79] + "…"
        if not equals or not path.strip() or len(change) > CHARS:
            raise ConfigError(
                f"--set {shown!r}: give PATH=VALUE with at most {CHARS:,} characters, as in "
                "model.temperature=0"
            )
        names = path.strip().split(".")
        if names[0] == "model" and "model" not in made:
            names[0] = next((name for name in MODEL_NAMES if name in made), "model")
        try:
            made = with_value(made, names, parse(text))
        except (LookupError, TypeError) as error:
            raise ConfigError(f"--set {shown!r}: {error}") from None
    return made


def with_value(at: Any, names: Sequence[str], value: Any) -> Any:
    """Give a copy of `at` in which the value is at a path."""
    if not names:
        return value
    name, rest = names[0], names[1:]
    if isinstance(at, list | tuple):
        place = _place(at, name)
        return [with_value(item, rest, value) if n == place else item for n, item in enumerate(at)]
    if isinstance(at, str):
        # `model: openai/x` is short for `model: {name: openai/x}`.
        at = {"name": at}
    if at is None:
        at = {}
    if not isinstance(at, Mapping):
        raise TypeError(f"there is nothing called {name!r} in {at!r}")
    return {**at, name: with_value(at.get(name), rest, value)}


def _place(items: Sequence[Any], name: str) -> int:
    if name.isascii() and name.isdecimal() and len(name) < 10 and int(name) < len(items):
        return int(name)
    known = [item.get("name") or item.get("metric") for item in items if isinstance(item, Mapping)]
    if name in known:
        return next(
            n
            for n, item in enumerate(items)
            if isinstance(item, Mapping) and (item.get("name") or item.get("metric")) == name
        )
    raise LookupError(f"there is no {name!r} in this list of {len(items)}: {', '.join(map(str, known))}")
