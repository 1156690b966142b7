"""Pictures of every page, in light and dark, wide and narrow: `python -m tests.browser.screenshots FOLDER`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from promptlab.domain.results import RunRecord
from promptlab.lab import Lab
from tests.browser import labs
from tests.browser.conftest import ARGS, CHROMIUM, serving
from tests.browser.test_every_page import paths

SIZES = {"wide": (1400, 900), "narrow": (380, 820)}


async def _fill(lab: Lab) -> list[RunRecord]:
    await labs.add_assets(lab, rows=400)
    return await labs.add_runs(lab)


def main(folder: Path) -> None:
    """Take the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGS))
        for site in serving(Path(scratch), _fill):
            for scheme in ("light", "dark"):
                for size, (width, height) in SIZES.items():
                    page = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme).new_page()  # type: ignore[arg-type]
                    for name, path in paths(site.runs).items():
                        page.goto(site.url + path)
                        page.screenshot(path=folder / f"{name}-{scheme}-{size}.png")
                    page.context.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
