"""Pages of a run's cases, while it goes on."""

from __future__ import annotations

from pathlib import Path

from promptlab import Dataset
from promptlab.assets.ingest import SHARD_ROWS
from promptlab.domain.results import CaseKey, Completion
from promptlab.results.pages import MAX_BYTES, MAX_SHARDS
from promptlab.store_lab import StoreLab
from tests.contract.builders import run

ROWS = SHARD_ROWS * (2 * MAX_SHARDS + 10)


async def unfinished(tmp_path: Path, rows: int) -> StoreLab:
    """A lab with a recorded run of two trials, of which nothing is answered."""
    lab = StoreLab.open({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    dataset = await lab.assets.create(Dataset(name="numbers", rows=[{"n": n} for n in range(rows)]))
    experiment = {
        "name": "x",
        "dataset": {"name": "numbers", "version": 0, "hash": dataset.hash},
        "model": {"name": "simulated/echo"},
        "trials": 2,
        "evaluation": [{"name": "length", "metric": "length", "column_mapping": {}}],
    }
    await lab.ledger.add_run(run("r", experiment=experiment, cases=2 * rows))
    return lab


async def test_a_page_looks_through_so_many_shards_and_the_next_goes_on(tmp_path: Path) -> None:
    """However few are answered, each request is short, and none is left out."""
    lab = await unfinished(tmp_path, ROWS)
    answered = [
        CaseKey(3, 1),
        CaseKey(SHARD_ROWS * MAX_SHARDS, 0),
        CaseKey(ROWS - 1, 0),
        CaseKey(ROWS - 1, 1),
    ]
    await lab.ledger.put_completions(
        "r",
        [
            Completion(shard=key.case // SHARD_ROWS, case=key.case, trial=key.trial, response="x")
            for key in answered
        ],
    )
    found, after, pages = list[CaseKey](), None, 0
    while pages == 0 or after:
        rows, after = await lab.cases("r", after=after)
        found += [CaseKey(row["case"], row["trial"]) for row in rows]
        pages += 1
    assert found == answered
    assert pages == 3
    await lab.close()


async def test_rows_have_every_column_whatever_is_known_of_them(tmp_path: Path) -> None:
    """As in the results file: what is not there is None."""
    lab = await unfinished(tmp_path, 2)
    await lab.ledger.put_completions("r", [Completion(shard=0, case=1, trial=0, response="x")])
    ((row,), after) = await lab.cases("r")
    assert after is None
    assert (row["id"], row["input.n"], row["response"]) == ("1", 1, "x")
    assert row["score.length"] is None
    assert row["error_type"] is None
    await lab.close()


async def test_long_rows_make_a_page_shorter_and_one_row_always_fits(tmp_path: Path) -> None:
    """A page that is too long could not leave a Lambda function; an empty one would never end."""
    lab = await unfinished(tmp_path, 3)
    texts = ["a" * (MAX_BYTES // 2), "b" * MAX_BYTES, "c"]
    await lab.ledger.put_completions(
        "r", [Completion(shard=0, case=case, trial=0, response=text) for case, text in enumerate(texts)]
    )
    pages, after = list[list[str]](), None
    while not pages or after:
        rows, after = await lab.cases("r", after=after)
        pages.append([row["response"][0] for row in rows])
    assert pages == [["a"], ["b"], ["c"]]
    await lab.close()
