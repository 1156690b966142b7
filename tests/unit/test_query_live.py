"""Cases of runs that have no results file yet, from the ledger."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from dataclasses import replace
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


async def test_a_going_run_is_searched_filtered_and_sorted(lab: StoreLab, live: ResultsQuery) -> None:
    """Over what is answered so far: pages, counts, neighbours, selections, bins."""
    rows = [row async for row in lab.results(live.run.run_id)]
    failed = [row for row in rows if row["error_type"]]
    page = await live.page(Filter(status="failed"), limit=5)
    assert (page.live, page.total, page.total_matching) == (True, len(rows), len(failed)) and failed
    assert [row["id"] for row in page.rows] == [row["id"] for row in failed[:5]]
    slowest = sorted(rows, key=lambda row: (-(row["latency_ms"] or 0), row["case"]))
    page = await live.page(sort="latency_ms", descending=True, limit=3, text_chars=10_000)
    assert page.rows == [{**row, "cut": []} for row in slowest[:3]]
    word = rows[70]["input.question"].split()[5]
    with_it = [row["case"] for row in rows if word in str(row["input.question"]).lower()]
    assert set(with_it) <= set(await live.row_numbers(Filter(text=word)))
    second = await live.neighbours(failed[1]["case"], filter=Filter(status="failed"))
    assert (second.previous, second.position) == (CaseKey(failed[0]["case"], 0), 1)
    facets = await live.facets(Filter(status="failed"))
    assert facets.failed == len(failed) == sum(facets.errors.values())
    assert (await live.histogram("latency_ms")).count == sum(row["latency_ms"] is not None for row in rows)


async def test_a_run_that_nothing_is_answered_of_has_no_match(lab: StoreLab, engine: QueryEngine) -> None:
    """And no error."""
    made = Made(ledger=True, results=False, shards=0)
    live = await engine.results(await make_run(lab, await make_dataset(lab, CASES), made))
    page = await live.page(Filter(text="amber"))
    assert (page.rows, page.total, page.total_matching) == ([], 0, 0)


async def test_what_was_answered_meanwhile_is_found_once_a_run_was_stopped(
    lab: StoreLab, engine: QueryEngine
) -> None:
    """Its last answers are in the snapshot that is made then; who still reads the older one may go on."""
    run = await unfinished(lab)
    before = await engine.results(run)
    assert (await before.page(sort="id")).total == 150
    (answer, *_) = await lab.ledger.get_completions(run.run_id, 0)
    await lab.ledger.put_completions(run.run_id, [replace(answer, shard=4, case=200)])
    await lab.ledger.update_run(run.run_id, {"status": "cancelled"})
    stopped = await lab.ledger.get_run(run.run_id)
    assert stopped is not None
    after = await engine.results(stopped)
    assert (await after.page(sort="id")).total == 151
    assert [row["case"] for row in (await after.page(descending=True, limit=1)).rows] == [200]
    assert (await before.page(sort="id")).total == 150


async def test_runs_are_compared_once_they_have_results(engine: QueryEngine, live: ResultsQuery) -> None:
    """Until then the answer is why not."""
    with pytest.raises(RunError, match="is running and has no"):
        await engine.compare(live.run, [live.run])
