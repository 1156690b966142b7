"""An agent function in place of prompt and model, seen by the engine as a model."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import orjson

from promptlab.domain.model_config import ModelConfig
from promptlab.domain.results import ModelResponse
from promptlab.models.base import Messages, Model, in_thread
from promptlab.models.retry import RetryPolicy

TIMEOUT_S = 600
"""Agents make several calls: longer than one answer takes."""


async def agent_messages(row: dict[str, Any]) -> list[dict[str, str]]:
    """Make the one message that an agent is given: the row itself."""
    return [{"role": "user", "content": orjson.dumps(row).decode()}]


def agent_config(name: str, max_concurrent_tasks: int) -> ModelConfig:
    """The configuration of a function in place of a model."""
    return ModelConfig(
        name=f"agent/{name}",
        timeout_s=TIMEOUT_S,
        max_retries=0,
        max_concurrent_tasks=max_concurrent_tasks,
    )


class AgentModel(Model):
    """Calls `function(row)`, sync or async; it returns a `ModelResponse` or the text of the answer."""

    def __init__(self, function: Callable[[dict[str, Any]], Any], *, max_concurrent_tasks: int = 10) -> None:
        name = getattr(function, "__qualname__", type(function).__name__).replace("<", "").replace(">", "")
        super().__init__(agent_config(name, max_concurrent_tasks))
        self.function = function
        self.cacheable = bool(getattr(function, "cacheable", False))

    @property
    def retry_policy(self) -> RetryPolicy:
        """None: an agent makes several calls, and has retries of its own."""
        return RetryPolicy(max_retries=0, max_throttles=0)

    @property
    def runs_user_code(self) -> bool:
        return True

    async def achat(self, messages: Messages) -> ModelResponse:
        """Call the function once."""
        row = orjson.loads(messages[0]["content"])
        call = getattr(self.function, "__call__", None)  # noqa: B004
        if inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(call):
            answer = await self.function(row)
        else:
            answer = await in_thread(self.function, row)
            answer = await answer if inspect.isawaitable(answer) else answer
        if isinstance(answer, str):
            return ModelResponse(response=answer)
        if isinstance(answer, ModelResponse):
            return answer
        raise TypeError(f"an agent returns a ModelResponse or a string, not {type(answer).__name__}")
