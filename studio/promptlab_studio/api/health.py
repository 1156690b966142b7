"""Whether the Studio is there. The one route that asks for no token."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter

from promptlab_studio.access import ANYBODY
from promptlab_studio.api.answers import Health

router = APIRouter(tags=["health"])


@router.get("/health", dependencies=[ANYBODY], summary="Whether the Studio is there")
async def health() -> Health:
    """Needs no token and touches no store."""
    return Health(status="ok", version=version("promptlab-serverless"))
