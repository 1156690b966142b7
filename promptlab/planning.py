"""Before one pays: how many cases a difference needs, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from promptlab.domain.results import RunRecord
from promptlab.domain.summary import Summary
from promptlab.errors import ConfigError, UnknownNameError
from promptlab.lab import Lab
from promptlab.statistics import (
    DISCORDANT,
    POWER,
    detectable_mean,
    detectable_share,
    rows_for_mean,
    rows_for_share,
)

SURE = (0.5, 0.9, 0.95)
"""Further powers that are shown beside the usual one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """Rows that a difference needs, and the difference that some rows show."""

    difference: float
    kind: str
    """`share`: of pass/fail; `mean`: of numbers."""
    spread: float
    """ψ, the share of rows in which the two runs differ; or the standard deviation of the differences."""
    source: str
    """Where that is from, in words."""
    rows: int | None
    """Rows that show the difference with 80% power; None where no number of rows can (|δ| > ψ)."""
    rows_by_power: dict[str, int | None]
    """The same for other powers."""
    have: int | None = None
    """Rows that the comparison has."""
    detectable: float | None = None
    """The smallest difference that `have` rows show with 80% power."""
    trials: int = 1
    usd_a_case: float | None = None
    """Dollars of a case of the other run; None where nobody knows."""
    usd: float | None = None
    """Dollars for one run over `rows`."""
    metric: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Write it as `GET /api/v1/power` gives it."""
        return asdict(self)


def guessed(difference: float, discordant: float = DISCORDANT, *, deviation: float | None = None) -> Power:
    """Plan without a comparison.

    Args:
        difference: δ, above 0.
        discordant: ψ of pass/fail, a guess.
        deviation: of numbers: the standard deviation of the paired differences.

    Raises:
        ConfigError: a number is none that makes sense.
    """
    _check(difference)
    if deviation is not None:
        if not (math.isfinite(deviation) and deviation > 0):
            raise ConfigError(f"deviation {deviation}: the standard deviation of differences is above 0")
        return _planned(difference, "mean", deviation, "your guess")
    if not 0 < discordant <= 1:
        raise ConfigError(f"discordance {discordant}: the share of rows that differ is above 0 and at most 1")
    said = "the default guess" if discordant == DISCORDANT else "your guess"
    return _planned(difference, "share", discordant, said)


async def power(lab: Lab, run_ids: Sequence[str], difference: float, *, metric: str | None = None) -> Power:
    """Plan by the last comparison: how often its two runs differ, and what a case cost.

    Args:
        lab: where the runs are.
        run_ids: the base, and the other run.
        difference: δ, above 0, in the metric's units.
        metric: the metric; the first one that both runs have by default.

    Raises:
        RunNotFoundError: there is no such run.
        RunError: a run has no results yet.
        UnknownNameError: the runs share no such metric.
        ConfigError: the difference is no number above 0, or the runs show too little.
    """
    _check(difference)
    page = await lab.compare(list(run_ids), limit=1)
    found = [m for m in page.metrics if metric is None or m.metric == metric]
    if not found:
        raise UnknownNameError("metric of both runs", metric or "", {m.metric for m in page.metrics})
    chosen = next((m for m in found if not m.fact), found[0])
    judgement = chosen.judgement
    if judgement.n < 2 or judgement.stderr is None:
        raise ConfigError(
            f"{chosen.metric}: {judgement.n:,} rows of both runs say nothing of how often they differ; guess "
            "it: --discordance."
        )
    base, other = [await lab.get_run(run_id) for run_id in run_ids]
    n = judgement.n
    if judgement.method == "tango":
        kind, spread = "share", min(1.0, (judgement.wins + judgement.losses + 2) / (n + 2))
    else:
        kind, spread = "mean", judgement.stderr * math.sqrt(n)
    source = f"run {base.run_id} against run {other.run_id}"
    return _planned(difference, kind, spread, source, metric=chosen.metric, have=n, run=other)


async def planned(
    lab: Lab,
    run_ids: Sequence[str],
    difference: float,
    *,
    metric: str | None = None,
    discordance: float | None = None,
    deviation: float | None = None,
) -> Power:
    """Plan by two runs, or by a guess.

    Raises:
        PromptLabError: as of `power` and `guessed`; also where there are neither two runs nor none, or runs
            and a guess.
    """
    if len(run_ids) not in (0, 2):
        raise ConfigError(f"A plan is by two runs, the base first, or by none, not by {len(run_ids)}.")
    if run_ids:
        if discordance is not None or deviation is not None:
            raise ConfigError("discordance and deviation are guesses: two runs say what they were.")
        return await power(lab, run_ids, difference, metric=metric)
    if metric is not None:
        raise ConfigError("metric is one of two runs: name them.")
    if discordance is not None and deviation is not None:
        raise ConfigError("discordance is of pass/fail, deviation of numbers: give one.")
    return guessed(difference, DISCORDANT if discordance is None else discordance, deviation=deviation)


def _check(difference: float) -> None:
    if not (math.isfinite(difference) and difference > 0):
        raise ConfigError(f"difference {difference}: it must be a number above 0, as in 0.05")


def _planned(
    difference: float,
    kind: str,
    spread: float,
    source: str,
    *,
    metric: str | None = None,
    have: int | None = None,
    run: RunRecord | None = None,
) -> Power:
    def rows(power: float) -> int | None:
        if kind == "share":
            return rows_for_share(difference, spread, power=power)
        return rows_for_mean(difference, spread, power=power)

    needed = rows(POWER)
    trials, usd = _case_cost(run) if run is not None else (1, None)
    seen = None
    if have is not None:
        seen = detectable_share(have, spread) if kind == "share" else detectable_mean(have, spread)
    return Power(
        difference=difference,
        kind=kind,
        spread=spread,
        source=source,
        rows=needed,
        rows_by_power={f"{p:g}": rows(p) for p in SURE},
        have=have,
        detectable=seen,
        trials=trials,
        usd_a_case=usd,
        usd=usd * trials * needed if usd is not None and needed is not None else None,
        metric=metric,
    )


def _case_cost(run: RunRecord) -> tuple[int, float | None]:
    """Trials of a row, and dollars of a case with its metrics' own calls."""
    trials = int(run.experiment.get("trials", 1))
    summary = Summary.from_json(run.summary) if run.summary else None
    if summary is None or summary.cost_usd is None or summary.unknown_cost or not summary.cases:
        return trials, None
    judged = summary.metrics_usage.cost_usd if summary.metrics_usage.calls else 0.0
    paid = summary.cases - summary.cached
    if judged is None or paid < 1:
        return trials, None
    return trials, (summary.cost_usd + judged) / paid


def power_lines(found: Power) -> list[str]:
    """Say a plan, for people."""
    from promptlab.report import dollars

    per = "of pass/fail" if found.kind == "share" else ""
    name = f" of {found.metric}" if found.metric else ""
    if found.kind == "share":
        spread = f"the runs differ in {found.spread:.1%} of the rows"
    else:
        spread = f"differences have a standard deviation of {found.spread:.4g}"
    lines = []
    if found.rows is None:
        lines.append(
            f"No number of rows shows a difference of {found.difference:g}{name}: it is greater than the "
            f"share of rows that differ, {found.spread:.3g} ({found.source})."
        )
        return lines
    words = " ".join(filter(None, ("a difference", per, f"of {found.difference:g}{name}")))
    lines.append(f"{found.rows:,} rows show {words} with 80% power; {spread} ({found.source}).")
    others = ", ".join(
        f"{rows:,} with {float(p):.0%}" for p, rows in found.rows_by_power.items() if rows is not None
    )
    lines.append(f"{others[0].upper()}{others[1:]}.")
    if found.have is not None and found.detectable is not None:
        lines.append(f"The {found.have:,} rows that there are show {found.detectable:.3g}.")
    if found.usd is not None and found.usd_a_case is not None:
        lines.append(
            f"One run over {found.rows:,} rows costs about {dollars(found.usd, 2)}: "
            f"{dollars(found.usd_a_case)} a case."
        )
    elif found.have is not None:
        lines.append("What a case costs is not known.")
    return lines
