"""Draws docs/images/layers.svg: the layers that import-linter holds, with what each part is for.

.venv/bin/python infra/layers_picture.py
"""

from __future__ import annotations

import ast
import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "layers.svg"
WIDTH, ROW, GAP, TOP = 860, 46, 8, 34
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.name { font: 600 13px ui-monospace, Menlo, Consolas, monospace }
.note { font-size: 11px; fill: #59636e }
rect { fill: #f6f8fa; stroke: #8c959f }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .note { fill: #9198a1 } rect { fill: #161b22; stroke: #6e7681 }
}"""


def layers() -> list[list[str]]:
    """Give the layers of pyproject.toml, top down; modules of one layer do not know each other."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (contract,) = settings["tool"]["importlinter"]["contracts"]
    return [[name.strip() for name in layer.split(":")] for layer in contract["layers"]]


def purpose(module: str) -> str:
    """Give the first sentence of a module's docstring."""
    path = ROOT.joinpath(*module.split("."))
    if module.startswith("promptlab_studio"):
        path = ROOT / "studio" / path.relative_to(ROOT)
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(source.read_text())) or ""
    return docstring.split("\n\n")[0].replace("\n", " ").replace("`", "").partition(". ")[0].rstrip(".")


def cut(text: str, room: float) -> str:
    """Cut a note at a word, where it is longer than the room (in pixels) that its box has."""
    most = int(room / 6)
    return text if len(text) <= most else text[: most - 1].rpartition(" ")[0].rstrip(",;:") + " …"


def draw() -> str:
    """Give the picture as SVG, for light and for dark pages."""
    boxes, rows = [], layers()
    for number, names in enumerate(rows):
        y, width = TOP + number * (ROW + GAP), (WIDTH - GAP * (len(names) - 1)) / len(names)
        for place, name in enumerate(names):
            x = place * (width + GAP)
            short = escape(name.removeprefix("promptlab."))
            note = escape(cut(purpose(name), width - 20))
            boxes.append(
                f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{ROW}" rx="6"/>\n'
                f'<text class="name" x="{x + 10:.1f}" y="{y + 19}">{short}</text>\n'
                f'<text class="note" x="{x + 10:.1f}" y="{y + 36}">{note}</text>'
            )
    height = TOP + len(rows) * (ROW + GAP)
    inner = "\n".join(boxes)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="-10 0 {WIDTH + 20} {height}" role="img"
 aria-label="The layers of the code, top down">
<style>{STYLE}
</style>
<text x="0" y="20">Each part may import those below it, and none above or beside it.</text>
{inner}
</svg>
"""


if __name__ == "__main__":
    PICTURE.write_text(draw())
