"""Properties of every page at every width: nothing beyond the window, no word split inside, no number cut,
texts that can be read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from promptlab.domain.results import RunRecord
from promptlab.store_lab import StoreLab
from tests.bench.real_runs import add_many, add_wide
from tests.browser.axe import findings
from tests.browser.conftest import Site, serving
from tests.studio.test_pages import every_page

WIDTHS = (380, 720, 1024, 1280, 1400, 1920)
WALK = r"""() => {
  const found = [];
  const root = document.documentElement, width = root.clientWidth;
  if (root.scrollWidth > width) found.push(`the page is ${root.scrollWidth} px wide`);
  for (const box of document.querySelectorAll(".card, .message, .note, .chip, .button, .tag, .between")) {
    if (box.closest("[hidden], .hidden, dialog") || getComputedStyle(box).overflowX !== "visible") continue;
    if (box.scrollWidth > box.clientWidth + 1)
      found.push(`overflows: ${box.className} ${box.textContent.trim()}`);
  }
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const box = node.parentElement;
    if (!box.getClientRects().length) continue;
    if (box.closest("svg, .hidden, option, script, title, textarea")) continue;
    for (const word of node.data.matchAll(/[A-Za-z0-9]+(?:[.,@][A-Za-z0-9]+)*/g)) {
      if (word[0].length < 2 || word[0].length > 24) continue;
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const rects = [...range.getClientRects()].filter((rect) => rect.width > 0);
      if (new Set(rects.map((rect) => Math.round(rect.top))).size > 1)
        found.push(`split: ${word[0]} in ${box.tagName}`);
    }
  }
  for (const col of document.querySelectorAll("col.c-text")) {
    const cell = col.closest("table").tHead.rows[0].cells[[...col.parentElement.children].indexOf(col)];
    const wide = Math.round(cell.getBoundingClientRect().width);
    if (wide < 240) found.push(`narrow: ${cell.textContent.trim()} has ${wide} px`);
  }
  for (const cell of document.querySelectorAll("td"))
    if (/^[-+]?\d[\d.,]*(e[-+]?\d+)?$/.test(cell.textContent.trim()) && cell.scrollWidth > cell.clientWidth)
      found.push(`cut: ${cell.textContent.trim()}`);
  for (const cell of document.querySelectorAll("table.runs td:nth-child(3)")) {
    const wide = Math.round(cell.getBoundingClientRect().width);
    if (wide < 100) found.push(`narrow: the name of a run has ${wide} px`);
  }
  return found.slice(0, 5);
}"""


async def _filled(lab: StoreLab) -> list[RunRecord]:
    runs = await add_wide(lab, rows=24, runs=4)
    await add_many(lab, runs[0], 60)
    return runs


@pytest.fixture(scope="module")
def wide_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A Studio over 31 columns, 12 metrics, trials, nine kinds of error and four scripts."""
    yield from serving(tmp_path_factory.mktemp("wide"), _filled)


ZOOMED = [(width // 2, 2) for width in (1280, 1400, 1920)]
"""Windows at 200% zoom: half as wide in the page's pixels, each of two of the screen's."""


def _paths(runs: list[RunRecord]) -> dict[str, str]:
    return every_page(runs[1], runs[2]) | {
        "edit": "/?tag=wide",
        "four": "/compare?" + "&".join(f"run={run.run_id}" for run in runs),
    }


@pytest.mark.parametrize(("width", "scale"), [*((width, 1) for width in WIDTHS), *ZOOMED])
def test_every_page_is_whole_at_every_width(
    wide_site: Site, browser: Browser, width: int, scale: int
) -> None:
    """No sideways overflow, no word split inside, no number cut, no text column under 240 px; at 200% zoom,
    too."""
    context = browser.new_context(
        viewport={"width": width, "height": 900 // scale}, device_scale_factor=scale
    )
    page = context.new_page()
    found: dict[str, Any] = {}
    for name, path in _paths(wide_site.runs).items():
        page.goto(wide_site.url + path)
        if wrong := page.evaluate(WALK):
            found[name] = wrong
    context.close()
    assert found == {}


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_over_wide_data(wide_site: Site, browser: Browser, scheme: Any) -> None:
    """Many metrics, trials, errors, scripts and runs break no rule of it, with menus open and shut."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    found = {}
    for name, path in _paths(wide_site.runs).items():
        page.goto(wide_site.url + path)
        found[name, "shut"] = findings(page, colours_only=scheme == "dark")
        if page.locator("details.menu").count():
            page.evaluate("document.querySelectorAll('details.menu').forEach(menu => menu.open = true)")
            found[name, "open"] = findings(page, within="details.menu", colours_only=scheme == "dark")
    context.close()
    assert {where: rules for where, rules in found.items() if rules} == {}


def test_cases_are_on_the_first_screen(wide_site: Site, browser: Browser) -> None:
    """Four compared runs with twelve metrics leave room for the first at 1400 × 900; the page of one run for
    twenty."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.goto(wide_site.url + "/compare?" + "&".join(f"run={run.run_id}" for run in wide_site.runs))
    box = page.locator("table.pairs tbody tr").first.bounding_box()
    page.goto(f"{wide_site.url}/runs/{wide_site.runs[1].run_id}")
    twentieth = page.locator("table.cases tbody tr").nth(19).bounding_box()
    context.close()
    assert twentieth is not None and twentieth["y"] + twentieth["height"] <= 900
    assert box is not None and box["y"] + box["height"] <= 900


def test_a_cell_shows_the_beginning_of_an_arabic_answer(wide_site: Site, browser: Browser) -> None:
    """Text that runs from the right begins at the right of its cell."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.goto(f"{wide_site.url}/runs/{wide_site.runs[1].run_id}")
    cell = page.locator("tbody td", has_text="المبلغ").first
    assert cell.evaluate("cell => getComputedStyle(cell).direction") == "rtl"
    assert (
        page.locator("tbody td", has_text="The total is").first.evaluate("c => getComputedStyle(c).direction")
        == "ltr"
    )
    context.close()
