"""Opened runs: how many are remembered, what is copied of them from a bucket, and how far texts are read."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from promptlab import Dataset, PromptTemplate
from promptlab.adapters.local.file_blobs import FileBlobs
from promptlab.domain.results import CaseKey, RunRecord
from promptlab.errors import RunError
from promptlab.queries.query_engine import Filter, QueryEngine
from promptlab.store_lab import StoreLab


class Bucket(FileBlobs):
    """Blobs that are no files: whoever wants one gets a copy."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = None

    async def files(self, keys: Sequence[str], folder: Path) -> list[Path]:
        copies = [folder / key.replace("/", "-") for key in keys]
        for path, copy in zip(await super().files(keys, folder), copies, strict=True):
            shutil.copy(path, copy)
        return copies


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[StoreLab]:
    lab = StoreLab.open({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    yield lab
    await lab.close()


@pytest.fixture
async def engine(lab: StoreLab) -> AsyncIterator[QueryEngine]:
    engine = QueryEngine(lab.ledger, lab.blobs)
    yield engine
    await engine.close()


async def run(lab: StoreLab, rows: list[dict[str, Any]]) -> RunRecord:
    experiment = {
        "name": "x",
        "model": "simulated/echo",
        "dataset": Dataset(name="rows", rows=rows),
        "prompt_template": PromptTemplate(name="ask", user_prompt="<q>"),
        "evaluation": [],
    }
    return await lab.run(experiment)


async def test_the_eight_runs_that_were_asked_last_are_remembered(lab: StoreLab) -> None:
    """Of the others no copy stays; one that is asked again is copied again; in the end nothing is left."""
    runs = [await run(lab, [{"q": f"word{n}"}]) for n in range(9)]
    assert lab.blobs.folder is not None
    engine = QueryEngine(lab.ledger, Bucket(lab.blobs.folder))

    def copied() -> set[str]:
        names = [path.name for path in engine._folder.glob("runs-*")]
        return {run.run_id for run in runs if any(run.run_id in name for name in names)}

    for number in (*range(8), 0, 8):
        page = await (await engine.results(runs[number])).page(Filter(text=f"word{number}"))
        assert [row["input.q"] for row in page.rows] == [f"word{number}"]
    assert copied() == {run.run_id for run in runs} - {runs[1].run_id}
    assert (await (await engine.results(runs[1])).page()).total == 1
    assert copied() == {run.run_id for run in runs} - {runs[2].run_id}
    folder = engine._folder
    await engine.close()
    assert folder.name.startswith("promptlab-query-") and not folder.exists()


async def test_a_page_has_fifty_cases_and_a_search_reads_20_000_characters(
    lab: StoreLab, engine: QueryEngine
) -> None:
    """What stands behind them is shown with the case, and not found."""
    rows = [{"q": "x" * 19_999 + "Yz"}, *({"q": "x"} for _ in range(60))]
    results = await engine.results(await run(lab, rows))
    page = await results.page()
    assert (len(page.rows), page.limit, page.offset, page.total) == (50, 50, 0, 61)
    assert (len(page.rows[0]["input.q"]), page.rows[0]["cut"]) == (300, ["input.q", "response"])
    assert await results.case(3) == await results.case(3, 0) is not None
    assert (await results.neighbours(3)).next == (await results.neighbours(3, 0)).next == CaseKey(4, 0)
    assert (await results.page(Filter(text="XY"))).total_matching == 1
    assert (await results.page(Filter(text="yZ"))).total_matching == 0
    last = await results.page(offset=50)
    assert ([row["case"] for row in last.rows], last.offset) == (list(range(50, 61)), 50)
    beyond = await results.page(offset=1_000, limit=20)
    assert ([row["case"] for row in beyond.rows], beyond.offset) == ([60], 60)


async def test_runs_without_results_cannot_be_compared_and_the_run_is_named(
    lab: StoreLab, engine: QueryEngine
) -> None:
    """Neither as the base nor as one of the others."""
    done = await run(lab, [{"q": "a"}])
    going = replace(done, run_id="going", results=None, status="running")
    for base, other in ((done, going), (going, done)):
        with pytest.raises(RunError, match="Run going is running and has no results yet"):
            await engine.compare(base, [other])
    with pytest.raises(RunError):
        await engine.compare(done, [])
    assert len((await engine.compare(done, [done] * 3)).rows) == 1
    with pytest.raises(RunError):
        await engine.compare(done, [done] * 4)
