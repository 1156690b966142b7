"""Four models' marks on GSM8K say the same from the command line, a script, the API and the Studio."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from promptlab import Dataset, Evaluator, Model, ModelResponse, PromptLab, PromptTemplate, Score
from promptlab.cli import commands
from tests.studio.live import LiveStudio

SOLUTIONS = Path(__file__).resolve().parents[3] / "shared" / "data" / "gsm8k_solutions.jsonl"
NAMES = ("6b_verification", "175b_finetuning")
pytestmark = pytest.mark.skipif(
    not SOLUTIONS.exists(), reason="the solutions of GSM8K are not on this machine"
)


class Marks(Model):
    """Answers each question with the authors' mark of a model."""

    def __init__(self, marks: list[bool]) -> None:
        super().__init__({"name": "custom/marks", "max_concurrent_tasks": 50})
        self.marks = marks

    async def ainvoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        return ModelResponse(response=str(int(self.marks[int(user_prompt.rsplit(" ", 1)[1])])))


class Right(Evaluator):
    def evaluate(self, data: dict[str, Any]) -> Score:
        return Score(passed=data["response"] == "1")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LiveStudio, Path, list[str]]]:
    """A Studio over a store with both runs: its folder, and their ids."""
    folder = tmp_path_factory.mktemp("gsm8k")
    rows = [json.loads(line) for line in SOLUTIONS.read_text().splitlines()]
    questions = [{"number": n, "half": "first" if n < 660 else "second"} for n in range(len(rows))]
    metric = {"metric": "right", "evaluator": Right(), "column_mapping": {"response": "$inference"}}

    def experiment(name: str) -> dict[str, Any]:
        return {
            "name": name,
            "model": Marks([bool(row[name]["is_correct"]) for row in rows]),
            "prompt_template": PromptTemplate(name="q", description="", user_prompt="Question <number>"),
            "dataset": Dataset(name="gsm8k", description="", rows=questions),
            "evaluation": [metric],
        }

    with LiveStudio(folder) as studio:
        made = [studio.call(lambda lab, name=name: lab.run(experiment(name))) for name in NAMES]  # type: ignore[misc]
        yield studio, folder / "lab.db", [run.run_id for run in made]


def holds(found: dict[str, Any]) -> None:
    assert (found["wins"], found["losses"], found["ties"], found["n"]) == (152, 209, 958, 1319)
    assert found["difference"] == pytest.approx(-0.0432, abs=5e-5)
    assert (found["ci_low"], found["ci_high"]) == pytest.approx((-0.071458, -0.015052), abs=5e-7)
    assert found["p_exact"] == pytest.approx(0.0031506568803606, rel=1e-12)
    assert found["p"] == pytest.approx(0.0026873913284714, rel=1e-12)
    assert found["verdict"] == "worse"


def test_the_command_line_says_worse(compared: tuple[LiveStudio, Path, list[str]]) -> None:
    """`promptlab compare A B`, as JSON and in words; slices of the same runs."""
    _, db, ids = compared
    said = CliRunner().invoke(commands, ["compare", *ids, "--json", "--db", str(db)])
    holds(json.loads(said.stdout)["others"][0]["metrics"]["right"])
    words = CliRunner().invoke(commands, ["compare", *ids, "--db", str(db)]).output
    assert "worse. p .0027: 152 rows won, 209 lost, 958 tied." in " ".join(words.split())
    halves = CliRunner().invoke(commands, ["slices", ids[0], "half", ids[1], "--json", "--db", str(db)])
    each = [one["others"][0]["metrics"]["right"] for one in json.loads(halves.stdout)["slices"]]
    assert (sum(one["wins"] for one in each), sum(one["losses"] for one in each)) == (152, 209)


def test_a_script_says_worse(compared: tuple[LiveStudio, Path, list[str]]) -> None:
    """`pl.experiment.compare(a, b)`, on the store and through the Studio's address."""
    studio, db, ids = compared
    for where in (
        {"type": "sqlite", "db_file": str(db)},
        {"type": "remote", "endpoint": studio.url, "api_key": "none"},
    ):
        pl = PromptLab(where)
        try:
            holds(pl.experiment.compare(*ids, limit=1).to_json()["others"][0]["metrics"]["right"])
            assert sum(one.rows for one in pl.experiment.slices(ids[0], "half", ids[1])) == 1319
        finally:
            pl.close()


def test_the_api_and_the_studio_say_worse(compared: tuple[LiveStudio, Path, list[str]]) -> None:
    """`GET /compare`, and the page; with a δ of .1 it is still worse, and not the same."""
    studio, _, ids = compared
    with studio.client() as client:
        answer = client.get("/compare", params={"run": ids, "margin": "0.1", "limit": 1}).json()
    holds(answer["others"][0]["metrics"]["right"])
    address = f"{studio.url}/compare?run={ids[0]}&run={ids[1]}"
    page = httpx.get(address, timeout=200).text
    assert "worse by 4.3 points" in page and "−7.1 to −1.5" in page
    assert 'value="0.1"' in httpx.get(f"{address}&margin=0.1", timeout=200).text
    slices = httpx.get(f"{studio.url}/slices?run={ids[0]}&run={ids[1]}&column=half", timeout=200).text
    assert "second" in slices and "660" in slices
