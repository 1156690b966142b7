"""The list of runs."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import Site

ROWS = "table[data-rows] tbody tr"


def test_every_run_is_listed_with_its_metrics_and_its_cost(site: Site, page: Page) -> None:
    """Newest first, each metric with its interval in words."""
    page.goto(site.url)
    expect(page.locator(ROWS)).to_have_count(5)
    expect(page.locator(ROWS).first).to_contain_text("describe topics")
    cell = page.locator(ROWS).nth(1).locator("td[title^='numeric_match']")
    assert "95% interval" in (cell.get_attribute("title") or "")
    expect(page.locator(ROWS).nth(2)).to_contain_text("failed")


def test_searching_keeps_only_the_runs_that_match_and_says_so_in_the_address(site: Site, page: Page) -> None:
    """The address gives the same rows again after a reload."""
    page.goto(site.url)
    page.keyboard.press("/")
    page.keyboard.type("simulated/large")
    expect(page.locator(ROWS)).to_have_count(1)
    expect(page).to_have_url(re.compile(r"\?q=simulated%2Flarge$"))
    page.reload()
    expect(page.locator(ROWS)).to_have_count(1)
    expect(page.locator("#q")).to_have_value("simulated/large")


def test_going_back_undoes_a_filter(site: Site, page: Page) -> None:
    """The browser's history holds each state."""
    page.goto(site.url)
    page.get_by_role("group", name="Tags").get_by_role("link", name="#baseline").click()
    expect(page.locator(ROWS)).to_have_count(1)
    page.go_back()
    expect(page.locator(ROWS)).to_have_count(5)


def test_sorting_by_a_metric_puts_the_best_run_first_and_runs_without_it_last(site: Site, page: Page) -> None:
    """A second click turns the order round; what has no value stays at the end."""
    page.goto(site.url)
    page.get_by_role("link", name="numeric_match").click()
    expect(page.locator("th[aria-sort=descending]")).to_contain_text("numeric_match")
    expect(page.locator(ROWS).first).to_contain_text("simulated/large")
    expect(page.locator(ROWS).last).to_contain_text("describe topics")
    page.get_by_role("link", name="numeric_match").click()
    expect(page.locator(ROWS).first).to_contain_text("simulated/small")
    expect(page.locator(ROWS).last).to_contain_text("describe topics")


def test_two_picked_runs_can_be_compared(site: Site, page: Page) -> None:
    """Picking is in the address, too."""
    page.goto(site.url)
    boxes = page.locator("input[name=run]")
    boxes.nth(1).check()
    expect(page).to_have_url(re.compile("run="))
    boxes.nth(2).check()
    link = page.get_by_role("link", name="Compare 2 runs")
    expect(link).to_be_visible()
    page.reload()
    assert (link.get_attribute("href") or "").count("run=") == 2


def test_runs_are_picked_and_compared_without_a_mouse(site: Site, page: Page) -> None:
    """j to a row, x picks it, c compares."""
    page.goto(site.url)
    for key, picked in (("j", 1), ("j", 2)):
        page.keyboard.press(key)
        if picked == 1:
            page.keyboard.press("j")
        page.keyboard.press("x")
        expect(page.locator("input[name=run]:checked")).to_have_count(picked)
    expect(page.get_by_role("link", name="Compare 2 runs")).to_be_visible()
    page.keyboard.press("c")
    page.wait_for_url(re.compile("/compare[?]run=.+&run="))
    expect(page.locator("table.pairs tbody tr").first).to_be_visible()


def test_rows_are_walked_and_opened_with_keys(site: Site, page: Page) -> None:
    """j and k move the focus, Enter opens, u goes back up."""
    page.goto(site.url)
    for key in ("j", "j", "k", "ArrowDown"):
        page.keyboard.press(key)
    run_id = site.runs[3].run_id
    expect(page.locator(f"#r-{run_id}")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/runs/{run_id}")
    page.keyboard.press("u")
    page.wait_for_url(site.url + "/")


def test_charts_show_a_metric_over_time_and_against_cost(site: Site, page: Page) -> None:
    """Dots are links to runs; the Pareto front is said in words."""
    page.goto(site.url + "/?charts=1&metric=numeric_match")
    assert page.locator("svg.chart").count() == 2
    assert page.locator("svg.chart").nth(1).locator("a[aria-label*='on the Pareto front']").count() >= 1


def test_no_match_is_said_with_a_way_back(site: Site, page: Page) -> None:
    """An empty result is not an empty store."""
    page.goto(site.url + "/?q=nowhere")
    expect(page.get_by_role("heading", name="No run matches")).to_be_visible()
    page.get_by_role("link", name="Show every run").click()
    expect(page.locator(ROWS)).to_have_count(5)


def test_an_empty_store_teaches_the_first_step(empty_site: Site, page: Page) -> None:
    """Every list says what to do first."""
    page.goto(empty_site.url)
    expect(page.get_by_role("heading", name="No runs yet")).to_be_visible()
    page.goto(empty_site.url + "/prompts")
    expect(page.get_by_role("link", name="Write the first one")).to_be_visible()
    page.goto(empty_site.url + "/datasets")
    expect(page.get_by_role("heading", name="No datasets yet")).to_be_visible()
    page.goto(empty_site.url + "/new")
    expect(page.get_by_role("heading", name="First a prompt and a dataset")).to_be_visible()


def test_the_chosen_theme_is_kept_and_help_opens_with_a_key(site: Site, page: Page) -> None:
    """System, light, dark, and round again."""
    page.goto(site.url)
    page.locator("#theme").click()
    page.locator("#theme").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()


def test_views_of_any_name_are_kept_and_fit_a_narrow_screen(site: Site, page: Page) -> None:
    """A name with markup and slashes is text, in the list and in the message that says that it is kept."""
    names = ("<script>window.harmed=1</script>", "W" * 60, "\U0001f9ea nightly", "مراجعة الليل")
    page.goto(f"{site.url}/?sort=cost")
    for name in names:
        page.locator("#views > summary").click()
        page.get_by_label("Keep this list as").fill(name)
        page.get_by_role("button", name="Keep", exact=True).click()
        expect(page.locator("#toasts p")).to_have_text(f"Kept as {name}.")
    page.locator("#views > summary").click()
    assert page.locator("#views a").all_inner_texts() == list(names)
    assert page.evaluate("window.harmed") is None
    page.set_viewport_size({"width": 380, "height": 820})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_role("link", name=names[1]).click()
    expect(page).to_have_url(f"{site.url}/?sort=cost")
    for name in names:
        page.locator("#views > summary").click()
        page.get_by_label(f"Remove the view {name}").click()
        expect(page.locator("#toasts p")).to_have_text(f"Removed the view {name}.")
