"""What a run was held back by, in a line of words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from promptlab.engine.limited import AMinute, Measured, limited_by
from promptlab.report import brief, table
from promptlab.store_lab import StoreLab
from tests.servers import ModelServer, Reply, Request

FULL = Measured(calls=1000, answer_s=490.0, wall_s=10.0, cpu_s=2.0, throttles=0, limit=50.0, maximum=50)
"""1,000 calls in 10 s, of which 49 were in flight on average."""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "max_concurrent_tasks: 49 of 50 calls were in flight on average"),
        (
            {"throttles": 10, "limit": 12.0},
            "the provider: it answered 429 10 times, and of 50 calls at once 12",
        ),
        ({"throttles": 10}, "the provider: it answered 429 10 times"),
        ({"told": 200}, "the provider: what its answers say is left of its limits allowed 100.0 calls"),
        ({"throttles": 9, "told": 199}, "max_concurrent_tasks: "),
        ({"a_minute": AMinute(0, 6_500)}, "requests_per_minute: 6,000 of 6,500 were made a minute"),
        ({"cpu_s": 8.5}, "this machine: PromptLab was busy 85% of the time"),
        ({"answer_s": 399.0}, "nothing: 40 of 50 calls were in flight on average"),
        ({"maximum": 2000, "limit": 2000.0, "answer_s": 9000.0}, "nothing: all calls were in flight at once"),
    ],
)
def test_the_limit_is_named(changes: dict[str, Any], said: str) -> None:
    """The provider goes before this machine, and both before the bound that was given."""
    found = limited_by(replace(FULL, **changes))
    assert found is not None and found.startswith(said)


def test_too_little_tells_nothing() -> None:
    """A few calls are no measurement."""
    assert limited_by(replace(FULL, calls=19)) is None
    assert limited_by(replace(FULL, wall_s=0.9)) is None


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[StoreLab]:
    """A lab in a folder."""
    lab = StoreLab.open({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    yield lab
    await lab.close()


async def test_a_run_says_what_the_limit_was(lab: StoreLab) -> None:
    """In its record, its JSON and its summary; a provider that throttles is one however slow this machine
    is."""

    def answer(request: Request) -> Reply | str:
        if request.attempt == 1 and int(request.prompt.split()[-1]) % 5 == 0:
            return Reply(status=429, headers={"retry-after": "1"})
        return "yes"

    with ModelServer(answer) as server:
        model = {"name": "openai/mini", "endpoint": server.openai_url, "api_key": "none"}
        run = await lab.run(
            {
                "name": "few",
                "prompt_template": {"name": "ask", "user_prompt": "case <n>"},
                "dataset": {"name": "numbers", "rows": [{"n": n} for n in range(40)]},
                "model": model,
            }
        )
    assert run.limited_by is not None and run.limited_by.startswith("the provider: it answered 429 8 times")
    assert brief(run)["limited_by"] == run.limited_by
    from rich.console import Console

    console = Console(width=200, record=True, quiet=False)
    console.print(table(run))
    assert f"Limited by {run.limited_by}." in console.export_text()
