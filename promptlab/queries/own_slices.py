"""Slices of metrics of the run as a whole by code of a user's own: as they were evaluated with their run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from promptlab.domain.run_metrics import RunMetric
from promptlab.errors import BlobNotFoundError
from promptlab.gates.judging import GatedScore
from promptlab.ports import Blobs
from promptlab.queries.run_level import Side, paired_draws, tested, why_not_comparable
from promptlab.results.own_slices import OwnSlice, OwnSlices
from promptlab.results.run_sums import names_of
from promptlab.statistics import Bootstrapped, Interval

NOT_EVALUATED = (
    "it is code of your own, which is evaluated with its run: name the column in the experiment's `slices`"
)
NO_PAIRS = "an interval needs `resamples` of the metric, draws that vary, and the same rows in both runs"


@dataclass(frozen=True, slots=True)
class OwnScores:
    """The slices of one metric of a run by a column, and against a base run's."""

    side: Side
    slices: Mapping[str, OwnSlice]
    base: Mapping[str, OwnSlice] | None
    different: str | None

    def scores(self) -> list[tuple[str, GatedScore]]:
        """Give each score of each slice, with the slice's name."""
        return [
            (name, self._score(score, own, higher, part, (self.base or {}).get(name)))
            for name, part in self.slices.items()
            for score, own, higher in names_of(self.side.spec)
        ]

    def _score(
        self, score: str, own: str, higher: bool, part: OwnSlice, before: OwnSlice | None
    ) -> GatedScore:
        value, ends = part.values.get(own), part.ends.get(own)
        other = None if before is None else before.values.get(own)
        known: dict[str, Any] = {"not_comparable": self.different}
        if value is not None and other is not None and before is not None:
            known["difference"] = value - other
            drawn = None if self.different else self._paired(part, before, own)
            if drawn is None:
                known["why"] = NO_PAIRS
            else:
                test = tested(value - other, drawn)
                known |= {"ends": Interval(test.low, test.high), "p": test.p}
        return GatedScore(
            metric=score,
            rows=part.rows,
            value=value,
            interval=None if ends is None else Interval(*ends),
            error=part.error,
            higher_is_better=higher,
            compared=before is not None,
            **known,
        )

    def _paired(self, part: OwnSlice, before: OwnSlice, own: str) -> Bootstrapped | None:
        """The interval of a difference by the draws of both: pairs where their rows are the same."""
        ours, theirs = part.draws, before.draws
        if ours is None or theirs is None or ours.units != theirs.units:
            return None
        return paired_draws([before.values, part.values], theirs, ours, self.side.spec, part.rows).get(own)


async def own_scores(blobs: Blobs, side: Side, base: Side | None, column: str) -> OwnScores | str:
    """Read the slices of a metric by a column; where there are none, say why.

    Args:
        blobs: where they are.
        side: the metric of the run.
        base: that of the base run; None without one.
        column: of the dataset.
    """
    found = await _read(blobs, side.metric, column)
    if isinstance(found, str):
        return found
    before = None if base is None else await _read(blobs, base.metric, column)
    return OwnScores(
        side,
        found,
        None if isinstance(before, str) else before,
        None if base is None else why_not_comparable(base, side),
    )


async def _read(blobs: Blobs, metric: RunMetric, column: str) -> Mapping[str, OwnSlice] | str:
    if metric.by_slice is None:
        return NOT_EVALUATED
    try:
        found = OwnSlices.unpacked(await blobs.get(metric.by_slice))
    except BlobNotFoundError as error:
        return str(error)
    return found.columns.get(column, found.why.get(column, NOT_EVALUATED))
