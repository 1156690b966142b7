"""The draws of a user's metric of a run as a whole, kept for comparisons of runs."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson


@dataclass(frozen=True, slots=True)
class Draws:
    """How far the scores of drawn rows lie from the scores of all."""

    units: str
    """A hash of what was drawn from: where it is equal, so were the rows of each draw."""
    apart: Mapping[str, Sequence[float | None]]
    """By score; None where a draw has no score."""

    def packed(self) -> bytes:
        """Pack them for a blob."""
        return gzip.compress(orjson.dumps({"units": self.units, "apart": dict(self.apart)}), 6, mtime=0)

    @classmethod
    def unpacked(cls, data: bytes) -> Draws:
        """The inverse of `packed`."""
        found = orjson.loads(gzip.decompress(data))
        return cls(found["units"], found["apart"])

    def against(self, base: Draws) -> dict[str, list[float | None]]:
        """How far the difference of each pair of draws lies from the difference of the scores, by score."""
        return {
            name: [
                None if a is None or b is None else b - a
                for a, b in zip(base.apart[name], apart, strict=True)
            ]
            for name, apart in self.apart.items()
            if len(base.apart.get(name, ())) == len(apart)
        }
