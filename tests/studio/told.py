"""A sandbox for tests of what goes to it and is made of its answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Told:
    """A sandbox that says of every piece of code what its names say, and runs none of it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def ask(self, bundle_hash: str, event: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append((bundle_hash, dict(event)))
        name = str(event["ref"]["qualname"])
        if name == "Broken":
            return {"error": {"type": "NameError", "message": "name 'x' is not defined (rules.py, line 3)"}}
        if name.endswith("Model"):
            return {"answers": [{"n": 0, "said": {"kind": "model", "config": {"name": "custom/Own"}}}]}
        kind = "function" if name.islower() and name else "evaluator"
        said = {
            "kind": kind,
            "scores": ["a", "b"] if name == "Two" else [],
            "higher_is_better": name != "Less",
        }
        return {"answers": [{"n": 0, "said": said}]}

    async def close(self) -> None:
        """There is nothing to close."""
