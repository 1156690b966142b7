"""Runs with judges: whose models they are, what they cost, what is asked once, what a kill loses."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from promptlab import Dataset, ExperimentConfig, PromptLab, PromptTemplate
from promptlab.adapters.http.bodies import experiment_body
from promptlab.errors import ConfigError
from promptlab.experiments.portable import check_portable
from tests.servers import ModelServer, Reply, Request

PRICES = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0}


def answer(request: Request) -> str:
    """The model says a word of the prompt; judges say yes to odd numbers."""
    if "label" not in str(request.json["messages"][0]["content"]):
        return f"Answer to {request.prompt}"
    return json.dumps({"reasoning": "I looked.", "label": "yes" if request.prompt.count("1") else "no"})


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(answer) as running:
        yield running


@pytest.fixture
def pl(tmp_path: Path) -> Iterator[PromptLab]:
    with PromptLab(str(tmp_path / "lab.db")) as lab:
        yield lab


def judge(server: ModelServer, name: str = "judge", **more: Any) -> dict[str, Any]:
    return {"name": f"openai/{name}", "endpoint": server.openai_url, "api_key": "k", **PRICES, **more}


def rubric(server: ModelServer, **more: Any) -> dict[str, Any]:
    return {"metric": "rubric", "params": {"criterion": "It is right."}, "judge": judge(server), **more}


def experiment(
    server: ModelServer, *metrics: dict[str, Any], rows: int = 12, **changes: Any
) -> dict[str, Any]:
    return {
        "name": "judged",
        "dataset": Dataset(name="numbers", rows=[{"n": n} for n in range(rows)]),
        "prompt_template": PromptTemplate(name="ask", user_prompt="What is <n>?"),
        "model": {**judge(server, "mini"), "max_retries": 0},
        "evaluation": list(metrics) or [rubric(server)],
        **changes,
    }


def of(server: ModelServer, name: str) -> list[Request]:
    return [request for request in server.requests if request.json["model"] == name]


def test_a_run_is_judged_and_its_judges_cost_is_booked_apart(server: ModelServer, pl: PromptLab) -> None:
    """Labels, values, reasons, and dollars beside the model's."""
    run = pl.experiment.run(experiment(server), quiet=True)
    assert run.summary is not None
    metric = run.summary.metrics["rubric"]
    assert (metric.n, metric.labels) == (12, {"yes": 3, "no": 9}) and metric.is_share
    assert metric.usage.calls == 12 and metric.usage.cost_usd and metric.usage.unknown_cost == 0
    assert len(of(server, "mini")) == len(of(server, "judge")) == 12
    rows = run.results()
    assert [row["label.rubric"] for row in rows[:3]] == ["no", "yes", "no"]
    assert rows[1]["passed.rubric"] is True and rows[1]["reason.rubric"] == "I looked."
    recorded = run.record.experiment["evaluation"][0]["judge"][0]
    assert recorded["name"] == "openai/judge" and "api_key" not in recorded
    assert "openai/judge" in run.record.experiment["prices"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"judge": None}, "asks a model of its own"),
        ({"judge": []}, "1 to 20"),
        ({"judge": 7}, "got int"),
        ({"judge": {"name": "nobody"}}, "not provider/model"),
        ({"judge": "nobody/x"}, "nobody"),
        ({"judge": {"name": "openai/x", "repeats": 21}}, "less than or equal to 20"),
        ({"judge": {"name": "openai/x", "repeat": 2}}, "did you mean 'repeats'"),
        ({"metric": "length", "params": {}}, "asks no model"),
    ],
)
def test_a_wrong_judge_is_an_error_before_the_first_call(
    server: ModelServer, pl: PromptLab, change: dict[str, Any], words: str
) -> None:
    """It names the metric and what to write."""
    with pytest.raises(ConfigError, match=words):
        pl.experiment.run(experiment(server, rubric(server, **change)), quiet=True)
    assert server.requests == []


def test_a_model_does_not_judge_its_own_answers_unless_told_to(server: ModelServer, pl: PromptLab) -> None:
    """`allow_self` says so."""
    own = rubric(server, judge=judge(server, "mini"))
    with pytest.raises(ConfigError, match="allow_self: true"):
        pl.experiment.run(experiment(server, own), quiet=True)
    told = rubric(server, judge=judge(server, "mini", allow_self=True))
    assert pl.experiment.run(experiment(server, told), quiet=True).summary.metrics["rubric"].n == 12  # type: ignore[union-attr]
    elsewhere = {**judge(server, "mini"), "endpoint": f"{server.openai_url}/"}
    with pytest.raises(ConfigError, match="allow_self: true"):
        pl.experiment.run(experiment(server, rubric(server, judge=[elsewhere])), quiet=True)


@pytest.mark.parametrize(
    "name", ["fluency", "coherence", "groundedness", "relevance", "faithfulness", "harmful_content"]
)
def test_every_judge_of_promptlab_0_1_is_there(pl: PromptLab, name: str) -> None:
    """With its inputs by the names that they had, by a judge that is named."""
    config = experiment_of_simulated(
        {"metric": name, "judge": "simulated/judge", "column_mapping": {"response": "$completion"}}
    )
    run = pl.experiment.run(config, quiet=True)
    assert run.summary is not None and run.summary.metrics[name].scored == 4
    assert run.summary.metrics[name].higher_is_better is (name != "harmful_content")


def experiment_of_simulated(metric: dict[str, Any]) -> dict[str, Any]:
    columns = {"query": "q", "context": "c"}
    if metric["metric"] in ("groundedness", "faithfulness"):
        metric["column_mapping"]["context"] = "context"
    elif metric["metric"] == "relevance":
        metric["column_mapping"]["query"] = "query"
    return {
        "dataset": Dataset(name="d", rows=[{**columns, "n": n} for n in range(4)]),
        "prompt_template": PromptTemplate(name="p", user_prompt="Say <n>"),
        "model": "simulated/other",
        "evaluation": [metric],
    }


def test_equal_answers_get_equal_scores_in_every_run_and_are_judged_once(
    server: ModelServer, pl: PromptLab
) -> None:
    """Across runs and trials; `cache: false` asks again."""
    labels = iter(range(10_000))
    plain = server.answer
    server.answer = lambda request: (
        json.dumps({"reasoning": "", "label": "yes" if next(labels) % 2 else "no"})
        if request.json["model"] == "judge"
        else plain(request)
    )
    first = pl.experiment.run(experiment(server), quiet=True)
    assert len(of(server, "judge")) == 12
    again = pl.experiment.run(experiment(server, trials=2), quiet=True)
    assert len(of(server, "judge")) == 12 and len(of(server, "mini")) == 12 + 24
    by_row = {row["case"]: row["score.rubric"] for row in first.results()}
    assert all(row["score.rubric"] == by_row[row["case"]] for row in again.results())
    assert again.summary is not None and again.summary.metrics["rubric"].usage.calls == 0
    pl.experiment.run(experiment(server, rubric(server, judge=judge(server, cache=False))), quiet=True)
    assert len(of(server, "judge")) == 24


def test_what_could_not_be_read_is_asked_again_and_only_that(server: ModelServer, pl: PromptLab) -> None:
    """A failed score is no judgement that is kept."""
    plain, broken = server.answer, True
    server.answer = lambda request: (
        "No."
        if broken and request.json["model"] == "judge" and "to What is 3?" in str(request.json)
        else plain(request)
    )
    run = pl.experiment.run(experiment(server), quiet=True)
    assert run.summary is not None and run.summary.metrics["rubric"].failed == 1
    asked, broken = len(of(server, "judge")), False
    run = run.resume(failed=True)
    assert run.summary is not None and run.summary.metrics["rubric"].failed == 0
    assert len(of(server, "judge")) == asked + 1


def test_a_jury_of_three_asks_each_and_counts_the_cost_of_all(server: ModelServer, pl: PromptLab) -> None:
    """36 calls for 12 cases; the votes are kept with the scores."""
    panel = [judge(server, f"judge{n}") for n in range(3)]
    run = pl.experiment.run(experiment(server, rubric(server, judge=panel)), quiet=True)
    assert run.summary is not None and run.summary.metrics["rubric"].usage.calls == 36
    counts = Counter(request.json["model"] for request in server.requests)
    assert counts == {"mini": 12, "judge0": 12, "judge1": 12, "judge2": 12}


def test_steps_of_an_evaluation_are_made_once_and_stored(server: ModelServer, pl: PromptLab) -> None:
    """Before the run; a resume and another run of the recorded experiment have the same."""

    def steps(request: Request) -> str:
        system = str(request.json["messages"][0]["content"])
        if "Write the steps" in system:
            return json.dumps({"items": ["Read it twice.", "Weigh it."]})
        if "Mark the RESPONSE" in system:
            assert "1. Read it twice." in system
            return json.dumps({"reasoning": "fine", "label": "4"})
        return "an answer"

    server.answer = steps
    g_eval = {"metric": "g_eval", "params": {"criterion": "It is kind."}, "judge": judge(server)}
    run = pl.experiment.run(experiment(server, g_eval), quiet=True)
    assert run.summary is not None and run.summary.metrics["g_eval"].mean == 0.75
    assert run.record.experiment["evaluation"][0]["params"]["steps"] == ["Read it twice.", "Weigh it."]
    assert sum("Write the steps" in str(request.json) for request in server.requests) == 1
    run.resume(failed=True, config=experiment(server, g_eval))


def test_a_budget_is_not_exceeded_by_judges(server: ModelServer, pl: PromptLab) -> None:
    """A jury of two within a small budget ends the run early, with all that was paid in it."""
    panel = [judge(server, f"judge{n}", max_tokens=50) for n in range(2)]
    config = experiment(server, rubric(server, judge=panel), rows=200, max_cost_usd=0.02)
    config["model"] |= {"max_tokens": 20}
    run = pl.experiment.run(config, quiet=True)
    assert run.status == "budget_reached" and run.summary is not None
    spent = (run.summary.cost_usd or 0) + (run.summary.metrics_usage.cost_usd or 0)
    assert 0 < spent <= 0.02 + 1e-9


def test_an_experiment_with_judges_can_be_sent_elsewhere_without_keys(server: ModelServer) -> None:
    """As its JSON reads it again; a key, or this machine's variable, is refused."""
    given = {"name": "openai/j", "endpoint": "https://judges.example.com/v1", "api_key_secret": "judges"}
    config = ExperimentConfig.parse(experiment(server, rubric(server, judge=[given, "openai/other"])))
    config = config.model_copy(update={"model": None, "agent_proxy": None})
    body = experiment_body(config, "numbers@0")
    back = body["evaluation"][0]["judge"]
    assert [one["name"] for one in back] == ["openai/j", "openai/other"]
    assert back[0]["api_key_secret"] == "judges" and "api_key" not in str(back[1])
    check_portable(config)
    for wrong in ({"api_key": "secret-key"}, {"api_key_env": "JUDGES_API_KEY"}):
        changed = experiment(server, rubric(server, judge={"name": "openai/j", **wrong}))
        with pytest.raises(ConfigError, match="judge of 'rubric'"):
            check_portable(ExperimentConfig.parse(changed | {"model": "openai/m"}))


def test_a_judge_is_asked_as_soon_as_a_case_is_answered(pl: PromptLab) -> None:
    """The last answer of a shard comes once the judge was asked about all others: nobody waits for it."""

    running = ModelServer()

    def answered(request: Request) -> Reply | str:
        if request.json["model"] == "mini":
            return Reply(text=f"Answer to {request.prompt}", hang="11" in request.prompt)
        if len(of(running, "judge")) == 11:
            running.release()
        return answer(request)

    running.answer = answered
    with running:
        run = pl.experiment.run(experiment(running, rows=12), quiet=True)
    assert run.summary is not None and (run.summary.succeeded, run.summary.metrics["rubric"].n) == (12, 12)
    assert len(of(running, "mini")) == len(of(running, "judge")) == 12


def test_calls_of_three_judges_and_the_model_keep_to_the_limit_of_each(
    server: ModelServer, pl: PromptLab
) -> None:
    """The most in flight of each is what it may have, and all of them work at the same time."""
    flying: Counter[str] = Counter()
    peak: Counter[str] = Counter()
    together = 0

    def slow(request: Request) -> Reply:
        return Reply(text=answer(request), delay_s=0.02)

    plain = server._respond

    async def counted(request: Request, writer: Any) -> bool:
        nonlocal together
        name = request.json["model"]
        flying[name] += 1
        peak[name] = max(peak[name], flying[name])
        together = max(together, sum(count > 0 for count in flying.values()))
        try:
            return await plain(request, writer)
        finally:
            flying[name] -= 1

    server.answer, server._respond = slow, counted  # type: ignore[method-assign]
    metrics = [
        rubric(server, name=f"m{n}", judge=judge(server, f"judge{n}", max_concurrent_tasks=5 + n))
        for n in range(3)
    ]
    config = experiment(server, *metrics, rows=300)
    config["model"] |= {"max_concurrent_tasks": 8}
    run = pl.experiment.run(config, quiet=True)
    assert run.status == "completed" and len(server.requests) == 1_200
    assert peak == {"mini": 8, "judge0": 5, "judge1": 6, "judge2": 7}
    assert together == 4


SCRIPT = """
import sys
from promptlab import PromptLab
at = {"endpoint": sys.argv[2], "api_key": "k", "cache": False}
PromptLab({"type": "sqlite", "db_file": sys.argv[1]}).experiment.run({
    "name": "killed",
    "dataset": {"name": "numbers", "rows": [{"n": n} for n in range(300)]},
    "prompt_template": {"name": "ask", "user_prompt": "What is <n>?"},
    "model": {"name": "openai/mini", **at, "max_concurrent_tasks": 20},
    "evaluation": [{"metric": "rubric", "params": {"criterion": "It is right."}, "judge": [
        {"name": "openai/judge0", **at, "max_concurrent_tasks": 10},
        {"name": "openai/judge1", **at, "max_concurrent_tasks": 10},
    ]}],
})
"""


@pytest.mark.parametrize(
    "seed", [*range(2), *(pytest.param(n, marks=pytest.mark.long) for n in range(2, 20))]
)
def test_a_kill_during_judging_pays_for_no_judgement_twice_but_those_in_flight(
    seed: int, tmp_path: Path
) -> None:
    """No more than each judge's calls in flight are made again, without the help of the cache."""
    db, when = tmp_path / "lab.db", random.Random(seed).randrange(100, 850)
    with ModelServer(lambda request: Reply(text=answer(request), delay_s=0.005)) as server:
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(db), server.openai_url])
        server.wait_for_requests(when)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        with PromptLab({"type": "sqlite", "db_file": str(db)}) as pl:
            (run,) = pl.experiment.list()
            run = run.resume()
        assert run.status == "completed" and run.summary is not None
        assert run.summary.metrics["rubric"].n == 300
        counts = Counter(request.json["model"] for request in server.requests)
        assert counts["mini"] <= 320
        assert 300 <= counts["judge0"] <= 310 and 300 <= counts["judge1"] <= 310
