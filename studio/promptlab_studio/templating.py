"""The templates' environment: what every page of the Studio is rendered with."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = Path(__file__).parent
MACROS = {
    "m": "macros.html",
    "talk": "chat.html",
    "writing": "prompt_write.html",
    "asset_parts": "asset_parts.html",
    "run_metrics": "run_metrics.html",
    "run_parts": "run_parts.html",
    "charts_of": "chart.html",
}
"""Names that every template knows: the macros of a file each."""
STATIC = FOLDER / "static"


_INDENT = re.compile(r"\n +(?=[<{])")


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The templates; every value in them is escaped."""
    from jinja2 import (  # a tenth of a cold start, and the API needs none of it
        Environment,
        FileSystemLoader,
        StrictUndefined,
    )

    from promptlab_studio.access import is_hosted, may, takes_code, who_of
    from promptlab_studio.views.format import FILTERS
    from promptlab_studio.views.prompt_form import HINTS

    class Unindented(FileSystemLoader):
        """Templates without their indentation: it is for people who read them, and a
        third of what is sent."""

        def get_source(self, environment: Environment, template: str) -> Any:
            source, *rest = super().get_source(environment, template)
            return _INDENT.sub("\n", source), *rest

    env = Environment(
        loader=Unindented(FOLDER / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        auto_reload=False,
    )
    env.filters.update(FILTERS)
    env.globals.update(
        asset=static_file,
        is_built=lambda: bool(_manifest()),
        who_of=who_of,
        may=may,
        is_hosted=is_hosted,
        takes_code=takes_code,
        writes=HINTS,
    )
    # A part of a page is rendered without the page's own imports, so macros are there for all.
    for name, file in MACROS.items():
        env.globals[name] = env.get_template(file).module
    return env


@lru_cache(maxsize=1)
def _manifest() -> Mapping[str, str]:
    path = STATIC / "manifest.json"
    names: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    return names


def static_file(name: str) -> str:
    """The address of a front-end file, with the hash of its content in it."""
    return f"/static/{_manifest().get(name, name)}"
