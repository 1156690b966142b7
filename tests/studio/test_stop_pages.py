"""A run that may end early, in the Studio: its form, its page, the list and Compare; and what it needs before
one pays."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest_asyncio

from promptlab import Dataset, PromptTemplate
from promptlab.store_lab import StoreLab
from tests.studio.large_lab import Asked

ROWS = [
    {"question": f"What is {n} + 17?", "answer": str(n + 17), "kind": "odd" if n % 2 else "even"}
    for n in range(60)
]
METRIC = {
    "metric": "contains",
    "column_mapping": {"response": "$inference", "reference": "answer"},
    "missing": "exclude",
}


@pytest_asyncio.fixture
async def lab(tmp_path: Path) -> AsyncIterator[StoreLab]:
    """An empty store."""
    found = StoreLab.open({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    yield found
    await found.close()


@pytest_asyncio.fixture
async def studio(lab: StoreLab) -> AsyncIterator[Asked]:
    """A Studio over it."""
    found = Asked(lab, {})
    yield found
    await found.client.aclose()


def experiment(accuracy: float, **more: Any) -> dict[str, Any]:
    return {
        "name": "quiz",
        "dataset": Dataset(name="questions", rows=ROWS),
        "prompt_template": PromptTemplate(name="ask", user_prompt="<question>"),
        "model": {
            "name": "simulated/demo",
            "accuracy": accuracy,
            "input_usd_per_mtok": 1,
            "output_usd_per_mtok": 1,
            "requests_per_minute": 60_000,
        },
        "evaluation": [METRIC],
        **more,
    }


async def test_a_run_that_stopped_says_so_on_every_page_and_in_the_form(lab: StoreLab, studio: Asked) -> None:
    """The rule is in the form, kept by *run again*; the page says what was decided and saved."""
    base = await lab.run(experiment(0.1))
    await lab.label_run(base.run_id, "production")
    rules = {"stop": {"against": "production", "margin": 0.25, "looks": 4}, "slices": ["kind"]}
    run = await lab.run(experiment(0.9, **rules))
    assert run.status == "decided" and (run.summary or {})["cases"] < 60
    page = (await studio.client.get(f"/runs/{run.run_id}")).text
    assert f"Better than production (run {base.run_id}) by contains" in page
    assert "cases were saved" in page and "Do all cases" in page
    listed = (await studio.client.get("/")).text
    assert f"{(run.summary or {})['cases']}/60" in listed
    compared = (await studio.client.get(f"/compare?run={base.run_id}&run={run.run_id}")).text
    assert "was stopped early" in compared

    again = await studio.client.get(f"/new?from={run.run_id}")
    fields = dict(parse_qsl(again.headers["location"].partition("?")[2]))
    wanted = {
        "stop_against": "production",
        "stop_metric": "contains",
        "stop_margin": "0.25",
        "stop_looks": "4",
    }
    assert fields.items() >= (wanted | {"slices": "kind", "e.contains.missing": "exclude"}).items()
    form = (await studio.client.get(again.headers["location"])).text
    assert 'value="production"' in form
    begun = await studio.client.post("/new", data=fields)
    found = await lab.get_run(begun.headers["location"].rpartition("/")[2].partition("?")[0])
    assert (found.stop or {})["base"] == base.run_id and (found.stop or {})["looks"] == 4
    assert found.experiment["evaluation"][0]["missing"] == "exclude"
    together = await studio.client.post("/new", data=fields | {"cluster_by": "kind"})
    assert together.status_code == 422 and "independent" in together.text

    answer = (await studio.client.get(f"/api/v1/runs/{run.run_id}")).json()
    assert answer["stop"]["against"] == base.run_id and answer["decided"]["verdict"] == "better"
    assert answer["decided"]["cases_saved"] == 60 - answer["done"] and answer["decided"]["usd_saved"] > 0


async def test_before_one_pays_the_form_and_the_api_say_what_it_takes(lab: StoreLab, studio: Asked) -> None:
    """Rows for a difference, by a guess and by two runs; the cost and the time at the model's limits."""
    await lab.run(experiment(0.3))
    await lab.run(experiment(0.9))
    chosen = "/new?prompt=ask@0&dataset=questions@0&model=simulated/demo&requests_per_minute=30"
    form = (await studio.client.get(chosen)).text
    assert "626 rows show a difference of pass/fail of 0.05 with 80% power" in form
    assert "The 60 rows of this run show" in form
    asked = (await studio.client.get(chosen + "&see=0.3")).text
    assert "rows show a difference of pass/fail of 0.3 of contains with 80% power" in asked
    assert "is a number such as 0.05" in (await studio.client.get(chosen + "&see=much")).text
    body = {
        "prompt_template": "ask@0",
        "dataset": "questions@0",
        "model": {"name": "simulated/demo", "requests_per_minute": 30},
    }
    answer = await studio.client.post("/api/v1/estimate", json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["cases"], found["limited_by"], found["laptop_wall_s"]["expected"]) == (
        60,
        "requests_per_minute",
        120.0,
    )
