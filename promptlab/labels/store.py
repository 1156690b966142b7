"""The labels of people on cases, as records of the ledger."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

from promptlab.domain.labels import CaseLabel, checked_case_label
from promptlab.domain.records import CASE_LABEL, SWAPS, Swap
from promptlab.domain.results import CaseKey
from promptlab.errors import RunError
from promptlab.ports import Records

PAGE = 1_000
_TRIES = 20
"""How often a change is tried again that somebody else's was faster than."""


class CaseLabels:
    """The labels of one store. The key of each begins with its run and case, so that those of a run are one
    range of keys, in the order of its cases."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def put(self, run_id: str, labels: Sequence[CaseLabel]) -> int:
        """Keep labels; one by the same rater on the same case and metric is replaced, and kept as history.

        Args:
            run_id: the run.
            labels: with their raters and times.

        Returns:
            How many say something else than before.

        Raises:
            ConfigError: one says nothing, or cannot be kept; none is then.
        """
        checked = {_key(run_id, label): label for label in map(checked_case_label, labels)}
        keys, changed = list(checked), 0
        for start in range(0, len(keys), SWAPS):
            changed += await self._put(checked, keys[start : start + SWAPS])
        return changed

    async def _put(self, labels: dict[str, CaseLabel], keys: Sequence[str]) -> int:
        for _ in range(_TRIES):
            found = await asyncio.gather(*(self._records.get_record(CASE_LABEL, key) for key in keys))
            swaps = []
            for key, was in zip(keys, found, strict=True):
                before = CaseLabel.from_json(was) if was is not None else None
                label = labels[key]
                if before is not None and before.said == label.said:
                    continue
                swaps.append(Swap(CASE_LABEL, key, was, label.after(before).to_json()))
            if not swaps or await self._records.swap_records(swaps):
                return len(swaps)
        raise RunError("These labels are changed by others all the time: try again.")

    async def of(self, run_id: str) -> list[CaseLabel]:
        """Read all labels of a run, by case and trial."""
        return [label async for _, label in self._within(f"{run_id}/")]

    async def page(
        self, run_id: str, *, after: CaseKey | None = None, limit: int = 500
    ) -> tuple[list[CaseLabel], CaseKey | None]:
        """Read labels of at least one case and at most about `limit` of them, of the cases beyond one; and
        where the next page goes on, or None. No case is divided between two pages."""
        found: list[CaseLabel] = []
        begin = f"{run_id}/" if after is None else f"{run_id}/{_place(after)}/~"
        async for _, label in self._within(f"{run_id}/", begin):
            if len(found) >= limit and label.key != found[-1].key:
                return found, found[-1].key
            found.append(label)
        return found, None

    async def at(self, run_id: str, key: CaseKey) -> list[CaseLabel]:
        """Read the labels of one case."""
        return [label async for _, label in self._within(f"{run_id}/{_place(key)}/", page=50)]

    async def has_any(self, run_id: str) -> bool:
        """Whether somebody labelled a case of the run."""
        async for _ in self._within(f"{run_id}/", page=1):
            return True
        return False

    async def remove(self, run_id: str, label: CaseLabel) -> bool:
        """Remove one label, with its history; False where there is none. Its case, metric and rater count."""
        key = _key(run_id, label)
        there = await self._records.get_record(CASE_LABEL, key) is not None
        await self._records.delete_record(CASE_LABEL, key)
        return there

    async def forget(self, run_id: str) -> None:
        """Remove all labels of a run, which is being deleted."""
        await self._delete([key async for key, _ in self._within(f"{run_id}/", raw=True)])

    async def forget_rater(self, rater: str, run_id: str | None = None) -> int:
        """Remove all labels of one rater, with their history: of one run, or of all; and count them."""
        prefix = f"{run_id}/" if run_id else ""
        found = [key async for key, label in self._within(prefix) if label.rater == rater]
        await self._delete(found)
        return len(found)

    async def rename_rater(self, rater: str, to: str, called: str) -> int:
        """Put another id and name in the place of a rater's, everywhere; and count what was changed."""
        found = [(key, label) async for key, label in self._within("") if rater in (label.rater, label.by)]
        for key, label in found:
            run_id = key.partition("/")[0]
            was = label.to_json()
            if label.rater == rater:
                label = replace(label, rater=to, rater_name=called)
            if label.by == rater:
                label = replace(label, by=to)
            now = _key(run_id, label)
            if now == key:
                await self._records.swap_records([Swap(CASE_LABEL, key, was, label.to_json())])
                continue
            there = await self._records.get_record(CASE_LABEL, now)
            await self._records.swap_records(
                [Swap(CASE_LABEL, key, was, None), Swap(CASE_LABEL, now, there, label.to_json())]
            )
        return len(found)

    async def _delete(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), SWAPS):
            some = keys[start : start + SWAPS]
            await asyncio.gather(*(self._records.delete_record(CASE_LABEL, key) for key in some))

    async def _within(
        self, prefix: str, after: str = "", *, page: int = PAGE, raw: bool = False
    ) -> AsyncIterator[tuple[str, Any]]:
        after = after or prefix
        while True:
            found = await self._records.list_records(CASE_LABEL, after=after, limit=page)
            for key, value in found:
                if not key.startswith(prefix):
                    return
                yield key, value if raw else CaseLabel.from_json(value)
            if len(found) < page:
                return
            after = found[-1][0]


def _place(key: CaseKey) -> str:
    return f"{key.case:09d}/{key.trial:06d}"


def _key(run_id: str, label: CaseLabel) -> str:
    # Raters and metrics are called anything: their hash is as long as a key may be, and names nobody.
    who = hashlib.sha256(f"{label.metric}\0{label.rater}".encode()).hexdigest()[:24]
    return f"{run_id}/{_place(label.key)}/{who}"
