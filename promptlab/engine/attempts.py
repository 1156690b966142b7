"""The attempts of one case: what is kept of them, and what the failed ones were billed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from promptlab.domain.prices import Price, cost_usd
from promptlab.domain.results import MAX_TRIES, Attempt


@dataclass(slots=True)
class Attempts:
    """Takes the attempts of a case as they end. A case that is answered at once never fills it."""

    price: Price | None
    """The price of the model, for calls of which nobody says what they cost."""
    kept: list[Attempt] = field(default_factory=list)
    """The first and the last MAX_TRIES / 2."""
    prompt_tokens: int = 0
    """Tokens read by failed calls that were billed, of those that are not kept, too."""
    completion_tokens: int = 0
    cost_usd: float = 0.0
    lost: bool = False
    """Whether a failed call may have been billed, and nobody says what."""

    def add(self, attempt: Attempt) -> None:
        """Take an attempt that has ended."""
        if attempt.type is not None:
            if attempt.cost_usd is None:
                attempt = replace(attempt, cost_usd=cost_usd(self.price, None, None))
            self.prompt_tokens += attempt.prompt_tokens or 0
            self.completion_tokens += attempt.completion_tokens or 0
            self.cost_usd += attempt.cost_usd or 0.0
            self.lost = self.lost or attempt.cost_usd is None
        self.kept.append(attempt)
        _shorten(self.kept, MAX_TRIES)

    def answered(self, spent: dict[str, Any]) -> dict[str, Any]:
        """Return fields of a completion: the usage of the answer, with that of the failed calls before."""
        self.kept[-1] = replace(self.kept[-1], **spent)
        read, written, usd = spent["prompt_tokens"], spent["completion_tokens"], spent["cost_usd"]
        return {
            "prompt_tokens": None if read is None else read + self.prompt_tokens,
            "completion_tokens": None if written is None else written + self.completion_tokens,
            "cost_usd": None if usd is None else usd + self.cost_usd,
            "tries": tuple(self.kept),
        }

    def failed(self) -> dict[str, Any]:
        """Return the fields of a completion that has no answer.

        Its cost is 0 if every call was refused, and unknown if one of them may have been billed.
        """
        return {
            "prompt_tokens": self.prompt_tokens or None,
            "completion_tokens": self.completion_tokens if self.prompt_tokens else None,
            "cost_usd": None if self.lost else self.cost_usd,
            "tries": tuple(self.kept),
        }

    def to_json(self, most: int = MAX_TRIES) -> dict[str, Any]:
        """The sums and at most so many attempts as JSON, for the next worker of a postponed case."""
        kept = [asdict(attempt) for attempt in self.kept]
        _shorten(kept, most)
        return {**{name: getattr(self, name) for name in _SUMS}, "kept": kept}

    def resume(self, found: dict[str, Any]) -> None:
        """Go on from what `to_json` gave."""
        for name in _SUMS:
            setattr(self, name, found[name])
        self.kept = [Attempt(**attempt) for attempt in found["kept"]]


def _shorten(attempts: list[Any], most: int) -> None:
    """Leave out what is in the middle."""
    if (over := len(attempts) - most) > 0:
        del attempts[most // 2 : most // 2 + over]


_SUMS = ("prompt_tokens", "completion_tokens", "cost_usd", "lost")
