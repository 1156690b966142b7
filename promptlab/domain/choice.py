"""The choice of a list's runs, and the tags that it may ask for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from promptlab.domain.names import visible
from promptlab.domain.results import RunRecord
from promptlab.errors import ConfigError

MAX_TAGS, TAG_CHARS = 50, 100
TITLE_CHARS, DESCRIPTION_CHARS = 200, 2_000
_NAMED = ("status", "tag", "model", "prompt", "dataset", "by", "since", "until")
_DAY = len("2026-11-23")
_TIME = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d{1,6})?Z)?", re.ASCII)


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
    dataset: str | None = None
    """The name of a dataset, or `name@version`."""
    since: str | None = None
    """A day or a time, ISO 8601, UTC: runs that were started then or later."""
    until: str | None = None
    """The same: runs that were started on that day or before, or before that time."""

    by: str | None = None
    """Who started it: what a run's `started_by` says, or the part after its colon."""

    def __post_init__(self) -> None:
        for name in ("since", "until"):
            checked_time(name, getattr(self, name))

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
            and (self.prompt is None or self.prompt in _names_of_asset(run, "prompt_template"))
            and (self.dataset is None or self.dataset in _names_of_asset(run, "dataset"))
            and (self.by is None or self.by in (run.started_by, run.started_by.partition(":")[2]))
            and self._is_then(run.created_at)
        )

    def is_before(self, created_at: str) -> bool:
        """Whether a run is older than all that are wanted: a list, newest first, needs to go no further."""
        return self.since is not None and created_at < _exactly(self.since)

    def _is_then(self, created_at: str) -> bool:
        # Both are ISO 8601 in UTC; a day stands for all of its times, which begin with it.
        until = self.until
        if self.is_before(created_at):
            return False
        on_the_day = until is not None and len(until) == _DAY and created_at.startswith(until)
        return until is None or on_the_day or created_at < _exactly(until)

    def to_json(self) -> dict[str, Any]:
        """Write what is asked for as parameters of `GET /runs`."""
        named = {name: getattr(self, name) for name in _NAMED}
        archived = "any" if self.archived is None else str(self.archived).lower()
        return {name: value for name, value in named.items() if value is not None} | {"archived": archived}


def _exactly(time: str) -> str:
    """A day as it is, and a time with microseconds, as runs have theirs."""
    if len(time) == _DAY:
        return time
    seconds, _, fraction = time.removesuffix("Z").partition(".")
    return f"{seconds}.{fraction:0<6}Z"


def _names_of_model(run: RunRecord) -> tuple[str, ...]:
    name = str((run.experiment.get("model") or {}).get("name", ""))
    return (name, name.partition("/")[2])


def _names_of_asset(run: RunRecord, kind: str) -> tuple[str, ...]:
    asset = run.experiment.get(kind)
    return (asset["name"], f"{asset['name']}@{asset['version']}") if asset else ()


def checked_time(name: str, value: str | None) -> None:
    """Refuse what is no day and no time in UTC.

    Raises:
        ConfigError: it is neither.
    """
    if value is None:
        return
    try:
        if _TIME.fullmatch(value) is None:
            raise ValueError
        datetime.fromisoformat(value)
    except ValueError:
        raise ConfigError(
            f"{name} {value[:40]!r} is no day and no time in UTC: as in 2026-11-23 or 2026-11-23T09:15:00Z."
        ) from None


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


def checked_title(title: str) -> str:
    """Give a run's title without blanks around it.

    Raises:
        ConfigError: it is too long, or has characters that nobody sees.
    """
    title = title.strip()
    if len(title) > TITLE_CHARS:
        raise ConfigError(f"The title has {len(title):,} characters: a title has {TITLE_CHARS} at most.")
    try:
        return visible(title)
    except ValueError as error:
        raise ConfigError(f"title {error}") from None


def checked_description(description: str) -> str:
    """Give a run's description without blanks around it.

    Raises:
        ConfigError: it is too long.
    """
    description = description.strip().replace("\r\n", "\n")
    if len(description) > DESCRIPTION_CHARS:
        raise ConfigError(
            f"The description has {len(description):,} characters: it has {DESCRIPTION_CHARS:,} at most."
        )
    try:
        visible(description.replace("\n", " ").replace("\t", " "))
    except ValueError as error:
        raise ConfigError(f"description {error}") from None
    return description
