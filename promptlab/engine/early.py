"""Evaluations that wait for a model, begun as soon as their case is answered.

A shard is scored once all of its cases are answered. Judges that wait for that have nothing to do until then,
and a whole shard's cases left when the last answer of a run is there.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from promptlab.domain.assets import Shard
from promptlab.domain.experiment import Metric
from promptlab.domain.results import Completion
from promptlab.engine.isolation import is_async
from promptlab.engine.job import Job, Row
from promptlab.engine.limits import models_of
from promptlab.engine.scored import Scored
from promptlab.engine.scoring import Told, fill_prompts, is_single, score_one
from promptlab.evaluators.base import Evaluator
from promptlab.models.retry import Postponed
from promptlab.results.table import Case


class Early:
    """Begins what evaluations of a shard's cases can be begun, while others are still being answered.

    Each score is recorded as it comes, as `score` does; whatever is left the evaluate step finds and does.
    With a budget nothing is begun: what scores need of it is kept back shard by shard. As the context of the
    infer step, it waits for what was begun.
    """

    def __init__(self, job: Job, shard: Shard) -> None:
        self._job, self._evaluators = job, list[tuple[Metric, Evaluator]]()
        if job.budget is None and not job.experiment.judged_ahead:
            self._evaluators = [bound for bound in job.bindings.evaluators if _waits(bound[1])]
        self._told = Told(job, shard.number, 0) if self._evaluators else None
        self._tasks: list[asyncio.Task[None]] = []
        self._left: list[Postponed] = []

    async def answered(self, row: Row, completion: Completion) -> None:
        """Begin to evaluate a case, whose answer is recorded."""
        if self._told is None or completion.error is not None:
            return
        scored = Scored(Case(row, completion, None), {}, 0)
        todo = scored.open(self._evaluators)
        await fill_prompts(self._job, [scored])
        scored.left = len(todo)
        for metric, evaluator in todo:
            one = score_one(self._job, scored, metric, evaluator, self._left, self._told)
            self._tasks.append(asyncio.create_task(one))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            for task in self._tasks:
                task.cancel()
        # Not a task group: a score that cannot be written ends no calls of the model, which are paid for.
        for found in await asyncio.gather(*self._tasks, return_exceptions=True):
            if error is None and found is not None:
                raise found


def _waits(evaluator: Evaluator) -> bool:
    """Whether an evaluator's time is spent in waiting for a model, as far as can be seen."""
    return is_single(evaluator) and (is_async(evaluator) or bool(models_of(evaluator)))
