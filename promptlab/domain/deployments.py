"""Azure's deployments, whose names a model and the target URI of its endpoint may both say."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable

from promptlab.domain.model_config import ModelConfig

_BEFORE = "/openai/deployments/"


def deployment_in(endpoint: str | None) -> str | None:
    """Read the deployment that an endpoint names, as Azure's portal shows it; None where it names none."""
    path = urllib.parse.urlsplit(endpoint or "").path
    named = path.partition(_BEFORE)[2].partition("/")[0]
    return urllib.parse.unquote(named) or None


def deployment_warnings(configs: Iterable[ModelConfig]) -> tuple[str, ...]:
    """Say which models have another name than the deployment in their endpoint, which is the one asked."""
    found = []
    for config in configs:
        named = deployment_in(config.endpoint) if config.provider == "azure" else None
        # Azure takes names of deployments in any case.
        if named is None or named.casefold() == config.model_id.casefold():
            continue
        found.append(
            f"{config.name} has an endpoint that names another deployment, {named!r}: that one is asked, and "
            f"{config.model_id!r} only says what it costs. If that is not meant, write azure/{named}, or "
            f"leave {_BEFORE}{named} out of the endpoint."
        )
    return tuple(dict.fromkeys(found))
