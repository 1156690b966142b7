"""tool_calls, trajectory, turn_count and no_error_calls over hand-made cases, and in a run."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest

from promptlab import Dataset, Model, ModelResponse, PromptLab, PromptTemplate
from promptlab.domain.messages import Message, Text, ToolCall
from promptlab.domain.results import Score
from promptlab.errors import MessageError
from promptlab.evaluators.registry import build


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


A, B = call("a", x=1), call("b")


def calls(made: Any, expected: Any, **params: Any) -> tuple[float | None, ...]:
    found = build("tool_calls", params).evaluate({"tool_calls": made, "expected": expected})
    assert isinstance(found, dict)
    return tuple(score.value for score in found.values())


@pytest.mark.parametrize(
    ("made", "expected", "strict", "unordered", "subset", "superset", "measures"),
    [
        ([], [], 1, 1, 1, 1, (1, 1, 1)),
        ([A], [], 0, 0, 0, 1, (0, 1, 0)),
        ([], [A], 0, 0, 1, 0, (1, 0, 0)),
        ([A], [A], 1, 1, 1, 1, (1, 1, 1)),
        ([A, B], [B, A], 0, 1, 1, 1, (1, 1, 1)),
        ([A, B], [A], 0, 0, 0, 1, (1 / 2, 1, 2 / 3)),
        ([A], [A, B], 0, 0, 1, 0, (1, 1 / 2, 2 / 3)),
        ([A, A], [A], 0, 0, 0, 1, (1 / 2, 1, 2 / 3)),
        ([call("a", x=2)], [A], 0, 0, 0, 0, (0, 0, 0)),
        (["a"], ["a"], 1, 1, 1, 1, (1, 1, 1)),
        ([A, B], ["a", "b"], 1, 1, 1, 1, (1, 1, 1)),
        ([A, B], ["b", A], 0, 1, 1, 1, (1, 1, 1)),
        (["a"], [A], 0, 0, 0, 0, (0, 0, 0)),
    ],
)
def test_calls_are_held_against_expected_ones(
    made: Any,
    expected: Any,
    strict: int,
    unordered: int,
    subset: int,
    superset: int,
    measures: tuple[float, ...],
) -> None:
    """Every mode; precision, recall and F1 are the same in each; extra calls and empty lists have a value."""
    modes = {"strict": strict, "unordered": unordered, "subset": subset, "superset": superset}
    for mode, match in modes.items():
        assert calls(made, expected, mode=mode) == pytest.approx((match, *measures))
        assert calls(json.dumps(made), json.dumps(expected), mode=mode)[0] == match


@pytest.mark.parametrize(
    ("how", "made", "expected", "same"),
    [
        ("exact", call("a", x=1, y=[1, {"z": 2}]), call("a", y=[1.0, {"z": 2}], x=1), True),
        ("exact", call("a", x=1, y=2), call("a", x=1), False),
        ("exact", call("a", x=True), call("a", x=1), False),
        ("subset", call("a", x=1, y={"b": 1, "c": 2}), call("a", y={"b": 1}), True),
        ("subset", call("a", x=1), call("a", x=1, y=2), False),
        ("ignore", call("a", x=1), call("a"), True),
        ("ignore", call("b", x=1), call("a"), False),
        ("schema", call("a", x=3), call("a", properties={"x": {"minimum": 2}}, required=["x"]), True),
        ("schema", call("a", x=1), call("a", properties={"x": {"minimum": 2}}), False),
        ("exact", {"function": {"name": "a", "arguments": '{"x": 1}'}}, A, True),
    ],
)
def test_arguments_are_compared_as_asked(how: str, made: Any, expected: Any, same: bool) -> None:
    """Exactly, in part, not at all, or by a schema; OpenAI's form is read."""
    assert calls([made], [expected], arguments=how)[0] == same


def test_as_many_calls_are_paired_as_can_be() -> None:
    """Against trying every pairing, for random fits: a greedy one finds fewer."""
    pick = random.Random(6)
    for _ in range(100):
        made = [
            call("a", **{k: 1 for k in "xyz" if pick.random() < 0.5}) for _ in range(pick.randrange(1, 5))
        ]
        wanted = [
            call("a", **{k: 1 for k in "xyz" if pick.random() < 0.4}) for _ in range(pick.randrange(1, 5))
        ]
        most = max(
            sum(
                m is not None and set(m["arguments"]) >= set(w["arguments"])
                for m, w in zip(order, wanted, strict=True)
            )
            for order in itertools.permutations([*made, *[None] * len(wanted)], len(wanted))
        )
        found = calls(made, wanted, mode="unordered", arguments="subset")
        assert found[1:3] == pytest.approx((most / len(made), most / len(wanted)))


def test_of_several_right_ways_the_one_that_fits_best_counts() -> None:
    """Also as JSON, and where none fits; a way without calls is one."""
    assert calls([A], [[B], [A]]) == (1, 1, 1, 1)
    assert calls([A], json.dumps([[A, B], [B]])) == pytest.approx((0, 1, 1 / 2, 2 / 3))
    assert calls([], [[A], []])[0] == 1
    said = [{"role": "assistant", "content": "no"}]
    way = [{"role": "assistant", "content": "", "tool_calls": [{"id": "1", "function": {"name": "a"}}]}]
    metric = build("trajectory")
    found = metric.evaluate({"messages": said, "reference": [way, said]})
    assert isinstance(found, dict) and found["match"].passed
    assert not metric.evaluate({"messages": said, "reference": way})["match"].passed  # type: ignore[index]
    with pytest.raises(MessageError, match=r"expected\[1\]\[0\]"):
        calls([A], [[A], [{"arguments": {}}]])


@pytest.mark.parametrize("given", [None, "no JSON", {"name": "a"}, 7, [{"arguments": {}}]])
def test_what_is_no_list_of_calls_is_an_error(given: Any) -> None:
    """It is neither right nor wrong."""
    with pytest.raises((ValueError, MessageError), match=r"tool_calls|expected"):
        calls(given, [])


def said(text: str = "", *made: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": text, "tool_calls": [{"function": one} for one in made]}


USER, TOOL = {"role": "user", "content": "?"}, {"role": "tool", "content": "!"}
WAY = [USER, said("", A, B), TOOL, TOOL, said("so")]


@pytest.mark.parametrize(
    ("messages", "mode", "match"),
    [
        (WAY, "strict", 1),
        (WAY[1:], "strict", 1),
        ([{"role": "system", "content": "be"}, *WAY], "strict", 1),
        ([*WAY[:1], {"role": "developer", "content": "be"}, *WAY[1:]], "strict", 1),
        ([USER, said("", B, A), TOOL, TOOL, said("other words")], "strict", 1),
        ([USER, said("", A), TOOL, said("", B), TOOL, said("so")], "strict", 0),
        ([USER, said("", A), TOOL, said("", B), TOOL, said("so")], "unordered", 1),
        ([USER, said("", A), TOOL, said("so")], "subset", 1),
        ([USER, said("", A), TOOL, said("so")], "superset", 0),
        ([USER, said("so")], "superset", 0),
    ],
)
def test_a_trajectory_is_held_against_the_reference(messages: Any, mode: str, match: int) -> None:
    """Roles and calls, message by message where it is to be strict; the words do not count."""
    found = build("trajectory", {"mode": mode}).evaluate({"messages": messages, "reference": WAY})
    assert isinstance(found, dict) and found["match"].value == match


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (
            [USER, said("", A), TOOL, said("so")],
            "step 2: b is not called; 1 of 2 expected calls; missing b",
        ),
        (
            [USER, said("", call("a", x=2), B), TOOL, TOOL, said("so")],
            'step 2: a is called with {"x":2} in place of {"x":1}; 1 of 2 expected calls; missing a; extra a',
        ),
        (
            [USER, said("", A, call("c")), TOOL, TOOL, said("so")],
            "step 2: c is called in place of b; 1 of 2 expected calls; missing b; extra c",
        ),
        (
            [USER, said("", A, B, A), TOOL, TOOL, said("so")],
            "step 2: a is called, too; 2 of 2 expected calls; extra a",
        ),
        (
            [USER, said("", A, B), TOOL, said("so")],
            "step 4: a message of assistant in place of a message of tool; 2 of 2 expected calls",
        ),
        ([*WAY[:-1]], "step 5: a message of assistant is missing; 2 of 2 expected calls"),
        ([*WAY, USER], "step 6: a message of user is one too many; 2 of 2 expected calls"),
        (
            [USER, said("so")],
            "step 2: a is not called; 0 of 2 expected calls; missing a, b",
        ),
    ],
)
def test_the_reason_of_a_trajectory_is_the_first_step_that_differs(messages: Any, reason: str) -> None:
    """The step, from 1, and how; then the calls that are missing and extra."""
    found = build("trajectory").evaluate({"messages": messages, "reference": WAY})
    assert isinstance(found, dict) and found["match"].reason == reason


@pytest.mark.parametrize(
    ("made", "expected", "reason"),
    [
        ([B, A], [A, B], "call 1: b is called in place of a; 2 of 2 expected calls"),
        ([A], [A, B], "call 2: b is not called; 1 of 2 expected calls; missing b"),
        ([A, B], [A], "call 2: b is called; 1 of 1 expected calls; extra b"),
    ],
)
def test_the_reason_of_calls_is_the_first_that_differs(made: Any, expected: Any, reason: str) -> None:
    """By its place, where the order counts; else the calls that are missing and extra alone."""
    found = build("tool_calls").evaluate({"tool_calls": made, "expected": expected})
    assert isinstance(found, dict) and found["match"].reason == reason
    loose = build("tool_calls", {"mode": "unordered"}).evaluate({"tool_calls": made, "expected": ["z"]})
    assert isinstance(loose, dict) and str(loose["match"].reason).startswith(
        "0 of 1 expected calls; missing z"
    )


@pytest.mark.parametrize(
    ("params", "value", "passed"),
    [
        ({}, 2, None),
        ({"of": "user"}, 1, None),
        ({"of": "tool"}, 2, None),
        ({"of": "all"}, 5, None),
        ({"max": 2}, 2, True),
        ({"max": 1}, 2, False),
        ({"min": 3}, 2, False),
    ],
)
def test_turns_are_counted(params: dict[str, Any], value: int, passed: bool | None) -> None:
    """By role; with a bound it passes or fails."""
    found = build("turn_count", params).evaluate({"messages": [{"role": "developer", "content": "be"}, *WAY]})
    assert isinstance(found, Score) and (found.value, found.passed) == (value, passed)


@pytest.mark.parametrize(
    ("part", "passed"),
    [
        ({"response": "fine"}, True),
        ({"response": "no", "is_error": True}, False),
        ({"response": {"error": "no funds"}}, False),
        ({"response": '{"error": "no funds"}'}, False),
        ({"response": {"error": None, "ok": 1}}, True),
        ({"response": '{"errors": 0}'}, True),
    ],
)
def test_a_tool_that_failed_is_seen(part: dict[str, Any], passed: bool) -> None:
    """Marked as an error, or an object that says one; the tool is named."""
    made = {"role": "assistant", "parts": [{"type": "tool_call", "id": "1", "name": "pay", "arguments": {}}]}
    answer = {"role": "tool", "parts": [{"type": "tool_call_response", "id": "1", **part}]}
    found = build("no_error_calls").evaluate({"messages": [made, answer]})
    assert isinstance(found, Score) and found.passed is passed
    assert passed or "1 of 1 calls failed: pay" in str(found.reason)


@pytest.mark.parametrize("ids", [("1", "2"), ("1", "1"), (None, None)])
def test_the_tool_that_failed_is_named_whatever_its_id(ids: tuple[str | None, str | None]) -> None:
    """Many servers begin to count anew with each answer; transcripts may have no ids at all."""
    talk = [
        message
        for name, call_id, said in zip(("look", "pay"), ids, ({"error": "busy"}, "done"), strict=True)
        for message in (
            {
                "role": "assistant",
                "parts": [{"type": "tool_call", "id": call_id, "name": name, "arguments": {}}],
            },
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": call_id, "response": said}]},
        )
    ]
    found = build("no_error_calls").evaluate({"messages": talk})
    assert isinstance(found, Score) and "1 of 2 calls failed: look" in str(found.reason)
    assert build("no_error_calls", {"ignore": ["look"]}).evaluate({"messages": talk}).passed  # type: ignore[union-attr]


class Searches(Model):
    """Answers with a call of a tool and a text."""

    def invoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        made = ToolCall("search", {"q": user_prompt}, "1")
        return ModelResponse(messages=[Message("assistant", (made, Text("done")))])


def test_agents_are_scored_in_a_run(tmp_path: Path) -> None:
    """From $messages and $tool_calls, each score a metric of its own."""
    rows = [
        {"q": "lyon", "calls": [call("search", q="lyon")]},
        {"q": "paris", "calls": []},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    pl = PromptLab({"type": "sqlite", "db_file": str(tmp_path / "promptlab.db")})
    run = pl.experiment.run(
        {
            "name": "agent",
            "model": Searches({"name": "custom/searches"}),
            "prompt_template": PromptTemplate(name="p", system_prompt="", user_prompt="<q>"),
            "dataset": Dataset(name="d", file_path=str(tmp_path / "rows.jsonl")),
            "evaluation": [
                {"metric": "tool_calls", "column_mapping": {"expected": "calls"}},
                {"metric": "turn_count"},
                {"metric": "no_error_calls"},
            ],
        }
    )
    found = list(run.results())
    assert [row["passed.tool_calls.match"] for row in found] == [True, False]
    assert [row["score.tool_calls.f1"] for row in found] == [1.0, 0.0]
    assert [row["score.turn_count"] for row in found] == [1.0, 1.0]
    assert run.summary.metrics["tool_calls.precision"].scored == 2
