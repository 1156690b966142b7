"""What a run says of its means: of how many rows, with which interval, and what missing scores could do."""

from __future__ import annotations

import itertools
import json
import random
import statistics as exact
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from scipy import stats

from promptlab import Dataset, Evaluator, Model, ModelError, ModelResponse, PromptTemplate, Score
from promptlab.domain.counting import RowCounts
from promptlab.domain.experiment import Metric
from promptlab.domain.means import median_of, notes, skewed
from promptlab.domain.results import RunRecord
from promptlab.domain.statistics import Distribution
from promptlab.domain.summary import MetricSummary, Summary
from promptlab.gates.conditions import parse_condition
from promptlab.queries.compare import Compared
from promptlab.report import brief, number, table
from promptlab.sdk.rendered import rendered
from promptlab.statistics import (
    hall_t,
    median_interval,
    pass_at_k,
    pass_hat_k,
    student_interval,
    wilson,
    wilson_t,
)
from promptlab.store_lab import StoreLab


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[StoreLab]:
    lab = StoreLab.open({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    yield lab
    await lab.close()


class Marked(Model):
    """Answers each row with a text, or fails with the type of an error (`!refusal`)."""

    def __init__(self, outcomes: Sequence[str]) -> None:
        super().__init__({"name": "custom/marked", "max_concurrent_tasks": 100})
        self.outcomes = outcomes

    async def ainvoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        outcome = self.outcomes[int(user_prompt.rsplit(" ", 1)[1])]
        if outcome.startswith("!"):
            raise ModelError("no answer", type=outcome[1:])
        return ModelResponse(response=outcome)


class Right(Evaluator):
    def evaluate(self, data: dict[str, Any]) -> Score:
        return Score(passed=data["response"].startswith("1"))


class Fragile(Right):
    def evaluate(self, data: dict[str, Any]) -> Score:
        if data["response"].endswith("x"):
            raise ValueError("cannot judge it")
        return super().evaluate(data)


async def run(lab: StoreLab, outcomes: Sequence[str], **missing: str) -> RunRecord:
    mapping = {"column_mapping": {"response": "$inference"}, **missing}
    started = await lab.run(
        {
            "name": "marked",
            "model": Marked(outcomes),
            "prompt_template": PromptTemplate(name="q", description="", user_prompt="Question <number>"),
            "dataset": Dataset(
                name="numbers", description="", rows=[{"number": n} for n in range(len(outcomes))]
            ),
            "evaluation": [
                {"metric": "right", "evaluator": Right(), **mapping},
                {"metric": "fragile", "evaluator": Fragile(), **mapping},
            ],
        }
    )
    return await lab.get_run(started.run_id)


def survivors() -> tuple[list[str], list[str]]:
    """1,319 rows: 742 right and 217 refused in one run, 458 right in the other, 28 of these among the
    refused; an evaluator that raises on 121 of the answers."""
    other = ["1"] * 742 + ["!content_filter"] * 217 + ["0"] * 360
    base = ["1"] * 379 + ["0"] * 363 + ["1"] * 28 + ["0"] * 189 + ["1"] * 51 + ["0"] * 309
    for place in range(0, 121):
        row = place * 6  # answers that are right
        other[row] += "x"
    return base, other


async def test_the_mean_of_a_run_that_refuses_is_not_that_of_its_survivors(lab: StoreLab) -> None:
    """742 of 1,319 right and 217 refused are .5625 of 1,319, and not .6733 of 1,102; what an evaluator lost
    is in no mean, and in the worst case."""
    _, other = survivors()
    record = await run(lab, other)
    facts = brief(record)["metrics"]
    right, fragile = facts["right"], facts["fragile"]
    assert (right["n"], right["rows"], right["mean"]) == (1319, 1319, 742 / 1319)
    assert (right["ci_low"], right["ci_high"]) == wilson(742, 1319)
    assert (right["missing"], right["failures"], right["lost"]) == ("fail", 217, 0)
    assert "worst_low" not in right
    assert (fragile["n"], fragile["rows"], fragile["missing_rows"]) == (1198, 1319, 121)
    assert fragile["mean"] == 621 / 1198 and fragile["failed"] == fragile["lost"] == 121
    assert (fragile["worst_low"], fragile["worst_high"]) == pytest.approx((621 / 1319, 742 / 1319))
    said = " ".join(rendered(table(record)).split())
    assert "1,198 of 1,319" in said and "217 cases that the model failed count as 0" in said
    assert "121 cases without a score: over all rows the mean is from 0.4708 to 0.5625" in said


@pytest.mark.parametrize(
    ("missing", "n", "mean", "ends"),
    [
        ("fail", 1319, 742 / 1319, None),
        ("bound", 1102, 742 / 1102, (742 / 1319, 959 / 1319)),
        ("exclude", 1102, 742 / 1102, None),
    ],
)
async def test_missing_says_what_a_refusal_counts_as(
    lab: StoreLab, missing: str, n: int, mean: float, ends: tuple[float, float] | None
) -> None:
    """In the run's own mean, and in its comparison: +.2153 of all, +.2831 of survivors, up to +.3798."""
    base, other = survivors()
    one, two = await run(lab, base, missing=missing), await run(lab, other, missing=missing)
    right = brief(two)["metrics"]["right"]
    assert (right["n"], right["rows"], right["mean"], right["missing"]) == (n, 1319, mean, missing)
    found = (right.get("worst_low"), right.get("worst_high"))
    assert found == ((None, None) if ends is None else pytest.approx(ends))
    page = await lab.compare([one.run_id, two.run_id], Compared(), limit=1)
    judged = next(m for m in page.metrics if m.metric == "right").judgement
    assert (judged.n, judged.missing_other) == (n, 1319 - n)
    assert judged.difference == pytest.approx(0.2153 if missing == "fail" else 0.2831, abs=5e-5)
    if missing != "fail":
        assert (judged.ci_low, judged.ci_high) == pytest.approx((0.251, 0.315), abs=1e-3)
    worst = (judged.worst_low, judged.worst_high)
    assert worst == (pytest.approx((0.2153, 0.3798), abs=5e-5) if missing == "bound" else (None, None))
    assert judged.base_mean == pytest.approx(458 / 1319 if missing == "fail" else 430 / 1102)


async def test_a_condition_sees_what_is_missing(lab: StoreLab) -> None:
    """A pipeline that asked for `ci_low` passed on survivors; it can ask how many there are."""
    facts = brief(await run(lab, ["1"] * 30 + ["!connection"] * 10))
    for text, met in (
        ("right.ci_low < 0.85", False),
        ("right.n < 40", True),
        ("right.missing_rows > 5", True),
        ("right.worst_low < 0.8", True),
        ("right.lost > 10", False),
    ):
        assert (parse_condition(text, ["right"]).met(facts) is not None) is met, text
    whole = brief(await run(lab, ["1"] * 40))
    for text in (
        "right.missing_rows > 0",
        "right.worst_low < 0.99",
        "right.failures > 0",
        "right.rows != 40",
    ):
        assert parse_condition(text, ["right"]).met(whole) is None, text


def counted(spec: Metric, rows: Sequence[tuple[Sequence[Score], int, int]]) -> MetricSummary:
    found = MetricSummary.of(spec)
    for scores, failures, lost in rows:
        found.add_row(scores, failures=failures, lost=lost)
    return found


def spec(metric: str = "exact_match", **more: Any) -> Metric:
    return Metric(name=metric, metric=metric, column_mapping={}, **more)


def numbers(*values: float) -> list[tuple[Sequence[Score], int, int]]:
    return [([Score(value=value)], 0, 0) for value in values]


def test_numbers_from_0_to_1_have_wilson_t() -> None:
    """Never beyond 1, and with a width where all are equal."""
    found = counted(spec("token_f1"), numbers(1, 1, 0.5, 1, 0, 1, 0.75, 1, 1, 0.25))
    assert found.interval == pytest.approx((0.444090, 0.918475), abs=5e-7)
    equal = counted(spec("token_f1"), numbers(*[0.7] * 10))
    assert equal.interval == pytest.approx((0.357216, 0.907381), abs=5e-7)
    assert equal.stderr is not None and equal.stderr > 0.1
    assert equal.estimate.method == "wilson_t"


def test_a_range_that_an_evaluator_declares_is_its_own() -> None:
    """1 to 5, all of them 5: the interval is within the range, and no wider than it."""
    found = counted(spec("judge", value_range=(1.0, 5.0)), numbers(*[5.0] * 20))
    low, high = wilson_t(1.0, 0.0, 20)
    assert found.interval == pytest.approx((1 + 4 * low, 1 + 4 * high))


def test_measures_have_students_interval_and_if_skewed_the_median_beside_it() -> None:
    """A lognormal latency of 30 rows: its interval reaches further, and the line says so."""
    choose = random.Random(3)
    values = [choose.lognormvariate(5, 1.2) for _ in range(30)]
    found = counted(spec("latency"), numbers(*values))
    mean, stderr = exact.fmean(values), exact.stdev(values) / 30**0.5
    skewness = float(stats.skew(values))
    assert found.counted.skewness == pytest.approx(skewness, rel=1e-9)
    assert found.interval == pytest.approx(hall_t(mean, stderr, 30, skewness))
    assert found.estimate.method == "hall_t"
    assert skewed(found)
    median, ends = median_of(found), median_interval(values)
    assert median is not None and ends is not None
    assert (median.median_low, median.median_high) == pytest.approx(ends, rel=0.011)
    said = found.brief()
    assert said["skewed"] and said["median"] == median.median
    assert "corrected for it; median" in " ".join(notes(found, number))
    even = counted(spec("latency"), numbers(*[100 + i / 10 for i in range(30)]))
    assert not skewed(even) and "median" not in even.brief()
    mean, stderr = even.counted.mean, even.counted.stderr or 0.0
    assert even.interval == pytest.approx(student_interval(mean, stderr, 30))
    assert even.estimate.method == "t"


@pytest.mark.parametrize("size", [1, 3, 50])
def test_the_third_moment_merges(size: int) -> None:
    """In shards of any size, by way of their JSON, as of all values at once."""
    choose = random.Random(size)
    values = [choose.expovariate(0.01) for _ in range(200)]
    total = Distribution()
    for start in range(0, 200, size):
        shard = Distribution()
        for value in values[start : start + size]:
            shard.add(value)
        total.merge(Distribution.from_json(orjson.loads(orjson.dumps(shard.to_json()))))
    assert total.skewness == pytest.approx(float(stats.skew(values)), rel=1e-9)
    old = Distribution.from_json({k: v for k, v in total.to_json().items() if k != "m3"})
    total.merge(old)
    assert total.skewness is None


def passes(*outcomes: bool | str | None) -> tuple[Sequence[Score], int, int]:
    """A row's trials: passed or not, `fail` for a refusal, None for a broken connection."""
    scores = [Score(passed=o) for o in outcomes if isinstance(o, bool)]
    return scores, outcomes.count("fail"), outcomes.count(None)


def test_the_trials_of_a_row_are_one_observation_and_have_pass_at_k() -> None:
    """Means over rows, with wilson_t's interval; unbiased in each row."""
    rows = [passes(True, True, False), passes(True, True, True), passes(False, False, False)] * 10
    found = counted(spec(), rows)
    means = [2 / 3, 1.0, 0.0] * 10
    assert (found.n, found.rows, found.mean) == (30, 30, pytest.approx(5 / 9))
    assert found.interval == pytest.approx(wilson_t(5 / 9, exact.stdev(means) / 30**0.5, 30))
    said = found.brief()["trials"]
    assert said["trials"] == 3
    for k in (1, 2, 3):
        at = [pass_at_k(c, 3, k) for c in (2, 3, 0)]
        hat = [pass_hat_k(c, 3, k) for c in (2, 3, 0)]
        assert said["pass_at"][str(k)]["mean"] == pytest.approx(exact.fmean(at))
        assert said["pass_hat"][str(k)]["mean"] == pytest.approx(exact.fmean(hat))
        values = at * 10
        ends = wilson_t(exact.fmean(values), exact.stdev(values) / 30**0.5, 30)
        assert (said["pass_at"][str(k)]["ci_low"], said["pass_at"][str(k)]["ci_high"]) == pytest.approx(ends)
    assert said["at_least"]["2"]["mean"] == pytest.approx(2 / 3)
    assert said["flake_rate"]["mean"] == pytest.approx((2 / 3) / 3)


def test_trials_that_are_partly_missing_count_as_missing_says() -> None:
    """Passes .40, failures .30, refusals .30: the mean is .40 with refusals as failures, and not .57."""
    choose = random.Random(5)
    rows = [
        passes(*choose.choices([True, False, "fail"], [0.4, 0.3, 0.3], k=5))  # type: ignore[list-item]
        for _ in range(60)
    ]
    wanted = exact.fmean(sum(s.passed is True for s in scores) / 5 for scores, _, _ in rows)
    failing = counted(spec(), rows)
    assert failing.mean == pytest.approx(wanted) and failing.n == failing.rows == 60
    bounding = counted(spec(missing="bound"), rows)
    there = [exact.fmean(float(s.passed is True) for s in scores) for scores, _, _ in rows if scores]
    assert bounding.mean == pytest.approx(exact.fmean(there)) and bounding.n == len(there)
    low, high = bounding.worst_case
    assert (low, high) == pytest.approx(
        (wanted, exact.fmean((sum(s.passed is True for s in ss) + f) / 5 for ss, f, _ in rows))
    )
    assert bounding.brief()["partial_rows"] == sum(bool(ss) and f > 0 for ss, f, _ in rows)
    assert failing.brief()["trials"]["pass_at"]["5"]["n"] == 60


def test_lower_is_better_has_the_other_worst_value() -> None:
    """A refusal counts as 1 of a rate of errors."""
    found = counted(
        spec("m", value_range=(0.0, 1.0), higher_is_better=False), [*numbers(0, 0, 0), ([], 1, 0)]
    )
    assert found.mean == 0.25 and found.n == 4
    lost = counted(spec("m", value_range=(0.0, 1.0), higher_is_better=False), [*numbers(0, 0, 1), ([], 0, 1)])
    assert lost.worst_case == (0.25, 0.5)


def test_numbers_that_only_look_bounded_are_bounded_and_not_charged() -> None:
    """An evaluator of one's own that says no range: its refusals are in no mean, and in the worst case."""
    mine: dict[str, Any] = {"code": {"qualname": "Mine"}}
    found = counted(spec("mine", **mine), [*numbers(0.5, 0.7), ([], 1, 0), ([], 1, 0)])
    assert (found.n, found.rows, found.mean) == (2, 4, pytest.approx(0.6))
    assert found.worst_case == pytest.approx((0.3, 0.8))
    beyond = counted(spec("mine", **mine), [*numbers(0.5, 7.0), ([], 2, 0)])
    assert beyond.worst_case == (None, None) and beyond.estimate.method == "t"


def test_labels_are_shares_of_rows_with_wilsons_interval() -> None:
    """n is rows for them, too; with trials a row may have parts of labels."""
    one = counted(
        spec("mine", code={"qualname": "Mine"}),
        [([Score(label=label)], 0, 0) for label in "aaabbc"] + [([], 1, 0)],
    )
    said = one.brief()
    assert (said["n"], said["rows"], said["mean"]) == (6, 7, None)
    assert said["labels"]["a"]["n"] == 3 and said["labels"]["a"]["share"] == 0.5
    assert (said["labels"]["a"]["ci_low"], said["labels"]["a"]["ci_high"]) == wilson(3, 6)
    trials = counted(
        spec("mine", code={"qualname": "Mine"}),
        [([Score(label="a"), Score(label=label)], 0, 0) for label in "aabb"],
    )
    share = trials.brief()["labels"]["a"]
    assert (share["n"], share["share"]) == (3, 0.75)
    assert (share["ci_low"], share["ci_high"]) == pytest.approx(wilson_t(0.75, (1 / 12 / 4 * 1.0) ** 0.5, 4))


def shard(seed: int) -> Summary:
    choose = random.Random(seed)
    total = Summary(cases=20)
    total.metrics["m"] = counted(
        spec(),
        [passes(*choose.choices([True, False, "fail", None], k=choose.choice([2, 3]))) for _ in range(20)],  # type: ignore[list-item]
    )
    return total


def test_a_run_is_summed_from_its_shards_in_any_order() -> None:
    """Rows, failures, the filled mean, the worst case and the trials, by way of their JSON."""
    parts = [shard(seed) for seed in range(6)]
    whole = Summary()
    for part in parts:
        whole.merge(part)
    wanted = whole.metrics["m"].brief()
    for order in itertools.islice(itertools.permutations(parts), 0, 720, 97):
        total = Summary()
        for part in order:
            total.merge(Summary.from_json(json.loads(json.dumps(part.to_json()))))
        found = total.metrics["m"].brief()
        assert found["trials"]["pass_at"]["3"] == pytest.approx(wanted["trials"]["pass_at"]["3"])
        for name, value in wanted.items():
            if name != "trials":
                assert found[name] == (value if isinstance(value, str) else pytest.approx(value)), name


def test_shards_without_a_failure_store_nothing_twice() -> None:
    """The filled values are those that are there: only a shard with failures has both."""
    whole = counted(spec(), [passes(True), passes(False)])
    assert "filled" not in whole.to_json()["counting"]
    failing = counted(spec(), [passes(True), passes("fail")])
    total = MetricSummary.from_json(whole.to_json())
    total.merge(MetricSummary.from_json(failing.to_json()))
    assert (total.n, total.mean) == (4, 0.5)


def test_a_run_of_an_older_version_shows_as_it_did() -> None:
    """Its summary does not say which rows have no value: Wilson's interval of its values, and no N."""
    old = counted(spec(), [passes(True), passes(True), passes("fail")]).to_json()
    del old["counting"]
    found = MetricSummary.from_json(old)
    low, high = wilson(2, 2)
    assert found.brief() == {
        "n": 2,
        "mean": 1.0,
        "stderr": 0.0,
        "ci_low": low,
        "ci_high": high,
        "method": "wilson",
    }
    assert notes(found, number) == []
    newer = counted(spec(), [passes(True), passes("fail")])
    found.merge(newer)
    assert found.counting is None and found.n == 3


@pytest.mark.parametrize(
    "broken",
    [
        [],
        {"rows": -1},
        {"rows": 1, "bounds": [0]},
        {"rows": 1, "bounds": [0, "1"]},
        {"rows": 1, "passes": [[2, 1, 1]]},
        {"rows": 1, "passes": ["x"]},
        {"rows": 1, "bounds": [0, 1], "lost": 1, "ends": [1, 2]},
        {"rows": 1, "shares": {"a": 3}},
    ],
)
def test_counts_that_are_none_are_one_typed_error(broken: Any) -> None:
    """Never a KeyError that turns up on a page."""
    from promptlab.errors import StoreDamagedError

    with pytest.raises(StoreDamagedError):
        Summary.from_json({"metrics": {"m": {"counting": broken}}})


def _random_rows(choose: random.Random) -> list[tuple[Sequence[Score], int, int]]:
    return [passes(*choose.choices([True, False], k=choose.choice([1, 2, 3]))) for _ in range(40)]


@pytest.mark.parametrize("made", [_random_rows], ids=["pass/fail"])
def test_an_interval_and_its_error_never_contradict(
    made: Callable[[random.Random], list[tuple[Sequence[Score], int, int]]],
) -> None:
    """One is of no width exactly where the other is 0, and the mean is within."""
    for seed in range(50):
        found = counted(spec(), made(random.Random(seed)))
        low, high = found.interval
        assert low is not None and high is not None and found.mean is not None and found.stderr is not None
        assert low <= found.mean <= high and (found.stderr > 0) == (high > low)
    for value in (True, False):
        found = counted(spec(), [passes(value)] * 20)
        low, high = found.interval
        assert low is not None and high is not None and found.stderr is not None
        assert high - low > 0.1 and found.stderr == pytest.approx((high - low) / 2 / 1.959964, rel=1e-6)


def test_counting_begins_empty() -> None:
    """And says so in JSON."""
    assert RowCounts().to_json() == {"rows": 0}
