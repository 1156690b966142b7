"""What the Studio does with many cases or runs at once: it is of those that the page says, and no others."""

from __future__ import annotations

import csv
import json
import re
from typing import Any
from urllib.parse import unquote, urlencode

import pytest

from promptlab.domain.assets import Dataset, PromptTemplate
from promptlab.domain.results import FINAL, RunRecord
from tests.studio.test_pages import Studio, studio

__all__ = ["studio"]

ROWS = [{"id": f"q{n}", "question": f"{n} + 1", "answer": str(n + 1)} for n in range(60)]


async def run(studio: Studio, **changes: Any) -> RunRecord:
    """A run of which a third fails."""
    await studio.lab.assets.create(Dataset(name="sums", rows=ROWS))
    model = {"name": "simulated/demo", "failure_rate": 0.3, "max_retries": 0}
    return await studio.lab.run(
        {
            "name": "sums",
            "prompt_template": {"name": "ask", "user_prompt": "<question>"},
            "dataset": "sums",
            "model": model,
            "evaluation": [{"metric": "exact_match", "column_mapping": {"reference": "answer"}}],
            "tags": ["nightly"],
            **changes,
        }
    )


async def ended(studio: Studio, run_id: str) -> RunRecord:
    """The run at its end."""
    while (found := await studio.lab.get_run(run_id)).status not in FINAL:
        await studio.lab.clock.sleep(0.01)
    return found


async def posted(studio: Studio, form: str, **fields: str) -> tuple[str, str]:
    """Where a form leads, and what is said there."""
    answer = await studio.client.post(form, data=fields)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"], unquote(answer.cookies.get("pl_toast", ""))


def forms(source: str, end: str) -> list[str]:
    """The addresses of a page's forms that have this in their path."""
    found = re.findall(r'<form method="post" action="([^"]+)"', source)
    return [form.replace("&amp;", "&") for form in found if end in form.partition("?")[0]]


async def test_the_filtered_cases_are_run_again_as_a_run_of_their_own(studio: Studio) -> None:
    """The same experiment, tags and row ids over these rows alone; the number is said before."""
    whole = await run(studio)
    summary = await studio.lab.summary(whole.run_id)
    failed = [row["id"] async for row in studio.lab.results(whole.run_id) if row["error_type"]]
    assert 0 < len(failed) < 60
    page = await studio.page(f"/runs/{whole.run_id}?status=failed")
    assert f"Run {summary.failed} rows again" in page.text
    assert f"It makes {summary.failed} calls, which are paid for." in page.source
    (form,) = forms(page.source, "/again")
    place, said = await posted(studio, form)
    part = await ended(studio, place.removeprefix("/runs/"))
    assert said == f"done|Started: {len(failed)} cases."
    assert [row["id"] async for row in studio.lab.results(part.run_id)] == failed
    assert (part.name, part.tags, part.cases) == (whole.name, whole.tags, len(failed))
    changed = {k for k in part.experiment if part.experiment[k] != whole.experiment.get(k)}
    assert changed == {"dataset", "hash"}
    dataset = await studio.lab.assets.get("sums-selected", kind="dataset")
    assert dataset.description == (
        f"{len(failed)} of 60 rows of sums@0: cases of run {whole.run_id} with failed"
    )
    pairs = await studio.lab.compare([whole.run_id, part.run_id])
    assert pairs.total == len(failed)


async def test_rows_and_calls_are_told_apart_where_there_are_trials(studio: Studio) -> None:
    """A row of which one trial failed is asked as often as in the run."""
    whole = await run(studio, trials=3)
    rows = {row["case"] async for row in studio.lab.results(whole.run_id) if row["error_type"]}
    page = await studio.page(f"/runs/{whole.run_id}?status=failed")
    assert f"Run {len(rows)} rows again" in page.text
    assert f"It makes {3 * len(rows)} calls" in page.source


async def test_other_rows_than_were_said_are_not_run(studio: Studio) -> None:
    """Nor is anything where there is no filter."""
    whole = await run(studio)
    place, said = await posted(studio, f"/runs/{whole.run_id}/again?status=failed&rows=1")
    assert place == f"/runs/{whole.run_id}?status=failed"
    assert said.startswith("problem|The run has changed: the filter leaves ")
    assert len((await studio.lab.list_runs())[0]) == 1
    assert forms((await studio.page(f"/runs/{whole.run_id}")).source, "/again") == []


async def test_a_retry_is_offered_where_it_is_over_the_cases_of_the_filter(studio: Studio) -> None:
    """All failed ones, or those of a type; under a narrower filter it would be over others."""
    whole = await run(studio)
    failed = (await studio.lab.summary(whole.run_id)).failed
    (kind,) = (await studio.lab.summary(whole.run_id)).errors
    for query, offered in (
        ("", f"Retry all {failed} failed"),
        ("?status=failed", f"Retry all {failed} failed"),
        (f"?error={kind}", f"Retry {failed} {kind}"),
        ("?status=failed&q=1", None),
        ("?status=ok", None),
        ("?error=other", None),
        ("?fail=exact_match", None),
    ):
        page = await studio.page(f"/runs/{whole.run_id}{query}")
        assert (offered in page.text) if offered else ("Retry" not in page.text), query


async def test_a_filtered_csv_file_runs_no_formula_in_a_spreadsheet(studio: Studio) -> None:
    """As a whole export does not; a number stays one, and JSON lines have the texts as they are."""
    rows = [{"id": "=1+1", "question": "=cmd|' /C calc'!A0", "answer": -2}]
    await studio.lab.assets.create(Dataset(name="formulas", rows=rows))
    whole = await run(studio, dataset="formulas", model={"name": "simulated/echo"})
    table = (await studio.client.get(f"/runs/{whole.run_id}/cases.csv?status=ok")).text
    (row,) = csv.DictReader(table.splitlines())
    assert (row["id"], row["input.question"], row["input.answer"]) == (
        "'=1+1",
        f"'{rows[0]['question']}",
        "-2",
    )
    assert row["response"].startswith("'=cmd")
    lines = (await studio.client.get(f"/runs/{whole.run_id}/cases.jsonl?status=ok")).text
    assert json.loads(lines)["input.question"] == rows[0]["question"]


async def test_a_filtered_csv_file_has_the_style_that_is_asked_for(studio: Studio) -> None:
    """With the words of the command line and the API; another format has no style."""
    whole = await run(studio)
    page = await studio.page(f"/runs/{whole.run_id}?status=failed")
    plain, excel, semicolon = (link for link in page.links if "cases.csv" in link)
    assert (await studio.client.get(plain)).content.startswith(b"case,trial,id,")
    assert (await studio.client.get(excel)).content.startswith(b"\xef\xbb\xbfcase,trial,id,")
    assert (await studio.client.get(semicolon)).content.startswith(b"\xef\xbb\xbfcase;trial;id;")
    wrong = await studio.client.get(f"/runs/{whole.run_id}/cases.csv?delimiter=a")
    assert wrong.status_code == 422 and "delimiter" in wrong.text
    wrong = await studio.client.get(f"/runs/{whole.run_id}/cases.jsonl?bom=true")
    assert wrong.status_code == 422 and "jsonl" in wrong.text


async def test_tags_are_set_and_removed_for_the_runs_of_the_filter(studio: Studio) -> None:
    """For these, and no others; the number is said before."""
    for name in ("a", "b", "a"):
        await run(studio, name=name)
    page = await studio.page("/?experiment=a")
    assert "Add to 2 runs" in page.text
    (form,) = forms(page.source, "/runs/tags")
    place, said = await posted(studio, form, word="good, best", add="")
    assert (place, said) == ("/?experiment=a", "done|Added #good #best: 2 runs.")
    tags = {r.name: r.tags for r in (await studio.lab.list_runs())[0]}
    assert tags == {"a": ("nightly", "good", "best"), "b": ("nightly",)}
    _, said = await posted(studio, form, word="nightly", remove="")
    assert said == "done|Removed #nightly: 2 runs."
    assert (await studio.lab.list_runs())[0][0].tags == ("good", "best")
    for wrong, why in ((" ", "Type a tag first."), ("x" * 101, "has 101 characters")):
        assert why in (await posted(studio, form, word=wrong, add=""))[1]


async def test_the_picked_runs_are_deleted(studio: Studio) -> None:
    """More than can be compared, but not the others; and none where the list has changed meanwhile."""
    made = [(await run(studio, name=str(n))).run_id for n in range(6)]
    picked = "&".join(f"run={run_id}" for run_id in made[:5])
    page = await studio.page(f"/?{picked}")
    assert "Compare (5 picked)" in page.text and "Delete 5 runs" in page.text
    assert "Delete 5 runs with 300 cases for good?" in page.source
    (form,) = forms(page.source, "/runs/delete")
    _, said = await posted(studio, form.replace("n=5", "n=6"))
    assert said == "problem|The list has changed: it is 5 runs now, and 6 were said. Nothing was done."
    assert await posted(studio, form) == ("/", "done|Deleted: 5 runs.")
    assert [r.run_id for r in (await studio.lab.list_runs())[0]] == made[5:]


async def test_a_run_that_goes_on_is_not_deleted_and_it_says_so(studio: Studio) -> None:
    """The others are."""
    over = await run(studio)
    slow = {"name": "simulated/demo", "latency_ms": 60_000}
    config = {"prompt_template": "ask", "dataset": "sums", "model": slow, "name": "sums"}
    going = await studio.lab.start(config)
    (form,) = forms((await studio.page("/?experiment=sums")).source, "/runs/delete")
    _, said = await posted(studio, form)
    assert said == "problem|Deleted: 1 of 2 runs. 1 still going on: cancel first what is to be deleted."
    with pytest.raises(Exception, match=over.run_id):
        await studio.lab.get_run(over.run_id)
    await studio.lab.cancel(going.run_id)


async def test_nothing_is_edited_without_a_choice(studio: Studio) -> None:
    """An address without picked runs or a filter means no run, and not every one."""
    await run(studio)
    page = await studio.page("/")
    assert forms(page.source, "/runs/delete") == [] and "Edit" not in page.text
    _, said = await posted(studio, "/runs/delete?n=1")
    assert said.startswith("problem|The list has changed: it is 0 runs now")
    assert len((await studio.lab.list_runs())[0]) == 1


async def test_runs_are_archived_and_put_back(studio: Studio) -> None:
    """From the list and from the run's own page; archived ones have a list of their own."""
    one, other = await run(studio), await run(studio)
    page = await studio.page(f"/runs/{one.run_id}")
    (form,) = forms(page.source, "/runs/archive")
    place, said = await posted(studio, form)
    assert (place, said) == ("/", "done|Archived: 1 run.")
    listed = await studio.page("/")
    assert one.run_id not in listed.source and other.run_id in listed.source
    archived = await studio.page("/?archived=1")
    assert "Archived runs" in archived.text
    assert one.run_id in archived.source and other.run_id not in archived.source
    assert forms(archived.source, "/runs/delete") == []  # nothing is picked: nothing is done to all of them
    picked = await studio.page(f"/?archived=1&run={one.run_id}")
    assert "Put back 1 run" in picked.text
    (form,) = forms(picked.source, "/runs/archive")
    assert (await posted(studio, form))[1] == "done|Back in the list: 1 run."
    assert one.run_id in (await studio.page("/")).source


async def test_a_version_is_deleted_from_its_page_unless_it_is_used(studio: Studio) -> None:
    """It says what goes, and by what it is used."""
    used = await run(studio)
    await studio.lab.assets.create(Dataset(name="sums", rows=ROWS[:7]))
    page = await studio.page("/dataset?name=sums&version=1")
    assert "Delete version 1 of sums for good? Its 7 rows go, unless another version has them" in page.source
    (form,) = forms(page.source, "/dataset/delete")
    place, said = await posted(studio, form, name="sums", version="0")
    assert place.startswith("/dataset?name=sums") and f"is used by a run ({used.run_id})" in said
    assert await posted(studio, form, name="sums", version="1") == (
        "/dataset?name=sums",
        "done|Deleted: version 1 of sums.",
    )
    assert (await posted(studio, form, name="sums", version="1"))[0] == "/datasets"
    assert (await posted(studio, form, name="sums", version="x"))[1].startswith("problem|Say which version")
    await studio.lab.delete_run(used.run_id)
    (form,) = forms((await studio.page("/prompt?name=ask")).source, "/prompt/delete")
    assert (await posted(studio, form, name="ask", version="0"))[0] == "/prompts"
    assert await studio.lab.assets.latest("prompt_template") == []


async def test_a_label_is_removed_on_the_prompts_page(studio: Studio) -> None:
    """So that its version can be deleted."""
    await run(studio)
    await studio.lab.assets.label("ask", "production", kind="prompt_template")
    assert "Remove it" in (await studio.page("/prompt?name=ask")).text
    fields = {"name": "ask", "version": "0", "label": "production"}
    assert (await posted(studio, "/prompt/label", **fields, remove=""))[1].startswith("done|ask has no label")
    assert (await posted(studio, "/prompt/label", **fields, remove=""))[1].startswith("problem|")


async def test_some_rows_are_tried_before_all(studio: Studio) -> None:
    """The first ones, or a sample; calls are counted so, and a number that is none is said."""
    await studio.lab.assets.create(PromptTemplate(name="ask", user_prompt="<question>"))
    await studio.lab.assets.create(
        Dataset(name="thirty", rows=[{"id": f"r{n}", "question": f"{n} + 1"} for n in range(30)])
    )
    chosen = {
        "prompt": "ask@0",
        "dataset": "thirty@0",
        "model": "simulated/demo",
        "rows": "sample",
        "rows_n": "7",
    }
    form = await studio.page(f"/new?{urlencode(chosen)}")
    assert "calls 7" in form.text
    answer = await studio.client.post("/new", data=chosen)
    assert answer.status_code == 303
    run = await ended(studio, answer.headers["location"].rpartition("/")[2])
    assert run.cases == 7
    assert run.experiment["dataset"]["name"] == "thirty-sample-7-seed-0"
    refused = await studio.client.post("/new", data={**chosen, "rows_n": "few"})
    assert refused.status_code == 422
    assert "How many rows?" in refused.text
