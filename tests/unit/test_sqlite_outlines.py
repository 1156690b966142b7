"""Outlines of runs in a ledger's file whose bodies somebody damaged."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from promptlab.adapters.local.sqlite_ledger import SqliteLedger
from promptlab.adapters.local.sqlite_open import open_for_reading
from promptlab.adapters.local.sqlite_outlines import outlines
from promptlab.adapters.records import run_from, to_json
from promptlab.domain.outline import RunOutline
from promptlab.domain.results import RunRecord
from tests.contract.builders import run

SOUND = orjson.loads(to_json(run("middle", summary={"cases": 1, "metrics": {"m": {}}})))
NESTED = b'{"summary":' + b"[" * 1_500 + b"]" * 1_500 + b"}"


async def outlined(path: Path, body: bytes) -> list[RunOutline]:
    """The outlines of three runs, of which the one in the middle has this body."""
    ledger = SqliteLedger(path)
    try:
        for day, run_id in enumerate(("oldest", "middle", "newest"), 1):
            await ledger.add_run(run(run_id, created_at=f"2026-11-0{day}T00:00:00.000000Z"))
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE run SET body = ? WHERE run_id = 'middle'", (body,))
        found, cursor = await ledger.outline_runs()
        assert cursor is None
        some, _ = await ledger.outline_runs(metrics=["a", "m"])
        assert [one.metrics for one in some] == [one.metrics for one in found]
        return found
    finally:
        await ledger.close()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"{}", b"1e999", NESTED])
async def test_a_body_that_is_no_run_stands_in_its_place_with_the_reason(tmp_path: Path, body: bytes) -> None:
    """As in the list of whole runs; the others are as they were."""
    newest, middle, oldest = await outlined(tmp_path / "lab.db", body)
    assert (newest.run.unreadable, oldest.run.unreadable) == (None, None)
    assert middle.run.unreadable and middle.run.run_id == "middle" and middle.metrics is None
    assert middle.whole == middle.run


@pytest.mark.parametrize(
    ("summary", "names"),
    [
        ([], ()),
        ("text", ()),
        (0, ()),
        ({}, ()),
        ({"metrics": None}, ()),
        ({"metrics": ["a", "b"]}, ()),
        ({"metrics": {"a": None, "": 1, "b.c[0]": []}}, ("a", "", "b.c[0]")),
    ],
)
async def test_a_summary_of_another_shape_is_left_to_who_reads_it_whole(
    tmp_path: Path, summary: Any, names: tuple[str, ...]
) -> None:
    """The outline has what looks like names of metrics."""
    _, middle, _ = await outlined(tmp_path / "lab.db", orjson.dumps({**SOUND, "summary": summary}))
    assert (middle.metrics, middle.whole, middle.run.unreadable) == (names, None, None)


async def test_numbers_of_an_outline_are_those_of_the_record(tmp_path: Path) -> None:
    """SQLite writes the body anew: a number of 19 digits, a tiny one and -0.0 stay what they are."""
    prices = {"a": 9007199254740993, "b": 9223372036854775807, "c": 1e-300, "d": -0.0, "e": 0.1}
    body = {**SOUND, "experiment": {**SOUND["experiment"], "prices": prices}}
    _, middle, _ = await outlined(tmp_path / "lab.db", orjson.dumps(body))
    assert repr(middle.run.experiment["prices"]) == repr(prices)


async def test_a_list_is_read_again_only_once_the_file_has_changed(tmp_path: Path) -> None:
    """A search asks with every key; a change by this process or another is seen with the next."""
    ledger = SqliteLedger(tmp_path / "lab.db")
    await ledger.add_run(run("one"))
    statements: list[str] = []
    with closing(open_for_reading(ledger.path)) as connection:
        connection.set_trace_callback(statements.append)

        def ids(metrics: Sequence[str] | None = None) -> list[str]:
            found, _ = outlines(connection, listed, metrics, 10, None)
            return [one.run.run_id for one in found]

        def reads() -> int:
            return sum("json_remove" in statement for statement in statements)

        assert (ids(), ids(), reads()) == (["one"], ["one"], 1)
        assert (ids(["m"]), reads()) == (["one"], 2)
        await ledger.add_run(run("two"))
        assert (ids(), ids(), reads()) == (["two", "one"], ["two", "one"], 3)
        with closing(sqlite3.connect(ledger.path)) as db, db:
            db.execute("DELETE FROM run WHERE run_id = 'one'")
        assert (ids(), reads()) == (["two"], 4)
    await ledger.close()


def listed(run_id: str, name: str, created_at: str, cases: int, body: bytes) -> RunRecord:
    """The run of a row."""
    return run_from(orjson.loads(body))
