"""Measures in Chromium of the Studio over a large run: time to the first usable row, elements, bytes,
requests, time to painted rows."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tests.bench.run import Target
from tests.browser.chromium import launched

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.bench.studio import Site

COLD = 7
PAINT_MS = 250
FIRST_ROW_MS = {"run": 400, "compare": 600, "500 runs": 400}
"""Milliseconds to the first usable row in a browser that knows nothing of the Studio."""
NODES, KB, REQUESTS, MORE_REQUESTS, ROWS = 2_500, 200, 15, 3, 20
# A row is usable once it is painted and the page's script answers to keys and clicks.
_FIRST_ROW = """() => new Promise(done => {
  const row = () => document.querySelector('table[data-rows] tbody tr');
  const painted = () => requestAnimationFrame(() => setTimeout(() => done(performance.now())));
  const ready = () => row() ? painted() : requestAnimationFrame(ready);
  document.readyState === 'loading' ? addEventListener('DOMContentLoaded', ready) : ready();
})"""
_SIZES = """() => {
  const seen = performance.getEntriesByType('resource');
  const all = [...performance.getEntriesByType('navigation'), ...seen];
  const kb = all.reduce((sum, e) => sum + e.transferSize, 0) / 1024;
  return {nodes: document.querySelectorAll('*').length, requests: all.length, kb};
}"""
# From the click, or the last key, to the frame that shows the rows.
_ACT = """([selector, text]) => new Promise(done => {
  performance.clearResourceTimings();
  const element = document.querySelector(selector), started = performance.now();
  document.addEventListener('htmx:afterSettle', () => requestAnimationFrame(() => setTimeout(() =>
    done({
      ms: performance.now() - started,
      requests: performance.getEntriesByType('resource').filter(e => e.transferSize).length,
    }))), {once: true});
  if (text === null) { element.click(); return; }
  element.value = text;
  element.dispatchEvent(new Event('input', {bubbles: true}));
})"""
_ON_SCREEN = """names => {
  const rows = [...document.querySelectorAll('table.cases tbody tr')];
  const inside = rows.filter(row => row.getBoundingClientRect().bottom <= innerHeight).length;
  const heads = [...document.querySelectorAll('table.cases thead th')];
  const seen = names.every(name =>
    heads.some(h => h.textContent.includes(name) && h.getBoundingClientRect().right <= innerWidth));
  return seen ? inside : 0;
}"""


@dataclass(frozen=True)
class Act:
    """Something that a person does on a page: a click on what the selector finds, or a text put into it."""

    name: str
    selector: str
    text: str | None = None


ACTS: Sequence[Act] = (
    Act("filter", "[aria-label=Outcome] a[href*='status=failed']"),
    Act("clear", "[aria-label=Outcome] a:first-child"),
    Act("sort", "thead th:nth-child(5) a"),
    Act("page", "[data-key=']']"),
    Act("search", "#q", "otter"),
)


def in_chromium(site: Site) -> list[Target]:
    """All that is promised of the pages in a browser of 1400 × 900."""
    run, other = site.runs
    pages = {
        "run": f"/runs/{run}",
        "compare": f"/compare?run={run}&run={other}",
        "summary": f"/runs/{run}?tab=summary",
        "configuration": f"/runs/{run}?tab=configuration",
        "case": f"/runs/{run}/cases/77",
        "runs": "/",
        "dataset": f"/dataset?name=made-{site.cases}",
        "prompts": "/prompts",
        "new run": f"/new?from={run}",
    }
    with launched() as browser:
        heads = ["Expected", "Answer", "exact_match", "token_f1"]
        found = _cold(browser, site.url, pages, site.slower, heads)
        found += _acts(browser, site.url + pages["run"], "run", ACTS, site.slower)
        compared = (
            Act("regressed", "[aria-label=Change] a[href*='change=regressed']"),
            Act("page", "[data-key=']']"),
            Act("search", "#q", "otter"),
        )
        return found + _acts(browser, site.url + pages["compare"], "compare", compared, site.slower)


def wide_in_chromium(site: Site) -> list[Target]:
    """The same of runs as people have them: 31 columns, 12 metrics, trials, and four of them compared."""
    four = "&".join(f"run={run}" for run in site.runs)
    run = site.runs[1]
    pages = {
        "run": f"/runs/{run}",
        "compare": f"/compare?{four}",
        "opened": f"/compare?{four}&case=7",
        "case": f"/runs/{run}/cases/7",
        "slices": f"/slices?{four}&column=column_01",
        "500 runs": "/",
    }
    with launched() as browser:
        found = _cold(browser, site.url, pages, site.slower, ["Expected", "Answer", "exact_match"])
        acts = [act for act in ACTS if act.name != "search"]
        found += _acts(browser, site.url + pages["run"], "run", acts, site.slower)
        compared = (
            Act("regressed", "[aria-label=Change] a[href*='change=regressed']"),
            Act("opened", "table.pairs a[data-row]"),
            Act("next", "article.opened [data-key^=j]"),
            Act("back", "article.opened [data-key^=u]"),
        )
        found += _acts(browser, site.url + pages["compare"], "compare", compared, site.slower)
    return [replace(target, name=f"31 columns, 12 metrics: {target.name}") for target in found]


def _opened(browser: Browser) -> Page:
    """A page of a browser that has nothing in its cache."""
    from tests.bench.studio import MINE

    size = {"width": 1400, "height": 900}
    page = browser.new_context(viewport=size, extra_http_headers=MINE).new_page()
    page.set_default_timeout(60_000)
    return page


def _cold(
    browser: Browser, url: str, pages: dict[str, str], slower: float, heads: Sequence[str]
) -> list[Target]:
    found, seen = [], dict[str, dict[str, Any]]()
    for name, path in pages.items():
        timed = name in FIRST_ROW_MS
        taken = []
        for _ in range(COLD if timed else 1):
            page = _opened(browser)
            page.goto(url + path, wait_until="commit")
            if timed:
                taken.append(page.evaluate(_FIRST_ROW))
            page.wait_for_load_state("networkidle")
            seen[name] = page.evaluate(_SIZES)
            if name == "run":
                rows = page.evaluate(_ON_SCREEN, list(heads))
            page.context.close()
        if timed:
            print(
                f"  cold {name}: first row usable after {' '.join(f'{ms:.0f}' for ms in sorted(taken))} ms",
                flush=True,
            )
            found.append(
                Target(
                    f"cold {name}: first row usable, median",
                    statistics.median(taken),
                    FIRST_ROW_MS[name] * slower,
                    "ms",
                )
            )
    for name, size in seen.items():
        print(
            f"  {name:<14} {size['nodes']:>5} elements {size['kb']:6.1f} KB {size['requests']:>3} requests",
            flush=True,
        )
    most = {what: max(size[what] for size in seen.values()) for what in ("nodes", "kb", "requests")}
    found += [
        Target("any page: elements", most["nodes"], NODES, ""),
        Target("any page: sent", most["kb"], KB, "KB"),
    ]
    found += [Target("any page, cold: requests", most["requests"], REQUESTS, "")]
    return [*found, Target("rows on the first screen", rows, ROWS, "rows", at_least=True)]


def _acts(browser: Browser, url: str, where: str, acts: Sequence[Act], slower: float) -> list[Target]:
    taken: dict[str, list[float]] = {act.name: [] for act in acts}
    requests = 0
    for _ in range(5):
        page = _opened(browser)
        page.goto(url, wait_until="networkidle")
        for act in acts:
            seen = page.evaluate(_ACT, [act.selector, act.text])
            taken[act.name].append(seen["ms"])
            requests = max(requests, seen["requests"])
        page.context.close()
    found = []
    for name, times in taken.items():
        print(
            f"  {where}, {name}: painted after {' '.join(f'{ms:.0f}' for ms in sorted(times))} ms", flush=True
        )
        found.append(
            Target(f"{where}, {name}: painted, median", statistics.median(times), PAINT_MS * slower, "ms")
        )
    return [*found, Target(f"{where}: requests of an interaction", requests, MORE_REQUESTS, "")]
