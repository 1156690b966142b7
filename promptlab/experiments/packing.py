"""Pickles an object that has a state of its own: what is the user's source text goes as text, and the pickle
refers to it; what only this process has (a notebook's cells, functions within functions) goes by value.

Nothing here, and nothing in a lab, ever loads such a pickle: only the sandbox does.
"""

from __future__ import annotations

import base64
import io
import sys
from dataclasses import dataclass, field
from functools import reduce
from types import FunctionType, ModuleType
from typing import Any

from promptlab.by_name import by_name
from promptlab.domain.results import described
from promptlab.errors import ConfigError
from promptlab.experiments.sources import check_no_key
from promptlab.models.base import Model
from promptlab.models.registry import get_model, is_registered

MOST_BYTES = 3 << 20
"""The largest object: as base64 it is a third longer, and a bundle has 4 MB."""


@dataclass(slots=True)
class Packed:
    """A pickled object, and what it refers to."""

    pickled: str
    """Base64."""
    script_names: set[str] = field(default_factory=set)
    """Names of the script that was started."""
    modules: set[str] = field(default_factory=set)
    has_bytecode: bool = False
    """Whether functions or classes are in it by value: such a pickle is for one version of Python."""


class _TooLargeError(Exception):
    """The pickle has become longer than may be."""


class _Bounded(io.BytesIO):
    """Takes MOST_BYTES, and no more: an object may hold gigabytes."""

    def write(self, data: Any) -> int:
        if self.tell() + memoryview(data).nbytes > MOST_BYTES:
            raise _TooLargeError
        return super().write(data)


def pack(what: str, thing: Any, script: str | None) -> Packed:
    """Pickle an object.

    Args:
        what: names it, for messages.
        thing: the object.
        script: the module that the started script is in the bundle; None where its source is nowhere.

    Raises:
        ConfigError: something in it cannot be pickled, is too large, or is a key.
    """
    found = Packed("")
    data = _Bounded()
    try:
        _pickler(data, found, script).dump(thing)
    except _TooLargeError:
        raise ConfigError(
            f"{what} is more than {MOST_BYTES >> 20} MB as an object, which is the most that can be sent. "
            "Keep "
            "data out of it, as in a dataset's column, or let it make the data when it is first needed."
        ) from None
    except Exception as error:
        raise ConfigError(
            f"{what} cannot be sent: {described(error)}. Let it make what cannot be sent when it is first "
            "needed, or name its class as text, with its arguments as params: 'path/to/file.py:Class'."
        ) from error
    raw = data.getvalue()
    check_no_key(what, raw.decode("latin-1"))
    found.pickled = base64.b64encode(raw).decode()
    return found


def _pickler(data: io.BytesIO, found: Packed, script: str | None) -> Any:
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, thing: Any) -> Any:
            if isinstance(thing, Model) and is_registered(thing):
                # It holds connections; what it is, its configuration says. Keys stay here.
                return get_model, (thing.config.public(),)
            if isinstance(thing, ModuleType):
                found.modules.add(thing.__name__)
            elif isinstance(thing, type | FunctionType):
                module, name = thing.__module__, thing.__qualname__
                if not _has(module, name, thing):
                    found.has_bytecode = True
                elif module != "__main__":
                    found.modules.add(module)
                elif script is not None:
                    found.script_names.add(name.partition(".")[0])
                    return by_name, (script, name)
                else:
                    found.has_bytecode = True
            return super().reducer_override(thing)

    return Pickler(data)


def _has(module: str, name: str, thing: Any) -> bool:
    """Whether a module has an object under its name, so that another process finds it there."""
    try:
        return reduce(getattr, name.split("."), sys.modules[module]) is thing
    except (KeyError, AttributeError, TypeError):
        return False
