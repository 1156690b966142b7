"""Judges that are of the family of the model whose answers they judge: they like its style."""

from __future__ import annotations

import re
from collections.abc import Sequence

from promptlab.domain.experiment import Metric

_PARTS = re.compile(r"[/.:]")
_LETTERS = re.compile(r"[a-z]+")
_LEAST = 3
"""Letters of a family's name: `o3` and `o4` tell nothing."""


def family_of(model: str) -> str | None:
    """Read the family of a model's name, as in gpt, claude or llama; None where it tells none."""
    for part in reversed(_PARTS.split(model.lower())[1:]):
        found = _LETTERS.match(part)
        if found and len(found[0]) >= _LEAST:
            return found[0]
    return None


def kin_warnings(metrics: Sequence[Metric], model: str) -> tuple[str, ...]:
    """Say which metrics are judged by the model's own family, but for judges that `allow_self`."""
    family = family_of(model)
    found: dict[str, str] = {}
    for metric in metrics:
        for judge in metric.judge or ():
            if family is not None and family_of(judge.name) == family and not judge.allow_self:
                found[metric.evaluator_name] = judge.name
    return tuple(
        f"Metric {name!r} is judged by {judge}, of the family of the model ({family}): models like answers "
        f"of their own kind better than others do. Check it against people: promptlab judge check {name} RUN."
        for name, judge in found.items()
    )
