"""Gates on scores of the run as a whole: with metrics, by slice, and without rows in quarantine."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from promptlab import Dataset, PromptLab, PromptTemplate, RunEvaluator
from promptlab.domain.results import Score
from promptlab.engine.own_slices import evaluated
from promptlab.errors import ConfigError
from promptlab.evaluators.classification import Classification
from promptlab.evaluators.of_runs import RunCase
from promptlab.gates.config import Gates, gates_of
from promptlab.gates.facts import facts_of
from promptlab.gates.judging import GatedMetric, GatedScore, GateInputs, judged
from promptlab.queries.comparison_json import comparison_from
from promptlab.queries.slices_json import slices_from
from promptlab.queries.verdict_words import score_why, score_words
from promptlab.results.own_slices import OwnSlices
from promptlab.sdk.run import Run
from promptlab.statistics import (
    bootstrap,
    drawn_interval,
    holm,
    paired_bootstrap,
    paired_data,
    student_two_sided,
)
from promptlab.statistics.intervals import Interval

F1 = "classification.f1_macro"
TABLE = {"metric": "classification", "column_mapping": {"reference": "truth"}}


class Different(RunEvaluator):
    """Counts different answers."""

    inputs = {"response": "$inference"}

    def evaluate(self, cases: Any) -> float:
        return float(len({case["response"] for case in cases}))


@pytest.fixture
def lab(tmp_path: Path) -> PromptLab:
    return PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})


def rows_of(wrong: set[int], count: int = 120) -> list[dict[str, str]]:
    """Rows whose text is the answer; every third is of another kind."""
    found = []
    for n in range(count):
        truth = "ab"[n // 3 % 2]
        said = {"a": "b", "b": "a"}[truth] if n in wrong else truth
        found.append({"id": f"r{n}", "text": said, "truth": truth, "kind": "xyz"[n % 3]})
    return found


def run_of(lab: PromptLab, folder: Path, wrong: set[int], *more: Any, **config: Any) -> Run:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows_of(wrong)))
    return lab.experiment.run(
        {
            "name": "sorting",
            "prompt_template": PromptTemplate(name="p", user_prompt="<text>"),
            "dataset": Dataset(name=f"rows{len(wrong)}", file_path=str(file), id_column="id"),
            "model": "simulated/echo",
            "evaluation": [TABLE, {"metric": "exact_match", "column_mapping": {"reference": "truth"}}, *more],
            **config,
        },
        quiet=True,
    )


def f1_of(rows: list[dict[str, str]]) -> float:
    cases = [RunCase({"response": row["text"], "reference": row["truth"]}, n) for n, row in enumerate(rows)]
    return float(Classification().evaluate(cases)["f1_macro"] or 0)


def test_each_slice_of_a_score_must_hold_by_itself(lab: PromptLab, tmp_path: Path) -> None:
    """What the whole hides fails in its slice; the values are those of the slice's cases alone."""
    wrong = set(range(0, 90, 3))
    base, run = run_of(lab, tmp_path, {1, 2}), run_of(lab, tmp_path, wrong)
    checks = [
        {"metric": F1, "min": 0.5, "slices": ["kind"]},
        {"metric": F1, "no_regression": 0.2, "slices": ["kind"]},
    ]
    gate = lab.experiment.gate(run, baseline=base, gates=checks)
    found = {(check.kind, check.slice): check for check in gate.checks}
    assert {slice: check.outcome for (kind, slice), check in found.items() if kind == "bound"} == {
        "kind=x": "failed",
        "kind=y": "passed",
        "kind=z": "passed",
    }
    rows = rows_of(wrong)
    for kind in "xyz":
        one = found["bound", f"kind={kind}"]
        assert one.n == 40 and one.value == pytest.approx(f1_of([row for row in rows if row["kind"] == kind]))
    regressed = found["no_regression", "kind=x"]
    assert (regressed.outcome, regressed.verdict) == ("failed", "worse")
    large = [{"metric": F1, "min": 0.5, "slices": ["kind"], "min_rows": 41}]
    assert {c.outcome for c in lab.experiment.gate(run, gates=large).checks} == {"left out"}
    for column, words in (("size", "no column 'size'"), ("text", None)):
        gates = [{"metric": F1, "min": 0.5, "slices": [column]}]
        if words:
            with pytest.raises(ConfigError, match=words):
                lab.experiment.gate(run, gates=gates)
        else:
            assert len(lab.experiment.gate(run, gates=gates).checks) == 2


def test_rows_in_quarantine_count_in_no_score_of_the_run(lab: PromptLab, tmp_path: Path) -> None:
    """Their loss fails the gate; without them it is as if they had never been there."""
    wrong = set(range(20, 60))
    base, run = run_of(lab, tmp_path, set()), run_of(lab, tmp_path, wrong)
    checks = [{"metric": F1, "no_regression": 0.1}, {"metric": F1, "min": 0.9}]
    assert lab.experiment.gate(run, baseline=base, gates=checks).outcome == "failed"
    flaky = {"quarantine": [f"r{n}" for n in wrong if n != 20], "checks": checks}
    gate = lab.experiment.gate(run, baseline=base, gates=flaky)
    left = [row for n, row in enumerate(rows_of(wrong)) if n not in wrong or n == 20]
    assert [check.outcome for check in gate.checks] == ["passed"] * 2, gate
    assert gate.checks[1].n == 81 and gate.checks[1].value == pytest.approx(f1_of(left))
    assert gate.checks[0].value == pytest.approx(f1_of(left) - 1)
    assert "quarantine" not in gate.checks[0].said
    both = {"quarantine": flaky["quarantine"], "checks": [{**checks[1], "slices": ["kind"]}]}
    assert sum(check.n or 0 for check in lab.experiment.gate(run, gates=both).checks) == 81


def test_code_of_ones_own_is_not_run_again_for_a_gate(lab: PromptLab, tmp_path: Path) -> None:
    """Nothing is run where it is to be sliced; with rows in quarantine the report says that they count."""
    own = {"metric": "different", "evaluator": Different()}
    run = run_of(lab, tmp_path, {1}, own)
    gates = {"quarantine": ["r3"], "checks": [{"metric": "different", "min": 1}]}
    (check,) = lab.experiment.gate(run, gates=gates).checks
    assert "rows in quarantine count in it: it is of code of your own" in check.said
    sliced = [{"metric": "different", "min": 1, "slices": ["kind"]}]
    (check,) = lab.experiment.gate(run, gates=sliced).checks
    assert check.outcome == "undecided" and "name the column in the experiment's `slices`" in check.said
    with pytest.raises(ConfigError, match="name the columns to slice by in the experiment's slices"):
        run_of(lab, tmp_path, {1}, own, gates=sliced)


def score_of(name: str, p: float) -> GatedScore:
    known = {"value": 0.5, "difference": -0.1, "ends": Interval(-0.19, -0.01), "compared": True}
    return GatedScore(metric=name, rows=100, p=p, **known)  # type: ignore[arg-type]


def gate_on(*names: str) -> Gates:
    return gates_of([{"metric": name, "no_regression": True} for name in names])


def test_scores_of_the_run_are_judged_together_with_metrics() -> None:
    """Two of p .03 and .04 are each worse alone and, by Holm, neither of the two together."""
    draws = random.Random(1)
    paired = paired_data([0.5] * 60, [0.5 - draws.gauss(0.033, 0.115) for _ in range(60)])
    metric = GatedMetric(metric="f1", n=60, paired=paired)
    measured = GateInputs(metrics=[metric], scores=[score_of("kappa", 0.03)])
    alone = [judged(gate_on(name), measured, {})[0] for name in ("f1", "kappa")]
    assert [one.outcome for one in alone] == ["failed"] * 2 and 0.025 < (alone[0].p or 0) < 0.05
    both = judged(gate_on("f1", "kappa"), measured, {})
    assert [one.p for one in both] == pytest.approx([2 * min(0.03, alone[0].p or 0)] * 2)
    assert [one.outcome for one in both] == ["undecided"] * 2
    many = GateInputs(scores=[score_of(f"s{n}", 0.04) for n in range(3)] + [score_of("sure", 0.001)])
    found = judged(gate_on("s0", "s1", "s2", "sure"), many, {})
    assert [one.verdict for one in found] == ["no evidence of a difference"] * 3 + ["worse"]
    single = gates_of([{"metric": f"s{n}", "non_inferior": 0.05} for n in range(3)])
    assert {one.verdict for one in judged(single, many, {})} == {"worse"}  # each by itself


@pytest.mark.long
def test_the_p_of_a_bootstrap_is_that_of_a_mean_and_agrees_with_its_interval() -> None:
    """For means of 200 normal differences, against Student's; p ≤ .05 where the interval excludes 0."""

    def mean(sums: Any) -> dict[str, float | None]:
        return {"mean": sums["x"] / sums["n"]}

    draws = random.Random(4)
    for shift in (0.0, 0.05, 0.1, 0.14, 0.17, 0.2, 0.3, 0.6):
        values = [draws.gauss(shift, 1) for _ in range(200)]
        pairs = [({"n": 1.0, "x": 0.0}, {"n": 1.0, "x": v}) for v in values]
        found = paired_bootstrap(pairs, mean)["mean"]
        m = sum(values) / 200
        stderr = (sum((v - m) ** 2 for v in values) / 199 / 200) ** 0.5
        right = student_two_sided(m / stderr, 199)
        assert found.p == pytest.approx(right, abs=0.04, rel=0.5), shift
        low, high = found.interval
        assert (found.p <= 0.05) == (low > 0 or high < 0) or abs(found.p - 0.05) < 0.005
    assert bootstrap([{"n": 1.0, "x": 5.0}] * 10, mean)["mean"].p == 1.0  # nothing varies
    far = drawn_interval(1.0, [draws.gauss(0, 0.1) for _ in range(200)], 200)
    assert far is not None and far.p < 1e-6  # beyond all draws: the tail of its error


def test_a_comparison_tells_the_p_of_each_score(lab: PromptLab, tmp_path: Path) -> None:
    base, run = run_of(lab, tmp_path, set(range(30))), run_of(lab, tmp_path, {1})
    found = {one.metric: one for one in lab.experiment.compare(base, run).run_metrics}[F1]
    assert found.verdict == "better" and found.p is not None and found.p < 0.001
    assert facts_of(run.record)["metrics"][F1]["mean"] == pytest.approx(f1_of(rows_of({1})))


def test_compare_judges_scores_of_the_run_in_the_same_family_as_a_gate(
    lab: PromptLab, tmp_path: Path
) -> None:
    """Each by itself is proven; together with all other scores and metrics fewer are, and the gate which asks
    for all of them says the same of each. A margin is a score's, too."""
    runs = [run_of(lab, tmp_path, wrong) for wrong in ({1, 2, 3, 4}, set(range(10, 120, 8)))]
    compared = lab.experiment.compare(*runs)
    metrics = {m.metric: m.judgement for m in compared.metrics if m.judgement.p is not None and not m.fact}
    scores = {m.metric: m for m in compared.run_metrics}
    assert F1 in scores and "exact_match" in metrics
    names = [*metrics, *scores]
    gates = [{"metric": name, "no_regression": True} for name in names]
    gate = {c.metric: c for c in lab.experiment.gate(runs[1], baseline=runs[0], gates=gates).checks}
    for name, score in scores.items():
        assert score.p is not None and score.p_adjusted == gate[name].p and score.p_adjusted >= score.p
        assert (score.p <= 0.05, score.verdict) == (True, gate[name].verdict)
    assert {name: one.p_adjusted for name, one in metrics.items()} == {n: gate[n].p for n in metrics}
    together = holm([*(m.p or 0 for m in metrics.values()), *(s.p or 0 for s in scores.values())])
    found = [*metrics.values(), *scores.values()]
    assert [one.p_adjusted for one in found] == pytest.approx(together)
    undecided = [s for s in scores.values() if s.verdict == "no evidence of a difference"]
    assert undecided and all((s.p_adjusted or 0) > 0.05 for s in undecided)
    wide = {m.metric: m for m in lab.experiment.compare(*runs, margin={F1: 0.5}).run_metrics}
    assert wide[F1].verdict == "the same within δ" and wide[F1].margin == 0.5
    assert score_words(wide[F1]) == "the same within 0.5" and score_why(wide[F1]).endswith("(Holm).")
    again = comparison_from(compared.to_json())
    assert [(s.metric, s.p_adjusted, s.verdict) for s in again.run_metrics] == [
        (s.metric, s.p_adjusted, s.verdict) for s in compared.run_metrics
    ]


def test_slices_show_scores_of_the_run_beside_metrics(lab: PromptLab, tmp_path: Path) -> None:
    """Each by the cases of its slice alone, and against another run, in one family with the metrics; a
    RunEvaluator of one's own has none, and a note says so."""
    own = {"metric": "different", "evaluator": Different()}
    wrong = [{0, 4}, set(range(0, 90, 3))]
    base, run = (run_of(lab, tmp_path, one, own) for one in wrong)
    found = lab.experiment.slices(base, "kind", run)
    assert [
        note for note in found.found.notes if note.startswith("different has no slices: it is code of your")
    ]
    tests = []
    for one in found:
        for place, rows in enumerate(map(rows_of, wrong)):
            value = f1_of([row for row in rows if row["kind"] == one.value])
            judged = one.differences[0][F1].judgement
            assert (judged.other_mean if place else one.means[F1].mean) == pytest.approx(value)
        mean = one.means[F1]
        assert (mean.n, mean.method) == (40, "bootstrap") and mean.ci_low is not None
        assert judged.difference == pytest.approx((judged.other_mean or 0) - (mean.mean or 0))
        tests += [d.judgement for d in one.differences[0].values()]
    adjusted = holm([one.p for one in tests if one.p is not None])
    assert [one.p_adjusted for one in tests if one.p is not None] == pytest.approx(adjusted)
    assert {one.value: one.differences[0][F1].judgement.verdict for one in found} == {
        "x": "worse",
        "y": "no evidence of a difference",
        "z": "no evidence of a difference",
    }
    gate = lab.experiment.gate(
        run, baseline=base, gates=[{"metric": F1, "no_regression": True, "slices": ["kind"]}]
    )
    by_gate = {check.slice: check.value for check in gate.checks}
    assert by_gate == {f"kind={one.value}": one.differences[0][F1].judgement.difference for one in found}
    assert slices_from(json.loads(json.dumps(found.to_json()))) == found.found
    said = str(found)
    assert F1 in said and "value" in said and "different has no slices" in said


class Right(RunEvaluator):
    """The share of right answers, which accuracy is, too."""

    inputs = {"response": "$inference", "truth": "truth"}
    resamples = 200
    value_range = (0.0, 1.0)

    def evaluate(self, cases: Any) -> float:
        if any(case["response"] == "?" for case in cases):
            raise ValueError("a question is no answer")
        return sum(case["response"] == case["truth"] for case in cases) / len(cases)


def test_an_own_metric_is_evaluated_by_slice_with_its_run(lab: PromptLab, tmp_path: Path) -> None:
    """By the columns that the experiment names in `slices`: on the cases of each alone, with an interval,
    against another run, and in gates; as the metric that counts the same by sums says. Of another column a
    note says what to do."""
    own = {"metric": "right", "evaluator": Right()}
    wrong = [{0, 3}, set(range(0, 90, 3))]
    base, run = (run_of(lab, tmp_path, one, own, slices=["kind", "id"]) for one in wrong)
    found = lab.experiment.slices(base, "kind", run)
    assert not found.found.notes and len(found) == 3
    for one in found:
        ours, theirs = one.means["right"], one.means["classification.accuracy"]
        assert (ours.n, ours.mean) == (40, theirs.mean)
        mine, same = (one.differences[0][name].judgement for name in ("right", "classification.accuracy"))
        assert mine.difference == pytest.approx(same.difference)
        assert one.value != "x" or (mine.verdict == same.verdict == "worse" and mine.p_adjusted is not None)
    (x,) = (one for one in found if one.value == "x")
    assert x.means["right"].ci_low is not None
    for one in found:  # where no draw varies, and the range is known, as the whole run's metric has it
        ends = [one.means[name] for name in ("right", "classification.accuracy")]
        assert one.value == "x" or ends[0].ci_low == pytest.approx(ends[1].ci_low or 0)
        mine, same = (one.differences[0][name].judgement for name in ("right", "classification.accuracy"))
        assert one.value == "x" or (mine.ci_low, mine.ci_high) == pytest.approx((same.ci_low, same.ci_high))
    checks = [
        {"metric": "right", "no_regression": 0.2, "slices": ["kind"]},
        {"metric": "right", "min": 0.5, "slices": ["kind"]},
    ]
    gate = lab.experiment.gate(run, baseline=base, gates=checks)
    by_slice = {(check.kind, check.slice): check for check in gate.checks}
    assert by_slice["no_regression", "kind=x"].verdict == "worse"
    assert by_slice["bound", "kind=x"].outcome == "failed" and by_slice["bound", "kind=x"].n == 40
    (note,) = lab.experiment.slices(base, "id").found.notes
    assert note == "right has no slices: it has 120 values; at most 50 are evaluated."
    (note,) = lab.experiment.slices(base, "truth").found.notes
    assert note.endswith("name the column in the experiment's `slices`.")
    assert run_of(lab, tmp_path, wrong[0], own, slices=["kind"], gates=checks[1:]).status == "completed"


def test_slices_of_an_own_metric_share_one_time_limit() -> None:
    """What is not evaluated in time says so, and so does a slice whose evaluation fails; the others stand."""
    asked = []

    async def score(data: dict[str, Any], left_s: float) -> Score:
        asked.append(left_s)
        if len(asked) == 2:
            raise ValueError("TypeError: odd")
        await asyncio.sleep(0.3 if len(asked) == 3 else 0)
        return Score(metadata={"scores": {"": {"value": float(len(asked))}}, "ends": {"": [0.0, 1.0, 0.0]}})

    cases = [(str(n), RunCase({"response": "a"}, n)) for n in range(4)]
    names = {"kind": {n: "abcd"[n] for n in range(4)}, "id": {}}
    found = asyncio.run(evaluated(score, cases, names, 0.2, lambda *_: (None, None, None)))
    kinds = found.columns["kind"]
    assert [kinds[name].values for name in "abc"] == [{"": 1.0}, {}, {"": 3.0}]
    assert kinds["b"].error == "TypeError: odd" and kinds["a"].ends == {}
    assert "all slices together took longer than timeout_s=0.2 s" in str(kinds["d"].error)
    assert OwnSlices.unpacked(found.packed()) == found
