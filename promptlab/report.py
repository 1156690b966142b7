"""A run in words and numbers: the JSON object and the table that CLI and SDK show."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptlab.domain.decided import decided_json, early_words, stop_json
from promptlab.domain.results import DONE, FINAL, Progress, RunRecord
from promptlab.domain.said import SHOWN, most_frequent
from promptlab.domain.spending import NAMES, Spending, Sums
from promptlab.domain.summary import SCORE_ERRORS, MetricSummary, Summary
from promptlab.named_files import working_folder
from promptlab.program import program

if TYPE_CHECKING:
    from rich.console import Group

    from promptlab.domain.corrected import CorrectedMean

MOST_TYPES = 10
"""Types of errors that people see."""
MOST_LABELS = 8
"""Labels of a metric that people see in a table."""


NOTHING: Mapping[str, Any] = {}


def brief(run: RunRecord, progress: Progress | None = None, partial: Summary | None = None) -> dict[str, Any]:
    """The run as one JSON object; for a run without a summary the counts are those of `progress` and the
    metrics those of `partial`.

    Keys: run_id, status, error (why the run itself failed or stopped, if it did), cases, succeeded, failed,
    wall_s, prompt_tokens, completion_tokens, cost_usd (each None where unknown), metrics: {name: {n, rows,
    mean, stderr, ci_low, ci_high, method, …}} (`promptlab.domain.means.brief`), errors: {type: count},
    messages: {type: [{message, cases}]} (the most frequent ones of each type), cut (answers that end
    where the model's tokens did); where some are not in the sums, how many: unknown_tokens,
    unknown_cost, unpriced; limited_by, what held the
    run back, in words; labels that point at it; commit, that it was made at; sweep, that it is of; and
    unreadable, in words, if the record cannot be read in full. Of a run that may end early: stop, its rule;
    and decided, the verdict with cases_saved and usd_saved, once there is one.
    """
    summary = Summary.from_json(run.summary) if run.summary else None
    seen_metrics = summary or partial or Summary()
    counts: dict[str, Any]
    if summary:
        counts = {name: getattr(summary, name) for name in ("succeeded", "failed", *NAMES)}
    else:
        seen = progress or Progress(total=run.cases)
        counts = {"succeeded": seen.done - seen.failed, "failed": seen.failed}
        counts |= {name: getattr(seen, name) for name in NAMES}
    return {
        "run_id": run.run_id,
        "status": run.status,
        **({"error": run.error} if run.error else {}),
        "cases": run.cases,
        "succeeded": counts["succeeded"],
        "failed": counts["failed"],
        "wall_s": round(run.wall_s, 3),
        **{name: counts[name] for name in NAMES[:3]},
        "metrics": {name: metric.brief() for name, metric in seen_metrics.metrics.items()},
        **_run_metrics(seen_metrics),
        "errors": dict(seen_metrics.errors),
        "messages": {
            kind: [{"message": message, "cases": cases} for message, cases in known.items()]
            for kind, known in most_frequent(seen_metrics.messages, SHOWN).items()
        },
        "cut": seen_metrics.cut,
        "finish_reasons": dict(seen_metrics.finish_reasons),
        **({"filtered": seen_metrics.filtered} if seen_metrics.filtered else {}),
        **({"simulated_user": played.to_json()} if (played := seen_metrics.simulated_user).calls else {}),
        **({"cached": seen_metrics.cached} if seen_metrics.cached else {}),
        **{name: counts[name] for name in NAMES[3:] if counts[name]},
        **({"max_cost_usd": run.max_cost_usd} if run.max_cost_usd is not None else {}),
        **({"warnings": list(run.warnings)} if run.warnings else {}),
        **({"labels": list(run.labels)} if run.labels else {}),
        **({"commit": run.commit} if run.commit else {}),
        **({"sweep": run.sweep} if run.sweep else {}),
        **({"stop": stop} if (stop := stop_json(run)) else {}),
        **({"decided": decided} if (decided := decided_json(run, summary)) else {}),
        **({"limited_by": run.limited_by} if run.limited_by else {}),
        **({"unreadable": run.unreadable} if run.unreadable else {}),
    }


def _run_metrics(summary: Summary) -> dict[str, Any]:
    found = {name: metric.brief() for name, metric in summary.run_metrics.items()}
    return {"run_metrics": found} if found else {}


def all_failed(facts: Mapping[str, Any]) -> bool:
    """Whether a run, as `brief` has it, has ended without a single case that succeeded."""
    return bool(
        facts["status"] in ("completed", "failed") and facts["cases"] and facts["failed"] == facts["cases"]
    )


def status_words(facts: Mapping[str, Any]) -> str:
    """Say how a run stands: its status, or `all failed: not_found, timeout` if no case of it succeeded."""
    if not all_failed(facts):
        return str(facts["status"]).replace("_", " ")
    kinds = sorted(facts["errors"], key=lambda kind: -facts["errors"][kind])
    more = f" and {len(kinds) - SHOWN} more" if len(kinds) > SHOWN else ""
    return f"all failed: {', '.join(kinds[:SHOWN])}{more}"


def failure_lines(facts: Mapping[str, Any]) -> list[str]:
    """Say what went wrong: the failed cases by type, the failed scores by metric, and the most frequent
    messages of each."""
    failed = [(name, metric["failed"]) for name, metric in facts["metrics"].items() if metric.get("failed")]
    scores = [f"{count:,} {'score' if count == 1 else 'scores'} of {name} failed" for name, count in failed]
    for kind in SCORE_ERRORS if failed else ():
        scores += _said(facts, kind)
    return [*_failed_cases(facts), *scores]


def _said(facts: Mapping[str, Any], kind: str) -> list[str]:
    return [
        f"  {kind}, {item['cases']:,} ×: {' '.join(item['message'].split())}"
        for item in facts["messages"].get(kind, ())
    ]


def _failed_cases(facts: Mapping[str, Any]) -> list[str]:
    if not facts["errors"]:
        return []
    kinds = sorted(facts["errors"].items(), key=lambda item: -item[1])
    shown = kinds[:MOST_TYPES]
    lines = [f"{facts['failed']:,} failed: {', '.join(f'{count:,} × {kind}' for kind, count in shown)}"]
    if len(kinds) > MOST_TYPES:
        lines[0] += f" and {len(kinds) - MOST_TYPES} more types"
    for kind, _ in shown:
        lines += _said(facts, kind)
    return lines


def score_words(run: RunRecord, facts: Mapping[str, Any]) -> str:
    """Say why a summary has no scores; empty if it has some."""
    if any(metric["n"] for metric in facts["metrics"].values()) or facts.get("run_metrics"):
        return ""
    if not run.experiment.get("evaluation"):
        return "No scores: the experiment has no metrics (evaluation)."
    if all_failed(facts):
        return "No scores: no case was answered."
    if run.status in FINAL and run.status not in DONE:
        return f"No scores yet: the run is {status_words(facts)}, and no part of it is scored."
    if run.status not in DONE:
        return "No scores yet."
    if any(metric.get("labels") for metric in (run.summary or {}).get("metrics", {}).values()):
        return ""
    return "No scores: every metric failed, or had nothing to measure in any case."


def cut_words(facts: Mapping[str, Any]) -> str:
    """Say how many answers were cut, and what helps; empty if none was."""
    if not facts["cut"]:
        return ""
    answers = "1 answer was" if facts["cut"] == 1 else f"{facts['cut']:,} answers were"
    return f"{answers} cut where the tokens ended (finish_reason length): give the model more max_tokens."


def filtered_words(facts: Mapping[str, Any]) -> str:
    """Say how many answers a filter held back; empty if none."""
    if not (count := facts.get("filtered")):
        return ""
    answers = "1 answer was" if count == 1 else f"{count:,} answers were"
    return f"{answers} held back by the provider's filter (finish_reason content_filter), wholly or in part."


def next_steps(facts: Mapping[str, Any], where: str) -> list[str]:
    """Say what to do with a run that is complete, with the commands for it."""
    steps = []
    if facts["failed"]:
        steps.append(f"Failed cases: {show_command(facts['run_id'], where)} --failed")
        steps.append(f"Ask them again: {resume_command(facts['run_id'], where)} --failed")
    hosted = where.startswith(("http://", "https://"))
    steps.append(f"Look at it: {where}" if hosted else f"Look at it: {studio_command(where)}")
    return steps


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


def spending(sums: Spending, of: int, what: str) -> str:
    """Say what calls used: `1,234 + 56 tokens, cost $0.12`; what is unknown, and of how many it is known.

    Args:
        sums: tokens and dollars.
        of: how many cases or calls they are of.
        what: the name of those.
    """
    return f"{tokens(sums, of, what)}, cost {cost(sums, of, what)}"


def tokens(sums: Spending, of: int, what: str) -> str:
    """Say how many tokens were read and written."""
    if sums.prompt_tokens is None and sums.completion_tokens is None:
        return "tokens unknown"
    shown = ["unknown" if n is None else f"{n:,}" for n in (sums.prompt_tokens, sums.completion_tokens)]
    return f"{' + '.join(shown)} tokens{_known_of(sums.unknown_tokens, of, what)}"


def cost(sums: Spending, of: int, what: str) -> str:
    """Say how many dollars were spent."""
    return dollars(sums.cost_usd) + (
        _known_of(sums.unknown_cost, of, what) if sums.cost_usd is not None else ""
    )


def _known_of(unknown: int, of: int, what: str) -> str:
    return f" (of {max(0, of - unknown):,} of {of:,} {what})" if unknown else ""


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


def table(
    run: RunRecord,
    progress: Progress | None = None,
    partial: Summary | None = None,
    corrected: Mapping[str, CorrectedMean] = NOTHING,
) -> Group:
    """The run as a Rich renderable: a header, the metrics, the errors; arguments as in `brief`, and the means
    that labels of people correct."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from promptlab.domain.means import n_of, notes  # its statistics are a part of a start that few need

    facts = brief(run, progress, partial)
    summary = Summary.from_json(run.summary) if run.summary else partial
    head = Text.assemble(
        (run.called, "bold"),
        *((f"  ({run.name})",) if run.title else ()),
        "  run ",
        (run.run_id, "cyan"),
        "  ",
        (status_words(facts), _style(facts)),
        *((f"  @{label}", "magenta") for label in run.labels),
    )
    lines: list[Any] = [head, Text(_facts(run, facts, summary))]
    if run.description:
        lines.append(Text(run.description))
    early = early_words(run, summary)
    lines += [Text()] if early else []
    lines += [Text(said, style="dim" if n else "bold") for n, said in enumerate(early)]
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
                number(metric.stderr),
                n_of(metric) if metric.n else f"{metric.scored:,}",
                better,
            )
            if name in corrected:
                shown.add_row(Text(f"  {corrected[name].words}", style="green"))
            for said in notes(metric, number):
                shown.add_row(Text(f"  {said}", style="dim"))
            if metric.not_applicable:
                shown.add_row(Text(f"  not applicable to {metric.not_applicable:,} cases", style="dim"))
            if metric.unlabelled:
                shown.add_row(
                    Text(
                        f"  not labelled: {metric.unlabelled:,} case{'' if metric.unlabelled == 1 else 's'}",
                        style="dim",
                    )
                )
            if metric.labels:
                shown.add_row(Text(f"  {_labels(metric)}", style="dim"))
        lines += [Text(), shown]
    if summary and summary.run_metrics:
        from promptlab.report_of_runs import run_metrics_tables

        lines += [Text(), *run_metrics_tables(summary.run_metrics)]
    if failures := failure_lines(facts):
        lines += [Text(), *(Text(line, style="yellow") for line in failures)]
    words = [said for said in (score_words(run, facts), cut_words(facts), filtered_words(facts)) if said]
    lines += [Text(), *(Text(said, style="yellow") for said in words)] if words else []
    lines += [Text(), Text(f"Limited by {run.limited_by}.", style="dim")] if run.limited_by else []
    lines += [Text(said, style="red") for said in dict.fromkeys((run.error, run.unreadable)) if said]
    return Group(*lines)


def _labels(metric: MetricSummary) -> str:
    """Say how often each label was given: rows with the interval of their share; of older runs cases."""
    from promptlab.domain.means import label_shares

    if shares := label_shares(metric):
        return ", ".join(
            f"{label}: {found['n']:,} ({_percent(found['share'])}, {_percent(found['ci_low'])} … "
            f"{_percent(found['ci_high'])})"
            for label, found in list(shares.items())[:MOST_LABELS]
        )
    counts = sorted(metric.labels.items(), key=lambda i: -i[1])[:MOST_LABELS]
    return ", ".join(f"{label}: {count:,}" for label, count in counts)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}%"


def _style(facts: Mapping[str, Any]) -> str:
    if all_failed(facts):
        return "red"
    return {"completed": "green", "decided": "green", "running": "cyan"}.get(facts["status"], "yellow")


def _facts(run: RunRecord, facts: dict[str, Any], summary: Summary | None) -> str:
    spec = run.experiment
    prompt, dataset = spec.get("prompt_template"), spec["dataset"]
    what = [
        spec["model"]["name"],
        *([f"{prompt['name']}@{prompt['version']}"] if prompt else []),
        f"{dataset['name']}@{dataset['version']}",
    ]
    counts = f"{facts['succeeded']:,} of {facts['cases']:,} cases succeeded in {duration(run.wall_s)}"
    done = facts["succeeded"] + facts["failed"]
    spent = spending(Sums(**{name: facts[name] for name in NAMES if name in facts}), done, "cases")
    if facts.get("cached"):
        spent += f", {facts['cached']:,} from the cache"
    latency = ""
    if summary and summary.latency_ms.n:
        latency = (
            f"\nlatency p50 {summary.latency_ms.quantile(0.5):,.0f} ms, p95 "
            f"{summary.latency_ms.quantile(0.95):,.0f} ms"
        )
    others = (
        ("metrics' own models", summary.metrics_usage if summary else None),
        ("simulated user, in the run's cost", summary.simulated_user if summary else None),
    )
    beside = "".join(
        f"\n{name}: {used.calls:,} calls, {spending(used, used.calls, 'calls')}"
        for name, used in others
        if used and used.calls
    )
    return f"{' × '.join(what)}\n{counts}, {spent}{latency}{beside}"


def resume_command(run_id: str, where: str) -> str:
    """The command that goes on with a run; it names the store unless that is the default one."""
    return f"{program()} resume {run_id}{_store_option(where)}"


def show_command(run_id: str, where: str) -> str:
    """The command that shows a run; it names the store unless that is the default one."""
    return f"{program()} show {run_id}{_store_option(where)}"


def cancel_command(run_id: str, where: str) -> str:
    """The command that stops a run; it names the store unless that is the default one."""
    return f"{program()} cancel {run_id}{_store_option(where)}"


def studio_command(where: str) -> str:
    """The command that serves a store's pages; it names the store unless that is the default one."""
    return f"{program()} studio{_store_option(where)}"


def _store_option(where: str) -> str:
    if where.startswith(("http://", "https://")):
        return f" --endpoint {shlex.quote(where)}"
    here = working_folder()
    return "" if here is not None and Path(where) == here / "promptlab.db" else f" --db {shlex.quote(where)}"
