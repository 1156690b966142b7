"""What was sent for a case and what is kept of what came back, as JSON for who wants all of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from promptlab.domain.chat import ChatRequest, Prompt
from promptlab.domain.experiment import Experiment
from promptlab_studio.views.chat import traced

_KEPT = (
    "response",
    "finish_reason",
    "error_type",
    "error_message",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "latency_ms",
    "cost_usd",
    "attempts",
    "cached",
    "tries",
    "metadata",
    "messages",
)


def request_of(experiment: Experiment, prompt: Prompt | str) -> dict[str, Any] | None:
    """Return what the model was asked, with its settings: made again from the prompt, the row and the run's
    configuration, as the call itself is not kept. None of an agent, which makes its own calls."""
    if isinstance(prompt, str):
        return None
    asked = prompt.to_json() if isinstance(prompt, ChatRequest) else {"messages": prompt}
    return {"model": experiment.model.public(), **asked}


def raw_of(row: Mapping[str, Any]) -> str:
    """The body of the answer as the provider sent it, of a model that keeps it; of a long one its beginning.
    Nothing of a case without an answer."""
    raw = orjson.loads(row.get("metadata") or "{}").get("raw")
    return raw if isinstance(raw, str) else indented_json(raw)


def kept_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """All that is stored of an answer."""
    found = {name: row[name] for name in _KEPT if row.get(name) is not None}
    if traces := traced(row):
        found["trace"] = traces
    return found


def indented_json(value: object) -> str:
    """A value as JSON that people read; nothing where there is none."""
    if value is None:
        return ""
    return orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2).decode()
