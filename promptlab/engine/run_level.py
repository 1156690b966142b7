"""Computes the metrics of a run as a whole when it is summarised: from its results file, in bounded
memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from promptlab.domain.assets import DatasetContent
from promptlab.domain.experiment import EVALUATION_TIMEOUT_S, RunMetricSpec
from promptlab.domain.results import RunRecord, Score, described
from promptlab.domain.run_metrics import RunMetric, RunValue
from promptlab.engine.extracted import RunInputs
from promptlab.engine.own_slices import evaluated, slices_of
from promptlab.engine.processes import SANDBOX, CannotLoadError, Processes, Recipe
from promptlab.engine.user_code import OverdueError, in_time
from promptlab.errors import TemplateError
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.of_runs import DETAIL, Additive, RunCase, RunEvaluator, add_to
from promptlab.evaluators.whole import WholeRun, packed
from promptlab.ports import Blobs
from promptlab.results.case_sums import CaseSumsFile, Valued, valued
from promptlab.results.own_slices import OwnSlices
from promptlab.results.run_cases import read_cases
from promptlab.results.run_draws import Draws
from promptlab.results.run_sums import RowSums, names_of
from promptlab.results.table import Columns
from promptlab.threads import Threads

if TYPE_CHECKING:
    from promptlab.engine.sandboxed import SandboxPool

BUILT_IN_TIMEOUT_S = 600.0
"""How long a built-in metric may take over all cases."""
MOST_SUMS = 20_000
MOST_SENT = 1_200_000
"""Bytes of packed cases that the sandbox is sent."""
MOST_WHY = 300
MOST_SLOW = 3
"""Cases in which a pattern takes too long, a second each, before its metric is given up, where they are one
of twenty."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunLevel:
    """The metrics of a run as a whole, and where code of users runs."""

    bound: Sequence[tuple[RunMetricSpec, Evaluator]]
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    processes: Processes | None = None
    sandbox: SandboxPool | None = None


@dataclass(slots=True)
class _Seen:
    """What was read of the cases of one metric."""

    cases: int = 0
    lost: int = 0
    lost_why: str | None = None
    rows: set[int] = field(default_factory=set)

    def lose(self, why: str | None) -> None:
        self.lost += 1
        self.lost_why = self.lost_why or (why[:MOST_WHY] if why else None)


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the cases of a run are read from, any number of times."""

    path: Path
    shape: Columns
    content: DatasetContent

    def cases(self, spec: RunMetricSpec, evaluator: Evaluator, seen: _Seen) -> Iterator[tuple[str, RunCase]]:
        """Read the cases that count, each with the name of its unit."""
        kinds = frozenset(column.name for column in self.content.columns if column.type == "json")
        inputs = RunInputs.of(spec, evaluator)
        slow = 0
        read = read_cases(self.path, self.shape, kinds, [spec])
        for number, (row, case, scores) in enumerate(read):
            if not inputs.counts(case):
                continue
            if case.completion.error is not None and not case.completion.error.is_models_doing:
                seen.lose(f"{case.completion.error.type}: {case.completion.error.message}")
                continue
            try:
                data = inputs.of_case(case, scores)
            except (TemplateError, ValueError, TimeoutError) as error:
                seen.lose(str(error))
                slow += isinstance(error, TimeoutError)
                if slow > MOST_SLOW and 20 * slow > number:
                    raise ValueError(f"{error}, as of {slow - 1} of {number} cases before") from error
                continue
            unit = row if spec.cluster_by is None else repr(case.row.get(spec.cluster_by))
            yield unit, RunCase(data, case.completion.case, case.completion.trial)


async def compute(
    level: RunLevel, blobs: Blobs, run: RunRecord, path: Path, shape: Columns, content: DatasetContent
) -> dict[str, RunMetric]:
    """The metrics of the run as a whole, by name. What goes wrong with one is its error.

    Args:
        level: the metrics.
        blobs: where the sums of rows, and draws, are put, for comparisons.
        run: the run.
        path: its results file, in a scratch folder.
        shape: its columns.
        content: its dataset.
    """
    source, made = _Source(path, shape, content), dict[str, RunMetric]()
    columns = [str(name) for name in run.experiment.get("slices") or ()]
    threads = Threads("promptlab-run-metrics")
    try:
        for number, (spec, evaluator) in enumerate(level.bound):
            units: bytes | None
            try:
                if isinstance(evaluator, Additive):
                    limit_s = spec.timeout_s or BUILT_IN_TIMEOUT_S
                    file = path.with_name(f"sums-{number}.jsonl.gz")
                    found, units = await asyncio.to_thread(_additive, source, spec, evaluator, limit_s, file)
                    by_case = f"runs/{run.run_id}/text/cases-{run.generation}-{number}.jsonl.gz"
                    await blobs.put_file(by_case, file)
                    found["by_case"] = by_case
                else:
                    found, units, sliced = await _whole(level, threads, source, spec, evaluator, columns)
                    if sliced is not None:
                        by_slice = f"runs/{run.run_id}/text/slices-{run.generation}-{number}.json.gz"
                        await blobs.put(by_slice, sliced.packed())
                        found["by_slice"] = by_slice
                key = None
                if units is not None:
                    key = f"runs/{run.run_id}/text/sums-{run.generation}-{number}.json.gz"
                    await blobs.put(key, units)
                made[spec.name] = RunMetric(**found, units=key)
            except (ValueError, TypeError, OverdueError) as error:
                logger.warning("%s could not be computed: %s", spec.name, error)
                made[spec.name] = RunMetric(metric=spec.metric, values=_failed(spec, str(error)))
    finally:
        threads.close()
    return made


def _failed(spec: RunMetricSpec, why: str) -> dict[str, RunValue]:
    return {name: RunValue(error=why[:2_000], higher_is_better=higher) for name, _, higher in names_of(spec)}


def _additive(
    source: _Source, spec: RunMetricSpec, evaluator: Additive, limit_s: float, file: Path
) -> tuple[dict[str, Any], bytes]:
    """A metric of sums; and the sums of its units, packed. Those of its cases are written to a file."""
    began, seen, units, total = monotonic(), _Seen(), RowSums(), dict[str, float]()
    fitted = evaluator.fitted(_in_time(source, spec, evaluator, limit_s, began, _Seen()))
    with CaseSumsFile(file) as by_case:
        for unit, case in _timed(source.cases(spec, evaluator, seen), limit_s, began):
            try:
                counts = fitted.counts(case)
            except ValueError as error:
                seen.lose(str(error))
                continue
            seen.cases += 1
            seen.rows.add(case.row)
            add_to(total, counts)
            if len(total) > MOST_SUMS:
                raise ValueError(f"more than {MOST_SUMS:,} different counts: take less out of the answer")
            sums = {name: value for name, value in counts.items() if not name.startswith(DETAIL)}
            units.add(unit, sums)
            by_case.add(case.row, unit, sums)
    values, many = valued(fitted, units)
    made = {}
    for name, own, higher in names_of(spec):
        one = values.get(own, Valued(None))
        why = None if one.value is not None or seen.cases else seen.lost_why or "no case counts"
        made[name] = RunValue(**one._asdict(), higher_is_better=higher, error=why)
    drawn = f"clusters by {spec.cluster_by}" if spec.cluster_by else "rows"
    drawn = f"blocks of {drawn}" if units.blocks else drawn
    return {
        "metric": spec.metric,
        "values": made,
        "cases": seen.cases,
        "rows": len(seen.rows),
        "lost": seen.lost,
        "lost_why": seen.lost_why,
        "method": f"bootstrap over {drawn}, {many:,} resamples, seed 0" if many else None,
        "detail": fitted.detail(total),
    }, units.packed()


def _in_time(
    source: _Source, spec: RunMetricSpec, evaluator: Additive, limit_s: float, began: float, seen: _Seen
) -> Iterator[RunCase]:
    for _, case in _timed(source.cases(spec, evaluator, seen), limit_s, began):
        yield case


def _timed(
    cases: Iterator[tuple[str, RunCase]], limit_s: float, began: float
) -> Iterator[tuple[str, RunCase]]:
    for number, case in enumerate(cases):
        if not number % 100 and monotonic() - began > limit_s:
            raise ValueError(f"it took longer than {limit_s:g} s (timeout_s)")
        yield case


async def _whole(
    level: RunLevel,
    threads: Threads,
    source: _Source,
    spec: RunMetricSpec,
    evaluator: Evaluator,
    columns: Sequence[str],
) -> tuple[dict[str, Any], bytes | None, OwnSlices | None]:
    """A metric of a user's own, given all cases at once; its draws, packed, where there are any; and by the
    values of some columns."""
    seen, units, limit_s = _Seen(), set[str](), spec.timeout_s or EVALUATION_TIMEOUT_S
    cases = list[tuple[str, RunCase]]()

    def read() -> dict[str, Any]:
        cases.extend(source.cases(spec, evaluator, seen))
        units.update(unit for unit, _ in cases)
        seen.cases, seen.rows = len(cases), {case.row for _, case in cases}
        return packed(cases)

    data = await asyncio.to_thread(read)
    score = await _evaluated(level, threads, spec, evaluator, data, limit_s)
    sliced = None
    if columns and isinstance(score.metadata.get("scores"), Mapping):
        sliced = await evaluated(
            lambda data, left_s: _evaluated(level, threads, spec, evaluator, data, left_s),
            cases,
            await asyncio.to_thread(slices_of, source.path, source.shape, columns),
            limit_s,
            lambda drawn, value, n: _varied(drawn, value, spec, n),
        )
    found, ends = score.metadata.get("scores"), score.metadata.get("ends") or {}
    values = {}
    for name, own, higher in names_of(spec):
        one = found.get(own) if isinstance(found, Mapping) else None
        if not isinstance(one, Mapping):
            why = score.error.message if score.error else score.reason or "it gave no such score"
            values[name] = RunValue(error=why[:2_000], higher_is_better=higher)
            continue
        error, drawn = one.get("error"), _varied(ends.get(own), one.get("value"), spec, len(units))
        values[name] = RunValue(
            value=one.get("value"),
            label=one.get("label"),
            reason=one.get("reason"),
            error=str(error.get("message"))[:2_000] if isinstance(error, Mapping) else None,
            low=drawn[0],
            high=drawn[1],
            stderr=drawn[2],
            higher_is_better=higher,
        )
    drawn_from = f"clusters by {spec.cluster_by}" if spec.cluster_by else "rows"
    draws = score.metadata.get("drawn")
    return (
        {
            "metric": spec.metric,
            "values": values,
            "cases": seen.cases,
            "rows": len(seen.rows),
            "lost": seen.lost,
            "lost_why": seen.lost_why,
            "method": f"bootstrap over {drawn_from}, as the metric says, seed 0" if ends else None,
        },
        Draws(str(score.metadata["units"]), draws).packed() if draws else None,
        sliced,
    )


def _varied(
    ends: Sequence[float] | None, value: float | None, spec: RunMetricSpec, n: int
) -> Sequence[float | None]:
    """The interval and the standard error; where no draw varied, which is no certainty, the interval of a
    mean, as far as the range of the metric is known."""
    if ends is None or value is None or ends[2] > 0:
        return ends or (None, None, None)
    bounds = spec.value_range
    if not bounds:
        return None, None, None
    from promptlab.statistics import wilson_t

    return (*wilson_t(value, 0.0, n, bounds=bounds), None)


async def _evaluated(
    level: RunLevel,
    threads: Threads,
    spec: RunMetricSpec,
    evaluator: Evaluator,
    data: dict[str, Any],
    limit_s: float,
) -> Score:
    recipe = level.recipes.get(spec.name)
    if recipe is not None and recipe.function == SANDBOX:
        if level.sandbox is None:
            raise ValueError("there is no sandbox here for code that the lab keeps")
        if len(data["cases"]) > MOST_SENT:
            raise ValueError(
                f"the mapped inputs of all cases have {len(data['cases']):,} bytes, packed; the sandbox "
                f"takes {MOST_SENT:,}: map fewer inputs, or take less out of the answer with extract"
            )
    place: Processes | SandboxPool | None = None
    if recipe is not None:
        place = level.sandbox if recipe.function == SANDBOX else level.processes
    if recipe is not None and place is not None:
        try:
            return await place.call(recipe, data, limit_s)
        except CannotLoadError as error:
            raise ValueError(f"it cannot be loaded: {error}") from error
    assert isinstance(evaluator, RunEvaluator)
    whole = WholeRun(evaluator, spec.scores)
    try:
        return await in_time(lambda: threads.call(lambda: _scored(whole, data)), limit_s)
    except OverdueError as error:
        raise ValueError(f"no score within timeout_s={limit_s:g} s") from error


def _scored(whole: WholeRun, data: dict[str, Any]) -> Score:
    try:
        return whole.evaluate(data)
    except BaseException as error:  # SystemExit, too: a user's code fails its metric and ends nothing else
        raise ValueError(described(error)) from error
