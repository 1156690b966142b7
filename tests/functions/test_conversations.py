"""Conversations in the cloud: the time of a worker ends between two turns, and the next one goes on."""

from __future__ import annotations

from collections import Counter
from typing import Any

import orjson
import pytest

from functions import runtime
from promptlab import Dataset, PromptTemplate
from promptlab.domain.conversation import STOP
from tests.functions.conftest import Machine
from tests.servers import ModelServer, Reply, Request

ROWS, TURNS = 20, 8
SAID = [[f"turn {turn} of {row}" for turn in range(TURNS)] for row in range(ROWS)]


def answer(request: Request) -> Reply:
    """Plays both sides; long enough that a worker does not come to the end of a conversation."""
    said = request.json["messages"]
    if request.json["model"] != "user":
        return Reply(text=f"to {said[-1]['content']}", delay_s=0.05)
    about = said[0]["content"].rpartition("row ")[2]
    asked = sum(one["role"] == "assistant" for one in said)
    return Reply(text=f"turn {asked} of {about}" if asked < TURNS else STOP, delay_s=0.05)


def experiment(server: ModelServer, conversation: dict[str, Any]) -> dict[str, Any]:
    rows = [{"said": said, "row": str(number)} for number, said in enumerate(SAID)]
    return {
        "name": "talk",
        "dataset": Dataset(name="talks", rows=rows),
        "prompt_template": PromptTemplate(name="kind", system_prompt="Be kind."),
        "model": {"name": "openai/mini", "endpoint": server.openai_url, "max_concurrent_tasks": 7},
        "conversation": {"max_turns": TURNS + 1, **conversation},
        "evaluation": [{"metric": "length"}],
    }


@pytest.mark.parametrize("simulated", [False, True], ids=["column", "simulated"])
@pytest.mark.long
def test_the_time_of_a_worker_ends_between_two_turns(simulated: bool, machine: Machine) -> None:
    """Each turn is asked once, by whichever worker, and the case has all of them in order."""
    machine.remaining_s = lambda time: 10.8 if time <= 8 else 900
    with ModelServer(answer) as server:
        user = {"model": {"name": "openai/user", "endpoint": server.openai_url}, "goal": "row <row>"}
        config = experiment(server, {"simulated_user": user} if simulated else {"user_turns": "$said"})
        run = machine.start(config)
        assert machine.execute(run.run_id) == {"status": "completed"}
        requests = server.requests
    asked = Counter(request.prompt for request in requests if request.json["model"] == "mini")
    assert asked == Counter(text for said in SAID for text in said)
    played = [request for request in requests if request.json["model"] == "user"]
    assert len(played) == (ROWS * (TURNS + 1) if simulated else 0)
    assert machine.invocations.count("infer") > 2 and all(wait == 0 for wait in machine.waits)

    async def rows() -> list[dict[str, Any]]:
        return [row async for row in machine.lab.results(run.run_id)]

    for row, said in zip(runtime.run(rows()), SAID, strict=True):
        turns = orjson.loads(row["trace"])["turns"]
        assert [turn["user"] for turn in turns] == said
        assert [turn["assistant"] for turn in turns] == [f"to {text}" for text in said]
    # The completions have the turns now: they are stored once.
    assert runtime.run(machine.lab.ledger.get_turns(run.run_id, 0)) == []
