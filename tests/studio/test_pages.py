"""Every page of the Studio without a browser: what its HTML says, over a small real lab."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from promptlab_studio.app import create_app

from promptlab.domain.assets import Dataset, PromptTemplate
from promptlab.domain.results import RunRecord
from promptlab.store_lab import StoreLab
from tests.bench.make_runs import Made, make_dataset, make_run
from tests.bench.real_runs import FAILURES, ODD, WIDE, add_wide
from tests.browser import labs

VOID = {"area", "br", "col", "hr", "img", "input", "link", "meta", "wbr"}


class Page(HTMLParser):
    """A page's text and links; what is not closed, or closed twice, is a mistake."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.mistakes: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.source = text
        self.said: list[str] = []
        self.feed(text)
        self.mistakes += [f"<{tag}> is not closed" for tag in self.open]

    @property
    def text(self) -> str:
        """All that can be read, on one line."""
        return " ".join(" ".join(self.said).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.links += [named["href"] or ""] if tag == "a" and "href" in named else []
        self.ids += [named["id"] or ""] if "id" in named else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Elements of SVG close themselves."""

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()
        elif tag not in VOID:
            self.mistakes.append(f"</{tag}> in {self.open[-3:]}")

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.said.append(data)


@dataclass
class Studio:
    """A lab and its pages."""

    lab: StoreLab
    client: httpx.AsyncClient

    async def page(self, path: str, status: int = 200) -> Page:
        """A page as people get it."""
        answer = await self.client.get(path, follow_redirects=True)
        assert answer.status_code == status, answer.text[-500:]
        found = Page(answer.text)
        assert found.mistakes == [], (path, found.mistakes)
        assert len(found.ids) == len(set(found.ids)), path
        return found


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Studio]:
    """The pages of an empty lab."""
    lab = labs.open_lab(tmp_path)
    app = create_app(lab)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        yield Studio(lab, client)
    await lab.close()


def every_page(run: RunRecord, other: RunRecord) -> dict[str, str]:
    """The pages of a lab with the wide set, by name."""
    name = run.run_id
    return {
        "runs": "/",
        "charts": "/?charts=1",
        "run": f"/runs/{name}",
        "failed": f"/runs/{name}?status=failed",
        "summary": f"/runs/{name}?tab=summary",
        "sql": f"/runs/{name}?tab=sql",
        "asked": f"/runs/{name}?tab=sql&sql=SELECT+*+FROM+cases",
        "asked wrongly": f"/runs/{name}?tab=sql&sql=SELECT+nothing",
        "configuration": f"/runs/{name}?tab=configuration",
        "case": f"/runs/{name}/cases/1",
        "trial": f"/runs/{name}/cases/1.2",
        "compare": f"/compare?run={name}&run={other.run_id}",
        "prompts": "/prompts",
        "prompt": "/prompt?name=made-qa",
        "edit": "/prompt/edit?name=made-qa",
        "datasets": "/datasets",
        "dataset": "/dataset?name=wide",
        "new": f"/new?from={name}",
    }


async def test_every_page_is_whole(studio: Studio) -> None:
    """Each is well-formed, names every element once, and its links lead to pages that are there."""
    runs = await add_wide(studio.lab, rows=12, runs=2)
    links: dict[str, str] = {}
    for path in every_page(*runs).values():
        page = await studio.page(path)
        links |= {re.sub(r"[?#].*", "", link): link for link in page.links if link.startswith("/")}
    for link in links.values():
        answer = await studio.client.get(link, follow_redirects=True)
        assert answer.status_code == 200, link


async def test_an_empty_lab_says_how_to_begin(studio: Studio) -> None:
    """No page of an empty lab is blank or an error."""
    for path in ("/", "/prompts", "/datasets", "/new", "/compare"):
        assert (await studio.page(path)).links


async def test_data_is_shown_exactly_on_every_page(studio: Studio) -> None:
    """Odd numbers, whole numbers of 19 digits, the smallest and minus zero are as they were given."""
    run, *_ = await add_wide(studio.lab, rows=len(ODD) * 4, runs=1, trials=1)
    shown = {"dataset": (await studio.page("/dataset?name=wide")).text}
    shown["cases"] = (await studio.page(f"/runs/{run.run_id}?col=input.answer")).text
    for place, text in shown.items():
        assert [number for number in ODD if str(number) not in text.split()] == [], place
    for case, number in enumerate(ODD):
        text = (await studio.page(f"/runs/{run.run_id}/cases/{case}")).text
        assert f"Expected (answer) {number}" in text


async def test_a_summary_says_what_its_head_says(studio: Studio) -> None:
    """While a run goes on, failures and tokens of head and summary are the same, and what
    is not counted is named."""
    dataset = await make_dataset(studio.lab, 150)
    run = await make_run(studio.lab, dataset, Made(ledger=True, results=False, shards=1))
    progress = await studio.lab.progress(run.run_id)
    await studio.lab.ledger.update_run(run.run_id, {"status": "interrupted"})
    text = (await studio.page(f"/runs/{run.run_id}?tab=summary")).text
    assert f"{progress.failed} failed" in text
    assert text.count(f"{progress.prompt_tokens:,}") >= 1
    assert "No case failed" not in text or progress.failed == 0


async def test_a_run_in_which_every_case_failed_is_not_green(studio: Studio) -> None:
    """Its status names the error, in the list and on its page, and the message is there once."""
    dataset = await make_dataset(studio.lab, 20)

    def failing(chance: Any, shard: int, case: int, trial: int, row: dict[str, Any], right: bool) -> Any:
        from promptlab.domain.results import Completion
        from promptlab.results.table import Case

        return Case(row, Completion(shard=shard, case=case, trial=trial, attempts=1, error=FAILURES[2]), None)

    run = await make_run(studio.lab, dataset, Made(case=failing))
    listed, page = await studio.page("/"), await studio.page(f"/runs/{run.run_id}?tab=summary")
    assert "all failed: not_found" in listed.text
    assert "all failed: not_found" in page.text and "✓ completed" not in page.text
    assert page.text.count(str(FAILURES[2].message)) == 1


async def test_a_run_that_ended_early_says_why_and_one_that_waits_says_for_what(studio: Studio) -> None:
    """The provider's words, the status in words, and Resume; an outage under way is no end."""
    dataset = await make_dataset(studio.lab, 150)
    run = await make_run(studio.lab, dataset, Made(ledger=True, results=False, shards=1))
    for status, shown in (("stopped", "stopped"), ("budget_reached", "budget reached")):
        change = {"status": status, "error": "HTTP 401 the key was refused: <no>"}
        await studio.lab.ledger.update_run(run.run_id, change)
        page, listed = (await studio.page(f"/runs/{run.run_id}")).text, (await studio.page("/")).text
        assert "the key was refused: <no>" in page and "Resume" in page
        assert shown in page and shown in listed
        assert "No run matches" not in (await studio.page(f"/?status={status}")).text
    outage = {"since": "2026-01-01T00:00:00Z", "words": "HTTP <503>", "ask_at": 0, "pause_s": 1}
    await studio.lab.ledger.update_run(run.run_id, {"status": "running", "error": None, "outage": outage})
    async with studio.lab._parts.runner.claimed(run.run_id):  # as if a process worked on it
        page = (await studio.page(f"/runs/{run.run_id}")).text
    assert "nothing answers" in page and "HTTP <503>" in page


async def test_a_search_says_how_far_it_looked(studio: Studio) -> None:
    """Whoever finds nothing must know what was not looked at."""
    run = await make_run(studio.lab, await make_dataset(studio.lab, 20))
    page = await studio.page(f"/runs/{run.run_id}?q=needle")
    assert "searched to 20,000 characters of a text" in page.text
    assert "searched to" not in (await studio.page(f"/runs/{run.run_id}")).text


async def test_a_wrong_answers_page_does_not_open_green(studio: Studio) -> None:
    """It opens with the verdict of the metric that the run is judged by."""
    (run,) = await add_wide(studio.lab, rows=40, runs=1, trials=1)
    results = studio.lab.results(run.run_id)
    wrong, *_ = [row["case"] async for row in results if row["passed.exact_match"] is False]
    text = (await studio.page(f"/runs/{run.run_id}/cases/{wrong}")).text
    assert "✕ exact_match: expected" in text and "answered" not in text


async def test_the_next_case_of_a_running_run_is_its_next_trial(studio: Studio) -> None:
    """Trials are walked one by one, and the last case has no next one."""
    dataset = await make_dataset(studio.lab, 3)
    made = Made(ledger=True, results=False, trials=2, metrics=WIDE)
    run = await make_run(studio.lab, dataset, made)
    walked, path = [], f"/runs/{run.run_id}/cases/0"
    while path:
        walked.append(path.rpartition("/")[2])
        page = await studio.page(path)
        following = [link for link in page.links if re.search(r"/cases/[\d.]+$", link)]
        later = [link for link in following if _place(link) > _place(path)]
        path = min(later, key=_place, default="")
    assert walked == ["0", "0.1", "1", "1.1", "2", "2.1"]


def _place(link: str) -> tuple[int, int]:
    case, _, trial = link.rpartition("/")[2].partition(".")
    return int(case), int(trial or 0)


async def test_a_stored_prompt_that_cannot_be_compiled_says_so_on_its_page(studio: Studio) -> None:
    """The page of the prompt, and those of its runs, are still there."""
    (run,) = await add_wide(studio.lab, rows=4, runs=1, trials=1)
    broken = PromptTemplate.model_construct(
        name="broken",
        description="",
        template_format="jinja2",
        user_prompt="{% if %}",
        system_prompt="",
        messages=(),
    )
    ref = await _stored(studio.lab, broken)
    experiment = {**run.experiment, "prompt_template": ref}
    await studio.lab.ledger.update_run(run.run_id, {"experiment": experiment})
    page = await studio.page("/prompt?name=broken")
    assert "{% if %}" in page.text
    assert "Placeholders:" not in page.text
    for rest in ("", "/cases/0", "?tab=configuration"):
        await studio.page(f"/runs/{run.run_id}{rest}")


async def _stored(lab: StoreLab, prompt: PromptTemplate) -> dict[str, Any]:
    from promptlab.domain.assets import AssetVersion, content_hash

    content = {
        "template_format": prompt.template_format,
        "user_prompt": prompt.user_prompt,
        "system_prompt": "",
    }
    version = AssetVersion(
        kind="prompt_template",
        name=prompt.name,
        version=0,
        description="",
        content=content,
        hash=content_hash(content),
        created_at="2026-11-23T09:00:00.000000Z",
    )
    await lab.ledger.add_asset(version)
    return {"name": prompt.name, "version": 0, "hash": version.hash}


async def test_compare_is_of_the_headline_metric(studio: Studio) -> None:
    """Counts are of it unless the address names another, and a longer answer is no loss."""
    runs = await add_wide(studio.lab, rows=20, runs=2, trials=1)
    path = f"/compare?run={runs[0].run_id}&run={runs[1].run_id}"
    plain, same = await studio.page(path), await studio.page(f"{path}&metric=exact_match")
    counts = re.compile(r"All \d+ Different \d+ Regressed \d+ Improved \d+ Same \d+")
    found, named = counts.search(plain.text), counts.search(same.text)
    assert found and named and found[0] == named[0]
    fact = counts.search((await studio.page(f"{path}&metric=length")).text)
    assert fact and "Regressed 0 Improved 0" in fact[0]


async def test_a_run_is_asked_in_sql(studio: Studio) -> None:
    """Rows with links to their cases; the words of an error; questions to begin from that are answered."""
    (run,) = await add_wide(studio.lab, rows=12, runs=1)
    path = f"/runs/{run.run_id}?tab=sql"
    asked = urlencode({"sql": 'SELECT "case", trial, id FROM cases WHERE trial = 1 ORDER BY 1'})
    page = await studio.page(f"{path}&{asked}")
    assert "12 rows" in page.text
    assert f"/runs/{run.run_id}/cases/3.1" in page.links
    assert "Only SELECT" in (await studio.page(f"{path}&sql=DROP+VIEW+cases")).text
    examples = [link for link in (await studio.page(path)).links if "sql=SELECT" in link]
    assert len(examples) == 3
    for link in examples:
        assert " row" in (await studio.page(link)).text, link


async def test_the_cards_of_a_run_that_goes_on_keep_the_filter(studio: Studio) -> None:
    """The head that is asked for again and again takes it from the page's address, which may have changed."""
    made = Made(ledger=True, results=False, shards=3)
    run = await make_run(studio.lab, await make_dataset(studio.lab, 200), made)
    part = {"HX-Request": "true", "HX-Target": "live", "HX-Current-URL": f"/runs/{run.run_id}?q=amber"}
    head = (await studio.client.get(f"/runs/{run.run_id}/live", headers=part)).text
    assert f"/runs/{run.run_id}?q=amber&amp;pass=exact_match" in head
    page = await studio.page(f"/runs/{run.run_id}?fail=exact_match")
    assert re.search(r"\d+ of 150 answered so far", page.text)


async def test_actions_are_of_what_the_page_shows(studio: Studio) -> None:
    """Retry and export name the cases of the filter, and the file has these."""
    (run,) = await add_wide(studio.lab, rows=60, runs=1, trials=1)
    summary = await studio.lab.summary(run.run_id)
    errors = summary.errors
    kind = max(errors, key=lambda one: errors[one])
    page = await studio.page(f"/runs/{run.run_id}?error={kind}")
    assert f"Retry {errors[kind]} {kind}" in page.text
    assert f"Export {errors[kind]}" in page.text
    link = next(link for link in page.links if "cases.csv" in link)
    answer = await studio.client.get(link)
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["error_type"] for row in rows] == [kind] * errors[kind]
    whole = await studio.page(f"/runs/{run.run_id}")
    assert f"Retry all {summary.failed} failed" in whole.text


async def test_a_filtered_file_runs_no_formula(studio: Studio) -> None:
    """A text that a spreadsheet would run has a sign before it; a number, negative or not, has none."""
    rows = [{"id": "=cmd()", "question": "@x", "answer": "-3"}]
    await studio.lab.assets.create(Dataset(name="cells", rows=rows))
    run = await studio.lab.run(
        {
            "name": "cells",
            "prompt_template": {"name": "ask", "user_prompt": "<question>"},
            "dataset": "cells",
            "model": "simulated/echo",
        }
    )
    answer = await studio.client.get(f"/runs/{run.run_id}/cases.csv")
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert (row["id"], row["input.question"], row["input.answer"]) == ("'=cmd()", "'@x", "-3")


async def test_a_dataset_page_counts_nulls_as_missing(studio: Studio) -> None:
    """200 nulls of 300 rows are 200, beside a column that 10 rows do not have."""
    rows: list[dict[str, Any]] = [{"id": n, "note": None if n < 200 else "x", "more": n} for n in range(300)]
    for row in rows[40:50]:
        del row["more"]
    await studio.lab.assets.create(Dataset(name="gaps", rows=rows))
    page = await studio.page("/dataset?name=gaps")
    cells = re.findall(r'<th scope="row" title="(\w+)">.*?<td class="num">(.*?)</td>', page.source, re.DOTALL)
    counted = {name: re.sub(r"<[^>]*>|\s", "", cell) for name, cell in cells}
    assert counted == {"id": "0", "note": "200", "more": "10"}
    assert "200 null, 0 without the column" in page.source
    assert "0 null, 10 without the column, first row 40" in page.source
