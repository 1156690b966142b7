"""Parts of a run's results that are gone or cannot be read are made again from the ledger."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from promptlab import Dataset, PromptTemplate
from promptlab.domain.results import RunRecord
from promptlab.errors import StoreDamagedError
from promptlab.results.index import IndexParts
from promptlab.results.parts import drop_broken_parts
from promptlab.store_lab import StoreLab


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[StoreLab]:
    lab = StoreLab.open({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    yield lab
    await lab.close()


@pytest.fixture
async def run(lab: StoreLab) -> RunRecord:
    """A run of three shards."""
    return await lab.run(
        {
            "name": "x",
            "model": "simulated/echo",
            "dataset": Dataset(name="rows", rows=[{"q": str(n)} for n in range(120)]),
            "prompt_template": PromptTemplate(name="ask", user_prompt="<q>"),
            "evaluation": [],
        }
    )


LINE = orjson.dumps({"case": 0})
BROKEN = {
    "gone": None,
    "empty": b"",
    "no gzip": b"plain",
    "cut off": gzip.compress(LINE * 100)[:-10],
    "no JSON": gzip.compress(b"{\n" * 50),
    "no objects": gzip.compress(b"1\n" * 50),
    "a row too few": gzip.compress((LINE + b"\n") * 49),
    "a row too many": gzip.compress((LINE + b"\n") * 51),
}


@pytest.mark.parametrize("how", BROKEN)
async def test_a_part_that_cannot_be_read_is_dropped_and_the_others_stay(
    lab: StoreLab, run: RunRecord, how: str
) -> None:
    """Then the next pass makes just that one again."""
    parts = sorted(await lab.blobs.keys(f"runs/{run.run_id}/parts/"))
    assert len(parts) == 3
    data = BROKEN[how]
    await (lab.blobs.delete(parts[1]) if data is None else lab.blobs.put(parts[1], data))
    assert await drop_broken_parts(lab.ledger, lab.blobs, run) == 1
    assert sorted(await lab.blobs.keys(f"runs/{run.run_id}/parts/")) == [parts[0], parts[2]]
    assert await drop_broken_parts(lab.ledger, lab.blobs, run) == 1


async def test_parts_that_can_be_read_stay(lab: StoreLab, run: RunRecord) -> None:
    """All of them."""
    assert await drop_broken_parts(lab.ledger, lab.blobs, run) == 0
    assert len(await lab.blobs.keys(f"runs/{run.run_id}/parts/")) == 3


def test_a_row_is_found_in_its_part() -> None:
    """By its number in the table; also after it was written down and read."""
    parts = IndexParts.load(IndexParts.dump([("a", 2), ("b", 1), ("c", 3)]))
    assert [parts.find(row) for row in range(6)] == [
        ("a", 0),
        ("a", 1),
        ("b", 0),
        ("c", 0),
        ("c", 1),
        ("c", 2),
    ]
    assert (parts.rows, IndexParts.load(IndexParts.dump([])).rows) == (6, 0)
    for data in (b"", b"plain", gzip.compress(b"7"), gzip.compress(b"[1")):
        with pytest.raises(
            StoreDamagedError, match=r"The index of the run's results is damaged .*doctor --repair"
        ):
            IndexParts.load(data)
