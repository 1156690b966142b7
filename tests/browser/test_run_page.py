"""A run's page and its cases."""

from __future__ import annotations

import asyncio
import re

import pytest
from playwright.sync_api import Page, Route, TimeoutError, expect

from promptlab.store_lab import StoreLab
from tests.browser import labs
from tests.browser.conftest import Site

ROWS = "table.cases tbody tr"


def run_url(site: Site, number: int = 2, rest: str = "") -> str:
    """The page of one of the site's runs; the third has failures."""
    return f"{site.url}/runs/{site.runs[number].run_id}{rest}"


def test_twenty_rows_with_score_expected_and_answer_are_on_the_first_screen(site: Site, page: Page) -> None:
    """At 1400 × 900, without scrolling in either direction."""
    page.goto(run_url(site))
    inside = page.evaluate(
        "[...document.querySelectorAll('table.cases tbody tr')].filter(r => "
        "r.getBoundingClientRect().bottom <= innerHeight).length"
    )
    assert inside >= 20
    for name in ("Expected", "Answer", "numeric_match"):
        box = page.get_by_role("columnheader", name=name, exact=True).bounding_box()
        assert box and box["x"] + box["width"] <= 1400
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_clicking_a_verdict_filters_and_the_count_agrees_with_the_rows(site: Site, page: Page) -> None:
    """The chip goes away with its condition."""
    page.goto(run_url(site, 0))
    page.get_by_role("link", name=re.compile("✕ fail")).first.click()
    expect(page.locator("a.chip.on", has_text="did not pass")).to_be_visible()
    count = page.locator(ROWS).count()
    expect(page.locator(".pages")).to_contain_text(f"of {count} cases")
    assert all("✕ fail" in text for text in page.locator(ROWS).all_inner_texts())
    page.reload()
    expect(page.locator(ROWS)).to_have_count(count)
    page.locator("a.chip.on", has_text="did not pass").click()
    expect(page.locator(".pages")).to_contain_text("of 120 cases")


def test_a_bar_of_a_histogram_filters_by_its_range(site: Site, page: Page) -> None:
    """The cases are as many as the bar said."""
    page.goto(run_url(site, 0))
    bar = page.locator(".strip svg.histogram a").first
    title = bar.get_attribute("aria-label") or ""
    said = int(re.search(r": ([\d,]+) cases", title)[1].replace(",", ""))  # type: ignore[index]
    bar.click()
    expect(page.locator(".pages")).to_contain_text(f"of {said} cases")


def test_errors_by_type_lead_to_their_cases(site: Site, page: Page) -> None:
    """From the summary to the rows."""
    page.goto(run_url(site, rest="?tab=summary"))
    page.get_by_role("link", name="server_error").click()
    expect(page.locator(ROWS).first).to_contain_text("✕ server_error")
    expect(page.locator(ROWS)).to_have_count(site.runs[2].summary["errors"]["server_error"])  # type: ignore[index]


def test_search_sort_and_page_are_in_the_address(site: Site, page: Page) -> None:
    """And survive a reload together."""
    page.goto(run_url(site, 0))
    page.get_by_role("link", name="Next →").click()
    expect(page).to_have_url(re.compile("page=2"))
    expect(page.locator(ROWS).first).to_contain_text("q0050")
    page.keyboard.press("/")
    page.keyboard.type("harbour")
    expect(page.locator(".pages")).to_contain_text("of 12 cases")
    expect(page).to_have_url(re.compile(r"[?]q=harbour$"))
    page.get_by_role("columnheader", name="Case").get_by_role("link").click()
    expect(page).to_have_url(re.compile("q=harbour.*sort=id"))
    page.get_by_role("columnheader", name="Case").get_by_role("link").click()
    expect(page.locator(ROWS).first).to_contain_text("q0115")
    page.reload()
    expect(page.locator(ROWS).first).to_contain_text("q0115")
    expect(page.locator("#q")).to_have_value("harbour")


def test_columns_can_be_chosen(site: Site, page: Page) -> None:
    """The choice is in the address."""
    page.goto(run_url(site, 0))
    page.get_by_text("Columns", exact=True).click()
    page.get_by_label("Attempts").check()
    expect(page.get_by_role("columnheader", name="Attempts")).to_be_visible()
    page.get_by_label("Latency").uncheck()
    expect(page.get_by_role("columnheader", name="Latency")).to_have_count(0)
    page.reload()
    expect(page.get_by_role("columnheader", name="Attempts")).to_be_visible()
    expect(page.get_by_role("columnheader", name="Latency")).to_have_count(0)


def test_a_case_is_stepped_through_within_the_filter(site: Site, page: Page) -> None:
    """Keys go to the next case that matches, and up to the same table."""
    page.goto(run_url(site, 0, "?q=harbour"))
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Case q0005")).to_be_visible()
    expect(page.locator("#case")).to_contain_text("1 of 12 that match")
    page.keyboard.press("j")
    expect(page.get_by_role("heading", name="Case q0015")).to_be_visible()
    expect(page).to_have_title(re.compile("Case q0015"))
    page.reload()
    expect(page.locator("#case")).to_contain_text("2 of 12 that match")
    page.keyboard.press("k")
    expect(page.get_by_role("heading", name="Case q0005")).to_be_visible()
    page.keyboard.press("u")
    expect(page.locator(".pages")).to_contain_text("of 12 cases")


def test_a_case_shows_messages_answer_scores_and_the_row(site: Site, page: Page) -> None:
    """The messages are the prompt filled with the row."""
    page.goto(run_url(site, 0, "/cases/5"))
    expect(page.locator("article.message", has_text="system")).to_contain_text(
        "You are careful with numbers."
    )
    expect(page.locator("article.message", has_text="user").first).to_contain_text(
        "What is 5 + 35? It is about a harbour."
    )
    expect(page.locator("article.answer")).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("numeric_match"))).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("topic"))).to_contain_text("harbour")


def test_unknown_runs_cases_and_filters_are_pages_that_say_so(
    site: Site, page: Page, complaints: object
) -> None:
    """With the right status, and a way on."""
    for path, status, words in (
        ("/runs/nothing", 404, "No run 'nothing'"),
        (f"/runs/{site.runs[0].run_id}/cases/99999", 404, "has no case 99999"),
        (f"/runs/{site.runs[0].run_id}/cases/x", 404, "is not a case"),
        (f"/runs/{site.runs[0].run_id}?sort=nothing", 422, "nothing"),
        (f"/runs/{site.runs[0].run_id}?range=x", 422, "is not a range"),
        ("/prompt?name=sums&version=²", 404, "no label '²'"),
        ("/prompt?name=sums&version=99999999999999999999999", 404, "no version 99999999999999999999999"),
        (
            f"/compare?run={site.runs[0].run_id}&run={site.runs[1].run_id}&other=²",
            422,
            "is not the place of a run",
        ),
        (
            f"/compare?run={site.runs[0].run_id}&run={site.runs[1].run_id}&other={'9' * 5000}",
            422,
            "is not the place of a run",
        ),
        (f"/prompt?name=sums&version={'9' * 5000}", 404, "no version 9999"),
        ("/nowhere", 404, "nothing at /nowhere"),
    ):
        answer = page.goto(site.url + path)
        assert answer and 400 <= answer.status < 500, (path, answer and answer.status, status)
        expect(page.locator(".note.bad")).to_contain_text(words)
    complaints.lines.clear()  # type: ignore[attr-defined]


def test_the_address_of_a_part_leads_to_its_page(site: Site, page: Page) -> None:
    """The part that htmx asks for, opened by hand."""
    page.goto(run_url(site, 0, "/live"))
    expect(page).to_have_url(run_url(site, 0))
    expect(page.locator(ROWS)).to_have_count(50)


def test_a_running_run_moves_and_can_be_cancelled(site: Site, page: Page) -> None:
    """The head counts up by itself; cancelling asks first."""

    async def start(lab: StoreLab) -> str:
        model = {"name": "simulated/slow", "latency_ms": 150, "max_concurrent_tasks": 2}
        return (await lab.start(labs.config(model))).run_id

    run_id = site.call(start)
    page.goto(f"{site.url}/runs/{run_id}")
    expect(page.locator("#live .status")).to_contain_text("running")
    expect(page.locator(ROWS).first).to_contain_text("q0000")
    before = page.locator("#live .facts").inner_text()
    page.wait_for_function(
        "before => document.querySelector('#live .facts').innerText !== before", arg=before
    )
    page.get_by_role("button", name="Cancel").click()
    dialog = page.get_by_role("dialog", name="Are you sure?")
    dialog.get_by_role("button", name="Keep it").click()
    expect(page.locator("#live .status")).to_contain_text("running")
    page.get_by_role("button", name="Cancel").click()
    dialog.get_by_role("button", name="Cancel the run").click()
    expect(page.locator("#toasts")).to_contain_text("Cancelled")
    expect(page.locator("#live .status")).to_contain_text("cancelled")
    expect(page.get_by_role("button", name="Resume")).to_be_visible()


POLL = re.compile(r"/live\?.*tab=summary")


def test_a_button_that_is_held_is_not_replaced(site: Site, page: Page) -> None:
    """What comes between press and release waits: the click counts."""

    async def start(lab: StoreLab) -> str:
        model = {"name": "simulated/slow", "latency_ms": 300, "max_concurrent_tasks": 2}
        return (await lab.start(labs.config(model))).run_id

    page.goto(f"{site.url}/runs/{site.call(start)}?tab=summary")
    button = page.get_by_role("button", name="Cancel")
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    with page.expect_request(POLL):
        page.route(POLL, hold, times=1)
    button.hover()
    page.mouse.down()
    with page.expect_response(POLL):
        for route in held:
            route.continue_()
    page.mouse.up()
    dialog = page.get_by_role("dialog", name="Are you sure?")
    dialog.get_by_role("button", name="Cancel the run").click()
    expect(page.locator("#live .status")).to_contain_text("cancelled")


def test_a_running_run_waits_for_who_decides(site: Site, page: Page) -> None:
    """While one asks oneself whether to cancel, nothing is replaced; the focus and an open menu stay where
    they are, too."""

    async def start(lab: StoreLab) -> str:
        model = {"name": "simulated/slow", "latency_ms": 300, "max_concurrent_tasks": 2}
        return (await lab.start(labs.config(model))).run_id

    page.goto(f"{site.url}/runs/{site.call(start)}?tab=summary")
    button = page.get_by_role("button", name="Cancel")
    button.focus()
    with page.expect_response(lambda answer: "/live" in answer.url and "tab=summary" in answer.url):
        pass
    expect(button).to_be_focused()
    expect(page.locator(".strip")).to_have_count(0)
    button.click()
    with pytest.raises(TimeoutError), page.expect_request(lambda asked: "/live" in asked.url, timeout=2500):
        pass
    page.get_by_role("dialog", name="Are you sure?").get_by_role("button", name="Cancel the run").click()
    expect(page.locator("#live .status")).to_contain_text("cancelled")


def test_at_a_runs_end_the_focus_and_what_is_opened_stay(site: Site, page: Page) -> None:
    """The page becomes that of a finished run in place; what somebody is typing is not lost."""

    async def start(lab: StoreLab) -> str:
        model = {"name": "simulated/slow", "latency_ms": 300, "max_concurrent_tasks": 12}
        return (await lab.start(labs.config(model))).run_id

    page.goto(f"{site.url}/runs/{site.call(start)}")
    page.locator("#by-column > summary").click()
    page.locator("#where-column").select_option("topic")
    page.locator("#where-value").click()
    page.keyboard.type("harb")
    expect(page.locator("#live .status")).to_contain_text("completed")
    expect(page.get_by_role("link", name="Slices")).to_be_visible()
    expect(page.locator("#where-value")).to_be_focused()
    page.keyboard.type("our")
    page.keyboard.press("Enter")
    expect(page.locator(".chip.on")).to_contain_text("topic: harbour")


def test_escape_and_a_click_beside_it_close_a_menu_and_do_nothing_else(site: Site, page: Page) -> None:
    """And the focus is where it was."""
    page.goto(run_url(site, 0))
    menu, entry = page.locator("#export-menu"), page.get_by_role("link", name="CSV", exact=True)
    menu.click()
    page.locator(ROWS).nth(5).click()
    expect(entry).to_be_hidden()
    expect(page).to_have_url(run_url(site, 0))
    menu.click()
    entry.focus()
    page.keyboard.press("Escape")
    expect(entry).to_be_hidden()
    expect(menu).to_be_focused()


def test_going_back_undoes_a_search_in_one_step(site: Site, page: Page) -> None:
    """However many questions the typing asked; the field says what the address says."""
    page.goto(run_url(site, 0))
    page.locator("#q").click()
    for text in ("h", "ha", "harbour"):
        page.locator("#q").fill(text)
        expect(page).to_have_url(re.compile(f"q={text}$"))
    page.go_back()
    expect(page).to_have_url(run_url(site, 0))
    expect(page.locator("#q")).to_have_value("")
    expect(page.locator(".pages")).to_contain_text("of 120 cases")
    page.go_forward()
    expect(page.locator("#q")).to_have_value("harbour")
    expect(page.locator(".pages")).to_contain_text("of 12 cases")


def test_a_measured_value_stands_beside_its_verdict(site: Site, page: Page) -> None:
    """Also where it is 1, as the length of an answer may be; pass or fail alone stands alone."""
    page.goto(run_url(site, 0, "/cases/0"))
    expect(page.get_by_role("row", name=re.compile("^length"))).to_contain_text("✓ pass 1")
    expect(page.get_by_role("row", name=re.compile("^numeric_match")).get_by_role("cell").first).to_have_text(
        "✓ pass"
    )


def test_a_run_that_was_stopped_is_filtered_and_searched(site: Site, page: Page) -> None:
    """Over what was answered, and it says so; the case that is opened keeps to the search."""

    async def stopped(lab: StoreLab) -> str:
        run = await lab.start(
            labs.config({"name": "simulated/slow", "latency_ms": 40, "max_concurrent_tasks": 2})
        )
        while (await lab.progress(run.run_id)).done < 12:
            await asyncio.sleep(0.05)
        return (await lab.cancel(run.run_id)).run_id

    page.goto(f"{site.url}/runs/{site.call(stopped)}")
    page.locator("#q").fill("harbour")
    expect(page.locator("#cases")).to_contain_text(re.compile("[12] of [0-9]+ answered so far"))
    page.get_by_role("link", name="Latency").click()
    expect(page.locator(ROWS).first).to_contain_text("harbour")
    page.locator(ROWS).first.click()
    expect(page.locator("#case")).to_contain_text("that match")


def test_an_agents_run_has_every_page(site: Site, page: Page) -> None:
    """Without a prompt: an agent got the rows."""

    async def run(lab: StoreLab) -> str:
        return (
            await lab.run(
                {"name": "agent", "dataset": "topics", "agent_proxy": lambda row: row["topic"].upper()}
            )
        ).run_id

    run_id = site.call(run)
    for rest in ("", "?tab=summary", "?tab=configuration", "/cases/0"):
        answer = page.goto(f"{site.url}/runs/{run_id}{rest}")
        assert answer and answer.status == 200, rest
    expect(page.locator("article.answer")).to_contain_text("RIVER")


def test_a_title_of_one_long_word_fits_every_width(site: Site, page: Page) -> None:
    """On the run's page and where its cases name it."""
    run_id = site.runs[2].run_id
    site.call(lambda lab: lab.edit_run(run_id, title="مرحبا \U0001f9ea/" + "x" * 150))
    for width in (380, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        for path in ("", "/cases/3", "/label", "/label?n=2"):
            page.goto(f"{site.url}/runs/{run_id}{path}")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (width, path)
    site.call(lambda lab: lab.edit_run(run_id, title=""))
