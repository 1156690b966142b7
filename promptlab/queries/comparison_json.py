"""A comparison as JSON: what `GET /api/v1/compare`, `promptlab compare --json` and
`Comparison.to_json` give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from promptlab.domain.corrected import CorrectedDifference
from promptlab.queries.compare import ComparePage, Delta, MetricComparison, PairRow, Side
from promptlab.queries.run_level import RunComparison
from promptlab.statistics import Judgement


def comparison_json(run_ids: Sequence[str], page: ComparePage) -> dict[str, Any]:
    """Write a page as `{base, others, counts, …, items}`, where each of the others is
    `{run_id, joined_on, only_base, only_other, metrics}`.

    Args:
        run_ids: the base, then the others, as the page has them.
        page: the page.
    """
    others: list[dict[str, Any]] = [
        {
            "run_id": run_id,
            "joined_on": page.joined_on,
            "only_base": only_base,
            "only_other": only_other,
            "metrics": {m.metric: _metric_json(m) for m in page.metrics if m.other == place},
            "run_metrics": {m.metric: m.to_json() for m in page.run_metrics if m.other == place},
        }
        for place, (run_id, (only_base, only_other)) in enumerate(
            zip(run_ids[1:], page.unmatched, strict=True)
        )
    ]
    return {
        "base": run_ids[0],
        "others": others,
        "notes": list(page.notes),
        "total": page.total,
        "counts": dict(page.counts),
        "total_matching": page.total_matching,
        "offset": page.offset,
        "limit": page.limit,
        "items": [_row_json(row) for row in page.rows],
    }


def _metric_json(m: MetricComparison) -> dict[str, Any]:
    return {
        "higher_is_better": m.higher_is_better,
        **asdict(m.judgement),
        "improved": m.improved,
        "regressed": m.regressed,
        "same": m.same,
        "different": m.different,
        "fact": m.fact,
        "not_comparable": m.not_comparable,
        "corrected": m.corrected.to_json() if m.corrected else None,
    }


def _row_json(row: PairRow) -> dict[str, Any]:
    return {
        "case": row.case,
        "trial": row.trial,
        "id": row.id,
        "inputs": dict(row.inputs),
        "base": asdict(row.base),
        "others": [asdict(side) for side in row.others],
        "changes": [
            {
                metric: {"change": delta.verdict, "difference": delta.difference}
                for metric, delta in deltas.items()
            }
            for deltas in row.deltas
        ],
    }


def comparison_from(value: Mapping[str, Any]) -> ComparePage:
    """Read the page that `comparison_json` wrote."""
    metrics = [
        _metric_from(name, place, metric)
        for place, other in enumerate(value["others"])
        for name, metric in other["metrics"].items()
    ]
    return ComparePage(
        rows=[_row_from(item) for item in value["items"]],
        **{name: value[name] for name in ("total_matching", "total", "offset", "limit", "counts")},
        metrics=tuple(metrics),
        joined_on=value["others"][0]["joined_on"],
        notes=tuple(value.get("notes", ())),
        unmatched=tuple((other["only_base"], other["only_other"]) for other in value["others"]),
        run_metrics=tuple(
            RunComparison.from_json(name, place, metric)
            for place, other in enumerate(value["others"])
            for name, metric in other.get("run_metrics", {}).items()
        ),
    )


_JUDGED = tuple(field.name for field in fields(Judgement))


def _metric_from(name: str, place: int, value: Mapping[str, Any]) -> MetricComparison:
    # A Studio of an older version gives some of it only: its wins, losses and ties are those of cases.
    judged: dict[str, Any] = {key: value.get(key) for key in _JUDGED} | {
        key: value.get(key, 0) for key in ("missing_base", "missing_other")
    }
    return MetricComparison(
        metric=name,
        other=place,
        higher_is_better=value["higher_is_better"],
        judgement=Judgement(**judged),
        improved=value.get("improved", value["wins"]),
        regressed=value.get("regressed", value["losses"]),
        same=value.get("same", value["ties"]),
        different=value["different"],
        fact=value.get("fact", False),
        not_comparable=value.get("not_comparable"),
        corrected=CorrectedDifference.from_json(found) if (found := value.get("corrected")) else None,
    )


def _row_from(item: Mapping[str, Any]) -> PairRow:
    return PairRow(
        **{name: item[name] for name in ("case", "trial", "id", "inputs")},
        base=Side(**item["base"]),
        others=tuple(Side(**side) for side in item["others"]),
        deltas=tuple(
            {name: Delta(delta["difference"], delta["change"]) for name, delta in changes.items()}
            for changes in item["changes"]
        ),
    )
