"""Checks of a conversation, before a call is paid for."""

from __future__ import annotations

from promptlab.domain.assets import DatasetContent
from promptlab.domain.conversation import Conversation
from promptlab.domain.templates import check_placeholders, compile_template_async
from promptlab.engine.conversation import stop_pattern
from promptlab.errors import ConfigError
from promptlab.experiments.binding import Live, persona_template
from promptlab.models.agent import AgentModel, takes_case


async def check_conversation(talk: Conversation, live: Live, content: DatasetContent) -> None:
    """Hold a conversation against the dataset and the models.

    Raises:
        ConfigError: it cannot be had; in words that name the field and the remedy.
        TemplateError: the simulated user's texts name a column that is not there.
    """
    if talk.stopping_condition is not None:
        stop_pattern(talk.stopping_condition)
    if live.model is not None and live.model.config.batch:
        raise ConfigError(
            "conversation: a turn waits for the one before, and a batch is answered within a day: leave "
            "batch out of the model"
        )
    _check_column(talk, content)
    if _takes_row_only(live):
        raise ConfigError(
            "conversation: agent_proxy takes the row only, and cannot see what was said: write it as "
            "agent(row, case), and read case.messages, whose last one is the user's"
        )
    if talk.simulated_user is not None:
        if live.simulated_user is not None and live.simulated_user.config.batch:
            raise ConfigError("conversation: simulated_user: leave batch out of its model")
        template = persona_template(talk.simulated_user)
        check_placeholders(template, content, await compile_template_async(template))


def _takes_row_only(live: Live) -> bool:
    """Whether the agent is a function of the row alone; of stored code the sandbox has said it."""
    if isinstance(live.model, AgentModel):
        return takes_case(live.model.function) is None
    said = live.stored.said.get("agent_proxy") or {}
    return said.get("kind") == "function" and said.get("takes_case") is False


def _check_column(talk: Conversation, content: DatasetContent) -> None:
    name = talk.column
    if name is None:
        return
    columns = {column.name: column for column in content.columns}
    if name not in columns:
        raise ConfigError(
            f"conversation: user_turns names the column {name!r}, which the dataset does not have. Columns: "
            f"{', '.join(list(columns)[:20])}."
        )
    if columns[name].type not in ("json", "string"):
        raise ConfigError(
            f"conversation: user_turns names the column {name!r}, whose values are of the type "
            f"{columns[name].type}: it must have lists of texts."
        )
