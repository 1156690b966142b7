"""A judge or an embedding model that refuses every call stops its run, as the model under test does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from promptlab import Dataset, Model, PromptLab, PromptTemplate
from promptlab.cli import commands
from promptlab.errors import ModelError
from tests.servers import ModelServer, Reply, Request

WRONG_KEY = Reply(
    status=401, body={"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}
)
NO_MODEL = Reply(
    status=404, body={"error": {"message": "The model `judge` does not exist", "code": "model_not_found"}}
)
NO_CREDIT = Reply(
    status=429, body={"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
)
UNKNOWN_PARAMETER = Reply(status=400, text="Unknown parameter: 'top_q'.")
IN_FLIGHT = 10


def at(server: ModelServer, name: str) -> dict[str, Any]:
    return {
        "name": f"openai/{name}",
        "endpoint": server.openai_url,
        "api_key": "k",
        "max_concurrent_tasks": IN_FLIGHT,
    }


def experiment(server: ModelServer, rows: int = 300, **changes: Any) -> dict[str, Any]:
    return {
        "name": "judged",
        "dataset": Dataset(name="numbers", rows=[{"n": str(n), "ref": "four"} for n in range(rows)]),
        "prompt_template": PromptTemplate(name="ask", user_prompt="What is <n>?"),
        "model": at(server, "mini"),
        "evaluation": [
            {"metric": "rubric", "params": {"criterion": "It is right."}, "judge": at(server, "judge")}
        ],
        **changes,
    }


def refusing(reply: Reply, name: str = "judge", after: int = 0) -> Any:
    """Answer, but refuse the calls of one model, after so many of them."""
    seen = 0

    def answer(request: Request) -> Reply | str:
        nonlocal seen
        if request.json["model"] != name:
            return request.prompt
        seen += 1
        return judged(request) if seen <= after else reply

    return answer


def judged(request: Request) -> str:
    if request.json["model"] != "judge":
        return request.prompt
    return json.dumps({"reasoning": "so", "label": "yes"})


def of(server: ModelServer, name: str) -> int:
    return sum(request.json["model"] == name for request in server.requests)


@pytest.mark.parametrize(
    ("reply", "words", "kind"),
    [
        (WRONG_KEY, "Incorrect API key provided", "evaluator_refused"),
        (NO_MODEL, "The model `judge` does not exist", "evaluator_refused"),
        (NO_CREDIT, "You exceeded your current quota", "evaluator_refused"),
        (UNKNOWN_PARAMETER, "Unknown parameter", "evaluator_error"),
    ],
)
def test_a_judge_that_refuses_every_call_stops_the_run(
    tmp_path: Path, reply: Reply, words: str, kind: str
) -> None:
    """With its provider's words; a resume makes the refused scores, and asks the model nothing again."""
    with ModelServer(refusing(reply)) as server, PromptLab(str(tmp_path / "lab.db")) as pl:
        run = pl.experiment.run(experiment(server), quiet=True)
        assert run.status == "stopped"
        assert words in (run.record.error or "") and "evaluations by rubric" in (run.record.error or "")
        assert 20 <= of(server, "judge") <= 20 + IN_FLIGHT
        assert set(run.record.redo_errors) == {kind}
        server.answer = judged
        whole = run.resume(quiet=True)
        assert (whole.status, whole.record.error, of(server, "mini")) == ("completed", None, 300)
        assert whole.summary is not None and whole.summary.metrics["rubric"].scored == 300


def test_credit_of_a_judge_that_ends_in_the_middle_stops_the_run_there(tmp_path: Path) -> None:
    """What was judged before stays, and is not paid for again."""
    with ModelServer() as server, PromptLab(str(tmp_path / "lab.db")) as pl:
        server.answer = refusing(NO_CREDIT, after=100)
        run = pl.experiment.run(experiment(server), quiet=True)
        assert run.status == "stopped"
        # 20 refusals one after another: an answer that was under way at the first may come after some.
        assert 120 <= (before := of(server, "judge")) <= 120 + 2 * IN_FLIGHT
        server.answer = judged
        assert run.resume(quiet=True).status == "completed"
        assert of(server, "judge") == before + 200


def test_refusals_of_single_evaluations_do_not_stop_a_run(tmp_path: Path) -> None:
    """Half of the answers are too long for the judge, thirty one after another."""

    def answer(request: Request) -> Reply | str:
        if request.json["model"] != "judge":
            return request.prompt
        number = int(request.prompt.split("What is ")[1].split("?")[0])
        return Reply(status=400, text="too long") if 10 <= number < 50 else judged(request)

    with ModelServer(answer) as server, PromptLab(str(tmp_path / "lab.db")) as pl:
        run = pl.experiment.run(experiment(server, rows=80), quiet=True)
        assert run.status == "completed" and run.summary is not None
        assert (run.summary.metrics["rubric"].scored, run.summary.metrics["rubric"].failed) == (40, 40)


@pytest.mark.parametrize("rows", [3, 100])
def test_an_embedding_model_that_is_refused_stops_the_run_too(tmp_path: Path, rows: int) -> None:
    """Also a run of fewer rows than it takes to be sure: none of its evaluations was possible."""
    semantic = {"metric": "semantic_similarity", "column_mapping": {"reference": "ref"}}
    with ModelServer() as server, PromptLab(str(tmp_path / "lab.db")) as pl:
        server.answer = refusing(WRONG_KEY, "vectors")
        of_it = {"evaluation": [semantic], "embedding_model": at(server, "vectors")}
        run = pl.experiment.run(experiment(server, rows=rows, **of_it), quiet=True)
        assert run.status == "stopped"
        assert "Incorrect API key provided" in (run.record.error or "")
        assert of(server, "vectors") == rows if rows < 20 else of(server, "vectors") <= 20 + IN_FLIGHT
        server.answer = lambda request: "fine"
        assert run.resume(quiet=True).status == "completed"


class Refusing(Model):
    """A judge of somebody's own, whose service wants another key."""

    async def ainvoke(self, system_prompt: str, user_prompt: str) -> Any:
        raise ModelError("the service knows no such key", type="authentication")


def test_a_judge_of_ones_own_stops_the_run_too(tmp_path: Path) -> None:
    """Whatever raises the error that says so."""
    with ModelServer(lambda request: "fine") as server, PromptLab(str(tmp_path / "lab.db")) as pl:
        rubric = {"metric": "rubric", "params": {"criterion": "It is right."}, "judge": Refusing()}
        run = pl.experiment.run(experiment(server, rows=100, evaluation=[rubric]), quiet=True)
        assert run.status == "stopped"
        assert "the service knows no such key" in (run.record.error or "")


ISOLATED = """
import asyncio
from promptlab import Evaluator, Score, get_model

class Asking(Evaluator):
    inputs = {"response": "$inference"}

    def evaluate(self, data):
        judge = get_model({"name": "openai/judge", "endpoint": "URL", "api_key": "k"})
        return Score(value=1.0, reason=judge.invoke("", data["response"]).response)
"""


def test_an_isolated_evaluator_whose_requests_are_all_refused_stops_the_run_too(tmp_path: Path) -> None:
    """What its process knows of the refusal is counted where the run is."""
    with ModelServer(refusing(UNKNOWN_PARAMETER)) as server, PromptLab(str(tmp_path / "lab.db")) as pl:
        (tmp_path / "asking.py").write_text(ISOLATED.replace("URL", server.openai_url))
        own = {"metric": "asking", "evaluator": f"{tmp_path / 'asking.py'}:Asking", "isolated": True}
        run = pl.experiment.run(experiment(server, evaluation=[own]), quiet=True)
        assert run.status == "stopped"
        assert "Unknown parameter" in (run.record.error or "")
        assert of(server, "judge") < 100


def test_the_command_says_what_a_judge_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, and the words."""
    monkeypatch.chdir(tmp_path)
    with ModelServer(refusing(WRONG_KEY)) as server:
        Path("rows.jsonl").write_text("".join(f'{{"n": "{n}"}}\n' for n in range(40)))
        Path("quiz.yaml").write_text(
            "name: quiz\ndataset: {name: numbers, file_path: rows.jsonl}\n"
            "prompt_template: {name: ask, user_prompt: <n>}\n"
            f"model: {{name: openai/mini, endpoint: {server.openai_url}}}\n"
            "evaluation:\n- metric: rubric\n  params: {criterion: It is right.}\n"
            f"  judge: {{name: openai/judge, endpoint: {server.openai_url}}}\n"
        )
        code = commands.main(["run", "quiz.yaml", "--json"], standalone_mode=False)
    facts = json.loads(capsys.readouterr().out)
    assert (code, facts["status"]) == (1, "stopped")
    assert "Incorrect API key provided" in facts["error"]
