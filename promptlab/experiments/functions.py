"""Evaluators that are plain functions: of a dict of inputs, or of named inputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, overload

from promptlab.evaluators.base import Evaluator

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS = "__promptlab_evaluator__"
"""The attribute of a function that says how it is to be used."""
_NAMED = ("response", "reference")
"""Names of inputs: a function with one parameter of these names is given that input, any other the dict."""
_DEFAULTS = {"response": "$inference"}


@overload
def evaluator(function: F, /) -> F: ...


@overload
def evaluator(
    *,
    higher_is_better: bool | Mapping[str, bool] = True,
    inputs: Mapping[str, str | None] | Sequence[str] | None = None,
    scores: Sequence[str] = (),
    value_range: tuple[float, float] | None = None,
) -> Callable[[F], F]: ...


def evaluator(
    function: Callable[..., Any] | None = None,
    /,
    *,
    higher_is_better: bool | Mapping[str, bool] = True,
    inputs: Mapping[str, str | None] | Sequence[str] | None = None,
    scores: Sequence[str] = (),
    value_range: tuple[float, float] | None = None,
) -> Any:
    """Say how a function is to be used as an evaluator; the function itself stays as it is.

    Args:
        function: the function, where nothing else is said.
        higher_is_better: whether a higher value is a better one; by name where there are several scores.
        inputs: the inputs that it reads, by name: input → its default mapping, or None when the user must
            map it; or the names alone. By default its parameters.
        scores: the names of its scores, where it gives several: each is then a metric of its own.
        value_range: the least and the greatest value.

    Raises:
        TypeError: `inputs` is one name, not a list of them.
    """
    if isinstance(inputs, str):
        raise TypeError(f'inputs are a list or a dict, as in inputs=["{inputs}"]')
    said: dict[str, Any] = {"higher_is_better": higher_is_better, "scores": tuple(scores)}
    if value_range is not None:
        said["value_range"] = value_range
    if inputs is not None:
        known = inputs if isinstance(inputs, Mapping) else {name: _DEFAULTS.get(name) for name in inputs}
        said["inputs"] = dict(known)

    def marked(function: F) -> F:
        setattr(function, OPTIONS, said)
        return function

    return marked if function is None else marked(function)


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
        self.inputs = said.get("inputs") or {name: _DEFAULTS.get(name) for name in required}
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
