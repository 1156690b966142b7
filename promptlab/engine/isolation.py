"""Decides which evaluators run in processes of their own."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from promptlab.domain.experiment import Metric
from promptlab.domain.results import described
from promptlab.engine.limits import models_of
from promptlab.engine.processes import SANDBOX, Processes, Recipe
from promptlab.errors import ConfigError
from promptlab.evaluators.base import Evaluator
from promptlab.threads import Threads

if TYPE_CHECKING:
    from promptlab.engine.sandboxed import SandboxPool

HEAVY_S = 0.002
"""Processor time of a case from which on an object is moved: handing a case over takes a twentieth of it.
From 0.05 on only, 10,000 cases of 5 ms kept to one core, for 50 s and more."""
HEAVY_TOTAL_S = 0.5
"""Processor time after which that is looked at: what is over by then gains nothing from a start of 0.3 s."""
MOST_BYTES = 64 << 20
"""The largest object that is sent without being asked for."""

logger = logging.getLogger(__name__)


def is_async(evaluator: Evaluator) -> bool:
    """Whether an evaluator runs on the event loop."""
    return inspect.iscoroutinefunction(evaluator.evaluate)


def by_value(metric: str, evaluator: Evaluator) -> Recipe:
    """The recipe that is the object itself.

    Raises:
        ConfigError: it has something in it that cannot leave this process.
    """
    try:
        return Recipe(metric, "cloudpickle:loads", _pickled(evaluator))
    except Exception as error:
        raise ConfigError(
            f"metric {metric!r} is to be isolated, and its evaluator cannot be sent to a process: "
            f"{described(error)}. Let it make what cannot be sent when it is first needed, name its class "
            "(evaluator: 'path/to/file.py:Class' with params), or leave `isolated` out."
        ) from error


def _pickled(evaluator: Evaluator) -> bytes:
    import cloudpickle

    data: bytes = cloudpickle.dumps(evaluator)
    return data


@dataclass(slots=True)
class _Measured:
    """What an object's evaluations in threads took so far."""

    calls: int = 0
    cpu_s: float = 0.0
    pickled: bytes | None = None
    """The object as it was when it was first found to be heavy."""


class Isolation:
    """Where the evaluators of one run run: those given by name in processes, objects in threads until they
    are found to compute for long, what calls models in this process; and as the metric's `isolated` says."""

    def __init__(
        self,
        recipes: Mapping[str, Recipe],
        processes: Processes | None,
        sandbox: SandboxPool | None = None,
        *,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        """Begin with what is known before the first case.

        Args:
            recipes: how processes make the evaluators that were given by name or are to be isolated.
            processes: where; None where there are none.
            sandbox: where code runs that the lab keeps; None where none does.
            most_bytes: the largest object that is sent without being asked for.
        """
        self.processes, self.sandbox, self._most_bytes = processes, sandbox, most_bytes
        self._recipes: dict[str, Recipe | None] = dict(recipes)
        self._candidates: dict[str, _Measured | None] = {}

    def recipe(self, metric: Metric, evaluator: Evaluator) -> Recipe | None:
        """How a process makes the evaluator; None for one that runs in this process."""
        kept = self._recipes.get(metric.name)
        if kept is not None and kept.function == SANDBOX:
            return kept if self.sandbox else None
        if self.processes is None or metric.isolated is False:
            return None
        if metric.isolated is None and metric.name not in self._candidates:
            movable = not (is_async(evaluator) or metric.needs_embedding or list(models_of(evaluator)))
            if not movable:
                self._recipes[metric.name] = None
            known = metric.name in self._recipes
            self._candidates[metric.name] = None if known else _Measured()
        return self._recipes.get(metric.name)

    def place(self, recipe: Recipe) -> Processes | SandboxPool:
        """Where a recipe is made."""
        place = self.sandbox if recipe.function == SANDBOX else self.processes
        assert place is not None
        return place

    def stop(self) -> None:
        """Begin with no further case there; those under way go on."""
        for place in (self.processes, self.sandbox):
            if place is not None:
                place.stop()

    async def close(self) -> None:
        """End all that works there."""
        for place in (self.processes, self.sandbox):
            if place is not None:
                await place.close()

    def stay(self, metric: Metric, why: str | None = None) -> None:
        """Have a metric's further cases evaluated in this process."""
        recipe, self._recipes[metric.name] = self._recipes.get(metric.name), None
        if recipe is None or self.processes is None:
            return
        if why:
            logger.warning("%s runs in this process: %s", metric.name, why)
        self.processes.withdraw(recipe)

    async def measured(self, metric: Metric, evaluator: Evaluator, cpu_s: float, threads: Threads) -> None:
        """Count an evaluation in a thread, and move the evaluator if such are heavy. An object that changes
        from one case to the next stays: its state would be that of several processes."""
        found = self._candidates.get(metric.name)
        if found is None:
            return
        found.calls, found.cpu_s = found.calls + 1, found.cpu_s + cpu_s
        if found.cpu_s < HEAVY_TOTAL_S or found.cpu_s < HEAVY_S * found.calls:
            return
        each_ms = 1000 * found.cpu_s / found.calls
        self._candidates[metric.name] = None  # while it is looked at
        stays = f"{metric.name} takes {each_ms:.0f} ms of processor time a case and keeps to one core"
        try:
            data = await threads.call(lambda: _pickled(evaluator))
        except Exception as error:  # noqa: BLE001 - pickling runs a user's code, and fails in any way
            logger.warning("%s: it cannot be sent to other processes: %s", stays, described(error))
            return
        if found.pickled is None:
            found.pickled = data
            self._candidates[metric.name] = found  # the next case tells whether it changes
        elif data != found.pickled:
            logger.warning("%s: it changes from case to case (isolated: true sends it all the same)", stays)
        elif len(data) <= self._most_bytes:
            logger.info(
                "%s takes %.0f ms of processor time a case: it goes on in processes", metric.name, each_ms
            )
            recipe = Recipe(metric.name, "cloudpickle:loads", data)
            if self.processes is not None:
                self.processes.expect(recipe, each_ms / 1000)
            self._recipes[metric.name] = recipe
