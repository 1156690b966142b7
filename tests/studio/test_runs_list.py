"""The list of runs: filters, columns and views."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest
from promptlab_studio.app import create_app
from promptlab_studio.saved_views import MOST_VIEWS, save_view, saved_views

from promptlab.domain.results import RunRecord
from promptlab.errors import ConfigError
from tests.bench.real_runs import add_many, add_wide
from tests.browser import labs
from tests.studio.test_pages import Studio


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Studio]:
    """The pages of an empty lab."""
    lab = labs.open_lab(tmp_path)
    app = create_app(lab)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        yield Studio(lab, client)
    await lab.close()


MODELS = ("openai/one", "openai/two", "openai/two", "anthropic/one")


async def runs_in(studio: Studio) -> list[RunRecord]:
    """Four runs of three models, a day after each other, the newest first."""
    made = await add_wide(studio.lab, rows=6, runs=4, trials=1)
    runs = []
    for day, (run, model) in enumerate(zip(made, MODELS, strict=True), 20):
        spec = {**run.experiment, "model": {**run.experiment["model"], "name": model}}
        at = f"2026-11-{day}T12:00:00.000000Z"
        runs.append(replace(run, run_id=f"r{day}", experiment=spec, created_at=at))
        await studio.lab.delete_run(run.run_id)
        await studio.lab.ledger.add_run(runs[-1])
    return runs[::-1]


def listed(text: str) -> list[str]:
    """The ids of the runs in a page."""
    return re.findall(r'id="r-([^"]+)"', text)


@pytest.mark.parametrize(
    ("asked", "ids"),
    [
        ({"model": "openai/two"}, ["r22", "r21"]),
        ({"model": "one"}, ["r23", "r20"]),
        ({"since": "2026-11-22"}, ["r23", "r22"]),
        ({"until": "2026-11-21"}, ["r21", "r20"]),
        ({"since": "2026-11-21", "until": "2026-11-22", "model": "openai/two"}, ["r22", "r21"]),
        ({"dataset": "wide@0"}, ["r23", "r22", "r21", "r20"]),
        ({"dataset": "wide@7"}, []),
        ({"prompt": "made-qa"}, ["r23", "r22", "r21", "r20"]),
    ],
)
async def test_the_list_is_filtered(studio: Studio, asked: dict[str, str], ids: list[str]) -> None:
    """Each condition is named, and can be removed."""
    await runs_in(studio)
    answer = await studio.client.get(f"/?{urlencode(asked)}")
    assert listed(answer.text) == ids
    assert answer.text.count("Remove this condition") == len(asked)


async def test_a_day_that_is_none_is_said(studio: Studio) -> None:
    await runs_in(studio)
    answer = await studio.client.get("/?since=yesterday")
    assert answer.status_code == 422
    assert "no day" in answer.text


async def test_columns_are_chosen(studio: Studio) -> None:
    """The chosen ones and no others, in the address; without a choice the usual ones."""
    await runs_in(studio)
    usual = await studio.page("/")
    assert "p50 / p95" in usual.text
    chosen = await studio.client.get("/?col=cases&col=m:length")
    heads = re.findall(r"<th scope=\"col\".*?</th>", chosen.text, re.S)
    assert [re.sub(r"<[^>]+>|\s", "", head) for head in heads] == [
        "Pick",
        "Status",
        "Experiment",
        "length",
        "Cases",
    ]


async def test_a_view_is_kept_replaced_and_removed(studio: Studio) -> None:
    """It is the list as it is filtered, sorted and laid out."""
    await runs_in(studio)
    address = "model=openai%2Ftwo&sort=cost&col=cost"
    kept = await studio.client.post(f"/runs/views?{address}", data={"name": "two by <cost>"})
    assert kept.status_code == 303
    page = await studio.client.get("/")
    assert "two by &lt;cost&gt;" in page.text
    assert f'href="/?{address.replace("&", "&amp;")}"' in page.text
    await studio.client.post("/runs/views?q=x", data={"name": "two by <cost>"})
    assert await saved_views(studio.lab.ledger) == {"two by <cost>": "q=x"}
    await studio.client.post("/runs/views/remove", data={"name": "two by <cost>"})
    assert await saved_views(studio.lab.ledger) == {}


async def test_views_have_bounds(studio: Studio) -> None:
    records = studio.lab.ledger
    for number in range(MOST_VIEWS):
        await save_view(records, f"view {number}", "q=x")
    with pytest.raises(ConfigError, match="remove one first"):
        await save_view(records, "one more", "q=x")
    await save_view(records, "view 3", "q=y")
    for name, address in (("", "q=x"), ("x" * 61, "q=x"), ("a\nb", "q=x"), ("long", "x" * 4_001)):
        with pytest.raises(ConfigError):
            await save_view(records, name, address)


async def test_a_run_is_renamed_on_its_page_and_found_by_who_started_it(studio: Studio) -> None:
    """The list shows its title, and the experiment's name beside it; so does its page."""
    *others, run = await runs_in(studio)
    await studio.lab.ledger.update_run(run.run_id, {"started_by": "person:ada@example.com"})
    await studio.lab.ledger.update_run(others[0].run_id, {"started_by": "token:5d1c"})
    said = {"title": "For <the> board", "description": "With\ntwo lines"}
    assert (await studio.client.post(f"/runs/{run.run_id}/describe", data=said)).status_code == 303
    page = (await studio.client.get(f"/runs/{run.run_id}")).text
    assert "For &lt;the&gt; board</h1>" in page and "With\ntwo lines" in page and "ada@example.com" in page
    found = (await studio.client.get("/", params={"by": "person:ada@example.com", "col": "by"})).text
    assert listed(found) == [run.run_id] and f"(For &lt;the&gt; board ({run.name})" not in found
    assert f'title="For &lt;the&gt; board ({run.name})' in found and ">ada@example.com</td>" in found
    assert listed((await studio.client.get("/", params={"q": "BOARD"})).text) == [run.run_id]
    refused = await studio.client.post(f"/runs/{run.run_id}/describe", data={"title": "x" * 201})
    assert refused.status_code == 303
    assert (await studio.lab.get_run(run.run_id)).title == said["title"]


async def test_the_chart_over_time_has_a_line_for_each_labelled_run(studio: Studio) -> None:
    """With its interval, and a comparison of the newest run with it."""
    newest, *_, oldest = await runs_in(studio)
    await studio.lab.label_run(oldest.run_id, "production")
    page = (await studio.client.get("/", params={"charts": "1"})).text
    assert 'class="level"' in page and ">@production</text>" in page
    assert f'href="/compare?run={oldest.run_id}&amp;run={newest.run_id}"' in page
    await studio.lab.unlabel_run(oldest.run_id, "production")
    assert 'class="level"' not in (await studio.client.get("/", params={"charts": "1"})).text


async def test_a_list_of_many_runs_stays_small(studio: Studio) -> None:
    """What a browser has to do for a page of 50 runs with twelve metrics: elements, links that the script
    looks at, and bytes; none depends on how many runs there are."""
    run = (await add_wide(studio.lab, rows=6, runs=1, trials=1))[0]
    await add_many(studio.lab, run, 120)
    text = (await studio.client.get("/")).text
    assert len(listed(text)) == 50
    rows = text[text.index("<tbody hx-disable>") : text.index("</tbody>")]
    assert len(re.findall(r"<[a-z]", rows)) <= 50 * 39
    assert len(re.findall(r"<[a-z]", text)) - len(re.findall(r"<[a-z]", rows)) < 450
    assert text.count("<a ") - rows.count("<a ") < 60
    assert len(text) < 180_000
