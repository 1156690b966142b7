"""The interface of a model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence, Set
from contextvars import ContextVar
from typing import Any, ClassVar

from promptlab.deprecated import warn_old
from promptlab.domain.chat import ChatRequest
from promptlab.domain.messages import Media
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.results import ModelResponse, described, without_class
from promptlab.errors import ModelError
from promptlab.models.retry import RetryPolicy
from promptlab.sync import run_sync
from promptlab.threads import Threads

Messages = Sequence[dict[str, str]]
"""`[{"role": "system" | "developer" | "user" | "assistant", "content": text}, …]`"""

_OUTSIDE = Threads("promptlab-model")
THREADS: ContextVar[Threads] = ContextVar("promptlab_model_threads", default=_OUTSIDE)
"""The threads in which sync models and agents are called: each run has its own."""


async def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Call a user's function in one of THREADS and give its result.

    Raises:
        ModelError: it raised what would end a coroutine or a program (StopIteration, SystemExit,
            KeyboardInterrupt, …), by whose name the error's type goes; or too many calls hang.
        Exception: whatever else it raised.
    """

    def call() -> Any:
        try:
            return function(*args)
        except StopIteration as error:
            raise ModelError(without_class(described(error), error), type="StopIteration") from error
        except Exception:
            raise
        except BaseException as error:
            raise ModelError(without_class(described(error), error), type=type(error).__name__) from error

    return await THREADS.get().call(call)


class Model:
    """Answers prompts. Subclass it and write `invoke` or `ainvoke` (or both, or
    `achat`) to bring your own."""

    config: ModelConfig
    """How it is configured; for your own class by default only a name."""

    cacheable: bool = False
    """For your own class: whether its answer depends on the request alone, so that `cache` may keep it."""

    def __init__(self, config: ModelConfig | dict[str, Any] | None = None) -> None:
        self.config = ModelConfig.model_validate(config) if config is not None else self._default_config()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if all(
            getattr(cls, name) is getattr(Model, name) for name in ("invoke", "ainvoke", "achat", "aembed")
        ):
            raise TypeError(
                f"{cls.__name__} needs one of invoke(self, system_prompt, user_prompt) and ainvoke(self, "
                "system_prompt, user_prompt)"
            )

    def __getattr__(self, name: str) -> Any:
        # A subclass may write an __init__ of its own and never call ours.
        if name == "config":
            self.config = self._default_config()
            return self.config
        if name == "model_config":
            warn_old("self.model_config", "self.config")
            return self.config
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _default_config(self) -> ModelConfig:
        return ModelConfig(name=f"custom/{type(self).__name__}")

    @property
    def name(self) -> str:
        """provider/model."""
        return self.config.name

    @property
    def max_concurrent_tasks(self) -> int:
        """Calls in flight at most."""
        return self.config.max_concurrent_tasks

    @max_concurrent_tasks.setter
    def max_concurrent_tasks(self, value: int) -> None:
        self.config = self.config.model_copy(update={"max_concurrent_tasks": value})

    @property
    def counted_by(self) -> str:
        """A name, without anything secret, of what a provider counts the calls by: the model, its endpoint
        and the key."""
        return hashlib.sha256("\n".join(self._counted_by()).encode()).hexdigest()[:32]

    def _counted_by(self) -> tuple[str, ...]:
        return (self.name, str(self.config.endpoint or ""))

    @property
    def retry_policy(self) -> RetryPolicy:
        """How often the engine makes a failed call again."""
        return RetryPolicy.of(self.config.max_retries)

    @property
    def runs_user_code(self) -> bool:
        """Whether a call runs code that is not PromptLab's: such a call may do
        anything, and is kept apart."""
        return not type(self).__module__.startswith("promptlab.")

    by_address: frozenset[str] | None = None
    """Which kinds of media are taken by their address, where a model takes `uri`; None: all."""
    takes: frozenset[str] = frozenset()
    """What `achat` takes beside texts, in a `ChatRequest`: of `tools`, `image`, `audio`, `video`, `document`,
    and `uri` (media by their https address)."""

    forces_tools: bool = True
    """Whether a `tool_choice` that wants a call reaches the model; where not, such a prompt is refused."""

    keeps_time: ClassVar[bool] = False
    """Whether `achat` itself ends within `config.timeout_s`: nobody else need watch the time."""

    @property
    def in_sandbox(self) -> bool:
        """Whether a call runs a user's code in the sandbox, which holds it to its time: here it also waits
        for its turn."""
        return False

    def invoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        """Answer one prompt, from sync code (also inside a running event loop).

        Raises:
            ModelError: the call failed.
        """
        return run_sync(self.ainvoke(system_prompt, user_prompt))

    async def ainvoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        """Answer one prompt.

        Raises:
            ModelError: the call failed.
        """
        if type(self).invoke is not Model.invoke:
            answer: ModelResponse = await in_thread(self.invoke, system_prompt, user_prompt)
            return answer
        pairs = (("system", system_prompt), ("user", user_prompt))
        return await self.achat([{"role": role, "content": text} for role, text in pairs if text])

    async def achat(self, messages: Messages) -> ModelResponse:
        """Answer a list of chat messages in one attempt, without retries: the engine has those.

        Where a prompt has parts or tools, and the model says in `takes` that it takes them, it is given a
        `ChatRequest` in place of the list.

        Raises:
            ModelError: the call failed.
            ValueError: the model takes one system and one user message only, and these are not.
        """
        if isinstance(messages, ChatRequest):
            raise ValueError(refusal(self, messages))
        roles = [m["role"] for m in messages]
        if roles not in (["system", "user"], ["developer", "user"], ["user"], ["system"], ["developer"]):
            raise ValueError(
                f"{type(self).__name__} answers one system and one user message, not {roles}: write "
                "achat(self, messages) to take a list"
            )
        text = {m["role"]: m["content"] for m in messages}
        return await self.ainvoke(text.get("system", text.get("developer", "")), text.get("user", ""))

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Embed texts, from sync code."""
        return run_sync(self.aembed(texts))

    async def aembed(self, texts: Sequence[str]) -> list[list[float]]:
        """Embed texts: one vector a text, in order.

        Raises:
            ModelError: the call failed, or the model has no embeddings.
        """
        raise ModelError(
            f"{self.name} has no embeddings; use an embedding model, as in openai/text-embedding-3-small "
            "or ollama/nomic-embed-text",
            type="bad_request",
        )

    async def check(self) -> None:
        """Find out, without a paid call, whether calls can succeed: the key is there, the endpoint answers.

        Raises:
            MissingKeyError: a key is needed and there is none.
            EndpointUnreachableError: nothing answers at the endpoint.
        """

    async def aclose(self) -> None:
        """Release connections of the running event loop. The model can be used again."""


def refusal(model: Model, request: ChatRequest) -> str:
    """Say what a request needs that a model does not take; an empty text where it takes all of it."""
    if found := lacking(model, request.needs):
        return found
    parts = (part for message in request.messages for part in message.parts)
    media = (part for part in parts if isinstance(part, Media) and part.uri is not None)
    return not_by_address(model, {one.modality for one in media})


def not_by_address(model: Model, kinds: Set[str]) -> str:
    """Say which kinds of media a model does not take by their address; an empty text where it takes all."""
    if model.by_address is None:
        return ""
    wrong = sorted(_LACKING[kind] for kind in kinds - model.by_address)
    words = ", ".join(f"{name} by their address (give them as files or data)" for name in wrong)
    return f"model {model.name} does not take {words}." if wrong else ""


def lacking(model: Model, needs: frozenset[str]) -> str:
    """Say what of some needs a model does not take; an empty text where it takes all."""
    missing = sorted(needs - model.takes)
    if not missing:
        return ""
    words = ", ".join(_LACKING[name] for name in missing)
    taken = ", ".join(sorted(model.takes)) or "texts only"
    return f"model {model.name} does not take {words}; it takes {taken}."


_LACKING = {
    "tools": "tools and their calls",
    "image": "pictures",
    "audio": "sounds",
    "video": "films",
    "document": "documents",
    "uri": "media by their address (give them as files or data)",
}


def runs_on_loop(model: Model) -> bool:
    """Whether a call runs the class's own code on an event loop, and not in a thread."""
    return any(getattr(type(model), name) is not getattr(Model, name) for name in ("ainvoke", "achat"))
