"""The columns that labels of people have in exports, beside the scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

import orjson

from promptlab.domain.labels import CaseLabel
from promptlab.domain.results import CaseKey

TYPES: Mapping[str, str] = {
    "people.passed": "BOOLEAN",
    "people.score": "DOUBLE",
    "people.tags": "VARCHAR",
    "people.notes": "VARCHAR",
    "people.raters": "INTEGER",
    "people.labels": "VARCHAR",
}
"""DuckDB's type of each column."""
_SAID = ("passed", "score", "tag", "note", "metric", "rater", "at", "blind", "random")


def people_columns(labels: Iterable[CaseLabel]) -> dict[CaseKey, dict[str, Any]]:
    """Sum up the labels of each case: what most raters say of the answer as a whole (null where as many pass
    as fail it), the mean of their scores, tags and notes, how many raters, and all of it as JSON."""
    by_case: dict[CaseKey, list[CaseLabel]] = {}
    for label in labels:
        by_case.setdefault(label.key, []).append(label)
    return {key: _summed(some) for key, some in by_case.items()}


def _summed(labels: list[CaseLabel]) -> dict[str, Any]:
    whole = [label for label in labels if not label.metric] or labels
    passed = sum(label.passed is True for label in whole)
    failed = sum(label.passed is False for label in whole)
    scores = [label.score for label in whole if label.score is not None]
    said = [{name: getattr(label, name) for name in _SAID} for label in labels]
    return {
        "people.passed": None if passed == failed else passed > failed,
        "people.score": fmean(scores) if scores else None,
        "people.tags": "; ".join(dict.fromkeys(label.tag for label in labels if label.tag)) or None,
        "people.notes": "\n".join(label.note for label in labels if label.note) or None,
        "people.raters": len({label.rater for label in labels}),
        "people.labels": orjson.dumps(said).decode(),
    }
