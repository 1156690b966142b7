"""Aggregates of metrics and runs."""

from __future__ import annotations

import itertools
import random

import orjson
import pytest

from promptlab.domain.results import Failure, Score, Usage
from promptlab.domain.said import count_message
from promptlab.domain.spending import Sums
from promptlab.domain.statistics import Distribution
from promptlab.domain.summary import MAX_LABELS, MetricSummary, Summary
from promptlab.statistics import wilson, wilson_t

FAILED = Score(error=Failure("TypeError", "no number"))


def metric(*rows: list[Score], higher_is_better: bool = True) -> MetricSummary:
    summary = MetricSummary(higher_is_better=higher_is_better)
    for row in rows:
        summary.add_row(row)
    return summary


def passes(*outcomes: bool) -> MetricSummary:
    return metric(*([Score(passed=outcome)] for outcome in outcomes))


def values(*numbers: float) -> MetricSummary:
    return metric(*([Score(value=number)] for number in numbers))


def part(seed: int) -> Summary:
    """A shard of 50 cases with two metrics, as evaluating one gives it. Its numbers are sums of powers of
    two, so that adding them is exact."""
    choose = random.Random(seed)
    shard = Summary(
        cases=50,
        succeeded=48,
        failed=2,
        prompt_tokens=100 * seed,
        completion_tokens=seed,
        cost_usd=seed / 8,
        attempts=50 + seed,
    )
    shard.errors = {"timeout": 1, f"e{seed % 3}": 1}
    shard.metrics = {"exact": MetricSummary(), "length": MetricSummary(higher_is_better=False)}
    for _ in range(50):
        shard.latency_ms.add(choose.randrange(1, 4096) / 4)
        shard.metrics["exact"].add_row([Score(passed=choose.random() < 0.3, label=choose.choice("ab"))])
        shard.metrics["length"].add_row([Score(value=choose.randrange(100))])
    return shard


def summed(parts: list[Summary]) -> Summary:
    whole = Summary()
    for one in parts:
        whole.merge(one)
    return whole


def test_a_pass_fail_metric_has_wilsons_interval() -> None:
    """Its mean is the share of passes."""
    summary = passes(True, True, False, True)
    assert summary.binary and summary.mean == 0.75 and summary.n == 4
    assert summary.interval == wilson(3, 4)


def test_a_measured_metric_has_students_interval() -> None:
    """Though all its values are 0 and 1: a number is not a verdict."""
    summary = values(0, 0, 1, 1)
    assert not summary.binary
    low, high = summary.interval
    # s²/n = (1/3)/4, t(3) = 3.182446305
    half = 3.182446305 / 12**0.5
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half))
    assert summary.estimate.method == "t"


def test_one_measured_value_has_no_interval() -> None:
    """And none has no mean either."""
    nothing = {"stderr": None, "ci_low": None, "ci_high": None}
    assert values(3.0).brief() == {"n": 1, "rows": 1, "mean": 3.0, **nothing}
    assert MetricSummary().brief() == {"n": 0, "rows": 0, "mean": None, **nothing}


def test_the_trials_of_a_row_are_one_observation() -> None:
    """Their mean: asking again is not a new row. Cases are counted each."""
    summary = metric([Score(passed=True), Score(passed=False)], [Score(passed=True), Score(passed=True)])
    assert (summary.n, summary.scored, summary.mean) == (2, 4, 0.75)
    assert summary.binary and not summary.is_share
    assert summary.interval == wilson_t(0.75, 0.25, 2)


def test_failed_scores_are_counted_and_left_out() -> None:
    """A row of which one trial failed counts with the others."""
    summary = metric([FAILED, Score(value=4.0)], [FAILED], [Score(value=2.0), Score(value=4.0)])
    assert (summary.failed, summary.scored, summary.n, summary.mean) == (2, 3, 2, 3.5)


def test_a_verdict_with_a_value_between_is_measured() -> None:
    """Passed with 0.7 is no coin toss."""
    assert not metric([Score(value=0.7, passed=True)]).binary


def test_labels_are_counted_by_case() -> None:
    """A metric of labels alone has no mean; its n is of rows, as every n."""
    summary = metric([Score(label="a"), Score(label="b")], [Score(label="a")], [Score()])
    assert summary.labels == {"a": 2, "b": 1}
    assert (summary.scored, summary.n, summary.mean) == (3, 2, None)


def test_no_more_than_fifty_labels_are_kept() -> None:
    """The rest is counted together, and nothing is lost in merging."""
    many = [metric(*([Score(label=f"{start + i}")] for i in range(40))) for start in (0, 40, 80)]
    for order in itertools.permutations(many):
        whole = MetricSummary()
        for one in order:
            whole.merge(one)
        assert sum(whole.labels.values()) == 120
        assert len(whole.labels) <= MAX_LABELS + 1
        assert whole.labels["…"] == 120 - MAX_LABELS


def test_a_shard_of_failures_leaves_a_pass_fail_metric_one() -> None:
    """It has no value that would say otherwise."""
    for first, second in itertools.permutations([passes(True, False), metric([FAILED])]):
        first = MetricSummary.from_json(first.to_json())
        first.merge(second)
        assert first.binary and first.n == 2 and first.failed == 1
        assert first.interval == wilson(1, 2)


def test_one_measured_shard_makes_the_metric_measured() -> None:
    """In either order."""
    for first, second in itertools.permutations([passes(True), values(0.5)]):
        first = MetricSummary.from_json(first.to_json())
        first.merge(second)
        assert not first.binary and first.mean == 0.75


def test_the_direction_of_a_metric_survives_merging() -> None:
    """Also into an empty one."""
    whole = MetricSummary()
    whole.merge(metric([Score(value=1.0)], higher_is_better=False))
    assert whole.higher_is_better is False


def test_a_summary_is_the_same_in_any_order_of_its_shards() -> None:
    """All counts to the last one, the moments up to rounding."""
    parts = [part(seed) for seed in range(20)]
    one, other = summed(parts), summed(random.Random(7).sample(parts, 20))
    for name in (
        "cases",
        "succeeded",
        "failed",
        "prompt_tokens",
        "completion_tokens",
        "cost_usd",
        "attempts",
        "errors",
    ):
        assert getattr(one, name) == getattr(other, name)
    assert one.cases == 1000 and one.failed == 40 and one.cost_usd == sum(range(20)) / 8
    assert sum(one.errors.values()) == 40
    for mine, theirs in [
        (one.latency_ms, other.latency_ms),
        *((one.metrics[m].values, other.metrics[m].values) for m in one.metrics),
    ]:
        assert (mine.n, mine.min, mine.max, mine.bins, mine.zeros) == (
            theirs.n,
            theirs.min,
            theirs.max,
            theirs.bins,
            theirs.zeros,
        )
        assert (mine.mean, mine.m2) == pytest.approx((theirs.mean, theirs.m2), rel=1e-12)
    assert one.metrics["exact"].labels == other.metrics["exact"].labels
    assert one.metrics["length"].higher_is_better is False


def test_the_only_shard_of_a_run_is_its_summary() -> None:
    """Not one bit changes."""
    assert summed([part(3)]) == part(3)


def test_merging_leaves_the_shard_as_it_was() -> None:
    """A shard can be merged twice, into two runs."""
    shard, before = part(1), part(1)
    summed([shard, part(2), shard])
    assert shard == before


def test_a_cost_that_is_unknown_stays_unknown() -> None:
    """In any order."""
    for order in itertools.permutations(
        [Summary(cost_usd=0.5), Summary(cost_usd=None), Summary(cost_usd=1.0)]
    ):
        assert summed(list(order)).cost_usd is None


def test_a_metric_that_only_some_shards_have_is_kept() -> None:
    """And summed over those."""
    whole = summed(
        [
            Summary(metrics={"a": passes(True)}),
            Summary(metrics={"b": passes(True)}),
            Summary(metrics={"a": passes(False)}),
        ]
    )
    assert {name: m.n for name, m in whole.metrics.items()} == {"a": 2, "b": 1}


EMPTY = {
    "n": 0,
    "total": 0.0,
    "carry": 0.0,
    "m2": 0.0,
    "min": None,
    "max": None,
    "bins": {},
    "negative": {},
    "zeros": 0,
    "m3": 0.0,
}


def test_what_nothing_was_counted_in_is_empty() -> None:
    """Every number of an aggregate begins at nothing, also one that a record lacks."""
    metric = {"higher_is_better": True, "scored": 0, "failed": 0, "values": EMPTY, "labels": {}}
    spent = {"prompt_tokens": 0, "completion_tokens": 0, "cost_usd": 0.0}
    cases = {"cases": 0, "succeeded": 0, "failed": 0, "attempts": 0, "cut": 0}
    run = {**cases, **spent, "errors": {}, "messages": {}, "latency_ms": EMPTY, "metrics": {}}
    for distribution in (Distribution(), Distribution.from_json({})):
        assert distribution.to_json() == EMPTY
    counting = {"counting": {"rows": 0}}
    assert MetricSummary().to_json() == {**metric, **counting, "binary": True, "zero_one": False}
    assert MetricSummary.from_json({}).to_json() == {**metric, "binary": False, "zero_one": False}
    for summary in (Summary(), Summary.from_json({})):
        assert summary.to_json() == run
    for sums in (Usage(), MetricSummary.from_json({"usage": {"calls": 0}}).usage):
        assert sums.to_json() == {"calls": 0, **spent}
    assert MetricSummary.from_json({"usage": {"cost_usd": 0.5}}).usage == Usage(cost_usd=0.5)
    assert Sums() == Sums(**spent, unknown_tokens=0, unknown_cost=0, unpriced=0)


@pytest.mark.parametrize(
    "summary",
    [Summary(), part(4), Summary(cost_usd=None, metrics={"m": MetricSummary()})],
    ids=["empty", "full", "no scores"],
)
def test_a_summary_survives_json(summary: Summary) -> None:
    """To the last bit, and can be merged afterwards."""
    again = Summary.from_json(orjson.loads(orjson.dumps(summary.to_json())))
    assert again == summary
    again.merge(part(5))
    summary.merge(part(5))
    assert again == summary


def test_the_most_frequent_messages_of_each_type_are_kept() -> None:
    """However many different ones there are, and however long; a summary without them is read."""
    total = Summary()
    for number in range(300):
        shard = Summary()
        count_message(shard.messages, "timeout", f"request {number} " + "x" * 1000)
        count_message(shard.messages, "timeout", "too slow", 2)
        count_message(shard.messages, f"type {number}", "x")
        total.merge(shard)
    kept = total.to_json()["messages"]
    assert next(iter(kept["timeout"].items())) == ("too slow", 600)
    assert len(kept["timeout"]) == 10 and len(kept) == 50
    assert max(map(len, kept["timeout"])) == 300
    assert Summary.from_json(total.to_json()).messages == kept
    older = {name: value for name, value in total.to_json().items() if name not in ("messages", "cut")}
    assert (Summary.from_json(older).messages, Summary.from_json(older).cut) == ({}, 0)
