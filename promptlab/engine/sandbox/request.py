"""What an invocation of the sandbox asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from promptlab.errors import PromptLabError

CODE = "code"
"""Evaluates code that a model wrote: a child for each case, whose end is a verdict on its case, too."""
ROLES = ("evaluate", "infer", "check", CODE)
MOST_LIMIT_S = 86_400.0
_HASH = re.compile(r"[0-9a-f]{64}")


class EventError(PromptLabError):
    """An invocation asks for what there is not; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Request:
    """An invocation, as it may be relied on."""

    role: str
    bundle: str
    """The SHA-256 of the bundle's content."""
    content: Mapping[str, Any] | None
    """The content; None where the sandbox is to have it already."""
    urls: Mapping[str, str]
    """Where the packages and media are, by their SHA-256."""
    tenant: str
    """Whose it is: no child works for two."""
    metric: str
    """What the evaluator is called in messages."""
    recipe: bytes
    """What is to be made of the bundle."""
    cases: Sequence[tuple[int, Any]]
    media: Mapping[int, Mapping[str, int]]
    """The sizes of the media that cases refer to, by their SHA-256, by the number of the case."""
    limit_s: float
    """How long a case may take."""
    budget_s: float
    """How long after its beginning the invocation begins with no further case."""
    left_s: float
    """How long the caller waits."""

    @property
    def whose(self) -> tuple[str, str]:
        """Whose child may answer."""
        return self.tenant, self.bundle

    @classmethod
    def read(cls, event: Mapping[str, Any]) -> Request:
        """Read an event.

        Raises:
            EventError: it is none of these.
        """
        role, bundle, cases = event.get("role"), event.get("bundle"), event.get("cases")
        if role not in ROLES:
            raise EventError(f"the role {str(role)[:50]!r} is none of {', '.join(ROLES)}")
        if not isinstance(bundle, Mapping) or not _HASH.fullmatch(str(bundle.get("hash"))):
            raise EventError("there is no bundle, or it has no hash")
        if role != "check" and not isinstance(cases, list):
            raise EventError("there are no cases")
        recipe = {name: event.get(name) for name in ("role", "ref", "parts", "metric", "config")}
        return cls(
            role=role,
            bundle=bundle["hash"],
            content=bundle.get("content"),
            urls=bundle.get("urls") or {},
            tenant=str(event.get("tenant") or ""),
            metric=str(event.get("metric") or "the code")[:200],
            recipe=orjson.dumps(recipe),
            cases=[(0, {})] if role == "check" else _cases(cases or []),
            media={} if role == "check" else _media(cases or []),
            limit_s=_seconds(event.get("limit_s", 60.0), "limit_s"),
            budget_s=_seconds(event.get("budget_s", MOST_LIMIT_S), "budget_s"),
            left_s=_seconds(event.get("left_s", MOST_LIMIT_S), "left_s"),
        )


def _cases(given: Sequence[Any]) -> list[tuple[int, Any]]:
    try:
        found = [(int(case["n"]), case["data"]) for case in given]
    except (TypeError, KeyError, ValueError):
        raise EventError('a case is {"n": its number, "data": its inputs}') from None
    if len({n for n, _ in found}) < len(found):
        raise EventError("two cases have the same number")
    return found


def _media(given: Sequence[Any]) -> dict[int, Mapping[str, int]]:
    found = {int(case["n"]): case["media"] for case in given if case.get("media")}
    for sizes in found.values():
        if not isinstance(sizes, Mapping) or not all(
            _HASH.fullmatch(sha256) and type(size) is int and size >= 0 for sha256, size in sizes.items()
        ):
            raise EventError(f"the media of a case are their sizes by their SHA-256, not {str(sizes)[:100]}")
    return found


def _seconds(given: Any, name: str) -> float:
    if type(given) not in (int, float) or not 0 < given <= MOST_LIMIT_S:
        raise EventError(f"{name} must be from 0 to {MOST_LIMIT_S:g} s, not {str(given)[:50]}")
    return float(given)
