"""What was deleted for good: what, when, and by whom; never what it had."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from promptlab_studio.access import Admin, TheLab
from promptlab_studio.api.bodies import Exact

router = APIRouter(tags=["access"], route_class=Exact)


class DeletionOut(BaseModel):
    """One deletion."""

    what: str = Field(description="run, prompt_template, dataset, code, project or person.")
    id: str = Field(description="The run's id, name@version, a project's name, what a person is known by.")
    by: str = Field(description="The id of who asked for it, as in the audit; retention: the project's rule.")
    at: str = Field(description="When it was asked for, ISO 8601, UTC.")
    done_at: str | None = Field(description="When the last of it was removed; null: it is under way.")


class DeletionPage(BaseModel):
    """Deletions, newest first."""

    items: list[DeletionOut]
    next_cursor: str | None


@router.get("/deletions", summary="List what was deleted", response_model=DeletionPage)
async def list_deletions(
    lab: TheLab,
    who: Admin,
    limit: Annotated[int, Query(ge=1, le=500, description="Entries at most.")] = 100,
    cursor: Annotated[
        str | None, Query(max_length=500, description="Where the page before ended: its next_cursor.")
    ] = None,
) -> Any:
    """In the last year, of the project that one is in; of people and projects, in the default project. Those
    that are under way come first, and are not counted in `limit`."""
    found, following = await lab.deletions(limit=limit, cursor=cursor)
    return {"items": [asdict(one) for one in found], "next_cursor": following}
