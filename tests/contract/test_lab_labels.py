"""The labels of people in every lab (promptlab/labelling/contract.py): over a store, over a hosted Studio."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from promptlab.domain.labels import CaseLabel
from promptlab.domain.results import CaseKey
from promptlab.errors import ConfigError, RunNotFoundError
from promptlab.lab import Lab
from promptlab.queries.filters import Filter
from tests.unit.judged_runs import JudgeServer, experiment, truth

ROWS = 60


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer() as running:
        yield running


async def labelled(lab: Lab, run_id: str, rows: range, rater: str = "zoe", **said: Any) -> int:
    """Label rows as people would."""
    labels = [CaseLabel(case=n, passed=truth(n), rater=rater, random=True, **said) for n in rows]
    return await lab.labels.put(run_id, labels, rater=rater)


async def test_labels_are_kept_replaced_drawn_and_removed(lab: Lab, server: JudgeServer) -> None:
    """By row or by its id; a second rater gets what the first one labelled; a rater's go all at once."""
    run_id = (await lab.run(experiment(server))).run_id
    assert await labelled(lab, run_id, range(3), note="so") == 3
    assert await labelled(lab, run_id, range(3), note="so") == 0
    assert await labelled(lab, run_id, range(1), note="or so") == 1
    first, *others = [label async for label in lab.labels.of(run_id)]
    assert (first.case, first.rater, first.note, first.random) == (0, "zoe", "or so", True)
    assert [one["note"] for one in first.history] == ["so"] and [one.case for one in others] == [1, 2]
    by_id = CaseLabel(id="7", score=0.5, metric="rubric", rater="bob")
    assert await lab.labels.put(run_id, [by_id], rater="bob") == 1
    drawn = await lab.labels.queue(run_id, n=10, seed=3, rater="zoe")
    assert [one.id for one in drawn] == [one.id for one in await lab.labels.queue(run_id, n=10, seed=3)]
    assert len({one.case for one in drawn}) == 10
    second = await lab.labels.queue(run_id, rater="bob", second=True)
    assert sorted(one.case for one in second) == [0, 1, 2] and not any(one.labelled for one in second)
    assert await lab.labels.queue(run_id, filter=Filter(text="row 59?")) != drawn
    assert await lab.labels.remove(run_id, CaseKey(0, 0), rater="zoe")
    assert not await lab.labels.remove(run_id, CaseKey(0, 0), rater="zoe")
    assert await lab.labels.forget_rater("zoe") == 2
    assert [label.rater async for label in lab.labels.of(run_id)] == ["bob"]
    assert await lab.labels.forget_rater("bob", run_id) == 1


async def test_what_cannot_be_labelled_is_the_same_error_everywhere(lab: Lab, server: JudgeServer) -> None:
    """No case, nothing said, no metric, no run; and none of the others is kept."""
    run_id = (await lab.run(experiment(server, rows=20))).run_id
    good = CaseLabel(case=1, passed=True)
    for wrong, words in (
        (CaseLabel(case=20, passed=True), "no case 20.0"),
        (CaseLabel(case=2), "says nothing"),
        (CaseLabel(id="none", passed=True), "no row with the id 'none'"),
        (CaseLabel(case=2, passed=True, metric="rubic"), "rubic"),
        (CaseLabel(case=2, score=4, metric="rubric"), "goes from 0 to 1"),
    ):
        with pytest.raises(ConfigError, match=words):
            await lab.labels.put(run_id, [good, wrong], rater="zoe")
    assert [label async for label in lab.labels.of(run_id)] == []
    for call in (
        lab.labels.put("none", [good], rater="zoe"),
        lab.labels.remove("none", CaseKey(0, 0), rater="zoe"),
        lab.labels.queue("none"),
        lab.labels.check("none", "rubric"),
        lab.labels.corrected("none"),
        lab.labels.drift("none", run_id, "rubric"),
    ):
        with pytest.raises(RunNotFoundError):
            await call
    with pytest.raises(ConfigError, match="rubic"):
        await lab.labels.check(run_id, "rubic")


async def test_labels_check_judges_and_correct_means_and_differences(lab: Lab, server: JudgeServer) -> None:
    """Rates and disagreements, the mean beside the judge's own, the difference in Compare, and drift."""
    a, b = [(await lab.run(experiment(server, judge))).run_id for judge in ("judge-90-80", "judge-99-40")]
    assert await lab.labels.corrected(a) == {}
    for run_id in (a, b):
        await labelled(lab, run_id, range(40))
    check = await lab.labels.check(a, "rubric")
    people = sum(map(truth, range(40)))
    assert check.tpr is not None and (check.table.n, check.tpr.n, check.raters) == (40, people, 1)
    assert not check.certified and check.random and check.fingerprints
    assert check.table.missed + check.table.waved_through == len(check.disagreements)
    mean = (await lab.labels.corrected(a))["rubric"]
    assert (mean.labels, mean.caveat) == (40, None) and mean.ci_low < people / 40 < mean.ci_high
    (metric,) = (await lab.compare([a, b])).metrics
    assert metric.corrected is not None and metric.corrected.labels == 40
    assert metric.corrected.ci_low <= 0 <= metric.corrected.ci_high
    drift = await lab.labels.drift(a, b, "rubric")
    assert drift.pairs == ROWS and drift.fingerprints[0] != drift.fingerprints[1]
