"""The Records of one process: a laptop's sessions end with it, and whoever copies its store has none."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from promptlab.domain.records import Swap

_Name = tuple[str, str]


class MemoryRecords:
    """Records in memory."""

    def __init__(self) -> None:
        self._kept: dict[_Name, tuple[dict[str, Any], float]] = {}
        self._counts: dict[tuple[str, str], tuple[int, float]] = {}

    async def put_record(
        self,
        kind: str,
        key: str,
        value: Mapping[str, Any],
        *,
        expires_at: float | None = None,
        only_if_absent: bool = False,
    ) -> bool:
        now = time.time()
        self._kept = {name: kept for name, kept in self._kept.items() if kept[1] > now}
        if only_if_absent and (kind, key) in self._kept:
            return False
        self._kept[kind, key] = dict(value), math.inf if expires_at is None else expires_at
        return True

    async def get_record(self, kind: str, key: str) -> dict[str, Any] | None:
        value, expires_at = self._kept.get((kind, key), (None, 0.0))
        return value if expires_at > time.time() else None

    async def delete_record(self, kind: str, key: str) -> None:
        self._kept.pop((kind, key), None)

    async def swap_records(self, swaps: Sequence[Swap]) -> bool:
        # Nothing is awaited in between: nobody else gets a turn.
        now = time.time()
        for one in swaps:
            value, ends = self._kept.get((one.kind, one.key), (None, 0.0))
            if (value if ends > now else None) != one.was:
                return False
        for one in swaps:
            self._kept.pop((one.kind, one.key), None)
            if one.now is not None:
                ends = math.inf if one.expires_at is None else one.expires_at
                self._kept[one.kind, one.key] = dict(one.now), ends
        return True

    async def clear_records(self, kind: str) -> None:
        self._kept = {name: kept for name, kept in self._kept.items() if name[0] != kind}

    async def list_records(
        self, kind: str, *, newest: bool = False, after: str = "", limit: int = 100
    ) -> list[tuple[str, dict[str, Any]]]:
        now = time.time()
        found = [
            (name, value) for (of, name), (value, ends) in self._kept.items() if of == kind and ends > now
        ]
        beyond = [one for one in found if not after or (one[0] < after if newest else one[0] > after)]
        return sorted(beyond, key=lambda one: one[0], reverse=newest)[:limit]

    async def count_up(self, kind: str, key: str, *, by: int = 1, expires_at: float) -> tuple[int, float]:
        now = time.time()
        self._counts = {name: kept for name, kept in self._counts.items() if kept[1] > now}
        count, ends = self._counts.get((kind, key), (0, expires_at))
        self._counts[kind, key] = count + by, ends
        return count + by, ends
