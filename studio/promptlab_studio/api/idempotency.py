"""A run is started once for each Idempotency-Key, however often the request arrives."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from typing import Any

from promptlab.domain.assets import content_hash
from promptlab.domain.projects import DEFAULT_PROJECT
from promptlab.domain.results import RunRecord
from promptlab.errors import ConfigError, PromptLabError, RunExistsError, RunNotFoundError
from promptlab.experiments.config import ExperimentConfig
from promptlab.store_lab import StoreLab
from promptlab.store_lab.starting import new_run_id
from promptlab.webhooks import WEBHOOK, register, secret_of

KIND = "IDEMPOTENCY"
KEPT_S = 24 * 3600.0
BEGUN = "begun"
"""The key's run was started, and whoever asked has the answer."""


async def start_once(
    lab: StoreLab, experiment: ExperimentConfig, body: dict[str, Any], key: str | None, *, by: str | None
) -> tuple[RunRecord, str | None]:
    """Start the run, or give back the one that this key started; and the secret of its webhook, the one time
    that it is made.

    `by` is who starts it, as `RunRecord.started_by`.

    Raises:
        ConfigError: the key came with another body before.
        RunNotFoundError: the run that the key started was deleted.
        PromptLabError: the experiment is wrong; the key is free again.
    """
    webhook = (body.get("webhook") or {}).get("url")
    if key is None:
        return await _started(lab, experiment, webhook, by)
    # One key in two projects is two runs; no header has a line break, so no key is that of another project.
    own = key if lab.project == DEFAULT_PROJECT else f"{lab.project}\n{key}"
    name = hashlib.sha256(own.encode()).hexdigest()
    seen = content_hash(body)
    # The id is settled before the run is recorded: whoever comes second, or again after a crash, uses the
    # same one.
    mine: dict[str, Any] = {"body": seen, "run_id": new_run_id(lab.clock.now())}
    ends = time.time() + KEPT_S
    is_first = await lab.records.put_record(KIND, name, mine, expires_at=ends, only_if_absent=True)
    if not is_first:
        mine = await lab.records.get_record(KIND, name) or mine
    if mine["body"] != seen:
        raise ConfigError(
            f"The Idempotency-Key {key!r} was used for another experiment in the last 24 hours: take a "
            "new key for this one."
        )
    run_id = mine["run_id"]
    try:
        await _begun(lab, experiment, run_id, webhook, by, again=mine.get(BEGUN, False))
    except PromptLabError:
        if is_first and not await lab.ledger.get_run(run_id):
            await lab.ledger.delete_record(WEBHOOK, run_id)
            await lab.records.delete_record(KIND, name)
        raise
    if mine.get(BEGUN):
        return await lab.get_run(run_id), None
    # Only now: the answers before were errors, and showed no secret.
    await lab.records.put_record(KIND, name, {**mine, BEGUN: True}, expires_at=ends)
    return await lab.get_run(run_id), await secret_of(lab.ledger, run_id)


async def _begun(
    lab: StoreLab,
    experiment: ExperimentConfig,
    run_id: str,
    webhook: str | None,
    by: str | None,
    *,
    again: bool,
) -> None:
    """Start the run of an id, unless it is there; hand it over once more, unless it has ended.

    Raises:
        RunNotFoundError: it was begun before, and is there no more.
    """
    if recorded := await lab.ledger.get_run(run_id):
        await lab.begin_again(recorded)
    elif again:  # whoever deleted it does not want it back
        raise RunNotFoundError(run_id)
    else:
        if webhook is not None:  # before the run: one of a few cases may have ended when its start returns
            await register(lab.ledger, lab.outbound, run_id, webhook)
        with suppress(RunExistsError):  # the same request, sent at the same time
            await lab.start(experiment, run_id=run_id, by=by)


async def _started(
    lab: StoreLab, experiment: ExperimentConfig, webhook: str | None, by: str | None
) -> tuple[RunRecord, str | None]:
    if webhook is None:
        return await lab.start(experiment, by=by), None
    run_id = new_run_id(lab.clock.now())
    secret = await register(lab.ledger, lab.outbound, run_id, webhook)
    try:
        return await lab.start(experiment, run_id=run_id, by=by), secret
    except PromptLabError:
        await lab.ledger.delete_record(WEBHOOK, run_id)
        raise
