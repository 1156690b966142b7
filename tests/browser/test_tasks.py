"""Tasks of a day in real Chromium, in as few clicks as is promised: what timed out is asked again, wrong
answers are read and noted without a mouse, a filter is taken away as a file."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from promptlab.domain.labels import CaseLabel
from promptlab.domain.results import RunRecord
from promptlab.store_lab import StoreLab
from tests.browser import labs
from tests.browser.conftest import Site, serving
from tests.servers import ModelServer, Reply, Request

SLOW, BROKEN, WRONG = ("river", "meadow", "lantern"), ("signal",), ("orbit", "copper")
"""Topics, each of twelve of 120 rows: the first answers time out, all fail, all are wrong."""


def _answered(asked: Counter[str], request: Request) -> Reply | str:
    one, other = map(int, re.findall(r"\d+", request.prompt)[-2:])
    asked[request.prompt] += 1
    if asked[request.prompt] == 1 and request.prompt.endswith(tuple(f"{word}." for word in SLOW)):
        return Reply(status=408)
    if request.prompt.endswith(tuple(f"{word}." for word in BROKEN)):
        return Reply(status=500)
    return "0" if request.prompt.endswith(tuple(f"{word}." for word in WRONG)) else str(one + other)


async def _filled(server: ModelServer, lab: StoreLab) -> list[RunRecord]:
    await labs.add_assets(lab)
    model = {"name": "ollama/sums", "endpoint": server.url, "max_retries": 0}
    prompt = {"name": "plain", "user_prompt": "<question>"}
    return [await lab.run(labs.config(model) | {"prompt_template": prompt})]


@pytest.fixture
def task_site(tmp_path: Path) -> Iterator[Site]:
    """A Studio over a run of which 36 of 48 failed cases timed out, and 24 answers are wrong."""
    with ModelServer(partial(_answered, Counter())) as server:
        yield from serving(tmp_path, partial(_filled, server))


def test_36_timeouts_are_retried_in_three_clicks(task_site: Site, page: Page) -> None:
    """The error, its button with the number, and the answer to how many calls that makes."""
    page.goto(f"{task_site.url}/runs/{task_site.runs[0].run_id}")
    expect(page.locator("#live .facts")).to_contain_text("48 failed")
    page.get_by_label("Outcome").get_by_role("link", name="timeout 36").click()
    page.get_by_role("button", name="Retry 36 timeout").click()
    asked = page.get_by_role("dialog", name="Are you sure?")
    expect(asked).to_contain_text("Ask again for 36 cases?")
    asked.get_by_role("button", name="Retry 36 timeout").click()
    expect(page.locator("#live .facts")).to_contain_text("12 failed")
    expect(page.locator("#live .status")).to_contain_text("completed")


def test_a_filter_is_exported_in_three_clicks(task_site: Site, page: Page) -> None:
    """The rows that are shown, all of them and no others."""
    page.goto(f"{task_site.url}/runs/{task_site.runs[0].run_id}")
    page.locator("#strip .card", has_text="numeric_match").get_by_role("link", name="✕ fail").click()
    page.get_by_text("Export 24", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV", exact=True).last.click()
    with download.value.path().open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24 and {row["response"] for row in rows} == {"0"}


@pytest.mark.long
def test_twenty_wrong_answers_are_read_and_noted_by_keyboard_alone(task_site: Site, page: Page) -> None:
    """The filter, the first case, its note, the next case: no click anywhere."""
    run_id = task_site.runs[0].run_id
    page.goto(f"{task_site.url}/runs/{run_id}")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent").strip().startswith("✕ fail"):
            break
    page.keyboard.press("Enter")
    expect(page.locator(".chip.on")).to_contain_text("numeric_match: did not pass")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    for n in range(1, 21):
        expect(page.locator("#case")).to_contain_text(f"{n} of 24 that match")
        expect(page.get_by_label("Verdict", exact=True)).to_contain_text("got 0")
        page.keyboard.press("n")
        page.keyboard.type(f"wrong in its way {n}")
        page.keyboard.press("Control+Enter")
        expect(page.locator("#people .label")).to_contain_text(f"wrong in its way {n}")
        page.keyboard.press("j")

    async def noted(lab: StoreLab) -> list[CaseLabel]:
        return [label async for label in lab.labels.of(run_id)]

    notes = [label.note for label in task_site.call(noted)]
    assert sorted(notes) == sorted(f"wrong in its way {n}" for n in range(1, 21))
