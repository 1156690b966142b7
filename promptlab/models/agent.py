"""An agent function in place of prompt and model, seen by the engine as a model."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson

from promptlab.domain.messages import read_messages
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.results import ModelResponse
from promptlab.models.base import Messages, Model, in_thread
from promptlab.models.recording import answer_of, current_case
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


def takes_case(function: Callable[..., Any]) -> str | None:
    """Tell how an agent's function is to be given its case: `keyword` where it has a parameter `case`,
    `positional` where it has a second one without a default; None where it is called with the row only."""
    try:
        _, *further = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):  # a built-in without a signature, or without a parameter
        return None
    for parameter in further:
        if parameter.name == "case" and parameter.kind is not parameter.POSITIONAL_ONLY:
            is_set = parameter.default not in (parameter.empty, None)  # by `params`
            return None if is_set or parameter.kind in _MANY else "keyword"
    plain = [p for p in further if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return "positional" if plain and plain[0].default is plain[0].empty else None


_MANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class AgentModel(Model):
    """Calls `function(row)` or `function(row, case)`, sync or async.

    It returns the text of the answer, a `ModelResponse`, or messages: a list of `Message` values or of
    objects in the form of OpenTelemetry or OpenAI. `case` is the `CaseRecorder` of what it does; a function
    that has recorded messages may return nothing. Its `messages` are a conversation's so far.
    """

    def __init__(self, function: Callable[[dict[str, Any]], Any], *, max_concurrent_tasks: int = 10) -> None:
        name = getattr(function, "__qualname__", type(function).__name__).replace("<", "").replace(">", "")
        super().__init__(agent_config(name, max_concurrent_tasks))
        self.function, self._takes_case = function, takes_case(function)
        self.cacheable = bool(getattr(function, "cacheable", False))

    @property
    def retry_policy(self) -> RetryPolicy:
        """None: an agent makes several calls, and has retries of its own."""
        return RetryPolicy(max_retries=0, max_throttles=0)

    @property
    def runs_user_code(self) -> bool:
        return True

    async def achat(self, messages: Messages) -> ModelResponse:
        """Call the function once.

        Raises:
            TypeError: it returns what is no answer.
        """
        row, case = orjson.loads(messages[0]["content"]), current_case()
        case.messages = read_messages(list(messages[1:]))
        args = (row, case) if self._takes_case == "positional" else (row,)
        more = {"case": case} if self._takes_case == "keyword" else {}
        call = getattr(self.function, "__call__", None)  # noqa: B004
        if inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(call):
            answer = await self.function(*args, **more)
        else:
            answer = await in_thread(partial(self.function, **more), *args)
            answer = await answer if inspect.isawaitable(answer) else answer
        if isinstance(answer, str):
            return ModelResponse(response=answer)
        answer = answer_of(answer, case)
        if isinstance(answer, ModelResponse):
            return answer
        raise TypeError(
            f"an agent returns a ModelResponse, messages or a string, not {type(answer).__name__}"
        )
