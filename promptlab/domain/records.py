"""Records of other versions: fields that an older one did not write yet, and fields
that a newer one added."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping
from functools import lru_cache
from typing import Any, TypeVar, cast

from promptlab.errors import StoreDamagedError

T = TypeVar("T")
SO_FAR = "SO_FAR"
"""The kind of record that has the sum so far of a run under way."""
WEBHOOK = "WEBHOOK"
"""The kind of record that has the webhook of a run."""
LEASE = "LEASE"
"""The kind of record that a shard under way has."""
CACHE = "CACHE"
"""The kind of record that an answer has that may be given again."""
CACHE_EPOCH = "CACHE_EPOCH"
"""The kind of record that says since when such answers hold."""
BUDGET = "BUDGET"
"""The kind of record that has what is spent and leased of a budget."""
RATE = "RATE"
"""The kind of record that has the rate of calls that was learned of a model with a key."""
TRIED = "TRIED"
"""The kind of record that a shard with postponed cases has."""
SWAPS = 50
"""Records that may be changed at once: DynamoDB takes 100."""
BATCH = "BATCH"
"""The kind of record that a run in batch mode has, and each of its batches."""
GATE = "GATE"
"""The kind of record that has what came of a run's gate."""
RUN_LABELS = "RUN_LABELS"
"""The kind of record that has the labels of an experiment's runs, by its name."""
SWEEP = "SWEEP"
"""The kind of record that a sweep is."""
SWEEP_CELL = "SWEEP_CELL"
"""The kind of record that has what a run of a sweep is to do, by sweep and place."""
CASE_LABEL = "CASE_LABEL"
"""The kind of record that a label of a person on a case has, by run, case, trial, metric and rater."""
CERTIFICATE = "CERTIFICATE"
"""The kind of record that says how a judge agrees with people, by its fingerprint."""
LISTED = frozenset(
    {
        "DELETING",
        "DELETED",
        "GONE",
        "PROJECT",
        "TOKEN",
        "TOKEN_USED",
        "PERSON",
        "AUDIT",
        CASE_LABEL,
        CERTIFICATE,
        SWEEP,
        SWEEP_CELL,
    }
)
"""The kinds of records that `list_records` gives: there may be many of each, in one partition."""


@dataclasses.dataclass(frozen=True, slots=True)
class Swap:
    """A change of one record from what it was to what it shall be."""

    kind: str
    key: str
    was: Mapping[str, Any] | None
    """As it was read; None: there was none."""
    now: Mapping[str, Any] | None
    """None: it is removed."""
    expires_at: float | None = None
    """When it is gone by itself, in seconds since 1970."""


@lru_cache
def _fields(kind: Any) -> tuple[frozenset[str], tuple[str, ...]]:
    """The names of all fields, and of those without a default."""
    fields = [f for f in dataclasses.fields(kind) if f.init]
    needed = (
        f.name
        for f in fields
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    )
    return frozenset(f.name for f in fields), tuple(needed)


def made(kind: type[T], body: Mapping[str, Any], **changes: Any) -> T:
    """Make a record from its JSON object: what it lacks has its default, what is not known is left out.

    Args:
        kind: a dataclass.
        body: its fields, as some version of PromptLab wrote them.
        changes: fields whose JSON is not their value.

    Raises:
        StoreDamagedError: `body` is no object, or a field without a default is not in it.
    """
    names, needed = _fields(cast(Hashable, kind))
    if not isinstance(body, Mapping):
        raise StoreDamagedError(f"a {kind.__name__} is stored as {type(body).__name__}, not as an object")
    values = {name: value for name, value in body.items() if name in names} | changes
    for name in needed:
        if name not in values:
            raise StoreDamagedError(f"a stored {kind.__name__} lacks its {name!r}")
    return kind(**values)
