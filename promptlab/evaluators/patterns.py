"""Regular expressions that cannot hang a run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from promptlab.evaluators.text import quote

T = TypeVar("T")

MAX_PATTERN = 10_000
"""Characters. To compile 10,000 takes 0.1 s, to compile 300,000 alternatives 20 s and more, with the
interpreter held."""


class SafePattern:
    """A compiled pattern with a time limit, which lets other threads run while it matches.

    Backtracking may take exponential time, and `re` would hold the interpreter for all of it; the
    `regex` package gives it back (`concurrent`) and stops at a `timeout`.
    """

    def __init__(self, pattern: str, *, name: str, timeout_s: float, ignore_case: bool = False) -> None:
        """Compile a pattern.

        Args:
            name: the parameter that it comes from, for messages.
            timeout_s: seconds that one match may take.

        Raises:
            ValueError: it is not a valid pattern (the message has the position), too long or nested too deep.
        """
        import regex

        if len(pattern) > MAX_PATTERN:
            raise ValueError(f"{name} has {len(pattern):,} characters; at most {MAX_PATTERN:,} are allowed")
        self.pattern, self.name, self.timeout_s = pattern, name, timeout_s
        try:
            self._compiled = regex.compile(pattern, flags=regex.IGNORECASE if ignore_case else 0)
        except regex.error as error:
            raise ValueError(f"{name} {quote(pattern)} is not a valid regular expression: {error}") from error
        except RecursionError as error:
            raise ValueError(f"{name} {quote(pattern)} is nested too deep") from error

    def matches(self, text: str, how: Literal["search", "start", "full"]) -> bool:
        """Whether the pattern matches anywhere, at the start, or the whole text.

        Raises:
            TimeoutError: it took too long.
        """
        method = {
            "search": self._compiled.search,
            "start": self._compiled.match,
            "full": self._compiled.fullmatch,
        }[how]
        return self._timed(text, lambda: method(text, timeout=self.timeout_s, concurrent=True)) is not None

    def extract(self, text: str, which: Literal["first", "last"]) -> str | None:
        """Return what the first or last match captured: its first group that took part, or all of it if it
        has no groups; None without a match.

        Raises:
            TimeoutError: it took too long.
        """
        match = self._timed(text, lambda: self._find(text, which))
        if match is None:
            return None
        return (
            next((group for group in match.groups() if group is not None), "")
            if match.re.groups
            else match[0]
        )

    def _find(self, text: str, which: Literal["first", "last"]) -> Any:
        if which == "first":
            return self._compiled.search(text, timeout=self.timeout_s, concurrent=True)
        last = deque(self._compiled.finditer(text, timeout=self.timeout_s, concurrent=True), maxlen=1)
        return last[0] if last else None

    def _timed(self, text: str, match: Callable[[], T]) -> T:
        try:
            return match()
        except TimeoutError as error:
            raise TimeoutError(
                f"{self.name} {quote(self.pattern)} took more than timeout_s {self.timeout_s:g} on a text "
                f"of {len(text):,} characters: "
                "it backtracks; repeat nothing that itself repeats, as in (a+)+"
            ) from error
