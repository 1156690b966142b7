"""Metrics of the run as a whole in a hosted lab: built-in ones, and code of users in the sandbox."""

from __future__ import annotations

from typing import Any

import pytest

from functions import runtime
from promptlab.domain.run_metrics import RunMetric
from promptlab.gates import gates_of
from tests.functions.conftest import Machine
from tests.functions.test_sandbox import ROWS, Invoked, experiment, invoked, kept, metric, right, rows  # noqa: F401
from tests.servers import ModelServer

CODE = """
from promptlab import RunEvaluator, Score

class Different(RunEvaluator):
    inputs = {"text": "$inference", "hit": "$score.exact_match"}
    scores = ("different", "hits")
    resamples = 50

    def evaluate(self, cases):
        print("looked at", len(cases))
        found = len({case["text"] for case in cases})
        return {"different": Score(value=found, reason="counted"), "hits": sum(case["hit"] for case in cases)}

class Breaks(RunEvaluator):
    def evaluate(self, cases):
        raise LookupError(f"{len(cases)} cases say nothing")

class Hangs(RunEvaluator):
    def evaluate(self, cases):
        while True:
            pass

class Quits(RunEvaluator):
    def evaluate(self, cases):
        import os
        os._exit(3)
"""
HIT = {"metric": "exact_match", "column_mapping": {"reference": "text"}}


def run_metrics(machine: Machine, run_id: str) -> dict[str, RunMetric]:
    summary = runtime.run(machine.lab.get_run(run_id)).summary
    assert summary is not None
    return {name: RunMetric.from_json(value) for name, value in summary["run_metrics"].items()}


def own(name: str, **more: Any) -> dict[str, Any]:
    mapping = {"text": "$inference", "hit": "$score.exact_match"}
    return metric(name.lower(), name, **{"column_mapping": mapping, **more})


@pytest.mark.long
def test_a_users_own_metric_of_the_run_is_scored_in_the_sandbox(
    machine: Machine,
    invoked: Invoked,  # noqa: F811
) -> None:
    """With intervals and draws; what raises, hangs or ends its process is that metric's error, and the run is
    whole. A comparison has its interval, and a gate a built-in one's slices, from what Summarize kept."""
    table = {
        "metric": "classification",
        "extract": {"regex": "is [0-9]*([0-9])$"},
        "extract_reference": {"regex": "([0-9])$"},
        "column_mapping": {"reference": "text"},
    }
    with ModelServer(right) as server:
        kept(machine, CODE)
        config = experiment(
            server,
            evaluation=[
                HIT,
                table,
                own("Different"),
                metric("breaks", "Breaks"),
                metric("hangs", "Hangs", timeout_s=1),
                metric("quits", "Quits"),
            ],
            dataset={"name": "kinds", "rows": [{**row, "kind": "aab"[n % 3]} for n, row in enumerate(ROWS)]},
            slices=["kind"],
        )
        runs = [machine.start(config) for _ in range(2)]
        for run in runs:
            assert machine.execute(run.run_id) == {"status": "completed"}
    found = run_metrics(machine, runs[0].run_id)
    different = found["different"].values
    assert (different["different.different"].value, different["different.hits"].value) == (60, 60)
    assert different["different.different"].low is not None and found["different"].cases == 60
    assert "counted" in str(different["different.different"].reason)
    errors = {name: str(found[name].values[name].error) for name in ("breaks", "hangs", "quits")}
    assert "LookupError: 60 cases say nothing" in errors["breaks"]
    assert "timeout_s=1" in errors["hangs"] and errors["quits"] != "None"
    assert found["classification"].values["classification.accuracy"].value == 1
    assert {row["judged.classification"] for row in rows(machine, runs[0].run_id)} == set("0123456789")
    a, b = [runtime.run(machine.lab.get_run(run.run_id)) for run in runs]
    page = runtime.run(machine.lab.compare([a.run_id, b.run_id]))
    compared = {one.metric: one for one in page.run_metrics}
    assert compared["different.hits"].difference == 0
    found = runtime.run(machine.lab.slices([a.run_id, b.run_id], "kind", {}))
    kinds = {one.value: one.means["different.hits"] for one in found.slices}
    assert {name: (one.n, one.mean) for name, one in kinds.items()} == {"a": (40, 40), "b": (20, 20)}
    assert {one.differences[0]["different.hits"].judgement.difference for one in found.slices} == {0}
    gate = gates_of(
        [{"metric": "classification.accuracy", "min": 0.5, "slices": ["question"], "min_rows": 2}]
    )
    outcome = runtime.run(machine.lab.gate(b.run_id, baseline=a.run_id, gates=gate))
    assert {check.outcome for check in outcome.checks} == {"left out"} and len(outcome.checks) == 60
