"""`promptlab doctor EXPERIMENT.yaml`: whether a run could begin here, and what to do if not."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING

from promptlab.domain.findings import Finding
from promptlab.errors import PromptLabError

if TYPE_CHECKING:
    from promptlab.models.base import Model
    from promptlab.models.provider import Probe, ProviderModel

LITTLE_ROOM = 1 << 30
"""Bytes on the store's disk below which a run of many rows may not fit."""
MOST_SKEW_S = 60.0
"""Seconds that this clock may differ from a provider's. AWS refuses signatures beyond five minutes, and TLS
certificates that are not valid yet."""


async def look(models: Sequence[Model], store: Path, *, calls: bool) -> list[Finding]:
    """Check a set-up: the store's place, and each model.

    Args:
        models: the experiment's model and embedding model.
        store: the ledger's file; it need not exist.
        calls: whether a model is called.
    """
    found = [*_store(store), *_descriptors(models)]
    for model in models:
        try:
            found += await _model(model, calls=calls)
        finally:
            await model.aclose()
    return found


def _store(store: Path) -> list[Finding]:
    folder = store.absolute().parent
    if not folder.is_dir():
        return [Finding("store", "error", f"there is no folder {folder}: make it, or give another --db")]
    try:
        for place in (store, folder):
            if place.is_file():
                place.open("r+b").close()
            elif place.is_dir():
                tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        why = f"{error.strerror}: {error.filename or folder}"
        return [Finding("store", "error", f"{store} cannot be written ({why}): give another --db")]
    free = shutil.disk_usage(folder).free
    there = f"{store} can be written"
    if free < LITTLE_ROOM:
        return [
            Finding("store", "ok", there),
            Finding(
                "space", "warning", f"{_size(free)} are free in {folder}: make room, or give another --db"
            ),
        ]
    return [Finding("store", "ok", there), Finding("space", "ok", f"{_size(free)} are free in {folder}")]


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"


def _descriptors(models: Sequence[Model]) -> list[Finding]:
    from promptlab.adapters.local.descriptors import calls_that_fit

    wanted = sum(model.max_concurrent_tasks for model in models)
    fit = calls_that_fit(wanted)
    if fit < wanted:
        return [
            Finding(
                "open files",
                "warning",
                f"only {fit:,} calls at once are possible, and max_concurrent_tasks is {wanted:,}: raise the "
                "limit (ulimit -Hn, or LimitNOFILE= of its service)",
            )
        ]
    return [Finding("open files", "ok", f"{wanted:,} calls at once are possible")]


async def _model(model: Model, *, calls: bool) -> list[Finding]:
    from promptlab.domain.deployments import deployment_warnings
    from promptlab.domain.shutdowns import shutdown_warnings
    from promptlab.models.provider import ProviderModel

    if not isinstance(model, ProviderModel):
        return [Finding(model.name, "ok", "is code of your own: it is not called here")]
    found = [Finding(model.name, "ok", line) for line in model.ways()]
    for gone in shutdown_warnings([model.config], datetime.now(UTC).date()):
        found.append(Finding(model.name, "error" if "was shut down" in gone else "warning", gone))
    found += [Finding(model.name, "warning", other) for other in deployment_warnings([model.config])]
    try:
        await model.check()
    except PromptLabError as error:
        return [*found, Finding(model.name, "error", str(error))]
    if not calls:
        return [
            *found,
            Finding(model.name, "ok", "its key is there and its address answers; it was not called"),
        ]
    try:
        probe = await model.probe()
    except PromptLabError as error:
        return [*found, Finding(model.name, "error", f"{model.probe_words}: {error}")]
    return [*found, *_answered(model, probe)]


def _answered(model: ProviderModel, probe: Probe) -> list[Finding]:
    found = [Finding(model.name, "ok", f"{probe.words}: the address answers and the key is accepted")]
    if probe.models is not None and model.config.model_id not in probe.models:
        near = ", ".join(sorted(probe.models)[:10])
        found.append(
            Finding(
                model.name,
                "warning",
                f"{model.config.model_id} is not among the {len(probe.models):,} models that are listed there"
                f"{f' ({near}, …)' if near else ''}: check its name",
            )
        )
    skew_s = _skew_s(probe.headers.get("date"))
    if skew_s is not None and abs(skew_s) > MOST_SKEW_S:
        found.append(
            Finding(
                "clock",
                "warning",
                f"this machine's clock is {abs(skew_s):,.0f} s {'ahead of' if skew_s > 0 else 'behind'} the "
                f"provider's: set it (timedatectl set-ntp true)",
            )
        )
    elif skew_s is not None:
        found.append(Finding("clock", "ok", "this machine's clock and the provider's agree"))
    return found


def _skew_s(date: str | None) -> float | None:
    """How many seconds this clock is ahead of a `Date` header; None where there is no such header."""
    try:
        there = parsedate_to_datetime((date or "")[:100])
    except (ValueError, TypeError, IndexError):
        return None
    there = there if there.tzinfo else there.replace(tzinfo=UTC)
    return (datetime.now(UTC) - there).total_seconds()
