"""The fields of a new run that make its cases conversations, filled again by a run's."""

from __future__ import annotations

from typing import Any

import orjson

from promptlab.domain.conversation import DEFAULT_TURNS, Conversation
from promptlab.domain.model_config import ModelConfig
from promptlab.errors import ConfigError
from promptlab_studio.views.state import Query, whole

KINDS = (
    ("", "one answer a row"),
    ("column", "a conversation: the user's messages are in a column"),
    ("texts", "a conversation: the user says the same in every row"),
    ("simulated", "a conversation: a model plays the user"),
)
"""Who says the user's part."""
SAID_BY = (("assistant", "the model"), ("user", "the user"), ("either", "either"))
STOPS = (("text", "has this text"), ("pattern", "matches this pattern"))


def conversation_of(query: Query) -> dict[str, Any]:
    """The conversation that the form describes, as `{"conversation": …}`; nothing where there is none.

    Raises:
        ConfigError: a field does not say what it should.
    """
    kind = query.get("talk")
    if not kind:
        return {}
    found: dict[str, Any] = {}
    if kind == "column":
        if not query.get("talk_column"):
            raise ConfigError("Choose the column that has the user's messages.")
        found["user_turns"] = f"${query.get('talk_column')}"
    elif kind == "texts":
        texts = [line.strip() for line in query.get("talk_texts").splitlines() if line.strip()]
        if not texts:
            raise ConfigError("Write what the user says, a message a line.")
        found["user_turns"] = texts
    elif kind == "simulated":
        found["simulated_user"] = _simulated(query)
    else:
        raise ConfigError(f"talk={kind!r} is not known: column, texts or simulated, or nothing.")
    if turns := query.get("talk_turns"):
        if (number := whole(turns)) is None:
            raise ConfigError(f"Turns at most: a whole number, not {turns!r}.")
        found["max_turns"] = number
    if stop := query.get("talk_stop"):
        found["stopping_condition"] = {
            query.get("talk_stop_as", "text"): stop,
            "said_by": query.get("talk_stop_by", "assistant"),
        }
    return {"conversation": found}


def _simulated(query: Query) -> dict[str, Any]:
    model: Any = query.get("talk_model").strip()
    if not model or not query.get("talk_goal").strip():
        raise ConfigError("A simulated user needs a model that plays it, and a goal.")
    if model.startswith("{"):
        try:
            model = orjson.loads(model)
        except orjson.JSONDecodeError as error:
            raise ConfigError(f"The model that plays the user is not valid JSON: {error}.") from None
        if "api_key" in model:
            raise ConfigError(
                "The model that plays the user: a key must not be sent: name its variable or secret."
            )
    texts = {
        name: query.get(f"talk_{name}").replace("\r\n", "\n") for name in ("goal", "persona", "instructions")
    }
    return {"model": model, **{name: text for name, text in texts.items() if text.strip()}}


def conversation_pairs(talk: Conversation | None, left: list[str]) -> list[tuple[str, str]]:
    """Give the form's fields for a run's conversation; what it cannot hold is added to what is left out."""
    found: list[tuple[str, str]] = []
    if talk is None:
        return found
    if why := _lost_of(talk):
        left.append(why)
        return found
    if talk.column is not None:
        found += [("talk", "column"), ("talk_column", talk.column)]
    elif talk.user_turns is not None:
        found += [("talk", "texts"), ("talk_texts", "\n".join(talk.user_turns))]
    if (played := talk.simulated_user) is not None:
        found += [("talk", "simulated"), ("talk_model", _typed(played.model)), ("talk_goal", played.goal)]
        found += [("talk_persona", played.persona)] if played.persona else []
        found += [("talk_instructions", played.instructions)] if played.instructions else []
    if talk.max_turns != DEFAULT_TURNS:
        found.append(("talk_turns", str(talk.max_turns)))
    if (stop := talk.stopping_condition) is not None:
        kind, text = ("text", stop.text) if stop.text is not None else ("pattern", stop.pattern)
        found += [("talk_stop", text or ""), ("talk_stop_as", kind), ("talk_stop_by", stop.said_by)]
    return found


def _lost_of(talk: Conversation) -> str | None:
    """Say what of a conversation the form cannot hold; None where it holds all."""
    texts = talk.user_turns if isinstance(talk.user_turns, tuple) else ()
    if any(text != text.strip() or len(text.splitlines()) != 1 for text in texts):
        return "its conversation: one of the user's messages has several lines"
    return None


def _typed(model: ModelConfig) -> str:
    """The model that plays the user, as one would type it."""
    usual = ModelConfig(name="a/b").public()
    given = {k: v for k, v in model.public().items() if k == "name" or usual.get(k) != v}
    return str(model.name) if given.keys() == {"name"} else orjson.dumps(given).decode()


def talk_context(query: Query) -> dict[str, Any]:
    """Return what the form shows of it."""
    return {
        "talk_kinds": KINDS,
        "talk_stops": STOPS,
        "talk_said_by": SAID_BY,
        "talk_usual": DEFAULT_TURNS,
        "talks": bool(query.get("talk")),
    }
