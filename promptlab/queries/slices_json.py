"""Slices as JSON: what `GET /api/v1/slices`, `promptlab slices --json` and `pl.experiment.slices` give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from promptlab.queries.slices import Slice, SliceDifference, SliceMean, Slices
from promptlab.statistics import Judgement


def slices_json(run_ids: Sequence[str], found: Slices) -> dict[str, Any]:
    """Write slices as `{column, values, binned, base, slices: [{value, rows, metrics, others: [{run_id,
    metrics}]}]}`."""
    return {
        "column": found.column,
        "values": found.values,
        "binned": found.binned,
        "base": run_ids[0],
        "notes": list(found.notes),
        "slices": [
            {
                "value": one.value,
                "rows": one.rows,
                "bounds": list(one.bounds) if one.bounds else None,
                "metrics": {name: asdict(mean) for name, mean in one.means.items()},
                "others": [
                    {
                        "run_id": run_id,
                        "metrics": {
                            name: {**asdict(d.judgement), "not_comparable": d.not_comparable}
                            for name, d in differences.items()
                        },
                    }
                    for run_id, differences in zip(run_ids[1:], one.differences, strict=True)
                ],
            }
            for one in found.slices
        ],
    }


def slices_from(value: Mapping[str, Any]) -> Slices:
    """Read what `slices_json` wrote."""
    return Slices(
        column=value["column"],
        values=value["values"],
        binned=value["binned"],
        notes=tuple(value.get("notes", ())),
        slices=[
            Slice(
                value=one["value"],
                rows=one["rows"],
                bounds=tuple(one["bounds"]) if one.get("bounds") else None,
                means={name: SliceMean(**mean) for name, mean in one["metrics"].items()},
                differences=[
                    {name: _difference(found) for name, found in other["metrics"].items()}
                    for other in one["others"]
                ],
            )
            for one in value["slices"]
        ],
    )


def _difference(value: Mapping[str, Any]) -> SliceDifference:
    judged = {name: part for name, part in value.items() if name != "not_comparable"}
    return SliceDifference(judgement=Judgement(**judged), not_comparable=value["not_comparable"])
