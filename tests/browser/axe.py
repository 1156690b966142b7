"""axe over a page of a browser."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

_SOURCE = Path(__file__).parents[2] / "frontend/node_modules/axe-core/axe.min.js"
_OF_COLOURS = ("color-contrast", "link-in-text-block")


def findings(page: Page, *, within: str | None = None, colours_only: bool = False) -> dict[str, list[str]]:
    """The rules that a page breaks, of whatever impact, each with the HTML of up to three elements.

    Args:
        within: a selector; nothing outside is looked at. A page's menus are 1% of it, and axe takes seconds.
        colours_only: look at colours only: whatever else there is, another scheme does not change.
    """
    page.evaluate(_SOURCE.read_text())
    options = {"resultTypes": ["violations"]}
    if colours_only:
        options["runOnly"] = [*_OF_COLOURS]
    found = page.evaluate(
        "([within, options]) => axe.run(within ?? document, options).then(done => done.violations)",
        [within, options],
    )
    return {rule["id"]: [node["html"][:120] for node in rule["nodes"][:3]] for rule in found}
