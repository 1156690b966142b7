"""Code as a user has it, in a module of its own: it is sent with what it imports."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from promptlab import ChatRequest, Evaluator, Model, ModelResponse, RunCase, RunEvaluator, Score, read_media


class Words(Evaluator):
    """Passes for few words, and says how many; and how large the picture is, where there is one."""

    def __init__(self, most: int = 40) -> None:
        self.most = most

    def evaluate(self, data: dict[str, Any]) -> Score:
        words = len(data["text"].split())
        if data["question"] == "What is 5?":
            raise ValueError("five is right out")
        seen = f", {len(asyncio.run(read_media(data['photo'])))} bytes" if "photo" in data else ""
        return Score(passed=words <= self.most, reason=f"{words} words{seen}")


class Lengths(RunEvaluator):
    """How long the answers are, all in all, and how many differ."""

    inputs = {"text": "$inference"}
    scores = ("longest", "different")
    resamples = 20

    def evaluate(self, cases: Sequence[RunCase]) -> dict[str, float]:  # type: ignore[override]
        texts = [case["text"] for case in cases]
        return {"longest": max(map(len, texts)), "different": len(set(texts))}


def ending(data: dict[str, Any]) -> str:
    """A label."""
    return "question" if data["text"].rstrip().endswith("?") else "statement"


class Distinct(RunEvaluator):
    """The share of different answers, of the run as a whole, with an interval."""

    inputs = {"text": "$inference"}
    resamples = 50

    def evaluate(self, cases: Any) -> float:
        return len({case["text"] for case in cases}) / len(cases)


async def reply(row: dict[str, Any]) -> str:
    """An agent."""
    if row["question"] == "What is 5?":
        raise LookupError("no five")
    return f"{len(await read_media(row['photo']))} bytes of {row['product']}: {row['question']}"


class Shout(Model):
    """A model without a key, which sees pictures."""

    takes = frozenset({"image"})

    async def achat(self, messages: Any) -> ModelResponse:
        if not isinstance(messages, ChatRequest):
            return ModelResponse(messages[-1]["content"].upper())
        text, picture = messages.messages[-1].parts
        return ModelResponse(f"{text.content.upper()} {len(await read_media(picture))} BYTES")


class Reaches(Evaluator):
    """Tries what it may not."""

    def evaluate(self, data: dict[str, Any]) -> Any:
        found = [name for name in os.environ if "AWS" in name or "PROMPTLAB" in name]
        for attempt in (
            lambda: socket.create_connection(("127.0.0.1", 4566)),
            os.fork,
            lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
        ):
            try:
                attempt()
            except OSError:
                continue
            found.append(str(attempt))
        return "contained" if not found else f"reached {found}"
