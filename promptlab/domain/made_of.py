"""Which other metrics a metric is made of: its values are theirs, and so are their judges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from promptlab.domain.experiment import Metric, score_source


def names_in(condition: Any) -> Iterator[str]:
    """List the metrics that a condition of `combined` names, each as often as it does."""
    if isinstance(condition, str):
        yield condition
    elif "metric" in condition:
        yield condition["metric"]
    else:
        for kind, value in condition.items():
            for one in [value] if kind == "not" else value:
                yield from names_in(one)


def parts_in(params: Mapping[str, Any]) -> tuple[str, ...]:
    """List the metrics that `combined` with these parameters is made of, each once."""
    if params.get("weights") is not None:
        return tuple(params["weights"])
    tree = {kind: params[kind] for kind in ("all", "any", "not") if params.get(kind) is not None}
    return tuple(dict.fromkeys(names_in(tree)))


def made_of(metric: Metric) -> tuple[str, ...]:
    """List the metrics whose scores a metric reads: the parts of `combined`, the `$score.NAME` of a metric of
    the run as a whole."""
    parts = parts_in(metric.params) if metric.code is None and metric.metric == "combined" else ()
    read = [found[1] for source in metric.column_mapping.values() if (found := score_source(source))]
    return tuple(dict.fromkeys([*parts, *read]))


def resting_on(names: Iterable[str], metrics: Sequence[Metric]) -> list[str]:
    """List metrics with all that they are made of, and what those are made of, each once.

    Args:
        names: metrics, or scores `NAME.score` of metrics of the run as a whole.
        metrics: all of the experiment.
    """
    known = {name: metric for metric in metrics for name in metric.result_names}
    found, left = dict.fromkeys(names), list(names)
    while left:
        metric = known.get(left.pop())
        for name in made_of(metric) if metric else ():
            if name not in found:
                found[name] = None
                left.append(name)
    return list(found)
