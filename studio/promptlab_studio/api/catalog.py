"""The choices for an experiment: built-in metrics, and providers of models."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from importlib import import_module
from typing import Any

from fastapi import APIRouter

from promptlab_studio.api.answers import MetricOut, ProviderOut
from promptlab_studio.auth import Viewer

router = APIRouter(tags=["catalog"])


@router.get("/metrics", summary="List built-in metrics", response_model=list[MetricOut])
async def list_metrics(who: Viewer) -> Any:
    """Each with what it reads, takes and gives."""
    return await asyncio.to_thread(_metrics)


def _metrics() -> list[dict[str, Any]]:
    from promptlab.evaluators.registry import describe, known

    return [asdict(describe(name)) for name in known()]


@router.get("/models/providers", summary="List providers of models", response_model=list[ProviderOut])
async def list_providers(who: Viewer) -> Any:
    """List the providers: what may stand before the slash of a model's name."""
    return await asyncio.to_thread(_providers)


def _providers() -> list[dict[str, Any]]:
    from promptlab.models.registry import PROVIDERS

    found = []
    for name, where in sorted(PROVIDERS.items()):
        module, _, cls = where.partition(":")
        provider = getattr(import_module(module), cls)
        found.append(
            {
                "name": name,
                "key_variable": provider.key_variable,
                "endpoint": getattr(provider, "default_endpoint", None),
            }
        )
    return found
