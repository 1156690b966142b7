"""The summary of a run that has none yet."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from promptlab.domain.results import RunRecord
from promptlab.domain.summary import Summary
from promptlab.ports import Ledger
from promptlab.results.so_far import added_up, recorded

_KEPT = 16
"""Stopped runs whose sum is remembered."""
_Key = tuple[str | int | None, ...]


class Summaries:
    """The sums of runs that go on or were stopped; used on one event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._stopped: OrderedDict[_Key, asyncio.Task[Summary]] = OrderedDict()

    async def of(self, run: RunRecord, *, active: bool) -> Summary:
        """The sum of a run's finished shards; `active` while somebody works on it.

        Raises:
            StoreDamagedError: the summary of a shard cannot be read.
        """
        if active:
            return await recorded(self._ledger, run) or await added_up(self._ledger, run)
        # Nothing of it changes before its next pass. Many may ask, and one adds up.
        key = (run.run_id, run.created_at, run.generation, run.finished_at)
        task = self._stopped.get(key)
        if task is None:
            task = self._stopped[key] = asyncio.create_task(added_up(self._ledger, run))
        self._stopped.move_to_end(key)
        while len(self._stopped) > _KEPT:
            self._stopped.popitem(last=False)
        try:
            return Summary.from_json((await asyncio.shield(task)).to_json())
        except Exception:
            self._stopped.pop(key, None)
            raise

    def forget(self, run_id: str) -> None:
        """Drop what is remembered of a run."""
        for key in [key for key in self._stopped if key[0] == run_id]:
            self._stopped.pop(key).cancel()

    async def close(self) -> None:
        """Stop what is still added up."""
        tasks, self._stopped = list(self._stopped.values()), OrderedDict()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
