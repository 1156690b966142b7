"""Gates: what a run must keep to, judged over stored runs, from every way in."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from promptlab import (
    Dataset,
    Evaluator,
    ExperimentConfig,
    Model,
    ModelError,
    ModelResponse,
    PromptLab,
    PromptTemplate,
    Score,
)
from promptlab.cli import commands
from promptlab.domain.results import RunRecord
from promptlab.errors import ConfigError, LabelNotFoundError, RunError
from promptlab.gates import gates_of
from promptlab.gates.outcome import GateOutcome
from promptlab.gates.reports import github_annotations, junit, lines, markdown
from promptlab.store_lab import StoreLab

ROOT = Path(__file__).resolve().parents[2]
SOLUTIONS = Path(__file__).resolve().parents[3] / "shared" / "data" / "gsm8k_solutions.jsonl"
needs_gsm8k = pytest.mark.skipif(not SOLUTIONS.exists(), reason="GSM8K's solutions are not on this machine")


class Marked(Model):
    """Answers with the row's outcome: 0, 1, or the type of an error."""

    def __init__(self, outcomes: Sequence[str]) -> None:
        super().__init__({"name": "custom/marked"})
        self.outcomes = outcomes

    async def ainvoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        outcome = self.outcomes[int(user_prompt.rsplit(" ", 1)[1])]
        if not outcome.isdigit():
            raise ModelError("no answer", type=outcome)
        return ModelResponse(response=outcome, cost_usd=0.001)


class Passes(Evaluator):
    def evaluate(self, data: dict[str, Any]) -> Score:
        return Score(passed=data["response"] == "1")


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[StoreLab]:
    lab = StoreLab.open({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    yield lab
    await lab.close()


def marked(outcomes: Sequence[str], **more: Any) -> dict[str, Any]:
    rows = [{"id": f"q{n}", "number": n, "kind": ("even", "odd")[n % 2]} for n in range(len(outcomes))]
    return {
        "name": "marked",
        "model": Marked(outcomes),
        "prompt_template": PromptTemplate(name="q", description="", user_prompt="Question <number>"),
        "dataset": Dataset(name="numbers", description="", rows=rows, id_column="id"),
        "evaluation": [
            {"metric": "right", "evaluator": Passes(), "column_mapping": {"response": "$inference"}}
        ],
        **more,
    }


async def run(lab: StoreLab, outcomes: Sequence[str], **more: Any) -> RunRecord:
    return await lab.run(marked(outcomes, **more))


def outcomes_of(gate: GateOutcome) -> list[tuple[str | None, str]]:
    return [(check.slice, check.outcome) for check in gate.checks]


@needs_gsm8k
async def test_gsm8k_gates_pass_fail_and_cannot_decide(lab: StoreLab) -> None:
    """A worse model fails, a better one passes, and what was not shown is not passed; with numbers to the
    last digit."""
    rows = [json.loads(line) for line in SOLUTIONS.read_text().splitlines()]
    names = ("6b_verification", "175b_finetuning", "175b_verification")
    runs = {
        name: (await run(lab, [str(int(bool(row[name]["is_correct"]))) for row in rows])).run_id
        for name in names
    }
    worse = gates_of([{"metric": "right", "no_regression": True}])
    found = await lab.gate(runs[names[1]], baseline=runs[names[0]], gates=worse)
    (check,) = found.checks
    assert (found.outcome, found.exit_code, check.verdict, check.n) == ("failed", 4, "worse", 1319)
    assert (check.low, check.high) == pytest.approx((-0.071458, -0.015052), abs=5e-7)
    assert "152 rows won, 209 lost, 958 tied" in check.said and "p 0.0027" in check.said
    # Well within this margin, and worse all the same: only better, the same and not worse pass.
    wide = gates_of([{"metric": "right", "non_inferior": 0.1}])
    assert (await lab.gate(runs[names[1]], baseline=runs[names[0]], gates=wide)).outcome == "failed"
    better = await lab.gate(runs[names[2]], baseline=runs[names[1]], gates=worse)
    assert (better.outcome, better.checks[0].verdict) == ("passed", "better")
    sliced = gates_of([{"metric": "right", "no_regression": 0.02, "slices": ["kind"]}])
    halves = await lab.gate(runs[names[1]], baseline=runs[names[0]], gates=sliced)
    assert [check.slice for check in halves.checks] == ["kind=even", "kind=odd"]
    assert sum(check.n or 0 for check in halves.checks) == 1319 and halves.outcome != "passed"
    bound = gates_of([{"metric": "right", "min": low} for low in (0.3, 0.35, 0.5)])
    share = await lab.gate(runs[names[1]], gates=bound)
    assert [check.outcome for check in share.checks] == ["passed", "undecided", "failed"]
    assert await lab.gate_of(runs[names[1]]) == share


async def test_what_cannot_be_decided_is_not_passed(lab: StoreLab) -> None:
    """Too few cases, no evidence, missing scores that matter, a run that did not come to its end."""
    base = await run(lab, ["1", "0"] * 50)
    close = await run(lab, ["1", "0"] * 44 + ["0", "1"] * 6)
    checks = gates_of([{"metric": "right", "no_regression": True}])
    found = await lab.gate(close.run_id, baseline=base.run_id, gates=checks)
    assert (found.outcome, found.exit_code) == ("undecided", 5)
    assert (
        found.checks[0].verdict == "no evidence of a difference" and "rows are needed" in found.checks[0].said
    )
    few = [await run(lab, ["1", "0"] * 5, name="few") for _ in "ab"]
    small = await lab.gate(few[0].run_id, baseline=few[1].run_id, gates=checks)
    assert (small.outcome, small.checks[0].verdict) == ("undecided", "too few cases")
    lost = await run(lab, ["connection"] * 60 + ["1", "1"] * 20)
    missing = await lab.gate(lost.run_id, baseline=base.run_id, gates=checks)
    assert (missing.outcome, missing.checks[0].verdict) == ("undecided", "depends on missing scores")
    same = await run(lab, ["1", "0"] * 500, name="same")
    again = await run(lab, ["1", "0"] * 500, name="same")
    assert (await lab.gate(again.run_id, baseline=same.run_id)).checks[0].verdict == "the same within 0.02"


async def test_rows_in_quarantine_are_looked_at_by_no_check_of_a_metric(lab: StoreLab) -> None:
    """Six flaky rows make the run worse; without them it is the same."""
    base = await run(lab, ["1"] * 200)
    flaky = await run(lab, ["0"] * 8 + ["1"] * 192)
    ids = [f"q{n}" for n in range(8)]
    checks: list[dict[str, Any]] = [
        {"metric": "right", "no_regression": 0.03},
        {"metric": "right", "min": 0.9},
    ]
    assert (await lab.gate(flaky.run_id, baseline=base.run_id, gates=gates_of(checks))).outcome == "failed"
    quiet = gates_of({"quarantine": [*ids, "unknown"], "checks": checks})
    found = await lab.gate(flaky.run_id, baseline=base.run_id, gates=quiet)
    assert (found.outcome, found.quarantined) == ("passed", tuple(ids))
    assert [check.n for check in found.checks] == [192, 192]
    assert "8 rows in quarantine" in "\n".join(lines(found))


async def test_every_slice_must_hold_by_itself(lab: StoreLab) -> None:
    """What the whole hides fails in its slice; small slices are left out only when that is said."""
    base = await run(lab, ["1", "0"] * 100)
    # Odd rows gain what even ones lose.
    moved = await run(lab, ["1", "0"] * 70 + ["0", "1"] * 30)
    every = gates_of([{"metric": "right", "no_regression": 0.05, "slices": ["kind"]}])
    found = await lab.gate(moved.run_id, baseline=base.run_id, gates=every)
    assert outcomes_of(found) == [("kind=even", "failed"), ("kind=odd", "passed")]
    large = gates_of([{"metric": "right", "no_regression": 0.05, "slices": ["kind"], "min_rows": 101}])
    left = await lab.gate(moved.run_id, baseline=base.run_id, gates=large)
    assert [check.outcome for check in left.checks] == ["left out", "left out"]
    assert left.outcome == "undecided"  # nothing was looked at
    for column, words in (("number", "more than 200 values"), ("nonsense", "no column 'nonsense'")):
        rows = base if column == "nonsense" else await run(lab, ["1"] * 250, name="many")
        wrong = gates_of([{"metric": "right", "min": 0.5, "slices": [column]}])
        with pytest.raises(ConfigError, match=words):
            await lab.gate(rows.run_id, gates=wrong)


async def test_conditions_and_bounds_of_the_run_itself(lab: StoreLab) -> None:
    """Cost, latency and counts; against the baseline by a ratio; what is unknown cannot be decided."""
    base = await run(lab, ["1"] * 40)
    other = await run(lab, ["1"] * 20)
    gates = gates_of(
        [
            {"number": "cost_usd", "max": 0.03},
            {"number": "cost_per_case_usd", "max_ratio": 1.01},
            {"number": "latency_p95_ms", "max": 60_000},
            {"number": "prompt_tokens", "max": 10},
            {"require": "right.ci_low >= 0.8 and failed == 0"},
            {"fail_if": "cases < 30", "name": "all rows"},
        ]
    )
    found = await lab.gate(other.run_id, baseline=base.run_id, gates=gates)
    assert [check.outcome for check in found.checks] == [
        *("passed", "passed", "passed", "undecided", "passed", "failed")
    ]
    assert found.checks[5].check == "all rows" and "cases is 20" in found.checks[5].said
    with pytest.raises(ConfigError, match="--baseline"):
        await lab.gate(other.run_id, gates=gates)
    with pytest.raises(ConfigError, match="its own baseline"):
        await lab.gate(other.run_id, baseline=other.run_id, gates=gates)
    with pytest.raises(LabelNotFoundError, match="no run labelled 'production'"):
        await lab.gate(other.run_id, baseline="production", gates=gates)


async def test_scores_of_the_run_as_a_whole_are_gated(lab: StoreLab) -> None:
    """By their intervals, and by the interval of their difference to the baseline's."""
    metrics = [
        *marked([])["evaluation"],
        {"metric": "classification", "column_mapping": {"reference": "truth"}},
    ]

    async def answered(wrong: int, **more: Any) -> str:
        found = marked(["1", "0"] * 100)
        rows = [{**row, "truth": "01"[n % 2 == 0]} for n, row in enumerate(found["dataset"].rows)]
        outcomes = [str(1 - int(row["truth"])) if n < wrong else row["truth"] for n, row in enumerate(rows)]
        dataset = Dataset(name="truths", description="", rows=rows, id_column="id")
        return (await run(lab, outcomes, dataset=dataset, evaluation=metrics, **more)).run_id

    base, same, worse = await answered(10), await answered(10), await answered(60)
    score = "classification.f1_macro"
    checks: list[dict[str, Any]] = [
        {"metric": score, "min": 0.85},
        {"metric": score, "no_regression": 0.05},
        {"require": f"{score}.ci_low > 0.85 and {score}.n == 200"},
        {"fail_if": f"{score} < 0.9"},
    ]
    gates = gates_of(checks)
    found = await lab.gate(same, baseline=base, gates=gates)
    assert found.passed and found.checks[1].verdict == "the same within 0.05"
    failed = await lab.gate(worse, baseline=base, gates=gates)
    assert [check.outcome for check in failed.checks] == ["failed"] * 4
    assert failed.checks[1].verdict == "worse" and (failed.checks[1].high or 0) < -0.1
    unsure = gates_of([{"metric": score, "min": 0.95}, {"metric": score, "no_regression": True}])
    undecided = await lab.gate(same, baseline=base, gates=unsure)
    assert [check.outcome for check in undecided.checks] == ["undecided"] * 2
    assert "a margin" in undecided.checks[1].said


@pytest.mark.parametrize(
    ("checks", "words"),
    [
        ([], "at least 1 item"),
        ([{}], "exactly one of require, fail_if, metric and number"),
        ([{"metric": "right"}], "a check of metric goes with max or max and min or min or no_regression or"),
        ([{"metric": "right", "min": 0.5, "no_regression": True}], "goes with"),
        ([{"metric": "right", "no_regression": False}], "a margin is a number above 0"),
        ([{"metric": "right", "non_inferior": -1}], "greater than 0"),
        ([{"metric": "right", "min": 0.6, "max": 0.5}], "min 0.6 is above max 0.5"),
        ([{"number": "cost_usd", "max": 1, "slices": ["a"]}], "slices and min_rows go with a metric"),
        ([{"metric": "wrong", "min": 0.5}], "there is no metric 'wrong'; the experiment's are right"),
        ([{"require": "wrong > 1"}], "require 'wrong > 1': there is no 'wrong'"),
        ([{"require": "right >"}], "is no comparison"),
        ({"checks": [{"number": "speed", "max": 1}]}, "'cost_usd'"),
    ],
)
def test_gates_that_are_not_well_written_are_named(checks: Any, words: str) -> None:
    """Before anything is run."""
    with pytest.raises(ConfigError) as caught:
        gates_of(checks).check_names(["right"])
    assert words in str(caught.value)


@pytest.mark.parametrize(("score", "known"), [("share", True), ("missing", True), ("shares", False)])
def test_scores_of_built_in_metrics_are_known_before_anything_is_run(score: str, known: bool) -> None:
    """By the parameters of the metric; another name is refused."""
    fields = {"metric": "json_fields", "name": "fields", "column_mapping": {"reference": "kind"}}
    table = {"metric": "classification", "params": {"positive": "a"}, "column_mapping": {"reference": "kind"}}
    gates = [{"metric": f"fields.{score}", "min": 0.5}, {"require": "classification.precision > 0"}]
    config = marked(["1"], evaluation=[fields, table], gates=gates)
    if known:
        assert ExperimentConfig.parse(config).gated_names[0][0] == "fields.share"
    else:
        with pytest.raises(ConfigError, match=r"no metric 'fields.shares'; .* fields.share, fields.missing"):
            ExperimentConfig.parse(config)


async def test_a_run_keeps_the_gates_that_it_was_started_with(lab: StoreLab) -> None:
    """Nothing is run where a slice's column is not there; the baseline may be a label that the gates name."""
    gates = {"baseline": "production", "checks": [{"metric": "right", "no_regression": 0.05}]}
    with pytest.raises(ConfigError, match="no column 'level'"):
        await run(lab, ["1"] * 20, gates=[{"metric": "right", "min": 0.5, "slices": ["level"]}])
    assert (await lab.list_runs())[0] == []
    base = await run(lab, ["1"] * 300, commit="abc1234")
    await lab.label_run(base.run_id, "production")
    found = await lab.gate((await run(lab, ["1"] * 300, gates=gates)).run_id)
    assert (found.outcome, found.baseline, found.baseline_label) == ("passed", base.run_id, "production")
    await lab.unlabel_run(base.run_id, "production")
    await lab.delete_run(found.run_id)
    assert await lab.ledger.get_record("GATE", found.run_id) is None


async def test_reports_say_everything_and_break_nothing(lab: StoreLab) -> None:
    """Names of people's own cannot end a cell, a tag or a command."""
    nasty = "a|b <i>\x1b @all\n::error::"
    gates = gates_of(
        [
            {"metric": "right", "min": 0.9, "name": nasty},
            {"metric": "right", "min": 0.55, "slices": ["kind"]},
            {"number": "cost_usd", "max": 1},
        ]
    )
    found = await lab.gate((await run(lab, ["1", "0"] * 100)).run_id, gates=gates)
    assert found == GateOutcome.from_json(json.loads(json.dumps(found.to_json())))
    tree = ET.fromstring(junit(found))
    suite = tree[0]
    assert [suite.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["4", "2", "0", "0"]
    assert [case.get("name") for case in suite][1:3] == [
        "right ≥ 0.55 [kind=even]",
        "right ≥ 0.55 [kind=odd]",
    ]
    text = markdown(found)
    assert text.startswith("### ❌ Gate failed: 2 passed, 2 failed")
    rows = [line for line in text.splitlines() if line.startswith("| ✗")]
    assert len(rows) == 2 and all(line.replace("\\|", "").count("|") == 5 for line in rows)
    assert "<i>" not in text.replace("\\<i\\>", "") and "@all" not in text
    errors = github_annotations(found, "evals/qa.yaml")
    assert len(errors) == 2 and all(line.startswith("::error file=evals/qa.yaml,title=") for line in errors)
    assert all("\n" not in line for line in errors)


EXPERIMENT = """\
name: sums
dataset: {name: sums, file_path: sums.jsonl}
prompt_template: {name: math, user_prompt: "What is <a> + <b>?"}
model: {name: simulated/calculator, accuracy: 1}
evaluation:
  - metric: exact_match
    column_mapping: {response: $inference, reference: answer}
gates:
  baseline: production
  checks:
    - metric: exact_match
      no_regression: 0.05
    - number: latency_p95_ms
      max: 60000
"""
Invoke = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an experiment of 120 sums."""
    monkeypatch.chdir(tmp_path)
    for name in ("PROMPTLAB_DB", "PROMPTLAB_ENDPOINT", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    sums = [{"a": n, "b": 7, "answer": str(n + 7)} for n in range(120)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sums))
    (tmp_path / "sums.yaml").write_text(EXPERIMENT)
    return tmp_path


@pytest.fixture
def invoke(folder: Path) -> Invoke:
    def run(*args: str, code: int = 0) -> Result:
        result = CliRunner().invoke(commands, args, prog_name="promptlab")
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return run


def test_the_command_runs_judges_and_reports(invoke: Invoke, folder: Path) -> None:
    """Exit codes 0, 4 and 5; without its baseline nothing is run; the outcome is kept with the run."""
    assert "no run labelled 'production'" in invoke("gate", "sums.yaml", code=2).stderr
    assert json.loads(invoke("runs", "--json").stdout) == []
    invoke("run", "sums.yaml", "-q")
    invoke("label", "latest", "production")
    said = invoke("gate", "sums.yaml", "-q", "--commit", "abc1234")
    assert said.stdout.startswith("Gate passed: 2 passed\nsums, run ") and "(production)" in said.stdout
    files = ("--junit", "gate.xml", "--markdown", "gate.md")
    worse = invoke("gate", "sums.yaml", "-q", "--set", "model.accuracy=0.5", *files, "--json", code=4)
    found = json.loads(worse.stdout)
    assert found["outcome"] == "failed" and found["checks"][0]["verdict"] == "worse"
    assert ET.parse(folder / "gate.xml").getroot().get("failures") == "1"
    assert "❌" in (folder / "gate.md").read_text("utf-8")
    assert json.loads(invoke("gate", "latest", "--json", code=4).stdout)["run_id"] == found["run_id"]
    (folder / "strict.yaml").write_text("- {metric: exact_match, min: 0.99}\n")
    short = invoke("gate", "sums@production", "--gates", "strict.yaml", "--annotations", "github", code=5)
    assert "Gate cannot decide: 1 undecided" in short.stdout and "::warning title=exact_match" in short.stdout
    assert "go with an EXPERIMENT.yaml" in invoke("gate", "latest", "--tag", "x", code=2).stderr
    wrong = invoke("gate", "sums.yaml", "--set", "gates=[{metric: f1, min: 1}]", code=2)
    assert "there is no metric 'f1'; the experiment's are exact_match" in wrong.stderr


def test_scripts_gate_runs_and_experiments(folder: Path) -> None:
    """`pl.experiment.gate` takes a run, an id or a configuration."""
    with PromptLab({"type": "sqlite", "db_file": str(folder / "lab.db")}) as pl:
        base = pl.experiment.run(marked(["1"] * 300), quiet=True)
        gate = pl.experiment.gate(marked(["1"] * 300), baseline=base, quiet=True)
        assert gate.passed and gate.checks[0].verdict == "the same within 0.02"
        again = pl.experiment.gate(gate.run_id, baseline=base.run_id, gates=[{"metric": "right", "max": 0.5}])
        assert again.outcome == "failed" and "✗ right ≤ 0.5" in str(again)
        assert "### ❌" in again.markdown() and "<testsuites" in again.junit()


@pytest.mark.parametrize("name", ["github", "gitlab"])
def test_the_examples_for_pipelines_do_what_they_say(name: str, invoke: Invoke, folder: Path) -> None:
    """The steps of docs/gates.md's examples, as a shell runs them: passed first, then a worse model."""
    import yaml

    text = (ROOT / "samples" / "gates" / f"{name}.yml").read_text("utf-8")
    value = yaml.safe_load(text)
    steps = (
        [step["run"] for step in value["jobs"]["gate"]["steps"] if "run" in step]
        if name == "github"
        else value["gate"]["script"]
    )
    script = "\n".join(step for step in steps if "pip install" not in step)
    script = script.replace("evals/qa.yaml", "sums.yaml").replace('--endpoint "$PROMPTLAB_ENDPOINT"', "")
    assert "promptlab gate sums.yaml" in script
    (folder / "promptlab").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m promptlab "$@"\n')
    (folder / "promptlab").chmod(0o755)
    environment = {
        "PATH": f"{folder}:/usr/bin:/bin",
        "HOME": str(folder),
        "GITHUB_ACTIONS": "true",
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "GITHUB_SHA": "a" * 40,
        "CI_COMMIT_SHA": "a" * 40,
    }
    invoke("run", "sums.yaml", "-q")
    invoke("label", "latest", "production")

    def shell() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-e", "-c", script],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    good = shell()
    assert good.returncode == 0, good.stdout + good.stderr
    assert ET.parse(folder / "gate.xml").getroot().get("failures") == "0"
    (folder / "sums.yaml").write_text(EXPERIMENT.replace("accuracy: 1", "accuracy: 0.5"))
    assert shell().returncode == 4
    if name == "github":
        assert "❌" in (folder / "summary.md").read_text("utf-8")
    assert json.loads(invoke("show", "latest", "--json").stdout)["commit"] == "a" * 40


async def test_a_run_that_goes_on_is_not_judged(lab: StoreLab) -> None:
    """And one without results has nothing to judge."""
    done = await run(lab, ["1"] * 20)
    await lab.ledger.update_run(done.run_id, {"status": "cancelled", "results": None})
    with pytest.raises(RunError, match="no results yet"):
        await lab.gate(done.run_id, gates=gates_of([{"metric": "right", "min": 0.5}]))


async def test_rows_that_belong_together_are_not_independent(lab: StoreLab) -> None:
    """Twelve documents of 25 questions each: three that are lost as a whole are no 75 losses."""
    rows = [{"id": f"q{n}", "number": n, "doc": f"d{n // 25}"} for n in range(300)]
    dataset = Dataset(name="docs", description="", rows=rows, id_column="id")
    base = await run(lab, ["1"] * 300, dataset=dataset, cluster_by="doc")
    lost = await run(lab, ["0"] * 75 + ["1"] * 225, dataset=dataset, cluster_by="doc")
    checks: list[dict[str, Any]] = [{"metric": "right", "no_regression": 0.02}]
    page = await lab.compare([base.run_id, lost.run_id], limit=1)
    for more in ({}, {"quarantine": ["q299"]}):
        found = await lab.gate(lost.run_id, baseline=base.run_id, gates=gates_of({"checks": checks, **more}))
        assert found.checks[0].verdict == page.metrics[0].judgement.verdict == "no evidence of a difference"
    assert page.metrics[0].judgement.method == "CR1 bp_t"
