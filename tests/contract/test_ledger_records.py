"""The Ledger contract: small records with an end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from promptlab.domain.records import Swap
from promptlab.ports import Ledger

PAST, FUTURE = time.time() - 1, time.time() + 3600


async def test_a_record_is_read_as_it_was_written(ledger: Ledger) -> None:
    """Nested JSON and unicode too; kinds and keys are apart."""
    value = {"name": "Zoë", "until": 1.5, "tags": ["a", {"b": None}]}
    assert await ledger.put_record("SESSION", "k#1/ü", value)
    assert await ledger.get_record("SESSION", "k#1/ü") == value
    assert await ledger.get_record("TOKEN", "k#1/ü") is None
    assert await ledger.get_record("SESSION", "k") is None


async def test_there_is_no_record_of_no_name(ledger: Ledger) -> None:
    """Whoever asks for one is told so, as of any other that is not there."""
    assert await ledger.get_record("SESSION", "") is None
    await ledger.delete_record("SESSION", "")


async def test_a_record_is_replaced_whole(ledger: Ledger) -> None:
    """Value and end."""
    await ledger.put_record("SESSION", "a", {"x": 1, "y": 2}, expires_at=FUTURE)
    assert await ledger.put_record("SESSION", "a", {"x": 3})
    assert await ledger.get_record("SESSION", "a") == {"x": 3}


async def test_a_record_is_gone_at_its_end(ledger: Ledger) -> None:
    """An expired one is not there; one that has not ended is."""
    await ledger.put_record("SESSION", "old", {"x": 1}, expires_at=PAST)
    await ledger.put_record("SESSION", "new", {"x": 1}, expires_at=FUTURE)
    assert await ledger.get_record("SESSION", "old") is None
    assert await ledger.get_record("SESSION", "new") == {"x": 1}


async def test_only_the_first_of_many_puts_a_record_that_is_absent(open_ledger: Callable[[], Ledger]) -> None:
    """Exactly one wins, and its value stays; an expired one counts as absent."""
    ledgers = [open_ledger() for _ in range(3)]
    won = await asyncio.gather(
        *(ledgers[i % 3].put_record("IDEMPOTENCY", "k", {"by": i}, only_if_absent=True) for i in range(9))
    )
    assert won.count(True) == 1
    assert await ledgers[0].get_record("IDEMPOTENCY", "k") == {"by": won.index(True)}
    await ledgers[0].put_record("IDEMPOTENCY", "ended", {"by": "old"}, expires_at=PAST)
    assert await ledgers[1].put_record("IDEMPOTENCY", "ended", {"by": "new"}, only_if_absent=True)
    assert await ledgers[2].get_record("IDEMPOTENCY", "ended") == {"by": "new"}


async def test_a_deleted_record_is_gone(ledger: Ledger) -> None:
    """Deleting what is not there is fine."""
    await ledger.put_record("SESSION", "a", {"x": 1})
    await ledger.delete_record("SESSION", "a")
    await ledger.delete_record("SESSION", "a")
    assert await ledger.get_record("SESSION", "a") is None


async def test_a_long_record_is_kept(ledger: Ledger) -> None:
    """Longer than what one item or page holds."""
    value = {"text": "".join(chr(33 + i % 90) for i in range(50_000))}
    await ledger.put_record("SESSION", "long", value)
    assert await ledger.get_record("SESSION", "long") == value


async def test_records_are_swapped_all_or_none(ledger: Ledger) -> None:
    """Only while each is what it was; what is absent is None, before and after, and so is what has ended."""
    await ledger.put_record("PERSON", "a", {"role": "admin", "x": ["1"]})
    await ledger.put_record("SETTING", "old", {"n": 1}, expires_at=PAST)
    first = [
        Swap("PERSON", "a", {"x": ["1"], "role": "admin"}, {"role": "viewer"}),
        Swap("SETTING", "old", None, {"n": 2}),
        Swap("SETTING", "new", None, {"n": "ü" * 5_000}, FUTURE),
    ]
    assert await ledger.swap_records(first)
    assert not await ledger.swap_records(first)
    late = Swap("PERSON", "a", {"role": "admin"}, None)
    assert not await ledger.swap_records([Swap("SETTING", "old", {"n": 2}, None), late])
    assert await ledger.get_record("SETTING", "old") == {"n": 2}
    assert await ledger.get_record("SETTING", "new") == {"n": "ü" * 5_000}
    gone = [Swap("PERSON", "a", {"role": "viewer"}, None), Swap("SETTING", "new", {"n": "ü" * 5_000}, None)]
    assert await ledger.swap_records(gone)
    assert await ledger.list_records("PERSON") == [] and await ledger.get_record("SETTING", "new") is None
    with pytest.raises(ValueError, match="each once"):
        await ledger.swap_records([Swap("SETTING", "old", None, {}), Swap("SETTING", "old", None, {})])


async def test_of_many_who_swap_a_record_one_does(open_ledger: Callable[[], Ledger]) -> None:
    """Each time: forty additions in eights, each tried again until it is the one, are forty."""
    ledgers = [open_ledger() for _ in range(3)]

    async def add(ledger: Ledger) -> None:
        while True:
            was = await ledger.get_record("SETTING", "n")
            now = {"n": was["n"] + 1 if was else 1}
            if await ledger.swap_records([Swap("SETTING", "n", was, now)]):
                return

    for _ in range(5):
        await asyncio.gather(*(add(ledgers[i % 3]) for i in range(8)))
    assert await ledgers[0].get_record("SETTING", "n") == {"n": 40}


async def test_records_of_a_listed_kind_come_by_key_in_pages(open_ledger: Callable[[], Ledger]) -> None:
    """Expired ones are left out; what another process wrote is there; each can be read by its key, too."""
    ledger, other = open_ledger(), open_ledger()
    assert await ledger.list_records("DELETED") == []
    for n in range(5):
        await other.put_record("DELETED", f"run/{n}", {"n": n})
    await ledger.put_record("DELETED", "run/25", {"n": 25}, expires_at=PAST)
    await ledger.put_record("DELETING", "run/1", {"other": "kind"})
    first = await ledger.list_records("DELETED", limit=2)
    assert first == [("run/0", {"n": 0}), ("run/1", {"n": 1})]
    rest = await ledger.list_records("DELETED", after="run/1")
    assert [value["n"] for _, value in rest] == [2, 3, 4]
    assert await ledger.get_record("DELETED", "run/3") == {"n": 3}
    await ledger.delete_record("DELETED", "run/3")
    assert [key for key, _ in await ledger.list_records("DELETED", after="run/1")] == ["run/2", "run/4"]
    with pytest.raises(ValueError, match="SESSION"):
        await ledger.list_records("SESSION")


async def test_listed_records_come_backwards_too(ledger: Ledger) -> None:
    """In pages, without what has ended, which takes no place on a page: DynamoDB deletes it later."""
    for key in "abcdefg":
        ends = PAST if key in "cde" else FUTURE
        await ledger.put_record("AUDIT", key, {"key": key}, expires_at=ends)
    assert await ledger.list_records("AUDIT", newest=True, limit=3) == [(k, {"key": k}) for k in "gfb"]
    assert [key for key, _ in await ledger.list_records("AUDIT", newest=True, after="b")] == ["a"]
    assert [key for key, _ in await ledger.list_records("AUDIT", limit=3)] == ["a", "b", "f"]
    assert [key for key, _ in await ledger.list_records("AUDIT", after="a", limit=2)] == ["b", "f"]


async def test_a_counter_misses_nobody(open_ledger: Callable[[], Ledger]) -> None:
    """However many count at once, each sees a number of its own; it can be taken back."""
    ledgers = [open_ledger() for _ in range(3)]
    counted = await asyncio.gather(
        *(ledgers[n % 3].count_up("LOGIN", "10.0.0.1", expires_at=FUTURE + n) for n in range(30))
    )
    assert sorted(value for value, _ in counted) == list(range(1, 31))
    assert len({end for _, end in counted}) == 1
    assert (await ledgers[0].count_up("LOGIN", "10.0.0.1", by=-5, expires_at=FUTURE))[0] == 25
    assert (await ledgers[0].count_up("LOGIN", "10.0.0.2", expires_at=FUTURE))[0] == 1
    assert await ledgers[0].get_record("LOGIN", "10.0.0.1") is None


async def test_a_counter_begins_anew_at_its_end(ledger: Ledger) -> None:
    """With a new end."""
    assert await ledger.count_up("LOGIN", "a", by=3, expires_at=PAST) == (3, PAST)
    assert await ledger.count_up("LOGIN", "a", expires_at=FUTURE) == (1, FUTURE)
    assert await ledger.count_up("LOGIN", "a", expires_at=FUTURE + 9) == (2, FUTURE)


async def test_records_of_a_kind_are_cleared_or_go_at_their_end(ledger: Ledger) -> None:
    """Others stay."""
    await ledger.put_record("CACHE", "a", {"x": 1}, expires_at=FUTURE)
    await ledger.put_record("SESSION", "a", {"x": 2}, expires_at=FUTURE)
    await ledger.clear_records("CACHE")
    assert await ledger.get_record("SESSION", "a") == {"x": 2}
