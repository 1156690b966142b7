"""Properties of every page: accessible in light and dark, small, inside a narrow screen, and
deaf to what data says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from promptlab.domain.assets import Dataset, PromptTemplate
from promptlab.domain.results import RunRecord
from promptlab.store_lab import StoreLab
from tests.browser import labs
from tests.browser.axe import findings
from tests.browser.conftest import ROOT, Complaints, Site, serving
from tests.servers import ModelServer, Reply, Request

EVIL = "<img src=x onerror=window.harmed=1>"
SCRIPT = "<script>window.harmed=1</script>"
MOST_NODES, MOST_KB, MOST_REQUESTS = 2_500, 200, 15


def paths(runs: list[RunRecord]) -> dict[str, str]:
    """Every page, by name."""
    run, other = runs[2].run_id, runs[1].run_id
    return {
        "runs": "/",
        "charts": "/?charts=1",
        "nothing": "/?q=nowhere",
        "go": "/go?q=sums",
        "run": f"/runs/{run}",
        "run-filtered": f"/runs/{run}?status=failed",
        "summary": f"/runs/{run}?tab=summary",
        "sql": f"/runs/{run}?tab=sql",
        "sql-asked": f"/runs/{run}?tab=sql&sql=SELECT+*+FROM+cases",
        "sql-wrong": f"/runs/{run}?tab=sql&sql=SELECT+nothing",
        "configuration": f"/runs/{run}?tab=configuration",
        "case": f"/runs/{run}/cases/3",
        "compare": f"/compare?run={other}&run={run}",
        "prompts": "/prompts",
        "prompt": "/prompt?name=sums&version=1&against=0",
        "prompt-edit": "/prompt/edit?name=sums",
        "datasets": "/datasets",
        "dataset": "/dataset?name=arithmetic",
        "new": f"/new?from={run}",
        "playground": "/playground?prompt=sums&dataset=arithmetic",
        "code": "/code",
        "source": "/source?name=scoring&version=1",
        "source-diff": "/source?name=scoring&version=1&against=0",
        "code-new": "/code/new?name=scoring",
        "new-code": f"/new?from={run}&code=scoring@1/scoring.rules:Politeness",
        "score": f"/runs/{run}/score",
        "labels": f"/runs/{run}?tab=labels",
        "label": f"/runs/{run}/label?n=30&seed=1",
        "drift": f"/drift?run={other}&run={run}&metric=numeric_match",
        "slices": f"/slices?run={other}&run={run}&column=topic",
        "sweeps": "/sweeps",
        "sweep": f"/sweeps/{runs[-1].sweep}",
    }


@pytest.fixture(scope="module")
def site(site: Site) -> Site:
    """The site with labels of people, and a sweep, whose first run is the last of `runs`."""

    async def fill(lab: StoreLab) -> RunRecord:
        await labs.add_labels(lab, site.runs[2], "numeric_match")
        sweep = await lab.get_sweep(await labs.add_sweep(lab))
        return await lab.get_run(sweep.run_ids[0])

    site.runs.append(site.call(fill))
    return site


@pytest.mark.parametrize(("scheme", "width"), [("light", 1400), ("dark", 1400), ("light", 380)])
def test_axe_finds_nothing(site: Site, browser: Browser, scheme: Any, width: int) -> None:
    """No rule of axe, of whatever impact, on any page."""
    found = {}
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    for name, path in [*paths(site.runs).items(), ("problem", "/nowhere")]:
        page.goto(site.url + path)
        if rules := findings(page, colours_only=scheme == "dark"):
            found[name] = rules
    context.close()
    assert found == {}


def test_pages_are_small_and_quiet(site: Site, page: Page) -> None:
    """Elements, bytes and requests are bounded, and the console is silent."""
    for name, path in paths(site.runs).items():
        page.goto(site.url + path)
        nodes = page.evaluate("document.querySelectorAll('*').length")
        sent = page.evaluate(
            "performance.getEntries().filter(e => e.transferSize).reduce((s, e) => s + e.transferSize, "
            "0) / 1024"
        )
        requests = page.evaluate("performance.getEntriesByType('resource').length + 1")
        assert nodes <= MOST_NODES and sent <= MOST_KB and requests <= MOST_REQUESTS, (
            name,
            nodes,
            sent,
            requests,
        )


UNSEEN = 0.001
"""A hundredth of the layout shift that is called good: on a busy machine a scroll bar that comes late moves
0.0002."""
LONG_TABLES, SLOWER = ("run", "sql-asked", "dataset"), 6
"""Pages with long tables, and how many times slower the processor seems to be while they load."""
_MOVED = """window.moved = []; new PerformanceObserver(list => {
  for (const entry of list.getEntries()) {
    const what = ({node}) => node ? `${node.nodeName} ${node.textContent.trim().slice(0, 40)}` : "";
    window.moved.push([entry.value, entry.sources.map(what).join("; ")]);
  }
}).observe({type: "layout-shift", buffered: true})"""


def test_nothing_moves_after_the_first_paint(site: Site, page: Page) -> None:
    """A cold load shifts nothing that anybody could see, also where the machine is so slow that a page is
    painted before all of it is read: the widths of a table do not depend on rows that come later."""
    page.add_init_script(_MOVED)
    throttle = page.context.new_cdp_session(page)
    for name, path in paths(site.runs).items():
        throttle.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER if name in LONG_TABLES else 1})
        page.goto(site.url + path, wait_until="networkidle")
        moved = page.evaluate("window.moved")
        assert sum(value for value, _ in moved) < UNSEEN, (name, moved)


def test_every_page_fits_a_narrow_screen(site: Site, browser: Browser) -> None:
    """At 380 px only tables scroll sideways, in their own frame."""
    context = browser.new_context(viewport={"width": 380, "height": 820})
    page = context.new_page()
    wide = {}
    for name, path in paths(site.runs).items():
        page.goto(site.url + path)
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > 380:
            wide[name] = width
    context.close()
    assert wide == {}


async def _evil(lab: StoreLab) -> list[RunRecord]:
    """Runs whose every text wants to be code."""
    name = "<img src=x onerror=window.harmed=1>"
    await lab.assets.create(
        PromptTemplate(name=name, description=EVIL, system_prompt=SCRIPT, user_prompt="<column>")
    )
    await lab.assets.create(
        PromptTemplate(name=name, description=EVIL, system_prompt=EVIL, user_prompt=f"{EVIL}\n<column>")
    )
    await lab.assets.label(name, "<img>", kind="prompt_template")
    rows = [
        {
            "id": f"{EVIL}{n}",
            "column": f"{'[a](javascript:window.harmed=1) ![b](x) ' if n % 2 else ''}{SCRIPT}{EVIL}",
            EVIL: EVIL,
        }
        for n in range(4)
    ]
    await lab.assets.create(Dataset(name=name, description=SCRIPT, rows=rows))
    evaluation = [
        {"metric": "exact_match", "name": EVIL, "column_mapping": {"reference": EVIL}},
        {"metric": "numeric_match", "name": SCRIPT, "column_mapping": {"reference": EVIL}},
    ]
    config = {
        "name": EVIL,
        "prompt_template": name,
        "dataset": name,
        "evaluation": evaluation,
        "tags": [EVIL, SCRIPT],
    }
    runs = [
        await lab.run({**config, "model": {"name": "simulated/echo", "max_retries": 0, "failure_rate": rate}})
        for rate in (0.0, 0.4)
    ]
    with ModelServer(_evil_answer) as server:
        model = {
            "name": f"openai/{EVIL}",
            "endpoint": server.openai_url,
            "api_key": "none",
            "max_retries": 0,
            "max_concurrent_tasks": 1,
        }
        return [*runs, await lab.run({**config, "model": model})]


def _evil_answer(request: Request) -> Reply:
    """A provider whose errors and answers want to be code, too."""
    if "javascript:" in request.prompt:
        return Reply(
            status=400, body={"error": {"message": f"{SCRIPT} {EVIL}", "type": SCRIPT, "code": EVIL}}
        )
    return Reply(
        text=f"# {EVIL}\n[a](javascript:window.harmed=1) <a "
        f"href='javascript:window.harmed=1'>b</a>\n\n{SCRIPT}"
    )


@pytest.fixture(scope="module")
def evil_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A Studio over texts that want to be code."""
    yield from serving(tmp_path_factory.mktemp("evil"), _evil)


def test_texts_of_datasets_prompts_and_models_stay_texts(
    evil_site: Site, page: Page, complaints: Complaints
) -> None:
    """No script runs, no image is asked for, no policy is broken, on any page."""
    from urllib.parse import urlencode

    named = urlencode({"name": EVIL})
    runs = [r.run_id for r in evil_site.runs]
    chosen = urlencode(
        {
            "prompt": f"{EVIL}@1",
            "dataset": f"{EVIL}@0",
            "model": EVIL,
            "metric": "exact_match",
            "name": EVIL,
            "tags": EVIL,
        }
    )
    pages = [
        "/",
        "/?charts=1",
        f"/?{urlencode({'q': EVIL, 'tag': EVIL, 'sort': EVIL})}",
        "/prompts",
        "/datasets",
        f"/prompt?{named}&against=0",
        f"/prompt/edit?{named}",
    ]
    pages += [
        f"/dataset?{named}",
        f"/compare?run={runs[0]}&run={runs[1]}&run={runs[2]}",
        f"/new?{chosen}",
        f"/new?from={runs[0]}",
    ]
    for run in runs:
        pages += [
            f"/runs/{run}{rest}"
            for rest in (
                "",
                "?tab=summary",
                "?tab=configuration",
                "?status=failed",
                f"?{urlencode({'q': EVIL})}",
                *(f"/cases/{n}?as={form}" for n in (0, 1) for form in ("markdown", "json", "plain")),
            )
        ]
    for path in pages:
        answer = page.goto(evil_site.url + path)
        assert answer and answer.status == 200, (path, answer and answer.status)
        assert page.evaluate("window.harmed") is None, path
        assert page.locator("img[src=x], script:not([src]), [onerror], a[href^=javascript]").count() == 0, (
            path
        )
        assert complaints.lines == [], path


def test_the_frontends_lock_file_names_no_registry() -> None:
    """Versions and hashes are enough to install from whichever registry there is."""
    assert "resolved" not in (ROOT / "frontend/package-lock.json").read_text()


def test_axe_is_heard(browser: Browser) -> None:
    """A picture without words and grey on grey are found, in light and in dark."""
    page = browser.new_page()
    page.set_content('<img src="data:,"><main><p style="color: #777; background: #888">words</p></main>')
    assert {"image-alt", "color-contrast"} <= set(findings(page))
    assert set(findings(page, colours_only=True)) == set(findings(page, within="p")) == {"color-contrast"}
    page.close()
