"""Provider keys from environment variables."""

from __future__ import annotations

import os


class EnvSecrets:
    """The Secrets of one machine: its environment variables, read anew each time."""

    async def get(self, name: str) -> str | None:
        # `KEY= promptlab …` is how a shell unsets a variable for one command.
        return os.environ.get(name) or None

    async def close(self) -> None:
        """Nothing is held."""
