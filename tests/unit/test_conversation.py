"""Conversations: cases of several turns, from a column or with a simulated user, against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from promptlab import Dataset, Model, ModelResponse, PromptLab, PromptTemplate, Run
from promptlab.domain.conversation import STOP, Conversation
from promptlab.errors import ConfigError, TemplateError
from tests.servers import ModelServer, Reply, Request

TURNS = [["hello", "how much?", "bye"], ["only this"], ["a", "b"]]


def answer(request: Request) -> Reply | str:
    """Plays both sides: the user asks three things; the assistant counts what it was sent."""
    said = request.json["messages"]
    if request.json["model"] == "user":
        asked = sum(one["role"] == "assistant" for one in said)
        return f"question {asked + 1}" if asked < 3 else f"Fine. {STOP}"
    return f"{len(said)}: {said[-1]['content']}"


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(answer) as running:
        yield running


@pytest.fixture
def pl(tmp_path: Path) -> Iterator[PromptLab]:
    with PromptLab({"db_file": str(tmp_path / "lab.db")}) as lab:
        yield lab


def model(server: ModelServer, name: str = "mini", **changes: Any) -> dict[str, Any]:
    prices = {"input_usd_per_mtok": 10, "output_usd_per_mtok": 20}
    return {"name": f"openai/{name}", "endpoint": server.openai_url, **prices, **changes}


def experiment(server: ModelServer, **changes: Any) -> dict[str, Any]:
    rows = [{"id": f"r{n}", "said": said, "city": "Rome"} for n, said in enumerate(TURNS)]
    return {
        "name": "talk",
        "dataset": Dataset(name="talks", rows=rows),
        "prompt_template": PromptTemplate(name="kind", system_prompt="Be kind."),
        "model": model(server),
        "conversation": {"user_turns": "$said"},
        **changes,
    }


def rows_of(run: Run) -> list[dict[str, Any]]:
    """The cases of a run, messages and traces as JSON."""
    return [
        {
            **row,
            "metadata": orjson.loads(row["metadata"] or "{}"),
            "messages": [message.to_json() for message in row["messages"] or ()],
            "trace": row["trace"].to_json() if row["trace"] else {},
        }
        for row in run.results()
    ]


def played(server: ModelServer, **changes: Any) -> dict[str, Any]:
    return {"simulated_user": {"model": model(server, "user"), "goal": "Visit <city>.", **changes}}


def test_the_users_part_comes_from_a_column(pl: PromptLab, server: ModelServer) -> None:
    """Each turn is asked with all that was said before, and the case has all of it."""
    run = pl.experiment.run(experiment(server))
    assert run.status == "completed" and run.summary is not None
    assert len(server.requests) == sum(map(len, TURNS))
    first, second, _ = rows_of(run)
    assert first["response"] == "6: bye" and second["response"] == "2: only this"
    assert [turn["user"] for turn in first["trace"]["turns"]] == TURNS[0]
    assert [turn["assistant"] for turn in first["trace"]["turns"]] == ["2: hello", "4: how much?", "6: bye"]
    assert [m["role"] for m in first["messages"]] == ["user", "assistant"] * 3
    assert first["metadata"] == {"turns": 3, "ended_by": "user_turns"}
    assert first["attempts"] == 3
    used = [turn["completion_tokens"] for turn in first["trace"]["turns"]]
    assert first["completion_tokens"] == sum(used) and first["cost_usd"] > 0
    last = next(r for r in server.requests if r.json["messages"][-1]["content"] == "bye")
    assert [one["role"] for one in last.json["messages"]] == ["system", *["user", "assistant"] * 2, "user"]


def test_the_prompt_may_ask_first(pl: PromptLab, server: ModelServer) -> None:
    """A prompt that ends with the user's message is the first turn; the column has the further ones."""
    prompt = PromptTemplate(name="ask", system_prompt="Be kind.", user_prompt="I am in <city>.")
    row = rows_of(pl.experiment.run(experiment(server, prompt_template=prompt)))[1]
    assert [turn["user"] for turn in row["trace"]["turns"]] == ["I am in Rome.", "only this"]
    assert row["response"] == "4: only this"
    assert row["messages"][0]["parts"][0]["content"] == "I am in Rome."


def test_a_simulated_user_talks_until_it_has_nothing_more_to_say(pl: PromptLab, server: ModelServer) -> None:
    """It is a model of its own, which sees the other side; what it used is told apart, and paid too."""
    run = pl.experiment.run(experiment(server, conversation=played(server, persona="Curt.")))
    row = rows_of(run)[0]
    assert [turn["user"] for turn in row["trace"]["turns"]] == ["question 1", "question 2", "question 3"]
    assert row["metadata"]["ended_by"] == "simulated_user" and row["metadata"]["turns"] == 3
    used = row["metadata"]["simulated_user"]
    assert used["calls"] == 4 and used["cost_usd"] > 0
    own = sum(turn["cost_usd"] for turn in row["trace"]["turns"])
    assert row["cost_usd"] == pytest.approx(own + used["cost_usd"])
    assert row["completion_tokens"] == sum(turn["completion_tokens"] for turn in row["trace"]["turns"])
    asked = [r.json["messages"] for r in server.requests if r.json["model"] == "user"]
    system = asked[0][0]["content"]
    assert "Your goal: Visit Rome." in system and "Who you are: Curt." in system and STOP in system
    longest = max(asked, key=len)
    assert [one["role"] for one in longest[1:]] == ["user", *["assistant", "user"] * 3]
    assert longest[2]["content"] == "question 1" and longest[3]["content"] == "2: question 1"


@pytest.mark.parametrize(
    ("changes", "turns", "ended_by"),
    [
        ({"max_turns": 2}, 2, "max_turns"),
        ({"stopping_condition": {"text": "question 2"}}, 2, "stopping_condition"),
        ({"stopping_condition": {"pattern": r"^\d+: question [13]"}}, 1, "stopping_condition"),
        ({"stopping_condition": {"text": "question 2", "said_by": "user"}}, 2, "stopping_condition"),
        ({"stopping_condition": {"text": "question", "said_by": "either"}}, 1, "stopping_condition"),
        ({"stopping_condition": {"text": "never"}}, 3, "simulated_user"),
    ],
)
def test_what_ends_a_conversation(
    changes: dict[str, Any], turns: int, ended_by: str, pl: PromptLab, server: ModelServer
) -> None:
    """And it is told with the case."""
    row = rows_of(pl.experiment.run(experiment(server, conversation={**played(server), **changes})))[0]
    assert (row["metadata"]["turns"], row["metadata"]["ended_by"]) == (turns, ended_by)
    assert row["trace"]["turns"][-1]["stop"] == ended_by


def test_an_answer_without_text_ends_it(pl: PromptLab, server: ModelServer) -> None:
    """There is nothing to answer to."""

    def agent(row: dict[str, Any], case: Any) -> list[dict[str, Any]]:
        function = {"name": "look", "arguments": "{}"}
        return [{"role": "assistant", "tool_calls": [{"id": "c", "function": function}]}]

    config = experiment(server, agent_proxy=agent)
    del config["model"], config["prompt_template"]
    row = rows_of(pl.experiment.run(config))[0]
    assert row["metadata"] == {"turns": 1, "ended_by": "no_text"}
    assert row["messages"][1]["parts"][0]["name"] == "look"


def test_a_turn_that_was_cut_is_counted(pl: PromptLab, server: ModelServer) -> None:
    """Not the last turn's reason alone: the model went on from half an answer."""

    def answer(request: Request) -> Reply:
        finish = "length" if request.prompt == "two" else "stop"
        choice = {"message": {"content": request.prompt}, "finish_reason": finish}
        return Reply(body={"choices": [choice], "usage": {}})

    server.answer = answer
    rows = [{"said": ["one", "two", "three"]}, {"said": ["one", "three"]}]
    run = pl.experiment.run(experiment(server, dataset=Dataset(name="cut", rows=rows)))
    assert [row["finish_reason"] for row in rows_of(run)] == ["length", "stop"]
    assert run.summary.cut == 1
    assert [turn["finish_reason"] for turn in rows_of(run)[0]["trace"]["turns"]] == ["stop", "length", "stop"]


def test_a_failed_turn_keeps_what_was_said_and_is_all_that_resume_asks(
    pl: PromptLab, server: ModelServer
) -> None:
    """The turns before it are neither lost nor paid twice."""
    server.script(*[Reply(status=400, text="refused")] * 1, prompt="how much?")
    run = pl.experiment.run(experiment(server))
    row = rows_of(run)[0]
    assert row["error_type"] == "bad_request" and row["metadata"] == {"turns": 1, "ended_by": "error"}
    assert [m["role"] for m in row["messages"]] == ["user", "assistant", "user"]
    before = len(server.requests)
    run = run.resume(failed=True)
    assert run.status == "completed"
    assert [request.prompt for request in server.requests[before:]] == ["how much?", "bye"]
    row = rows_of(run)[0]
    assert row["error_type"] is None and row["metadata"]["turns"] == 3 and row["response"] == "6: bye"


def test_a_simulated_user_that_fails_is_named(pl: PromptLab, server: ModelServer) -> None:
    """Its provider's error is the case's, in words that say whose it is."""
    server.script(
        *[Reply(status=400, text="no such user")] * 3,
        prompt="(The conversation begins. Say your first message.)",
    )
    row = rows_of(pl.experiment.run(experiment(server, conversation=played(server))))[0]
    assert row["error_type"] == "bad_request" and row["error_message"].startswith("the simulated user: ")


def test_a_user_that_says_nothing_is_an_error(pl: PromptLab) -> None:
    """A conversation without a turn has no answer to score."""
    with ModelServer(lambda request: STOP) as server:
        row = rows_of(pl.experiment.run(experiment(server, conversation=played(server))))[0]
    assert row["error_type"] == "no_turns" and "goal and instructions" in row["error_message"]


def test_an_agent_takes_turns_by_its_case(pl: PromptLab, server: ModelServer) -> None:
    """It sees the row and what was said, also what it recorded in earlier turns."""
    seen: list[list[str]] = []

    async def agent(row: dict[str, Any], case: Any) -> str:
        await asyncio.sleep(0)
        seen.append([message.role for message in case.messages])
        call = {"id": "1", "function": {"name": "look", "arguments": '{"city": "Rome"}'}}
        case.record({"role": "assistant", "tool_calls": [call]})
        case.record({"role": "tool", "tool_call_id": "1", "content": "sunny"})
        case.contexts([f"about {row['city']}"])
        return f"{case.messages[-1].text}!"

    config = experiment(server, agent_proxy=agent)
    del config["model"], config["prompt_template"]
    config["dataset"] = Dataset(name="one", rows=[{"said": ["a", "b"], "city": "Rome"}])
    row = rows_of(pl.experiment.run(config))[0]
    turn = ["user", "assistant", "tool", "assistant"]
    assert seen == [["user"], [*turn, "user"]]
    assert [m["role"] for m in row["messages"]] == turn * 2
    assert row["response"] == "b!" and row["trace"]["contexts"] == ["about Rome"] * 2


def test_metrics_see_the_turns(pl: PromptLab, server: ModelServer) -> None:
    """As a list, beside the messages and the answer's metadata."""
    found: list[Any] = []

    def count(data: dict[str, Any]) -> int:
        found.append(data)
        return len(data["turns"])

    mapping = {"turns": "$turns", "messages": "$messages", "ended_by": "$metadata.ended_by"}
    metric = {"metric": "turns", "evaluator": count, "column_mapping": mapping}
    run = pl.experiment.run(experiment(server, evaluation=[metric]))
    assert run.summary is not None and run.summary.metrics["turns"].mean == pytest.approx(2.0)
    assert {one["ended_by"] for one in found} == {"user_turns"}
    assert all(len(one["messages"]) == 2 * len(one["turns"]) for one in found)


def test_both_sides_are_paid_from_the_runs_budget(pl: PromptLab, server: ModelServer) -> None:
    """A budget that the assistant's calls alone would keep ends the run."""
    limited = {"max_tokens": 100}
    free = {"name": "openai/mini", "endpoint": server.openai_url, "input_usd_per_mtok": 0}
    conversation = {
        "simulated_user": {"model": model(server, "user", **limited), "goal": "Visit <city>."},
        "max_turns": 3,
    }
    config = experiment(server, conversation=conversation, max_cost_usd=0.004)
    config["model"] = {**free, "output_usd_per_mtok": 0, **limited, "max_concurrent_tasks": 1}
    run = pl.experiment.run(config)
    assert run.status == "budget_reached"
    spent = sum(row["cost_usd"] or 0.0 for row in run.results()) if run.record.results else 0.0
    assert spent <= 0.004
    run = run.resume(max_cost_usd=1.0)
    assert run.status == "completed" and len(rows_of(run)) == 3
    turns = sum(row["metadata"]["turns"] for row in rows_of(run))
    assert sum(r.json["model"] == "mini" for r in server.requests) == turns == 9


def test_equal_conversations_are_answered_from_the_cache(pl: PromptLab, server: ModelServer) -> None:
    """Turn by turn, and of the simulated user too."""
    config = experiment(server, conversation=played(server), cache=True)
    pl.experiment.run(config)
    before = len(server.requests)
    run = pl.experiment.run(config)
    assert len(server.requests) == before
    assert all(row["cached"] and row["cost_usd"] == 0 for row in rows_of(run))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"conversation": {}}, "give user_turns"),
        (
            {"conversation": {"user_turns": "$said", "simulated_user": {"model": "openai/m", "goal": "x"}}},
            "give",
        ),
        ({"conversation": {"user_turns": "$nowhere"}}, "names the column 'nowhere'"),
        ({"conversation": {"user_turns": []}}, "give 1 to 100"),
        ({"conversation": {"user_turns": "$said", "max_turns": 0}}, "max_turns"),
        ({"conversation": {"user_turns": "$said", "stopping_condition": {}}}, "give a text or a pattern"),
        (
            {"conversation": {"user_turns": "$said", "stopping_condition": {"pattern": "("}}},
            "not a valid regular expression",
        ),
        ({"conversation": {"simulated_user": {"model": "openai/m", "goal": "See <town>."}}}, "town"),
        ({"agent_proxy": lambda row: "x", "model": None, "prompt_template": None}, "agent\\(row, case\\)"),
    ],
)
def test_what_cannot_be_a_conversation_is_refused_before_a_call(
    changes: dict[str, Any], words: str, pl: PromptLab, server: ModelServer
) -> None:
    """With what to do instead."""
    with pytest.raises((ConfigError, TemplateError), match=words):
        pl.experiment.run(experiment(server, **changes))
    assert not server.requests


def test_a_simulated_user_is_no_model_of_ones_own(pl: PromptLab, server: ModelServer) -> None:
    """It is called in the cloud, too."""

    class Own(Model):
        def invoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
            return ModelResponse("x")

    with pytest.raises(ConfigError, match="Own is a model of your own"):
        pl.experiment.run(experiment(server, conversation={"simulated_user": {"model": Own(), "goal": "x"}}))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (["a", 1], "a list with a int"),
        (None, "null"),
        ([], "has no text"),
        (["a", " ", "b"], "nothing to say as text 2 of 3"),
        ("", "nothing to say as text 1 of 1"),
    ],
)
def test_a_row_without_turns_is_its_own_failure(
    value: Any, words: str, pl: PromptLab, server: ModelServer
) -> None:
    """The others are asked."""
    rows = [{"said": value}, {"said": ["hello"]}]
    run = pl.experiment.run(experiment(server, dataset=Dataset(name="odd", rows=rows)))
    first, second = rows_of(run)
    assert first["error_type"] == "template_error" and words in first["error_message"]
    assert second["response"] == "2: hello"


def test_texts_may_be_json_as_a_csv_has_them(pl: PromptLab, server: ModelServer) -> None:
    """A list of texts; whatever else it looks like, a text is what the user says."""
    rows = [{"said": value} for value in ('["one", "two"]', "[1, 2]", "[sic] three", "[]")]
    run = pl.experiment.run(experiment(server, dataset=Dataset(name="texts", rows=rows)))
    assert [row["response"] for row in rows_of(run)] == ["4: two", "2: [1, 2]", "2: [sic] three", "2: []"]


def test_texts_may_be_the_same_for_every_row(pl: PromptLab, server: ModelServer) -> None:
    """As a list in the experiment."""
    run = pl.experiment.run(experiment(server, conversation={"user_turns": ["one", "two"]}))
    assert [row["response"] for row in rows_of(run)] == ["4: two"] * 3


def test_a_resume_with_another_conversation_is_refused(pl: PromptLab, server: ModelServer) -> None:
    """The difference is named."""
    server.script(Reply(status=400, text="no"), prompt="hello")
    run = pl.experiment.run(experiment(server))
    other = experiment(server, conversation={"user_turns": "$said", "max_turns": 2})
    with pytest.raises(ConfigError, match=r"conversation\.max_turns: 10 in the run, 2 here"):
        pl.experiment.resume(run.run_id, other, failed=True)


def test_a_conversation_is_written_as_it_was_read() -> None:
    """A column with and without its sign is the same one."""
    assert Conversation(user_turns="said") == Conversation(user_turns="$said")
    assert Conversation(user_turns="$said").column == "said"
