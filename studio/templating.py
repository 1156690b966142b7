"""The templates' environment: what every page of the Studio is rendered with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The templates; every value in them is escaped."""
    from studio.pages.format import FILTERS

    env = Environment(
        loader=FileSystemLoader(FOLDER / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, auto_reload=False
    )
    env.filters.update(FILTERS)
    env.globals.update(asset=static_file, is_built=lambda: bool(_manifest()))
    return env


@lru_cache(maxsize=1)
def _manifest() -> Mapping[str, str]:
    path = STATIC / "manifest.json"
    names: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    return names


def static_file(name: str) -> str:
    """The address of a front-end file, with the hash of its content in it."""
    return f"/static/{_manifest().get(name, name)}"
