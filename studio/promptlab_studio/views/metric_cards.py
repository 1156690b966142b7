"""A run's metrics as cards: the mean with its interval, and what the values look
like, as links that filter."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from promptlab.domain.means import label_shares, n_of, notes
from promptlab.domain.summary import MetricSummary, Summary
from promptlab.queries.query_engine import Histogram
from promptlab_studio.views.digits import Digits, figure
from promptlab_studio.views.figures import IntervalMark, bars, interval, scale_of
from promptlab_studio.views.format import count, percent
from promptlab_studio.views.state import Query, range_value

BINS = 20
MOST_LABELS = 6


@dataclass(frozen=True, slots=True)
class Choice:
    """Something that can be clicked to see only its cases."""

    text: str
    url: str
    on: bool
    title: str = ""


@dataclass(frozen=True, slots=True)
class MetricCard:
    """One metric of a run."""

    name: str
    mean: str
    between: str
    """The 95% interval in words, or nothing."""
    better: str
    n: int
    failed: int
    bar: IntervalMark | None
    histogram: Sequence[Mapping[str, Any]] = ()
    ends: tuple[str, str] = ("", "")
    """The lowest and the highest value of the histogram."""
    choices: Sequence[Choice] = ()
    """Pass and fail, or labels."""
    unscored: Choice | None = None
    unlabelled: int = 0
    """Cases whose reference is empty."""
    of_rows: str = ""
    """`1,198 of 1,319 rows, 217 failures as 0`: what the mean is of, where a case has no score."""
    short: str = ""
    """The same as a mark beside the mean: `−121`, the rows that are not in it, or `*`."""
    notes: Sequence[str] = ()
    """What a reader of the mean has to know: missing scores, trials, few rows."""


def metric_cards(
    query: Query,
    summary: Summary,
    names: Mapping[str, str],
    histograms: Mapping[str, Histogram],
    most: int,
    *,
    facts: Collection[str] = (),
    filters: bool = True,
) -> list[MetricCard]:
    """The first `most` metrics.

    Args:
        query: the page's address.
        summary: the run's summary.
        names: metric → its name in the results table.
        histograms: by the metric's name; those that are not there have none.
        most: how many.
        facts: metrics that only measure.
        filters: whether its cases can be filtered: what they are made of is there.
    """
    shown = list(summary.metrics.items())[:most]
    return [
        _card(
            query,
            name,
            metric,
            names.get(name, name),
            histograms.get(name),
            fact=name in facts,
            filters=filters,
        )
        for name, metric in shown
    ]


def with_histogram(summary: Summary, most: int) -> list[str]:
    """Those of the first `most` metrics whose cards show how their values are distributed."""
    return [name for name, metric in list(summary.metrics.items())[:most] if metric.n and not metric.binary]


def _card(
    query: Query,
    name: str,
    metric: MetricSummary,
    column: str,
    histogram: Histogram | None,
    *,
    fact: bool,
    filters: bool,
) -> MetricCard:
    low, high = metric.interval
    filled: dict[str, Any] = {}
    if filters:
        if metric.binary and metric.mean is not None:
            filled["choices"] = _verdicts(query, column, metric)
        elif histogram:
            filled |= {"histogram": histogram_links(query, histogram), "ends": ends(histogram)}
        if metric.labels:
            top = sorted(metric.labels.items(), key=lambda item: -item[1])[:MOST_LABELS]
            chosen = {"label": [v for v in query.all("label") if v.startswith(f"{column}~")]}
            labels = [
                replace(
                    _instead(query, "label", f"{column}~{label}", f"{label} {count(n)}", chosen),
                    title=_share_of(metric, label),
                )
                for label, n in top
                if label != "…"
            ]
            filled["choices"] = [*filled.get("choices", ()), *labels]
        if metric.failed:
            filled["unscored"] = _instead(
                query,
                "unscored",
                column,
                f"{count(metric.failed)} not scored",
                {"pass": [column], "fail": [column]},
            )
    sorts = metric.mean is None and bool(metric.labels)
    digits = Digits.of([metric.mean, low, high])
    return MetricCard(
        name=name,
        mean=digits.show(metric.mean)
        if metric.mean is not None
        else _most_frequent(metric)
        if sorts
        else "–",
        between=digits.between(low, high),
        better="sorts into labels"
        if sorts
        else "a fact, no verdict"
        if fact
        else "higher is better"
        if metric.higher_is_better
        else "lower is better",
        n=metric.n or metric.scored if sorts else metric.n,
        of_rows=of_rows(metric),
        short=short_of(metric),
        notes=notes(metric, digits.show),
        failed=metric.failed,
        unlabelled=metric.unlabelled,
        bar=interval(metric, scale_of([metric])),
        **filled,
    )


def of_rows(metric: MetricSummary) -> str:
    """Say how many rows a mean is of, and how many failures are in it; nothing where no score is missing."""
    parts = []
    if metric.rows is not None and metric.rows > metric.n:
        parts.append(f"{n_of(metric)} rows")
    if metric.counting is not None and metric.fills and (failures := metric.counting.failures):
        parts.append(f"{failures:,} failed as {figure(metric.counting.worst)}")
    return ", ".join(parts)


def short_of(metric: MetricSummary) -> str:
    """Mark a mean that is not of all rows, or has failures in it: `−3` or `*`; else nothing."""
    missing = (metric.rows or 0) - metric.n
    return f"−{count(missing)}" if missing > 0 else "*" if of_rows(metric) else ""


def _most_frequent(metric: MetricSummary) -> str:
    label, n = max(metric.labels.items(), key=lambda item: item[1])
    shares = label_shares(metric)
    if label in shares:
        return f"{percent(shares[label]['share'], 1)} {label}"
    return f"{percent(n, metric.scored)} {label}"


def _share_of(metric: MetricSummary, label: str) -> str:
    """Say the share of a label and its interval, of rows; nothing for runs of older versions."""
    found = label_shares(metric).get(label)
    if found is None or found["ci_low"] is None:
        return ""
    share, low, high = (percent(found[name], 1) for name in ("share", "ci_low", "ci_high"))
    return f"{label}: {share} of the rows, 95% interval {low} to {high}"


def _instead(query: Query, name: str, value: str, text: str, others: Mapping[str, Sequence[str]]) -> Choice:
    """A choice that takes the place of what was chosen of the same metric, as both at once are never there.

    Args:
        query: the page's address.
        name: the parameter.
        value: its value.
        text: what is to be read.
        others: the values of parameters that it takes the place of.
    """
    here = _cases(query)
    for other, gone in others.items():
        kept = tuple(
            pair for pair in here.pairs if pair[0] != other or pair[1] not in gone or pair == (name, value)
        )
        here = Query(here.path, kept)
    return Choice(text, here.toggled(name, value), value in query.all(name))


def _cases(query: Query) -> Query:
    """The address of the cases, whichever tab the cards are on."""
    return Query(query.path, tuple((k, v) for k, v in query.pairs if k != "tab"))


def _verdicts(query: Query, column: str, metric: MetricSummary) -> list[Choice]:
    # Over dataset rows; with trials the mean of a row counts, so these are said as shares.
    share = metric.mean or 0.0
    both = {"pass": [column], "fail": [column], "unscored": [column]}
    return [
        _instead(query, "pass", column, f"✓ pass {percent(share, 1)}", both),
        _instead(query, "fail", column, f"✕ fail {percent(1 - share, 1)}", both),
    ]


def histogram_links(query: Query, histogram: Histogram) -> list[dict[str, Any]]:
    """Bars that filter by their range; empty ones are left out, as nothing would be there."""
    found = []
    here = _cases(query)
    digits = Digits.of([end for bin_ in histogram.bins for end in (bin_.low, bin_.high)])
    for bin_, bar in zip(histogram.bins, bars([b.count for b in histogram.bins]), strict=True):
        if not bin_.count:
            continue
        value = range_value(histogram.column, bin_.low, bin_.high, closed=bin_.closed)
        chosen = value in query.all("range")
        others = [r for r in query.all("range") if not r.startswith(f"{histogram.column}~")]
        name = histogram.column.removeprefix("score.")
        title = f"{name} {digits.between(bin_.low, bin_.high)}: {bin_.count:,} cases" + (
            ", chosen" if chosen else ""
        )
        found.append(
            {
                **bar,
                "title": title,
                "on": chosen,
                "url": here.url(range=others if chosen else [*others, value]),
            }
        )
    return found


def ends(histogram: Histogram) -> tuple[str, str]:
    """The lowest and the highest value, as text."""
    if not histogram.bins:
        return "", ""
    low, high = histogram.bins[0].low, histogram.bins[-1].high
    return figure(low), figure(high)
