"""What people come for, in real Chromium and in as few clicks as is promised: which cases flipped and why,
the worst slice, four runs beside each other; and filters that stay."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from promptlab.domain.results import RunRecord
from promptlab.store_lab import StoreLab
from tests.bench.real_runs import add_gsm8k, add_wide, has_gsm8k
from tests.browser.axe import findings
from tests.browser.conftest import Site, serving


async def _filled(lab: StoreLab) -> list[RunRecord]:
    runs = await add_wide(lab, rows=60, runs=4)
    return [*runs, *(await add_gsm8k(lab, 120) if has_gsm8k() else ())]


@pytest.fixture(scope="module")
def real_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A Studio over runs as people have them."""
    yield from serving(tmp_path_factory.mktemp("real"), _filled)


def _compared(runs: list[RunRecord]) -> str:
    return "/compare?" + "&".join(f"run={run.run_id}" for run in runs)


def test_which_cases_flipped_and_why_takes_three_clicks(real_site: Site, page: Page) -> None:
    """Compare, Regressed, a case: there the reasons stand, j and k stay among the flips, u leads back."""
    runs = real_site.runs[-3:-1] if has_gsm8k() else real_site.runs[:2]
    page.goto(real_site.url + _compared(runs))
    number = int(page.get_by_label("Change").get_by_role("link", name="Regressed").locator("b").inner_text())
    page.get_by_label("Change").get_by_role("link", name="Regressed").click()
    expect(page.get_by_label("Change").locator("[aria-current]")).to_contain_text("Regressed")
    page.locator("table.pairs tbody tr a[data-row]").first.click()
    opened = page.locator("article.opened")
    expect(opened).to_contain_text(f"1 of {number} regressed")
    expect(opened.locator("tr.chosen")).to_contain_text("▼ regressed")
    expect(opened.locator("tr.chosen")).to_contain_text("expected ")
    first = opened.locator("h2").inner_text()
    page.keyboard.press("j")
    expect(opened).to_contain_text(f"2 of {number} regressed")
    expect(opened.locator("tr.chosen")).to_contain_text("▼ regressed")
    assert opened.locator("h2").inner_text() != first
    page.keyboard.press("k")
    expect(opened.locator("h2")).to_have_text(first)
    page.reload()  # the address has it all
    expect(opened.locator("h2")).to_have_text(first)
    assert findings(page) == {}
    page.keyboard.press("u")
    expect(page.locator("table.pairs tbody tr")).to_have_count(min(number, 25))


def test_an_opened_case_needs_no_script(real_site: Site, browser: Browser) -> None:
    """A link to it, the next one and the way back are links like any other."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(real_site.url + _compared(real_site.runs[:2]))
    page.locator("table.pairs tbody tr a[data-row]").first.click()
    expect(page.locator("article.opened h2")).to_have_text("Case en-0")
    page.get_by_role("link", name="Next →").click()
    expect(page.locator("article.opened h2")).to_have_text("Case en-0, trial 2")
    page.get_by_role("link", name="Back to all cases").click()
    expect(page.locator("table.pairs")).to_be_visible()
    context.close()


def test_the_worst_slice_takes_two_clicks(real_site: Site, page: Page) -> None:
    """Slices, a column: the worst value is on top, and leads to its cases."""
    page.goto(f"{real_site.url}/runs/{real_site.runs[1].run_id}")
    page.get_by_role("link", name="Slices").click()
    page.get_by_label("Column").get_by_role("link", name="topic").click()
    expect(page.locator("table.slices thead th").first).to_have_text("topic")
    means = [float(text) for text in page.locator("table.slices tbody td:nth-child(3)").all_inner_texts()]
    assert len(means) == 4 and means == sorted(means)
    assert findings(page) == {}
    worst = page.locator("table.slices a[data-row]").first.inner_text()
    page.locator("table.slices a[data-row]").first.click()
    expect(page.locator(".chip.on")).to_contain_text(f"topic: {worst}")
    expect(page.get_by_text("45 of 180")).to_be_visible()


def test_four_runs_are_compared_on_one_screen(real_site: Site, page: Page) -> None:
    """The verdict of each run, twelve metrics in words with intervals, and the first case, at 1400 × 900."""
    page.goto(real_site.url + _compared(real_site.runs[:4]))
    expect(page.locator(".versus .verdict")).to_have_count(3)
    expect(page.locator(".versus .verdict").last).to_contain_text(
        re.compile(r"exact_match .*(better|worse) by \d+\.\d points, 95% sure of")
    )
    expect(page.locator("table.metrics tbody tr")).to_have_count(12)
    box = page.locator("table.pairs tbody tr").first.bounding_box()
    assert box is not None and box["y"] + box["height"] <= 900
    # A difference's count is a filter, and of the range of differences only those in it are left.
    page.locator("#delta > summary").click()
    page.locator("#most").fill("-0.5")
    page.locator("#delta .button").last.click()
    expect(page.locator(".chip.on")).to_contain_text("Δ ≤ -0.5")


def test_filters_stay_and_a_verdict_takes_the_place_of_the_other(real_site: Site, page: Page) -> None:
    """Search, then a card, then a status, then a tab and back: each keeps the others; pass and fail of one
    metric are never both there."""
    page.goto(f"{real_site.url}/runs/{real_site.runs[1].run_id}")
    page.locator("#q").fill("total")
    expect(page).to_have_url(re.compile("q=total"))
    card = page.locator("#strip .card").first
    card.get_by_role("link", name="✕ fail").click()
    expect(page).to_have_url(re.compile("q=total.*fail=exact_match"))
    page.locator("#strip .card").first.get_by_role("link", name="✓ pass").click()
    expect(page.locator(".chip.on")).to_have_text(re.compile("exact_match: passed"))
    assert "fail=" not in page.url and "q=total" in page.url
    page.get_by_label("Outcome").get_by_role("link", name="Answered").click()
    expect(page).to_have_url(re.compile("q=total.*pass=exact_match.*status=ok"))
    page.get_by_role("link", name="Configuration").click()
    page.get_by_role("link", name="Cases", exact=True).click()
    expect(page).to_have_url(re.compile("q=total.*pass=exact_match.*status=ok"))
    expect(page.locator("#q")).to_have_value("total")


def test_rows_are_filtered_by_any_column(real_site: Site, page: Page) -> None:
    """A column and a value, and what was chosen before stays."""
    page.goto(f"{real_site.url}/runs/{real_site.runs[1].run_id}?pass=exact_match")
    page.locator("#by-column > summary").click()
    page.locator("#where-column").select_option("language")
    page.locator("#where-value").fill("th")
    page.get_by_role("button", name="Show these rows").click()
    expect(page).to_have_url(re.compile("pass=exact_match&where=language~th$"))
    expect(page.locator("table.cases tbody tr a[data-row]").first).to_have_text(re.compile("^th-"))


def test_trials_of_a_row_are_flipped_through(real_site: Site, page: Page) -> None:
    """Their share of passes stands in the strip; t goes to the next one, and round again."""
    page.goto(f"{real_site.url}/runs/{real_site.runs[1].run_id}/cases/1")
    strip = page.get_by_label("Verdict", exact=True)
    expect(strip).to_contain_text(re.compile(r"[0-3] of 3 trials pass exact_match"))
    for trial in ("2", "3", "1"):
        page.keyboard.press("t")
        expect(page.get_by_label("Trials").locator("[aria-current]")).to_contain_text(f"{trial}:")
    page.locator("#request > summary").click()
    expect(page.locator("#request")).to_contain_text("model-of-the-week-1")
    page.locator("#raw > summary").click()
    expect(page.locator("#raw")).to_contain_text("latency_ms")
    boxes = page.locator(".case .message > :is(div, pre)")
    inside = boxes.evaluate_all("all => all.filter(one => one.scrollHeight > one.clientHeight + 1).length")
    assert inside == 0
