"""GSM8K with what four real models answered: the cloud comes to the same as the laptop, case by case."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from promptlab import Dataset, PromptLab, PromptTemplate
from tests.cloud.conftest import SHARED, Stack

REPLAY, QUESTIONS = SHARED / "bench" / "replay.py", SHARED / "data" / "gsm8k_test.jsonl"
pytestmark = [
    pytest.mark.cloud,
    pytest.mark.skipif(not REPLAY.exists(), reason="the replayed answers are not there"),
]
CORRECT = {"6b_finetuning": 286, "6b_verification": 515, "175b_finetuning": 458, "175b_verification": 742}
ROWS, SHARDS = 1319, 27
DIFFERS = ("latency_ms",)


@pytest.fixture(scope="module")
def replay() -> Iterator[str]:
    """The endpoint that replays the answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, REPLAY, "--port", str(port)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline()
    yield f"http://127.0.0.1:{port}/v1"
    process.terminate()
    process.wait()
    process.stdout.close()


def experiment(model: str, endpoint: str) -> dict[str, Any]:
    return {
        "name": "gsm8k",
        "dataset": Dataset(name="gsm8k", file_path=QUESTIONS),
        "prompt_template": PromptTemplate(name="solve", user_prompt="<question>"),
        "model": {"name": f"openai/{model}", "endpoint": endpoint, "max_concurrent_tasks": 100},
        "evaluation": [
            {
                "metric": "numeric_match",
                "column_mapping": {"reference": "answer"},
                "params": {"response_pattern": r"A:(.*)", "reference_pattern": r"####(.*)"},
            }
        ],
    }


def rows_of(run: Any) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in DIFFERS} for row in run.results()]


@pytest.mark.parametrize("model", CORRECT)
def test_the_cloud_and_the_laptop_come_to_the_same(
    stack: Stack, pl: PromptLab, replay: str, model: str, tmp_path: Path
) -> None:
    """The count that is known, every row equal; the rows are in the table, the parts and the
    results in the bucket."""
    there = pl.experiment.run(experiment(model, replay))
    with PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")}) as laptop:
        here = laptop.experiment.run(experiment(model, replay))
        expected = rows_of(here)
    found = rows_of(there)
    assert sum(row["score.numeric_match"] for row in found) == CORRECT[model]
    assert found == expected
    assert len(stack.answered(there.run_id, SHARDS)) == ROWS
    assert [key for key in stack.keys(f"runs/{there.run_id}/parts/") if key.endswith(".jsonl.gz")] == [
        f"runs/{there.run_id}/parts/{shard:06}.jsonl.gz" for shard in range(SHARDS)
    ]
    assert counted(stack.blob(f"runs/{there.run_id}/results.parquet"), tmp_path) == (ROWS, CORRECT[model])


def counted(parquet: bytes, folder: Path) -> tuple[int, int]:
    """Rows and right answers of a results file, as anybody would count them."""
    import duckdb

    path = folder / "results.parquet"
    path.write_bytes(parquet)
    with duckdb.connect() as database:
        found = database.execute(
            'SELECT count(*), count(*) FILTER ("score.numeric_match" = 1) FROM read_parquet(?)', [str(path)]
        ).fetchone()
    assert found is not None
    return int(found[0]), int(found[1])
