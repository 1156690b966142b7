"""Requests that tests send."""

from __future__ import annotations

import time
from typing import Any

import httpx

from tests.servers import ModelServer, Request

ROWS = [{"question": f"What is {n}?", "answer": f"it is {n}"} for n in range(120)]
DONE = ("completed", "failed", "stopped", "budget_reached", "interrupted", "cancelled")


def right(request: Request) -> str:
    """The right answer to every question."""
    return f"it is {request.prompt.split()[-1].rstrip('?')}"


def experiment(server: ModelServer, **changes: Any) -> dict[str, Any]:
    """An experiment over 120 rows, as `POST /runs` takes it."""
    return {
        "name": "quiz",
        "prompt_template": {"name": "ask", "user_prompt": "<question>"},
        "dataset": {"name": "questions", "rows": ROWS},
        "model": {"name": "openai/mini", "endpoint": server.openai_url},
        "evaluation": [
            {"metric": "exact_match", "column_mapping": {"response": "$inference", "reference": "answer"}}
        ],
        **changes,
    }


def finished(api: httpx.Client, run_id: str, *, status: str = "completed") -> dict[str, Any]:
    """The run once it has ended."""
    deadline = time.monotonic() + 200
    while (run := api.get(f"/runs/{run_id}").raise_for_status().json())["status"] not in DONE:
        assert time.monotonic() < deadline, run
        time.sleep(0.02)
    assert run["status"] == status, run
    return dict(run)


def started(api: httpx.Client, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    """The run that a request started."""
    answer = api.post("/runs", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())
