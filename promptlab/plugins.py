"""Plug-ins: model providers and evaluators that installed packages register by entry
point. Loaded when first used.

In a package's pyproject.toml:

    [project.entry-points."promptlab.providers"]
    acme = "acme_promptlab:AcmeModel"

    [project.entry-points."promptlab.evaluators"]
    politeness = "acme_promptlab:Politeness"
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from promptlab.domain.results import described
from promptlab.errors import ConfigError

Group = Literal["promptlab.providers", "promptlab.evaluators"]
PROVIDERS: Group = "promptlab.providers"
EVALUATORS: Group = "promptlab.evaluators"

_loaded: dict[tuple[str, str], Any] = {}


def names(group: Group) -> list[str]:
    """Return the registered names, sorted. Nothing is loaded."""
    return sorted({point.name for point in entry_points(group=group)})


def load(group: Group, name: str) -> Any:
    """The object that a package registers under a name; None where none does.

    Raises:
        ConfigError: two packages register the name, or it cannot be loaded; the message names the package.
    """
    if (group, name) not in _loaded:
        found = list(dict.fromkeys(entry_points(group=group, name=name)))
        if not found:
            return None
        if len({point.value for point in found}) > 1:
            raise ConfigError(
                f"{name!r} is registered by {' and by '.join(map(origin, found))} ({group}): remove one of "
                "them."
            )
        _loaded[group, name] = guarded(found[0], found[0].load)
    return _loaded[group, name]


def make(group: Group, name: str, *args: Any, **params: Any) -> Any:
    """An object of what a package registers.

    Raises:
        ConfigError: it cannot be loaded or made; the message names the package.
    """
    thing = load(group, name)
    point = next(iter(entry_points(group=group, name=name)))
    return guarded(point, lambda: thing(*args, **params))


def guarded(point: EntryPoint, work: Callable[[], Any]) -> Any:
    """Call a plug-in's code; an error that it raises names the plug-in.

    Raises:
        ConfigError: it raised.
    """
    try:
        return work()
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"{point.name!r} of {origin(point)} cannot be used: {described(error)}. "
            "Update that package, or uninstall it."
        ) from error


def origin(point: EntryPoint) -> str:
    """The package and the object, for messages."""
    package = f"the package {point.dist.name} {point.dist.version}" if point.dist else "a package"
    return f"{package} ({point.value})"
