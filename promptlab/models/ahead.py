"""Questions of judges that are asked ahead of their evaluation, in a batch of their provider."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol

from promptlab.domain.results import ModelResponse
from promptlab.models.base import Messages, Model


class LaterError(Exception):
    """The question is not to be asked now: its answer comes in a batch, or when the case is scored."""


class Ahead(Protocol):
    """Takes questions away, or knows what was answered to them."""

    async def answer(
        self, model: Model, messages: Messages, repeat: int
    ) -> tuple[ModelResponse, bool] | None:
        """The answer to a question, and whether it was given for another case, which pays for it; None: ask
        now.

        Raises:
            LaterError: do not.
            ModelError: it has none.
        """


AHEAD: ContextVar[Ahead | None] = ContextVar("promptlab_ahead", default=None)
"""Where judges look for what was asked ahead; None: nothing was."""
