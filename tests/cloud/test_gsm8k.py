"""GSM8K with what four real models answered: the cloud comes to the same as the laptop, case by case, in the
ranking and in verdicts."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from promptlab import Dataset, PromptLab, PromptTemplate
from promptlab.sdk.sweeps import SweepRanking
from tests.cloud.conftest import SHARED, Stack
from tests.cloud.test_cli import promptlab
from tests.studio.test_gsm8k import holds

REPLAY, QUESTIONS = SHARED / "bench" / "replay.py", SHARED / "data" / "gsm8k_test.jsonl"
pytestmark = [
    pytest.mark.cloud,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not REPLAY.exists(), reason="the replayed answers are not there"),
]
CORRECT = {"6b_finetuning": 286, "6b_verification": 515, "175b_finetuning": 458, "175b_verification": 742}
ROWS, SHARDS = 1319, 27
METRIC = "numeric_match"
DIFFERS = ("latency_ms",)
SOON = 150
"""Calls within which the better of the two large models is known, in the median of seeds."""


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


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the questions, each with the half that it is in."""
    path = tmp_path_factory.mktemp("gsm8k") / "questions.jsonl"
    rows = [json.loads(line) for line in QUESTIONS.read_text().splitlines()]
    halves = ({**row, "half": "first" if n < 660 else "second"} for n, row in enumerate(rows))
    path.write_text("".join(json.dumps(row) + "\n" for row in halves))
    return path


def experiment(questions: Path, endpoint: str, *models: str, **more: Any) -> dict[str, Any]:
    """One model's run, or the sweep of several."""
    each = [{"name": f"openai/{name}", "endpoint": endpoint, "max_concurrent_tasks": 100} for name in models]
    return {
        "name": "gsm8k",
        "dataset": Dataset(name="gsm8k", file_path=questions),
        "prompt_template": PromptTemplate(name="solve", user_prompt="<question>"),
        "model": each if len(each) > 1 else each[0],
        "evaluation": [
            {
                "metric": METRIC,
                "column_mapping": {"reference": "answer"},
                "params": {"response_pattern": r"A:(.*)", "reference_pattern": r"####(.*)"},
            }
        ],
        **more,
    }


class Both:
    """The sweep of the four models, on the stack and on a laptop.

    Attributes:
        db: the laptop's store.
        there: the runs on the stack, by model; `here` those on the laptop.
    """

    def __init__(self, stack: SweepRanking, laptop: SweepRanking, db: Path) -> None:
        self.db, self.rankings = db, (stack, laptop)
        self.there, self.here = map(_by_model, self.rankings)

    def ids(self, *models: str) -> list[str]:
        """The ids of runs on the stack."""
        return [self.there[model] for model in models]


def _by_model(ranking: SweepRanking) -> dict[str, str]:
    return {str(cell.choices["model"]).removeprefix("openai/"): cell.run_id for cell in ranking.cells}


@pytest.fixture(scope="module")
def both(pl: PromptLab, replay: str, questions: Path, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """The same sweep in both places."""
    db = tmp_path_factory.mktemp("laptop") / "lab.db"
    config = experiment(questions, replay, *CORRECT)
    with PromptLab({"type": "sqlite", "db_file": str(db)}) as laptop:
        return Both(pl.experiment.sweep(config), laptop.experiment.sweep(config), db)


def rows_of(lab: PromptLab, run_id: str) -> list[dict[str, Any]]:
    """The rows of a run, without what two runs differ in."""
    rows = lab.experiment.get(run_id).results()
    return [{name: value for name, value in row.items() if name not in DIFFERS} for row in rows]


@pytest.mark.parametrize("model", CORRECT)
def test_the_cloud_and_the_laptop_come_to_the_same(
    stack: Stack, pl: PromptLab, both: Both, model: str, tmp_path: Path
) -> None:
    """The count that is known, every row equal; the rows are in the table, the parts and the
    results in the bucket."""
    run_id = both.there[model]
    found = rows_of(pl, run_id)
    with PromptLab({"type": "sqlite", "db_file": str(both.db)}) as laptop:
        assert found == rows_of(laptop, both.here[model])
    assert sum(row[f"score.{METRIC}"] for row in found) == CORRECT[model]
    assert len(stack.answered(run_id, SHARDS)) == ROWS
    assert [key for key in stack.keys(f"runs/{run_id}/parts/") if key.endswith(".jsonl.gz")] == [
        f"runs/{run_id}/parts/{shard:06}.jsonl.gz" for shard in range(SHARDS)
    ]
    assert counted(stack.blob(f"runs/{run_id}/results.parquet"), tmp_path) == (ROWS, CORRECT[model])


def counted(parquet: bytes, folder: Path) -> tuple[int, int]:
    """Rows and right answers of a results file, as anybody would count them."""
    import duckdb

    path = folder / "results.parquet"
    path.write_bytes(parquet)
    with duckdb.connect() as database:
        found = database.execute(
            f'SELECT count(*), count(*) FILTER ("score.{METRIC}" = 1) FROM read_parquet(?)', [str(path)]
        ).fetchone()
    assert found is not None
    return int(found[0]), int(found[1])


def test_the_ranking_of_the_sweep_is_the_laptops(stack: Stack, both: Both, tmp_path: Path) -> None:
    """From a script, the command line, the API and the Studio: places, P(best), ranks and verdicts."""
    there, here = (_ranks(ranking.to_json()) for ranking in both.rankings)
    assert there == here
    assert [cell["choices"]["model"].removeprefix("openai/") for cell in there] == sorted(
        CORRECT, key=lambda model: -CORRECT[model]
    )
    sweep_id = both.rankings[0].sweep_id
    assert _ranks(json.loads(promptlab("sweep", sweep_id, "--json", folder=tmp_path))) == here
    assert _ranks(stack.api.get(f"/sweeps/{sweep_id}").raise_for_status().json()) == here
    with stack.client() as browser:
        page = browser.get(f"/sweeps/{sweep_id}").raise_for_status().text
    assert "175b_verification" in page.replace("<wbr>", "")


def _ranks(ranking: dict[str, Any]) -> list[dict[str, Any]]:
    """A ranking without what two sweeps differ in: the runs' ids, and how long their calls took."""
    return [
        {name: value for name, value in cell.items() if name not in ("run_id", "latency_ms")}
        for cell in ranking["cells"]
    ]


def test_the_smaller_verified_model_beats_the_larger_one_everywhere(
    stack: Stack, pl: PromptLab, both: Both, tmp_path: Path
) -> None:
    """The numbers of the paper's data, from the command line, a script, the API and the Studio."""
    ids = both.ids("6b_verification", "175b_finetuning")
    compared = json.loads(promptlab("compare", *ids, "--json", folder=tmp_path))
    holds(compared["others"][0]["metrics"][METRIC])
    holds(pl.experiment.compare(*ids, limit=1).to_json()["others"][0]["metrics"][METRIC])
    answer = stack.api.get("/compare", params={"run": ids, "limit": 1}).raise_for_status().json()
    holds(answer["others"][0]["metrics"][METRIC])
    with stack.client() as browser:
        page = browser.get("/compare", params={"run": ids}).raise_for_status().text
        halves = browser.get("/slices", params={"run": ids, "column": "half"}).raise_for_status().text
    assert "worse by 4.3 points" in page and "−7.1 to −1.5" in page
    assert "second" in halves and "660" in halves


def test_slices_and_gates_hold_the_same_runs_to_the_same(pl: PromptLab, both: Both, tmp_path: Path) -> None:
    """Won and lost rows of the halves add up; a gate fails for what is worse, with its exit code, and passes
    for what is better."""
    base, worse, better = both.ids("6b_verification", "175b_finetuning", "175b_verification")
    said = json.loads(promptlab("slices", base, "half", worse, "--json", folder=tmp_path))
    each = [one["others"][0]["metrics"][METRIC] for one in said["slices"]]
    assert (sum(one["wins"] for one in each), sum(one["losses"] for one in each)) == (152, 209)
    assert sum(one.rows for one in pl.experiment.slices(base, "half", worse)) == ROWS
    failed = json.loads(promptlab("gate", worse, "--baseline", base, "--json", folder=tmp_path, code=4))
    assert (failed["outcome"], failed["checks"][0]["verdict"]) == ("failed", "worse")
    assert pl.experiment.gate(better, baseline=worse).passed


def test_a_run_on_the_stack_stops_as_soon_as_it_is_decided(
    pl: PromptLab, both: Both, replay: str, questions: Path
) -> None:
    """After the same rows and by the same numbers as on the laptop, a tenth of them; the rest is saved."""
    decided = []
    with PromptLab({"type": "sqlite", "db_file": str(both.db)}) as laptop:
        for lab, runs in ((pl, both.there), (laptop, both.here)):
            stop = {"against": runs["175b_finetuning"], "metric": METRIC, "seed": 1}
            run = lab.experiment.run(experiment(questions, replay, "175b_verification", stop=stop))
            assert run.status == "decided" and run.decided is not None
            decided.append({name: value for name, value in run.decided.items() if name != "against"})
    assert decided[0] == decided[1]
    assert (decided[0]["verdict"], decided[0]["cases_saved"]) == ("better", ROWS - decided[0]["cases_done"])
    assert decided[0]["cases_done"] <= SOON
