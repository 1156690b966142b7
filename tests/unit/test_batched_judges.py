"""Judges in batch mode: asked in a wave of their own, once the answers are there."""

from __future__ import annotations

import json
import random
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from promptlab.engine.budget import run_key, run_usd, spent_usd
from promptlab.errors import ConfigError
from promptlab.evaluators.judging.verdicts import Rubric
from promptlab.models.batches.base import Limits
from tests.batch_server import BatchServer, Life, Outcome
from tests.unit.test_batches import FastClock, Serve, clock, experiment, mortal_lab, serve

__all__ = ["clock", "serve"]  # fixtures

LIMITS = Limits(4, 1_000_000)
MORE = [("openai", True, 8), ("openai", False, 8), ("anthropic", True, 8), ("anthropic", False, 8)]
ROWS = 6


def said(prompt: str) -> Outcome:
    """The model gives the number, and the judge passes even ones; it is not heard of 5 at first."""
    if "<<<RESPONSE>>>" not in prompt:
        return "not of the form" if prompt.startswith("That is not") else f"it is {prompt}"
    number = int(prompt.partition("<<<RESPONSE>>>\nit is ")[2].partition("\n")[0])
    return json.dumps({"reasoning": "I looked.", "label": "no" if number % 2 else "yes"})


def judged(kind: str, server: BatchServer, *, batch: bool, **judge: Any) -> dict[str, Any]:
    """An experiment with a judge in batch mode, of a model that is, too, or is not."""
    config = experiment(kind, server, ROWS)
    name = {"openai": "openai/judge", "anthropic": "anthropic/judge"}[kind]
    # A dead client's calls find nobody: no outage that it would wait out.
    config["model"] |= {"batch": batch, "outage_s": 0}
    given = {**config["model"], "name": name, "batch": True, "structured": "none", **judge}
    return config | {
        "evaluation": [
            {"metric": "rubric", "judge": given, "params": {"criterion": "It is even."}},
            {"metric": "rubric", "name": "odd", "judge": given, "params": {"criterion": "It is odd."}},
        ]
    }


async def scores(lab: Any, run_id: str, metric: str = "rubric") -> list[float | None]:
    return [row[f"score.{metric}"] async for row in lab.results(run_id)]


def asked(server: BatchServer, model: str) -> list[str]:
    return [prompt for made in server.batches if made.model == model for prompt in made.requests.values()]


@pytest.mark.parametrize("batch", [True, False])
async def test_judges_are_asked_in_a_second_wave(
    batch: bool, tmp_path: Path, serve: Serve, clock: FastClock
) -> None:
    """Each question is in one batch, no judge is called, and what they cost is that of the batches."""
    server = serve("openai", said)
    lab = mortal_lab(tmp_path / "lab.db", clock, Life(), LIMITS)
    run = await lab.run(judged("openai", server, batch=batch))
    assert (run.status, run.error) == ("completed", None)
    assert await scores(lab, run.run_id) == [1, 0, 1, 0, 1, 0]
    questions = asked(server, "judge")
    assert len(questions) == len(set(questions)) + ROWS == 2 * ROWS  # two metrics, which show the same
    assert len(server.direct) == (0 if batch else ROWS)
    usage = (run.summary or {})["metrics"]["rubric"]["usage"]
    written = sum(len(str(said(prompt))) for prompt in questions[::2])
    read = sum(map(len, questions[::2]))
    assert (usage["calls"], usage["cost_usd"]) == (ROWS, pytest.approx((read + 2 * written) / 1e6))
    assert not await lab.blobs.keys(f"runs/{run.run_id}/judged/")
    assert not await lab.blobs.keys(f"runs/{run.run_id}/batches/")
    await lab.close()


@pytest.mark.parametrize(
    ("kind", "batch", "kills"),
    [("openai", False, 3), *(pytest.param(*of, marks=pytest.mark.long) for of in MORE)],
)
async def test_a_run_that_is_killed_anywhere_asks_its_judges_once(
    kind: str, batch: bool, kills: int, tmp_path: Path, serve: Serve, clock: FastClock
) -> None:
    """Killed before or after any step of the ledger or the provider: no question is asked twice."""
    server = serve(kind, said)
    config = judged(kind, server, batch=batch, cache=False)
    whole = server.life = Life()
    lab = mortal_lab(tmp_path / "whole.db", clock, whole, LIMITS)
    await lab.run(config)
    await lab.close()
    chance, died = random.Random(f"{kind}{batch}"), 0
    for number, at in enumerate(chance.sample(range(12, whole.steps), kills)):
        server.batches.clear()
        db = tmp_path / f"{number}.db"
        life = server.life = Life(at=at, after=chance.random() < 0.5)
        lab = mortal_lab(db, clock, life, LIMITS)
        with suppress(BaseException):  # dead is dead, whatever it died of
            await lab.run(config)
        died += life.dead
        server.life = Life()
        lab = mortal_lab(db, clock, Life(), LIMITS)
        runs, _ = await lab.list_runs()
        run = await (lab.resume(runs[0].run_id) if runs else lab.run(config))
        assert (run.status, run.error) == ("completed", None), (at, life.after)
        assert await scores(lab, run.run_id) == [1, 0, 1, 0, 1, 0], (at, life.after)
        assert set(Counter(asked(server, "judge")).values()) == {2}, (at, life.after)
        assert not [prompt for prompt in server.direct if "<<<RESPONSE>>>" in prompt]
        await lab.close()
    assert died > 0


async def test_what_a_batch_did_not_answer_is_a_failed_score_that_is_done_again(
    tmp_path: Path, serve: Serve, clock: FastClock
) -> None:
    """Expired questions fail as such and are asked in a new batch; an answer without the form is asked again
    at once."""

    def first(prompt: str) -> Outcome:
        if "it is 1\n" in prompt:
            return None
        return "I pass it" if "it is 2\n" in prompt else said(prompt)

    server = serve("openai", first)
    server.ends = "expired"
    lab = mortal_lab(tmp_path / "lab.db", clock, Life())
    config = judged("openai", server, batch=False)
    config["evaluation"] = config["evaluation"][:1]
    run = await lab.run(config)
    assert run.status == "completed"
    assert await scores(lab, run.run_id) == [1, None, None, 0, 1, 0]
    rows = [row async for row in lab.results(run.run_id)]
    assert "expired" in rows[1]["score_error.rubric"]
    assert [prompt[:12] for prompt in server.direct if "form" in prompt] == ["That is not "] * 2
    server.answer, server.ends = said, "completed"
    run = await lab.resume(run.run_id, failed=True)
    assert await scores(lab, run.run_id) == [1, 0, 1, 0, 1, 0]
    assert [len(made.requests) for made in server.batches] == [ROWS, 2]
    await lab.close()


async def test_batches_of_judges_keep_to_the_budget(tmp_path: Path, serve: Serve, clock: FastClock) -> None:
    """What they may cost is set aside and counted once. Where the budget ends with a part of the answers,
    these are judged within it, and more money does the rest."""
    server = serve("openai", said)
    lab = mortal_lab(tmp_path / "lab.db", clock, Life(), LIMITS)
    config = judged("openai", server, batch=True, max_tokens=100, cache=False)
    config["model"]["max_tokens"] = 50
    spent = run_usd(await lab.run(config))
    run = await lab.run(config | {"max_cost_usd": 60 * spent})
    assert (run.status, run_usd(run)) == ("completed", pytest.approx(spent))
    assert await spent_usd(lab.ledger, run_key(run.run_id)) == pytest.approx(spent)
    assert server.direct == []
    server.batches.clear()
    run = await lab.run(config | {"max_cost_usd": 25 * spent})
    assert run.status == "budget_reached", run.error
    assert await scores(lab, run.run_id) == [1, 0, 1, 0]
    run = await lab.resume(run.run_id, max_cost_usd=60 * spent)
    assert (run.status, run_usd(run)) == ("completed", pytest.approx(spent))
    assert await spent_usd(lab.ledger, run_key(run.run_id)) == pytest.approx(spent)
    assert set(Counter([*asked(server, "judge"), *server.direct]).values()) == {2}
    await lab.close()


class Own(Rubric):
    """A judge of a user's own."""


async def test_code_of_a_users_own_is_not_run_twice(tmp_path: Path, serve: Serve, clock: FastClock) -> None:
    """A judge in batch mode of a user's own metric is refused."""
    server = serve("openai", said)
    lab = mortal_lab(tmp_path / "lab.db", clock, Life())
    config = judged("openai", server, batch=False)
    judge = config["evaluation"][0]["judge"]
    config["evaluation"] = [{"metric": "own", "evaluator": Own(criterion="It is even."), "judge": judge}]
    with pytest.raises(ConfigError, match="run twice"):
        await lab.run(config)
    await lab.close()


async def test_a_run_that_is_over_is_judged_in_batches(
    tmp_path: Path, serve: Serve, clock: FastClock
) -> None:
    """`promptlab score` asks the model nothing, and the judge in a batch, left until it is there."""
    server = serve("openai", said)
    lab = mortal_lab(tmp_path / "lab.db", clock, Life())
    config = judged("openai", server, batch=False)
    evaluation = config.pop("evaluation")
    run = await lab.run(config)
    run = await lab.score(run.run_id, evaluation[:1])
    assert (run.status, run.error) == ("completed", None)
    assert await scores(lab, run.run_id) == [1, 0, 1, 0, 1, 0]
    assert (len(server.direct), [len(made.requests) for made in server.batches]) == (ROWS, [ROWS])
    await lab.close()
