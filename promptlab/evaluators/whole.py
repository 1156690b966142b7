"""Runs a metric of a run where cases are scored: in a thread, a process or the sandbox, as one evaluation."""

from __future__ import annotations

import asyncio
import base64
import random
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import stdev
from typing import Any

import orjson

from promptlab.domain.results import Score
from promptlab.evaluators.base import Evaluator, to_score
from promptlab.evaluators.foreign import scores_of
from promptlab.evaluators.of_runs import RunCase, RunEvaluator
from promptlab.statistics import corrected_interval

MOST_BYTES = 64 << 20
"""Bytes of all cases that a metric of a user's own is given, as JSON."""


def packed(cases: Sequence[RunCase]) -> dict[str, Any]:
    """Pack cases into the inputs of one evaluation.

    Raises:
        ValueError: they are too large.
    """
    plain = orjson.dumps(
        [[case.row, case.trial, dict(case)] for case in cases],
        option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS,
    )
    if len(plain) > MOST_BYTES:
        raise ValueError(
            f"the mapped inputs of {len(cases):,} cases have {len(plain):,} bytes; a metric of the whole run "
            f"is given {MOST_BYTES:,} at most: map fewer inputs, or take less out of the answer with extract"
        )
    return {"cases": base64.b64encode(zlib.compress(plain, 1)).decode()}


def _unpacked(data: Mapping[str, Any]) -> list[RunCase]:
    found = orjson.loads(zlib.decompress(base64.b64decode(data["cases"])))
    return [RunCase(given, row, trial) for row, trial, given in found]


class WholeRun(Evaluator):
    """A metric of a run, as an evaluator of packed cases whose one score's metadata has what came of it.

    Args:
        evaluator: the metric.
        parts: the names of its scores; none where it gives one.
    """

    def __init__(self, evaluator: RunEvaluator, parts: Sequence[str] = ()) -> None:
        self._evaluator, self._parts = evaluator, tuple(parts)

    def evaluate(self, data: dict[str, Any]) -> Score:
        """Score the cases, and then rows that are drawn of them, as often as the metric says."""
        cases = _unpacked(data)
        found = self._scores(cases)
        ends = self._ends(cases, {n: s.value for n, s in found.items() if s.value is not None})
        return Score(metadata={"scores": {name: asdict(s) for name, s in found.items()}, "ends": ends})

    def _scores(self, cases: Sequence[RunCase]) -> dict[str, Score]:
        verdict: Any = self._evaluator.evaluate(cases)
        if asyncio.iscoroutine(verdict):
            verdict = asyncio.run(verdict)
        return scores_of(verdict, self._parts) if self._parts else {"": to_score(verdict)}

    def _ends(self, cases: Sequence[RunCase], given: Mapping[str, float]) -> dict[str, list[float]]:
        """Low, high and standard error of each score, by name, over drawn rows."""
        many = int(getattr(self._evaluator, "resamples", 0))
        rows: dict[int, list[RunCase]] = {}
        for case in cases:
            rows.setdefault(case.row, []).append(case)
        if many < 2 or len(rows) < 2 or not given:
            return {}
        drawn, units, values = random.Random(0), list(rows.values()), {name: list[float]() for name in given}
        for _ in range(many):
            sample = [case for unit in drawn.choices(units, k=len(units)) for case in unit]
            for name, score in self._scores(sample).items():
                if name in values and score.value is not None:
                    values[name].append(score.value)
        return {n: _ends_of(given[n], v) for n, v in values.items() if len(v) >= 0.95 * many}


def _ends_of(estimate: float, values: list[float]) -> list[float]:
    return [*corrected_interval(estimate, values), stdev(values)]
