"""The findings of searches are kept for the next question: so many, of so many rows, and those in use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from promptlab.errors import StoreDamagedError
from promptlab.queries.matches import Matches
from promptlab.queries.pool import DuckDBPool


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[DuckDBPool]:
    pool = DuckDBPool(tmp_path)
    yield pool
    await pool.close()


def rows(count: int) -> str:
    """Give the SQL of a table of so many search texts; each third of them has a b."""
    text = "CASE WHEN range % 3 = 0 THEN 'xb' ELSE 'xc' END"
    return f"(SELECT range AS file_row_number, {text} AS search FROM range({count}))"


async def tables(pool: DuckDBPool) -> set[str]:
    return {name for (name,) in await pool.fetch("SELECT table_name FROM duckdb_tables()")}


async def asked(matches: Matches, source: str, text: str = "x") -> str:
    async with matches.found(source, text) as table:
        return table


async def test_a_search_is_made_once_and_finds_its_rows(pool: DuckDBPool) -> None:
    """Also where two ask at once; another text, or another file, is another search."""
    matches = Matches(pool)
    first, second = await asyncio.gather(asked(matches, rows(10), "B"), asked(matches, rows(10), "B"))
    assert first == second == await asked(matches, rows(10), "B")
    assert await pool.fetch(f"SELECT r FROM {first} ORDER BY r") == [(0,), (3,), (6,), (9,)]
    others = {await asked(matches, rows(10), "c"), await asked(matches, rows(11), "B")}
    assert len({first, *others}) == 3
    assert await tables(pool) == {first, *others}


async def test_the_32_searches_that_were_used_last_are_kept(pool: DuckDBPool) -> None:
    """One that is asked again is used again."""
    matches = Matches(pool)
    made = [await asked(matches, rows(n + 1)) for n in range(32)]
    assert await tables(pool) == set(made)
    assert await asked(matches, rows(1)) == made[0]
    more = [await asked(matches, rows(n + 1)) for n in (32, 33)]
    assert await tables(pool) == {made[0], *made[3:], *more}
    assert await asked(matches, rows(2)) not in made


async def test_what_is_in_use_is_kept_however_much_is_asked_meanwhile(pool: DuckDBPool) -> None:
    """And goes like any other once it is not."""
    matches = Matches(pool)
    async with matches.found(rows(1), "x") as held:
        for n in range(1, 40):
            await asked(matches, rows(n + 1))
        assert held in await tables(pool)
        assert len(await tables(pool)) == 32
    await asked(matches, rows(50))
    assert held not in await tables(pool)


async def test_searches_that_found_much_are_forgotten_sooner(pool: DuckDBPool) -> None:
    """Four million rows are kept together, of 4 bytes each."""
    matches = Matches(pool)
    first, second = await asked(matches, rows(2_000_000)), await asked(matches, rows(2_000_000), "X")
    assert await tables(pool) == {first, second}
    third = await asked(matches, rows(1))
    assert await tables(pool) == {second, third}


async def test_a_search_that_fails_is_made_again(pool: DuckDBPool) -> None:
    """Its error is that of who asked, and nobody's else."""
    matches = Matches(pool)
    with pytest.raises(StoreDamagedError, match="nowhere"):
        await asked(matches, "nowhere")
    await pool.fetch("CREATE TABLE nowhere AS SELECT 7 AS file_row_number, 'x' AS search")
    assert await pool.fetch(f"SELECT r FROM {await asked(matches, 'nowhere')}") == [(7,)]


async def test_a_search_goes_on_as_long_as_somebody_waits_for_it(pool: DuckDBPool) -> None:
    """When the last one has gone, nothing is left of it."""
    matches, source = Matches(pool), rows(3_000_000)
    one, other = (asyncio.create_task(asked(matches, source)) for _ in range(2))
    await asyncio.sleep(0)
    one.cancel()
    assert len(await pool.fetch(f"SELECT r FROM {await other} LIMIT 2")) == 2
    again = asyncio.create_task(asked(matches, rows(3_000_001)))
    await asyncio.sleep(0)
    again.cancel()
    await asyncio.gather(again, return_exceptions=True)
    assert len(await tables(pool)) == 1
