"""Pages, searches, neighbours, histograms and counts of a finished run."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from promptlab.domain.results import CaseKey, RunRecord
from promptlab.errors import UnknownNameError
from promptlab.queries.filters import sort_columns
from promptlab.queries.query_engine import Filter, QueryEngine, Range, ResultsQuery
from promptlab.store_lab import StoreLab
from tests.unit.query_runs import LABELS, QUOTED, RATE, ROWS, TEXTS, expected, experiment, run

Rows = list[dict[str, Any]]
ODD = "odd [folder] it's * here"


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store with the run, made once: each test has a copy of its own."""
    folder = tmp_path_factory.mktemp("stored") / ODD
    folder.mkdir()

    async def made() -> str:
        lab = StoreLab.open({"type": "sqlite", "db_file": str(folder / "lab.db")})
        try:
            return (await run(lab)).run_id
        finally:
            await lab.close()

    return folder, asyncio.run(made())


@pytest.fixture
async def lab(stored: tuple[Path, str], tmp_path: Path) -> AsyncIterator[StoreLab]:
    folder = tmp_path / ODD
    shutil.copytree(stored[0], folder)
    lab = StoreLab.open({"type": "sqlite", "db_file": str(folder / "lab.db")})
    yield lab
    await lab.close()


@pytest.fixture
async def engine(lab: StoreLab) -> AsyncIterator[QueryEngine]:
    engine = QueryEngine(lab.ledger, lab.blobs)
    yield engine
    await engine.close()


@pytest.fixture
async def record(lab: StoreLab, stored: tuple[Path, str]) -> RunRecord:
    return await lab.get_run(stored[1])


@pytest.fixture
async def results(engine: QueryEngine, record: RunRecord) -> ResultsQuery:
    return await engine.results(record)


@pytest.fixture
async def rows(lab: StoreLab, record: RunRecord) -> Rows:
    return [row async for row in lab.results(record.run_id)]


def keys(rows: Rows) -> list[int]:
    return [row["case"] for row in rows]


async def test_a_page_has_the_rows_of_the_results_table(results: ResultsQuery, rows: Rows) -> None:
    """A page is the table's rows, whole where texts are short."""
    page = await results.page(offset=20, limit=10, text_chars=20_000)
    assert (page.total_matching, page.total, page.live) == (160, 160, False)
    assert page.rows == [row | {"cut": []} for row in rows[20:30]]


async def test_long_texts_are_cut_in_pages_and_whole_in_the_case(results: ResultsQuery, rows: Rows) -> None:
    """A page says which texts it cut."""
    row = next(row for row in (await results.page(limit=20)).rows if row["case"] == 10)
    assert len(row["input.text"]) == 300
    assert set(row["cut"]) == {"input.text", "response"}
    assert await results.case(10) == rows[10]
    assert await results.case(160) is None
    assert await results.case(0, trial=1) is None


@pytest.mark.parametrize(
    "text",
    [
        *(text for text in TEXTS if text != "\x1f"),
        "QUOTE",
        "ünïcode",
        "q-15",
        "because IT'S",
        "fox 7",
        "ISTANBUL",
        "%",
        "_",
        "\\",
        "%%",
        "' OR 1=1 --",
        "\ud83e",
        "absent",
        "x" * 10_001,
        "\x00",
    ],
)
async def test_a_search_finds_the_text_itself_whatever_its_case(
    results: ResultsQuery, rows: Rows, text: str
) -> None:
    """No character of a search means anything but itself."""
    page = await results.page(Filter(text=text), limit=200)
    assert keys(page.rows) == [row["case"] for row in rows if expected(row, Filter(text=text))]
    assert page.total_matching == len(page.rows)


def _filters(count: int) -> list[Filter]:
    chance = random.Random(7)
    fields: dict[str, list[Any]] = {
        "text": ["", "a", "it's", "7"],
        "status": [None, "ok", "failed"],
        "error_type": [None, None, "timeout", "bad'type", "evaluator_error", "none' OR '1'='1"],
        "ranges": [
            (),
            (Range(f"score.{RATE}", 0.2, 0.61),),
            (Range("latency_ms", high=150, closed=False),),
            (Range("input.Case", low=40), Range("input.case_2", high=15)),
        ],
        "passed": [(), ((QUOTED, True),), ((QUOTED, False),)],
        "labels": [(), ((LABELS, "po'lite"),), ((LABELS, "🦊"),)],
        "unscored": [(), (), (QUOTED,)],
    }
    return [Filter(**{name: chance.choice(values) for name, values in fields.items()}) for _ in range(count)]


@pytest.mark.parametrize("filter", _filters(40))
async def test_filters_together_select_what_each_selects(
    results: ResultsQuery, rows: Rows, filter: Filter
) -> None:
    """Any combination of conditions matches what Python finds, on pages and in counts."""
    wanted = [row for row in rows if expected(row, filter)]
    page = await results.page(filter, limit=200)
    assert keys(page.rows) == keys(wanted)
    facets = await results.facets(filter)
    errors = [row["error_type"] for row in wanted if expected(row, Filter(status="failed"))]
    assert (facets.matching, facets.failed, facets.ok) == (
        len(wanted),
        len(errors),
        len(wanted) - len(errors),
    )
    assert dict(facets.errors) == {error: errors.count(error) for error in set(errors)}
    verdict, labels = (
        facets.metrics[QUOTED],
        [row[f"label.{LABELS}"] for row in wanted if row[f"label.{LABELS}"]],
    )
    assert verdict.passed == sum(row[f"passed.{QUOTED}"] is True for row in wanted)
    assert verdict.not_passed == sum(row[f"passed.{QUOTED}"] is False for row in wanted)
    assert verdict.unscored == sum(row[f"score_error.{QUOTED}"] is not None for row in wanted)
    assert dict(facets.metrics[LABELS].labels) == {label: labels.count(label) for label in set(labels)}


def _key(column: str, value: Any) -> Any:
    """Return the sort key of a column's value."""
    if column == "id":
        return int(value.removeprefix("q-"))
    prefix = column in ("response", "error_message") or column.startswith("input.")
    # SQL's lower case of İ is one letter, Python's two.
    return (
        value[:48].replace("İ", "i").lower().encode()
        if prefix and isinstance(value, str)
        else value.encode()
        if isinstance(value, str)
        else value
    )


@pytest.mark.parametrize("descending", [False, True])
async def test_every_sort_puts_values_in_order_and_the_missing_last(
    results: ResultsQuery, rows: Rows, descending: bool
) -> None:
    """Sorted by any column: in order, without a value last, equal ones in case order."""
    for column in sort_columns(results.columns):
        values = {row["case"]: row[column] for row in rows}
        there = [row for row in rows if values[row["case"]] is not None]
        missing = [row for row in rows if values[row["case"]] is None]
        by = {row["case"]: _key(column, values[row["case"]]) for row in there}
        wanted = sorted(there, key=lambda row: by[row["case"]], reverse=descending) + missing
        assert keys((await results.page(sort=column, descending=descending, limit=200)).rows) == keys(
            wanted
        ), column


async def test_neighbours_walk_the_order_of_the_page(results: ResultsQuery) -> None:
    """From any case of a page, next and previous are the page's, under any filter and sort."""
    for filter, sort, descending in [
        (Filter(), "case", False),
        (Filter(), "case", True),
        (Filter(status="failed"), f"score.{RATE}", True),
        (Filter(text="1"), "id", False),
        (Filter(), "error_type", True),
        (Filter(), f"label.{LABELS}", False),
    ]:
        order = [
            CaseKey(row["case"], row["trial"])
            for row in (await results.page(filter, sort=sort, descending=descending, limit=200)).rows
        ]
        for at in (0, 1, len(order) // 2, len(order) - 2, len(order) - 1):
            there = await results.neighbours(*order[at], filter=filter, sort=sort, descending=descending)
            assert (there.position, there.total) == (at, len(order)), (filter, sort, at)
            assert there.previous == (order[at - 1] if at else None)
            assert there.next == (order[at + 1] if at + 1 < len(order) else None)


async def test_a_case_that_does_not_match_has_no_neighbours(results: ResultsQuery) -> None:
    """Opened by a link whose filter it left, a case stands alone."""
    there = await results.neighbours(0, filter=Filter(status="failed"))
    assert (there.previous, there.next, there.position) == (None, None, None)
    assert there.total > 0


async def test_a_page_beyond_the_end_is_the_last_one(results: ResultsQuery) -> None:
    """A shared link outlives the rows it counted on."""
    page = await results.page(offset=5000, limit=50)
    assert (page.offset, keys(page.rows)) == (150, list(range(150, 160)))
    empty = await results.page(Filter(text="absent"), offset=50)
    assert (empty.rows, empty.total_matching, empty.total) == ([], 0, 160)


@pytest.mark.parametrize(
    "column",
    [
        f"score.{RATE}",
        f"score.{QUOTED}",
        "latency_ms",
        "cost_usd",
        "prompt_tokens",
        "input.Case",
        "input.case_2",
    ],
)
async def test_a_bin_of_a_histogram_selects_what_it_counts(results: ResultsQuery, column: str) -> None:
    """Bins hold every value once, and the range of a bin is as many cases as it says."""
    filter = Filter(status="ok")
    found = await results.histogram(column, filter)
    values = [row[column] for row in (await results.page(filter, limit=200)).rows]
    assert found.count == sum(value is not None for value in values)
    assert found.missing == sum(value is None for value in values)
    assert 2 <= len(found.bins) <= 41
    for one in found.bins:
        page = await results.page(
            dataclasses.replace(filter, ranges=(Range(column, one.low, one.high, one.closed),))
        )
        assert page.total_matching == one.count, one


async def test_a_pass_or_fail_metric_has_two_bins_and_a_share_twenty(results: ResultsQuery) -> None:
    """The edges fit the metric."""
    assert len((await results.histogram(f"score.{QUOTED}")).bins) == 2
    assert [one.low for one in (await results.histogram(f"score.{RATE}")).bins] == [n / 20 for n in range(20)]
    assert (await results.histogram(f"score.{LABELS}")).bins == ()


@pytest.mark.parametrize(
    "question",
    [
        lambda r: r.page(sort='"; DROP TABLE x'),
        lambda r: r.page(sort="search"),
        lambda r: r.page(Filter(ranges=(Range("response", 1),))),
        lambda r: r.page(Filter(ranges=(Range("score.nope", 1),))),
        lambda r: r.page(Filter(passed=(("nope", True),))),
        lambda r: r.histogram("response"),
        lambda r: r.neighbours(0, sort="nope"),
        lambda r: r.facets(Filter(unscored=("nope",))),
    ],
)
async def test_a_name_that_is_not_the_tables_is_refused(results: ResultsQuery, question: Any) -> None:
    """An unknown column or metric is an error that names it, never SQL."""
    with pytest.raises(UnknownNameError):
        await question(results)


async def test_questions_asked_at_once_all_get_their_answers(engine: QueryEngine, record: RunRecord) -> None:
    """Many requests share one engine, one opening and one search."""
    results = await asyncio.gather(*(engine.results(record) for _ in range(20)))
    pages = await asyncio.gather(*(r.page(Filter(text=str(n % 7))) for n, r in enumerate(results)))
    for n, page in enumerate(pages):
        assert page.total_matching == (await results[0].page(Filter(text=str(n % 7)))).total_matching


async def test_more_searches_than_are_kept_still_answer(results: ResultsQuery) -> None:
    """Searches that were forgotten are made again."""
    first = (await results.page(Filter(text="1"))).total_matching
    await asyncio.gather(*(results.page(Filter(text=f"a{n}")) for n in range(80)))
    assert (await results.page(Filter(text="1"))).total_matching == first


async def test_a_question_nobody_waits_for_stops_and_leaves_the_engine_well(results: ResultsQuery) -> None:
    """A reader who goes away stops the query and hurts no other."""
    task = asyncio.create_task(results.facets())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await results.facets()).matching == len(ROWS)


async def test_a_run_without_an_index_gets_one(lab: StoreLab, engine: QueryEngine, record: RunRecord) -> None:
    """The index is made from the results where a run has none."""
    for key in await lab.blobs.keys(f"runs/{record.run_id}/index"):
        await lab.blobs.delete(key)
    assert (await (await engine.results(record)).page(Filter(text="q-15"))).total_matching == 11


async def test_a_run_that_is_summed_up_again_is_read_again(lab: StoreLab, engine: QueryEngine) -> None:
    """After a resume of the failed cases, queries see the new results, and the old index is gone."""
    before = await run(lab)
    failed = (await (await engine.results(before)).facets()).errors["timeout"]
    after = await lab.resume(before.run_id, failed=True, config=experiment(healthy=True))
    assert failed > 0
    assert "timeout" not in (await (await engine.results(after)).facets()).errors
    assert {
        key.split("/")[-1].split(".")[0] for key in await lab.blobs.keys(f"runs/{after.run_id}/index")
    } == {"index-1-v2"}
