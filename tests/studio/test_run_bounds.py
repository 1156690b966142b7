"""The bounds of a run, and its cache, in the form of a new one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import pytest_asyncio

from promptlab import Dataset, PromptTemplate
from promptlab.store_lab import StoreLab
from tests.studio.large_lab import Asked

BOUNDS: dict[str, Any] = {
    "max_cost_usd": 12.5,
    "max_failures": 0.05,
    "case_deadline_s": 90.0,
    "run_deadline_s": 3600.0,
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


def experiment(**more: Any) -> dict[str, Any]:
    return {
        "name": "quiz",
        "dataset": Dataset(name="questions", rows=[{"question": "1 + 1?"}]),
        "prompt_template": PromptTemplate(name="ask", user_prompt="<question>"),
        "model": {
            "name": "simulated/demo",
            "input_usd_per_mtok": 1,
            "output_usd_per_mtok": 1,
            "max_tokens": 9,
        },
        **more,
    }


async def test_run_again_with_changes_keeps_budget_cache_failures_and_deadlines(
    lab: StoreLab, studio: Asked
) -> None:
    """They are in the form, and in the run that it starts."""
    run = await lab.run(experiment(**BOUNDS, cache={"expires_days": 7}))
    again = (await studio.client.get(f"/new?from={run.run_id}")).headers["location"]
    fields = dict(parse_qsl(again.partition("?")[2]))
    form = (await studio.client.get(again)).text
    for name, value in BOUNDS.items():
        assert f'name="{name}"' in form and float(fields[name]) == value
    assert '<option value="7" selected>from the cache (7 days)</option>' in form
    started = await studio.client.post("/new", data=fields)
    assert started.status_code == 303, started.text
    new = await lab.get_run(started.headers["location"].rpartition("/")[2].partition("?")[0])
    assert (new.max_cost_usd, new.cache_days) == (12.5, 7)
    assert {name: new.experiment.get(name) for name in BOUNDS if name != "max_cost_usd"} == {
        name: value for name, value in BOUNDS.items() if name != "max_cost_usd"
    }


@pytest.mark.parametrize("name", [*BOUNDS, "cache"])
async def test_what_is_no_bound_is_said_with_its_name(lab: StoreLab, studio: Asked, name: str) -> None:
    run = await lab.run(experiment())
    again = (await studio.client.get(f"/new?from={run.run_id}")).headers["location"]
    fields = dict(parse_qsl(again.partition("?")[2]))
    for wrong in ("soon", "-1", "nan"):
        answer = await studio.client.post("/new", data={**fields, name: wrong})
        assert answer.status_code == 422
        assert name in answer.text.partition('role="alert">')[2][:300] or wrong in answer.text
