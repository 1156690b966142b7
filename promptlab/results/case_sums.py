"""The sums of single cases that metrics of a run as a whole are made of, kept so that a gate can leave rows
out and look at slices; and what a metric makes of sums."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Self

import orjson

from promptlab.evaluators.of_runs import Additive, add_to
from promptlab.results.run_sums import RowSums, unit_key


class CaseSums(NamedTuple):
    """What one case adds to the sums of a metric."""

    case: int
    """Its dataset row."""
    unit: str
    """The key of the row, or of the cluster of rows, that it is drawn with."""
    sums: dict[str, float]


class CaseSumsFile:
    """Writes them to a file of lines, one a case, compressed."""

    def __init__(self, path: Path) -> None:
        self._path, self._stack = path, ExitStack()
        self._file: gzip.GzipFile | None = None

    def __enter__(self) -> Self:
        self._file = self._stack.enter_context(gzip.open(self._path, "wb", compresslevel=1))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, case: int, unit: str, sums: Mapping[str, float]) -> None:
        """Add one case, by the name of its unit."""
        assert self._file
        self._file.write(orjson.dumps([case, unit_key(unit), sums]) + b"\n")


def read_case_sums(path: Path) -> Iterator[CaseSums]:
    """Read them in their order."""
    with gzip.open(path, "rb") as file:
        for line in file:
            yield CaseSums(*orjson.loads(line))


class Valued(NamedTuple):
    """One score, with its 95% interval where there is one."""

    value: float | None
    low: float | None = None
    high: float | None = None
    stderr: float | None = None


def total_of(sums: RowSums) -> dict[str, float]:
    """Add up all units."""
    total: dict[str, float] = {}
    for unit in sums.units.values():
        add_to(total, unit)
    return total


def valued(
    evaluator: Additive, sums: RowSums, *, most_work: int | None = None
) -> tuple[dict[str, Valued], int]:
    """Compute a metric's scores of sums, with their intervals, and how many resamples these are of; 0 where
    there are too few units for any.

    Args:
        evaluator: the metric.
        sums: of rows, clusters or blocks of them.
        most_work: additions of the bootstrap at most; by default as `bootstrap` has it.
    """
    from promptlab.statistics import FEWEST, bootstrap, wilson_t  # loaded while the calls are answered

    values, vectors = evaluator.values(total_of(sums)), list(sums.units.values())
    limits = {} if most_work is None else {"most_work": most_work}
    ends = bootstrap(vectors, evaluator.values, **limits) if len(vectors) >= FEWEST else {}
    found, many = {}, 0
    for name, value in values.items():
        one = ends.get(name)
        if value is None or one is None:
            found[name] = Valued(value)
            continue
        many, (low, high) = one.resamples, one.interval
        if one.stderr == 0:  # nothing varied: as for a mean, that is no certainty
            low, high = wilson_t(value, 0.0, len(vectors), bounds=evaluator.bounds.get(name, (0.0, 1.0)))
        found[name] = Valued(value, low, high, one.stderr or None)
    return found, many
