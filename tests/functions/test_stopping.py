"""Runs that end as soon as it is known how they compare: on a laptop, in the cloud, and through kills."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from functions import infer, plan, runtime
from promptlab import Dataset, PromptLab, PromptTemplate
from promptlab.domain.results import RunRecord
from promptlab.domain.stopping import Reach, next_rows, place_of
from promptlab.errors import ConfigError, LabelNotFoundError, UnknownNameError
from tests.functions.conftest import Context, Machine
from tests.servers import ModelServer, Reply, Request

N = 120
DRAW = random.Random(5)
BETTER = {n: (DRAW.random() < 0.2, DRAW.random() < 0.9) for n in range(N)}
"""Row → whether the base's model is right, and whether the other one is."""
ROWS = [{"id": f"r{n}", "question": f"What is {n}?", "answer": f"it is {n}"} for n in range(N)]

REFUSED = {
    "choices": [
        {"index": 0, "finish_reason": "content_filter", "message": {"role": "assistant", "content": None}}
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 0},
}


def right(side: int) -> Callable[[Request], str]:
    """Answers that are right where `BETTER` has it."""

    def answer(request: Request) -> str:
        n = request.prompt.split()[-1].rstrip("?")
        return f"it is {n}" if BETTER[int(n)][side] else "unknown"

    return answer


def experiment(server: ModelServer, **changes: Any) -> dict[str, Any]:
    return {
        "name": "quiz",
        "dataset": Dataset(name="questions", rows=ROWS, id_column="id"),
        "prompt_template": PromptTemplate(name="ask", user_prompt="<question>"),
        "model": {"name": "openai/mini", "endpoint": server.openai_url, "max_concurrent_tasks": 100},
        "evaluation": [
            {"metric": "exact_match", "name": "correct", "column_mapping": {"reference": "answer"}},
            {"metric": "length"},
        ],
        **changes,
    }


def stop(against: str, **more: Any) -> dict[str, Any]:
    return {"against": against, "metric": "correct", "seed": 3, **more}


def laptop(tmp_path: Path) -> PromptLab:
    return PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})


def record(pl: PromptLab, run_id: str) -> RunRecord:
    return asyncio.run(pl._lab.get_run(run_id))


def plain(decided: Mapping[str, Any] | None) -> dict[str, Any]:
    """What was decided, without what a resume adds."""
    return {name: value for name, value in (decided or {}).items() if name != "went_on"}


def test_a_run_ends_once_it_is_decided_and_goes_on_to_the_full_set(machine: Machine, tmp_path: Path) -> None:
    """The same on a laptop and in the cloud: after the same rows, by the same numbers; all say what was
    saved, and a resume does the rest."""
    with ModelServer(right(0)) as first, ModelServer(right(1)) as second, laptop(tmp_path) as pl:
        base = pl.experiment.run(experiment(first))
        pl.experiment.label(base.run_id, "production")
        run = pl.experiment.run(experiment(second, stop=stop("production")))
        here = record(pl, run.run_id)
        assert here.status == run.status == "decided" and here.decided is not None
        asked = len(second.requests)
        assert here.decided["n"] <= asked == (here.reach or {})["rows"] < N
        rows = run.results()
        order = sorted(range(N), key=lambda n: place_of(3, n))
        assert {row["case"] for row in rows} == set(order[:asked])
        facts = run.decided or {}
        assert (facts["verdict"], facts["label"], facts["against"]) == ("better", "production", base.run_id)
        assert (facts["cases_done"], facts["cases_saved"]) == (asked, N - asked)

        there = machine.start(experiment(first))
        assert machine.execute(there.run_id) == {"status": "completed"}
        second.requests.clear()
        again = machine.start(experiment(second, stop=stop(there.run_id)))
        assert machine.execute(again.run_id) == {"status": "decided"}
        found = runtime.run(machine.lab.get_run(again.run_id))
        assert len(second.requests) == asked and plain(found.decided) == plain(here.decided)
        assert machine.invocations.count("plan") > 2

        whole = pl.experiment.resume(run.run_id)
        assert whole.status == "completed" and whole.summary is not None and whole.summary.succeeded == N
        went_on = record(pl, run.run_id)
        assert (went_on.decided or {})["went_on"] == 1 and plain(went_on.decided) == plain(here.decided)
        assert len(whole.results()) == N
        on = runtime.run(machine.lab.start_resume(again.run_id))
        assert machine.execute(again.run_id, on.generation) == {"status": "completed"}
        assert len(second.requests) == N + N - asked  # nothing was asked twice, there or here


@pytest.mark.long
def test_kills_in_the_middle_of_a_wave_change_no_decision(machine: Machine, tmp_path: Path) -> None:
    """A plan that comes twice, a worker that dies in a wave, and a run that is cancelled and resumed."""
    with ModelServer(right(0)) as first, ModelServer(right(1)) as second, laptop(tmp_path) as pl:
        base = pl.experiment.run(experiment(first))
        wanted = record(pl, pl.experiment.run(experiment(second, stop=stop(base.run_id))).run_id).decided

        there = machine.start(experiment(first))
        machine.execute(there.run_id)
        run = machine.start(experiment(second, stop=stop(there.run_id)))
        event = {"run_id": run.run_id, "generation": 0}
        planned = plan.handler(event, Context())
        assert plan.handler(event, Context())["rows"] == planned["rows"] == 12 and planned["more"]
        lines = machine.manifest(planned["manifest"])
        infer.handler({**event, "functions": {}, "shard": lines[0]}, Context())
        # The execution ends here: shards are answered and not scored, or not even answered.
        runtime.run(machine.lab.cancel(run.run_id))
        on = runtime.run(machine.lab.start_resume(run.run_id))
        assert machine.execute(run.run_id, on.generation) == {"status": "decided"}
        found = runtime.run(machine.lab.get_run(run.run_id))
        assert plain(found.decided) == plain(wanted)
        # Its summary is lost: what was decided stays, and nothing more is asked.
        asked = len(second.requests)
        runtime.run(machine.lab.ledger.update_run(run.run_id, {"status": "interrupted", "summary": None}))
        on = runtime.run(machine.lab.start_resume(run.run_id))
        assert machine.execute(run.run_id, on.generation) == {"status": "decided"}
        assert len(second.requests) == asked


@pytest.mark.long
def test_a_shard_that_cannot_be_done_ends_the_run_and_no_look_is_taken(machine: Machine) -> None:
    """No endless planning of the same step; the run says what is missing."""
    with ModelServer(right(0)) as first, ModelServer(right(1)) as second:
        there = machine.start(experiment(first))
        machine.execute(there.run_id)
        run = machine.start(experiment(second, stop=stop(there.run_id)))
        event = {"run_id": run.run_id, "generation": 0}
        planned = plan.handler(event, Context())
        further = plan.handler({**event, "done": planned["rows"], "functions": {"infer": "x"}}, Context())
        assert (further["shards"], further["more"], further["functions"]) == (0, False, {"infer": "x"})
        found = runtime.run(machine.lab.get_run(run.run_id))
        assert found.decided is None and found.status == "running"


def test_equal_runs_are_done_to_the_end_unless_a_margin_says_they_are_the_same(tmp_path: Path) -> None:
    """Failures count as `missing` says, rows that a metric is not of for nobody."""
    twice = [{**row, "kind": "odd" if n % 2 else "even"} for n, row in enumerate(ROWS)]
    metric = {"metric": "exact_match", "name": "correct", "column_mapping": {"reference": "answer"}}
    changes = {
        "dataset": Dataset(name="questions", rows=twice, id_column="id"),
        "evaluation": [{**metric, "when": {"column": "kind", "is": "odd"}}],
    }
    with ModelServer(right(1)) as first, ModelServer(right(1)) as second, laptop(tmp_path) as pl:
        base = pl.experiment.run(experiment(first, **changes))
        same = pl.experiment.run(experiment(second, stop=stop(base.run_id), **changes))
        assert same.status == "completed" and record(pl, same.run_id).decided is None
        for n in range(0, N, 3):
            second.script(Reply(body=REFUSED), prompt=f"What is {n}?")
        worse = pl.experiment.run(experiment(second, stop=stop(base.run_id), **changes))
        found = record(pl, worse.run_id).decided or {}
        assert (worse.status, found["verdict"]) == ("decided", "worse")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stop": {"against": "staging"}}, "no run labelled 'staging'"),
        ({"stop": {"against": "BASE", "metric": "correctt"}}, "correctt"),
        ({"stop": {"against": "BASE", "metric": "length"}}, "only measures"),
        ({"stop": {"against": "BASE", "looks": 101}}, "less than or equal to 100"),
        ({"stop": {"against": "BASE", "margin": 1.0}}, "any two runs are the same within it"),
        ({"stop": {"against": "BASE"}, "cluster_by": "id"}, "independent"),
        ({"stop": {"against": "BASE"}, "dataset": Dataset(name="other", rows=ROWS[1:])}, "the same rows"),
        ({"stop": {"against": "BASE"}, "dataset": Dataset(name="few", rows=ROWS[:15])}, "of 15 rows"),
        (
            {
                "stop": {"against": "BASE"},
                "evaluation": [{"metric": "contains", "column_mapping": {"reference": "answer"}}],
            },
            "no metric 'contains'",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_stored(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with ModelServer(right(0)) as server, laptop(tmp_path) as pl:
        base = pl.experiment.run(experiment(server))
        changes = {**changes, "stop": {**changes["stop"]}}
        changes["stop"]["against"] = changes["stop"]["against"].replace("BASE", base.run_id)
        with pytest.raises((ConfigError, LabelNotFoundError, UnknownNameError), match=words):
            pl.experiment.run(experiment(server, **changes))
        assert len(server.requests) == N


def test_steps_are_the_ends_of_waves_and_few_before_the_first() -> None:
    """1,319 rows, ten looks: 50, 100, then the ends; a prefix of one step is one of the next."""
    steps, done = [], 0
    while done < 1319:
        steps.append(done := next_rows(done, 1319, 10))
    assert steps == [50, 100, 132, 264, 396, 528, 660, 792, 924, 1056, 1188, 1319]
    inside = [Reach.of(7, 1319, rows) for rows in steps]
    held = [{n for n in range(1319) if reach.holds(n)} for reach in inside]
    assert [len(cases) for cases in held] == steps
    assert all(small < large for small, large in pairwise(held))
