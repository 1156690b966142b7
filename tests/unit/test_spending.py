"""Sums in which the unknown stays unknown, however they are put together."""

from __future__ import annotations

import itertools

import pytest

from promptlab.domain.spending import Sums, spent, summed
from promptlab.domain.summary import Summary
from promptlab.report import spending


def total(*parts: Sums) -> Sums:
    found = Sums()
    for part in parts:
        found = Sums(**summed(found, part))
    return found


KNOWN = spent(3, 4, 0.5)
UNPRICED = spent(3, 4, None)
SILENT = spent(None, None, 0.25)
REFUSED = spent(None, None, 0.0, failed=True)
LOST = spent(None, None, None, failed=True)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([], "0 + 0 tokens, cost $0.00"),
        ([KNOWN, KNOWN], "6 + 8 tokens, cost $1.00"),
        ([KNOWN, REFUSED], "3 + 4 tokens, cost $0.50"),
        ([KNOWN, UNPRICED], "6 + 8 tokens, cost unknown"),
        ([KNOWN, SILENT], "3 + 4 tokens (of 1 of 2 cases), cost $0.75"),
        ([KNOWN, LOST], "3 + 4 tokens (of 1 of 2 cases), cost $0.50 (of 1 of 2 cases)"),
        ([REFUSED, REFUSED], "0 + 0 tokens, cost $0.00"),
        ([REFUSED, LOST], "tokens unknown, cost unknown"),
        ([LOST, UNPRICED], "3 + 4 tokens (of 1 of 2 cases), cost unknown"),
        ([spent(None, 4, 0.0)], "unknown + 4 tokens (of 0 of 1 cases), cost $0.00"),
    ],
)
def test_sums_say_what_they_are_of(parts: list[Sums], words: str) -> None:
    """In every order, and also when they were written down and read between."""
    for order in itertools.permutations(parts):
        assert spending(total(*order), len(parts), "cases") == words
        whole = Summary()
        for part in order:
            shard = Summary()
            shard.spend(part)
            whole.merge(Summary.from_json(shard.to_json()))
        assert spending(whole, len(parts), "cases") == words


def test_summary_of_an_older_version_without_a_cost_stays_without_one() -> None:
    """It has no counts of what is unknown."""
    whole = Summary()
    for old in ({"cases": 1, "cost_usd": None}, {"cases": 1, "cost_usd": 0.5}):
        whole.merge(Summary.from_json(old))
    assert whole.cost_usd is None
