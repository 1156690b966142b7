"""What code of users records of a case while it works on it: messages, contexts, usage, and its spans."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict
from typing import Any

import orjson

from promptlab.domain.messages import MAX_MESSAGES, Message, Text, read_messages
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.prices import cost_usd as price_usd
from promptlab.domain.prices import price_of
from promptlab.domain.results import ModelResponse, Usage
from promptlab.domain.spending import spent
from promptlab.domain.trace import Trace
from promptlab.models.usage import usage_here

MOST_CONTEXTS = 1_000
"""Contexts of one case."""
MOST_BYTES = 2 << 20
"""Bytes of a case's contexts, of its recorded messages and of its spans, each as JSON."""
MOST_SPANS = 1_000
"""Spans of one case; the further ones are counted only."""
_ANY = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


class CaseRecorder:
    """One case, for the code that works on it: what was said so far, and a place for what it does.

    All methods may be called from any thread and any event loop, for as long as the case is worked on.

    Attributes:
        messages: what was said before, where the case is a conversation: the last one is the user's. Empty
            for every other case.
    """

    def __init__(self, messages: Sequence[Message] = ()) -> None:
        self.messages = tuple(messages)
        self._usage = usage_here() or Usage()
        self._lock = threading.Lock()
        self._said: list[Message] = []
        self._contexts: list[Any] = []
        self._spans: list[Mapping[str, Any]] = []
        self._bytes = {"messages": 0, "contexts": 0, "spans": 0}
        self._left_out = 0

    def record(self, *messages: Message | Mapping[str, Any]) -> None:
        """Add messages to what is recorded of the case, in order: `Message` values, or objects in the form of
        OpenTelemetry or OpenAI.

        Raises:
            MessageError: one is no message.
            ValueError: there are more than 2,000, or more than 2 MB of them.
        """
        given = [one.to_json() if isinstance(one, Message) else one for one in messages]
        data = orjson.dumps(given, option=_ANY, default=dict)
        read = read_messages(orjson.loads(data), "case.record")
        size = len(orjson.dumps([message.to_json() for message in read]))
        with self._lock:
            if len(self._said) + len(read) > MAX_MESSAGES:
                raise ValueError(f"case.record: more than {MAX_MESSAGES:,} messages; a case keeps no more")
            self._grow("messages", size, "case.record")
            self._said += read

    def contexts(self, found: Sequence[Any]) -> None:
        """Add what was retrieved for the answer, in order: texts, or objects with a `text`.

        Raises:
            TypeError: it is no list, or one of them is neither.
            ValueError: there are more than 1,000, or more than 2 MB of them.
        """
        if isinstance(found, str | bytes | Mapping) or not isinstance(found, Sequence):
            raise TypeError(f"case.contexts takes a list of texts, not a {type(found).__name__}")
        for number, one in enumerate(found, 1):
            if not isinstance(one, str) and not (isinstance(one, Mapping) and "text" in one):
                raise TypeError(
                    f"case.contexts: number {number} is a {type(one).__name__}; give a text, or an object "
                    "with a text, as in {'text': …, 'source': …}"
                )
        read = orjson.loads(orjson.dumps(list(map(_plain, found)), option=_ANY))
        size = len(orjson.dumps(read))
        with self._lock:
            if len(self._contexts) + len(read) > MOST_CONTEXTS:
                raise ValueError(f"case.contexts: more than {MOST_CONTEXTS:,} of them; a case keeps no more")
            self._grow("contexts", size, "case.contexts")
            self._contexts += read

    def usage(
        self,
        *,
        model: str | None = None,
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
        cost_usd: float | None = None,
    ) -> None:
        """Count one call that the code made by other means than PromptLab's models.

        Args:
            model: provider/model, by whose price the call is counted where `cost_usd` is not given.
            prompt_tokens: tokens read; None where nobody knows.
            completion_tokens: tokens written, likewise.
            cost_usd: dollars.

        Raises:
            ValueError: a number is negative, or the model is no provider/model.
        """
        for name, value in (("tokens read", prompt_tokens), ("tokens written", completion_tokens)):
            if value is not None and not (type(value) is int and 0 <= value < 2**53):
                raise ValueError(f"case.usage: {name} are a count, not {value!r}")
        if cost_usd is not None and not 0 <= cost_usd < float("inf"):
            raise ValueError(f"case.usage: cost_usd is a number of dollars, not {cost_usd!r}")
        if model is not None and cost_usd is None:
            cost_usd = price_usd(price_of(ModelConfig(name=model)), prompt_tokens, completion_tokens)
        used = Usage(calls=1, **asdict(spent(prompt_tokens, completion_tokens, cost_usd)))
        with self._lock:
            self._usage.add(used)

    def add_span(self, span: Mapping[str, Any]) -> None:
        """Keep a span that has ended, as JSON; beyond the bounds it is counted only."""
        size = len(orjson.dumps(span))
        with self._lock:
            if len(self._spans) >= MOST_SPANS or self._bytes["spans"] + size > MOST_BYTES:
                self._left_out += 1
                return
            self._bytes["spans"] += size
            self._spans.append(span)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was recorded so far."""
        return not (self._said or self._contexts or self._spans or self._left_out)

    @property
    def said(self) -> tuple[Message, ...]:
        """The messages that were recorded so far."""
        with self._lock:
            return tuple(self._said)

    def trace(self) -> Trace | None:
        """Give the contexts and spans so far; None where there are none."""
        with self._lock:
            spans = sorted(self._spans, key=lambda span: str(span.get("start", "")))
            if self._left_out:
                name = f"{self._left_out:,} more spans, which were not kept"
                spans.append({"name": name, "attributes": {"promptlab.left_out": self._left_out}})
            if not (spans or self._contexts):
                return None
            return Trace(contexts=tuple(self._contexts), spans=tuple(spans))

    def joined(self, answer: ModelResponse) -> ModelResponse:
        """Add to an answer what was recorded while it was made; gives it back.

        Messages that are recorded and given are there once.
        """
        if said := self.said:
            given = tuple(answer.messages)
            is_last = is_text(given) and said[-1].role == "assistant" and said[-1].text == answer.response
            if is_last:
                answer.messages = said
            elif given[: len(said)] != said:
                answer.messages = said + given
        if (found := self.trace()) is not None:
            was = answer.trace or Trace()
            answer.trace = Trace(
                contexts=was.contexts + found.contexts, spans=was.spans + found.spans, turns=was.turns
            )
        return answer

    def _grow(self, what: str, size: int, name: str) -> None:
        if self._bytes[what] + size > MOST_BYTES:
            raise ValueError(f"{name}: more than {MOST_BYTES >> 20} MB of JSON; a case keeps no more")
        self._bytes[what] += size


_CASE: ContextVar[CaseRecorder | None] = ContextVar("promptlab_case", default=None)


def current_case() -> CaseRecorder:
    """Give the case that the calling code works on, from wherever in it; outside of one a case that nobody
    looks at, so that the code works there, too."""
    return _CASE.get() or CaseRecorder()


def case_or_none() -> CaseRecorder | None:
    """Give the case that the calling code works on; None outside of one."""
    return _CASE.get()


@contextmanager
def recording(case: CaseRecorder) -> Iterator[CaseRecorder]:
    """Work on a case in the block, in whichever thread or task that ends up."""
    token = _CASE.set(case)
    try:
        yield case
    finally:
        _CASE.reset(token)


def answer_of(returned: Any, case: CaseRecorder | None = None) -> Any:
    """Make an answer of what code of users returned: a message, or a list of them, where it is one.

    None is an answer where messages were recorded. Whatever else it is comes back as it is.

    Raises:
        MessageError: a list holds what is no message.
    """
    if isinstance(returned, Message | Mapping):
        returned = [returned]
    if isinstance(returned, list | tuple) and returned:
        return ModelResponse(messages=read_messages(returned, "the answer"))
    if returned is None and case is not None and case.said:
        return ModelResponse(messages=case.said)
    return returned


def finished(returned: Any, case: CaseRecorder) -> Any:
    """Make an answer of what code of users returned, with what it recorded."""
    answer = answer_of(returned, case)
    return case.joined(answer) if isinstance(answer, ModelResponse) else answer


def is_text(messages: Sequence[Message]) -> bool:
    """Whether messages say no more than one text."""
    return len(messages) == 1 and all(isinstance(part, Text) for part in messages[0].parts)


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value
