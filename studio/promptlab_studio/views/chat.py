"""What was said in a case, as its page shows it: a chat, spans and turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import orjson

from promptlab_studio.views.format import exact, milliseconds, one_line
from promptlab_studio.views.room import MOST_OF_ONE, Beginning, Room

MOST_MESSAGES = 200
"""Messages on a page; the others are behind a link."""
MOST_SPANS = 300
INLINE = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""Types of media that a page shows, and that are sent to be shown: a browser runs nothing in them."""

Begun = Callable[[Any, str], Beginning]
MediaUrl = Callable[[Mapping[str, Any]], str | None]


@dataclass(frozen=True, slots=True)
class Said:
    """A part of a message."""

    kind: str
    """text, folded, media."""
    title: str = ""
    text: Beginning = field(default_factory=lambda: Beginning(""))
    url: str | None = None
    """Of media: where they are."""
    shown: bool = False
    """Of media: whether the page shows them."""
    bad: bool = False


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """A message of a chat."""

    role: str
    parts: Sequence[Said]
    finish: str | None = None


def chat_view(
    messages: Sequence[Mapping[str, Any]], of: str, begun: Begun, media: MediaUrl
) -> list[ChatMessage]:
    """Make the messages of a chat, in OpenTelemetry's form, for the page.

    Args:
        messages: those of a case, or of its prompt.
        of: how the address of a whole text begins: `said` or `asked`.
        begun: gives the beginning of a value, and says where the whole is.
        media: gives the address of a medium; None where there is none.
    """
    return [
        ChatMessage(
            message["role"],
            [
                _said(part, lambda value, at=f"{of}.{n}.{k}": begun(value, at), media)  # type: ignore[misc]
                for k, part in enumerate(message["parts"])
            ],
            message.get("finish_reason"),
        )
        for n, message in enumerate(messages[:MOST_MESSAGES])
    ]


@dataclass(frozen=True, slots=True)
class Talk:
    """What was said in a case of one run, as it stands beside those of others."""

    letter: str
    """The run's, as A."""
    url: str
    """The case's own page."""
    messages: Sequence[ChatMessage]
    """None where the answer is no more than its text."""
    counts: str
    """Its calls of tools and its turns, in words."""
    left_out: int = 0


MOST_BESIDE = 50
"""Messages of a case that stands beside others."""


def talk_of(
    row: Mapping[str, Any], counts: Mapping[str, int], letter: str, url: str, room: Room, media: MediaUrl
) -> Talk:
    """Make what was said in a case ready to stand beside what was said in others.

    Args:
        row: the case, as a run's results have it.
        counts: `calls` and `turns`, how many it has.
        letter: the run's, as A.
        url: the path of the case's page, under which whole texts and media are.
        room: the page's room for texts.
        media: gives the address of a medium.
    """

    def begun(value: Any, of: str) -> Beginning:
        return room.take(exact(value), f"{url}/text?{urlencode({'of': of})}", MOST_OF_ONE // 10)

    messages = row.get("messages") or ()
    return Talk(
        letter,
        url,
        chat_view(messages[:MOST_BESIDE], "said", begun, media),
        counted_words(counts),
        max(0, len(messages) - MOST_BESIDE),
    )


def counted_words(counts: Mapping[str, int]) -> str:
    """Say how many calls of tools and how many turns there are; nothing where there are none of either."""
    words = {"calls": ("tool call", "tool calls"), "turns": ("turn", "turns")}
    return ", ".join(f"{n} {words[name][n != 1]}" for name, n in counts.items() if n)


def text_of_part(part: Mapping[str, Any]) -> str:
    """Give all that a part says, as text."""
    match part["type"]:
        case "text" | "reasoning":
            return str(part["content"])
        case "tool_call":
            return _indented(part.get("arguments"))
        case "tool_call_response":
            return _indented(part.get("response"))
        case _:
            return _indented(part)


def _said(part: Mapping[str, Any], begun: Callable[[Any], Beginning], media: MediaUrl) -> Said:
    kind, text = part["type"], text_of_part(part)
    if kind == "text":
        return Said("text", text=begun(text))
    if kind == "reasoning":
        return Said(
            "folded", "Reasoning" if text else "Reasoning, which the provider keeps to itself", begun(text)
        )
    if kind == "tool_call":
        line = _line(part.get("arguments"))
        return Said("folded", f"{part['name']}({line})", begun(text))
    if kind == "tool_call_response":
        failed = part.get("is_error") is True
        return Said(
            "folded",
            f"{'✕ failed' if failed else '→'} {_line(part.get('response'))}",
            begun(text),
            bad=failed,
        )
    return medium_of(part, media)


def medium_of(part: Mapping[str, Any], media: MediaUrl) -> Said:
    """Make a medium ready to be shown, by its form in a message or in a dataset's row."""
    about = part.get("mime_type") or part.get("modality")
    size = f", {part['size']:,} bytes" if part.get("size") else ""
    url = media(part)
    title = f"{part.get('modality')}: {part.get('uri') or part.get('file_id') or f'{about}{size}'}"
    return Said("media", one_line(title), url=url, shown=url is not None and part.get("mime_type") in INLINE)


def _line(value: Any) -> str:
    return one_line(value if isinstance(value, str) else orjson.dumps(value).decode())[:120]


def _indented(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def traced(row: Mapping[str, Any]) -> dict[str, Any]:
    """The trace of a case; empty where it has none."""
    if not isinstance(row.get("trace"), str):
        return {}
    try:
        found = orjson.loads(row["trace"])
    except orjson.JSONDecodeError:  # of a page of cases, which has its beginning only
        return {}
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True)
class SpanView:
    """A span on the timeline."""

    name: str
    depth: int
    start: float
    """Per cent of the whole time before it."""
    width: float
    took: str
    tokens: str
    bad: bool


def timeline(spans: Sequence[Mapping[str, Any]]) -> list[SpanView]:
    """Lay spans out on the time from the first one's start to the last one's end; nested ones are "
    "indented."""
    spans = [span for span in spans[:MOST_SPANS] if isinstance(span, Mapping)]
    times = [(_start(span), _number(span.get("duration_ms"))) for span in spans]
    first = min((at for at, _ in times if at is not None), default=0.0)
    whole = max(((first if at is None else at) + took - first for at, took in times), default=0.0) or 1.0
    parents = {span.get("span_id"): span.get("parent_id") for span in spans}
    found = []
    for span, (at, took) in zip(spans, times, strict=True):
        start = 0.0 if at is None else 100 * (at - first) / whole
        width = max(0.5, 100 * took / whole)
        status = span.get("status")
        bad = span.get("error") is not None or (isinstance(status, str) and status.upper() == "ERROR")
        depth = _depth(span.get("span_id"), parents)
        name = one_line(span.get("name") or "span")[:120]
        found.append(SpanView(name, depth, start, width, milliseconds(took), _tokens(span), bad))
    return found


def _depth(span: Any, parents: Mapping[Any, Any]) -> int:
    depth, at = 0, parents.get(span)
    while at in parents and at is not None and depth < 20:
        depth, at = depth + 1, parents.get(at)
    return depth


def _start(span: Mapping[str, Any]) -> float | None:
    """Milliseconds since 1970."""
    try:
        return datetime.fromisoformat(str(span.get("start")).replace("Z", "+00:00")).timestamp() * 1000
    except ValueError:
        return None


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and value >= 0 else 0.0


def _tokens(span: Mapping[str, Any]) -> str:
    given = span.get("attributes")
    known = given if isinstance(given, Mapping) else {}
    read, written = (known.get(f"gen_ai.usage.{name}_tokens") for name in ("input", "output"))
    if not isinstance(read, int) and not isinstance(written, int):
        return ""
    return " → ".join(f"{n:,}" if isinstance(n, int) else "?" for n in (read, written))
