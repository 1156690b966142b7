"""Equal requests are answered from the store: marked, free, and never across trials."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from promptlab import Dataset, Evaluator, Model, ModelResponse, PromptLab, PromptTemplate, get_model
from promptlab.adapters.local.sqlite_ledger import SqliteLedger
from promptlab.domain.records import CACHE
from promptlab.engine.cache import AnswerCache, clear, request_key
from promptlab.errors import ConfigError
from tests.servers import ModelServer, Reply


def experiment(server: ModelServer, rows: int = 12, **changes: Any) -> dict[str, Any]:
    return {
        "name": "quiz",
        "dataset": Dataset(name="questions", rows=[{"question": f"What is {n}?"} for n in range(rows)]),
        "prompt_template": PromptTemplate(name="ask", user_prompt="<question>"),
        "model": {"name": "openai/mini", "endpoint": server.openai_url, "max_retries": 0},
        "evaluation": [{"metric": "length"}],
        "cache": True,
        **changes,
    }


@pytest.fixture
def pl(tmp_path: Path) -> Any:
    with PromptLab(str(tmp_path / "lab.db")) as lab:
        yield lab


def test_an_equal_request_is_answered_from_the_store(pl: PromptLab) -> None:
    """By whichever run; the answer is marked and free, its tokens are shown, and it is scored."""
    with ModelServer(lambda request: "fine") as server:
        first = pl.experiment.run(experiment(server), quiet=True)
        again = pl.experiment.run(experiment(server, rows=14), quiet=True)
        assert len(server.requests) == 14
    assert first.summary is not None and again.summary is not None
    assert (first.summary.cached, again.summary.cached) == (0, 12)
    assert all(metric.n == 14 for metric in again.summary.metrics.values())
    before, rows = first.results(), again.results()
    assert [row["cached"] for row in rows] == [True] * 12 + [False] * 2
    kept = rows[3]
    assert (kept["response"], kept["cost_usd"], kept["attempts"], kept["latency_ms"]) == (
        "fine",
        0.0,
        0,
        None,
    )
    assert kept["prompt_tokens"] == before[3]["prompt_tokens"]


def test_trials_parameters_and_failures_are_not_shared(pl: PromptLab) -> None:
    """A trial has an answer of its own, another temperature is another request, failures are asked again."""
    with ModelServer(lambda request: "fine") as server:
        server.script(Reply(status=400, text="no"), prompt="What is 3?")
        pl.experiment.run(experiment(server, rows=5, trials=2), quiet=True)
        assert len(server.requests) == 10
        pl.experiment.run(experiment(server, rows=5, trials=3), quiet=True)
        assert len(server.requests) == 10 + 5 + 1
        warm = {"name": "openai/mini", "endpoint": server.openai_url, "temperature": 1}
        pl.experiment.run(experiment(server, rows=5, model=warm), quiet=True)
        assert len(server.requests) == 16 + 5
        cold = {"name": "openai/mini", "endpoint": server.openai_url, "max_retries": 0, "cache": False}
        pl.experiment.run(experiment(server, rows=5, model=cold), quiet=True)
        assert len(server.requests) == 21 + 5


class Judge(Evaluator):
    """Asks a model."""

    def __init__(self, model: Model) -> None:
        self.model = model

    async def evaluate(self, data: dict[str, Any]) -> bool:
        """Score by what it says."""
        return (await self.model.ainvoke("", f"Is {data['response']} right?")).response == "fine"


def test_a_judge_is_answered_from_the_store_too(pl: PromptLab) -> None:
    """Within a run, where answers are equal, and in the next; its tokens count and cost nothing."""
    with ModelServer(lambda request: "fine") as server:
        judge = get_model("openai/judge", endpoint=server.openai_url, max_concurrent_tasks=1)
        scored = [
            {"metric": "judge", "evaluator": Judge(judge), "column_mapping": {"response": "$inference"}}
        ]
        pl.experiment.run(experiment(server, rows=4, evaluation=scored), quiet=True)
        assert len(server.requests) == 4 + 1
        run = pl.experiment.run(experiment(server, rows=4, evaluation=scored), quiet=True)
        assert len(server.requests) == 5
    assert run.summary is not None
    assert run.summary.metrics_usage.cost_usd == 0.0
    assert run.summary.metrics_usage.prompt_tokens


class Own(Model):
    """A model of a user's."""

    async def ainvoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        """Answer."""
        return ModelResponse(response="mine")


def test_code_of_ones_own_is_kept_if_it_says_so(pl: PromptLab) -> None:
    """Else it is refused before the first call."""
    with ModelServer() as server:
        with pytest.raises(ConfigError, match="cacheable = True"):
            pl.experiment.run(experiment(server, model=Own()), quiet=True)
        assert pl.experiment.list() == []
        sure = type("Sure", (Own,), {"cacheable": True})
        pl.experiment.run(experiment(server, model=sure()), quiet=True)
        run = pl.experiment.run(experiment(server, model=sure()), quiet=True)
    assert run.summary is not None and run.summary.cached == 12


async def test_answers_end_and_are_forgotten(tmp_path: Path) -> None:
    """After their days, and all of them when the cache is cleared, also for runs that go on."""
    ledger, model = SqliteLedger(tmp_path / "lab.db"), get_model("simulated/x")
    cache, asked = AnswerCache(ledger, 0, 30.0), [{"role": "user", "content": "a"}]
    await cache.keep(model, asked, 0, ModelResponse(response="b", prompt_tokens=3))
    assert (await cache.find(model, asked, 0) or ModelResponse("")).response == "b"
    assert await cache.find(model, asked, 1) is None
    old = {"response": "old"}
    await ledger.put_record(CACHE, f"0/{request_key(model, asked, 2)}", old, expires_at=time.time() - 1)
    assert await cache.find(model, asked, 2) is None
    await asyncio.gather(cache.close(), cache.close())
    await clear(ledger)
    assert await cache.find(model, asked, 0) is None
    assert await AnswerCache(ledger, 1, 30.0).find(model, asked, 0) is None
    await ledger.close()
