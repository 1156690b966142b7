"""The choice of a list's runs, and the tags that it may ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from promptlab.domain.names import visible
from promptlab.domain.results import RunRecord
from promptlab.errors import ConfigError

MAX_TAGS, TAG_CHARS = 50, 100


@dataclass(frozen=True, slots=True)
class Chosen:
    """The choice of a list's runs; None: any."""

    status: str | None = None
    tag: str | None = None
    model: str | None = None
    """`provider/model`, or the part after the provider."""
    prompt: str | None = None
    """The name of a prompt template, or `name@version`."""
    archived: bool | None = False
    """Archived runs only, or all the others."""

    def may_match(self, run: RunRecord) -> bool:
        """Check whether the run is one of them, whatever its status: a run that says it is
        running may be interrupted."""
        return replace(self, status=None).matches(run)

    def matches(self, run: RunRecord) -> bool:
        """Check whether the run is one of them."""
        return (
            run.deleting_since is None
            and self.status in (None, run.status)
            and (self.tag is None or self.tag in run.tags)
            and (self.archived is None or self.archived == run.archived)
            and (self.model is None or self.model in _names_of_model(run))
            and (self.prompt is None or self.prompt in _names_of_prompt(run))
        )

    def to_json(self) -> dict[str, Any]:
        """Write what is asked for as parameters of `GET /runs`."""
        named = {name: getattr(self, name) for name in ("status", "tag", "model", "prompt")}
        archived = "any" if self.archived is None else str(self.archived).lower()
        return {name: value for name, value in named.items() if value is not None} | {"archived": archived}


def _names_of_model(run: RunRecord) -> tuple[str, ...]:
    name = str((run.experiment.get("model") or {}).get("name", ""))
    return (name, name.partition("/")[2])


def _names_of_prompt(run: RunRecord) -> tuple[str, ...]:
    prompt = run.experiment.get("prompt_template")
    return (prompt["name"], f"{prompt['name']}@{prompt['version']}") if prompt else ()


def checked_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """Give the tags, each once, in their order.

    Raises:
        ConfigError: a tag is empty or too long, or there are too many.
    """
    for tag in tags:
        if not 1 <= len(tag) <= TAG_CHARS:
            shown = tag if len(tag) <= TAG_CHARS else tag[:20] + "…"
            raise ConfigError(f"tag {shown!r} has {len(tag):,} characters: a tag has 1 to {TAG_CHARS}.")
        try:
            visible(tag)
        except ValueError as error:
            raise ConfigError(f"tag {error}") from None
    unique = tuple(dict.fromkeys(tags))
    if len(unique) > MAX_TAGS:
        raise ConfigError(f"{len(unique):,} tags: a run has {MAX_TAGS} at most.")
    return unique
