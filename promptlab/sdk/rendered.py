"""Tables as text, for `print` and for notebooks."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

WIDTH = 120


def rendered(what: RenderableType) -> str:
    """Render it as plain text of at most 120 columns."""
    from rich.console import Console

    console = Console(
        width=WIDTH,
        no_color=True,
        force_terminal=False,
        markup=False,
        emoji=False,
        highlight=False,
        record=True,
        file=StringIO(),
        force_jupyter=False,
    )
    console.print(what)
    return console.export_text().rstrip()
