"""What a few rows that were really run say of all of them: tokens, latency, dollars, time at limits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from promptlab.domain.model_config import ModelConfig
from promptlab.domain.results import RunRecord
from promptlab.domain.statistics import Distribution
from promptlab.domain.summary import Summary
from promptlab.statistics import numbers_interval

MOST_TRIED = 1_000
"""Rows that are tried at most: the interval's width falls with their root."""


@dataclass(frozen=True, slots=True)
class LikelyRange:
    """Three numbers that what comes will probably lie between and near."""

    low: float
    expected: float
    high: float

    def times(self, factor: float) -> LikelyRange:
        """All three times a number."""
        return LikelyRange(self.low * factor, self.expected * factor, self.high * factor)

    def plus(self, other: LikelyRange) -> LikelyRange:
        """The sums of both."""
        return LikelyRange(self.low + other.low, self.expected + other.expected, self.high + other.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledRun:
    """The cases of a run over a few rows. Intervals are of the mean, at 95%."""

    run_id: str
    cases: int
    failed: int
    latency_s: LikelyRange | None
    """Seconds of a call; None where none was made."""
    prompt_tokens: LikelyRange | None
    completion_tokens: LikelyRange | None
    usd: LikelyRange | None
    """Dollars of a case; None where no price is known."""
    metrics_usd: float | None
    """Dollars of the metrics' own calls, a case; None where their price is not known."""


def mean_of(values: Sequence[float]) -> LikelyRange | None:
    """The mean of a sample, with the 95% interval of a metric's numbers (Student's, Hall's where skewed), not
    below 0; None of an empty one.

    Of a single value the interval is from half of it to twice as much: one call tells no more.
    """
    found = Distribution()
    for value in values:
        found.add(value)
    if not found.n:
        return None
    if found.stderr is None:
        return LikelyRange(found.mean / 2, found.mean, 2 * found.mean)
    ends = numbers_interval(found.mean, found.stderr, found.n, found.skewness or 0.0)
    return LikelyRange(max(0.0, ends.low), found.mean, ends.high)


async def tried_of(run: RunRecord, rows: AsyncIterator[Mapping[str, Any]]) -> SampledRun:
    """Sum up a run over a few rows.

    Args:
        run: the run, ended.
        rows: its results, a row a case.
    """
    found: dict[str, list[float]] = {
        name: [] for name in ("latency_ms", "prompt_tokens", "completion_tokens", "cost_usd")
    }
    cases = failed = 0
    async for row in rows:
        cases += 1
        failed += row.get("error_type") is not None
        for name, values in found.items():
            if isinstance(value := row.get(name), int | float):
                values.append(float(value))
    usage = Summary.from_json(run.summary).metrics_usage if run.summary else None
    judged = 0.0 if usage is None or not usage.calls else usage.cost_usd
    latency = mean_of(found["latency_ms"])
    return SampledRun(
        run_id=run.run_id,
        cases=cases,
        failed=failed,
        latency_s=latency.times(0.001) if latency else None,
        prompt_tokens=mean_of(found["prompt_tokens"]),
        completion_tokens=mean_of(found["completion_tokens"]),
        usd=mean_of(found["cost_usd"]),
        metrics_usd=judged / cases if judged is not None and cases else None,
    )


def times_by_limit(
    model: ModelConfig, cases: int, latency_s: LikelyRange, tokens: LikelyRange
) -> dict[str, LikelyRange]:
    """Seconds that each limit of a model makes a run take on one machine, at least: the longest counts.

    Args:
        model: its limits.
        cases: calls of the run.
        latency_s: seconds of a call.
        tokens: tokens of a call, read and written.
    """
    found = {"max_concurrent_tasks": latency_s.times(cases / min(cases, model.max_concurrent_tasks))}
    if model.requests_per_minute:
        seconds = 60 * cases / model.requests_per_minute
        found["requests_per_minute"] = LikelyRange(seconds, seconds, seconds)
    if model.tokens_per_minute:
        found["tokens_per_minute"] = tokens.times(60 * cases / model.tokens_per_minute)
    return found


def slowest(times: Mapping[str, LikelyRange]) -> tuple[str, LikelyRange]:
    """Name the limit that counts, and the time that it makes."""
    return max(times.items(), key=lambda item: item[1].expected)
