"""The scores of a user's metric of the run as a whole over the rows of each slice, kept when the run is
summed up: code of a user's own is not run again for a gate or a page."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import orjson

from promptlab.results.run_draws import Draws


@dataclass(frozen=True, slots=True)
class OwnSlice:
    """The scores of one slice."""

    rows: int
    values: Mapping[str, float] = field(default_factory=dict)
    """By the evaluator's name of the score; one that is not there has none."""
    ends: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """The 95% intervals, where the metric has resamples."""
    error: str | None = None
    """Why there is no score."""
    units: str = ""
    """As of `Draws`; empty without any."""
    apart: Mapping[str, list[float | None]] = field(default_factory=dict)

    @property
    def draws(self) -> Draws | None:
        """The draws; None without any."""
        return Draws(self.units, self.apart) if self.apart else None


@dataclass(frozen=True, slots=True)
class OwnSlices:
    """The slices of a metric by column."""

    columns: Mapping[str, Mapping[str, OwnSlice]]
    """Column → the slice's name (`slice_of`) → its scores."""
    why: Mapping[str, str] = field(default_factory=dict)
    """Columns without slices, and why."""

    def packed(self) -> bytes:
        """Pack them for a blob."""
        return gzip.compress(orjson.dumps(asdict(self)), 6, mtime=0)

    @classmethod
    def unpacked(cls, data: bytes) -> OwnSlices:
        """The inverse of `packed`."""
        found = orjson.loads(gzip.decompress(data))
        columns = {
            column: {name: OwnSlice(**one) for name, one in by.items()}
            for column, by in found["columns"].items()
        }
        return cls(columns, found["why"])
