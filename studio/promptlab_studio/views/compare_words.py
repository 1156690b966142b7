"""What a comparison says of a metric: its difference in words, its verdict, and a sentence for the head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from promptlab.queries.compare import MetricComparison
from promptlab.queries.verdict_words import verdict_words, words_of
from promptlab.statistics import Judgement
from promptlab_studio.views.digits import Digits

_CSS = {"better": "good", "worse": "bad", "not comparable": "warn", "depends on missing scores": "warn"}
_SIGNS = {"good": "▲", "bad": "▼", "warn": "!", "muted": "≈"}


@dataclass(frozen=True, slots=True)
class Scale:
    """How the differences of a metric are said: shares in points of a hundred, all else in its own unit."""

    points: bool
    digits: Digits

    @classmethod
    def of(cls, found: Sequence[Judgement], bounds: tuple[float, float] | None) -> Scale:
        """The scale of one metric, of every run that it is compared in."""
        ends = [v for m in found for v in (m.ci_low, m.ci_high, m.difference) if v is not None]
        points = bounds == (0.0, 1.0)
        if points:
            top = max((abs(v) * 100 for v in ends), default=0.0)
            return cls(True, Digits(1 if top >= 1 or not top else 2))
        means = [v for m in found for v in (m.base_mean, m.other_mean)]
        return cls(False, Digits.of([*means, *ends]))

    def _units(self, value: float) -> float:
        return value * 100 if self.points else value

    def size(self, value: float) -> str:
        """A difference without its sign: `21.5 points`, `43.0`."""
        shown = self.digits.show(abs(self._units(value)))
        return f"{shown} point{'s' if shown != '1.0' else ''}" if self.points else shown

    def signed(self, value: float | None) -> str:
        """A difference: `+21.5 points`; `–` where there is none."""
        if value is None:
            return "–"
        return f"{self.digits.signed(self._units(value))}{' points' if self.points else ''}"

    def between(self, low: float | None, high: float | None) -> str:
        """An interval in the same unit; nothing where there is none."""
        return "" if low is None or high is None else self.digits.between(self._units(low), self._units(high))


@dataclass(frozen=True, slots=True)
class Words:
    """A difference as it is said."""

    sign: str
    """▲, ▼, ≈ or !; nothing for a fact."""
    text: str
    css: str


def words(m: MetricComparison, scale: Scale) -> Words:
    """Say the difference of one metric of one run: `better by 21.5 points`."""
    return judged_words(m.judgement, m.not_comparable, scale, labels=bool(m.different))


def judged_words(m: Judgement, not_comparable: str | None, scale: Scale, *, labels: bool = False) -> Words:
    """Say a difference and its verdict.

    Args:
        m: what it was judged to be.
        not_comparable: why it is none, if so.
        scale: that of the metric.
        labels: whether the metric's labels differ, where it has no numbers.
    """
    verdict, size = words_of(m, not_comparable), scale.size(m.difference or 0.0)
    css = _CSS.get(verdict, "muted")
    sign = _SIGNS[css]
    if m.difference is None:
        return Words("", "other labels" if labels else "nothing to compare", "muted")
    if not verdict:
        moved = "more" if m.difference > 0 else "less"
        return Words("", f"{size} {moved}" if size.strip("0. points,") else "as much", "muted")
    if verdict in ("better", "worse"):
        return Words(sign, f"{verdict} by {size}", css)
    if verdict == "no evidence of a difference":
        return Words(sign, f"{scale.signed(m.difference)}, no evidence", css)
    if verdict == "too few cases":
        return Words(sign, f"{scale.signed(m.difference)}, too few cases", css)
    if m.margin is not None and m.verdict and "δ" in m.verdict:
        return Words(sign, m.verdict.replace("δ", scale.size(m.margin)), css)
    return Words(sign, verdict, css)


def sentence(m: MetricComparison, scale: Scale) -> Words:
    """Say the verdict of the metric that a comparison is about, with its interval."""
    said = words(m, scale)
    between = scale.between(m.low, m.high)
    sure = f", 95% sure of {between}" if said.css in ("good", "bad") and between else ""
    if not sure and between:
        sure = f" (95% interval {between})"
    return Words(said.sign, f"{m.metric} {said.text}{sure}", said.css)


def tally(found: Sequence[MetricComparison], but: str | None) -> str:
    """Count the verdicts of all other metrics of a run: `also 3 better, 1 worse, 4 undecided`."""
    judged = [verdict_words(m) for m in found if m.metric != but]
    judged = [word for word in judged if word]
    counted = [
        (judged.count("better"), "better"),
        (judged.count("worse"), "worse"),
        (sum(word not in ("better", "worse") for word in judged), "undecided"),
    ]
    said = ", ".join(f"{n} {word}" for n, word in counted if n)
    return f"also {said}" if said else ""
