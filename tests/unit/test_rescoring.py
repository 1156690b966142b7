"""A completed run is scored by further and other metrics without asking its model again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from promptlab import Dataset, PromptLab, PromptTemplate
from promptlab.cli import commands
from promptlab.errors import ConfigError
from tests.servers import ModelServer, Reply, Request

EXACT = {"metric": "exact_match", "column_mapping": {"reference": "answer"}}


def answer(request: Request) -> str | Reply:
    """The number, but wrong for 3 and refused for 5; judges say no to what has a 4."""
    if "label" in str(request.json["messages"][0]["content"]):
        return json.dumps({"reasoning": "so", "label": "no" if "4" in request.prompt else "yes"})
    if request.prompt == "5":
        return Reply(status=400, text="no")
    return "4" if request.prompt == "3" else request.prompt


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(answer) as running:
        yield running


@pytest.fixture
def pl(tmp_path: Path) -> Iterator[PromptLab]:
    with PromptLab(str(tmp_path / "lab.db")) as lab:
        yield lab


def experiment(server: ModelServer, rows: int = 120, **changes: Any) -> dict[str, Any]:
    return {
        "name": "numbers",
        "dataset": Dataset(name="n", rows=[{"n": str(n), "answer": str(n)} for n in range(rows)]),
        "prompt_template": PromptTemplate(name="ask", user_prompt="<n>"),
        "model": {"name": "openai/mini", "endpoint": server.openai_url, "max_retries": 0, "api_key": "k"},
        "evaluation": [EXACT, {"metric": "length"}],
        **changes,
    }


def rubric(server: ModelServer, criterion: str = "It is right.", **more: Any) -> dict[str, Any]:
    at = {"name": "openai/judge", "endpoint": server.openai_url, "api_key": "k"}
    return {"metric": "rubric", "params": {"criterion": criterion}, "judge": at, **more}


def means(run: Any) -> dict[str, tuple[int, float | None]]:
    return {name: (metric.n, metric.mean) for name, metric in run.summary.metrics.items()}


def test_a_metric_is_added_without_a_call_of_the_model(server: ModelServer, pl: PromptLab) -> None:
    """Only the judge is asked; all that was there stays, the failed case too."""
    run = pl.experiment.run(experiment(server), quiet=True)
    before, asked = means(run), len(server.requests)
    again = pl.experiment.score(run.run_id, [rubric(server)], quiet=True)
    assert {request.json["model"] for request in server.requests[asked:]} == {"judge"}
    assert again.status == "completed" and again.record.generation == 1
    found = means(again)
    assert {name: found[name] for name in before} == before
    assert again.summary is not None and again.summary.metrics["rubric"].scored == 119
    assert (again.summary.cases, again.summary.failed) == (120, 1)
    assert [row["label.rubric"] for row in again.results()[2:6]] == ["yes", "no", "no", None]
    assert again.record.experiment["hash"] != run.record.experiment["hash"]


def test_a_metric_that_is_replaced_keeps_its_scores_under_its_pass(
    server: ModelServer, pl: PromptLab
) -> None:
    """Twice: `length@0`, then `length@1` beside it; what is the same is not scored again."""
    run = pl.experiment.run(experiment(server), quiet=True)
    before = means(run)
    words = {"metric": "length", "params": {"unit": "words"}}
    once = pl.experiment.score(run.run_id, [words, EXACT], quiet=True)
    assert means(once)["length@0"] == before["length"] and means(once)["length"][1] == 1.0
    assert list(means(once)) == ["exact_match", "length", "length@0"]
    bounded = {"metric": "length", "params": {"max": 2}}
    twice = pl.experiment.score(run.run_id, {"evaluation": [bounded]}, quiet=True)
    found = means(twice)
    assert (found["length@0"], found["length@1"]) == (before["length"], means(once)["length"])
    assert found["exact_match"] == before["exact_match"]
    same = pl.experiment.score(run.run_id, [bounded], quiet=True)
    assert same.record.generation == 2 and means(same) == found
    rows = twice.results()
    assert rows[11]["score.length@0"] == 2 and rows[11]["score.length@1"] == 1
    resumed = twice.resume(failed=True)
    assert means(resumed)["length@0"] == before["length"]


def test_a_pass_that_was_stopped_is_finished_by_resume(server: ModelServer, pl: PromptLab) -> None:
    """With the scores of before under their name in every case."""
    run = pl.experiment.run(experiment(server), quiet=True)
    before = means(run)
    pl.experiment.score(run.run_id, [rubric(server)], quiet=True)
    plain = server.answer
    server.answer = lambda request: (
        Reply(status=401, text="no") if "label" in str(request.json) else plain(request)
    )
    broken = pl.experiment.score(run.run_id, [rubric(server, "It is kind.")], quiet=True)
    assert broken.status == "stopped" and "by rubric" in (broken.record.error or "")
    server.answer = plain
    asked = len(server.requests)
    whole = pl.experiment.resume(run.run_id, quiet=True)
    assert whole.summary is not None and whole.summary.metrics["rubric"].scored == 119
    assert whole.summary.metrics["rubric@1"].scored == 119
    assert {request.json["model"] for request in server.requests[asked:]} == {"judge"}
    assert means(whole)["exact_match"] == before["exact_match"]


def test_what_cannot_be_scored_is_an_error_and_changes_nothing(server: ModelServer, pl: PromptLab) -> None:
    """A wrong metric, a name that is not there, a run that is not done."""
    run = pl.experiment.run(experiment(server, rows=5), quiet=True)
    for evaluation, only, words in (
        ([{"metric": "nothing"}], (), "Unknown metric"),
        ([EXACT], ("other",), "no metric 'other'"),
        ([], (), "no metric to score by"),
        ([{**EXACT, "column_mapping": {"reference": "gone"}}], (), "gone"),
        ([rubric(server, judge={"name": "openai/mini", "endpoint": server.openai_url})], (), "allow_self"),
    ):
        with pytest.raises(ConfigError, match=words):
            pl.experiment.score(run.run_id, evaluation, only=only, quiet=True)
    assert pl.experiment.get(run.run_id).record.generation == 0
    server.script(*(Reply(status=400, text="no") for _ in range(3)))
    failed = pl.experiment.run(
        experiment(server, rows=1, model={**experiment(server)["model"], "seed": 1}), quiet=True
    )
    with pytest.raises(ConfigError, match="Resume it first"):
        pl.experiment.score(failed.run_id, [EXACT], quiet=True)


def test_the_command_line_scores_again(server: ModelServer, pl: PromptLab, tmp_path: Path) -> None:
    """From a file with metrics alone, and one of them by name."""
    run = pl.experiment.run(experiment(server, rows=5), quiet=True)
    file = tmp_path / "more.yaml"
    file.write_text(
        "evaluation:\n- {metric: contains, column_mapping: {reference: answer}}\n- {metric: starts_with, "
        "params: {values: ['4']}}\n"
    )
    arguments = ["score", run.run_id, "--evaluation", str(file), "--metric", "contains", "--db"]
    done = CliRunner().invoke(commands, [*arguments, str(tmp_path / "lab.db"), "--json", "--quiet"])
    assert done.exit_code == 0, done.output
    assert set(json.loads(done.stdout)["metrics"]) == {"exact_match", "length", "contains"}
    again = CliRunner().invoke(commands, [*arguments, str(tmp_path / "lab.db")])
    assert "Nothing to score" in again.stderr
