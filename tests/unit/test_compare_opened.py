"""A case opened inside a comparison, and pairs narrowed by their difference and their row."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from promptlab.domain.results import CaseKey
from promptlab.errors import UnknownNameError
from promptlab.queries.compared import Compared
from promptlab.queries.filters import Filter, Range
from promptlab.store_lab import StoreLab
from tests.unit.query_runs import QUOTED, RATE, ROWS, run


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[StoreLab]:
    lab = StoreLab.open({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    yield lab
    await lab.close()


async def test_an_opened_case_has_its_neighbours_among_those_that_are_selected(lab: StoreLab) -> None:
    """From the first to the last, in the order of the page, and back; whole in every run."""
    runs = [(await run(lab)).run_id, (await run(lab, shift=1, healthy=True)).run_id]
    selected = Compared("regressed", RATE)
    order = [row.case for row in (await lab.compare(runs, selected, sort="difference", limit=200)).rows]
    assert len(order) > 3
    walked, at = [], order[0]
    while True:
        page = await lab.compare(runs, selected, sort="difference", limit=1, at=CaseKey(at, 0))
        assert page.opened is not None
        found = page.opened.found
        assert found.position == len(walked) and page.total_matching == len(order)
        assert found.previous == (CaseKey(walked[-1], 0) if walked else None)
        assert [row["case"] for row in found.rows] == [at, at]
        assert page.opened.deltas[0][RATE].verdict == "regressed"
        walked.append(at)
        if found.next is None:
            break
        at = found.next.case
    assert walked == order
    long = next(n for n, row in enumerate(ROWS) if len(row["text"]) > 5_000)
    whole = (await lab.compare(runs, Compared(), at=CaseKey(long, 0))).opened
    assert whole is not None and ROWS[long]["text"] in whole.found.rows[1]["response"]


async def test_a_case_that_is_not_selected_opens_and_leads_to_the_first_that_is(lab: StoreLab) -> None:
    """A link to it stays good when the filter is another; a case that no run has opens nothing."""
    runs = [(await run(lab)).run_id, (await run(lab, shift=1, healthy=True)).run_id]
    selected = Compared("regressed", QUOTED)
    lost = [row.case for row in (await lab.compare(runs, selected, limit=200)).rows]
    other = next(n for n in range(len(ROWS)) if n not in lost)
    opened = (await lab.compare(runs, selected, at=CaseKey(other, 0))).opened
    assert opened is not None
    found = opened.found
    assert (found.position, found.previous, found.next) == (None, None, CaseKey(lost[0], 0))
    assert (await lab.compare(runs, selected, at=CaseKey(len(ROWS), 0))).opened is None


async def test_pairs_are_narrowed_by_the_range_of_their_difference(lab: StoreLab) -> None:
    """Both ends count; a pair without a difference is in no range."""
    runs = [(await run(lab)).run_id, (await run(lab, shift=1, healthy=True)).run_id]
    whole = (await lab.compare(runs, Compared(metric=RATE), limit=200)).rows
    by = {row.case: row.deltas[0][RATE].difference for row in whole}
    numbers = sorted(d for d in by.values() if d is not None)
    low, high = numbers[len(numbers) // 4], numbers[-len(numbers) // 4]
    page = await lab.compare(runs, Compared(metric=RATE, least=low, most=high), limit=200)
    assert [row.case for row in page.rows] == [n for n, d in by.items() if d is not None and low <= d <= high]
    assert 0 < page.total_matching < len(numbers) < len(whole) and page.counts["all"] == len(whole)


@pytest.mark.parametrize(
    ("column", "value", "holds"),
    [
        ("flag", "true", lambda row: row["flag"]),
        ("Case", "12", lambda row: row["Case"] == 12),
        ("case", repr(12 / 7), lambda row: row["Case"] == 12),
        ("Case", "12.4", lambda row: False),
        ('col"umn', "IT'S", lambda row: row['col"umn'] == "it's"),
        ("sometimes", "", lambda row: "sometimes" not in row),
        ("text", f"{'x' * 60}, and no more of it", lambda row: row["text"].startswith("xxx")),
    ],
)
async def test_a_row_is_chosen_by_a_value_of_its_dataset(
    lab: StoreLab, column: str, value: str, holds: object
) -> None:
    """In a run and in a comparison; counts are of these rows, and the verdicts of all."""
    made = [await run(lab), await run(lab, shift=1)]
    wanted = [n for n, row in enumerate(ROWS) if holds(row)]  # type: ignore[operator]
    chosen = Filter(values=((column, value),))
    results = await lab.results_of(made[0])
    assert await results.row_numbers(chosen) == wanted
    runs = [one.run_id for one in made]
    page = await lab.compare(runs, Compared(rows=chosen), limit=200)
    assert [row.case for row in page.rows] == wanted and page.counts["all"] == len(wanted)
    assert page.total == len(ROWS)
    with pytest.raises(UnknownNameError, match="Unknown dataset column"):
        await results.page(Filter(values=(("nowhere", "x"),)))


async def test_a_bin_of_numbers_narrows_a_comparison(lab: StoreLab) -> None:
    """A slice of a column of numbers is a range of its values."""
    runs = [(await run(lab)).run_id, (await run(lab, shift=1)).run_id]
    page = await lab.compare(runs, Compared(rows=Filter(ranges=(Range("input.Case", 10, 12),))), limit=200)
    assert [row.case for row in page.rows] == [10, 11, 12]
