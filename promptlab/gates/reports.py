"""The outcome of a gate for people and pipelines: lines, Markdown, JUnit's XML, annotations of GitHub."""

from __future__ import annotations

import re
from collections.abc import Sequence

from promptlab.gates.outcome import SYMBOLS, WORDS, CheckOutcome, GateOutcome

MOST_ANNOTATIONS = 10
"""GitHub shows ten of a kind and step."""
# XML 1.0 has no other control characters, however they are written.
_NO_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def headline(gate: GateOutcome) -> str:
    """Say the outcome in one line."""
    counts = [
        f"{gate.counted(outcome):,} {words}"
        for outcome, words in (
            ("passed", "passed"),
            ("failed", "failed"),
            ("undecided", "undecided"),
            ("left out", "left out"),
        )
        if gate.counted(outcome)
    ]
    return f"Gate {WORDS[gate.outcome]}: {', '.join(counts)}"


def against(gate: GateOutcome) -> str:
    """Say what was held against what."""
    base = f"run {gate.baseline}" if gate.baseline else ""
    label = f" ({gate.baseline_label})" if gate.baseline_label else ""
    return f"{gate.name}, run {gate.run_id}" + (f", against {base}{label}" if base else "")


def title_of(check: CheckOutcome) -> str:
    """Name a check, with its slice."""
    return f"{check.check} [{check.slice}]" if check.slice else check.check


def lines(gate: GateOutcome) -> list[str]:
    """Say everything, a line a check: what failed first."""
    found = [headline(gate), against(gate)]
    found += [f"  {SYMBOLS[c.outcome]} {title_of(c)}: {c.said}" for c in by_weight(gate.checks)]
    if gate.quarantined:
        found.append(f"  {quarantine_words(gate)}")
    return found


def by_weight(checks: Sequence[CheckOutcome]) -> list[CheckOutcome]:
    """Sort checks: those that failed first, then those that cannot decide."""
    order = ("failed", "undecided", "passed", "left out")
    return sorted(checks, key=lambda check: order.index(check.outcome))


def quarantine_words(gate: GateOutcome) -> str:
    """Say which rows were in quarantine."""
    rows = "1 row" if len(gate.quarantined) == 1 else f"{len(gate.quarantined):,} rows"
    shown = ", ".join(gate.quarantined[:10]) + (", …" if len(gate.quarantined) > 10 else "")
    return f"{rows} in quarantine, which no check of a metric looked at: {shown}"


def markdown(gate: GateOutcome) -> str:
    """Write a summary for a pull request."""
    icon = {"passed": "✅", "failed": "❌", "undecided": "⚠️"}[gate.outcome]
    base = f" against `{_plain(gate.baseline)}`" if gate.baseline else ""
    label = f" ({_plain(gate.baseline_label)})" if gate.baseline_label else ""
    commit = f" at `{_plain(gate.commit)}`" if gate.commit else ""
    text = [
        f"### {icon} {headline(gate)}",
        "",
        f"**{_plain(gate.name)}**, run `{_plain(gate.run_id)}`{commit}{base}{label}",
        "",
        "| | check | rows | why |",
        "| --- | --- | ---: | --- |",
    ]
    text += [
        f"| {SYMBOLS[c.outcome]} {c.outcome} | {_cell(title_of(c))} | {'' if c.n is None else f'{c.n:,}'} "
        f"| {_cell(c.said)} |"
        for c in by_weight(gate.checks)
    ]
    if gate.quarantined:
        text += ["", _plain(quarantine_words(gate))]
    if gate.outcome == "undecided":
        text += ["", "A gate that cannot decide is not passed: what each check needs is said beside it."]
    return "\n".join(text) + "\n"


def _plain(text: str | None) -> str:
    """Return what people wrote, on one line, without Markdown or HTML of its own."""
    words = " ".join((text or "").split())
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", words).replace("@", "@\u200b")  # a name is notified by @


def _cell(text: str) -> str:
    return _plain(text)


def junit(gate: GateOutcome) -> str:
    """Write JUnit's XML: a case a check, whose failure or skip has the reason.

    One that cannot decide is an `error`, so that no pipeline takes it for passed.
    """
    from xml.sax.saxutils import escape, quoteattr

    def clean(text: str) -> str:
        return _NO_XML.sub("\ufffd", text)

    def case(check: CheckOutcome) -> str:
        head = (
            f"    <testcase classname={quoteattr(clean(gate.name))} name={quoteattr(clean(title_of(check)))}"
        )
        kind = {"failed": "failure", "undecided": "error", "left out": "skipped"}.get(check.outcome)
        said = clean(check.said)
        if kind is None:
            return f"{head}>\n      <system-out>{escape(said)}</system-out>\n    </testcase>"
        what = f" type={quoteattr(check.verdict or check.kind)}" if kind != "skipped" else ""
        return f"{head}>\n      <{kind} message={quoteattr(said)}{what}/>\n    </testcase>"

    counts = (
        f'tests="{len(gate.checks)}" failures="{gate.counted("failed")}" '
        f'errors="{gate.counted("undecided")}" skipped="{gate.counted("left out")}"'
    )
    suite = f'  <testsuite name={quoteattr(clean(f"promptlab gate {gate.name}"))} {counts} time="0">'
    head = ['<?xml version="1.0" encoding="UTF-8"?>', f"<testsuites {counts}>", suite]
    return "\n".join([*head, *map(case, gate.checks), "  </testsuite>", "</testsuites>"]) + "\n"


def github_annotations(gate: GateOutcome, file: str | None = None) -> list[str]:
    """Write workflow commands of GitHub, which it shows beside the file: errors and warnings.

    Args:
        gate: the outcome.
        file: the experiment's file, from the repository's root.
    """
    place = f"file={_property(file)}," if file else ""
    found = []
    for outcome, command in (("failed", "error"), ("undecided", "warning")):
        mine = [check for check in gate.checks if check.outcome == outcome]
        found += [
            f"::{command} {place}title={_property(title_of(check))}::{_message(check.said)}"
            for check in mine[:MOST_ANNOTATIONS]
        ]
    passed = f"::notice {place}title={_property(headline(gate))}::{_message(against(gate))}"
    return found or [passed]


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
