"""A further pass over the failures of one type."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from promptlab.domain.results import FINAL
from promptlab.store_lab import StoreLab
from tests.servers import ModelServer, Reply, Request


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[StoreLab]:
    """A lab in a folder."""
    lab = StoreLab.open({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    yield lab
    await lab.close()


def _config(server: ModelServer) -> dict[str, Any]:
    return {
        "name": "half",
        "prompt_template": {"name": "ask", "user_prompt": "case <n>"},
        "dataset": {"name": "numbers", "rows": [{"n": n} for n in range(12)]},
        "model": {"name": "openai/mini", "endpoint": server.openai_url, "api_key": "none", "max_retries": 0},
    }


async def test_only_the_named_failures_are_asked_again(lab: StoreLab) -> None:
    """The others stay as they are, and are not paid for."""
    asked: list[int] = []
    healthy = False

    def answer(request: Request) -> Reply:
        number = int(request.prompt.split()[-1])
        asked.append(number)
        if healthy or number % 3 == 0:
            return Reply(text="yes")
        status = 400 if number % 3 == 1 else 404
        return Reply(status=status, body={"error": {"message": "no", "type": "x"}})

    with ModelServer(answer) as server:
        run = await lab.run(_config(server))
        assert run.summary is not None
        before = Counter(run.summary["errors"])
        assert before == {"bad_request": 4, "not_found": 4}
        asked.clear()
        healthy = True
        await lab.start_resume(run.run_id, failed=True, errors=("not_found",))
        while (now := await lab.get_run(run.run_id)).status not in FINAL:
            await lab.clock.sleep(0.01)
    assert sorted(asked) == [2, 5, 8, 11]
    assert now.summary is not None and now.summary["errors"] == {"bad_request": 4}


async def test_progress_counts_what_is_done_again_and_nothing_else(lab: StoreLab) -> None:
    """Of the failures of other types nothing is open: the bar begins below the end by what is asked again."""
    healthy = False

    def answer(request: Request) -> Reply:
        number = int(request.prompt.split()[-1])
        if healthy or number % 3 == 0:
            return Reply(text="yes")
        status = 400 if number % 3 == 1 or number == 2 else 404
        return Reply(status=status, body={"error": {"message": "no", "type": "x"}})

    with ModelServer(answer) as server:
        run = await lab.run(_config(server))
        for errors, before, failed in ((("not_found",), 9, 5), (("bad_request", "timeout"), 7, 0)):
            healthy, seen = True, list[tuple[int, int, int]]()
            await lab.resume(
                run.run_id,
                errors=errors,
                on_progress=lambda p, seen=seen: seen.append((p.done, p.failed, p.total)),
            )
            assert seen[0] == (before, failed, 12) and seen[-1] == (12, failed, 12)
