"""The decorator of functions that are evaluators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, overload

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS = "__promptlab_evaluator__"
"""The attribute of a function that says how it is to be used."""
DEFAULTS = {"response": "$inference"}
"""Names of inputs that are mapped by themselves."""


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
        known = inputs if isinstance(inputs, Mapping) else {name: DEFAULTS.get(name) for name in inputs}
        said["inputs"] = dict(known)

    def marked(function: F) -> F:
        setattr(function, OPTIONS, said)
        return function

    return marked if function is None else marked(function)
