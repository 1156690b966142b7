"""Sweeps of a hosted Studio."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from promptlab.adapters.http.assets import RemoteAssets
from promptlab.adapters.http.bodies import experiment_body
from promptlab.adapters.http.client import ApiClient
from promptlab.adapters.http.sending import send_code
from promptlab.domain.results import FINAL, HALTED, Progress, RunRecord
from promptlab.domain.sweeps import Sweep
from promptlab.errors import ConfigError, RunNotFoundError
from promptlab.experiments.matrix import SweepConfig
from promptlab.experiments.portable import check_portable
from promptlab.named_files import working_folder
from promptlab.queries.compared import margin_texts
from promptlab.queries.ranking import Ranking

POLL_S = 2.0
IDLE_LOOKS = 3
"""Looks at a sweep of which no run is under way, before it is taken for ended."""


class RemoteSweeping(ABC):
    """The sweeps of a lab over a Studio's API."""

    _api: ApiClient
    assets: RemoteAssets

    @abstractmethod
    async def get_run(self, run_id: str) -> RunRecord:
        """One run, as it is now."""

    @abstractmethod
    async def watch(self, run: RunRecord, on_progress: Callable[[Progress], None] | None = None) -> RunRecord:
        """The run once it has ended."""

    async def sweep(
        self,
        config: SweepConfig | Mapping[str, Any],
        *,
        folder: Path | None = None,
        on_sweep: Callable[[Sweep], None] | None = None,
        on_start: Callable[[RunRecord], None] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        leave: bool = False,
    ) -> Sweep:
        """Start all runs of a matrix there, and watch them to their ends.

        Raises:
            PromptLabError: a cell is wrong, or cannot be sent (nothing is sent then).
            asyncio.CancelledError: the caller stopped waiting; the runs go on.
        """
        sweep = await self.start_sweep(config, folder=folder)
        if on_sweep:
            on_sweep(sweep)
        return await self._watched(sweep, on_start, on_progress, leave)

    async def resume_sweep(
        self,
        sweep_id: str,
        *,
        max_cost_usd: float | None = None,
        on_sweep: Callable[[Sweep], None] | None = None,
        on_start: Callable[[RunRecord], None] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        leave: bool = False,
    ) -> Sweep:
        """Go on with a sweep there, from what is recorded of it, and watch its runs to their ends.

        Raises:
            SweepNotFoundError: there is no such sweep.
            ConfigError: the budget is no sum of dollars above 0.
            asyncio.CancelledError: the caller stopped waiting; the runs go on.
        """
        if max_cost_usd is not None and not 0 < max_cost_usd < math.inf:
            raise ConfigError(f"A sweep's budget is a sum of dollars above 0, not {max_cost_usd}.")
        # Before it goes on: a short run has begun and ended again before anybody looks.
        before = (await self.rank(sweep_id)).cells
        done = {cell.run_id for cell in before if cell.status in FINAL - HALTED}
        body = {} if max_cost_usd is None else {"max_cost_usd": max_cost_usd}
        sweep = Sweep.from_json(
            await self._api.json("POST", f"{_sweep(sweep_id)}/continue", json=body, repeatable=True)
        )
        if on_sweep:
            on_sweep(sweep)
        return await self._watched(sweep, on_start, on_progress, leave, done=done)

    async def _watched(
        self,
        sweep: Sweep,
        on_start: Callable[[RunRecord], None] | None,
        on_progress: Callable[[Progress], None] | None,
        leave: bool,
        *,
        done: Collection[str] = (),
    ) -> Sweep:
        """The sweep once its runs have ended; of those that were `done` before none is said to start."""
        for run_id in () if leave else sweep.run_ids:
            if (run := await self._begun(sweep.sweep_id, run_id)) is not None:
                if on_start and run_id not in done:
                    on_start(run)
                await self.watch(run, on_progress)
        return await self.get_sweep(sweep.sweep_id)

    async def _begun(self, sweep_id: str, run_id: str) -> RunRecord | None:
        """A run of a sweep once it has begun; None where it does not begin: it cannot, as its cell says, or
        the sweep has ended before it."""
        idle = 0
        while True:
            try:
                return await self.get_run(run_id)
            except RunNotFoundError:
                found = await self.rank(sweep_id)
            mine = next(cell for cell in found.cells if cell.run_id == run_id)
            # A Studio on somebody's machine begins one after the other: between two of them none runs.
            idle = 0 if any(cell.status == "running" for cell in found.cells) else idle + 1
            if mine.error or found.sweep.cancelled or idle > IDLE_LOOKS:
                return None
            await self._api.sleep(POLL_S)

    async def start_sweep(
        self, config: SweepConfig | Mapping[str, Any], *, folder: Path | None = None
    ) -> Sweep:
        """As `sweep`, but returns once the sweep is begun."""
        parsed = SweepConfig.parse(config)
        for cell in parsed.cells:
            check_portable(cell.config, where="a hosted Studio", variables=True, code=True)
        reference = await self.assets.reference(parsed.cells[0].config.dataset)
        cells = []
        for cell in parsed.cells:
            sent = await send_code(cell.config, self.assets, folder or working_folder() or Path())
            cells.append({"choices": dict(cell.choices), "experiment": experiment_body(sent, reference)})
        # The same cells are the same sweep there: a request that is sent again starts nothing twice.
        return Sweep.from_json(
            await self._api.json("POST", "/sweeps", json={"cells": cells}, repeatable=True)
        )

    async def get_sweep(self, sweep_id: str) -> Sweep:
        """One sweep.

        Raises:
            SweepNotFoundError: there is no such sweep.
        """
        return (await self.rank(sweep_id)).sweep

    async def list_sweeps(self, *, limit: int = 50) -> Sequence[Sweep]:
        """The sweeps, newest first."""
        return [Sweep.from_json(one) for one in (await self._api.get("/sweeps", limit=limit))["items"]]

    async def rank(
        self, sweep_id: str, *, metric: str | None = None, margins: Mapping[str, float] | None = None
    ) -> Ranking:
        """The runs of a sweep in their order.

        Raises:
            SweepNotFoundError: there is no such sweep.
            UnknownNameError: its runs have no such metric.
        """
        asked: dict[str, Any] = {} if metric is None else {"metric": metric}
        if margins:
            asked["margin"] = margin_texts(margins)
        return Ranking.from_json(await self._api.get(_sweep(sweep_id), **asked))

    async def cancel_sweep(self, sweep_id: str) -> Sweep:
        """Stop a sweep: no further run of it begins, and those under way are cancelled.

        Raises:
            SweepNotFoundError: there is no such sweep.
        """
        return Sweep.from_json(await self._api.json("POST", f"{_sweep(sweep_id)}/cancel"))


def _sweep(sweep_id: str) -> str:
    return f"/sweeps/{quote(sweep_id, safe='')}"
