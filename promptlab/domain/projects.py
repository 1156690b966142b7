"""Projects: parts of a lab that do not see each other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from promptlab.domain.names import visible
from promptlab.domain.records import made
from promptlab.errors import ConfigError

DEFAULT_PROJECT = "default"
"""The project of whatever was stored before there were projects: its keys have no prefix."""
PROJECT = "PROJECT"
"""The kind of record that a project has."""
MOST_PROJECTS = 100
MOST_DAYS = 3_650
MOST_USD = 1e9
MOST_DESCRIPTION = 500
_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}[a-z0-9]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A part of a lab with runs, assets, keys and people of its own."""

    name: str
    description: str = ""
    created_at: str = ""
    created_by: str = ""
    archived: bool = False
    """Its runs and assets can be read, and nothing is started or created in it."""
    retention_days: int | None = None
    """Runs that ended longer ago are deleted, unless they are archived; None: they are kept."""
    max_cost_usd_a_month: float | None = None
    """The dollars that the calls of its runs may cost in a calendar month (UTC); None: as many as they do."""
    deleting_since: str | None = None
    """When its deletion began: nobody sees it any more."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Project:
        """The project of a record, whichever version wrote it."""
        return made(cls, record)


def checked_project(name: str) -> str:
    """The name of a project, as it may be.

    Raises:
        ConfigError: it is none.
    """
    if name != DEFAULT_PROJECT and not is_project_name(name):
        raise ConfigError(
            f"{name[:100]!r} is not a usable name for a project: 2 to 32 of a-z, 0-9 and -, beginning with a "
            "letter and not ending with -."
        )
    return name


def is_project_name(name: str) -> bool:
    """Whether a name can be that of a project beside the default one."""
    return name != DEFAULT_PROJECT and _NAME.fullmatch(name) is not None


def checked_description(text: str) -> str:
    """Return what a project is for.

    Raises:
        ConfigError: it is too long, or has hidden characters in it.
    """
    if len(text) > MOST_DESCRIPTION:
        raise ConfigError(f"A description has {MOST_DESCRIPTION} characters at most, not {len(text):,}.")
    try:
        visible(text)
    except ValueError as error:
        raise ConfigError(f"The description {error}") from None
    return text


def checked_usd(usd: float | None) -> float | None:
    """Return what a project may spend in a month.

    Raises:
        ConfigError: it is no sum that makes sense.
    """
    if usd is not None and not 0 <= usd <= MOST_USD:
        raise ConfigError(
            f"A project spends 0 to {MOST_USD:,.0f} dollars a month, or (null) as many as it does; "
            f"not {usd:,}."
        )
    return usd


def checked_days(days: int | None) -> int | None:
    """For how many days runs are kept.

    Raises:
        ConfigError: it is no number of days that makes sense.
    """
    if days is not None and not 1 <= days <= MOST_DAYS:
        raise ConfigError(f"Runs are kept for 1 to {MOST_DAYS:,} days, or (null) for ever; not for {days:,}.")
    return days
