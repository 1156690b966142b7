"""Finds a class or function by its names: what a pickled object refers to, where its module has another name
than where it was pickled."""

from __future__ import annotations

import importlib
from functools import reduce
from typing import Any


def by_name(module: str, qualname: str) -> Any:
    """Import a module, and give what it calls `qualname`."""
    return reduce(getattr, qualname.split("."), importlib.import_module(module))
