"""The numbers of a run that conditions and bounds are about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from promptlab.domain.results import RunRecord
from promptlab.domain.run_metrics import RunMetric
from promptlab.domain.summary import Summary
from promptlab.gates.conditions import METRIC_NUMBERS

LATENCIES = {"latency_p50_ms": 0.5, "latency_p95_ms": 0.95}


def speeds(summary: Summary | None, cases: int) -> dict[str, float | None]:
    """Read latencies in milliseconds and the cost of a case; None where nothing is known."""
    known = summary is not None and bool(summary.latency_ms.n)
    found: dict[str, float | None] = {
        name: summary.latency_ms.quantile(q) if known and summary else None for name, q in LATENCIES.items()
    }
    found["latency_mean_ms"] = summary.latency_ms.mean if known and summary else None
    usd = summary.cost_usd if summary else None
    cases = (summary.cases if summary else 0) or cases  # one that ended early paid for those that were done
    found["cost_per_case_usd"] = usd / cases if usd is not None and cases else None
    return found


def facts_of(run: RunRecord) -> dict[str, Any]:
    """Give the numbers of a run, as conditions read them: those of the run, and `metrics` with those of each
    metric and of each score of the run as a whole."""
    summary = Summary.from_json(run.summary) if run.summary else Summary()
    # Dollars that are known for a part of the cases only are no bound's business: they would pass it.
    whole = not summary.unknown_cost
    return {
        "cases": run.cases,
        "succeeded": summary.succeeded,
        "failed": summary.failed,
        "cut": summary.cut,
        "wall_s": round(run.wall_s, 3),
        "prompt_tokens": summary.prompt_tokens,
        "completion_tokens": summary.completion_tokens,
        **speeds(summary, run.cases),
        "cost_usd": summary.cost_usd if whole else None,
        **({} if whole else {"cost_per_case_usd": None}),
        "metrics": {name: metric.brief() for name, metric in summary.metrics.items()}
        | {name: score for metric in summary.run_metrics.values() for name, score in _scores(metric).items()},
    }


def _scores(metric: RunMetric) -> dict[str, dict[str, Any]]:
    """The scores of a run as a whole by the names of metrics' numbers: the score is the mean; what it has not
    is unknown."""
    return {
        name: {
            **dict.fromkeys(METRIC_NUMBERS),
            "mean": score.value,
            "stderr": score.stderr,
            "ci_low": score.low,
            "ci_high": score.high,
            "n": metric.cases,
            "rows": metric.rows,
            "lost": metric.lost,
        }
        for name, score in metric.values.items()
    }


def numbers(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a run, without those of its metrics."""
    return {name: value for name, value in facts.items() if name != "metrics"}
