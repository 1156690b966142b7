"""What agents and models of users return and record: messages, contexts, usage and spans."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from promptlab import Dataset, Model, ModelResponse, PromptLab, PromptTemplate, current_case
from promptlab.domain.messages import Message, Text, ToolCall, ToolCallResponse, text_message
from promptlab.errors import MessageError
from promptlab.models.agent import takes_case
from promptlab.models.recording import MOST_CONTEXTS, MOST_SPANS, CaseRecorder

CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"city": "Rome"}'}}
OPENAI = [
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    {"role": "assistant", "content": "It is sunny."},
]
SAID = (
    Message("assistant", (ToolCall("look", {"city": "Rome"}, "c1"),)),
    Message("tool", (ToolCallResponse("sunny", "c1"),)),
    text_message("assistant", "It is sunny."),
)
OTEL = [message.to_json() for message in SAID]


@pytest.fixture
def pl(tmp_path: Path) -> Iterator[PromptLab]:
    with PromptLab({"db_file": str(tmp_path / "lab.db")}) as lab:
        yield lab


def asked(pl: PromptLab, agent: Callable[..., Any], rows: int = 1, **changes: Any) -> list[dict[str, Any]]:
    """The cases of a run of an agent."""
    dataset = Dataset(name="rows", rows=[{"n": n} for n in range(rows)])
    run = pl.experiment.run({"name": "agents", "dataset": dataset, "agent_proxy": agent, **changes})
    return list(map(plain, run.results()))


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """A case with its messages and its trace as JSON."""
    messages = [message.to_json() for message in row["messages"] or ()]
    return {**row, "messages": messages, "trace": row["trace"].to_json() if row["trace"] else {}}


@pytest.mark.parametrize(
    "returned",
    [OPENAI, OTEL, list(SAID), SAID, ModelResponse(messages=SAID), ModelResponse(messages=OPENAI)],
    ids=["openai", "otel", "messages", "tuple", "response", "response of dicts"],
)
def test_an_agent_returns_messages(returned: Any, pl: PromptLab) -> None:
    """In whichever form; the answer is the text of the assistant's last one."""
    (row,) = asked(pl, lambda row: returned)
    assert row["response"] == "It is sunny." and row["messages"] == OTEL


def test_an_agent_records_what_it_does(pl: PromptLab) -> None:
    """Messages in order with the answer at the end, contexts, and what its own calls used."""

    def agent(row: dict[str, Any], case: CaseRecorder) -> str:
        assert case.messages == ()
        case.contexts(["first", {"text": "second", "source": "a.txt"}])
        case.record(*OPENAI[:2])
        case.usage(prompt_tokens=7, completion_tokens=3, cost_usd=0.25)
        case.usage(model="openai/gpt-4o-mini", prompt_tokens=1_000_000, completion_tokens=0)
        return "It is sunny."

    (row,) = asked(pl, agent)
    assert row["messages"] == OTEL and row["response"] == "It is sunny."
    assert row["trace"]["contexts"] == ["first", {"text": "second", "source": "a.txt"}]
    assert (row["prompt_tokens"], row["completion_tokens"]) == (1_000_007, 3)
    assert row["cost_usd"] > 0.25


@pytest.mark.parametrize("ending", [None, "text", "messages", "all"])
def test_what_is_recorded_and_returned_is_there_once(ending: str | None, pl: PromptLab) -> None:
    """Whether a function returns nothing, the last text, the last messages or all of them again."""

    def agent(row: dict[str, Any], case: CaseRecorder) -> Any:
        case.record(*(SAID[:2] if ending == "messages" else SAID))
        return {None: None, "text": "It is sunny.", "messages": [SAID[2]], "all": list(SAID)}[ending]

    (row,) = asked(pl, agent)
    assert row["messages"] == OTEL and row["response"] == "It is sunny."


def test_cases_at_once_keep_their_records_apart(pl: PromptLab) -> None:
    """In threads, in tasks, and in threads and tasks that the code begins by itself."""

    def sync_agent(row: dict[str, Any], case: CaseRecorder) -> str:
        other = threading.Thread(target=lambda: case.contexts([f"thread {row['n']}"]))
        other.start()
        other.join()
        current_case().contexts([f"own {row['n']}"])
        return "ok"

    async def async_agent(row: dict[str, Any], case: CaseRecorder) -> str:
        async def later() -> None:
            await asyncio.sleep(0.01)
            current_case().contexts([f"task {row['n']}"])

        await asyncio.gather(later(), later())
        return "ok"

    for row in asked(pl, sync_agent, rows=30):
        assert row["trace"]["contexts"] == [f"thread {row['case']}", f"own {row['case']}"]
    for row in asked(pl, async_agent, rows=30):
        assert row["trace"]["contexts"] == [f"task {row['case']}"] * 2


def test_what_was_recorded_before_an_error_is_kept_with_it(pl: PromptLab) -> None:
    """So that it can be seen how far the agent came."""

    def agent(row: dict[str, Any], case: CaseRecorder) -> str:
        case.record(*SAID[:2])
        case.contexts(["seen"])
        raise ValueError("no more")

    (row,) = asked(pl, agent)
    assert row["error_type"] == "ValueError"
    assert row["messages"] == OTEL[:2] and row["trace"]["contexts"] == ["seen"]


def test_a_model_of_ones_own_returns_and_records_messages(pl: PromptLab) -> None:
    """`current_case` is the case, wherever the code is."""

    class Own(Model):
        async def achat(self, messages: Any) -> Any:
            current_case().contexts([messages[-1]["content"]])
            return OPENAI

    prompt = PromptTemplate(name="p", user_prompt="q <n>")
    dataset = Dataset(name="rows", rows=[{"n": 1}])
    config = {"name": "own", "dataset": dataset, "prompt_template": prompt, "model": Own()}
    (row,) = map(plain, pl.experiment.run(config).results())
    assert row["messages"] == OTEL and row["trace"]["contexts"] == ["q 1"]


def test_metrics_see_what_was_recorded(pl: PromptLab) -> None:
    """Contexts, tool calls and spans, as column_mapping names them."""
    seen: list[dict[str, Any]] = []

    def agent(row: dict[str, Any], case: CaseRecorder) -> Any:
        case.contexts(["one"])
        return OPENAI

    def look(data: dict[str, Any]) -> bool:
        seen.append(data)
        return True

    mapping = {"contexts": "$contexts", "calls": "$tool_calls", "spans": "$spans", "turns": "$turns"}
    asked(pl, agent, evaluation=[{"metric": "look", "evaluator": look, "column_mapping": mapping}])
    (found,) = seen
    assert list(found["contexts"]) == ["one"] and found["calls"][0]["name"] == "look"
    assert not found["spans"] and not found["turns"]


@pytest.mark.parametrize(
    ("work", "kind", "words"),
    [
        (lambda case: case.record({"role": "robot", "content": "x"}), MessageError, "role 'robot'"),
        (lambda case: case.contexts("one"), TypeError, "takes a list"),
        (lambda case: case.contexts([1]), TypeError, "number 1 is a int"),
        (lambda case: case.contexts(["x"] * (MOST_CONTEXTS + 1)), ValueError, "more than 1,000"),
        (lambda case: case.contexts(["x" * 3_000_000]), ValueError, "more than 2 MB"),
        (lambda case: case.record(*[SAID[2]] * 2001), MessageError, "at most 2,000"),
        (lambda case: [case.record(*[SAID[2]] * 2000), case.record(SAID[2])], ValueError, "2,000 messages"),
        (lambda case: case.record(text_message("user", "x" * 3_000_000)), ValueError, "more than 2 MB"),
        (lambda case: case.usage(prompt_tokens=-1), ValueError, "tokens read"),
        (lambda case: case.usage(cost_usd=float("nan")), ValueError, "cost_usd"),
    ],
)
def test_what_cannot_be_recorded_is_an_error_that_says_why(
    work: Callable[[CaseRecorder], Any], kind: type[Exception], words: str
) -> None:
    """In the line of the user's code that asks for it."""
    with pytest.raises(kind, match=words):
        work(CaseRecorder())


def test_spans_beyond_the_bounds_are_counted() -> None:
    """The first ones are kept."""
    case = CaseRecorder()
    for number in range(MOST_SPANS + 5):
        case.add_span({"name": f"s{number}", "start": f"{number:06}"})
    trace = case.trace()
    assert trace is not None and len(trace.spans) == MOST_SPANS + 1
    assert trace.spans[-1]["attributes"] == {"promptlab.left_out": 5}


def test_outside_of_a_case_recording_does_nothing() -> None:
    """The same code works in a script."""
    current_case().contexts(["x"])
    assert current_case().trace() is None


class Callable_:
    def __call__(self, row: Any, case: Any) -> str:
        return "x"


@pytest.mark.parametrize(
    ("function", "how"),
    [
        (lambda row: "x", None),
        (lambda row, case: "x", "keyword"),
        (lambda row, *, case=None: "x", "keyword"),
        (lambda row, trace: "x", "positional"),
        (lambda row, size=3: "x", None),
        (lambda row, size=3, case=None: "x", "keyword"),
        (lambda row, *args, **kwargs: "x", None),
        (partial(lambda row, style: "x", style="a"), None),
        (partial(lambda row, style, case: "x", style="a"), "keyword"),
        (partial(lambda row, case: "x", case="mine"), None),
        (Callable_(), "keyword"),
        (print, None),
        (Text, None),
    ],
)
def test_who_is_given_the_case(function: Callable[..., Any], how: str | None) -> None:
    """A function that asks for it, by name or by a second parameter."""
    assert takes_case(function) == how


def test_pictures_that_an_agent_sent_are_recorded_by_their_hash(pl: PromptLab) -> None:
    """As its provider was sent them, as data; they are no part of the bytes that a case may have."""
    picture = b"\x89PNG\r\n\x1a\n" + bytes(4 << 20)
    url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    look = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}

    def agent(row: dict[str, Any], case: CaseRecorder) -> list[dict[str, Any]]:
        case.record(look)
        return [look, {"role": "assistant", "content": "a cat"}]

    (row,) = asked(pl, agent)
    assert row["response"] == "a cat" and [one["role"] for one in row["messages"]] == ["user", "assistant"]
    kept = {"modality": "image", "mime_type": "image/png", "size": len(picture)}
    (part,) = row["messages"][0]["parts"]
    assert part == {"type": "blob", "sha256": hashlib.sha256(picture).hexdigest(), **kept}
