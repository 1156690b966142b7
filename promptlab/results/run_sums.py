"""The sums of rows that metrics of a run as a whole are made of, kept for comparisons of runs."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from promptlab.domain.experiment import RunMetricSpec
from promptlab.evaluators.of_runs import add_to

MOST_UNITS = 2_000
"""RowSums whose sums are kept: beyond, rows are put together by a hash of their ids, into as many blocks. The
standard error of a mean is then within 1.6% of the one over rows, as resampling as many rows would give."""


@dataclass(slots=True)
class RowSums:
    """The sums of rows, or of clusters of rows; beyond MOST_UNITS of blocks of them."""

    units: dict[str, dict[str, float]] = field(default_factory=dict)
    blocks: bool = False

    def add(self, name: str, more: Mapping[str, float]) -> None:
        """Add to the unit of a row, by the row's id, or of a cluster by its value."""
        self.add_key(unit_key(name), more)

    def add_key(self, key: str, more: Mapping[str, float]) -> None:
        """Add to the unit of a row or a cluster, by its key."""
        self.put(block_of(key) if self.blocks else key, more)
        if not self.blocks and len(self.units) > MOST_UNITS:
            before, self.units, self.blocks = self.units, {}, True
            for one, sums in before.items():
                self.put(block_of(one), sums)

    def put(self, key: str, more: Mapping[str, float]) -> None:
        """Add to a unit by its key."""
        add_to(self.units.setdefault(key, {}), more)

    def packed(self) -> bytes:
        """Pack them for a blob."""
        return gzip.compress(orjson.dumps({"blocks": self.blocks, "units": self.units}), 6, mtime=0)

    @classmethod
    def unpacked(cls, data: bytes) -> RowSums:
        """The inverse of `packed`."""
        found = orjson.loads(gzip.decompress(data))
        return cls(found["units"], found["blocks"])

    def in_blocks(self) -> RowSums:
        """The same in blocks, as those of another run are."""
        if self.blocks:
            return self
        made = RowSums(blocks=True)
        for name, sums in self.units.items():
            made.put(block_of(name), sums)
        return made


def unit_key(name: str) -> str:
    """Name a row, or a cluster of rows, by a hash of its id or value."""
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def block_of(key: str) -> str:
    """Name the block that a unit falls into: that of the same unit of another run is the same."""
    return str(int(key, 16) % MOST_UNITS)


def names_of(spec: RunMetricSpec) -> list[tuple[str, str, bool]]:
    """The scores of a metric: what each is called in results, by the evaluator, and whether higher is
    better."""
    if not spec.scores:
        return [(spec.name, "", spec.higher_is_better)]
    return [(f"{spec.name}.{s}", s, spec.better.get(s, spec.higher_is_better)) for s in spec.scores]
