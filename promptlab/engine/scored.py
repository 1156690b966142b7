"""A case that is being scored, and what its evaluators are given of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from promptlab.domain.experiment import METADATA, PROMPT, RESPONSE, Metric
from promptlab.domain.messages import text_message, tool_calls_of
from promptlab.domain.results import Completion, Score, ScoreSet
from promptlab.engine.job import Job
from promptlab.engine.keyless import without_keys
from promptlab.errors import TemplateError
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.several import parted
from promptlab.results.table import Case

Bound = tuple[Metric, Evaluator]


@dataclass(slots=True)
class Scored:
    """A case and the scores that it has so far."""

    case: Case
    scores: dict[str, Score]
    recorded: int
    """How many of the scores are durable."""
    left: int = 0
    """How many are to be made one by one."""
    prompt: str | TemplateError | None = None
    """The text that was sent to the model, where a metric is given it; or why it cannot be made again."""
    made: tuple[int, ScoreSet] | None = None
    """What `to_set` gave last, and of how many scores."""

    def to_set(self, job: Job) -> ScoreSet:
        """The scores so far, in the order of the metrics."""
        if self.made is not None and self.made[0] == len(self.scores):
            return self.made[1]  # the ledger has been given it, the shard's part is to have the same
        done = self.case.completion
        names = (metric.name for metric, _ in job.bindings.evaluators)
        # Here, for the ledger and the shard's part have the scores from this.
        clean = without_keys(
            ScoreSet(
                shard=done.shard,
                case=done.case,
                trial=done.trial,
                generation=job.run.generation,
                scores={name: self.scores[name] for name in names if name in self.scores},
            )
        )
        self.made = len(self.scores), clean
        return clean

    def open(self, evaluators: Sequence[Bound]) -> list[Bound]:
        """The metrics that apply to the case and have no score yet; of those that share an evaluator the
        first."""
        row = self.case.row
        found: dict[str, Bound] = {}
        for m, e in evaluators:
            if m.kept is None and m.name not in self.scores and m.applies_to(row) and m.is_labelled(row):
                found.setdefault(m.evaluator_name, (m, e))
        return list(found.values())

    def keep(self, metric: Metric, score: Score, parts: Mapping[str, Sequence[tuple[str, str]]]) -> None:
        """Take the score of a metric; of one that shares its evaluator, those of all that do."""
        shared = parts.get(metric.evaluator_name)
        if not shared:
            self.scores[metric.name] = score
            return
        found = parted(score, [part for _, part in shared])
        self.scores |= {name: found[part] for name, part in shared}


def inputs(scored: Scored, mapping: Mapping[str, str]) -> dict[str, Any]:
    """Take an evaluator's inputs for a case from where the column_mapping says.

    Raises:
        TemplateError: the prompt is asked for and cannot be made again.
    """
    return {name: _value(scored, source) for name, source in mapping.items()}


def _value(scored: Scored, source: str) -> Any:
    completion = scored.case.completion
    if source in (RESPONSE, "$completion"):
        return completion.response
    if source == PROMPT:
        if isinstance(scored.prompt, TemplateError):
            raise scored.prompt
        return scored.prompt
    if source.startswith(f"{METADATA}."):
        return _at(_metadata(completion), source.removeprefix(f"{METADATA}."))
    if source == METADATA:
        return _metadata(completion)
    if source in _SAID:
        return _SAID[source](completion)
    if source.startswith("$"):
        return getattr(completion, source[1:])
    return scored.case.row.get(source)


def _messages(completion: Completion) -> list[dict[str, Any]]:
    said = completion.messages
    if not said and completion.response is not None:
        said = (text_message("assistant", completion.response),)
    return [message.to_json() for message in said]


def _tool_calls(completion: Completion) -> list[dict[str, Any]]:
    return [
        {"id": call.id, "name": call.name, "arguments": call.arguments}
        for call in tool_calls_of(completion.messages)
    ]


def _metadata(completion: Completion) -> Mapping[str, Any]:
    """Its metadata, with the calls of tools, which were kept there before there were messages."""
    calls = None if "tool_calls" in completion.metadata else _tool_calls(completion)
    return {**completion.metadata, "tool_calls": calls} if calls else completion.metadata


def _reasoning(completion: Completion) -> str | None:
    return "\n".join(m.reasoning for m in completion.messages if m.reasoning) or None


def _traced(name: str) -> Callable[[Completion], list[Any]]:
    return lambda completion: [] if completion.trace is None else list(getattr(completion.trace, name))


_SAID: dict[str, Callable[[Completion], Any]] = {
    "$messages": _messages,
    "$tool_calls": _tool_calls,
    "$reasoning": _reasoning,
    "$contexts": _traced("contexts"),
    "$turns": _traced("turns"),
    "$spans": _traced("spans"),
}
"""How what was said becomes JSON: messages as OpenTelemetry has them."""


def _at(value: Any, path: str) -> Any:
    """Find a value in metadata by its key, which may have dots, or by keys and list
    positions with dots between."""
    while True:
        if isinstance(value, Mapping) and path in value:
            return value[path]
        head, _, path = path.partition(".")
        if isinstance(value, Mapping):
            value = value.get(head)
        elif (
            isinstance(value, list | tuple) and head.isdecimal() and len(head) < 10 and int(head) < len(value)
        ):
            value = value[int(head)]
        else:
            return None
        if not path:
            return value
