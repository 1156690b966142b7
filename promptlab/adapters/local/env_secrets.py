"""Provider keys from environment variables."""

from __future__ import annotations

import os

from promptlab.domain.secrets import Secret, check_variable, secret_variable


class EnvSecrets:
    """The Secrets of one machine: its environment variables, read anew each time."""

    async def get(self, name: str) -> Secret | None:
        variable = secret_variable(name, os.environ)
        check_variable(variable, os.environ)
        # `KEY= promptlab …` is how a shell unsets a variable for one command.
        value = os.environ.get(variable)
        return Secret(value) if value else None

    async def close(self) -> None:
        """Nothing is held."""
