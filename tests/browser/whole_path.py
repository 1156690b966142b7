"""The whole path, as somebody walks it in a browser: the same on a laptop and at a hosted Studio."""

from __future__ import annotations

import json
import re
from pathlib import Path

from playwright.sync_api import Page, expect

ROWS = 60
PATIENCE_MS = 120_000
"""A run in the cloud begins with cold starts."""


def walk(page: Page, url: str, folder: Path, name: str = "capitals") -> None:
    """Upload a dataset, write a prompt, start a run, watch it move, open a case, run
    again, compare, cancel."""
    upload(page, url, folder, name)
    write_prompt(page, url, name)
    first = start_run(page, name)
    watch(page)
    open_a_case(page)
    second = run_again(page, accuracy=0.1)
    watch(page)
    compare(page, url, first, second)
    cancel(page, f"{url}/runs/{second}")


def upload(page: Page, url: str, folder: Path, name: str) -> None:
    """A file becomes a dataset."""
    file = folder / f"{name}.jsonl"
    file.write_text("\n".join(json.dumps({"sum": f"{n} + {n}", "expected": str(2 * n)}) for n in range(ROWS)))
    page.goto(url + "/datasets")
    page.get_by_label("The dataset's file").set_input_files(file)
    page.get_by_role("button", name="Upload").click()
    page.wait_for_url(f"**/dataset?name={name}&version=0", timeout=PATIENCE_MS)
    expect(page.locator("table.rows tbody tr")).to_have_count(50)


def write_prompt(page: Page, url: str, name: str) -> None:
    """A prompt with a placeholder, and on to a run of it."""
    page.goto(url + "/prompt/edit")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Text of message 2").fill("What is <sum>?")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("link", name="Run it").click()


def start_run(page: Page, name: str) -> str:
    """A run of the prompt over the dataset, scored; its id."""
    page.get_by_label("Dataset", exact=True).select_option(f"{name}@0")
    page.get_by_label("Model", exact=True).fill("simulated/demo")
    page.get_by_text("Model parameters").click()
    page.get_by_label("Other parameters, JSON").fill('{"latency_ms": 100}')
    page.get_by_label("max_concurrent_tasks").fill("2")
    page.locator("#metric-exact_match").check()
    expect(page.get_by_label(re.compile("^reference"))).to_have_value("expected")
    expect(page.locator("article.message").first).to_contain_text("What is 0 + 0?")
    return started(page)


def started(page: Page) -> str:
    """The id of the run that the form starts."""
    page.get_by_role("button", name="Start").click()
    page.wait_for_url("**/runs/*")
    return page.url.rpartition("/")[2]


def watch(page: Page) -> None:
    """It runs, and then it is complete, without anybody doing anything."""
    expect(page.locator("#live .status")).to_contain_text("running")
    expect(page.locator("#live .status")).to_contain_text("completed", timeout=PATIENCE_MS)
    expect(page.locator("table.cases tbody tr")).to_have_count(50)


def open_a_case(page: Page) -> None:
    """By keyboard, and back."""
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.locator("article.message", has_text="user")).to_contain_text("What is 0 + 0?")
    page.keyboard.press("u")


def run_again(page: Page, **parameters: float) -> str:
    """The same with another parameter; its id."""
    page.get_by_role("link", name="Run again with changes").click()
    page.get_by_label("Other parameters, JSON").fill(json.dumps(parameters))
    return started(page)


def compare(page: Page, url: str, first: str, second: str) -> None:
    """Pick two runs in the list, and look at what became worse."""
    page.goto(url)
    for run_id in (first, second):
        page.locator(f"#pick-{run_id}").check()
        expect(page).to_have_url(re.compile(f"run={run_id}"))
    page.get_by_role("link", name="Compare 2 runs").click()
    pairs = page.locator("table.pairs tbody tr")
    expect(pairs.first).to_be_visible()
    page.get_by_role("group", name="Change").get_by_role("link", name=re.compile("Regressed")).click()
    expect(page).to_have_url(re.compile("change=regressed"))
    expect(pairs.first).to_contain_text("regressed")


def cancel(page: Page, run_url: str) -> None:
    """A slow run is stopped, once one is sure."""
    page.goto(run_url)
    run_again(page, latency_ms=4000)
    expect(page.locator("#live .status")).to_contain_text("running")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog", name="Are you sure?").get_by_role("button", name="Cancel the run").click()
    expect(page.locator("#toasts")).to_contain_text("Cancelled")
    expect(page.locator("#live .status")).to_contain_text("cancelled")
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
