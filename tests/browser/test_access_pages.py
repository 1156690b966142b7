"""The pages of who gets in, in a browser: accessible, inside a narrow screen, and usable."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.browser.access_site import hosted, log_in
from tests.browser.axe import findings
from tests.studio.live import TOKEN, LiveStudio

PAGES = (
    "/tokens",
    "/people",
    "/people?remove=max%40example.com",
    "/deletions",
    "/projects",
    "/audit",
    "/audit?who=nobody",
    "/audit?since=x",
    "/doctor?secrets=nothing",
)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStudio]:
    with hosted(tmp_path_factory.mktemp("hosted")) as live:
        yield live


@pytest.mark.parametrize(("scheme", "width"), [("light", 1400), ("dark", 1400), ("light", 380)])
def test_axe_finds_nothing(studio: LiveStudio, browser: Browser, scheme: Any, width: int) -> None:
    """No rule of axe; no page is wider than its screen."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, found = context.new_page(), {}
    for number, path in enumerate(("/login", "/login?left=1", *PAGES)):
        if number == 2:
            log_in(context, studio)
        page.goto(studio.url + path)
        if rules := findings(page, colours_only=scheme == "dark"):
            found[path] = rules
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    context.close()
    assert found == {}


def test_a_token_is_made_copied_and_revoked(studio: LiveStudio, browser: Browser) -> None:
    """By who logs in through the form: it stands on the page once, and is asked about before it ends."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{studio.url}/tokens")
    page.get_by_text("With a token").click()
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/tokens")
    page.get_by_label("What it is for").fill("made by hand")
    page.get_by_label("Role").select_option("engineer")
    page.get_by_role("button", name="Make the token").click()
    secret = page.locator("pre.code").inner_text()
    assert secret.startswith("pl_")
    page.goto(f"{studio.url}/tokens")
    assert secret not in page.content()
    page.get_by_role("button", name="Revoke made by hand").click()
    page.get_by_role("button", name="Revoke it").click()
    page.get_by_text("Revoked: made by hand.").wait_for()
    assert page.get_by_text("made by hand", exact=True).count() == 0
    context.close()


def test_a_project_is_made_described_archived_and_deleted(studio: LiveStudio, browser: Browser) -> None:
    """By an admin; the name is typed and asked about before all that it has goes."""
    context = browser.new_context()
    log_in(context, studio)
    page = context.new_page()
    page.goto(f"{studio.url}/projects")
    page.get_by_label("Name", exact=True).fill("by-hand")
    page.get_by_label("Keep runs for days").first.fill("30")
    page.get_by_role("button", name="Create").click()
    page.get_by_text("There is a project by-hand now.").wait_for()
    card = page.get_by_role("region", name="by-hand")
    assert "keeps runs for 30 days" in card.inner_text()
    card.get_by_text("Edit", exact=True).click()
    card.get_by_label("What it is for").fill("made by hand")
    card.get_by_role("button", name="Save").click()
    page.get_by_text("Changed: by-hand.").wait_for()
    assert "made by hand" in page.get_by_role("region", name="by-hand").inner_text()
    card.get_by_text("Edit", exact=True).click()
    card.get_by_role("button", name="Archive").click()
    card.get_by_text("archived", exact=True).wait_for()
    card.get_by_text("Edit", exact=True).click()
    card.get_by_label("Type its name").fill("by-hand")
    card.get_by_role("button", name="Delete for good").click()
    assert "promptlab cloud projects delete by-hand" in page.get_by_role("dialog").inner_text()
    page.get_by_role("button", name="Keep it").click()
    assert page.get_by_role("region", name="by-hand").count() == 1
    context.close()


def test_a_person_is_deleted_after_a_look_at_what_they_leave(studio: LiveStudio, browser: Browser) -> None:
    """Their tokens go to whom is chosen; the audit calls them by no name."""
    context = browser.new_context()
    log_in(context, studio)
    page = context.new_page()
    page.goto(f"{studio.url}/people")
    page.get_by_role("link", name="Delete Max Ortega").click()
    form = page.get_by_role("form", name="Delete Max Ortega")
    form.get_by_label("Their tokens (1)").select_option(label="are Zoë Brandt’s from now on")
    assert form.get_by_role("checkbox", name="Take their name").is_checked()
    assert not form.get_by_role("checkbox", name="Delete their labels").is_checked()
    form.get_by_role("button", name="Delete for good").click()
    page.get_by_text("The audit calls them deleted-").wait_for()
    for path in ("/people", "/audit", "/deletions"):
        page.goto(studio.url + path)
        assert "Max Ortega" not in page.content() and "max@example.com" not in page.content(), path
    page.goto(f"{studio.url}/tokens")
    assert "notebook on the laptop" in page.content() and "the review on Friday" not in page.content()
    context.close()


def test_each_role_is_offered_what_it_may(studio: LiveStudio, browser: Browser) -> None:
    """A viewer sees neither a way to start a run nor whom to let in."""
    import asyncio

    from promptlab_studio.access import ADMIN

    tokens = studio.app.state.auth.tokens(studio.lab.records)
    made = asyncio.run_coroutine_threadsafe(
        tokens.create(ADMIN, "a viewer", role="viewer", days=1), studio._loop
    )
    context = browser.new_context()
    log_in(context, studio, made.result(60)[1])
    page = context.new_page()
    page.goto(studio.url)
    nav = page.get_by_role("navigation", name="Studio").inner_text()
    assert "Runs" in nav and "New run" not in nav and "Access" not in nav
    page.goto(f"{studio.url}/people")
    assert "needs the role admin" in page.content()
    context.close()
