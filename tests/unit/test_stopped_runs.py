"""Runs that were stopped and never summed up are sliced, compared and asked as far as they are done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from statistics import mean

import httpx
import pytest
from promptlab_studio.app import create_app

from promptlab.domain.results import RunRecord
from promptlab.store_lab import StoreLab
from tests.bench.make_runs import Made, make_dataset, make_run

CASES, DONE = 120, 100
SAID = f"{DONE} of {CASES} cases are done, and what stands here is of those"


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[StoreLab]:
    lab = StoreLab.open({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    yield lab
    await lab.close()


async def _runs(lab: StoreLab, status: str, shards: int = 2) -> tuple[RunRecord, RunRecord]:
    """A run that is done, and one over the same rows that was stopped."""
    dataset = await make_dataset(lab, CASES)
    done = await make_run(lab, dataset, Made(seed=1))
    stopped = await make_run(lab, dataset, Made(seed=2, ledger=True, results=False, shards=shards))
    await lab.ledger.update_run(stopped.run_id, {"status": status})
    return done, await lab.get_run(stopped.run_id)


@pytest.mark.parametrize("status", ["interrupted", "cancelled", "failed", "stopped", "budget_reached"])
async def test_what_is_done_of_a_stopped_run_is_compared_and_sliced(lab: StoreLab, status: str) -> None:
    """Either way round, over the cases that both have, and each answer says so; SQL has the same rows."""
    done, stopped = await _runs(lab, status)
    rows = [row async for row in lab.results(stopped.run_id)]
    assert len(rows) == DONE
    for ids in ([done.run_id, stopped.run_id], [stopped.run_id, done.run_id]):
        page = await lab.compare(ids)
        assert (page.total, sum(page.unmatched[0])) == (DONE, CASES - DONE)
        assert any(SAID in note and status.replace("_", " ") in note for note in page.notes)
    found = await lab.slices([stopped.run_id, done.run_id], "answer", {})
    assert sum(one.rows for one in found.slices) == DONE and SAID in found.notes[0]
    known = [row["score.length"] for row in rows if row["score.length"] is not None]
    total = sum((one.means["length"].mean or 0) * one.means["length"].n for one in found.slices)
    assert total / len(known) == pytest.approx(mean(known))
    answer = await lab.sql(stopped.run_id, 'SELECT count(*), avg("score.length") FROM cases')
    assert answer.rows == ((DONE, pytest.approx(mean(known))),)


async def test_of_a_run_of_which_nothing_is_done_nothing_is_said(lab: StoreLab) -> None:
    """It is compared and asked all the same."""
    done, stopped = await _runs(lab, "interrupted", shards=0)
    page = await lab.compare([done.run_id, stopped.run_id])
    assert (page.total, page.rows) == (0, [])
    assert f"0 of {CASES} cases are done" in page.notes[0]
    assert (await lab.slices([stopped.run_id], "answer", {})).slices == []
    assert (await lab.sql(stopped.run_id, "SELECT count(*) FROM cases")).rows == ((0,),)


async def test_the_pages_of_a_stopped_run_lead_to_its_slices_and_its_sql(lab: StoreLab) -> None:
    """Each says that the run was stopped; resumed, what is new is there."""
    done, stopped = await _runs(lab, "interrupted")
    transport = httpx.ASGITransport(app=create_app(lab))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        run = (await client.get(f"/runs/{stopped.run_id}")).text
        assert f"/slices?run={stopped.run_id}" in run
        asked = (await client.get(f"/runs/{stopped.run_id}?tab=sql&sql=SELECT+count(*)+FROM+cases")).text
        assert "This run is interrupted" in asked and f">{DONE}<" in asked.replace("\n", "").replace(" ", "")
        for path in (f"/slices?run={stopped.run_id}", f"/compare?run={done.run_id}&run={stopped.run_id}"):
            answer = await client.get(path)
            assert answer.status_code == 200 and SAID in answer.text
        found = (await client.get(f"/api/v1/slices?run={stopped.run_id}&column=answer")).json()
        assert SAID in found["notes"][0]
