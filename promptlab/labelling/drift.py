"""Whether a judge changed between two runs: what it makes of the same answers."""

from __future__ import annotations

from collections.abc import Sequence

from promptlab.domain.experiment import Metric
from promptlab.labelling.judged import Judged
from promptlab.labelling.values import Drift
from promptlab.statistics import judge, paired_data


def drift_of(
    metric: Metric,
    run_ids: tuple[str, str],
    pairs: Sequence[tuple[float, float]],
    judged: tuple[Judged, Judged],
) -> Drift:
    """Judge the differences of a metric over rows with byte-identical answers: whatever they are, they are
    the judge's.

    Args:
        metric: the base's.
        run_ids: the base, the other.
        pairs: of each such row the base's score and the other's.
        judged: who judged either.
    """
    prints = tuple(tuple(sorted(one.counts)) for one in judged)
    bounds = metric.bounds
    if bounds is not None and any(not bounds[0] <= value <= bounds[1] for pair in pairs for value in pair):
        bounds = None
    data = paired_data(
        [a for a, _ in pairs], [b for _, b in pairs], bounds=bounds, higher_is_better=metric.higher_is_better
    )
    (found,) = judge([data])
    low, high = found.ci_low, found.ci_high
    drifted = low is not None and high is not None and not low <= 0 <= high
    return Drift(
        metric=metric.name,
        base_run_id=run_ids[0],
        run_id=run_ids[1],
        fingerprints=prints,  # type: ignore[arg-type]
        pairs=found.n,
        difference=found.difference,
        ci_low=low,
        ci_high=high,
        method=found.method,
        drifted=drifted,
        words=_words(found.n, found.difference, low, high, prints[0] == prints[1], drifted),
    )


def _words(
    n: int, difference: float | None, low: float | None, high: float | None, same: bool, drifted: bool
) -> str:
    who = "the same judge" if same else "another judge: its fingerprint differs"
    if not n:
        return f"{who}; no answer is the same in both runs, so that drift cannot be told"
    if low is None or high is None or difference is None:
        return f"{who}; {n} answers are the same in both runs: too few to tell"
    said = f"{difference:+.4f} ({low:+.4f} … {high:+.4f}) on {n:,} answers that are the same in both runs"
    if drifted:
        return f"{who}; the judge changed by {said}: score one of the runs again"
    return f"{who}; no drift is seen: {said}"
