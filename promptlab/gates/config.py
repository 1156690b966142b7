"""What a gate checks, as people write it in YAML, JSON and Python."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from promptlab.domain.written import Written
from promptlab.errors import ConfigError
from promptlab.gates.conditions import CHARS, parse_condition

MOST_CHECKS, MOST_COLUMNS, MOST_QUARANTINED = 100, 10, 1_000
Number = Literal[
    "cost_usd",
    "cost_per_case_usd",
    "latency_p50_ms",
    "latency_p95_ms",
    "latency_mean_ms",
    "wall_s",
    "failed",
    "prompt_tokens",
    "completion_tokens",
]
"""Numbers of a run that have bounds."""
Kind = Literal["condition", "bound", "no_regression", "non_inferior", "number"]


class Check(Written):
    """One thing that must hold. Exactly one form: `require` or `fail_if`; `metric` with `min` or `max`, with
    `no_regression` or with `non_inferior`; `number` with `max`, `min` or `max_ratio`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = Field(
        default=None, min_length=1, max_length=200, description="What reports call it; made of it by default."
    )
    require: str | None = Field(
        default=None,
        min_length=1,
        max_length=CHARS,
        description="A condition that must hold, as in exact_match.ci_low >= 0.8 and failed <= 10.",
    )
    fail_if: str | None = Field(
        default=None, min_length=1, max_length=CHARS, description="A condition that must not hold."
    )
    metric: str | None = Field(default=None, min_length=1, max_length=300, description="The metric.")
    number: Number | None = Field(default=None, description="A number of the run.")
    min: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="Of a metric: passes where the whole interval of its mean lies at or above it, fails "
        "where it lies below; where the interval holds it, the gate cannot decide. Of a number: the least it "
        "may be.",
    )
    max: float | None = Field(default=None, allow_inf_nan=False, description="Likewise, the greatest.")
    max_ratio: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Of a number: how many times the baseline's it may be at most, as in 1.2.",
    )
    no_regression: bool | float | None = Field(
        default=None,
        description="Fails where the metric is worse than the baseline's; passes where it is better, the "
        "same within this margin, or not worse by more than it. true: the default margin, 0.02 of pass/fail.",
    )
    non_inferior: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="The same with this margin, judged by itself: no other metric makes it harder to fail.",
    )
    slices: tuple[Annotated[str, Field(min_length=1, max_length=300)], ...] = Field(
        default=(),
        max_length=MOST_COLUMNS,
        description="Columns of the dataset: the check must hold in every value of each, by itself.",
    )
    min_rows: int = Field(default=0, ge=0, description="Slices with fewer rows are left out, and said to be.")

    @field_validator("no_regression")
    @classmethod
    def _margin_is_one(cls, value: bool | float | None) -> bool | float | None:
        if value is False or (not isinstance(value, bool) and value is not None and not 0 < value < 1e308):
            raise ValueError("a margin is a number above 0, as in 0.02, or true for the default one")
        return value

    @model_validator(mode="after")
    def _is_of_one_form(self) -> Check:
        heads = [
            name for name in ("require", "fail_if", "metric", "number") if getattr(self, name) is not None
        ]
        if len(heads) != 1:
            raise ValueError("a check has exactly one of require, fail_if, metric and number")
        given = {
            name
            for name in ("min", "max", "max_ratio", "no_regression", "non_inferior")
            if getattr(self, name) is not None
        }
        forms = {
            "require": [set[str]()],
            "fail_if": [set[str]()],
            "metric": [{"min"}, {"max"}, {"min", "max"}, {"no_regression"}, {"non_inferior"}],
            "number": [s for s in _subsets("min", "max", "max_ratio") if s],
        }[heads[0]]
        if given not in forms:
            said = " or ".join(sorted({" and ".join(sorted(form)) for form in forms if form}))
            raise ValueError(
                f"a check of {heads[0]} goes with {said}" if said else f"{heads[0]} stands by itself"
            )
        if (self.slices or self.min_rows) and self.metric is None:
            raise ValueError("slices and min_rows go with a metric")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self

    @property
    def kind(self) -> Kind:
        """Its form."""
        if self.no_regression is not None:
            return "no_regression"
        if self.non_inferior is not None:
            return "non_inferior"
        return "number" if self.number else "bound" if self.metric else "condition"

    @property
    def compares(self) -> bool:
        """Whether it needs a baseline."""
        return self.kind in ("no_regression", "non_inferior") or self.max_ratio is not None

    @property
    def margin(self) -> float | None:
        """δ; None for the default one."""
        given = self.no_regression if self.kind == "no_regression" else self.non_inferior
        return None if given is None or isinstance(given, bool) else float(given)

    @property
    def title(self) -> str:
        """What reports call it."""
        if self.name:
            return self.name
        if self.require is not None:
            return f"require {self.require}"
        if self.fail_if is not None:
            return f"fail if {self.fail_if}"
        margin = f" ({self.margin:g})" if self.margin is not None else ""
        if self.kind in ("no_regression", "non_inferior"):
            return f"{self.metric} {self.kind.replace('_', ' ')}{margin}"
        bounds = {"min": "≥", "max": "≤", "max_ratio": "≤ baseline ×"}
        said = [f"{sign} {getattr(self, k):g}" for k, sign in bounds.items() if getattr(self, k) is not None]
        return f"{self.metric or self.number} {' and '.join(said)}"


def _subsets(*names: str) -> list[set[str]]:
    found: list[set[str]] = [set()]
    for name in names:
        found += [one | {name} for one in found]
    return found


class Gates(Written):
    """What a run must keep to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    baseline: str | None = Field(
        default=None,
        min_length=1,
        max_length=300,
        description="The run that it is held against: a label of the experiment, or a run's id.",
    )
    quarantine: tuple[Annotated[str, Field(min_length=1, max_length=1_000)], ...] = Field(
        default=(),
        max_length=MOST_QUARANTINED,
        description="Ids of rows that are known to be flaky: no check of a metric looks at them.",
    )
    uncertified_judges: Literal["refuse", "allow"] = Field(
        default="refuse",
        description="Whether checks may rest on judges that were not certified against labels of people "
        "(`promptlab judge check`); refuse: the gate cannot decide then.",
    )
    checks: tuple[Check, ...] = Field(
        min_length=1, max_length=MOST_CHECKS, description="What must hold, all of it."
    )

    @model_validator(mode="before")
    @classmethod
    def _may_be_a_list(cls, value: Any) -> Any:
        return {"checks": value} if isinstance(value, list | tuple) else value

    @property
    def compares(self) -> bool:
        """Whether a check needs a baseline."""
        return any(check.compares for check in self.checks)

    def metrics_of(self, metrics: Collection[str]) -> list[str]:
        """List those metrics of an experiment that a check rests on, also in a condition."""
        named = {check.metric for check in self.checks if check.metric}
        for check in self.checks:
            if (text := check.require or check.fail_if) is not None:
                own = [name.rpartition(".")[0] for name in metrics]
                condition = parse_condition(text, metrics, own, "gates")
                named |= {
                    name
                    for group in condition.groups
                    for one in group
                    for name in metrics
                    if one.name == name or one.name.startswith(f"{name}.")
                }
        return [name for name in metrics if name in named]

    def check_names(self, metrics: Collection[str], own: Collection[str] = ()) -> None:
        """Hold the names in the checks against those of an experiment.

        Args:
            metrics: the names of its metrics.
            own: those of evaluators whose classes may give several scores, `NAME.score`.

        Raises:
            ConfigError: a check names a metric that there is not.
        """
        for check in self.checks:
            for name, text in (("require", check.require), ("fail_if", check.fail_if)):
                if text is not None:
                    parse_condition(text, metrics, own, name)
            metric = check.metric
            if metric is None or metric in metrics or any(metric.startswith(f"{one}.") for one in own):
                continue
            known = ", ".join(metrics) or "none"
            raise ConfigError(f"gates: there is no metric {metric!r}; the experiment's are {known}.")

    def check_slices(
        self, columns: Collection[str], of_run: Collection[str], evaluated: Collection[str] = ()
    ) -> None:
        """Hold the slices of checks against a dataset and an experiment.

        Args:
            columns: the dataset's columns.
            of_run: the names of the scores of the run as a whole that are of a user's own code.
            evaluated: the columns by whose values these are evaluated: `slices` of the experiment.

        Raises:
            ConfigError: there is no such column, or nothing to slice.
        """
        for check in self.checks:
            if check.metric in of_run and not set(check.slices) <= set(evaluated):
                raise ConfigError(
                    f"gates: {check.metric} is a score of the run as a whole by code of your own, which is "
                    "evaluated with its run: name the columns to slice by in the experiment's slices, too."
                )
            for column in check.slices:
                if column not in columns:
                    raise ConfigError(
                        f"gates: the dataset has no column {column!r} to slice by; it has "
                        f"{', '.join(sorted(columns))}."
                    )

    def to_json(self) -> dict[str, Any]:
        """Write it as it is kept with a run."""
        return self.model_dump(mode="json", exclude_defaults=True)


def gates_of(value: Gates | Mapping[str, Any] | Sequence[Any]) -> Gates:
    """Read gates.

    Raises:
        ConfigError: they are not well written; every fault is named.
    """
    if isinstance(value, Gates):
        return value
    try:
        return Gates.model_validate(value)
    except ValidationError as error:
        said = [
            f"gates.{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors(include_url=False, include_input=False)[:20]
        ]
        raise ConfigError("\n".join(said)) from None


def default_gates(metrics: Sequence[str]) -> Gates:
    """Make the gates of two runs that nobody wrote any for: no metric may be worse."""
    return Gates(checks=tuple(Check(metric=name, no_regression=True) for name in metrics[:MOST_CHECKS]))
