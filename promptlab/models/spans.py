"""Collects the OpenTelemetry spans of a case: those that begin or end in the context of its code.

Needs the extra `otel`. Where the program has a tracer provider of its own, the collector is one more span
processor of it; where it has none, one is set that does nothing else.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any

import orjson

from promptlab.domain.texts import cut, storable
from promptlab.models.recording import CaseRecorder, case_or_none

MOST_ATTRIBUTES = 128
"""Attributes of a span, and of each of its events: OpenTelemetry's own default."""
MOST_EVENTS = 64
MOST_TEXT = 16_384
"""Characters of an attribute: a prompt of a few pages."""
MOST_SPAN = 128 << 10
"""Bytes of a span as JSON; of a longer one the texts are cut to SHORT_TEXT."""
SHORT_TEXT = 500
MOST_OPEN = 10_000
"""Spans under way of which it is known to which case they belong."""

_lock = threading.Lock()
_seen: weakref.WeakSet[Any] = weakref.WeakSet()
"""Tracer providers that have the collector."""
_is_there: list[bool] = []


def collect_spans() -> None:
    """Have the spans of the program's tracer provider collected, if OpenTelemetry's SDK is installed.

    Costs a microsecond where that is so already.
    """
    if not _is_there:
        _is_there.append(_installed())
    if not _is_there[0]:
        return
    from opentelemetry import trace

    provider = trace.get_tracer_provider()
    if provider in _seen:
        return
    with _lock:
        _add_to(trace, provider)


def _installed() -> bool:
    try:
        return "opentelemetry.sdk.trace" in sys.modules or find_spec("opentelemetry.sdk") is not None
    except (ImportError, ValueError):  # `opentelemetry` itself is not there, or is something else
        return False


def _add_to(trace: Any, provider: Any) -> None:
    from opentelemetry.sdk.trace import TracerProvider

    if isinstance(provider, trace.ProxyTracerProvider):
        trace.set_tracer_provider(TracerProvider())
        provider = trace.get_tracer_provider()
    add = getattr(provider, "add_span_processor", None)
    if add is not None and provider not in _seen:
        add(_collector())
    _seen.add(provider)


def _collector() -> Any:
    from opentelemetry.sdk.trace import SpanProcessor

    class Collector(SpanProcessor):  # type: ignore[misc,unused-ignore]
        """Gives each span that ends to the case in whose context it began or ends."""

        def __init__(self) -> None:
            self._cases: dict[int, weakref.ref[CaseRecorder]] = {}

        def on_start(self, span: Any, parent_context: Any = None) -> None:
            case = case_or_none()
            if case is not None and len(self._cases) < MOST_OPEN:
                self._cases[span.context.span_id] = weakref.ref(case)

        def on_end(self, span: Any) -> None:
            began = self._cases.pop(span.context.span_id, None)
            case = (None if began is None else began()) or case_or_none()
            if case is not None:
                case.add_span(span_json(span))

        def shutdown(self) -> None:
            self._cases.clear()

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return True

    return Collector()


def span_json(span: Any) -> dict[str, Any]:
    """Give a span that has ended as JSON, within bounds: `name`, `trace_id`, `span_id`, `parent_id`, `kind`,
    `start` (ISO 8601, UTC), `duration_ms`, `status`, `error`, `attributes` and `events`."""
    found = _span(span, MOST_TEXT)
    return found if len(orjson.dumps(found)) <= MOST_SPAN else _span(span, SHORT_TEXT)


def _span(span: Any, most: int) -> dict[str, Any]:
    start, end = span.start_time or 0, span.end_time or span.start_time or 0
    status = getattr(span.status.status_code, "name", "UNSET").lower()
    found: dict[str, Any] = {
        "name": _text(span.name, 500),
        "trace_id": f"{span.context.trace_id:032x}",
        "span_id": f"{span.context.span_id:016x}",
        "parent_id": None if span.parent is None else f"{span.parent.span_id:016x}",
        "kind": getattr(span.kind, "name", "INTERNAL").lower(),
        "start": _iso(start),
        "duration_ms": max(0, end - start) / 1e6,
        "status": status,
        "attributes": _attributes(span.attributes, most),
    }
    if status == "error" and span.status.description:
        found["error"] = _text(span.status.description, 2_000)
    if events := list(span.events or ())[:MOST_EVENTS]:
        found["events"] = [
            {
                "name": _text(one.name, 500),
                "at": _iso(one.timestamp),
                "attributes": _attributes(one.attributes, most),
            }
            for one in events
        ]
    return found


def _attributes(given: Mapping[str, Any] | None, most: int) -> dict[str, Any]:
    some = list((given or {}).items())[:MOST_ATTRIBUTES]
    return {_text(name, 200): _value(value, most) for name, value in some}


def _value(value: Any, most: int) -> Any:
    if isinstance(value, bool | float) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**53 else str(value)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_value(one, most) for one in value[:MOST_ATTRIBUTES]]
    return _text(value, most)


def _text(value: Any, most: int) -> str:
    return storable(cut(str(value), most))


def _iso(nanoseconds: int) -> str:
    """A time as PromptLab writes them, to the microsecond."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1000:06}Z"
