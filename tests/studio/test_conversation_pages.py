"""Conversations through the API, and on the pages of a run."""

from __future__ import annotations

import httpx

from promptlab import Dataset, PromptLab, PromptTemplate
from tests.servers import ModelServer
from tests.studio.live import LiveStudio


def test_a_conversation_is_started_read_and_exported_through_the_api(studio: LiveStudio) -> None:
    """As on a laptop; its pages say what it was, and the form that it cannot hold it."""
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
        assert again.status_code == 303 and "conversation" in again.headers["set-cookie"]
        lines = client.get(f"/api/v1/runs/{run.run_id}/export?format=otel").text.splitlines()
        assert len(lines) == 1 and "gen_ai.conversation.id" in lines[0]
