"""A run is started once for each Idempotency-Key, however often the request arrives."""

from __future__ import annotations

import hashlib
import time
from typing import Any

from promptlab.domain.assets import content_hash
from promptlab.domain.results import RunRecord
from promptlab.errors import ConfigError, PromptLabError, RunExistsError
from promptlab.experiments.config import ExperimentConfig
from promptlab.store_lab import StoreLab, new_run_id

KIND = "IDEMPOTENCY"
KEPT_S = 24 * 3600.0


async def start_once(
    lab: StoreLab, experiment: ExperimentConfig, body: dict[str, Any], key: str | None
) -> RunRecord:
    """Start the run, or give back the one that this key started.

    Raises:
        ConfigError: the key came with another body before.
        PromptLabError: the experiment is wrong; the key is free again.
    """
    if key is None:
        return await lab.start(experiment)
    name, seen = hashlib.sha256(key.encode()).hexdigest(), content_hash(body)
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
        return await lab.get_run(mine["run_id"])
    try:
        return await lab.start(experiment, run_id=mine["run_id"])
    except RunExistsError:
        return await lab.get_run(mine["run_id"])
    except PromptLabError:
        await lab.records.delete_record(KIND, name)
        raise
