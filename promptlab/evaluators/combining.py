"""Scores that are made of other scores of the same case, in the order in which they need each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from promptlab.domain.experiment import Metric
from promptlab.domain.results import Score
from promptlab.errors import ConfigError, UnknownNameError
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.combined import Combined

Bound = tuple[Metric, Evaluator]


def in_order(bound: Sequence[Bound]) -> list[tuple[Metric, Combined]]:
    """The combined metrics, each after those that it is made of.

    Raises:
        UnknownNameError: one is made of a metric that is not there.
        ConfigError: one is made of itself, directly or through others; or of one that cannot be weighed.
    """
    combined = {m.name: (m, e) for m, e in bound if isinstance(e, Combined) and m.kept is None}
    known = {m.name: m for m, _ in bound if m.kept is None}
    for name, (_, evaluator) in combined.items():
        for part in evaluator.parts:
            if part not in known:
                raise UnknownNameError(f"metric, which {name!r} is made of", part, known)
            if evaluator.weights is not None:
                _check_weighed(name, known[part])
    graph = {name: set(evaluator.parts) & combined.keys() for name, (_, evaluator) in combined.items()}
    try:
        return [combined[name] for name in TopologicalSorter(graph).static_order()]
    except CycleError as error:
        raise ConfigError(f"metrics are made of each other: {' → '.join(error.args[1])}") from None


def _check_weighed(name: str, part: Metric) -> None:
    if not part.higher_is_better or part.bounds != (0.0, 1.0):
        why = "lower is better there" if not part.higher_is_better else "it is not from 0 to 1"
        raise ConfigError(
            f"metric {name!r}: {part.name} cannot be weighed: {why}. Give it a bound in a `combined` of its "
            f"own, as in params: {{all: [{{metric: {part.name}, at_most: 100}}]}}, and weigh that"
        )


def combine(
    ordered: Sequence[tuple[Metric, Combined]],
    bound: Sequence[Bound],
    row: Mapping[str, Any],
    scores: dict[str, Score],
) -> None:
    """Add the combined scores of a case to its others."""
    applies = {m.name: m.applies_to(row) and m.is_labelled(row) for m, _ in bound}
    for metric, evaluator in ordered:
        if applies[metric.name]:
            scores[metric.name] = evaluator.combine(scores, applies)
