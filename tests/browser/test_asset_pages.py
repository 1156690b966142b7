"""Prompts, datasets, comparisons, and the whole path from a file to a compared run."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Page, Route, expect

from promptlab.domain.assets import Dataset
from promptlab.store_lab import StoreLab
from tests.browser.conftest import Complaints, Site

PAIRS = "table.pairs tbody tr"


def test_a_prompts_versions_are_diffed_word_by_word(site: Site, page: Page) -> None:
    """Any version against any other, from the address."""
    page.goto(site.url + "/prompt?name=sums&version=1&against=0")
    expect(page.locator(".diff ins").first).to_contain_text("Question")
    expect(page.locator(".diff .new").first).to_contain_text("Think before you answer.")
    expect(page.get_by_text("Placeholders:")).to_contain_text("question")
    expect(page.get_by_role("heading", name="Where used")).to_be_visible()


def test_editing_a_prompt_makes_a_new_version_and_shows_its_placeholders_meanwhile(
    site: Site, page: Page
) -> None:
    """Nothing changed is no new version."""
    page.goto(site.url + "/prompt/edit?name=describe")
    page.get_by_role("button", name="Save as a new version").click()
    expect(page.locator("#toasts")).to_contain_text("Nothing differs")
    page.get_by_role("link", name="Edit as a new version").click()
    page.get_by_label("Text of message 2").fill("Describe a <topic> to <reader>.")
    expect(page.locator("#placeholders")).to_contain_text("reader")
    page.get_by_role("button", name="Save as a new version").click()
    page.wait_for_url(re.compile(r"name=describe&version=1"))
    expect(page.locator("#toasts")).to_contain_text("version 1")


def test_a_label_is_pointed_at_a_version(site: Site, page: Page) -> None:
    """A label that cannot be is refused with the reason."""
    page.goto(site.url + "/prompt?name=sums&version=1")
    page.get_by_label("Point a label here").fill("best")
    page.get_by_role("button", name="Set label").click()
    expect(page.locator(".head .tag", has_text="best")).to_be_visible()
    page.get_by_label("Point a label here").fill("12")
    page.get_by_role("button", name="Set label").click()
    expect(page.locator("#toasts .problem")).to_contain_text("not a usable label")


def test_a_dataset_shows_its_columns_and_pages_of_rows(site: Site, page: Page) -> None:
    """The page is in the address."""
    page.goto(site.url + "/dataset?name=arithmetic")
    expect(page.locator("table.rows tbody tr")).to_have_count(50)
    expect(page.get_by_role("row", name=re.compile("^topic string"))).to_contain_text("10")
    page.keyboard.press("]")
    expect(page.locator("table.rows tbody tr").first).to_contain_text("q0050")
    page.reload()
    expect(page.locator("table.rows tbody tr").first).to_contain_text("q0050")


def test_a_file_with_a_broken_line_is_refused_with_the_line(
    site: Site, page: Page, tmp_path: Path, complaints: Complaints
) -> None:
    """And the form stays as it is."""
    file = tmp_path / "broken.jsonl"
    file.write_text('{"a": 1}\n{"a": \n{"a": 2}\noops\n')
    page.goto(site.url + "/datasets")
    page.get_by_label("The dataset's file").set_input_files(file)
    page.get_by_role("button", name="Upload").click()
    expect(page.locator("[data-problems]")).to_contain_text(re.compile("line 2.*\nbroken.jsonl, line 4"))
    expect(page.get_by_label("Name", exact=True)).to_have_value("broken")
    complaints.lines.clear()  # the browser's own note of the refused request


_DROP = """([text, name]) => {
  const data = new DataTransfer();
  data.items.add(new File([text], name));
  const zone = document.querySelector('form[data-drop] p');
  for (const type of ['dragenter', 'dragover', 'drop'])
    zone.dispatchEvent(new DragEvent(type, {bubbles: true, cancelable: true, dataTransfer: data}));
}"""


def test_a_dropped_file_becomes_a_dataset(site: Site, page: Page) -> None:
    """Anywhere on the form; its name is suggested."""
    page.goto(site.url + "/datasets")
    page.evaluate(_DROP, ["city,country\nBern,CH\nRome,IT\n", "cities.csv"])
    expect(page.locator("[data-file]")).to_contain_text("cities.csv")
    expect(page.get_by_label("Name", exact=True)).to_have_value("cities")
    page.get_by_role("button", name="Upload").click()
    page.wait_for_url("**/dataset?name=cities&version=0")
    expect(page.locator("#toasts")).to_contain_text("cities has version 0")
    expect(page.locator("table.rows tbody tr")).to_have_count(2)


def test_what_is_typed_while_an_answer_comes_is_kept(site: Site, page: Page) -> None:
    """Also in a field of the part that the answer replaces."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route(lambda url: "tags=first" in url, hold, times=1)
    page.goto(site.url + "/new?prompt=sums%400&dataset=arithmetic%400&metric=numeric_match")
    with page.expect_request(lambda request: "tags=first" in request.url):
        page.get_by_label("Tags").fill("first")
        page.get_by_label("Tags").press("Tab")
    page.get_by_label("Experiment's name").evaluate("field => field.value = 'by hand'")
    pattern = page.get_by_label("response_pattern")
    pattern.click()
    page.keyboard.type("half a wo")
    with page.expect_response(lambda response: "tags=first" in response.url):
        held[0].continue_()
    expect(page).to_have_url(re.compile("tags=first"))
    expect(pattern).to_be_focused()
    page.keyboard.type("rd")
    expect(pattern).to_have_value("half a word")
    expect(page.get_by_label("Experiment's name")).to_have_value("by hand")
    page.keyboard.press("Tab")
    expect(page).to_have_url(re.compile("name=by%20hand.*response_pattern=half%20a%20word"))


def test_the_preview_follows_each_choice_before_all_are_made(site: Site, page: Page) -> None:
    """The placeholders are shown filled, a missing column is named, and nothing can be started yet."""
    page.goto(site.url + "/new")
    page.get_by_label("Prompt", exact=True).select_option("sums@1")
    page.get_by_label("Dataset", exact=True).select_option("topics@0")
    expect(page.locator(".note.bad")).to_contain_text("question")
    page.get_by_label("Dataset", exact=True).select_option("arithmetic@0")
    expect(page.locator("aside article").first).to_contain_text("What is 0 + 0?")
    expect(page.get_by_role("button", name="Start")).to_be_disabled()


def test_the_columns_of_a_large_dataset_are_of_all_its_rows(site: Site, page: Page) -> None:
    """They come once the page is there, and nothing moves."""

    async def add(lab: StoreLab) -> None:
        rows = [
            {"kind": "late" if n > 19_000 else "early", "n": n, "text": f"{n} " + "word " * 12}
            for n in range(20_000)
        ]
        await lab.assets.create(Dataset(name="many", rows=rows))

    site.call(add)
    page.goto(site.url + "/dataset?name=many")
    row = page.locator("#columns").get_by_role("row")
    expect(row.filter(has_text="early")).to_contain_text("4 to 5 characters")
    expect(row.filter(has=page.get_by_role("rowheader", name="n", exact=True))).to_contain_text("0 to 19999")
    expect(page.locator("#columns")).to_contain_text("Of all 20,000 rows")


def test_compared_runs_show_what_differs_and_filter_by_change(site: Site, page: Page) -> None:
    """Wins and losses are links whose counts are those of the rows."""
    first, second = site.runs[1].run_id, site.runs[2].run_id
    page.goto(f"{site.url}/compare?run={first}&run={second}")
    expect(page.get_by_text("What differs in configuration")).to_contain_text("prompt")
    page.get_by_text("What differs in configuration").click()
    expect(page.locator(".diff .new", has_text="Think before you answer.")).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("^model accuracy"))).to_contain_text("0.79")
    regressed = page.get_by_role("group", name="Change").get_by_role("link", name=re.compile("Regressed"))
    count = int(re.search(r"\d+", regressed.inner_text())[0])  # type: ignore[index]
    regressed.click()
    expect(page.locator(PAIRS)).to_have_count(min(count, 25))
    expect(page).to_have_url(re.compile("change=regressed"))
    assert all("regressed" in text for text in page.locator(PAIRS).all_inner_texts())
    page.reload()
    expect(page.locator(PAIRS)).to_have_count(min(count, 25))
    page.get_by_role("link", name="make it the base").click()
    expect(page).to_have_url(re.compile(f"run={second}&run={first}"))


def test_one_run_cannot_be_compared(site: Site, page: Page, complaints: Complaints) -> None:
    """The page says what it needs."""
    page.goto(f"{site.url}/compare?run={site.runs[0].run_id}")
    expect(page.get_by_text("two to four runs")).to_be_visible()
    complaints.lines.clear()


def test_run_again_brings_the_whole_experiment_into_the_form(site: Site, page: Page) -> None:
    """The address holds it, so a preset can be shared."""
    page.goto(f"{site.url}/runs/{site.runs[3].run_id}")
    page.get_by_role("link", name="Run again with changes").click()
    expect(page.locator("#prompt")).to_have_value("sums@1")
    expect(page.locator("#model")).to_have_value("simulated/large")
    expect(page.locator("#metric-numeric_match")).to_be_checked()
    expect(page.get_by_role("heading", name="First rows, as the model gets them")).to_be_visible()


def test_files_that_are_chosen_together_become_a_dataset_with_pictures(
    site: Site, page: Page, tmp_path: Path
) -> None:
    """They are packed in the browser; one file of rows is asked for, and what is wrong is said."""
    (tmp_path / "shots.jsonl").write_text('{"photo": "shots/a.png"}\n{"photo": "shots/b.png"}\n')
    for number, name in enumerate(("a.png", "b.png")):
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n" + bytes([number]) * 900)
    pictures = [tmp_path / "a.png", tmp_path / "b.png"]
    page.goto(site.url + "/datasets")
    files = page.locator("input[type=file]")
    files.set_input_files(pictures)
    expect(page.locator("[data-problems]")).to_contain_text("None of these 2 files may be the rows")
    files.set_input_files([tmp_path / "shots.jsonl", *pictures])
    expect(page.locator("[data-file]")).to_contain_text("shots.jsonl and 2 more")
    page.get_by_label("Columns that hold media").fill("photo: image")
    page.get_by_role("button", name="Upload").click()
    page.wait_for_url(re.compile(r"name=shots&version=0"))
    expect(page.locator("table.rows tbody tr")).to_have_count(2)
    expect(page.locator("table.rows")).to_contain_text("image/png")
