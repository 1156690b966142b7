"""What the API takes and answers about tokens, links, people and the audit."""

from __future__ import annotations

from pydantic import BaseModel, Field

from promptlab_studio.access import Action, Role
from promptlab_studio.api.shapes import Body, Flag, Number
from promptlab_studio.tokens import MOST_DAYS

MOST_RUNS = 4
"""Runs of a link: as many as a comparison has."""
LINK_DAYS = 7


class MeOut(BaseModel):
    """The caller."""

    id: str = Field(description="As in the audit: token:…, person:…, admin-token, local.")
    name: str
    role: Role
    project: str
    may: list[Action] = Field(description="What the role allows.")


class TokenIn(Body):
    """A new token."""

    name: str = Field(description="What it is for.", min_length=1, max_length=100)
    role: Role = Field(default="viewer", description="At most your own.")
    expires_in_days: Number | None = Field(default=90, gt=0, le=MOST_DAYS, description="null: never.")
    project: str | None = Field(default=None, max_length=100, description="Default: your own.")


class LinkIn(Body):
    """A new read-only link."""

    runs: list[str] = Field(
        description="The run, or the two to four of a comparison.", min_length=1, max_length=MOST_RUNS
    )
    name: str = Field(default="", description="Whom it is for.", max_length=100)
    expires_in_days: Number = Field(default=LINK_DAYS, gt=0, le=MOST_DAYS)


class TokenOut(BaseModel):
    """A token or a link."""

    id: str = Field(description="What it is revoked by; not the token itself.")
    name: str
    role: Role
    project: str
    created_at: str
    created_by: str
    creator: str
    expires_at: str | None
    only: list[str] = Field(description="The runs that a link opens; empty for a token.")
    last_used_at: str | None = Field(description="To a minute.")


class NewTokenOut(TokenOut):
    """A token that was just made."""

    token: str = Field(description="The token itself: it is shown this once.")


class NewLinkOut(TokenOut):
    """A link that was just made."""

    url: str = Field(description="The link itself: it is shown this once.")


class TokenPage(BaseModel):
    """Tokens and links, newest first."""

    items: list[TokenOut]


class PersonIn(Body):
    """Somebody who may sign in."""

    role: Role
    name: str = Field(default="", max_length=100)
    project: str | None = Field(default=None, max_length=100)


class PersonOut(BaseModel):
    """Somebody who may sign in."""

    email: str
    name: str
    role: Role
    project: str
    invited_at: str
    invited_by: str
    last_seen_at: str | None


class PeoplePage(BaseModel):
    """Everybody, by address."""

    items: list[PersonOut]
    leaving: int = Field(
        description="Deleted people whose name is not out of all records yet: DELETE with their address, "
        "once more, goes on."
    )


class SwitchIn(Body):
    """A setting that is on or off."""

    on: Flag


class SwitchOut(BaseModel):
    """A setting that is on or off."""

    on: bool


class EntryOut(BaseModel):
    """An entry of the audit."""

    at: str
    who: str = Field(description="Empty: nobody that is known.")
    name: str
    role: str
    project: str
    action: str = Field(description="The method and the path.")
    outcome: str
    status: int
    address: str
    agent: str
    made: str = Field(description="The address of what came of it.")


class AuditPage(BaseModel):
    """Entries, newest first."""

    items: list[EntryOut]
    next_cursor: str | None
