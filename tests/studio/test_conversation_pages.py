"""Conversations through the API, and on the pages of a run."""

from __future__ import annotations

import time
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from promptlab import Dataset, PromptLab, PromptTemplate
from promptlab.domain.results import RunRecord
from tests.servers import ModelServer
from tests.studio.live import LiveStudio


def test_a_conversation_is_started_read_and_exported_through_the_api(studio: LiveStudio) -> None:
    """As on a laptop; its pages say what it was, and the form for runs holds it."""
    experiment = {
        "name": "talk",
        "dataset": Dataset(name="talks", rows=[{"said": ["one", "two", "three"]}]),
        "prompt_template": PromptTemplate(name="kind", system_prompt="Be kind."),
        "conversation": {"user_turns": "$said", "max_turns": 2},
    }
    with ModelServer(lambda request: f"to {request.prompt}") as server:
        model = {"name": "openai/mini", "endpoint": server.openai_url}
        with PromptLab({"type": "remote", "endpoint": studio.url}) as pl:
            run = pl.experiment.run({**experiment, "model": model})
            (row,) = run.results()
    assert run.status == "completed"
    assert [turn["assistant"] for turn in row["trace"].turns] == ["to one", "to two"]
    with httpx.Client(base_url=studio.url, timeout=60) as client:
        case = client.get(f"/runs/{run.run_id}/cases/0").text
        assert "to two" in case
        configuration = client.get(f"/runs/{run.run_id}?tab=configuration").text
        assert "Conversation" in configuration and "max_turns" in configuration
        again = client.get(f"/new?from={run.run_id}")
        assert again.status_code == 303 and "set-cookie" not in again.headers
        assert "talk=column&talk_column=said&talk_turns=2" in again.headers["location"]
        page = client.get(again.headers["location"])
        assert page.status_code == 200 and 'value="said"' in page.text
        lines = client.get(f"/api/v1/runs/{run.run_id}/export?format=otel").text.splitlines()
        assert len(lines) == 1 and "gen_ai.conversation.id" in lines[0]


SIMULATED = {
    "talk": "simulated",
    "talk_model": '{"name": "simulated/user", "latency_ms": 1}',
    "talk_goal": "Find out about <said>.",
    "talk_persona": "Short of time.\r\nNever says please.",
    "talk_turns": "2",
    "talk_stop": "(?i)bye",
    "talk_stop_as": "pattern",
    "talk_stop_by": "either",
}


def form(**changes: str) -> dict[str, str]:
    """The form of a run that is a conversation."""
    return {"prompt": "kind@0", "dataset": "talks@0", "model": "simulated/echo", **changes}


def begun(studio: LiveStudio) -> httpx.Client:
    """A browser, and what the form chooses among."""
    studio.call(lambda lab: lab.assets.create(Dataset(name="talks", rows=[{"said": ["one", "two"]}])))
    studio.call(lambda lab: lab.assets.create(PromptTemplate(name="kind", system_prompt="Be kind.")))
    return httpx.Client(base_url=studio.url, headers={"Sec-Fetch-Site": "same-origin"}, timeout=60)


def ended(studio: LiveStudio, run_id: str) -> RunRecord:
    """A run, once it has ended."""
    for _ in range(600):
        run = studio.call(lambda lab: lab.get_run(run_id))
        if run.status != "running":
            return run
        time.sleep(0.05)
    raise AssertionError("it does not end")


def test_the_form_starts_conversations_and_holds_them(studio: LiveStudio) -> None:
    """From a column, the same texts for all rows, or a simulated user; the run fills the form as it was."""
    texts = {"talk": "texts", "talk_texts": "Hello\r\nAnd then?", "talk_stop": "bye"}
    with begun(studio) as client:
        for given in ({"talk": "column", "talk_column": "said"}, texts, SIMULATED):
            started = client.post("/new", data=form(**given))
            assert started.status_code == 303, started.text
            run_id = started.headers["location"].rpartition("/")[2]
            run = ended(studio, run_id)
            again = client.get(f"/new?from={run_id}").headers["location"]
            second = client.post("/new", data=dict(parse_qsl(urlsplit(again).query)))
            other = ended(studio, second.headers["location"].rpartition("/")[2])
            assert other.experiment["conversation"] == run.experiment["conversation"]
        assert run.experiment["conversation"]["stopping_condition"]["pattern"] == "(?i)bye"
        played = run.experiment["conversation"]["simulated_user"]
        assert (
            played["persona"] == "Short of time.\nNever says please." and played["model"]["latency_ms"] == 1
        )
        summary = client.get(f"/runs/{run_id}?tab=summary").text
    assert run.summary is not None and run.summary["simulated_user"]["calls"] == 2
    assert "simulated user" in summary


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"talk": "column"}, "Choose the column"),
        ({"talk": "column", "talk_column": "nowhere"}, "which the dataset does not have"),
        ({"talk": "texts"}, "a message a line"),
        ({"talk": "simulated", "talk_goal": "x"}, "a model that plays it, and a goal"),
        ({**SIMULATED, "talk_model": "{"}, "not valid JSON"),
        ({**SIMULATED, "talk_model": '{"name": "openai/x", "api_key": "k"}'}, "must not be sent"),
        ({**SIMULATED, "talk_stop": "("}, "stopping_condition"),
        ({**SIMULATED, "talk_turns": "101"}, "100"),
        ({**SIMULATED, "talk_turns": "few"}, "a whole number"),
        ({**SIMULATED, "talk_goal": "<nowhere>"}, "nowhere"),
        ({"talk": "debate"}, "is not known"),
    ],
)
def test_what_is_wrong_with_a_conversation_is_said(
    given: dict[str, str], words: str, studio: LiveStudio
) -> None:
    """Before a call is made."""
    with begun(studio) as client:
        answer = client.post("/new", data=form(**given))
    assert answer.status_code == 422 and words in answer.text
    assert studio.call(lambda lab: lab.list_runs())[0] == []
