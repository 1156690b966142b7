"""Runs a metric of a run where cases are scored: in a thread, a process or the sandbox, as one evaluation."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import orjson

from promptlab.domain.results import Score
from promptlab.evaluators.base import Evaluator, to_score
from promptlab.evaluators.foreign import scores_of
from promptlab.evaluators.of_runs import RunCase, RunEvaluator

MOST_BYTES = 64 << 20
"""Bytes of all cases that a metric of a user's own is given, as JSON."""
MOST_DRAWN = 4_000
"""Values of draws that are kept, over all scores: they travel in the metadata of one, which has a bound."""

Unit = tuple[str, RunCase]
"""A case, and the name of the row or of the cluster of rows that it is drawn with."""


def packed(cases: Sequence[Unit]) -> dict[str, Any]:
    """Pack cases into the inputs of one evaluation.

    Raises:
        ValueError: they are too large.
    """
    plain = orjson.dumps(
        [[unit, case.row, case.trial, dict(case)] for unit, case in cases],
        option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS,
    )
    if len(plain) > MOST_BYTES:
        raise ValueError(
            f"the mapped inputs of {len(cases):,} cases have {len(plain):,} bytes; a metric of the whole run "
            f"is given {MOST_BYTES:,} at most: map fewer inputs, or take less out of the answer with extract"
        )
    return {"cases": base64.b64encode(zlib.compress(plain, 1)).decode()}


def _unpacked(data: Mapping[str, Any]) -> list[Unit]:
    found = orjson.loads(zlib.decompress(base64.b64decode(data["cases"])))
    return [(unit, RunCase(given, row, trial)) for unit, row, trial, given in found]


class WholeRun(Evaluator):
    """A metric of a run, as an evaluator of packed cases whose one score's metadata has what came of it.

    Args:
        evaluator: the metric.
        parts: the names of its scores; none where it gives one.
    """

    def __init__(self, evaluator: RunEvaluator, parts: Sequence[str] = ()) -> None:
        self._evaluator, self._parts = evaluator, tuple(parts)

    def evaluate(self, data: dict[str, Any]) -> Score:
        """Score the cases, and then rows that are drawn of them, as often as the metric says.

        The metadata has `scores`; `ends`, the interval and the standard error of each by name; `drawn`, how
        far each draw lies from the score, and `units`, a hash of what was drawn from: equal rows are drawn
        equally, so that the draws of two runs are pairs.
        """
        from promptlab.statistics import drawn_interval  # a part of a start that few runs need

        cases = _unpacked(data)
        found = self._scores(case for _, case in cases)
        values = {name: score.value for name, score in found.items() if score.value is not None}
        units: dict[str, list[RunCase]] = {}
        for name, case in cases:
            units.setdefault(name, []).append(case)
        drawn = self._drawn(units, values)
        ends = {name: drawn_interval(values[name], apart, len(units)) for name, apart in drawn.items()}
        said: dict[str, Any] = {"scores": {name: asdict(s) for name, s in found.items()}}
        said["ends"] = {name: [*one.interval, one.stderr] for name, one in ends.items() if one}
        many = len(next(iter(drawn.values()), ()))
        said["drawn"] = dict(list(drawn.items())[: MOST_DRAWN // many]) if many else {}
        said["units"] = _hashed(units)
        return Score(metadata=said)

    def _scores(self, cases: Iterable[RunCase]) -> dict[str, Score]:
        verdict: Any = self._evaluator.evaluate(list(cases))
        if asyncio.iscoroutine(verdict):
            verdict = asyncio.run(verdict)
        return scores_of(verdict, self._parts) if self._parts else {"": to_score(verdict)}

    def _drawn(
        self, units: Mapping[str, Sequence[RunCase]], values: Mapping[str, float]
    ) -> dict[str, list[float | None]]:
        """How far each draw's scores lie from the scores, by name; None where a draw has none."""
        from promptlab.statistics import FEWEST

        many = int(getattr(self._evaluator, "resamples", 0))
        if many < 2 or len(units) < FEWEST or not values:
            return {}
        # In the order of their names: the same rows of another run are then drawn together, too.
        names, chosen = sorted(units), random.Random(0)
        found: dict[str, list[float | None]] = {name: [] for name in values}
        for _ in range(many):
            sample = chosen.choices(names, k=len(names))
            scores = self._scores(case for name in sample for case in units[name])
            for name, apart in found.items():
                value = scores[name].value if name in scores else None
                apart.append(None if value is None else float(f"{value - values[name]:.6g}"))
        return found


def _hashed(units: Iterable[str]) -> str:
    return hashlib.blake2b(
        "\0".join(sorted(units)).encode("utf-8", "surrogatepass"), digest_size=16
    ).hexdigest()
