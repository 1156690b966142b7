"""Conversations: a case that is several turns with the model under test, and who says the user's part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

import orjson
from pydantic import ConfigDict, Field, field_validator, model_validator

from promptlab.domain.model_config import ModelConfig
from promptlab.domain.written import Written
from promptlab.errors import TemplateError

STOP = "###STOP###"
"""What a simulated user says once it has nothing more to say. Others (tau-bench, promptfoo) have the same."""
MAX_TURNS = 100
DEFAULT_TURNS = 10
MOST_TEXT = 20_000
"""Characters of a persona, a goal or instructions, before their placeholders are filled."""
INSTRUCTIONS = f"""\
You play the part of a user who talks to an assistant. You are not the assistant: never answer for it, and
never help it. Say one short message at a time, in the user's own words, and nothing about playing a part.
Tell what you know only as far as the conversation asks for it, and invent nothing that you were not given.
When your goal is reached, or cannot be reached, or the conversation has come to its end, say {STOP} and
nothing else."""
"""The instructions of a simulated user, before its persona and its goal."""
BEGIN = "(The conversation begins. Say your first message.)"
"""What a simulated user is told where nobody has said anything."""


class StoppingCondition(Written):
    """A text or a pattern that ends a conversation once it is said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str | None = Field(
        default=None, min_length=1, max_length=1000, description="A text that is in a message, as written."
    )
    pattern: str | None = Field(
        default=None,
        min_length=1,
        max_length=1_000,
        description="A regular expression that is found in one.",
    )
    said_by: Literal["assistant", "user", "either"] = Field(
        default="assistant",
        description="Whose messages are looked at: the assistant's, after which the user says nothing more; "
        "or the user's, which is answered first.",
    )

    @model_validator(mode="after")
    def _has_one(self) -> StoppingCondition:
        if (self.text is None) == (self.pattern is None):
            raise ValueError("give a text or a pattern, as in stopping_condition: {text: Goodbye}")
        return self


class SimulatedUser(Written):
    """A model that says the user's part."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: ModelConfig = Field(
        description="The model that plays the user: provider/model, or its configuration."
    )
    goal: str = Field(
        min_length=1,
        max_length=MOST_TEXT,
        description="What the user wants; <column> is filled by the row.",
    )
    persona: str = Field(
        default="",
        max_length=MOST_TEXT,
        description="Who the user is, and how they talk; <column> is filled by the row.",
    )
    instructions: str | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_TEXT,
        description="How to play the part, in place of PromptLab's own text.",
    )

    @field_validator("model", mode="before")
    @classmethod
    def _model_is_one(cls, value: Any) -> Any:
        config = getattr(value, "config", None)
        if not isinstance(config, ModelConfig):
            return value
        if not type(value).__module__.startswith("promptlab."):
            raise ValueError(
                f"{type(value).__name__} is a model of your own: a simulated user is a provider's model"
            )
        return config

    @property
    def prompt(self) -> str:
        """The system prompt, with its placeholders unfilled."""
        about = [("Who you are", self.persona), ("Your goal", self.goal)]
        # The text of ours has no placeholder, and its own < is none.
        own = self.instructions if self.instructions is not None else INSTRUCTIONS
        return "\n\n".join([own, *(f"{what}: {text}" for what, text in about if text)])


class Conversation(Written):
    """A dialogue with the model or the agent under test."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user_turns: str | tuple[str, ...] | None = Field(
        default=None,
        description="The user's messages: a column with a list of them, as in $questions, or a list of "
        "texts that is the same for every row.",
    )
    simulated_user: SimulatedUser | None = Field(
        default=None, description="A model that says the user's part, in place of user_turns."
    )
    max_turns: int = Field(
        default=DEFAULT_TURNS, ge=1, le=MAX_TURNS, description="Answers of the model under test at most."
    )
    stopping_condition: StoppingCondition | None = Field(
        default=None, description="What ends a conversation before that."
    )

    @field_validator("user_turns")
    @classmethod
    def _are_some(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        if isinstance(value, str):
            return f"${value.removeprefix('$')}"
        if value is not None and not 0 < len(value) <= MAX_TURNS:
            raise ValueError(f"user_turns has {len(value)} texts; give 1 to {MAX_TURNS}")
        if value is not None and not all(text.strip() for text in value):
            raise ValueError("user_turns has a text without words")
        return value

    @model_validator(mode="after")
    def _has_one_user(self) -> Conversation:
        if (self.user_turns is None) == (self.simulated_user is None):
            raise ValueError(
                "give user_turns (a column, as in $questions, or a list of texts) or a simulated_user"
            )
        return self

    @property
    def column(self) -> str | None:
        """The dataset column that has the user's messages."""
        return self.user_turns[1:] if isinstance(self.user_turns, str) else None

    def texts(self, row: Mapping[str, Any]) -> Sequence[str]:
        """Give the user's messages for a row; without any for a simulated user.

        Raises:
            TemplateError: the column holds something else.
        """
        if self.column is None:
            return () if self.user_turns is None else self.user_turns
        value, where = _listed(row.get(self.column)), f"user_turns: the column {self.column!r}"
        if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
            raise TemplateError(f"{where} must be a list of texts, and is {_named(value)} in this row")
        if len(value) > MAX_TURNS:
            raise TemplateError(f"{where} has {len(value):,} texts in this row; at most {MAX_TURNS} are said")
        # Without words the model would be asked to go on with its own last answer.
        if (empty := next((n for n, one in enumerate(value, 1) if not one.strip()), None)) is not None:
            raise TemplateError(f"{where} has nothing to say as text {empty} of {len(value)} in this row")
        return tuple(value)


def _listed(value: Any) -> Any:
    """A column's texts: a text alone is one, unless it is a list of them as JSON, as a CSV has it."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        with suppress(orjson.JSONDecodeError):
            found = orjson.loads(value)
            if found and all(isinstance(one, str) for one in found):
                return found
    return [value]


def _named(value: Any) -> str:
    if isinstance(value, list):
        wrong = next(one for one in value if not isinstance(one, str))
        return f"a list with a {type(wrong).__name__}"
    return "null" if value is None else f"a {type(value).__name__}"
