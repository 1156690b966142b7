"""Verdicts of stored runs: real models on real questions, and runs with scores missing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from promptlab import Dataset, Evaluator, Model, ModelError, ModelResponse, PromptTemplate, Score
from promptlab.domain.results import RunRecord
from promptlab.errors import ConfigError
from promptlab.queries.compare import Compared, MetricComparison
from promptlab.queries.compared import margin_texts, margins_of
from promptlab.queries.comparison_json import comparison_from, comparison_json
from promptlab.queries.verdict_words import missing_words, verdict_words, why
from promptlab.sdk.compare import Comparison
from promptlab.statistics import Judgement, judge, paired_data
from promptlab.store_lab import StoreLab

SOLUTIONS = Path(__file__).resolve().parents[3] / "shared" / "data" / "gsm8k_solutions.jsonl"


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[StoreLab]:
    lab = StoreLab.open({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    yield lab
    await lab.close()


class Marked(Model):
    """Answers with the row's outcome, a text of 0, 1, a number, or the type of an error."""

    def __init__(self, outcomes: Sequence[str]) -> None:
        super().__init__({"name": "custom/marked"})
        self.outcomes = outcomes

    async def ainvoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        outcome = self.outcomes[int(user_prompt.rsplit(" ", 1)[1]) % len(self.outcomes)]
        if outcome.isalpha() or "_" in outcome:
            raise ModelError("no answer", type=outcome)
        return ModelResponse(response=outcome)


class Passes(Evaluator):
    def evaluate(self, data: dict[str, Any]) -> Score:
        if data["response"] == "-1":
            raise ValueError("cannot judge it")
        return Score(passed=data["response"] == "1")


class Number(Evaluator):
    def evaluate(self, data: dict[str, Any]) -> float:
        return float(data["response"])


async def run(
    lab: StoreLab, outcomes: Sequence[str], evaluator: Evaluator | None = None, **more: Any
) -> RunRecord:
    metric: dict[str, Any] = {"metric": "right", "evaluator": evaluator or Passes()}
    for name in ("missing",):
        if name in more:
            metric[name] = more.pop(name)
    started = await lab.run(
        {
            "name": "marked",
            "model": Marked(outcomes),
            "prompt_template": PromptTemplate(name="q", description="", user_prompt="Question <number>"),
            "dataset": Dataset(
                name="numbers", description="", rows=[{"number": n} for n in range(len(outcomes))]
            ),
            "evaluation": [{**metric, "column_mapping": {"response": "$inference"}}],
            **more,
        }
    )
    return await lab.get_run(started.run_id)


async def compared(lab: StoreLab, base: RunRecord, other: RunRecord, **margins: float) -> MetricComparison:
    page = await lab.compare([base.run_id, other.run_id], Compared(margins=margins), limit=1)
    return page.metrics[0]


def judged(base: Sequence[float | None], other: Sequence[float | None], **more: Any) -> Judgement:
    return judge([paired_data(base, other, **more)])[0]


@pytest.mark.skipif(not SOLUTIONS.exists(), reason="the solutions of GSM8K are not on this machine")
async def test_gsm8k_says_worse_everywhere(lab: StoreLab) -> None:
    """6b_verification → 175b_finetuning, by the authors' own marks."""
    rows = [json.loads(line) for line in SOLUTIONS.read_text().splitlines()]
    marks = [
        [str(int(bool(row[name]["is_correct"]))) for row in rows]
        for name in ("6b_verification", "175b_finetuning")
    ]
    base, other = [await run(lab, one) for one in marks]
    ids = [base.run_id, other.run_id]
    page = await lab.compare(ids, limit=1)
    (m,) = page.metrics
    found = m.judgement
    assert (found.n, found.wins, found.losses, found.ties) == (1319, 152, 209, 958)
    assert found.difference == pytest.approx(-0.0432, abs=5e-5)
    assert (found.ci_low, found.ci_high) == pytest.approx((-0.071458, -0.015052), abs=5e-7)
    assert (found.p_exact, found.p) == pytest.approx((0.0031506568803606, 0.0026873913284714), rel=1e-12)
    assert (found.verdict, found.method, m.improved, m.regressed) == ("worse", "tango", 152, 209)
    said = str(Comparison(ids, page))
    assert "worse" in said and "p .0027: 152 rows won, 209 lost, 958 tied." in " ".join(said.split())


async def test_refusals_count_as_failures_and_broken_connections_do_not(lab: StoreLab) -> None:
    """By default, of pass/fail: a refusal is the model's doing; what is lost bounds the difference."""
    base = ["1", "0", "1", "0", "1"] * 20
    other = ["1", "content_filter", "content_filter", "0", "connection"] * 20
    m = await compared(lab, await run(lab, base), await run(lab, other))
    filled = [{"content_filter": 0.0, "connection": None}.get(o, None if o.isalpha() else 0.0) for o in other]
    filled = [float(o) if o.isdigit() else f for o, f in zip(other, filled, strict=True)]
    wanted = judged([float(b) for b in base], filled)
    assert m.judgement == wanted
    assert (m.judgement.n, m.judgement.missing_other, m.judgement.losses) == (80, 20, 20)
    assert (m.judgement.worst_low, m.judgement.worst_high) == pytest.approx((-0.4, -0.2))
    assert m.judgement.verdict == "worse"
    assert missing_words(m) == "0 rows of the base and 20 of the other run without a score"


@pytest.mark.parametrize(
    ("missing", "n", "verdict", "ends"),
    [
        ("fail", 100, "worse", None),
        ("bound", 60, "depends on missing scores", (-0.4, 0.0)),
        ("exclude", 60, "the same within δ", None),
    ],
)
async def test_missing_is_what_a_metric_says(
    lab: StoreLab, missing: str, n: int, verdict: str, ends: tuple[float, float] | None
) -> None:
    """Refusals of two in five rows: as failures, as a range, or not at all."""
    base, other = ["1", "1", "1", "0", "1"] * 20, ["1", "content_filter", "refusal", "0", "1"] * 20
    runs = [await run(lab, one, missing=missing) for one in (base, other)]
    found = (await compared(lab, *runs, right=0.1)).judgement
    assert (found.n, found.verdict) == (n, verdict)
    assert (found.worst_low, found.worst_high) == ((None, None) if ends is None else pytest.approx(ends))


async def test_a_metric_of_other_code_or_other_rows_is_not_comparable(lab: StoreLab) -> None:
    """The same name over another class, or with another `when`: numbers, no verdict, and the reason."""
    base = await run(lab, ["1", "0"] * 20)
    number = await compared(lab, base, await run(lab, ["1", "0"] * 20, Number()))
    assert number.not_comparable == "it is Passes in one run and Number in the other"
    assert verdict_words(number) == "not comparable" and number.judgement.verdict is None
    mapping = {"column_mapping": {"response": "$inference"}, "when": {"column": "number", "is_not": 3}}
    some = await run(lab, ["1", "0"] * 20, evaluation=[{"metric": "right", "evaluator": Passes(), **mapping}])
    found = await compared(lab, base, some)
    assert found.not_comparable == "it applies to other rows in one run than in the other"


async def test_scores_that_failed_are_missing(lab: StoreLab) -> None:
    """An evaluator that raises says nothing of the model."""
    runs = [await run(lab, ["1", "0"] * 20), await run(lab, ["1", "0", "1", "-1"] * 10)]
    found = (await compared(lab, *runs)).judgement
    assert (found.n, found.missing_base, found.missing_other) == (30, 0, 10)


async def test_runs_of_other_numbers_of_trials_are_compared_by_their_own_means(lab: StoreLab) -> None:
    """No trial is left out, and a row is one observation."""
    runs = [await run(lab, ["1", "0"] * 10, trials=3), await run(lab, ["1", "1"] * 10)]
    found = (await compared(lab, *runs)).judgement
    assert (found.n, found.method, found.base_mean, found.other_mean) == (20, "bp_t", 0.5, 1)


async def test_metrics_that_are_not_the_same_have_no_verdict(lab: StoreLab) -> None:
    """With the reason; their numbers are shown."""
    runs = [await run(lab, ["1", "0"] * 20), await run(lab, ["1", "1"] * 20, missing="exclude")]
    m = await compared(lab, *runs)
    assert m.not_comparable == "missing is the default in one run and exclude in the other"
    assert (m.judgement.verdict, m.judgement.p_adjusted, verdict_words(m)) == (None, None, "not comparable")
    assert "not of the same metric" in why(m) and m.difference == 0.5


async def test_numbers_without_a_range_are_judged_by_t(lab: StoreLab) -> None:
    """And need a margin for *the same*."""
    base = [str(3 + n % 4) for n in range(40)]
    runs = [await run(lab, one, Number()) for one in (base, base[1:] + base[:1])]
    m = await compared(lab, *runs)
    assert (m.judgement.method, m.judgement.verdict) == ("t", "no evidence of a difference")
    assert "So many rows show" in why(m)
    assert why(await compared(lab, runs[0], runs[0])) == "p 1. No row differs."
    same = await compared(lab, *runs, right=1.0)
    assert verdict_words(same) == "the same within 1"


async def test_a_comparison_survives_json(lab: StoreLab) -> None:
    """What a remote lab reads is what was written; an older Studio's has no verdict."""
    runs = [await run(lab, ["1", "0"] * 20), await run(lab, ["1", "1"] * 20)]
    ids = [one.run_id for one in runs]
    page = await lab.compare(ids)
    written = comparison_json(ids, page)
    names = set(written["others"][0]["metrics"]["right"])
    assert names >= {
        "n",
        "missing_base",
        "missing_other",
        "base_mean",
        "other_mean",
        "difference",
        "stderr",
        "ci_low",
        "ci_high",
        "method",
        "p",
        "p_exact",
        "p_adjusted",
        "wins",
        "losses",
        "ties",
        "verdict",
        "minimum_detectable",
        "rows_needed",
    }
    assert comparison_from(json.loads(json.dumps(written))).metrics == page.metrics
    for name in names - {"n", "higher_is_better", "wins", "losses", "ties", "different"}:
        del written["others"][0]["metrics"]["right"][name]
    (old,) = comparison_from(written).metrics
    assert (old.n, old.improved, verdict_words(old)) == (40, 20, "")


def test_margins_are_numbers_above_zero() -> None:
    """One for all, by name, or as text; written as they are read."""
    assert margins_of(None) == {} and margins_of(0.05) == {"": 0.05}
    assert margins_of(["0.05", "length=20", "a=b=1"]) == {"": 0.05, "length": 20, "a=b": 1}
    assert margins_of(margin_texts({"": 0.05, "length": 20})) == {"": 0.05, "length": 20}
    for wrong in (0, ["length=-1"], ["x"], {"right": float("nan")}):
        with pytest.raises(ConfigError, match="must be a number above 0"):
            margins_of(wrong)  # type: ignore[arg-type]
