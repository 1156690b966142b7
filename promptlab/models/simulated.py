"""`simulated/<anything>`: answers without a network, for trying things out, for demos and for tests.

What it answers is a function of the prompt, the seed and the model's name; whether a call fails,
also of how often the prompt was asked since it last succeeded. So a run can be repeated exactly.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import operator
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from pydantic import ConfigDict, Field, ValidationError

from promptlab.domain.chat import ChatRequest, Prompt
from promptlab.domain.explain import explain
from promptlab.domain.messages import Message, Part, Reasoning, Text, ToolCall, ToolCallResponse
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.results import ModelResponse
from promptlab.domain.tokens import media_of, media_tokens
from promptlab.domain.written import Written
from promptlab.errors import ConfigError, ModelError
from promptlab.models.answers import call_part, json_text
from promptlab.models.provider import ProviderModel, Spent
from promptlab.models.usage import note_call
from promptlab.ports import Clock

DIMENSIONS = 64
WITHOUT_EFFECT = re.compile(
    "(additional_model_request|additionalModelRequest)_?[fF]ields|audio|chat_template_kwargs|dimensions|"
    "encoding_format|extra_body|(frequency|presence|repeat|repetition)_penalty|guardrailConfig|guided_json|"
    "inferenceConfig|input_type|keep_alive|logit_bias|logprobs|max_completion_tokens|metadata|min_p|"
    "mirostat|modalities|n|num_(ctx|predict)|options|parallel_tool_calls|performanceConfig|plugins|"
    "prediction|prompt_cache_key|provider|reasoning_effort|requestMetadata|route|safe_prompt|"
    "safety_identifier|service_tier|stop|stop_sequences|store|think|thinking|tool_choice|"
    "top_(a|k|logprobs|p)|transforms|truncate|truncation|typical_p|user|verbosity|web_search_options"
)
"""Parameters of real providers: a simulated model that stands in for one takes them, and does nothing. What
is neither these nor its own is a slip of the pen, which would otherwise pass for a setting."""
_SUM = re.compile(
    r"(-?\d+(?:\.\d+)?)\s*(plus|minus|times|divided by|[-+*/x×÷])\s*(-?\d+(?:\.\d+)?)", re.IGNORECASE
)
_OPERATORS = {
    **dict.fromkeys(("plus", "+"), operator.add),
    **dict.fromkeys(("minus", "-"), operator.sub),
    **dict.fromkeys(("times", "*", "x", "×"), operator.mul),
    **dict.fromkeys(("divided by", "/", "÷"), operator.truediv),
}
_CHOICE = re.compile(
    r"(?:answer|reply|respond|say|either|as|:)(?: with| only)*\s+(\w+(?:, \w+)*),? or (\w+)\b", re.IGNORECASE
)
_WORD = re.compile(r"[^\W\d_]{4,}")
LOOKED_AT = 100_000
"""Characters of a prompt that are looked at: the words of 5 million took 2 s to count, on the event loop."""
_TOKEN = re.compile(r"\w+|[^\w\s]")


class Calling(Written):
    """A call of a tool that a simulated model makes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=200, description="The tool's name.")
    arguments: dict[str, Any] = Field(default={}, description="What the tool is given, an object.")


class Behaviour(Written):
    """The parameters of a simulated model. Those of real providers (`WITHOUT_EFFECT`) change nothing."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    latency_ms: float = Field(default=0.0, ge=0, description="Milliseconds that a call takes.")
    jitter: float = Field(
        default=0.0, ge=0, le=1, description="How much longer a call may take, as a fraction of latency_ms."
    )
    failure_rate: float = Field(
        default=0.0, ge=0, le=1, description="The fraction of calls that end in a server error (HTTP 500)."
    )
    rate_limit_rate: float = Field(
        default=0.0, ge=0, le=1, description="The fraction of calls that are told to come later (HTTP 429)."
    )
    retry_after_s: float | None = Field(
        default=None, ge=0, description="What such an answer asks to wait, in seconds."
    )
    reasoning: str | None = Field(
        default=None, max_length=10_000, description="What it thinks before it answers."
    )
    tool_calls: tuple[Calling, ...] = Field(
        default=(),
        max_length=100,
        description="The tools that it calls, all at once, in place of an answer; it answers once they have "
        "responded.",
    )
    accuracy: float = Field(default=0.8, ge=0, le=1, description="The fraction of sums that it gets right.")


class SimulatedModel(ProviderModel):
    """A model that is played, at no cost.

    `simulated/echo` gives back the last line of the last user message. Any other name works out a
    sum (`17 + 25`), picks one of the choices that the prompt offers (`positive or negative`), or
    else says a sentence about the prompt's longest words.
    """

    known_extras = frozenset(Behaviour.model_fields)
    takes = frozenset({"tools", "image", "audio", "video", "document", "uri"})

    def __init__(self, config: ModelConfig | dict[str, Any], *, clock: Clock | None = None) -> None:
        super().__init__(config, clock=clock)
        try:
            self.behaviour = Behaviour.model_validate(self.config.extra_params)
        except ValidationError as error:
            raise ConfigError(explain(error, "simulated model", Behaviour)) from None
        self._check_names()
        self._failed: dict[int, int] = {}

    def _check_names(self) -> None:
        known = Behaviour.model_fields
        for name in self.config.extra_params:
            if name in known or WITHOUT_EFFECT.fullmatch(name):
                continue
            near = difflib.get_close_matches(name[:100], [*known, *ModelConfig.model_fields], n=1)
            raise ConfigError(
                f"Model {self.name!r}: {name[:100]!r} is no parameter of a simulated model, which has "
                f"{', '.join(known)}{f'; did you mean {near[0]!r}?' if near else ''}"
            )

    async def achat(self, messages: Prompt) -> ModelResponse:
        """Answer chat messages, or a request with parts and tools.

        Raises:
            ModelError: as often as `failure_rate` and `rate_limit_rate` say.
        """
        started, request = time.perf_counter(), None
        if isinstance(messages, ChatRequest):
            request = messages
            messages = [{"role": m.role, "content": _told(m)} for m in request.messages]
        asked = "\n".join(f"{m['role']}: {m['content']}" for m in messages)
        await self._take_time(asked)
        text = next((m["content"] for m in reversed(messages) if m["role"] == "user"), asked)
        parts, finish = self._played(text, asked, request)
        thought = count_tokens(self.behaviour.reasoning or "")
        written = sum(count_tokens(_words_of(part)) for part in parts)
        read = sum(count_tokens(m["content"]) + 4 for m in messages)
        read += round(sum(map(media_tokens, media_of(request)))) if request else 0
        return self.answered(
            parts,
            Spent(read, written, None, reasoning_tokens=thought if self.behaviour.reasoning else None),
            finish=finish,
            latency_ms=(time.perf_counter() - started) * 1000,
        )

    def _played(self, text: str, asked: str, request: ChatRequest | None) -> tuple[list[Part], str]:
        """Return what it thinks, and what it says or which tools it calls."""
        play = self.behaviour
        parts: list[Part] = [Reasoning(play.reasoning)] if play.reasoning else []
        if wanted := self._wanted(request):
            calls = [
                call_part(call.name, call.arguments, f"call_{number}")
                for number, call in enumerate(wanted, 1)
            ]
            return [*parts, *calls], "tool_calls"
        formed = self._formed(asked)
        answer, finish = (formed, "stop") if formed is not None else self._cut(self._answer(text, asked))
        return [*parts, Text(answer)], finish

    def _wanted(self, request: ChatRequest | None) -> Sequence[Calling]:
        """The calls of tools that it makes: none once the tools have responded, and none of tools that must
        not be called; one with made-up arguments where one must be."""
        if request is None:
            return self.behaviour.tool_calls
        last = request.messages[-1].parts if request.messages else ()
        choice = request.tool_choice
        if choice == "none" or any(isinstance(part, ToolCallResponse) for part in last):
            return ()
        if self.behaviour.tool_calls or choice in (None, "auto"):
            return self.behaviour.tool_calls
        tool = next((one for one in request.tools if choice in ("required", one.name)), None)
        return () if tool is None else [Calling(name=tool.name, arguments=_made_up(tool.parameters))]

    async def _embed_batch(self, texts: list[str]) -> list[list[float]]:
        await self._take_time("\n".join(texts))
        note_call(self.config, sum(map(count_tokens, texts)))
        return [embedding(text) for text in texts]

    async def _take_time(self, asked: str) -> None:
        """Wait as long as the call takes, then fail if it is one that fails."""
        play = self.behaviour
        fails = play.failure_rate + play.rate_limit_rate > 0
        key = hash(asked) if fails else 0
        attempt = self._failed.get(key, 0)
        # Also without latency: others get their turn between two calls, as with a real one.
        await self._clock.sleep(
            play.latency_ms / 1000 * (1 + play.jitter * self._draw("latency", asked, attempt))
        )
        fate = self._draw("fate", asked, attempt) if fails else 1.0
        if fate >= play.failure_rate + play.rate_limit_rate:
            self._failed.pop(key, None)
            return
        self._failed[key] = attempt + 1
        if fate < play.rate_limit_rate:
            message = f"{self.name}: HTTP 429 too many requests (simulated)"
            raise ModelError(
                message, type="rate_limit", status=429, retryable=True, retry_after_s=play.retry_after_s
            )
        raise ModelError(
            f"{self.name}: HTTP 500 the provider failed (simulated)",
            type="server_error",
            status=500,
            retryable=True,
        )

    def _draw(self, *of: object) -> float:
        """A number from 0 up to 1 that depends on nothing but these, the seed and the model's name."""
        text = "\0".join(map(str, (self.config.seed, self.config.model_id, *of)))
        return (
            int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=7).digest(), "big")
            / 2**56
        )

    def _answer(self, text: str, asked: str) -> str:
        if self.config.model_id == "echo":
            return text.rstrip().rpartition("\n")[2].strip()
        answer = self._worked_out(text, asked) or self._chosen(asked) or self._said(text, asked)
        if "json" in str((self.config.response_format or {}).get("type", "")):
            return orjson.dumps({"answer": answer}).decode()
        return answer

    def _formed(self, asked: str) -> str | None:
        """Fill the JSON schema that the answer is to have, as a judge's; None where there is none."""
        schema = (self.config.response_format or {}).get("json_schema", {}).get("schema")
        return None if schema is None else orjson.dumps(self._filled(schema, asked, "")).decode()

    def _filled(self, schema: Mapping[str, Any], asked: str, path: str) -> Any:
        kind = schema.get("type")
        if kind == "object":
            members = schema.get("properties", {})
            return {name: self._filled(one, asked, f"{path}.{name}") for name, one in members.items()}
        if kind == "array":
            count = 1 + int(self._draw("items", asked, path) * 4)
            return [self._filled(schema["items"], asked, f"{path}.{number}") for number in range(count)]
        if "enum" in schema:
            # The first label is the good one, as a rule.
            drawn = self._draw("label", asked, path)
            return schema["enum"][0 if drawn < self.behaviour.accuracy else -1]
        if kind == "integer":
            return 1 + int(path.split(".")[2]) if path.count(".") > 2 else 1
        return self._said(asked[-2_000:], asked) if kind == "string" else None

    def _worked_out(self, text: str, asked: str) -> str | None:
        sums = _SUM.findall(text[-LOOKED_AT:])
        if not sums:
            return None
        left, sign, right = sums[-1]
        if float(right) == 0 and sign.lower() in ("/", "÷", "divided by"):
            return "undefined"
        value = float(_OPERATORS[sign.lower()](float(left), float(right)))
        if self._draw("accuracy", asked) >= self.behaviour.accuracy:
            value += 1 + int(self._draw("slip", asked) * 9)
        return f"{value:.10g}"

    def _chosen(self, asked: str) -> str | None:
        offered = _CHOICE.search(asked[-LOOKED_AT:])
        if offered is None:
            return None
        choices: list[str] = [*offered[1].split(", "), offered[2]]
        return choices[int(self._draw("choice", asked) * len(choices))]

    def _said(self, text: str, asked: str) -> str:
        words = sorted({word.lower() for word in _WORD.findall(text[-10_000:])}, key=lambda w: (-len(w), w))[
            :6
        ]
        if not words:
            return "Yes." if self._draw("yes", asked) < 0.5 else "No."
        picked = sorted(words, key=lambda word: self._draw("word", word, asked))
        openings = (
            "The main point is",
            "It comes down to",
            "Worth a closer look:",
            "Well put, above all on",
            "This could say more about",
        )
        opening = openings[int(self._draw("opening", asked) * len(openings))]
        return f"{opening} {' and '.join(picked[:2])}{', with ' + picked[2] if len(picked) > 2 else ''}."

    def _cut(self, answer: str) -> tuple[str, str]:
        most = self.config.max_tokens
        if most is None or count_tokens(answer) <= most:
            return answer, "stop"
        end = [match.end() for match in _TOKEN.finditer(answer)][most - 1]
        return answer[:end], "length"


_MADE_UP: Mapping[Any, Any] = {"integer": 1, "number": 1.5, "boolean": True, "array": [], "null": None}


def _made_up(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that fit a tool's schema as far as its own level goes."""
    properties = schema.get("properties")
    found: dict[str, Any] = {}
    for name, kind in (properties if isinstance(properties, Mapping) else {}).items():
        kind = kind if isinstance(kind, Mapping) else {}
        chosen = kind.get("enum") or [
            _MADE_UP.get(str(kind.get("type")), {} if "properties" in kind else "text")
        ]
        found[name] = chosen[0]
    return found


def _told(message: Message) -> str:
    """All the words of a message."""
    return "\n".join(filter(None, map(_words_of, message.parts)))


def _words_of(part: Part) -> str:
    if isinstance(part, ToolCallResponse):
        return part.response if isinstance(part.response, str) else json_text(part.response)
    if isinstance(part, ToolCall):
        return f"{part.name} {json_text(part.arguments)}"
    return part.content if isinstance(part, Text | Reasoning) else ""


def count_tokens(text: str) -> int:
    """Count words and punctuation marks: near enough to a real tokenizer for English. Of a long text, by its
    beginning."""
    start = text[:LOOKED_AT]
    return round(sum(1 for _ in _TOKEN.finditer(start)) * len(text) / max(len(start), 1))


def embedding(text: str) -> list[float]:
    """A unit vector of 64 numbers, the sum of one fixed direction for each word: texts that
    share words are close."""
    total = [0.0] * DIMENSIONS
    for word in _TOKEN.findall(text[:LOOKED_AT].lower()) or [text]:
        digest = hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=DIMENSIONS).digest()
        for i, byte in enumerate(digest):
            total[i] += byte - 127.5
    norm = math.sqrt(sum(x * x for x in total)) or 1.0
    return [x / norm for x in total]
