"""Conditions on a run's numbers: `exact_match.ci_low < 0.8 or failed > 10`.

    expression  = and-part { "or" and-part }
    and-part    = comparison { "and" comparison }
    comparison  = NAME [ "." NUMBER ] OP NUMBER
    OP          = "<" | "<=" | ">" | ">=" | "==" | "!="

    NUMBER      = "mean" | "n" | "rows" | "stderr" | "ci_low" | "ci_high" | "missing_rows" | "failures"
                | "lost" | "worst_low" | "worst_high"

NAME is a metric of the experiment or one of its scores, also of the run as a whole (in double quotes if there
are spaces in it), or a number of the run.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from promptlab.errors import ConfigError

CHARS = 1_000
"""How long an expression may be."""
RUN_NUMBERS = (
    "cases",
    "succeeded",
    "failed",
    "cut",
    "wall_s",
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
    "cost_per_case_usd",
    "latency_mean_ms",
    "latency_p50_ms",
    "latency_p95_ms",
)
METRIC_NUMBERS = (
    "mean",
    "n",
    "rows",
    "stderr",
    "ci_low",
    "ci_high",
    "missing_rows",
    "failures",
    "lost",
    "worst_low",
    "worst_high",
)
_WHERE_NOTHING_IS_MISSING = {
    "missing_rows": None,
    "failures": None,
    "lost": None,
    "worst_low": "mean",
    "worst_high": "mean",
}
"""Numbers that `report.brief` leaves out where every case has a score: what they are then, 0 or another
number."""
_OPERATORS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_COMPARISON = re.compile(r'\s*("[^"]+"|[^\s<>=!"]+)(\.\w+)?\s*(<=|>=|==|!=|<|>)\s*(\S+)\s*')
_WORDS = {
    operator_: re.compile(rf'\s+{operator_}\s+(?=(?:[^"]*"[^"]*")*[^"]*$)') for operator_ in ("or", "and")
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One number against a bound."""

    metric: str | None
    """None: a number of the run."""
    number: str
    sign: str
    bound: float

    @property
    def name(self) -> str:
        """The name of what is compared, for people."""
        return f"{self.metric}.{self.number}" if self.metric is not None else self.number

    def value(self, facts: Mapping[str, Any]) -> float | None:
        """Read the number of a run's facts (`facts_of`); None if it is unknown."""
        found = facts if self.metric is None else facts["metrics"].get(self.metric, {})
        value = found.get(self.number)
        complete = self.number not in found and "rows" in found and "missing" not in found
        if complete and self.number in _WHERE_NOTHING_IS_MISSING:
            other = _WHERE_NOTHING_IS_MISSING[self.number]
            value = found.get(other) if other else 0
        return None if value is None else float(value)

    def met(self, facts: Mapping[str, Any]) -> bool:
        """Check the number. An unknown one meets every condition: nobody can say that all is well."""
        value = self.value(facts)
        return value is None or bool(_OPERATORS[self.sign](value, self.bound))

    def holds(self, facts: Mapping[str, Any]) -> bool | None:
        """Whether the comparison holds; None where the number is unknown."""
        value = self.value(facts)
        return None if value is None else bool(_OPERATORS[self.sign](value, self.bound))

    def said(self, facts: Mapping[str, Any]) -> str:
        """Say the number beside its bound: `exact_match.ci_low is 0.71, which is < 0.8`."""
        value = self.value(facts)
        if value is None:
            return f"{self.name} is unknown"
        return f"{self.name} is {value:.6g}, which is {self.sign} {self.bound:g}"


@dataclass(frozen=True, slots=True)
class Condition:
    """An expression: of the groups joined by `or` one is met if all of its comparisons are."""

    text: str
    groups: Sequence[Sequence[Comparison]]

    def met(self, facts: Mapping[str, Any]) -> str | None:
        """Say why a run meets the condition, by its facts; None if it does not."""
        for group in self.groups:
            if all(comparison.met(facts) for comparison in group):
                return " and ".join(comparison.said(facts) for comparison in group)
        return None

    def holds(self, facts: Mapping[str, Any]) -> bool | None:
        """Whether the condition holds; None where that depends on a number that is unknown."""
        groups = [[comparison.holds(facts) for comparison in group] for group in self.groups]
        if any(all(group) for group in groups):
            return True
        return False if all(False in group for group in groups) else None


def parse_condition(
    text: str, metrics: Collection[str], own: Collection[str] = (), of: str = "--fail-if"
) -> Condition:
    """Read an expression.

    Args:
        of: where it is written, for messages.
        text: the expression.
        metrics: the names of the experiment's metrics.
        own: those of evaluators whose classes may say that they give several scores, `NAME.score`.

    Raises:
        ConfigError: it is none, or names a metric that the experiment does not have.
    """
    if len(text) > CHARS:
        raise ConfigError(f"{of} has {len(text):,} characters: {CHARS:,} at most.")
    groups = [
        [_comparison(part, text, metrics, own, of) for part in _WORDS["and"].split(group)]
        for group in _WORDS["or"].split(text.strip())
    ]
    return Condition(text, groups)


def _comparison(part: str, text: str, metrics: Collection[str], own: Collection[str], of: str) -> Comparison:
    found = _COMPARISON.fullmatch(part)
    bound = _number(found[4]) if found else None
    if found is None or bound is None:
        raise ConfigError(
            f"{of} {text!r}: {part.strip()!r} is no comparison such as exact_match.ci_low < 0.8; "
            "join several with `and` and `or`."
        )
    name, field = found[1].strip('"'), (found[2] or "")[1:]
    whole = f"{name}.{field}" if field else name
    if whole in metrics:
        return Comparison(whole, "mean", found[3], bound)
    if not field and not found[1].startswith('"'):
        head, _, tail = name.rpartition(".")
        name, field = (head, tail) if head in metrics else (name, field)
    if name in metrics and (field or "mean") in METRIC_NUMBERS:
        return Comparison(name, field or "mean", found[3], bound)
    if whole in RUN_NUMBERS:
        return Comparison(None, whole, found[3], bound)
    if any(whole.startswith(f"{evaluator}.") for evaluator in own):
        head, _, tail = whole.rpartition(".")
        score, number = (head, tail) if tail in METRIC_NUMBERS else (whole, "mean")
        return Comparison(score, number, found[3], bound)
    known = ", ".join([*metrics, *RUN_NUMBERS])
    raise ConfigError(
        f"{of} {text!r}: there is no {whole!r}. A condition is about one of {known}; "
        f"of a metric, NAME.{', NAME.'.join(METRIC_NUMBERS)}."
    )


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
