"""Which cases are to be labelled: a sample, drawn by a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence

from promptlab.domain.results import CaseKey
from promptlab.errors import ConfigError
from promptlab.labelling.values import CaseToLabel

MOST_QUEUED = 5_000


def drawn(
    cases: Sequence[tuple[int, int, str]], n: int, seed: int, labelled: Collection[CaseKey]
) -> list[CaseToLabel]:
    """Draw cases: those whose hash of seed, id and trial is least, in that order.

    So the same seed draws the same rows of two runs over one dataset, which a corrected difference needs, and
    more of them with a greater n.

    Args:
        cases: case, trial and id of all that may be drawn.
        n: how many, 1 to MOST_QUEUED.
        seed: any whole number.
        labelled: what the rater labelled already.

    Raises:
        ConfigError: n is out of its range.
    """
    if not 1 <= n <= MOST_QUEUED:
        raise ConfigError(f"A queue has 1 to {MOST_QUEUED:,} cases, not {n:,}.")

    def place(case: tuple[int, int, str]) -> bytes:
        return hashlib.sha256(f"{seed}\0{case[2]}\0{case[1]}".encode()).digest()

    return [
        CaseToLabel(case=case, trial=trial, id=id, labelled=CaseKey(case, trial) in labelled)
        for case, trial, id in sorted(cases, key=place)[:n]
    ]
