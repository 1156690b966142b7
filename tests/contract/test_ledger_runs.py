"""The contract of Ledger: runs, their changes, their list."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import pytest

from promptlab.domain.results import Completion, RunRecord, ScoreSet, ShardSummary
from promptlab.errors import PromptLabError, RunExistsError, RunNotFoundError
from promptlab.ports import Ledger
from tests.contract.builders import RUN, run

WHOLE = run(
    status="completed",
    experiment={
        "name": "quiz",
        "model": {"temperature": 0.1, "tiny": 1e-300, "stop": None, "extra": {}},
        "evaluation": [{"name": "ü 🙂"}],
    },
    started_at="2026-11-23T09:00:01.000000Z",
    finished_at="2026-11-23T09:10:00.000000Z",
    generation=2,
    redo_before=1,
    wall_s=598.75,
    summary={"cases": 100, "cost_usd": None, "errors": {}},
    error="shard 3 failed 3 times",
    tags=("nightly", "grün"),
    manifest="runs/r/manifest.jsonl",
    results="runs/r/results.parquet",
    archived=True,
)


async def test_a_run_comes_back_as_it_was_added(ledger: Ledger) -> None:
    """Every field survives, set or not."""
    await ledger.add_run(WHOLE)
    await ledger.add_run(run("bare"))
    assert await ledger.get_run(RUN) == WHOLE
    assert await ledger.get_run("bare") == run("bare")


async def test_a_run_that_was_never_added_is_none(ledger: Ledger) -> None:
    """There is no error to catch."""
    assert await ledger.get_run("nothing") is None
    assert await ledger.list_runs() == ([], None)


async def test_a_run_can_be_added_only_once(ledger: Ledger) -> None:
    """The second writer is told, and the run stays as it was."""
    await ledger.add_run(run(cases=1))
    with pytest.raises(RunExistsError):
        await ledger.add_run(run(cases=2, status="failed"))
    assert await ledger.get_run(RUN) == run(cases=1)


async def test_of_concurrent_writers_of_a_run_exactly_one_wins(open_ledger: Callable[[], Ledger]) -> None:
    """The same id cannot be two runs."""
    ledgers = [open_ledger() for _ in range(3)]
    outcomes = await asyncio.gather(
        *(ledgers[i % 3].add_run(run(cases=i)) for i in range(12)), return_exceptions=True
    )
    winners = [i for i, outcome in enumerate(outcomes) if outcome is None]
    assert len(winners) == 1 and sum(isinstance(outcome, RunExistsError) for outcome in outcomes) == 11
    assert await ledgers[0].get_run(RUN) == run(cases=winners[0])


@pytest.mark.parametrize("field", [f for f in RunRecord.__dataclass_fields__ if f != "run_id"])
async def test_any_field_of_a_run_can_be_changed(ledger: Ledger, field: str) -> None:
    """The field takes the new value, and no other changes."""
    await ledger.add_run(run())
    assert await ledger.update_run(RUN, {field: getattr(WHOLE, field)}) is True
    assert await ledger.get_run(RUN) == replace(run(), **{field: getattr(WHOLE, field)})


async def test_a_field_can_be_set_back_to_none(ledger: Ledger) -> None:
    """None is a value, not the absence of a change."""
    await ledger.add_run(WHOLE)
    await ledger.update_run(RUN, {"finished_at": None, "summary": None, "error": None})
    assert await ledger.get_run(RUN) == replace(WHOLE, finished_at=None, summary=None, error=None)


async def test_an_unknown_field_is_an_error_and_changes_nothing(ledger: Ledger) -> None:
    """A typo does not pass silently; the id of a run is not a field to change."""
    await ledger.add_run(run())
    for changes in ({"stauts": "running"}, {"status": "running", "stauts": "running"}, {"run_id": "other"}):
        with pytest.raises(TypeError, match=r"stauts|run_id"):
            await ledger.update_run(RUN, changes)
    assert await ledger.get_run(RUN) == run()


async def test_a_run_that_is_not_there_cannot_be_changed(ledger: Ledger) -> None:
    """Also when a status is asked for; and nothing comes into being."""
    for if_status in (None, {"running"}):
        with pytest.raises(RunNotFoundError):
            await ledger.update_run("nothing", {"status": "running"}, if_status=if_status)
    assert await ledger.get_run("nothing") is None


async def test_a_run_changes_only_in_the_statuses_that_are_asked_for(ledger: Ledger) -> None:
    """Any collection of statuses will do; an empty one never fits."""
    await ledger.add_run(run(status="running"))
    unfit: list[Collection[str]] = [["failed"], {"failed", "completed"}, frozenset(), ()]
    for if_status in unfit:
        assert await ledger.update_run(RUN, {"cases": 7}, if_status=if_status) is False
    assert await ledger.get_run(RUN) == run(status="running")
    assert await ledger.update_run(RUN, {"cases": 7}, if_status=("failed", "running")) is True
    assert await ledger.get_run(RUN) == run(status="running", cases=7)


async def test_a_run_changes_only_while_its_fields_are_what_was_seen(ledger: Ledger) -> None:
    """Fields that nobody set have their defaults; lists and tuples are the same."""
    await ledger.add_run(run(tags=("a", "ü")))
    seen = {"tags": ["a", "ü"], "archived": False, "summary": None}
    assert await ledger.update_run(RUN, {"tags": ("b",)}, if_is=seen)
    assert not await ledger.update_run(RUN, {"tags": ("c",)}, if_is=seen)
    assert not await ledger.update_run(RUN, {"tags": ("c",)}, if_is={"tags": ["b"]}, if_status={"completed"})
    assert await ledger.get_run(RUN) == run(tags=("b",))


async def test_of_many_who_saw_the_same_one_changes_it(open_ledger: Callable[[], Ledger]) -> None:
    """The others hear that it is another by now."""
    ledgers = [open_ledger() for _ in range(3)]
    await ledgers[0].add_run(run())
    seen = {"tags": (), "archived": False}
    races = [ledgers[i % 3].update_run(RUN, {"tags": (f"{i}",)}, if_is=seen) for i in range(9)]
    won = await asyncio.gather(*races)
    assert won.count(True) == 1
    assert await ledgers[0].get_run(RUN) == run(tags=(f"{won.index(True)}",))


async def test_of_racing_updates_with_a_status_exactly_one_wins(open_ledger: Callable[[], Ledger]) -> None:
    """Two workers cannot both start a run."""
    ledgers = [open_ledger() for _ in range(4)]
    await ledgers[0].add_run(run())
    races = [
        ledgers[i % 4].update_run(RUN, {"status": "completed", "generation": i}, if_status={"running"})
        for i in range(20)
    ]
    outcomes = await asyncio.gather(*races)
    assert outcomes.count(True) == 1 and outcomes.count(False) == 19
    assert await ledgers[0].get_run(RUN) == run(status="completed", generation=outcomes.index(True))


async def test_concurrent_updates_of_different_fields_all_stay(open_ledger: Callable[[], Ledger]) -> None:
    """No update writes back a field that it was not asked to change."""
    ledgers = [open_ledger(), open_ledger()]
    await ledgers[0].add_run(run())
    changes: list[dict[str, Any]] = [
        {"wall_s": 1.5},
        {"error": "e"},
        {"manifest": "m"},
        {"generation": 3},
        {"tags": ("t",)},
        {"results": "r"},
    ]
    assert all(
        await asyncio.gather(*(ledgers[i % 2].update_run(RUN, change) for i, change in enumerate(changes)))
    )
    assert await ledgers[0].get_run(RUN) == run(
        wall_s=1.5, error="e", manifest="m", generation=3, tags=("t",), results="r"
    )


async def test_runs_are_listed_newest_first(ledger: Ledger) -> None:
    """By creation, not by the order of writing; among equals the highest id is first."""
    for run_id, day in (("b", 2), ("a", 1), ("d", 3), ("c", 3)):
        await ledger.add_run(run(run_id, created_at=f"2026-11-0{day}T00:00:00.000000Z"))
    runs, cursor = await ledger.list_runs()
    assert [r.run_id for r in runs] == ["d", "c", "b", "a"]
    assert cursor is None


async def test_the_list_shows_runs_as_they_are_now(ledger: Ledger) -> None:
    """A change is in the next list."""
    await ledger.add_run(WHOLE)
    await ledger.update_run(RUN, {"status": "interrupted", "name": "renamed"})
    expected = replace(WHOLE, status="interrupted", name="renamed")
    assert await ledger.list_runs() == ([expected], None)
    assert await ledger.list_runs(name="renamed") == ([expected], None)
    assert await ledger.list_runs(name="quiz") == ([], None)


async def test_the_runs_of_one_experiment_are_listed_by_its_exact_name(ledger: Ledger) -> None:
    """Also page by page."""
    for i in range(6):
        await ledger.add_run(run(f"r{i}", name=("quiz", "quiz 2", "Quiz")[i % 3]))
    first, cursor = await ledger.list_runs(name="quiz", limit=1)
    second, end = await ledger.list_runs(name="quiz", limit=1, cursor=cursor)
    assert [r.run_id for r in first + second] == ["r3", "r0"]
    assert end is None


@pytest.mark.long
async def test_pages_hold_every_run_once_though_all_have_one_time(ledger: Ledger) -> None:
    """Paging neither skips nor repeats, and ends with the last page, whatever its size."""
    ids = [f"run-{i:04}" for i in range(120)]
    await asyncio.gather(*(ledger.add_run(run(run_id)) for run_id in ids))
    for limit in (7, 40, 119, 120, 121):
        seen: list[str] = []
        cursor: str | None = None
        pages = 0
        while pages == 0 or cursor:
            runs, cursor = await ledger.list_runs(limit=limit, cursor=cursor)
            assert len(runs) == min(limit, 120 - len(seen)), limit
            seen += [r.run_id for r in runs]
            pages += 1
        assert seen == ids[::-1], limit
        assert pages == -(-120 // limit), limit


async def test_a_run_that_is_added_while_somebody_pages_moves_nothing(ledger: Ledger) -> None:
    """The next page goes on where the last one ended."""
    for i in range(4):
        await ledger.add_run(run(f"r{i}", created_at=f"2026-11-0{i + 1}T00:00:00.000000Z"))
    _, cursor = await ledger.list_runs(limit=2)
    await ledger.add_run(run("new", created_at="2026-11-09T00:00:00.000000Z"))
    runs, _ = await ledger.list_runs(limit=2, cursor=cursor)
    assert [r.run_id for r in runs] == ["r1", "r0"]


@pytest.mark.parametrize("cursor", ["", "nonsense", "bm9uc2Vuc2U=", "W10=", "eyJhIjoxfQ==", "ü", "e30"])
async def test_a_cursor_that_no_list_gave_is_an_error(ledger: Ledger, cursor: str) -> None:
    """The message says what to do."""
    await ledger.add_run(run())
    with pytest.raises(PromptLabError, match="cursor"):
        await ledger.list_runs(cursor=cursor)


async def test_a_page_holds_at_least_one_run(ledger: Ledger) -> None:
    """A page of none would never end."""
    with pytest.raises(ValueError, match="limit"):
        await ledger.list_runs(limit=0)


async def test_a_deleted_run_is_gone_with_all_that_it_had(ledger: Ledger) -> None:
    """Other runs keep theirs; deleting again is fine, and the id is free."""
    for run_id in (RUN, "other"):
        await ledger.add_run(run(run_id))
        for shard in range(3):
            await ledger.put_completions(
                run_id, [Completion(shard=shard, case=shard, trial=t, response="x") for t in range(3)]
            )
            await ledger.put_scores(run_id, [ScoreSet(shard=shard, case=shard, trial=0, scores={})])
        await ledger.put_shard(run_id, ShardSummary(number=0, generation=0, summary={}, part="p"))
    assert await ledger.delete_run(RUN) is True
    assert await ledger.delete_run(RUN) is False
    assert await ledger.get_run(RUN) is None
    assert [found.run_id for found in (await ledger.list_runs())[0]] == ["other"]
    for shard in range(3):
        assert await ledger.get_completions(RUN, shard) == await ledger.get_scores(RUN, shard) == []
        assert len(await ledger.get_completions("other", shard)) == 3
    assert [shard async for shard in ledger.shards(RUN)] == []
    await ledger.add_run(run())
    assert (await ledger.progress(RUN)).done == 0 and (await ledger.progress("other")).done == 9


async def test_a_run_is_cleared_shard_by_shard(ledger: Ledger) -> None:
    """The lowest shards are found first, the others stay, and the run itself is last."""
    await ledger.add_run(run())
    for shard in (0, 3, 12):
        await ledger.put_completions(RUN, [Completion(shard=shard, case=shard, trial=0, response="x")])
    await ledger.put_scores(RUN, [ScoreSet(shard=3, case=3, trial=0, scores={})])
    await ledger.put_shard(RUN, ShardSummary(number=3, generation=0, summary={}, part="p"))
    assert await ledger.shard_numbers(RUN, limit=2) == [0, 3]
    await ledger.clear_shards(RUN, [0, 3])
    await ledger.clear_shards(RUN, [0, 3, 99])
    assert await ledger.shard_numbers(RUN, limit=2) == [12]
    assert await ledger.get_completions(RUN, 3) == await ledger.get_scores(RUN, 3) == []
    assert [shard async for shard in ledger.shards(RUN)] == []
    assert len(await ledger.get_completions(RUN, 12)) == 1
    assert await ledger.get_run(RUN) == run()
    assert await ledger.shard_numbers("nothing", limit=2) == []


async def test_outlines_are_the_list_without_summaries(ledger: Ledger) -> None:
    """In its order and its pages; each says which metrics are left out, or that there is no summary."""
    metrics = {"exact_match": {"n": 3}, 'ü "quoted" 🙂': {}, "a.b": {}, "length": {}}
    summaries = {"b": None, "d": {"cases": 1, "metrics": metrics}, "c": {"cases": 0, "metrics": {}}}
    for run_id, summary in summaries.items():
        await ledger.add_run(replace(WHOLE, run_id=run_id, summary=summary))
    first, cursor = await ledger.outline_runs(limit=2)
    second, end = await ledger.outline_runs(limit=2, cursor=cursor)
    assert [found.run for found in first + second] == [
        replace(WHOLE, run_id=run_id, summary=None) for run_id in ("d", "c", "b")
    ]
    assert [found.metrics for found in first + second] == [tuple(metrics), (), None]
    assert end is None and cursor == (await ledger.list_runs(limit=2))[1]
    for found in first + second:
        assert found.whole in (None, await ledger.get_run(found.run.run_id))
    some, _ = await ledger.outline_runs(metrics=["length", "exact_match", "other"])
    assert [found.run.summary for found in some] == [
        {"cases": 1, "metrics": {"exact_match": {"n": 3}, "length": {}}},
        {"cases": 0, "metrics": {}},
        None,
    ]
    assert [found.metrics for found in some] == [tuple(metrics), (), None]
    with pytest.raises(PromptLabError, match="cursor"):
        await ledger.outline_runs(cursor="nonsense")
    with pytest.raises(ValueError, match="limit"):
        await ledger.outline_runs(limit=0)
