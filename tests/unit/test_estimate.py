"""What a run would cost and how long it would take, before it is paid for."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import stdev
from typing import Any

import pytest
from click.testing import CliRunner
from scipy import stats

from promptlab import PromptLab
from promptlab.cli import commands
from promptlab.cloud.estimate import estimate
from promptlab.cloud.sampled import LikelyRange, mean_of, slowest, times_by_limit
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.tokens import chat_tokens
from promptlab.experiments.config import ExperimentConfig
from promptlab.statistics import hall_t
from promptlab.store_lab import StoreLab
from promptlab.worker import at_once
from tests.servers import ModelServer


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[StoreLab]:
    lab = StoreLab.open({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    yield lab
    await lab.close()


def config(endpoint: str = "http://127.0.0.1:9", **model: Any) -> dict[str, Any]:
    return {
        "name": "sums",
        "dataset": {"name": "sums", "rows": [{"question": f"What is {n} + 1?"} for n in range(1000)]},
        "prompt_template": {"name": "q", "user_prompt": "<question>"},
        "model": {
            "name": "openai/gpt-4o-mini",
            "endpoint": endpoint,
            "api_key": "k",
            "max_tokens": 100,
            "input_usd_per_mtok": 1.0,
            "output_usd_per_mtok": 10.0,
            **model,
        },
    }


def test_the_mean_of_a_sample_has_students_interval() -> None:
    """As by hand: 1, 2, 3 → 2 ± 4.3027 · 1/√3."""
    found = mean_of([1.0, 2.0, 3.0])
    assert found is not None and (found.low, found.expected) == (0.0, 2.0)
    assert found.high == pytest.approx(2 + 4.302652729911275 / 3**0.5)
    skewed = [1.0] * 18 + [10.0, 30.0]
    more = mean_of(skewed)
    wanted = hall_t(2.9, stdev(skewed) / 20**0.5, 20, float(stats.skew(skewed)))
    assert more is not None and (more.low, more.high) == pytest.approx((max(0.0, wanted.low), wanted.high))
    assert mean_of([]) is None and mean_of([4.0]) == LikelyRange(2.0, 4.0, 8.0)


def test_the_slowest_limit_sets_the_time() -> None:
    """1,000 calls of 2 s and 500 tokens: 10 in flight take 200 s, 60 a minute 1,000 s."""
    model = ModelConfig(name="openai/gpt-4o-mini", requests_per_minute=60, tokens_per_minute=100_000)
    same = LikelyRange(2.0, 2.0, 2.0)
    times = times_by_limit(model, 1000, same, same.times(250))
    assert {name: time.expected for name, time in times.items()} == {
        "max_concurrent_tasks": 200.0,
        "requests_per_minute": 1000.0,
        "tokens_per_minute": 300.0,
    }
    assert slowest(times)[0] == "requests_per_minute"


async def test_a_few_rows_that_were_run_replace_the_guesses(lab: StoreLab) -> None:
    """Their tokens, latency and dollars, with intervals; the run is kept as any other."""
    with ModelServer(lambda request: "7 " * 5) as server:
        parsed = ExperimentConfig.parse(config(server.openai_url))
        guessed = await estimate(lab, parsed)
        found = await estimate(lab, parsed, tries=20)
    assert guessed.tried is None and len(server.requests) == 20
    assert found.tried is not None and (found.tried.cases, found.tried.failed) == (20, 0)
    run = await lab.get_run(found.tried.run_id)
    assert run.cases == 20 and run.summary is not None
    assert found.model_usd is not None and found.tried.usd is not None
    assert found.model_usd.expected == pytest.approx(1000 * run.summary["cost_usd"] / 20)
    assert found.model_usd.low <= found.model_usd.expected <= found.model_usd.high
    assert found.worst_usd is not None and found.worst_usd > found.model_usd.high
    assert guessed.worst_usd == found.worst_usd


async def test_half_price_ways_are_compared(lab: StoreLab) -> None:
    """Batches and flex cost half at OpenAI's own address, and are not offered where they are not."""
    fields = config()
    for name in ("endpoint", "input_usd_per_mtok", "output_usd_per_mtok"):
        del fields["model"][name]
    fields["model"]["name"] = "openai/gpt-5-mini"
    found = await estimate(lab, ExperimentConfig.parse(fields))
    assert found.model_usd is not None and found.batch_usd is not None and found.flex_usd is not None
    assert found.batch_usd.expected == pytest.approx(found.model_usd.expected / 2)
    assert found.flex_usd.expected == pytest.approx(found.model_usd.expected / 2)
    other = await estimate(lab, ExperimentConfig.parse(config()))
    assert other.flex_usd is None


@pytest.mark.parametrize(("limit", "a_minute"), [("requests_per_minute", 60), ("tokens_per_minute", 3_000)])
async def test_a_limit_makes_the_run_in_the_cloud_longer_and_its_workers_dearer(
    lab: StoreLab, limit: str, a_minute: int
) -> None:
    """1,000 calls at a limit of about one a second take as long there, and who waits for it is paid."""
    free = await estimate(lab, ExperimentConfig.parse(config(max_concurrent_tasks=100)))
    found = await estimate(lab, ExperimentConfig.parse(config(max_concurrent_tasks=100, **{limit: a_minute})))
    assert found.limited_by == limit
    assert found.wall_s.expected >= 0.95 * found.laptop_s[limit].expected >= 3 * free.wall_s.expected
    assert found.services["Lambda"].expected > 3 * free.services["Lambda"].expected


def test_the_command_and_scripts_say_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For people and as JSON; nothing is called unless rows are to be tried."""
    monkeypatch.chdir(tmp_path)
    with ModelServer(lambda request: "7") as server:
        fields = config(server.openai_url, requests_per_minute=600, max_concurrent_tasks=100)
        (tmp_path / "sums.yaml").write_text(json.dumps(fields))

        def invoke(*args: str) -> str:
            result = CliRunner().invoke(commands, ["estimate", "sums.yaml", *args], prog_name="promptlab")
            assert result.exit_code == 0, result.output
            return result.stdout

        said = " ".join(invoke().split())
        assert len(server.requests) == 0 and "1,000 cases" in said and "requests_per_minute" in said
        tried = invoke("--try", "10")
        assert len(server.requests) == 10 and "10 cases were run" in " ".join(tried.split())
        value = json.loads(invoke("--rows", "5000", "--json"))
        assert value["cases"] == 5000 and value["limited_by"] == "requests_per_minute"
        assert value["laptop_wall_s"]["expected"] == pytest.approx(500)
        with PromptLab() as pl:
            assert pl.experiment.estimate(fields, rows=5000).to_json() == value


async def test_each_turn_of_a_conversation_reads_all_before_it(lab: StoreLab) -> None:
    """Of three turns with P in the prompt, U in what the user says after it and A in an answer: 3 P + 3 U +
    3 A are read, 3 A written, and 60 requests a minute are a third as many cases."""
    said = {"user_turns": ["tell me"] * 2}
    one = await estimate(lab, ExperimentConfig.model_validate(config()), answer_tokens=10)
    model = {"requests_per_minute": 60}
    found = await estimate(
        lab, ExperimentConfig.model_validate(config(**model) | {"conversation": said}), answer_tokens=10
    )
    user = chat_tokens([{"role": "user", "content": "tell me"}])
    assert found.turns == LikelyRange(3.0, 3.0, 3.0)
    assert found.answer_tokens.expected == 30
    assert found.prompt_tokens.expected == pytest.approx(3 * one.prompt_tokens.expected + 3 * user + 30)
    assert found.laptop_s["requests_per_minute"].expected == 3000
    assert found.batch_usd is None and (found.worst_usd or 0.0) > 3 * (one.worst_usd or 0.0)
    simulated = {"simulated_user": {"model": "openai/gpt-4o-mini", "goal": "to know it"}, "max_turns": 5}
    played = await estimate(lab, ExperimentConfig.model_validate(config() | {"conversation": simulated}))
    assert played.turns == LikelyRange(1.0, 3.0, 5.0)
    assert played.user_usd is not None and played.user_usd.low < played.user_usd.expected


def test_workers_are_no_more_than_the_tokens_of_a_minute_keep_busy() -> None:
    """60,000 tokens a minute are 60 calls of 1,000: 30 of them in flight at 30 s an answer."""
    model = ModelConfig(name="openai/x", max_concurrent_tasks=500, tokens_per_minute=60_000)
    assert at_once(model, 100) == 10
    assert [at_once(model, 100, tokens) for tokens in (1000, 100, 10)] == [1, 6, 10]
