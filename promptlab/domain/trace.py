"""What happened while a case was answered, beside its messages: what was found, spans and turns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Trace:
    """The trace of one case. All values are JSON."""

    contexts: tuple[Any, ...] = ()
    """What was retrieved for the answer, in order: a text each, or an object with a `text`."""
    spans: tuple[Mapping[str, Any], ...] = ()
    """Spans as OpenTelemetry has them: `name`, `span_id`, `parent_id`, `start` (ISO 8601, UTC),
    `duration_ms`, `kind`, `status`, `attributes`."""
    turns: tuple[Mapping[str, Any], ...] = ()
    """Turns of a conversation: `number` (from 1), `user` and `assistant` (texts), and what each used."""

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON, without what is empty."""
        lists = {"contexts": self.contexts, "spans": self.spans, "turns": self.turns}
        return {name: list(values) for name, values in lists.items() if values}


def trace_from(value: Any) -> Trace | None:
    """Read a trace from its JSON; None where there is none, or nothing in it."""
    if not isinstance(value, Mapping):
        return None
    lists = {name: value.get(name) for name in ("contexts", "spans", "turns")}
    given = {name: tuple(found) for name, found in lists.items() if isinstance(found, list | tuple) and found}
    return Trace(**given) if given else None
