"""Pictures of every page, in light and dark, wide and narrow: `python -m tests.browser.screenshots FOLDER
[NAME …]`; those of docs/studio.md, over real data where that is here: `… docs/images --docs [NAME …]`."""

from __future__ import annotations

import base64
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from playwright.sync_api import Browser, Page

from promptlab.domain.labels import CaseLabel
from promptlab.domain.results import RunRecord
from promptlab.store_lab import StoreLab
from tests.bench.real_runs import add_gsm8k, add_wide, has_gsm8k
from tests.bench.word_problems import add_word_problems
from tests.browser.access_site import hosted, log_in
from tests.browser.chromium import launched
from tests.browser.conftest import Site, serving
from tests.browser.judged_lab import add_judged
from tests.browser.labs import add_assets, add_code, add_labels, add_runs, add_sweep

SIZES = {"wide": (1400, 900), "narrow": (380, 820)}
SCHEMES = ("light", "dark")
SLOWEST_WRONG = """SELECT "case", response, "input.answer", latency_ms
FROM cases WHERE "score.numeric_match" = 0 ORDER BY latency_ms DESC"""
ACCESS = ("tokens", "people", "audit", "projects", "doctor")
"""Pages of a hosted Studio that docs/studio.md shows."""
OPENED = {
    "help": "[data-opens=help]",
    "columns": "#columns > summary",
    "edit": "#edit-runs > summary",
}
"""What is opened for a picture."""


def _places(runs: list[RunRecord]) -> dict[str, str]:
    """Every page over the word problems, by name."""
    before, run = runs[1].run_id, runs[2].run_id
    return {
        "runs": "/",
        "charts": "/?charts=1",
        "edit": "/?tag=candidate",
        "nothing": "/?q=nowhere",
        "run": f"/runs/{run}",
        "run-filtered": f"/runs/{run}?fail=numeric_match",
        "columns": f"/runs/{run}",
        "summary": f"/runs/{run}?tab=summary",
        "sql": f"/runs/{run}?tab=sql",
        "sql-asked": f"/runs/{run}?{urlencode({'tab': 'sql', 'sql': SLOWEST_WRONG})}",
        "configuration": f"/runs/{run}?tab=configuration",
        "case": f"/runs/{run}/cases/3",
        "compare": f"/compare?run={before}&run={run}",
        "compare-all": "/compare?" + "&".join(f"run={one.run_id}" for one in runs[1:]),
        "prompts": "/prompts",
        "prompt": "/prompt?name=solve&version=1&against=0",
        "prompt-edit": "/prompt/edit?name=solve",
        "datasets": "/datasets",
        "dataset": "/dataset?name=word-problems",
        "new": f"/new?from={run}",
        "code": "/code",
        "source": "/source?name=scoring&version=1&against=0",
        "code-new": "/code/new?name=scoring",
        "new-code": "/new?dataset=word-problems@0&prompt=solve@1&model=simulated/demo"
        "&code=scoring@1/scoring.rules:Politeness",
        "problem": "/runs/nothing",
        "help": "/",
    }


async def _filled(lab: StoreLab) -> list[RunRecord]:
    await add_code(lab)
    return await add_word_problems(lab)


async def _nothing(lab: StoreLab) -> None:
    return None


def _pages(browser: Browser) -> list[tuple[str, Page]]:
    """A browser's page of each size and scheme, and how its pictures are called."""
    made = []
    for scheme in SCHEMES:
        for size, (width, height) in SIZES.items():
            wanted: dict[str, Any] = {"viewport": {"width": width, "height": height}, "color_scheme": scheme}
            made.append((f"{scheme}-{size}", browser.new_context(**wanted).new_page()))
    return made


def _moving(site: Site) -> str:
    """The address of a run that goes on for a while."""

    async def start(lab: StoreLab) -> str:
        model = {
            "name": "simulated/slow",
            "latency_ms": 400,
            "failure_rate": 0.05,
            "max_retries": 0,
            "max_concurrent_tasks": 4,
            "input_usd_per_mtok": 2.5,
            "output_usd_per_mtok": 10.0,
        }
        config = {
            "name": "word problems",
            "prompt_template": "solve",
            "dataset": "word-problems",
            "model": model,
            "evaluation": [{"metric": "numeric_match", "column_mapping": {"reference": "answer"}}],
            "tags": ["nightly"],
        }
        return (await lab.start(config)).run_id

    return f"/runs/{site.call(start)}"


def main(folder: Path, only: Sequence[str] = ()) -> None:
    """Take the pictures: of every page, and of what is only there for a moment."""
    folder.mkdir(parents=True, exist_ok=True)

    def take(page: Page, address: str, name: str, kind: str) -> None:
        page.goto(address)
        page.screenshot(path=folder / f"{name}-{kind}.png")

    with tempfile.TemporaryDirectory() as scratch, launched() as browser:
        shown = _pages(browser)
        for site in serving(Path(scratch), _filled):
            for name, path in _places(site.runs).items():
                if only and name not in only:
                    continue
                for kind, page in shown:
                    page.goto(site.url + path)
                    if name in OPENED:
                        page.locator(OPENED[name]).click()
                    page.screenshot(path=folder / f"{name}-{kind}.png")
            if not only or "moving" in only:
                path = _moving(site)
                for kind, page in shown:
                    page.goto(site.url + path)
                    page.screenshot(path=folder / f"moving-{kind}.png")
                    page.get_by_role("button", name="Cancel").click()
                    page.screenshot(path=folder / f"moving-asked-{kind}.png")
        for site in serving(Path(scratch) / "empty", _nothing):
            for name, path in {
                "empty-runs": "/",
                "empty-prompts": "/prompts",
                "empty-datasets": "/datasets",
                "empty-new": "/new",
            }.items():
                for kind, page in shown if not only or name in only else ():
                    page.goto(site.url + path)
                    page.screenshot(path=folder / f"{name}-{kind}.png")
        _scored(Path(scratch) / "scored", take, shown, only or tuple(SCORED))
        _access(Path(scratch) / "hosted", take, shown, only)


Take = Callable[[Page, str, str, str], None]
"""Goes to an address and takes its picture, of a name and a kind."""


def _access(store: Path, take: Take, shown: Sequence[tuple[str, Page]], only: Sequence[str]) -> None:
    """Who gets in: the login, and then as an admin."""
    places = ("login", "tokens", "people", "deletions", "audit", "projects", "doctor")
    if only and not set(places) & set(only):
        return
    with hosted(store) as studio:
        for kind, page in shown:
            for name in places:
                if not only or name in only:
                    take(page, f"{studio.url}/{name}", name, kind)
                log_in(page.context, studio)


SCORED = {
    "score": "/runs/{run}/score",
    "label": "/runs/{run}/label?n=30&seed=1",
    "drift": "/drift?run={before}&run={run}&metric=numeric_match",
    "sweep": "/sweeps/{sweep}",
}
"""The pages of labels, of drift and of a sweep, by name."""


def _scored(store: Path, take: Take, shown: Sequence[tuple[str, Page]], only: Sequence[str]) -> None:
    """The pages of SCORED, over runs with labels of people, and a sweep."""

    async def fill(lab: StoreLab) -> list[RunRecord]:
        await add_assets(lab, rows=400)
        runs = await add_runs(lab)
        await add_labels(lab, runs[2], "numeric_match")
        sweep = await lab.get_sweep(await add_sweep(lab, (0.72, 0.86, 0.87, 0.9)))
        return [runs[1], runs[2], await lab.get_run(sweep.run_ids[0])]

    if not set(SCORED) & set(only):
        return
    store.mkdir()
    for site in serving(store, fill):
        before, run, of_sweep = site.runs
        for name in SCORED.keys() & set(only):
            path = SCORED[name].format(before=before.run_id, run=run.run_id, sweep=of_sweep.sweep)
            for kind, page in shown:
                take(page, site.url + path, name, kind)


async def _real(lab: StoreLab) -> list[RunRecord]:
    """Word problems of three simulated models; 31 columns with 12 metrics; and the real answers of four
    models to GSM8K, or word problems in their place."""
    await add_code(lab)
    problems = await add_word_problems(lab)
    wide = await add_wide(lab)
    runs = [*problems, *wide, *(await add_gsm8k(lab) if has_gsm8k() else problems[:4])]
    answers = [row async for row in lab.results(runs[-2].run_id)]
    for rater in ("Ines", "Kofi"):
        labels = [_said(row, rater, n) for n, row in enumerate(answers[:120]) if n % 3 or rater == "Ines"]
        await lab.labels.put(runs[-2].run_id, labels, rater=rater.lower(), rater_name=rater)
    return runs


def _said(row: dict[str, Any], rater: str, n: int) -> CaseLabel:
    """What a person says of an answer: mostly what the metric says."""
    right = bool(row["passed.numeric_match"]) != (n % (29 if rater == "Ines" else 23) == 5)
    note = None if right else "adds where it should multiply" if n % 2 else "stops a step too early"
    tag = None if right else "wrong step" if n % 2 else "unfinished"
    return CaseLabel(case=row["case"], metric="numeric_match", passed=right, tag=tag, note=note, random=True)


def _documented(runs: list[RunRecord]) -> dict[str, str]:
    """The pages of docs/studio.md, by the names of their pictures."""
    (_, before, run, _), wide, problems = runs[-4:], runs[-8:-4], runs[:5]
    compared = f"/compare?run={before.run_id}&run={run.run_id}"
    return {
        "runs": "/",
        "charts": "/?charts=1",
        "run": f"/runs/{run.run_id}",
        "run-wide": f"/runs/{wide[1].run_id}",
        "summary": f"/runs/{run.run_id}?tab=summary",
        "labels": f"/runs/{run.run_id}?tab=labels",
        "sql": f"/runs/{run.run_id}?{urlencode({'tab': 'sql', 'sql': SLOWEST_WRONG})}",
        "configuration": f"/runs/{run.run_id}?tab=configuration",
        "case": f"/runs/{run.run_id}/cases/12?fail=numeric_match",
        "compare": compared,
        "compare-case": f"{compared}&change=regressed&case=4",
        "compare-all": "/compare?" + "&".join(f"run={one.run_id}" for one in wide),
        "slices": f"/slices?run={problems[1].run_id}&run={problems[2].run_id}&column=topic",
        "prompt": "/prompt?name=solve&version=1&against=0",
        "prompt-edit": "/prompt/edit?name=solve",
        "dataset": "/dataset?name=wide",
        "new": f"/new?from={problems[2].run_id}",
        "playground": "/playground?prompt=solve&dataset=word-problems",
        "source": "/source?name=scoring&version=1&against=0",
    }


JUDGED = ("judge-queue", "judge-check", "judge-refused", "judge-compare")


def _judged(runs: list[RunRecord]) -> dict[str, str]:
    """The pages of docs/judges.md: a blind queue, a judge whom people follow, and one whom they do not."""
    first, second = (run.run_id for run in runs)
    places = (f"/runs/{first}/label?n=300&seed=7", f"/runs/{first}?tab=labels", f"/runs/{second}?tab=labels")
    return dict(zip(JUDGED, (*places, f"/compare?run={first}&run={second}"), strict=True))


def for_docs(folder: Path, only: Sequence[str] = ()) -> None:
    """Take the pictures of docs/studio.md and docs/judges.md: `NAME-light.webp` and `NAME-dark.webp`, of
    1400 × 900."""

    def take(page: Page, address: str, name: str, kind: str) -> None:
        page.goto(address, wait_until="networkidle")
        asked = {"format": "webp", "quality": 82}
        taken = page.context.new_cdp_session(page).send("Page.captureScreenshot", asked)
        picture = folder / f"{name}-{kind.removesuffix('-wide')}.webp"
        picture.write_bytes(base64.b64decode(taken["data"]))

    with tempfile.TemporaryDirectory() as scratch, launched() as browser:
        shown = [(kind, page) for kind, page in _pages(browser) if kind.endswith("-wide")]
        for number, (fill, places) in enumerate(((_real, _documented), (add_judged, _judged))):
            if only and not set(only) & set(JUDGED) and fill is add_judged:
                continue
            if only and set(only) <= set(JUDGED) and fill is _real:
                continue
            for site in serving(Path(scratch) / str(number), fill):
                for name, path in places(site.runs).items():
                    for kind, page in shown if not only or name in only else ():
                        take(page, site.url + path, name, kind)
        _scored(Path(scratch) / "scored", take, shown, only or ("drift", "sweep"))
        _access(Path(scratch) / "hosted", take, shown, only or ACCESS)


if __name__ == "__main__":
    target, *named = sys.argv[1:]
    take = for_docs if "--docs" in named else main
    take(Path(target), [name for name in named if name != "--docs"])
