"""The list of runs as values: filtered, sorted, cut into pages, and each run as a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from promptlab.domain.results import FINAL, Progress, RunRecord
from promptlab.domain.spending import total_tokens
from promptlab.domain.summary import MetricSummary, Summary
from promptlab_studio.views.digits import Digits, money, money_decimals
from promptlab_studio.views.figures import Interval, interval, scale_of
from promptlab_studio.views.state import Query

METRICS = 3
"""Metrics that have columns of their own."""


@dataclass(frozen=True, slots=True)
class MetricCell:
    """A metric of a run: its mean, in words its interval, and the bar."""

    text: str
    title: str
    bar: Interval | None


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as the list shows it."""

    run: RunRecord
    prompt: Mapping[str, Any] | None
    dataset: Mapping[str, Any]
    model: str
    progress: Progress | None
    """Set only for a run without a summary."""
    failed: int
    cost: str
    """In dollars, with as many decimals as the others of the page."""
    tokens: int | None
    p50_ms: float | None
    p95_ms: float | None
    duration_s: float | None
    metrics: Mapping[str, MetricCell] = field(default_factory=dict)
    more: int = 0
    """Metrics without a column."""


def matching(runs: Sequence[RunRecord], query: Query) -> list[RunRecord]:
    """The runs that the address asks for, in its order."""
    status, name, tags, text = (
        query.get("status"),
        query.get("experiment"),
        set(query.all("tag")),
        query.get("q").casefold().strip(),
    )
    found = [
        r
        for r in runs
        if (not status or r.status == status)
        and (not name or r.name == name)
        and tags <= set(r.tags)
        and (not text or text in _words(r))
    ]
    key = _sort_key(query.get("sort"))
    if key is None:
        return found[::-1] if query.get("sort") == "started" and query.get("desc") != "1" else found
    valued = [(key(r), r) for r in found]
    # A run without the value stands last, whichever way the others go.
    known = sorted(
        (pair for pair in valued if pair[0] is not None),
        key=lambda pair: pair[0],
        reverse=query.get("desc") == "1",
    )
    return [r for _, r in known] + [r for value, r in valued if value is None]


RUN_FILTERS = ("q", "status", "experiment", "tag", "archived")
"""Parameters of an address that say which runs are meant."""


def acted_on(runs: Sequence[RunRecord], query: Query) -> list[RunRecord]:
    """The runs that tagging and deleting are of: the picked ones; without any, those that match the filter;
    without either, none."""
    picked = set(query.all("run"))
    if picked:
        return [run for run in runs if run.run_id in picked]
    filtered = [name for name in RUN_FILTERS if name != "archived" and query.get(name)]
    return matching(runs, query) if filtered else []


def _words(run: RunRecord) -> str:
    spec = run.experiment
    named = [f"{a['name']}@{a['version']}" for a in (spec.get("prompt_template"), spec["dataset"]) if a]
    return " ".join([run.run_id, run.name, run.status, spec["model"]["name"], *named, *run.tags]).casefold()


def _sort_key(name: str) -> Callable[[RunRecord], Any] | None:
    def ref(run: RunRecord, kind: str) -> Any:
        asset = run.experiment.get(kind)
        return (asset["name"], asset["version"]) if asset else None

    def of_summary(pick: Callable[[Mapping[str, Any]], Any]) -> Callable[[RunRecord], Any]:
        return lambda run: pick(run.summary) if run.summary else None

    def mean(summary: Mapping[str, Any]) -> Any:
        metric = summary["metrics"].get(name.removeprefix("m:"))
        return MetricSummary.from_json(metric).mean if metric else None

    keys: dict[str, Callable[[RunRecord], Any]] = {
        "status": lambda run: run.status,
        "experiment": lambda run: run.name.casefold(),
        "prompt": lambda run: ref(run, "prompt_template"),
        "dataset": lambda run: ref(run, "dataset"),
        "model": lambda run: run.experiment["model"]["name"],
        "cases": lambda run: run.cases,
        "duration": lambda run: run.wall_s if run.status in FINAL else None,
        "cost": of_summary(lambda s: s["cost_usd"]),
        "tokens": of_summary(lambda s: total_tokens(s["prompt_tokens"], s["completion_tokens"])),
        "latency": of_summary(lambda s: Summary.from_json(s).latency_ms.quantile(0.5)),
    }
    return of_summary(mean) if name.startswith("m:") else keys.get(name)


def metric_columns(runs: Sequence[RunRecord]) -> list[str]:
    """The metrics that most of these runs have."""
    seen = Counter(name for run in runs if run.summary for name in run.summary["metrics"])
    return [name for name, _ in seen.most_common(METRICS)]


def rows_of(
    runs: Sequence[RunRecord], progress: Mapping[str, Progress], metrics: Sequence[str]
) -> list[RunRow]:
    """The runs of one page as rows; bars of one metric share a scale.

    Args:
        runs: the runs.
        progress: how far those are that have no summary, by id.
        metrics: the metrics that have columns.
    """
    summaries = {r.run_id: Summary.from_json(r.summary) for r in runs if r.summary}
    scales = {m: scale_of([s.metrics[m] for s in summaries.values() if m in s.metrics]) for m in metrics}
    digits = {m: _digits([s.metrics[m] for s in summaries.values() if m in s.metrics]) for m in metrics}
    seen = [
        summaries.get(r.run_id) or progress.get(r.run_id) or Progress(total=r.cases, cost_usd=None)
        for r in runs
    ]
    decimals = money_decimals(one.cost_usd for one in seen)
    return [
        _row(run, found, summaries.get(run.run_id), progress.get(run.run_id), scales, digits, decimals)
        for run, found in zip(runs, seen, strict=True)
    ]


def _digits(metrics: Sequence[MetricSummary]) -> Digits:
    return Digits.of([value for m in metrics for value in (m.mean, *m.interval)])


def _row(
    run: RunRecord,
    seen: Summary | Progress,
    summary: Summary | None,
    progress: Progress | None,
    scales: Mapping[str, tuple[float, float]],
    digits: Mapping[str, Digits],
    decimals: int,
) -> RunRow:
    spec = run.experiment
    return RunRow(
        run=run,
        prompt=spec.get("prompt_template"),
        dataset=spec["dataset"],
        model=spec["model"]["name"],
        progress=progress,
        failed=seen.failed,
        cost=money(seen.cost_usd, decimals),
        tokens=total_tokens(seen.prompt_tokens, seen.completion_tokens),
        p50_ms=summary.latency_ms.quantile(0.5) if summary else None,
        p95_ms=summary.latency_ms.quantile(0.95) if summary else None,
        duration_s=run.wall_s if run.status in FINAL else None,
        metrics=_cells(summary, scales, digits) if summary else {},
        more=len(summary.metrics.keys() - scales.keys()) if summary else 0,
    )


def _cells(
    summary: Summary, scales: Mapping[str, tuple[float, float]], digits: Mapping[str, Digits]
) -> dict[str, MetricCell]:
    cells = {}
    for name, scale in scales.items():
        metric = summary.metrics.get(name)
        if metric is None:
            continue
        low, high = metric.interval
        show = digits[name].show
        between = f", 95% interval {digits[name].between(low, high)}" if low is not None else ""
        text = (
            show(metric.mean)
            if metric.mean is not None
            else (f"{len(metric.labels)} labels" if metric.labels else "–")
        )
        cells[name] = MetricCell(
            text, f"{name}: {show(metric.mean)}{between}, {metric.n:,} rows", interval(metric, scale)
        )
    return cells


def seconds_between(start: str, end: str) -> float:
    """Seconds between two ISO times."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
