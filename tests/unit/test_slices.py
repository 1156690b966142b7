"""Runs by the values of a column, against each slice computed by hand."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from statistics import stdev
from typing import Any

import pytest
from click.testing import CliRunner
from scipy import stats

from promptlab import Dataset, Evaluator, Model, ModelError, ModelResponse, PromptTemplate, Score
from promptlab.cli import commands
from promptlab.domain.means import notes
from promptlab.domain.results import RunRecord
from promptlab.domain.summary import Summary
from promptlab.errors import RunError, UnknownNameError
from promptlab.gates import gates_of
from promptlab.queries.slices import BINS, MOST, REST
from promptlab.queries.slices_json import slices_from, slices_json
from promptlab.queries.verdict_words import why
from promptlab.report import number
from promptlab.sdk.slices import sliced
from promptlab.statistics import (
    Clustered,
    clustered,
    clustered_bp_t,
    hall_t,
    judge,
    paired_data,
    wilson,
    wilson_t,
)
from promptlab.store_lab import StoreLab

ROWS = 240
TEXTS = ["Math", "History", "law", ""]


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[StoreLab]:
    lab = StoreLab.open({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    yield lab
    await lab.close()


class Chance(Model):
    """Answers 1 or 0 by the row's number and a seed, or refuses."""

    def __init__(self, seed: int, refuses: float = 0.0) -> None:
        super().__init__({"name": "custom/chance"})
        self.seed, self.refuses = seed, refuses

    def outcome(self, number: int) -> str:
        choose = random.Random(number * 31 + self.seed)
        if choose.random() < self.refuses:
            return "refusal"
        return str(int(choose.random() < 0.4 + 0.1 * self.seed + 0.2 * (number % 4 == 0)))

    async def ainvoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        outcome = self.outcome(int(user_prompt.rsplit(" ", 1)[1]))
        if outcome == "refusal":
            raise ModelError("no", type="refusal")
        return ModelResponse(response=outcome)


class Right(Evaluator):
    def evaluate(self, data: dict[str, Any]) -> Score:
        return Score(passed=data["response"] == "1")


def row(n: int) -> dict[str, Any]:
    kind = TEXTS[n % 4]
    return {
        "number": n,
        "kind": kind or None,
        "size": n * 0.5,
        "easy": n % 3 == 0,
        "level": n % 5,
        "topic": f"topic {n % 90}",
    }


async def run(lab: StoreLab, model: Chance, **more: Any) -> RunRecord:
    metric = {"metric": "right", "evaluator": Right(), "column_mapping": {"response": "$inference"}}
    started = await lab.run(
        {
            "name": "sliced",
            "model": model,
            "prompt_template": PromptTemplate(name="q", description="", user_prompt="Question <number>"),
            "dataset": Dataset(name="rows", description="", rows=[row(n) for n in range(ROWS)]),
            "evaluation": [metric],
            **more,
        }
    )
    return await lab.get_run(started.run_id)


CASES: list[tuple[str, Callable[[int], Any]]] = [
    ("kind", lambda n: TEXTS[n % 4] or None),
    ("easy", lambda n: str(n % 3 == 0).lower()),
    ("level", lambda n: str(n % 5)),
]


@pytest.mark.parametrize(("column", "value"), CASES, ids=[column for column, _ in CASES])
async def test_each_value_has_its_mean_its_interval_and_its_verdict(
    lab: StoreLab, column: str, value: Callable[[int], Any]
) -> None:
    """As of a run of these rows only; Holm over all slices."""
    models = Chance(0), Chance(4, refuses=0.1)
    base, other = [await run(lab, model) for model in models]
    found = await lab.slices([base.run_id, other.run_id], column, {})
    by_value: dict[Any, list[int]] = {}
    for n in range(ROWS):
        by_value.setdefault(value(n), []).append(n)
    assert {one.value for one in found.slices} == by_value.keys() and not found.binned
    data = []
    for one in found.slices:
        numbers = by_value[one.value]
        marks = [float(models[0].outcome(n)) for n in numbers]
        mean = one.means["right"]
        assert (one.rows, mean.n, mean.rows) == (len(numbers),) * 3
        assert mean.mean == pytest.approx(sum(marks) / len(marks))
        assert (mean.ci_low, mean.ci_high) == pytest.approx(wilson(sum(marks), len(marks)))
        others = [0.0 if (o := models[1].outcome(n)) == "refusal" else float(o) for n in numbers]
        data.append(paired_data(marks, others))
    for one, wanted in zip(found.slices, judge(data), strict=True):
        judged = one.differences[0]["right"].judgement
        assert (judged.n, judged.wins, judged.losses) == (wanted.n, wanted.wins, wanted.losses)
        assert judged.verdict == wanted.verdict
        assert (judged.difference, judged.p_adjusted) == pytest.approx((wanted.difference, wanted.p_adjusted))


class Size(Evaluator):
    """A number without a range: 1e9, and a little more, of which a few rows have a hundred times as much."""

    higher_is_better = False
    value_range = None

    def evaluate(self, data: dict[str, Any]) -> float:
        return size(int(data["number"]))


def size(number: int) -> float:
    return 1e9 + random.Random(number).lognormvariate(0, 1.5)


async def test_skewed_numbers_have_the_interval_of_the_runs_own_mean(lab: StoreLab) -> None:
    """Hall's where they are skewed, from a third moment that is right to many digits of 1e9 ± 1, too; a
    gate's as well."""
    metric = {"metric": "size", "evaluator": Size(), "column_mapping": {"number": "number"}}
    base = await run(lab, Chance(0), evaluation=[metric])
    found = await lab.slices([base.run_id], "easy", {})
    assert len(found.slices) == 2
    for one in found.slices:
        values = [size(n) for n in range(ROWS) if str(n % 3 == 0).lower() == one.value]
        mean, n = one.means["size"], len(values)
        wanted = hall_t(sum(values) / n, stdev(values) / n**0.5, n, float(stats.skew(values)))
        assert (mean.method, mean.n) == ("hall_t", n)
        assert mean.mean is not None and mean.ci_low is not None and mean.ci_high is not None
        assert mean.ci_low - 1e9 == pytest.approx(wanted.low - 1e9, abs=1e-5)
        assert mean.ci_high - 1e9 == pytest.approx(wanted.high - 1e9, abs=1e-5)
    bounds = gates_of([{"metric": "size", "max": 2e9, "slices": ["easy"]}])
    gated = await lab.gate(base.run_id, gates=bounds)
    by_value = {f"easy={one.value}": one.means["size"] for one in found.slices}
    assert len(gated.checks) == 2
    for check in gated.checks:
        mean = by_value[str(check.slice)]
        assert (check.low, check.high) == pytest.approx((mean.ci_low, mean.ci_high), rel=1e-14)
    summary = Summary.from_json((await lab.get_run(base.run_id)).summary or {})
    alone = await lab.gate(base.run_id, gates=gates_of([{"metric": "size", "max": 2e9}]))
    assert summary.metrics["size"].estimate.method == "hall_t"
    assert (alone.checks[0].low, alone.checks[0].high) == pytest.approx(
        summary.metrics["size"].interval, rel=1e-14
    )


async def test_many_numbers_are_bins_and_rare_texts_are_together(lab: StoreLab) -> None:
    """Bins have as many rows each; beyond the most frequent values the rest is one slice."""
    base = await run(lab, Chance(0))
    sizes = await lab.slices([base.run_id], "size", {})
    assert sizes.binned and sizes.values == ROWS
    assert [one.rows for one in sizes.slices] == [ROWS // BINS] * BINS
    assert sizes.slices[0].value == "0 to 23.5"
    topics = await lab.slices([base.run_id], "topic", {})
    assert topics.values == 90 and len(topics.slices) == MOST + 1
    assert topics.slices[-1].value == REST
    assert sum(one.rows for one in topics.slices) == ROWS


async def test_trials_of_a_row_are_one_observation(lab: StoreLab) -> None:
    """Rows count once, with the mean of their trials."""
    found = await lab.slices([(await run(lab, Chance(0), trials=2)).run_id], "kind", {})
    assert [one.means["right"].n for one in found.slices] == [ROWS // 4] * 4
    assert {one.means["right"].method for one in found.slices} == {"wilson_t"}


async def test_missing_scores_count_in_slices_as_in_the_run(lab: StoreLab) -> None:
    """Refusals are failures by default; with bound they are the worst case."""
    metric = {"metric": "right", "evaluator": Right(), "column_mapping": {"response": "$inference"}}
    model = Chance(0, refuses=0.3)
    refused = {n for n in range(ROWS) if model.outcome(n) == "refusal"}
    bound = await run(lab, model, evaluation=[{**metric, "missing": "bound"}])
    for place, one in enumerate((await lab.slices([bound.run_id], "level", {})).slices):
        numbers = [n for n in range(ROWS) if n % 5 == place]
        here = [n for n in numbers if n not in refused]
        mean = one.means["right"]
        assert (mean.n, mean.rows) == (len(here), len(numbers))
        right = sum(model.outcome(n) == "1" for n in here)
        gone = len(numbers) - len(here)
        assert (mean.worst_low, mean.worst_high) == pytest.approx(
            (right / len(numbers), (right + gone) / len(numbers))
        )
        assert mean.worst_high is not None and gone


def group(n: int) -> str:
    """A long text whose beginnings are all the same, and the letters of some, too: sizes 2 to 14."""
    return "conversation " * 6 + ("A" if n % 16 < 2 else "a" if n % 16 < 8 else str(n // 16))


async def clustered_run(lab: StoreLab, seed: int, groups: Callable[[int], str], **more: Any) -> RunRecord:
    rows = [{**row(n), "group": groups(n)} for n in range(ROWS)]
    dataset = Dataset(name=f"grouped-{groups.__name__}", description="", rows=rows)
    return await run(lab, Chance(seed, refuses=0.1), dataset=dataset, cluster_by="group", **more)


def value_of(model: Chance, n: int) -> float:
    return 0.0 if (outcome := model.outcome(n)) == "refusal" else float(outcome)


async def test_rows_that_belong_together_have_cluster_robust_intervals(lab: StoreLab) -> None:
    """In the run, in its comparison and in slices, as the formulas have them."""
    base, other = [await clustered_run(lab, seed, group) for seed in (0, 3)]
    wanted = by_cluster(range(ROWS), lambda n: value_of(Chance(0, 0.1), n))
    found = Summary.from_json(base.summary or {}).metrics["right"]
    assert found.clusters is not None and found.mean == pytest.approx(wanted.mean)
    assert found.clusters.groups == wanted.clusters and found.clusters.method == wanted.method == "CR3"
    assert found.stderr == pytest.approx(wanted.stderr)
    assert found.clusters.df == pytest.approx(wanted.df) and wanted.df < wanted.clusters - 1
    assert found.interval == pytest.approx(wilson_t(wanted.mean, wanted.stderr, wanted.df + 1))
    assert found.brief()["method"] == "CR3 wilson_t" and found.brief()["clusters"]["column"] == "group"

    (metric,) = (await lab.compare([base.run_id, other.run_id], limit=1)).metrics

    def difference(n: int) -> float:
        return value_of(Chance(3, 0.1), n) - value_of(Chance(0, 0.1), n)

    paired = by_cluster(range(ROWS), difference)
    estimate, _, p = difference_by_hand(range(ROWS), difference)
    assert metric.judgement.method == "CR3 bp_t" and estimate == pytest.approx(paired.mean)
    assert (metric.difference, metric.judgement.p) == pytest.approx((estimate, p))

    for one in (await lab.slices([base.run_id, other.run_id], "easy", {})).slices:
        numbers = [n for n in range(ROWS) if str(n % 3 == 0).lower() == one.value]
        mean = by_cluster(numbers, lambda n: value_of(Chance(0, 0.1), n))
        assert one.means["right"].stderr == pytest.approx(mean.stderr)
        assert one.means["right"].ci_low == pytest.approx(wilson_t(mean.mean, mean.stderr, mean.df + 1).low)
        judged = one.differences[0]["right"].judgement
        assert judged.stderr == pytest.approx(difference_by_hand(numbers, difference)[1])


def difference_by_hand(numbers: Sequence[int], value: Callable[[int], float]) -> tuple[float, float, float]:
    """The estimate, the error and p of a pass/fail difference over clusters."""
    paired = by_cluster(numbers, value)
    alone = stdev(map(value, numbers))
    found = clustered_bp_t(paired.mean, alone, paired.stderr, len(numbers), 1.0, df=paired.df)
    return found.estimate, found.stderr, found.p


def by_cluster(numbers: Sequence[int], value: Callable[[int], float]) -> Clustered:
    sums: dict[object, tuple[float, int]] = {}
    for n in numbers:
        total, size = sums.get(group(n), (0.0, 0))
        sums[group(n)] = total + value(n), size + 1
    return clustered(sums)


def four(n: int) -> str:
    return str(n % 4)


async def test_fewer_than_five_clusters_have_no_interval(lab: StoreLab) -> None:
    """And no verdict: the message says how many are needed."""
    base, other = [await clustered_run(lab, seed, four, trials=2) for seed in (0, 3)]
    found = Summary.from_json(base.summary or {}).metrics["right"]
    assert found.mean is not None and found.interval == (None, None) and found.stderr is None
    assert "4 clusters by group: an interval needs at least 5" in notes(found, number)
    (metric,) = (await lab.compare([base.run_id, other.run_id], limit=1)).metrics
    assert (metric.judgement.p, metric.judgement.verdict) == (None, "too few cases")
    assert why(metric) == "Rows belong together: fewer than 5 groups of them show nothing."


async def test_a_column_that_is_not_there_is_refused_before_the_first_call(lab: StoreLab) -> None:
    """Of `cluster_by` and of `slices`; the columns to look at are kept, and change no hash."""
    for field in ({"cluster_by": "knd"}, {"slices": ["kind", "knd"]}):
        with pytest.raises(UnknownNameError, match="knd"):
            await run(lab, Chance(0), **field)
    plain, named = await run(lab, Chance(0)), await run(lab, Chance(0), slices=["kind"])
    assert named.experiment["slices"] == ["kind"] and "slices" not in plain.experiment
    assert named.experiment["hash"] == plain.experiment["hash"]


async def test_what_cannot_be_sliced_is_named(lab: StoreLab) -> None:
    """An unknown column, and too many runs."""
    base = (await run(lab, Chance(0))).run_id
    with pytest.raises(UnknownNameError, match=r"Unknown dataset column 'knd'\. Did you mean 'kind'"):
        await lab.slices([base], "knd", {})
    with pytest.raises(RunError, match="1 to 4 runs, not of 5"):
        await lab.slices([base] * 5, "kind", {})


async def test_slices_survive_json_and_are_a_table(lab: StoreLab) -> None:
    """What a hosted lab gives is what a local one does."""
    ids = [(await run(lab, Chance(0))).run_id, (await run(lab, Chance(3))).run_id]
    found = await lab.slices(ids, "kind", {})
    assert slices_from(json.loads(json.dumps(slices_json(ids, found)))) == found
    said = str(await sliced(lab, ids, "kind", 0.05))
    assert "by kind: 3 different values" in said and "History" in said and "(none)" in said


async def test_the_command_line_shows_slices(lab: StoreLab, tmp_path: Path) -> None:
    """`promptlab slices RUN COLUMN OTHER`, as a table and as JSON."""
    ids = [(await run(lab, Chance(0))).run_id, (await run(lab, Chance(3))).run_id]
    await lab.close()
    store = ["--db", str(tmp_path / "lab.db")]
    table = await asyncio.to_thread(CliRunner().invoke, commands, ["slices", ids[0], "kind", ids[1], *store])
    assert table.exit_code == 0 and "Math" in table.output and "B − A" in table.output
    said = await asyncio.to_thread(CliRunner().invoke, commands, ["slices", ids[0], "kind", "--json", *store])
    assert json.loads(said.stdout)["slices"][0]["rows"] == 60
