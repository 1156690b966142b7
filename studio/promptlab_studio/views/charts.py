"""Charts of runs, laid out on the server: a metric over time, and score against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from promptlab.domain.results import RunRecord
from promptlab.domain.summary import MetricSummary
from promptlab.statistics import pareto_front
from promptlab_studio.views.digits import Digits, money
from promptlab_studio.views.figures import Plot, Tick, padded, ticks
from promptlab_studio.views.format import run_url, when

MOST = 200
"""Runs in one chart: beyond, dots hide each other and the page grows."""


@dataclass(frozen=True, slots=True)
class Dot:
    """A run in a chart."""

    x: float
    y: float
    low: float | None
    high: float | None
    """The ends of its interval, down the page."""
    url: str
    title: str
    on: bool = False
    """On the Pareto front."""


@dataclass(frozen=True, slots=True)
class Level:
    """A line across a chart: the mean of a run that others are measured against."""

    y: float
    top: float | None
    bottom: float | None
    """The ends of its interval, down the page."""
    text: str
    url: str
    title: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart, ready to be drawn."""

    title: str
    plot: Plot
    dots: Sequence[Dot]
    path: str
    """The line through the dots, or the front."""
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    x_label: str
    levels: Sequence[Level] = ()


@dataclass(frozen=True, slots=True)
class _Point:
    run: RunRecord
    metric: MetricSummary
    mean: float
    x: float


def time_chart(runs: Sequence[RunRecord], metric: str, baselines: Sequence[RunRecord] = ()) -> Chart | None:
    """A metric's mean, with its interval, over time; None below two runs that have it.

    Baselines, which are runs with labels, are lines across it.
    """
    points = sorted(_points(runs, metric, cost=False), key=lambda p: p.x)
    if len(points) < 2:
        return None
    first, last = points[0].x, points[-1].x
    measured = _points(baselines, metric, cost=False)
    plot = _plot([*points, *measured], (first, last))
    moments = {_moment(at, last - first): at for at in (first + (last - first) * i / 4 for i in range(5))}
    marks = [Tick(plot.px(at), text) for text, at in moments.items()]
    drawn = _chart(f"{metric} over time", points, plot, marks, "started", range(len(points)), set())
    return replace(drawn, levels=[_level(point, plot) for point in measured])


def _level(point: _Point, plot: Plot) -> Level:
    low, high = point.metric.interval
    digits = Digits.of([value for value in (point.mean, low, high) if value is not None])
    names = " ".join(f"@{label}" for label in point.run.labels)
    said = f"{names}, {point.run.called}, {point.run.run_id}: {digits.show(point.mean)}"
    said += f" (95% interval {digits.between(low, high)})" if low is not None else ""
    top, bottom = (None, None) if low is None or high is None else (plot.py(high), plot.py(low))
    return Level(plot.py(point.mean), top, bottom, names, run_url(point.run.run_id), said)


def cost_chart(
    runs: Sequence[RunRecord], metric: str, names: Mapping[str, str] | None = None
) -> Chart | None:
    """A metric's mean against the cost of a case, the Pareto front marked; None below two runs that have
    both. `names` are what runs are called, by id, where their experiment's name does not tell them apart."""
    points = _points(runs, metric, cost=True)
    if len(points) < 2:
        return None
    plot = _plot(points, (0.0, max(p.x for p in points)))
    higher = points[0].metric.higher_is_better
    on = pareto_front([p.x for p in points], [p.mean for p in points], higher_is_better=higher)
    front = {n for n, there in enumerate(on) if there}
    costs = [value for value in ticks(*plot.x) if value >= 0]
    marks = [Tick(plot.px(value), text) for value, text in zip(costs, _dollars(costs), strict=True)]
    order = sorted(front, key=lambda i: points[i].x)
    return _chart(f"{metric} against cost", points, plot, marks, "cost of a case", order, front, names)


def _dollars(values: Sequence[float]) -> list[str]:
    """All with as many decimals as the one that needs most."""
    decimals = max((len(f"{value:.9f}".rstrip("0").partition(".")[2]) for value in values), default=0)
    return [f"${value:,.{max(2, decimals)}f}" for value in values]


def _moment(at: float, span_s: float) -> str:
    moment = datetime.fromtimestamp(at, UTC).astimezone()
    return f"{moment:%H:%M:%S}" if span_s < 3600 else when(moment.isoformat())


def _points(runs: Sequence[RunRecord], metric: str, *, cost: bool) -> list[_Point]:
    found = []
    for run in runs[:MOST]:
        raw = run.summary and run.summary["metrics"].get(metric)
        # Of a case and not of the run: fewer rows are no merit.
        each = (
            run.summary["cost_usd"] / run.summary["cases"]
            if run.summary and run.summary["cases"] and run.summary["cost_usd"] is not None
            else None
        )
        if not raw or (cost and each is None):
            continue
        made = MetricSummary.from_json(raw)
        if made.mean is None:
            continue
        x = each if cost and each is not None else datetime.fromisoformat(run.created_at).timestamp()
        found.append(_Point(run, made, made.mean, x))
    return found


def _plot(points: Sequence[_Point], x: tuple[float, float]) -> Plot:
    ends = [end for p in points for end in (p.mean, *p.metric.interval) if end is not None]
    return Plot(padded(*x), padded(min(ends), max(ends)))


def _chart(
    title: str,
    points: Sequence[_Point],
    plot: Plot,
    marks: Sequence[Tick],
    x_label: str,
    line: Sequence[int] | range,
    front: set[int],
    names: Mapping[str, str] | None = None,
) -> Chart:
    dots = []
    digits = Digits.of([value for p in points for value in (p.mean, *p.metric.interval)])
    for i, point in enumerate(points):
        low, high = point.metric.interval
        name = (names or {}).get(point.run.run_id, point.run.called)
        said = f"{name}, {point.run.run_id}: {digits.show(point.mean)}"
        said += f" (95% interval {digits.between(low, high)})" if low is not None else ""
        cost = point.run.summary["cost_usd"] if point.run.summary else None
        said += f", {money(cost)}, {when(point.run.created_at)}" + (
            ", on the Pareto front" if i in front else ""
        )
        top, bottom = (None, None) if low is None or high is None else (plot.py(low), plot.py(high))
        dots.append(
            Dot(
                plot.px(point.x),
                plot.py(point.mean),
                top,
                bottom,
                run_url(point.run.run_id),
                said,
                i in front,
            )
        )
    path = " ".join(f"{'M' if n == 0 else 'L'}{dots[i].x} {dots[i].y}" for n, i in enumerate(line))
    return Chart(
        title, plot, dots, path, marks, [Tick(plot.py(v), digits.show(v)) for v in ticks(*plot.y)], x_label
    )
