"""The check of a judge in words, for terminals and pages."""

from __future__ import annotations

from collections.abc import Iterator

from promptlab.labelling.values import JudgeCheck
from promptlab.statistics import Rate


def judge_lines(check: JudgeCheck, most: int = 20) -> Iterator[str]:
    """Say what came of a check, a line each; of the disagreements the first `most`."""
    yield f"{check.metric} of run {check.run_id}: {check.why}"
    yield ""
    for name, value in facts(check):
        yield f"{name:<24} {value}"
    if check.disagreements:
        yield ""
        total = check.table.missed + check.table.waved_through
        yield f"{total:,} disagreements:"
        for one in check.disagreements[:most]:
            said = "people pass, the judge fails" if one.people else "people fail, the judge passes"
            note = f"  {one.tag or ''} {(one.note or '')[:80]}".rstrip()
            yield f"  case {one.case}.{one.trial}  {said} ({one.value:.4g}){note}"
        if total > most:
            yield f"  … {total - most:,} more: --json has them"


def facts(check: JudgeCheck) -> Iterator[tuple[str, str]]:
    """Name what was found, and say it."""
    about = "this metric" if check.own else "whole answers"
    sample = "a random sample" if check.random else "not known to be a random sample"
    yield "labelled", f"{check.table.n:,} cases by {_many(check.raters, 'rater')}, about {about}; {sample}"
    if check.tied or check.unscored:
        yield (
            "left out",
            f"{check.tied:,} tied between raters, {check.unscored:,} without a score of this judge",
        )
    yield "agreement", share(check.agreement)
    yield "TPR (people pass)", share(check.tpr)
    yield "TNR (people fail)", share(check.tnr)
    if check.kappa is not None:
        yield "κ", f"{check.kappa:.2f}" + (f"; {check.kappa_caveat}" if check.kappa_caveat else "")
    needed = (("passed", check.needed_passed), ("failed", check.needed_failed))
    words = [f"{n:,} of {what} cases" if n else f"none would of {what} cases" for what, n in needed]
    yield "labels that certify", ", ".join(words)
    if check.people_agreement is not None:
        alpha = f", α {check.people_alpha:.2f}" if check.people_alpha is not None else ""
        yield "raters agree", f"{share(check.people_agreement)}{alpha}"
    if check.jury_alpha is not None:
        yield "votes agree", f"Krippendorff's α {check.jury_alpha:.2f}, {check.jury} votes a case"
    if (slope := check.length_slope) is not None:
        ends = f"({slope.low:+.4f} … {slope.high:+.4f})"
        proven = "" if slope.is_proven else ": no slope is seen"
        yield "twice the length", f"{slope.per_doubling:+.4f} {ends} of the score{proven}"
    prints = check.fingerprints or {}
    if prints:
        yield "judged by", f"{', '.join(check.versions) or 'unknown'} ({', '.join(prints)})"


def share(rate: Rate | None) -> str:
    """`90.8% (82.9% … 95.3%), 79 of 87`."""
    if rate is None:
        return "no such case is labelled"
    return f"{rate.share:.1%} ({rate.low:.1%} … {rate.high:.1%}), {rate.successes:,} of {rate.n:,}"


def _many(n: int, what: str) -> str:
    return f"1 {what}" if n == 1 else f"{n:,} {what}s"
