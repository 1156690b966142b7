"""A run is started once for each Idempotency-Key, however often the request arrives."""

from __future__ import annotations

import hashlib
import time
from typing import Any

from promptlab.domain.assets import content_hash
from promptlab.domain.projects import DEFAULT_PROJECT
from promptlab.domain.results import RunRecord
from promptlab.errors import ConfigError, PromptLabError, RunExistsError
from promptlab.experiments.config import ExperimentConfig
from promptlab.store_lab import StoreLab
from promptlab.store_lab.starting import new_run_id
from promptlab.webhooks import WEBHOOK, register

KIND = "IDEMPOTENCY"
KEPT_S = 24 * 3600.0


async def start_once(
    lab: StoreLab, experiment: ExperimentConfig, body: dict[str, Any], key: str | None, *, by: str | None
) -> tuple[RunRecord, str | None]:
    """Start the run, or give back the one that this key started; and the secret of its webhook, the one time
    that it is made.

    `by` is who starts it, as `RunRecord.started_by`.

    Raises:
        ConfigError: the key came with another body before.
        PromptLabError: the experiment is wrong; the key is free again.
    """
    webhook = (body.get("webhook") or {}).get("url")
    if key is None:
        return await _started(lab, experiment, None, webhook, by)
    # One key in two projects is two runs.
    own = key if lab.project == DEFAULT_PROJECT else f"{lab.project}#{key}"
    name = hashlib.sha256(own.encode()).hexdigest()
    seen = content_hash(body)
    # The id is settled before the run is recorded: whoever comes second, or again after a crash, uses the
    # same one.
    mine = {"body": seen, "run_id": new_run_id(lab.clock.now())}
    if not await lab.records.put_record(
        KIND, name, mine, expires_at=time.time() + KEPT_S, only_if_absent=True
    ):
        mine = await lab.records.get_record(KIND, name) or mine
    if mine["body"] != seen:
        raise ConfigError(
            f"The Idempotency-Key {key!r} was used for another experiment in the last 24 hours: take a "
            "new key for this one."
        )
    if recorded := await lab.ledger.get_run(mine["run_id"]):
        await lab.begin_again(recorded)
        return await lab.get_run(mine["run_id"]), None
    try:
        return await _started(lab, experiment, mine["run_id"], webhook, by)
    except RunExistsError:
        return await lab.get_run(mine["run_id"]), None
    except PromptLabError:
        await lab.records.delete_record(KIND, name)
        raise


async def _started(
    lab: StoreLab, experiment: ExperimentConfig, run_id: str | None, webhook: str | None, by: str | None
) -> tuple[RunRecord, str | None]:
    if webhook is None:
        return await lab.start(experiment, run_id=run_id, by=by), None
    # Before the run: one of a few cases may have ended when its start returns.
    run_id = run_id or new_run_id(lab.clock.now())
    secret = await register(lab.ledger, lab.outbound, run_id, webhook)
    try:
        return await lab.start(experiment, run_id=run_id, by=by), secret
    except RunExistsError:
        raise
    except PromptLabError:
        await lab.ledger.delete_record(WEBHOOK, run_id)
        raise
