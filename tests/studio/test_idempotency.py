"""One Idempotency-Key: one run and one secret, whoever else sends it at the same time or later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from promptlab.webhooks import WEBHOOK
from tests.studio.hosted import Hosted
from tests.studio.live import TOKEN

KEY = {"Idempotency-Key": "k"}
EXPERIMENT: dict[str, Any] = {
    "name": "once",
    "prompt_template": {"name": "ask", "user_prompt": "<question>"},
    "dataset": {"name": "questions", "rows": [{"question": "What is 1?"}]},
    "model": {"name": "simulated/demo"},
    "webhook": {"url": "https://ci.example.com/ended"},
}


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Hosted]:
    async with Hosted(tmp_path) as hosted:
        yield hosted


@pytest.fixture
def api(studio: Hosted) -> httpx.AsyncClient:
    return studio.client(TOKEN)


async def test_requests_at_once_are_one_run_with_one_secret(studio: Hosted, api: httpx.AsyncClient) -> None:
    """Deliveries are signed with the secret that was shown."""
    answers = await asyncio.gather(
        *(api.post("/api/v1/runs", json=EXPERIMENT, headers=KEY) for _ in range(8))
    )
    assert [answer.status_code for answer in answers] == [202] * 8, [answer.text for answer in answers]
    (run_id,) = {answer.json()["run_id"] for answer in answers}
    shown = {answer.json()["webhook"]["secret"] for answer in answers} - {None}
    kept = await studio.lab.ledger.get_record(WEBHOOK, run_id)
    assert kept is not None and shown == {kept["secret"]}


async def test_a_run_that_was_deleted_is_not_started_again(api: httpx.AsyncClient) -> None:
    """A late retry of a pipeline brings nothing back."""
    run_id = (await api.post("/api/v1/runs", json=EXPERIMENT, headers=KEY)).json()["run_id"]
    ended = await api.get(f"/api/v1/runs/{run_id}", params={"wait": 30})
    assert ended.json()["status"] == "completed"
    assert (await api.delete(f"/api/v1/runs/{run_id}")).status_code == 204
    again = await api.post("/api/v1/runs", json=EXPERIMENT, headers=KEY)
    assert (again.status_code, again.json()["run_id"]) == (404, run_id)
    assert (await api.get("/api/v1/runs")).json()["items"] == []
