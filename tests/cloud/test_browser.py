"""The hosted Studio in a browser."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chromium import MISSING, chromium, launched
from tests.browser.whole_path import walk
from tests.cloud.conftest import Stack
from tests.cloud.runs import ended, experiment, right, started
from tests.servers import ModelServer

pytestmark = [pytest.mark.cloud, pytest.mark.skipif(chromium() is None, reason=MISSING)]


@pytest.fixture
def page() -> Iterator[Page]:
    """A page in a browser that has nothing to complain about."""
    complaints: list[str] = []
    with launched() as browser:
        opened = browser.new_page()
        opened.set_default_timeout(60_000)
        expect.set_options(timeout=30_000)  # some of it waits for a function's cold start
        opened.on(
            "console",
            lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None,
        )
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        yield opened
        expect.set_options(timeout=5_000)
    assert complaints == []


def log_in(page: Page, token: str) -> None:
    """Type the token into the form that stands behind the accounts'."""
    page.get_by_text("With a token").click()
    page.locator("input[name=token]").fill(token)
    page.locator("form[action='/session'] button").click()


def test_somebody_logs_in_looks_at_a_run_and_logs_out(stack: Stack, page: Page) -> None:
    """From the address that `make cloud` prints to a run's rows."""
    with ModelServer(right) as server:
        run_id = started(stack, experiment(server, 12, name="seen in a browser"))
        ended(stack, run_id)
    page.goto(f"{stack.endpoint}/runs/{run_id}")
    log_in(page, stack.token)
    # Back at where one wanted to go.
    expect(page).to_have_url(f"{stack.endpoint}/runs/{run_id}")
    expect(page.locator("body")).to_contain_text("What is 7?")
    page.goto(f"{stack.endpoint}/runs/{run_id}?tab=summary")
    expect(page.get_by_role("row", name="infrastructure AWS, estimated")).to_contain_text("$0.0")
    page.goto(stack.endpoint)
    expect(page.locator("body")).to_contain_text("seen in a browser")
    page.locator("form[action='/logout'] button").click()
    expect(page.get_by_text("With a token")).to_be_visible()


def test_the_whole_path_from_a_file_to_a_comparison(stack: Stack, page: Page, tmp_path: Path) -> None:
    """The very path of the laptop, through the deployed URL: the file goes into the bucket, the runs through
    the state machine."""
    page.goto(stack.endpoint)
    log_in(page, stack.token)
    walk(page, stack.endpoint, tmp_path, f"capitals-{uuid.uuid4().hex[:8]}")
