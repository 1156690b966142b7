"""The evaluators that installed packages register: made and described without knowing them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, cast, get_type_hints

from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from promptlab import plugins
from promptlab.errors import ConfigError
from promptlab.evaluators.base import Evaluator

_JSON_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number"}


def make(name: str, params: Mapping[str, Any]) -> Evaluator:
    """Make the evaluator that an installed package registers.

    Raises:
        ConfigError: it cannot be loaded or made, or is no evaluator.
    """
    made = plugins.make(plugins.EVALUATORS, name, **params)
    if not callable(getattr(made, "evaluate", None)):
        raise ConfigError(
            f"The metric {name!r} of an installed package is no evaluator but a {type(made).__name__}: "
            "update that package, or uninstall it."
        )
    return cast("Evaluator", made)


def parameters(thing: Any) -> dict[str, Any]:
    """Describe what a class or function is called with, as JSON Schema: `properties` and `required`.

    A parameter has the type that its annotation says, else that of its default; one whose type JSON does not
    know has none.
    """
    try:
        found = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return {"properties": {}}
    hints = _hints(thing)
    named = [p for p in found if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return {
        "properties": {p.name: _schema(p, hints.get(p.name)) for p in named},
        "required": [p.name for p in named if p.default is p.empty],
    }


def _hints(thing: Any) -> dict[str, Any]:
    try:
        return get_type_hints(thing.__init__ if inspect.isclass(thing) else thing)
    except (NameError, TypeError, AttributeError):  # names that are imported for type checkers only
        return {}


def _schema(parameter: inspect.Parameter, hint: Any) -> dict[str, Any]:
    default = parameter.default
    given = {"default": default} if isinstance(default, str | bool | int | float) else {}
    if hint is not None:
        try:
            return {**TypeAdapter(hint).json_schema(), **given}
        except (PydanticSchemaGenerationError, PydanticUserError):
            return given
    kind = _JSON_TYPES.get(type(default))
    return {**({"type": kind} if kind else {}), **given}
