"""What people say of a case: passed or failed, a score, a tag, a note."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from promptlab.domain.records import made
from promptlab.domain.results import CaseKey
from promptlab.domain.texts import storable
from promptlab.errors import ConfigError

NOTE_CHARS, TAG_CHARS, RATER_CHARS = 10_000, 100, 200
MOST_HISTORY = 20
"""Earlier versions that a label keeps, the newest ones."""
HISTORY_CHARS = 500
"""Characters of a note that an earlier version keeps: a label stays a small record."""
_TEXTS = {"tag": TAG_CHARS, "note": NOTE_CHARS, "rater": RATER_CHARS, "metric": 300, "id": 10_000}
_SAID = ("passed", "score", "tag", "note")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseLabel:
    """One rater's label of one case."""

    case: int = -1
    """The dataset row, from 0; -1 where `id` alone names it, until it is kept."""
    trial: int = 0
    """The trial, from 0."""
    id: str = ""
    """The row's id."""
    passed: bool | None = None
    """Whether the answer is good enough."""
    score: float | None = None
    """A number, in the units of the metric that it is about."""
    tag: str | None = None
    """A category, as in `wrong unit`."""
    note: str | None = None
    metric: str = ""
    """The metric whose question it answers; empty: the answer as a whole."""
    rater: str = ""
    """Who says so: the id of a person, or a name."""
    rater_name: str = ""
    """What the rater is called; the rater's id where that is all."""
    by: str = ""
    """Who entered it, where that is somebody else."""
    at: str = ""
    """When it was last changed, ISO 8601, UTC."""
    blind: bool = False
    """Whether the rater did not see the scores."""
    random: bool = False
    """Whether the case came to the rater out of a random sample of all cases of the run."""
    history: tuple[Mapping[str, Any], ...] = ()
    """What it said before, oldest first: `{at, passed, score, tag, note}`."""

    @property
    def key(self) -> CaseKey:
        """The case."""
        return CaseKey(self.case, self.trial)

    @property
    def said(self) -> dict[str, Any]:
        """What it says, without who and when."""
        return {name: getattr(self, name) for name in _SAID}

    @property
    def called(self) -> str:
        """What the rater is called."""
        return self.rater_name or self.rater

    def after(self, before: CaseLabel | None) -> CaseLabel:
        """Make what is kept where the same rater said something of the case before."""
        if before is None:
            return self
        note = before.note and before.note[:HISTORY_CHARS]
        history = (*before.history, {"at": before.at, **before.said, "note": note})[-MOST_HISTORY:]
        return replace(self, history=history)

    def to_json(self) -> dict[str, Any]:
        """Write it as it is kept, and as the API gives it."""
        return asdict(self) | {"history": [dict(one) for one in self.history]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CaseLabel:
        """Read what `to_json` wrote.

        Raises:
            StoreDamagedError: it is none.
        """
        return made(cls, value, history=tuple(value.get("history") or ()))


def checked_case_label(label: CaseLabel) -> CaseLabel:
    """Give a label as it can be kept.

    Raises:
        ConfigError: it says nothing, or something in it is too long or no number.
    """
    place = f"The label of case {label.case}.{label.trial}"
    if label.case < 0 or label.trial < 0:
        raise ConfigError(f"{place} is of no case: rows and trials are counted from 0.")
    texts: dict[str, str | None] = {}
    for name, most in _TEXTS.items():
        text = getattr(label, name)
        text = storable(text.strip()) if text else ""
        if len(text) > most:
            raise ConfigError(f"{place} has a {name} of {len(text):,} characters; {most:,} at most.")
        if name not in ("note", "id") and not text.isprintable():
            raise ConfigError(f"{place} has a {name} with characters that cannot be shown: {text[:50]!r}.")
        texts[name] = text or (None if name in ("tag", "note") else "")
    score = label.score
    if score is not None and not (isinstance(score, int | float) and abs(score) <= 1e12):
        raise ConfigError(f"{place} has the score {score!r}: give a number.")
    found = replace(
        label,
        tag=texts["tag"],
        note=texts["note"],
        rater=texts["rater"] or "",
        metric=texts["metric"] or "",
        id=texts["id"] or "",
        score=None if score is None or math.isnan(score) else float(score),
    )
    if not found.rater:
        raise ConfigError(f"{place} has no rater: say who labels.")
    if all(value is None for value in found.said.values()):
        raise ConfigError(f"{place} says nothing: give passed, a score, a tag or a note.")
    return found
