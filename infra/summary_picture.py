"""Draws docs/images/summary.svg: the summary that `make demo` prints, of a run made now.

.venv/bin/python infra/summary_picture.py
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from promptlab import PromptLab
from promptlab.report import table

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "summary.svg"
WIDTH = 84
# A dark panel of its own, so that it reads alike on a light and on a dark page.
THEME = TerminalTheme(
    (27, 31, 36),
    (225, 228, 232),
    [
        (27, 31, 36),
        (248, 81, 73),
        (86, 211, 100),
        (227, 179, 65),
        (108, 182, 255),
        (210, 168, 255),
        (86, 212, 221),
        (225, 228, 232),
    ],
)
# As Rich's own, without its frame and without the fonts that it would fetch from the web.
FORMAT = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" \
role="img" aria-label="The summary of a run">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, "Fira Code", Menlo, Consolas, "DejaVu Sans Mono", monospace;
font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs>{lines}</defs>
<rect width="{width}" height="{height}" rx="8" fill="#1b1f24" stroke="#6e7681"/>
<g transform="translate({terminal_x}, 24)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "async_example"
        shutil.copytree(
            ROOT / "samples" / "async_example", folder, ignore=shutil.ignore_patterns("promptlab.db*")
        )
        env = {**os.environ, "PROMPTLAB_SAMPLE_MODEL": "simulated/demo", "PROMPTLAB_SAMPLE_SERVE": "0"}
        subprocess.run(
            [sys.executable, "async_example.py"], cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL
        )
        with PromptLab({"type": "sqlite", "db_file": str(folder / "promptlab.db")}) as pl:
            (run,) = pl.experiment.list()
            PICTURE.parent.mkdir(parents=True, exist_ok=True)
            PICTURE.write_text(picture(run.record), encoding="utf-8")


def picture(run: object) -> str:
    console = Console(
        width=WIDTH, record=True, file=StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print("[dim]$[/] make demo\n", highlight=False)
    console.print(table(run))  # type: ignore[arg-type]
    svg = console.export_svg(theme=THEME, code_format=FORMAT, unique_id="summary", font_aspect_ratio=0.61)
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


if __name__ == "__main__":
    main()
