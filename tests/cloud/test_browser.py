"""The hosted Studio in a browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cloud.conftest import Stack
from tests.cloud.runs import ended, experiment, right, started
from tests.servers import ModelServer

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = [pytest.mark.cloud, pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium")]


def test_somebody_logs_in_looks_at_a_run_and_logs_out(stack: Stack) -> None:
    """From the address that `make cloud` prints to a run's rows; the browser has nothing to complain about."""
    from playwright.sync_api import expect, sync_playwright

    with ModelServer(right) as server:
        run_id = started(stack, experiment(server, 12, name="seen in a browser"))
        ended(stack, run_id)
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{stack.endpoint}/runs/{run_id}")
        page.locator("input[name=token]").fill(stack.token)
        page.locator("form[action='/session'] button").click()
        # Back at where one wanted to go.
        expect(page).to_have_url(f"{stack.endpoint}/runs/{run_id}")
        expect(page.locator("body")).to_contain_text("What is 7?", timeout=60_000)
        page.goto(stack.endpoint)
        expect(page.locator("body")).to_contain_text("seen in a browser")
        page.locator("form[action='/logout'] button").click()
        expect(page.locator("input[name=token]")).to_be_visible()
        browser.close()
    assert complaints == []
