"""Names of promptlab 0.1 that are elsewhere now: each is found at its old place,
with a DeprecationWarning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from promptlab.deprecated import PAGE, warn_old
from promptlab.models.base import Model, in_thread


class EmbeddingModel(Model):
    """An embedding model as promptlab 0.1 had it: called with one text, it gives the vector of that text."""

    def __call__(self, text: str) -> Sequence[float] | Sequence[Sequence[float]]:
        """Embed one text. A list with one vector in it is that vector."""
        raise TypeError(f"{type(self).__name__} has no __call__(self, text)")

    async def aembed(self, texts: Sequence[str]) -> list[list[float]]:
        """Embed texts by one call each, in a thread: one vector a text, in order."""
        return [_one_vector(await in_thread(self, text)) for text in texts]


def _one_vector(given: Any) -> list[float]:
    given = given.tolist() if hasattr(given, "tolist") else given
    nested = bool(given) and isinstance(given[0], Sequence) and not isinstance(given[0], str)
    if nested and len(given) != 1:
        raise ValueError(f"an embedding model gave {len(given):,} vectors for one text")
    return [float(number) for number in (given[0] if nested else given)]


_OWN: Mapping[str, tuple[type, str]] = {
    "EmbeddingModel": (
        EmbeddingModel,
        "a subclass of promptlab.Model with `async def aembed(self, texts)`, which gives a vector "
        "for each text",
    )
}


def moved(module: str, names: Sequence[str], gone: Mapping[str, str]) -> Callable[[str], Any]:
    """Make the `__getattr__` of a module whose names are in `promptlab` itself now.

    Args:
        module: the module's own name.
        names: what it had.
        gone: what it had and nothing stands for, with what to write instead.
    """

    def found(name: str) -> Any:
        if name in gone:
            raise ImportError(f"{module}.{name} of promptlab 0.1 is gone: {gone[name]} ({PAGE})")
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        if name in _OWN:
            value, instead = _OWN[name]
            warn_old(f"{module}.{name}", instead)
            return value
        warn_old(f"from {module} import {name}", f"from promptlab import {name}")
        return getattr(import_module("promptlab"), name)

    return found
