"""Budgets: never more is spent than was allowed, whoever spends it."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from promptlab import (
    Dataset,
    Evaluator,
    Model,
    ModelError,
    ModelResponse,
    PromptLab,
    PromptTemplate,
    get_model,
)
from promptlab.adapters.local.sqlite_ledger import SqliteLedger
from promptlab.clock import SystemClock
from promptlab.domain.records import BUDGET
from promptlab.engine.budget import Budget, Purse, month_key, run_usd, spent_usd
from promptlab.errors import ConfigError
from promptlab.models.retry import Postponed
from promptlab.projects import Projects

PRICES = {"input_usd_per_mtok": 100, "output_usd_per_mtok": 1000, "max_tokens": 50}


class Spender(Model):
    """Writes as many tokens as chance has it, and says so; some calls fail after they were paid for."""

    def __init__(self, seed: int = 0, failing: float = 0.0) -> None:
        super().__init__({"name": "custom/spender", "max_concurrent_tasks": 100, "max_retries": 1, **PRICES})
        self.random, self.failing, self.spent, self.calls = random.Random(seed), failing, 0.0, 0

    async def ainvoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        """Answer, and write down what that cost."""
        self.calls += 1
        read, written = len(user_prompt) // 4, self.random.randint(0, 50)
        self.spent += (read * 100 + written * 1000) / 1e6
        await asyncio.sleep(0)
        if self.random.random() < self.failing:
            raise ModelError("lost", type="connection", retryable=True)
        return ModelResponse(response="yes", prompt_tokens=read, completion_tokens=written)


class Judge(Evaluator):
    """Asks a model, sync or not, also by a list of messages, and swallows whatever that raises."""

    def __init__(self, model: Model, how: str = "async") -> None:
        self.model, self.how = model, how

    async def evaluate(self, data: dict[str, Any]) -> float:
        """Score by the length of the judge's answer."""
        try:
            if self.how == "achat":
                answer = await self.model.achat(
                    [{"role": "user", "content": f"Is {data['response']} right?"}]
                )
            else:
                answer = await self.model.ainvoke("", f"Is {data['response']} right?")
        except Exception:  # noqa: BLE001 - as users do
            return -1.0
        return float(len(answer.response))


class SyncJudge(Judge):
    """Asks from a thread."""

    def evaluate(self, data: dict[str, Any]) -> float:  # type: ignore[override]
        """Score by the length of the judge's answer."""
        try:
            return float(len(self.model.invoke("", f"Is {data['response']} right?").response))
        except Exception:  # noqa: BLE001 - as users do
            return -1.0


def judge_model() -> Model:
    return get_model("simulated/judge", max_concurrent_tasks=20, **PRICES)


def experiment(model: Any, rows: int = 120, **changes: Any) -> dict[str, Any]:
    return {
        "name": "quiz",
        "dataset": Dataset(name="questions", rows=[{"question": f"What is {n}?"} for n in range(rows)]),
        "prompt_template": PromptTemplate(name="ask", user_prompt="<question>"),
        "model": model,
        "evaluation": [{"metric": "length"}],
        **changes,
    }


def scored_by(judge: Evaluator) -> list[dict[str, Any]]:
    return [{"metric": "judge", "evaluator": judge, "column_mapping": {"response": "$inference"}}]


@pytest.fixture
def pl(tmp_path: Path) -> Any:
    with PromptLab(str(tmp_path / "lab.db")) as lab:
        yield lab


class QuickClock(SystemClock):
    """Does not wait for others: they have their turn, and that is all."""

    async def sleep(self, seconds: float) -> None:
        """Give others their turn."""
        await asyncio.sleep(0.001)


async def spend(budget: Budget, chance: random.Random, cases: int = 150) -> float:
    """Make calls of random cost, and scores of them, 100 at a time; give what they cost."""
    total, places = 0.0, asyncio.Semaphore(100)

    async def one(shard: int) -> None:
        nonlocal total
        async with places:
            for answers in (True, False):
                worst = chance.uniform(0, 0.1)
                try:
                    await (budget.reserve_answer(worst) if answers else budget.reserve(worst))
                except Postponed:
                    return
                await asyncio.sleep(0)
                cost = chance.choice((0.0, worst, chance.uniform(0, worst)))
                total += cost
                budget.settle(worst, cost)
                if answers:
                    budget.answered(shard)
                else:
                    budget.saw_scores("judge", worst)
                    budget.scored(shard)

    await asyncio.gather(*(one(n // 50) for n in range(cases)))
    return total


async def test_no_run_of_fifty_spends_more_than_its_budget(tmp_path: Path) -> None:
    """100 calls in flight of random cost, judges among them, from two places that share the budget."""
    ledger = SqliteLedger(tmp_path / "lab.db")

    async def nothing() -> float:
        return 0.0

    for seed in range(50):
        chance, limit = random.Random(seed), random.Random(seed).uniform(0.05, 12.0)
        both = []
        for owner in ("a", "b"):
            purse = Purse(ledger, f"run/{seed}", owner, limit, "it")
            await purse.open(nothing)
            both.append(Budget([purse], QuickClock(), str(seed), 0, limited=True))
        spent = sum(await asyncio.gather(*(spend(budget, chance) for budget in both)))
        for budget in both:
            await budget.close()
        assert spent <= limit + 1e-9
        assert await spent_usd(ledger, f"run/{seed}") == pytest.approx(spent)
    await ledger.close()


@pytest.mark.parametrize(("seed", "failing"), [(1, 0.0), (2, 0.0), (3, 0.05)])
def test_a_run_spends_its_budget_and_no_more(pl: PromptLab, seed: int, failing: float) -> None:
    """Down to less than one more call could cost, but for what was lost and may have been charged."""
    model, budget = Spender(seed, failing), random.Random(seed).uniform(0.5, 2.0)
    run = pl.experiment.run(experiment(model, max_cost_usd=budget), quiet=True)
    assert run.status == "budget_reached"
    assert model.spent <= budget + 1e-9
    assert model.spent > budget - 0.06 or model.failing


@pytest.mark.parametrize(
    "judge", [Judge(judge_model()), Judge(judge_model(), "achat"), SyncJudge(judge_model())]
)
def test_judges_count_and_what_was_answered_is_scored(pl: PromptLab, judge: Judge) -> None:
    """However a judge is asked, as far as the money goes; a refusal that it swallows is no score."""
    model = Spender(7)
    run = pl.experiment.run(experiment(model, max_cost_usd=1.5, evaluation=scored_by(judge)), quiet=True)
    assert run.status == "budget_reached"
    assert run.summary is not None and run.record.results
    assert run_usd(run.record) <= 1.5 + 1e-9
    assert run_usd(run.record) > 1.0
    rows = run.results()
    assert run.summary.cases == len(rows) == model.calls < 120
    metric = run.summary.metrics["judge"]
    # On a busy machine more is answered before the first judge says what a score costs: 34 of 47 were scored.
    assert 0 < metric.scored <= len(rows) and metric.failed == 0
    assert all(row["score.judge"] >= 0 for row in rows if row["score.judge"] is not None)


def test_a_run_whose_budget_is_reached_says_so_and_goes_on_with_more(pl: PromptLab) -> None:
    """Its summary and results are there; a resume with what is spent already is refused."""
    model = Spender(3)
    run = pl.experiment.run(experiment(model, max_cost_usd=0.5), quiet=True)
    assert run.status == "budget_reached"
    assert "budget of $0.5 (max_cost_usd) is reached" in str(run.record.error)
    first = model.calls
    assert run.summary is not None and run.summary.cases == first
    with pytest.raises(ConfigError, match="--max-cost-usd"):
        run.resume(quiet=True, max_cost_usd=0.1)
    model.spent = 0.0
    config = experiment(model)
    more = pl.experiment.resume(run.run_id, config=config, max_cost_usd=100.0, quiet=True)
    assert (more.status, more.summary.cases if more.summary else 0, model.calls) == ("completed", 120, 120)
    assert more.record.max_cost_usd == 100.0


def test_a_budget_too_small_for_one_call_makes_none(pl: PromptLab) -> None:
    """And there is nothing to sum up."""
    model = Spender()
    run = pl.experiment.run(experiment(model, max_cost_usd=0.001), quiet=True)
    assert (run.status, run.summary, model.calls) == ("budget_reached", None, 0)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"name": "openai/nobody-knows-it", "api_key": "k"}, "input_usd_per_mtok"),
        ({"name": "ollama/llama3.2"}, "input_usd_per_mtok and output_usd_per_mtok"),
        ({"name": "mistral/mistral-large-2512", "api_key": "k"}, "give it max_tokens"),
    ],
)
def test_an_unknown_price_is_an_error_before_the_first_call(
    pl: PromptLab, model: dict[str, Any], words: str
) -> None:
    """And so is a model that may write as much as it likes."""
    with pytest.raises(ConfigError, match=words):
        pl.experiment.run(experiment(get_model(model), max_cost_usd=1), quiet=True)
    judge = get_model("openai/nobody-knows-it", api_key="k")
    with pytest.raises(ConfigError, match="nobody-knows-it"):
        pl.experiment.run(
            experiment(Spender(), max_cost_usd=1, evaluation=scored_by(Judge(judge))), quiet=True
        )
    assert pl.experiment.list() == []


def test_an_agents_calls_are_reserved_and_one_of_unknown_cost_ends_the_run(pl: PromptLab) -> None:
    """What calls our models costs what these cost; what calls others must say what it costs."""
    inner = judge_model()

    async def agent(row: dict[str, Any]) -> ModelResponse:
        return await inner.ainvoke("", str(row["question"]))

    config = {**experiment(None, max_cost_usd=0.5), "agent_proxy": agent}
    del config["model"], config["prompt_template"]
    run = pl.experiment.run(config, quiet=True)
    assert run.status == "budget_reached"
    assert 0.3 < run_usd(run.record) <= 0.5 + 1e-9
    silent = pl.experiment.run({**config, "agent_proxy": lambda row: "yes"}, quiet=True)
    assert silent.status == "budget_reached"
    assert "is not known" in str(silent.record.error)


async def test_a_lease_of_one_who_died_is_settled_from_what_is_recorded(tmp_path: Path) -> None:
    """By whoever goes on under its name; until then nobody else has its dollars."""
    ledger = SqliteLedger(tmp_path / "lab.db")

    async def recorded(usd: float = 0.0) -> float:
        return usd

    dead = Purse(ledger, "run/a", "all", 10.0, "it")
    await dead.open(recorded)
    assert await dead.lease(6.0)
    other = Purse(ledger, "run/a", "other", 10.0, "it")
    await other.open(recorded)
    assert not await other.lease(5.0)
    assert other.hope
    again = Purse(ledger, "run/a", "all", 10.0, "it")
    await again.open(lambda: recorded(2.5))
    await again.close()
    assert await spent_usd(ledger, "run/a") == 2.5
    assert await other.lease(7.5)
    other.settled = 7.5
    await other.close()
    assert await spent_usd(ledger, "run/a") == 10.0
    await ledger.close()


RUN = """
import sys
from promptlab import PromptLab
sys.path.insert(0, sys.argv[2])
from tests.unit.test_budget import Spender, experiment, scored_by, Judge, judge_model
if __name__ == "__main__":
    model = Spender(int(sys.argv[3]))
    with PromptLab(sys.argv[1]) as pl:
        run = pl.experiment.run(experiment(model, evaluation=scored_by(Judge(judge_model()))), quiet=True)
    print(run.status)
"""


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.long)])
async def test_processes_share_the_budget_of_a_month(tmp_path: Path, processes: int) -> None:
    """None spends what another has leased, judges included; what earlier runs of it cost is counted, too."""
    db, script = tmp_path / "lab.db", tmp_path / "two.py"
    script.write_text(RUN)
    before = Spender(1)
    async with PromptLab(str(db)) as pl:
        await pl.experiment.run_async(experiment(before, rows=20), quiet=True)
    ledger, clock = SqliteLedger(db), SystemClock()
    await Projects(ledger, clock).edit("default", max_cost_usd_a_month=1.0 + processes)
    root = str(Path(__file__).parents[2])
    all_of_them = [
        subprocess.Popen(
            [sys.executable, str(script), str(db), root, str(seed)], stdout=subprocess.PIPE, cwd=root
        )
        for seed in range(1, processes + 1)
    ]
    said = [(await asyncio.to_thread(one.communicate))[0].decode().split() for one in all_of_them]
    assert ["budget_reached"] in said
    runs, _ = await ledger.list_runs()
    spent = sum(map(run_usd, runs))
    assert 0.6 * (1 + processes) < spent <= 1 + processes + 1e-9
    record = await ledger.get_record(BUDGET, month_key(clock.now()))
    assert record is not None
    assert record["leases"] == {}
    assert record["spent"] == pytest.approx(spent)
    await ledger.close()


def test_without_a_budget_nothing_is_recorded_of_one(pl: PromptLab) -> None:
    """And no call asks anybody."""
    run = pl.experiment.run(experiment(Spender(), rows=3), quiet=True)
    assert orjson.dumps(run.record.max_cost_usd) == b"null"
