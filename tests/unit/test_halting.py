"""Runs that end before all of their cases are done, though nobody stopped them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from promptlab import Dataset, PromptLab, PromptTemplate
from promptlab.cli import commands
from promptlab.errors import ConfigError
from promptlab.experiments.config import ExperimentConfig
from tests.servers import ModelServer, Reply, Request


def experiment(server: ModelServer, rows: int = 40, **changes: Any) -> dict[str, Any]:
    return {
        "name": "quiz",
        "dataset": Dataset(name="questions", rows=[{"question": f"What is {n}?"} for n in range(rows)]),
        "prompt_template": PromptTemplate(name="ask", user_prompt="<question>"),
        "model": {"name": "openai/mini", "endpoint": server.openai_url, "max_concurrent_tasks": 4},
        "evaluation": [{"metric": "length"}],
        **changes,
    }


WRONG_KEY = Reply(
    status=401,
    body={"error": {"message": "Incorrect API key provided: sk-***", "code": "invalid_api_key"}},
)
NO_MODEL = Reply(
    status=404,
    body={"error": {"message": "The model `mini` does not exist", "code": "model_not_found"}},
)
NO_CREDIT = Reply(
    status=429,
    body={"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}},
)


def model(server: ModelServer, **further: Any) -> dict[str, Any]:
    return {"name": "openai/mini", "endpoint": server.openai_url, "max_concurrent_tasks": 100, **further}


@pytest.mark.parametrize(
    ("reply", "words", "kind"),
    [
        (WRONG_KEY, "Incorrect API key provided", "authentication"),
        (NO_MODEL, "The model `mini` does not exist", "not_found"),
        (NO_CREDIT, "You exceeded your current quota", "quota"),
        (Reply(status=402, text="Payment required"), "Payment required", "quota"),
        (Reply(status=403, text="Country not supported"), "Country not supported", "authentication"),
        (Reply(status=400, text="Unknown parameter: 'top_q'."), "Unknown parameter", "bad_request"),
    ],
)
def test_a_run_that_cannot_succeed_stops_after_its_first_calls_and_goes_on_when_it_can(
    tmp_path: Path, reply: Reply, words: str, kind: str
) -> None:
    """With the provider's words; what was refused is done again without being asked for."""
    right = False
    with (
        ModelServer(lambda request: "fine" if right else reply) as server,
        PromptLab(str(tmp_path / "lab.db")) as pl,
    ):
        run = pl.experiment.run(experiment(server, rows=400, model=model(server)), quiet=True)
        assert run.status == "stopped"
        assert words in (run.record.error or "") and "Resume the run" in (run.record.error or "")
        assert 20 <= len(server.requests) <= 120
        refused = [row["error_type"] for row in run.results() if row["error_type"]]
        assert refused == [kind] * len(server.requests)  # those that were in flight are kept, too
        assert (run.summary, run.record.results) == (None, None)
        right, asked = True, len(server.requests)
        whole = run.resume(quiet=True)
        assert (whole.status, whole.record.error) == ("completed", None)
        assert whole.summary is not None and whole.summary.succeeded == 400
        assert len(server.requests) == asked + 400


@pytest.mark.parametrize("reply", [WRONG_KEY, NO_MODEL, NO_CREDIT])
def test_ten_thousand_rows_cost_no_more_calls_than_a_few(tmp_path: Path, reply: Reply) -> None:
    """Twenty, and as many as may be in flight."""
    with ModelServer(lambda request: reply) as server, PromptLab(str(tmp_path / "lab.db")) as pl:
        run = pl.experiment.run(experiment(server, rows=10_000, model=model(server)), quiet=True)
        assert run.status == "stopped"
        assert 20 <= len(server.requests) <= 120


def test_credit_that_ends_in_the_middle_stops_the_run_there(tmp_path: Path) -> None:
    """Answers before it change nothing: twenty refusals without one between them do."""
    with ModelServer() as server, PromptLab(str(tmp_path / "lab.db")) as pl:
        server.answer = lambda request: "fine" if len(server.requests) <= 100 else NO_CREDIT
        run = pl.experiment.run(experiment(server, rows=300), quiet=True)
        assert run.status == "stopped"
        assert 120 <= len(server.requests) <= 124


@pytest.mark.parametrize("text", ["This model's maximum context length is 8192 tokens.", "no"])
def test_refusals_of_single_requests_do_not_stop_a_run_that_is_answered(tmp_path: Path, text: str) -> None:
    """Half of the rows are refused, thirty of them one after another."""

    def answer(request: Request) -> Reply | str:
        number = int(request.prompt.split()[-1].rstrip("?"))
        return Reply(status=400, text=text) if 10 <= number < 50 else "fine"

    with ModelServer(answer) as server, PromptLab(str(tmp_path / "lab.db")) as pl:
        run = pl.experiment.run(experiment(server, rows=80), quiet=True)
        assert run.status == "completed"
        assert run.summary is not None and (run.summary.succeeded, run.summary.failed) == (40, 40)


def test_filtered_prompts_stop_no_run_but_one_without_a_good_case_has_failed(tmp_path: Path) -> None:
    """Each is its prompt's own fault; the run that has nothing else says so, and keeps its results."""
    filtered = Reply(status=400, body={"error": {"code": "content_filter", "message": "Filtered."}})
    with ModelServer(lambda request: filtered) as server, PromptLab(str(tmp_path / "lab.db")) as pl:
        run = pl.experiment.run(experiment(server, rows=30), quiet=True)
        assert len(server.requests) == 30
        assert run.status == "failed"
        assert "All 30 cases failed, most with content_filter" in (run.record.error or "")
        assert run.summary is not None and run.summary.failed == 30
        server.answer = lambda request: "fine"
        assert run.resume(failed=True, quiet=True).status == "completed"


def test_a_small_run_of_refusals_is_stopped_too(tmp_path: Path) -> None:
    """Three rows are all there are: they, too, are asked again by a plain resume."""
    with ModelServer(lambda request: WRONG_KEY) as server, PromptLab(str(tmp_path / "lab.db")) as pl:
        run = pl.experiment.run(experiment(server, rows=3), quiet=True)
        assert (run.status, len(server.requests)) == ("stopped", 3)
        assert "All 3 cases were refused" in (run.record.error or "")
        server.answer = lambda request: "fine"
        assert run.resume(quiet=True).status == "completed"
        assert len(server.requests) == 6


def test_a_429_that_asks_for_an_hour_stops_the_run(tmp_path: Path) -> None:
    """Nobody waits so long; the reason says how long it would be."""
    reply = Reply(status=429, headers={"retry-after": "3600"}, text="Come back later")
    with ModelServer(lambda request: reply) as server, PromptLab(str(tmp_path / "lab.db")) as pl:
        run = pl.experiment.run(experiment(server), quiet=True)
        assert run.status == "stopped"
        assert "3600 s" in (run.record.error or "")
        assert len(server.requests) <= 24


@pytest.mark.parametrize(("most", "allowed"), [(5, 5), (0.1, 10), (0, 0)])
def test_more_failures_than_allowed_stop_the_run(tmp_path: Path, most: float, allowed: int) -> None:
    """A count, or a share of all cases; a resume goes on with the others, and counts anew."""

    def answer(request: Request) -> Reply | str:
        number = int(request.prompt.split()[-1].rstrip("?"))
        return Reply(status=400, text="no") if number % 2 else "fine"

    with ModelServer(answer) as server, PromptLab(str(tmp_path / "lab.db")) as pl:
        config = experiment(server, rows=100, max_failures=most)
        run = pl.experiment.run(config, quiet=True)
        assert run.status == "stopped"
        assert f"max_failures allows {allowed}" in (run.record.error or "")
        failed = sum(row["error_type"] is not None for row in run.results())
        assert allowed < failed <= allowed + 4
        again = run.resume(quiet=True)
        assert again.status == "stopped" and len(server.requests) > failed


def test_of_two_reasons_to_halt_the_first_stays(tmp_path: Path) -> None:
    """Eight calls are in flight when the third failure halts the run: those that fail after it are recorded,
    and the run still says why it ended."""
    came = 0

    def answer(request: Request) -> Reply:
        nonlocal came
        came += 1
        if came == 8:
            server.release()
        return Reply(status=400, text=f"number {came}", hang=True)

    with ModelServer(answer) as server, PromptLab(str(tmp_path / "lab.db")) as pl:
        at_once = model(server, max_concurrent_tasks=8)
        run = pl.experiment.run(experiment(server, rows=8, max_failures=2, model=at_once), quiet=True)
        assert (run.record.error or "").startswith("3 of 8 cases failed, and max_failures allows 2;")
        assert sum(row["error_type"] is not None for row in run.results()) == 8


def test_max_failures_is_a_count_or_a_share() -> None:
    """What is neither is named."""
    with pytest.raises(ConfigError, match=r"2.5 is neither a count \(10\) nor a share"):
        ExperimentConfig.parse(
            {"dataset": "d", "prompt_template": "p", "model": "openai/mini", "max_failures": 2.5}
        )


def test_the_command_says_why_a_run_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, the provider's words in the table and in the JSON object, and how to go on."""
    monkeypatch.chdir(tmp_path)
    with ModelServer(lambda request: WRONG_KEY) as server:
        rows = "".join(f'{{"question": "What is {n}?"}}\n' for n in range(30))
        Path("rows.jsonl").write_text(rows)
        Path("quiz.yaml").write_text(
            "name: quiz\ndataset: {name: questions, file_path: rows.jsonl}\n"
            "prompt_template: {name: ask, user_prompt: <question>}\n"
            f"model: {{name: openai/mini, endpoint: {server.openai_url}}}\n"
        )
        code = commands.main(["run", "quiz.yaml", "--json"], standalone_mode=False)
    out, err = capsys.readouterr()
    facts = json.loads(out)
    assert code == 1
    assert (facts["status"], facts["failed"] >= 20) == ("stopped", True)
    assert "Incorrect API key provided" in facts["error"]
    assert "Stopped: " in err and " resume " in err.partition("Go on with: ")[2]
