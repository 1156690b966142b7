"""The list of runs as values: filtered, sorted, cut into pages, and each run as a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from promptlab.domain.choice import Chosen, checked_time
from promptlab.domain.means import n_of, notes
from promptlab.domain.outline import RunOutline
from promptlab.domain.results import FINAL, Progress, RunRecord
from promptlab.domain.spending import total_tokens
from promptlab.domain.summary import MetricSummary, Summary
from promptlab.report import duration
from promptlab_studio.views.digits import Digits, money, money_decimals
from promptlab_studio.views.figures import IntervalMark, interval, scale_of
from promptlab_studio.views.format import count, milliseconds_pair, starter
from promptlab_studio.views.metric_cards import of_rows, short_of
from promptlab_studio.views.state import Condition, Query

METRICS = 3
"""Metrics that have columns of their own, unless others are chosen."""
MOST_METRICS = 100
"""Metrics that can be chosen."""
MOST_OFFERED = 300
"""Models, prompts or datasets that a filter offers."""


@dataclass(frozen=True, slots=True)
class RunColumn:
    """A column of the list that can be shown or not."""

    key: str
    text: str
    css: str
    """Its width, and how its cells stand."""
    down: bool = False
    """Whether the first click sorts it downwards."""
    title: str = ""
    usual: bool = True
    """Whether it is shown unless others are chosen."""


_PLAIN = (
    RunColumn("prompt", "Prompt", "c-ref"),
    RunColumn("dataset", "Dataset", "c-ref"),
    RunColumn("model", "Model", "c-model"),
)
_NUMBERS = (
    RunColumn("cases", "Cases", "c-xs num", True, usual=False),
    RunColumn("failed", "Failed", "c-xs num", True, usual=False),
    RunColumn("cost", "Cost", "c-money num", True),
    RunColumn("tokens", "Tokens", "c-xs num spare", True),
    RunColumn("latency", "p50 / p95", "c-m num", True, "Latency of a call: half are faster; 95% are faster"),
    RunColumn("duration", "Duration", "c-duration num spare", True),
    RunColumn("by", "Started by", "c-ref", usual=False),
    RunColumn("started", "Started", "c-when", True, "Local time; the zone is in each title"),
)


@dataclass(frozen=True, slots=True)
class MetricCell:
    """A metric of a run: its mean, in words its interval, and the bar."""

    text: str
    title: str
    bar: IntervalMark | None
    of_rows: str = ""
    """`1,198 of 1,319`, where the mean is not of all rows."""
    short: str = ""
    """The same as a mark beside the mean."""


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

    def figure(self, key: str) -> str:
        """Return what stands in one of the columns of numbers."""
        words: Mapping[str, Callable[[], str]] = {
            "cases": lambda: count(self.run.cases),
            "by": lambda: starter(self.run.started_by) or "–",
            "failed": lambda: count(self.failed),
            "cost": lambda: self.cost,
            "tokens": lambda: "unknown" if self.tokens is None else count(self.tokens),
            "latency": lambda: milliseconds_pair(self.p50_ms, self.p95_ms),
            "duration": lambda: "–" if self.duration_s is None else duration(self.duration_s),
        }
        return words[key]()


def chosen_of(query: Query) -> Chosen:
    """Read the part of the address that lists of runs have in common, in API and SDK, too.

    Raises:
        ConfigError: a day is none.
    """
    named = {name: query.get(name) or None for name in ("status", "model", "prompt", "dataset", "by")}
    since, until = _midnight("since", query.get("since")), _midnight("until", query.get("until"), days=1)
    return Chosen(**named, archived=None, since=since, until=until)


def _midnight(name: str, day: str, days: int = 0) -> str | None:
    """A day of this machine's zone as a time in UTC."""
    if not day:
        return None
    checked_time(name, day)
    begins = datetime.fromisoformat(day[:10]) + timedelta(days=days)
    return f"{begins.astimezone().astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def matching(runs: Sequence[RunRecord], query: Query) -> list[RunRecord]:
    """The runs that the address asks for, in its order.

    Raises:
        ConfigError: a day of the address is none.
    """
    chosen, name, tags, text = (
        chosen_of(query),
        query.get("experiment"),
        set(query.all("tag")),
        query.get("q").casefold().strip(),
    )
    found = [
        r
        for r in runs
        if chosen.matches(r)
        and (not name or r.name == name)
        and tags <= set(r.tags)
        and (not text or text in words_of(r))
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


RUN_FILTERS = (
    "q",
    "status",
    "experiment",
    "tag",
    "model",
    "prompt",
    "dataset",
    "by",
    "since",
    "until",
    "archived",
)
"""Parameters of an address that say which runs are meant."""


def acted_on(runs: Sequence[RunRecord], query: Query) -> list[RunRecord]:
    """The runs that tagging and deleting are of: the picked ones; without any, those that match the filter;
    without either, none."""
    picked = set(query.all("run"))
    if picked:
        return [run for run in runs if run.run_id in picked]
    filtered = [name for name in RUN_FILTERS if name != "archived" and query.get(name)]
    return matching(runs, query) if filtered else []


def words_of(run: RunRecord) -> str:
    """Return what a search of the list looks into."""
    spec = run.experiment
    named = [f"{a['name']}@{a['version']}" for a in (spec.get("prompt_template"), spec["dataset"]) if a]
    labels = [f"@{label}" for label in run.labels]
    words = [
        run.run_id,
        run.name,
        run.title,
        run.description,
        run.started_by,
        run.status,
        spec["model"]["name"],
        *named,
        *run.tags,
        *labels,
        run.commit or "",
    ]
    return " ".join(words).casefold()


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
        "experiment": lambda run: run.called.casefold(),
        "prompt": lambda run: ref(run, "prompt_template"),
        "dataset": lambda run: ref(run, "dataset"),
        "model": lambda run: run.experiment["model"]["name"],
        "cases": lambda run: run.cases,
        "by": lambda run: run.started_by or None,
        "duration": lambda run: run.wall_s if run.status in FINAL else None,
    }
    if pick := mean if name.startswith("m:") else _OF_SUMMARIES.get(name):
        return of_summary(pick)
    return keys.get(name)


_OF_SUMMARIES: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "failed": lambda s: s["failed"],
    "cost": lambda s: s["cost_usd"],
    "tokens": lambda s: total_tokens(s["prompt_tokens"], s["completion_tokens"]),
    "latency": lambda s: Summary.from_json({**s, "metrics": {}}).latency_ms.quantile(0.5),
}
"""Columns that a list is sorted by its runs' summaries for."""


def metrics_to_sort_by(query: Query) -> Sequence[str] | None:
    """The metrics that the list's order needs of each summary; None where it needs no summaries."""
    name = query.get("sort")
    return [name.removeprefix("m:")] if name.startswith("m:") else () if name in _OF_SUMMARIES else None


def metric_columns(runs: Sequence[RunOutline], most: int = METRICS) -> list[str]:
    """The metrics that most of these runs have."""
    seen = Counter(name for run in runs for name in run.metrics or ())
    return [name for name, _ in seen.most_common(most)]


def offered_columns(runs: Sequence[RunOutline]) -> list[RunColumn]:
    """Every column that these runs can have."""
    metrics = [
        RunColumn(f"m:{name}", name, "c-metric", True, f"{name}: mean with its 95% interval", at < METRICS)
        for at, name in enumerate(metric_columns(runs, MOST_METRICS))
    ]
    return [*_PLAIN, *metrics, *_NUMBERS]


def shown_columns(offered: Sequence[RunColumn], query: Query) -> list[RunColumn]:
    """The columns that the address names, or else the usual ones; who chose one sees it at every width."""
    keys = set(query.all("col"))
    chosen = [replace(c, css=c.css.replace(" spare", "")) for c in offered if c.key in keys]
    return chosen or [c for c in offered if c.usual]


@dataclass(frozen=True, slots=True)
class RunFilter:
    """A choice that narrows the list."""

    key: str
    text: str
    options: Sequence[str]


def run_filters(runs: Sequence[RunRecord]) -> list[RunFilter]:
    """The models, prompts and datasets that these runs have; of assets with several versions each version,
    too."""

    def named(kind: str) -> list[str]:
        versions: dict[str, set[int]] = {}
        for run in runs:
            if asset := run.experiment.get(kind):
                versions.setdefault(asset["name"], set()).add(asset["version"])
        found: list[str] = []
        for name in sorted(versions, key=str.casefold):
            several = sorted(versions[name], reverse=True) if len(versions[name]) > 1 else ()
            found += [name, *(f"{name}@{version}" for version in several)]
        return found[:MOST_OFFERED]

    models = sorted({run.experiment["model"]["name"] for run in runs}, key=str.casefold)
    people = sorted({run.started_by for run in runs if run.started_by}, key=str.casefold)[:MOST_OFFERED]
    return [
        RunFilter("model", "Model", models[:MOST_OFFERED]),
        RunFilter("prompt", "Prompt", named("prompt_template")),
        RunFilter("dataset", "Dataset", named("dataset")),
        *([RunFilter("by", "Started by", people)] if len(people) > 1 else ()),
    ]


def run_conditions(query: Query) -> list[Condition]:
    """The choices of the filter menu that are in the address, in words."""
    words = {
        "model": "model",
        "prompt": "prompt",
        "dataset": "dataset",
        "by": "by",
        "since": "from",
        "until": "to",
    }
    return [
        Condition(f"{text} {query.get(name)}", query.url(**{name: None}))
        for name, text in words.items()
        if query.get(name)
    ]


def rows_of(
    runs: Sequence[RunRecord], progress: Mapping[str, Progress], metrics: Sequence[str]
) -> list[RunRow]:
    """The runs of one page as rows; bars of one metric share a scale.

    Args:
        runs: the runs.
        progress: how far those are that have no summary, by id.
        metrics: the metrics that have columns.
    """
    summaries = {r.run_id: _summary(r.summary, metrics) for r in runs if r.summary}
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


def _summary(found: Mapping[str, Any], metrics: Sequence[str]) -> Summary:
    """A summary with the metrics that have columns alone: reading 12 of each took most of a page's time."""
    shown = {name: found["metrics"][name] for name in metrics if name in found["metrics"]}
    return Summary.from_json({**found, "metrics": shown})


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
        said = "; ".join([f"{n_of(metric)} rows", *notes(metric, show, trials=False)])
        cells[name] = MetricCell(
            text,
            f"{name}: {show(metric.mean)}{between}, {said}",
            interval(metric, scale),
            n_of(metric) if metric.rows is not None and metric.rows > metric.n else of_rows(metric),
            short_of(metric),
        )
    return cells


def seconds_between(start: str, end: str) -> float:
    """Seconds between two ISO times."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
