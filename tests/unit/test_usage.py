"""Usage of the metrics' own models is counted beside the run's model: tokens, calls and dollars."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from promptlab import (
    Dataset,
    Evaluator,
    Model,
    ModelResponse,
    PromptLab,
    PromptTemplate,
    Run,
    get_model,
)
from promptlab.domain.results import Usage
from tests.servers import ModelServer, Reply

ROWS = 60


@pytest.fixture
def pl(tmp_path: Path) -> Iterator[PromptLab]:
    with PromptLab({"db_file": str(tmp_path / "lab.db")}) as lab:
        yield lab


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(lambda request: "yes") as running:
        yield running


class Judge(Evaluator):
    """Asks a model, from sync code."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def evaluate(self, data: dict[str, Any]) -> bool:
        return self.model.invoke("", f"Is {data['response']} right?").response == "yes"


class AsyncJudge(Judge):
    """Asks twice, from tasks of its own, then gives up."""

    async def evaluate(self, data: dict[str, Any]) -> bool:  # type: ignore[override]
        await asyncio.gather(*(self.model.achat([{"role": "user", "content": "Is it?"}]) for _ in range(2)))
        raise ValueError("undecided")


def run(pl: PromptLab, server: ModelServer, evaluation: list[dict[str, Any]], **changes: Any) -> Run:
    return pl.experiment.run(
        {
            "name": "judged",
            "dataset": Dataset(name="rows", rows=[{"q": f"q{n:02}", "a": "yes"} for n in range(ROWS)]),
            "prompt_template": PromptTemplate(name="ask", user_prompt="<q>"),
            "model": {
                "name": "openai/mini",
                "endpoint": server.openai_url,
                "input_usd_per_mtok": 10,
                "output_usd_per_mtok": 0,
            },
            "evaluation": evaluation,
            **changes,
        }
    )


def usage(run: Run, metric: str) -> Usage:
    assert run.summary is not None
    return run.summary.metrics[metric].usage


def test_a_judges_calls_are_its_metrics_and_not_the_models(pl: PromptLab, server: ModelServer) -> None:
    """Sync and async, also where the judge fails in the end: its calls were paid for."""
    judge = get_model("openai/judge", endpoint=server.openai_url, input_usd_per_mtok=1, output_usd_per_mtok=2)
    mapping = {"response": "$inference"}
    done = run(
        pl,
        server,
        [
            {"metric": "judge", "column_mapping": mapping, "evaluator": Judge(judge)},
            {"metric": "torn", "column_mapping": mapping, "evaluator": AsyncJudge(judge)},
            {"metric": "exact_match", "column_mapping": {"reference": "a"}},
        ],
    )
    assert done.summary is not None
    # The server counts characters as tokens: "q07", "Is yes right?", "Is it?" and "yes".
    assert (done.summary.prompt_tokens, done.summary.cost_usd) == (
        3 * ROWS,
        pytest.approx(10 * 3 * ROWS / 1e6),
    )
    first, second, none = (usage(done, name) for name in ("judge", "torn", "exact_match"))
    assert first == Usage(ROWS, 13 * ROWS, 3 * ROWS, pytest.approx((13 * 1 + 3 * 2) * ROWS / 1e6))
    assert second == Usage(
        2 * ROWS, 2 * 6 * ROWS, 2 * 3 * ROWS, pytest.approx(2 * (6 * 1 + 3 * 2) * ROWS / 1e6)
    )
    assert done.summary.metrics["torn"].failed == ROWS
    assert none == Usage()
    assert done.summary.metrics_usage.calls == 3 * ROWS
    assert "metrics' own models: 180 calls" in str(done)


def test_embeddings_are_counted_and_an_unknown_price_stays_unknown(
    pl: PromptLab, server: ModelServer
) -> None:
    """One call a case; without a price the dollars are None and not 0."""
    metric = {"metric": "semantic_similarity", "column_mapping": {"reference": "a"}}
    done = run(
        pl, server, [metric], embedding_model={"name": "openai/nobody-knows", "endpoint": server.openai_url}
    )
    assert usage(done, "semantic_similarity") == Usage(
        ROWS, 3 * ROWS, 0, None, unknown_cost=ROWS, unpriced=ROWS
    )
    priced = run(
        pl,
        server,
        [metric],
        embedding_model={"name": "openai/x", "endpoint": server.openai_url, "input_usd_per_mtok": 4},
    )
    assert usage(priced, "semantic_similarity") == Usage(ROWS, 3 * ROWS, 0, pytest.approx(4 * 3 * ROWS / 1e6))


def agent_run(pl: PromptLab, agent: Any, **changes: Any) -> Run:
    return pl.experiment.run(
        {
            "name": "agent",
            "dataset": Dataset(name="rows", rows=[{"q": f"q{n}"} for n in range(4)]),
            "agent_proxy": agent,
            "evaluation": [],
            **changes,
        }
    )


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_an_agent_asks_our_models_is_its_usage(pl: PromptLab, server: ModelServer, kind: str) -> None:
    """Two calls a case, with the price of the model that it asked; in threads and on the loop."""
    model = get_model("openai/x", endpoint=server.openai_url, input_usd_per_mtok=10, output_usd_per_mtok=1)

    def agent(row: dict[str, Any]) -> str:
        return model.invoke("", row["q"]).response + model.invoke("", row["q"]).response

    async def async_agent(row: dict[str, Any]) -> str:
        answers = await asyncio.gather(*(model.ainvoke("", row["q"]) for _ in range(2)))
        return "".join(answer.response for answer in answers)

    done = agent_run(pl, agent if kind == "sync" else async_agent)
    assert done.summary is not None
    assert (done.summary.prompt_tokens, done.summary.completion_tokens) == (16, 24)
    assert done.summary.cost_usd == pytest.approx((16 * 10 + 24) / 1e6)
    assert done.summary.unknown_tokens == 0


def test_agent_that_fails_after_its_calls_has_paid_for_them(pl: PromptLab, server: ModelServer) -> None:
    """The usage before the failure counts."""
    model = get_model("openai/x", endpoint=server.openai_url, input_usd_per_mtok=10, output_usd_per_mtok=0)

    def agent(row: dict[str, Any]) -> str:
        model.invoke("", row["q"])
        raise ValueError("gave up")

    done = agent_run(pl, agent)
    assert done.summary is not None and done.summary.failed == 4
    assert (done.summary.prompt_tokens, done.summary.cost_usd) == (8, pytest.approx(8 * 10 / 1e6))


def test_tokens_that_an_agent_does_not_tell_are_unknown(pl: PromptLab) -> None:
    """In the summary, in words and as JSON; what some tell is a sum of theirs, and says so."""

    def some(row: dict[str, Any]) -> ModelResponse:
        told = {"prompt_tokens": 5, "completion_tokens": 1, "cost_usd": 0.5} if row["q"] == "q1" else {}
        return ModelResponse("x", **told)

    silent, partly = agent_run(pl, lambda row: "x"), agent_run(pl, some)
    assert silent.summary is not None and partly.summary is not None
    told = silent.summary.to_json()
    assert (told["prompt_tokens"], told["completion_tokens"], told["cost_usd"]) == (None, None, None)
    assert "tokens unknown, cost unknown" in str(silent)
    assert (partly.summary.prompt_tokens, partly.summary.unknown_tokens) == (5, 3)
    assert "5 + 1 tokens (of 1 of 4 cases), cost unknown" in str(partly)
    assert silent.results()[0]["prompt_tokens"] is None


@pytest.mark.parametrize(
    ("reply", "cost"),
    [(Reply(status=401), 0.0), (Reply(drop=True), None), (Reply(body=b"[]"), None)],
)
def test_cost_of_a_run_in_which_all_failed(
    pl: PromptLab, server: ModelServer, reply: Reply, cost: float | None
) -> None:
    """Nothing where every call was refused; unknown where answers were lost, for they
    may have been charged."""
    server.answer = lambda request: reply
    model = {
        "name": "openai/mini",
        "endpoint": server.openai_url,
        "max_retries": 0,
        "input_usd_per_mtok": 1,
        "outage_s": 0,
    }
    few = Dataset(name="few", rows=[{"q": f"q{n}"} for n in range(10)])  # more refusals would stop the run
    done = run(pl, server, [], model=model, dataset=few)
    assert done.summary is not None and done.summary.failed == 10
    assert done.summary.cost_usd == cost
    assert done.summary.unknown_cost == (0 if cost == 0.0 else 10)


def test_a_call_by_hand_knows_its_cost(server: ModelServer) -> None:
    """As a run's calls do."""
    answer = get_model(
        "openai/x", endpoint=server.openai_url, input_usd_per_mtok=1, output_usd_per_mtok=1
    ).invoke("", "hi")
    assert answer.cost_usd == pytest.approx(5 / 1e6)
