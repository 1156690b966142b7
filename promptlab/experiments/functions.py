"""Evaluators that are plain functions: of a dict of inputs, or of named inputs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.decorator import DEFAULTS, OPTIONS

_NAMED = ("response", "reference")
"""Names of inputs: a function with one parameter of these names is given that input, any other the dict."""


class FunctionEvaluator(Evaluator):
    """Scores with a function, sync or async: `function(data, **params)`, or one of named inputs, as in
    `function(response, reference, **params)`."""

    def __init__(self, function: Any, params: Mapping[str, Any]) -> None:
        """Read the function's signature and what `@evaluator` says.

        A function with one parameter besides `params` gets all inputs as a dict, unless the parameter is
        called response or reference, or is one of the inputs that `@evaluator` names.
        """
        said: Mapping[str, Any] = getattr(function, OPTIONS, {})
        named = named_inputs(function, params, said.get("inputs"))
        for name, value in said.items():
            setattr(self, name, value)
        self.function = partial(function, **params)
        if named is None:
            self.evaluate = self.function  # type: ignore[method-assign]
            return
        required, self.optional, self.takes_all = named
        self.inputs = said.get("inputs") or {name: DEFAULTS.get(name) for name in required}
        if inspect.iscoroutinefunction(function):
            self.evaluate = self._named_async  # type: ignore[method-assign]
        else:
            self.evaluate = self._named  # type: ignore[method-assign]

    def _given(self, data: Mapping[str, Any]) -> dict[str, Any]:
        if self.takes_all:
            return dict(data)
        return {name: data[name] for name in (*self.inputs, *self.optional) if name in data}

    def _named(self, data: dict[str, Any]) -> Any:
        return self.function(**self._given(data))

    async def _named_async(self, data: dict[str, Any]) -> Any:
        return await self.function(**self._given(data))


def named_inputs(
    function: Any, params: Mapping[str, Any], inputs: Mapping[str, Any] | None
) -> tuple[list[str], list[str], bool] | None:
    """Find the inputs that a function has parameters for: those that it needs, those with a default, and
    whether it takes any further one; None for a function of one dict."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):
        return None
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    if any(p.kind is inspect.Parameter.POSITIONAL_ONLY for p in parameters):
        return None
    free = [p for p in parameters if p.kind in kinds and p.name not in params]
    required = [p.name for p in free if p.default is inspect.Parameter.empty]
    optional = [p.name for p in free if p.default is not inspect.Parameter.empty]
    takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    one_dict = len(required) == 1 and required[0] not in (*_NAMED, *(inputs or ()))
    if one_dict or (not required and not (takes_all or inputs or set(optional) & set(_NAMED))):
        return None
    return required, optional, takes_all
