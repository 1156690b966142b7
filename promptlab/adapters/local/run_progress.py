"""Counts what a run in this process has done, and tells whoever wants to know."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from promptlab.domain.masking import traceback_of
from promptlab.domain.results import Batched, Completion, Progress, RunRecord
from promptlab.domain.spending import summed
from promptlab.domain.summary import Summary
from promptlab.ports import Ledger

logger = logging.getLogger(__name__)

OnProgress = Callable[[Progress], None]


async def done_again(ledger: Ledger, run: RunRecord, before: Progress) -> int:
    """Count the failed cases that a pass does again: all of them, or those of the types that it was asked
    for, as the summaries of the shards have them."""
    if not run.redo_before == run.generation > 0:
        return 0
    if not run.redo_errors:
        return before.failed
    found = 0
    async for shard in ledger.shards(run.run_id):
        errors = Summary.from_json(shard.summary).errors
        found += sum(errors.get(kind, 0) for kind in dict.fromkeys(run.redo_errors))
    return min(found, before.failed)


class Counter:
    """Counts completions as they become durable, and tells whoever wants to know.

    Args:
        before: what is recorded.
        again: how many of the failures this pass does again (`done_again`).
        on_progress: who wants to know.
        slow_metrics: whether scores are told one by one.
    """

    def __init__(
        self, before: Progress, again: int, on_progress: OnProgress | None, *, slow_metrics: bool
    ) -> None:
        self._failed = False
        self.calls, self.tokens, self.answer_ms = 0, 0, 0.0
        # Failures that this pass does again are open again.
        self.now = replace(before, done=before.done - again, failed=before.failed - again)
        self._on_progress = on_progress
        self._scored: dict[int, int] = {}
        self._slow_metrics = slow_metrics
        self.tell()

    def count(self, completion: Completion) -> None:
        """Count one completion."""
        now = self.now
        self.calls += completion.attempts
        self.tokens += (completion.prompt_tokens or 0) + (completion.completion_tokens or 0)
        self.answer_ms += completion.latency_ms or 0.0
        self.now = replace(
            now,
            done=now.done + 1,
            failed=now.failed + (completion.error is not None),
            **summed(now, completion.spent),
        )
        self.tell()

    def wait_for(self, words: str | None) -> None:
        """Say why no call is made now; None once calls are made again."""
        if self.now.waiting != words:
            self.now = replace(self.now, waiting=words)
            self.tell()

    def set_batched(self, batched: Batched | None) -> None:
        """Set how far the provider's batches are."""
        if batched != self.now.batched:
            self.now = replace(self.now, batched=batched)
            self.tell()

    def begin_scoring(self, cases: int) -> None:
        """Set how many cases are scored in shards that are not worked on."""
        if self.now.scored is not None:
            self.now, self._scored = replace(self.now, scored=cases), {}

    def count_scored(self, shard: int, cases: int) -> None:
        """Count the scored cases of a shard, which may be begun again."""
        more = cases - self._scored.get(shard, 0)
        if more and self.now.scored is not None:
            self._scored[shard] = cases
            self.now = replace(self.now, scored=self.now.scored + more)
            # Those of fast metrics are told with the next case, if there is one.
            if self._slow_metrics or self.now.done >= self.now.total:
                self.tell()

    def tell(self) -> None:
        """Call on_progress; an error of it is logged, once, and costs the run nothing."""
        if self._on_progress is None:
            return
        try:
            self._on_progress(self.now)
        except BaseException as error:  # noqa: BLE001 - a user's code may raise anything; it is logged
            if not self._failed:
                logger.error("on_progress raised an error; the run goes on\n%s", traceback_of(error))
            self._failed = True
