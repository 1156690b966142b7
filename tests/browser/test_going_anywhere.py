"""Ctrl-K goes anywhere, and a Studio that is gone is said once."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Site


def test_a_prompt_is_found_and_opened_by_keyboard_alone(site: Site, page: Page) -> None:
    """Ctrl-K, some letters, down, Enter; Escape closes the box."""
    page.goto(site.url)
    page.keyboard.press("Control+k")
    box = page.get_by_role("dialog", name="Go to")
    expect(box.get_by_role("link").first).to_be_visible()
    page.keyboard.press("Escape")
    expect(box).to_be_hidden()
    page.keyboard.press("Control+k")
    page.keyboard.type("arithmetic")
    expect(box.get_by_role("link").last).to_contain_text("arithmetic")
    expect(box.get_by_text("dataset", exact=True)).to_be_visible()
    page.keyboard.press("ArrowUp")
    for _ in range(20):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/dataset\?name=arithmetic"))


def test_a_studio_that_is_gone_is_said_once_and_no_longer_than_that(site: Site, browser: Browser) -> None:
    """However many requests fail; the banner goes when an answer comes."""
    page = browser.new_page()  # of its own: the browser itself complains of each request
    page.goto(site.url)
    page.route("**/*", lambda route: route.abort())
    for letter in "abc":
        page.locator("#q").press(letter)
        page.wait_for_timeout(100)
    banner = page.get_by_text("The Studio does not answer")
    expect(banner).to_be_visible()
    expect(page.locator(".toast")).to_have_count(0)
    page.unroute("**/*")
    expect(banner).to_be_hidden()
    page.close()


def test_a_page_can_be_printed(site: Site, page: Page) -> None:
    """Without what is for clicking, and nothing beyond the paper's edge."""
    page.set_viewport_size({"width": 794, "height": 1123})
    page.emulate_media(media="print")
    runs = site.runs[1:4]
    for path in ("/", "/compare?" + "&".join(f"run={run.run_id}" for run in runs), f"/runs/{runs[1].run_id}"):
        page.goto(site.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 794, path
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.locator("header.top")).to_be_hidden()
    expect(page.locator("#q")).to_be_hidden()
