"""The pages that are not live, in a browser that runs no script."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Site
from tests.browser.test_every_page import paths, site

__all__ = ["site"]  # a fixture


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of a browser without script."""
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1400, "height": 900})
    yield context.new_page()
    context.close()


def test_every_page_opens_and_has_its_heading(site: Site, page: Page) -> None:
    """Nothing of a page is made by the script."""
    for name, path in paths(site.runs).items():
        answer = page.goto(site.url + path)
        assert answer is not None and answer.ok, name
        if name != "go":
            expect(page.locator("h1").first, name).to_be_visible()


def test_runs_are_searched_filtered_picked_and_compared(site: Site, page: Page) -> None:
    """Enter, or the button that stands there without script."""
    page.goto(site.url)
    everything = page.locator("table[data-rows] tbody tr").count()
    page.locator("#q").fill("gentle")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("q=gentle"))
    page.goto(site.url)
    page.locator("#experiment").select_option(index=1)
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page).to_have_url(re.compile("experiment="))
    page.goto(site.url)
    for n in (0, 1):
        page.locator("tbody input[name=run]").nth(n).check()
    page.get_by_role("button", name="Show", exact=True).click()
    page.get_by_role("link", name="Compare 2 runs").click()
    expect(page.locator("h1")).to_be_visible()
    assert everything > 2


def test_cases_are_searched_and_their_columns_chosen(site: Site, page: Page) -> None:
    """In a run."""
    page.goto(f"{site.url}/runs/{site.runs[2].run_id}")
    page.locator("#q").fill("12")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("q=12"))
    page.locator("#columns > summary").click()
    page.locator("#columns input").nth(0).uncheck()
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page).to_have_url(re.compile("q=12.*col="))
