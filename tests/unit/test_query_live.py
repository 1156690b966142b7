"""Cases of runs that have no results file yet, from the ledger."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from promptlab.domain.results import CaseKey, RunRecord
from promptlab.errors import RunError
from promptlab.queries.compare import compare
from promptlab.queries.finished import StoredResults
from promptlab.queries.query_engine import Filter, QueryEngine, ResultsQuery
from promptlab.queries.unfinished import LiveResults
from promptlab.store_lab import StoreLab
from tests.bench.make_runs import Made, make_dataset, make_run

CASES = 330


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


async def unfinished(lab: StoreLab, trials: int = 1) -> RunRecord:
    """A run with three of its seven shards done."""
    return await make_run(
        lab, await make_dataset(lab, CASES), Made(ledger=True, results=False, shards=3, trials=trials)
    )


@pytest.fixture
async def live(lab: StoreLab, engine: QueryEngine) -> ResultsQuery:
    return await engine.results(await unfinished(lab))


async def test_a_page_of_a_going_run_has_answered_and_waiting_cases(live: ResultsQuery) -> None:
    """Cases are in order; one without an answer says so and has its inputs."""
    page = await live.page(offset=140, limit=20)
    assert (page.live, live.live, page.total_matching, page.total) == (True, True, CASES, CASES)
    assert [row["case"] for row in page.rows] == list(range(140, 160))
    assert ["pending" in row for row in page.rows] == [False] * 10 + [True] * 10
    assert page.rows[0]["response"] or page.rows[0]["error_type"]
    assert page.rows[-1]["response"] is None
    assert page.rows[-1]["input.question"]


async def test_the_rows_are_those_that_the_results_will_have(lab: StoreLab, live: ResultsQuery) -> None:
    """A live row is the row of the results table."""
    rows = [row async for row in lab.results(live.run.run_id)]
    page = await live.page(offset=45, limit=20, text_chars=10_000)
    assert [{**row, "cut": []} for row in rows[45:65]] == page.rows
    assert await live.case(149) == rows[149]


async def test_trials_are_cases_of_their_own(lab: StoreLab, engine: QueryEngine) -> None:
    """With three trials a row, a page may begin in the middle of a row."""
    live = await engine.results(await unfinished(lab, trials=3))
    page = await live.page(offset=149, limit=5)
    assert [(row["case"], row["trial"]) for row in page.rows] == [(49, 2), (50, 0), (50, 1), (50, 2), (51, 0)]
    there = await live.neighbours(50, 0)
    assert (there.previous, there.next, there.position, there.total) == (
        CaseKey(49, 2),
        CaseKey(50, 1),
        150,
        990,
    )
    assert (await live.case(50, 1) or {})["trial"] == 1
    assert await live.case(50, 3) is None


async def test_the_ends_have_one_neighbour_and_pages_beyond_are_the_last(live: ResultsQuery) -> None:
    """First, last, beyond and before."""
    assert (await live.neighbours(0)).previous is None
    assert (await live.neighbours(CASES - 1)).next is None
    assert (await live.neighbours(CASES)).position is None
    assert (await live.page(offset=9999, limit=50)).offset == 300
    assert await live.case(CASES) is None
    assert await live.case(-1) is None


@pytest.mark.parametrize("kind", [LiveResults, StoredResults])
def test_a_run_is_asked_in_the_same_way_while_it_goes_and_after(kind: type) -> None:
    """The same names, in the same order, with the same defaults: as the protocol has them."""
    for name in ("page", "row_numbers", "case", "neighbours", "histogram", "facets"):
        asked = inspect.signature(getattr(ResultsQuery, name)).parameters
        assert inspect.signature(getattr(kind, name)).parameters == asked
    asked = inspect.signature(ResultsQuery.page).parameters
    defaults = {name: parameter.default for name, parameter in asked.items() if name != "self"}
    expected = {"sort": "case", "descending": False, "offset": 0, "limit": 50, "text_chars": 300}
    assert defaults == {"filter": Filter(), **expected}
    assert inspect.signature(ResultsQuery.histogram).parameters["bins"].default == 20
    assert inspect.signature(ResultsQuery.case).parameters["trial"].default == 0
    engine, plain = (inspect.signature(one).parameters for one in (QueryEngine.compare, compare))
    names = ("sort", "descending", "offset", "limit", "text_chars")
    assert [engine[name] for name in names] == [plain[name] for name in names]
    assert [engine[name].default for name in names] == ["case", False, 0, 25, 600]


async def test_what_needs_all_rows_is_refused_until_there_are_results(
    lab: StoreLab, engine: QueryEngine, live: ResultsQuery
) -> None:
    """Histograms, counts and comparisons of a going run say when they come."""
    for question in (
        live.histogram("latency_ms"),
        live.facets(Filter()),
        engine.compare(live.run, [live.run]),
    ):
        with pytest.raises(RunError, match="is running and has no"):
            await question
