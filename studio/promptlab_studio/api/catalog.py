"""The choices for an experiment: metrics and providers of models, built in or of installed packages."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from promptlab.errors import ConfigError
from promptlab_studio.access import Viewer
from promptlab_studio.api.answers import MetricOut, ProviderOut

logger = logging.getLogger(__name__)
router = APIRouter(tags=["catalog"])


@router.get("/metrics", summary="List metrics", response_model=list[MetricOut])
async def list_metrics(who: Viewer) -> Any:
    """Each with what it reads, takes and gives: the built-in ones, then those of installed packages."""
    return await asyncio.to_thread(_metrics)


def _metrics() -> list[dict[str, Any]]:
    from promptlab.evaluators.registry import offered

    found, problems = offered()
    for problem in problems:
        logger.warning("not listed: %s", problem)
    return [asdict(info) for info in found]


@router.get("/models/providers", summary="List providers of models", response_model=list[ProviderOut])
async def list_providers(who: Viewer) -> Any:
    """List what may stand before the slash of a model's name, built in or of installed packages."""
    return await asyncio.to_thread(_providers)


def _providers() -> list[dict[str, Any]]:
    from promptlab.models.registry import provider_names, provider_of

    found = []
    for name in provider_names():
        try:
            provider = provider_of(name)
        except ConfigError as error:
            logger.warning("not listed: %s", error)
            continue
        variable, endpoint = (
            getattr(provider, field, None) for field in ("key_variable", "default_endpoint")
        )
        found.append(
            {
                "name": name,
                "key_variable": variable if isinstance(variable, str) else None,
                "endpoint": endpoint if isinstance(endpoint, str) else None,
            }
        )
    return found
