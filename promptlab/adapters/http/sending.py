"""Sends an experiment's own code to a hosted lab, and names it there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from promptlab.adapters.http.assets import RemoteAssets
from promptlab.domain.masking import remember_environment
from promptlab.errors import ConfigError
from promptlab.experiments.bundles import BundleDraft, gather, has_code, remedy_for
from promptlab.experiments.config import ExperimentConfig
from promptlab.experiments.wheels import Fetched, checked_pins, fetch
from promptlab.scratch import ScratchFolder


async def send_code(config: ExperimentConfig, assets: RemoteAssets, folder: Path) -> ExperimentConfig:
    """Keep the code that an experiment brings along in the lab, and name it in the experiment in its place.

    Everything that can be wrong is found before anything is sent.

    Args:
        config: the experiment; it is given back as it is where it brings no code.
        assets: the lab's.
        folder: relative paths to code count from here.

    Raises:
        ConfigError: some of the code cannot be sent, or the lab takes none; with what to do instead.
        AssetError: the code is larger than may be.
    """
    if not has_code(config):
        return config.model_copy(update={"code": None})
    host = await assets.code_host()
    remember_environment(os.environ)  # a key that is in use here is not sent, wherever in the code it stands
    # Reading a project's sources takes a tenth of a second and more.
    gathered = await asyncio.to_thread(gather, config, folder)
    pins = checked_pins(config.code.requirements if config.code else ())
    with ScratchFolder() as work:
        fetched = await fetch(pins, host, work / "wheels") if pins else []
        _check_missing([(draft, draft.missing(host, fetched)) for draft in gathered.drafts])
        needing = _needing(gathered.drafts, fetched)
        wheels = [one.wheel for one in fetched]
        bundles = [
            draft.bundle(host, pins if draft in needing else (), wheels if draft in needing else ())
            for draft in gathered.drafts
        ]
        for one in fetched:
            await assets.send_wheel(one.wheel, one.path)
    versions: dict[int, int] = {}
    for number, bundle in enumerate(bundles):
        created = await assets.create(bundle)
        assert created.version is not None
        versions[number] = created.version
    return gathered.rewritten(config, versions)


def _check_missing(found: Sequence[tuple[BundleDraft, list[str]]]) -> None:
    missing = list(dict.fromkeys(one for _, listed in found for one in listed))
    if missing:
        names = [one.partition(" ")[0] for one in missing]
        raise ConfigError(remedy_for(missing, names))


def _needing(drafts: Sequence[BundleDraft], fetched: Sequence[Fetched]) -> list[BundleDraft]:
    """The bundles that the packages go with: those that import one; all where none is seen to."""
    modules = {module for one in fetched for module in one.modules}
    needing = [draft for draft in drafts if modules & draft.sources.outside.keys()]
    return needing or list(drafts)
