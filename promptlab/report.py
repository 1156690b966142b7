"""A run in words and numbers: the JSON object and the table that CLI and SDK show."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptlab.domain.results import Progress, RunRecord
from promptlab.domain.summary import Summary

if TYPE_CHECKING:
    from rich.console import Group


def brief(run: RunRecord, progress: Progress | None = None, partial: Summary | None = None) -> dict[str, Any]:
    """The run as one JSON object; for a run without a summary the counts are those of `progress` and the metrics those of `partial`.

    Keys: run_id, status, cases, succeeded, failed, wall_s, prompt_tokens, completion_tokens,
    cost_usd, metrics: {name: {n, mean, stderr, ci_low, ci_high}}, errors: {type: count}.
    """
    summary = Summary.from_json(run.summary) if run.summary else None
    seen_metrics = summary or partial or Summary()
    counts: dict[str, Any]
    if summary:
        counts = {
            name: getattr(summary, name)
            for name in ("succeeded", "failed", "prompt_tokens", "completion_tokens", "cost_usd")
        }
    else:
        seen = progress or Progress(total=run.cases)
        counts = {"succeeded": seen.done - seen.failed, "failed": seen.failed}
        counts |= {name: getattr(seen, name) for name in ("prompt_tokens", "completion_tokens", "cost_usd")}
    return {
        "run_id": run.run_id,
        "status": run.status,
        "cases": run.cases,
        "succeeded": counts["succeeded"],
        "failed": counts["failed"],
        "wall_s": round(run.wall_s, 3),
        **{name: counts[name] for name in ("prompt_tokens", "completion_tokens", "cost_usd")},
        "metrics": {name: metric.brief() for name, metric in seen_metrics.metrics.items()},
        "errors": dict(seen_metrics.errors),
    }


def dollars(value: float | None, digits: int = 4) -> str:
    """A sum for people: cents, and below a dollar as many significant digits as are asked for."""
    if value is None:
        return "unknown"
    if value >= 1 or value == 0:
        return f"${value:,.2f}"
    if value < 1e-9:
        return f"${value:.{digits}g}"
    whole, _, decimals = f"{value:.{digits - 1 - math.floor(math.log10(value))}f}".partition(".")
    return f"${whole}.{decimals.rstrip('0').ljust(2, '0')}"


def number(value: float | None) -> str:
    """Four significant digits, without an exponent where that reads better."""
    if value is None:
        return "–"
    if value and not 1e-4 <= abs(value) < 1e7:
        return f"{value:.3e}"
    return (
        f"{value:,.4f}".rstrip("0").rstrip(".")
        if abs(value) < 100
        else f"{value:,.1f}".rstrip("0").rstrip(".")
    )


def duration(seconds: float) -> str:
    """`0.8 s`, `41 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def table(run: RunRecord, progress: Progress | None = None, partial: Summary | None = None) -> Group:
    """The run as a Rich renderable: a header, the metrics, the errors; arguments as in `brief`."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    facts = brief(run, progress, partial)
    summary = Summary.from_json(run.summary) if run.summary else partial
    head = Text.assemble(
        (run.name, "bold"),
        "  run ",
        (run.run_id, "cyan"),
        "  ",
        (run.status, {"completed": "green", "running": "cyan"}.get(run.status, "yellow")),
    )
    lines: list[Any] = [head, Text(_facts(run, facts, summary))]
    if summary and summary.metrics:
        shown = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
        for column in ("metric", "mean", "95% interval", "± stderr", "n", "better"):
            shown.add_column(
                column, justify="left" if column in ("metric", "better") else "right", overflow="fold"
            )
        for name, metric in summary.metrics.items():
            low, high = metric.interval
            interval = "–" if low is None else f"{number(low)} … {number(high)}"
            better = "higher" if metric.higher_is_better else "lower"
            shown.add_row(
                name,
                number(metric.mean),
                interval,
                number(metric.values.stderr),
                f"{metric.n or metric.scored:,}",
                better,
            )
            if metric.not_applicable:
                shown.add_row(Text(f"  not applicable to {metric.not_applicable:,} cases", style="dim"))
            if metric.labels:
                shown.add_row(
                    Text(
                        "  "
                        + ", ".join(
                            f"{label}: {count:,}"
                            for label, count in sorted(metric.labels.items(), key=lambda i: -i[1])[:8]
                        ),
                        style="dim",
                    )
                )
        lines += [Text(), shown]
    if facts["errors"]:
        errors = ", ".join(
            f"{count:,} × {kind}"
            for kind, count in sorted(facts["errors"].items(), key=lambda item: -item[1])
        )
        lines += [Text(), Text(f"{facts['failed']:,} failed: {errors}", style="yellow")]
    if run.error:
        lines.append(Text(run.error, style="red"))
    return Group(*lines)


def _facts(run: RunRecord, facts: dict[str, Any], summary: Summary | None) -> str:
    spec = run.experiment
    prompt, dataset = spec.get("prompt_template"), spec["dataset"]
    what = [
        spec["model"]["name"],
        *([f"{prompt['name']}@{prompt['version']}"] if prompt else []),
        f"{dataset['name']}@{dataset['version']}",
    ]
    counts = f"{facts['succeeded']:,} of {facts['cases']:,} cases succeeded in {duration(run.wall_s)}"
    spent = f"{facts['prompt_tokens']:,} + {facts['completion_tokens']:,} tokens, cost {dollars(facts['cost_usd'])}"
    latency = ""
    if summary and summary.latency_ms.n:
        latency = f"\nlatency p50 {summary.latency_ms.quantile(0.5):,.0f} ms, p95 {summary.latency_ms.quantile(0.95):,.0f} ms"
    used = summary.metrics_usage if summary else None
    judged = (
        f"\nmetrics' own models: {used.calls:,} calls, {used.prompt_tokens:,} + {used.completion_tokens:,} tokens, cost {dollars(used.cost_usd)}"
        if used and used.calls
        else ""
    )
    return f"{' × '.join(what)}\n{counts}, {spent}{latency}{judged}"


def resume_command(run_id: str, where: str) -> str:
    """The command that goes on with a run; it names the store unless that is the default one."""
    return f"promptlab resume {run_id}{_store_option(where)}"


def show_command(run_id: str, where: str) -> str:
    """The command that shows a run; it names the store unless that is the default one."""
    return f"promptlab show {run_id}{_store_option(where)}"


def cancel_command(run_id: str, where: str) -> str:
    """The command that stops a run; it names the store unless that is the default one."""
    return f"promptlab cancel {run_id}{_store_option(where)}"


def _store_option(where: str) -> str:
    if where.startswith(("http://", "https://")):
        return f" --endpoint {shlex.quote(where)}"
    return "" if Path(where) == Path("promptlab.db").absolute() else f" --db {shlex.quote(where)}"
