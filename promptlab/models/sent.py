"""What a provider is sent for a prompt, without sending it."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from promptlab.domain.chat import ChatRequest, Prompt
from promptlab.domain.messages import Media
from promptlab.domain.model_config import ModelConfig
from promptlab.errors import PromptLabError
from promptlab.models.registry import PROVIDERS, get_model, load_provider


@runtime_checkable
class _Sends(Protocol):
    def payload(self, messages: Prompt) -> dict[str, Any]: ...


async def body_of(config: ModelConfig, prompt: Prompt) -> dict[str, Any] | None:
    """Make the body that a built-in provider is sent for a prompt: JSON in the provider's own form.

    Returns:
        The body, as each attempt sends it; where the server asked for a stream it had `stream` besides. None
        where that is not known: of a model of one's own, and of media that are kept, which the body has as
        base64.
    """
    if config.provider not in PROVIDERS or _has_files(prompt):
        return None
    try:
        await load_provider(config.provider)
        model = get_model(config)
        return model.payload(prompt) if isinstance(model, _Sends) else None
    except PromptLabError:  # such a call could not be made from here, or not any more
        return None


def _has_files(prompt: Prompt) -> bool:
    return isinstance(prompt, ChatRequest) and any(
        isinstance(part, Media) and part.sha256 is not None
        for message in prompt.messages
        for part in message.parts
    )
