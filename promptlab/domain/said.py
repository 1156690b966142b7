"""The messages of errors, counted: a bounded number of each type, however many different ones there are."""

from __future__ import annotations

from collections.abc import Mapping

MAX_TYPES = 50
"""Types of errors whose messages are kept."""
KEPT = 10
"""Different messages kept of each type. Beyond them the most frequent stay, so a count is
at least what it says."""
MESSAGE_CHARS = 300
SHOWN = 3
"""Messages of each type that people see."""

Messages = dict[str, dict[str, int]]
"""Type → message → cases."""


def count_message(messages: Messages, kind: str, message: str, cases: int = 1) -> None:
    """Count `cases` cases that failed with a message of a type."""
    if kind not in messages and len(messages) >= MAX_TYPES:
        return
    known = messages.setdefault(kind, {})
    text = message if len(message) <= MESSAGE_CHARS else message[: MESSAGE_CHARS - 1] + "…"
    known[text] = known.get(text, 0) + cases
    if len(known) > 2 * KEPT:
        messages[kind] = _most(known, KEPT)


def merge_messages(messages: Messages, others: Mapping[str, Mapping[str, int]]) -> None:
    """Add what others have counted."""
    for kind, known in others.items():
        for message, cases in known.items():
            count_message(messages, kind, message, cases)


def most_frequent(messages: Mapping[str, Mapping[str, int]], most: int = KEPT) -> Messages:
    """Take the most frequent messages of each type, the most frequent first; of equal ones the
    first in the alphabet."""
    return {kind: _most(known, most) for kind, known in messages.items()}


def _most(known: Mapping[str, int], most: int) -> dict[str, int]:
    return dict(sorted(known.items(), key=lambda item: (-item[1], item[0]))[:most])
