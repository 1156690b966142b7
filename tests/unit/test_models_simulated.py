"""Simulated models: what they say, and that they say it again."""

from __future__ import annotations

import asyncio
import json
import math
import os
import subprocess
import sys

import pytest

from promptlab.errors import ConfigError, ModelError
from promptlab.models.registry import get_model
from promptlab.models.simulated import SimulatedModel, embedding


class Clock:
    """A `Clock` whose waits are over at once."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> str:
        return "2026-01-01T00:00:00.000000Z"

    def monotonic(self) -> float:
        return sum(self.slept)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


def say(prompt: str, name: str = "simulated/demo", **params: object) -> str:
    return get_model(name, **params).invoke("", prompt).response


def test_a_parameter_that_nobody_has_is_an_error():
    """With the ones that there are; those of real providers are taken, for it can stand in for one."""
    with pytest.raises(ConfigError, match="'nosuch' is no parameter of a simulated model, which has "):
        get_model("simulated/demo", nosuch=1)
    with pytest.raises(ConfigError, match="; did you mean 'accuracy'"):
        get_model("simulated/demo", acuracy=1)
    assert say("17 + 25", accuracy=1, top_p=0.5, reasoning_effort="low") == "42"


def test_echo_gives_back_the_last_line():
    """The echo is of the last user message, whatever comes before it."""
    assert say("Question:\n  what?  \n", "simulated/echo") == "what?"
    assert say("", "simulated/echo") == ""


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("What is 17 + 25?", "42"),
        ("6 times 7", "42"),
        ("84/2 =", "42"),
        ("50.5 minus 8.5", "42"),
        ("1 / 0", "undefined"),
        ("1 + 1, then 40 + 2", "42"),
    ],
)
def test_sums_are_worked_out(prompt: str, expected: str):
    """The last one of the prompt."""
    assert say(prompt, accuracy=1) == expected


def test_accuracy_says_how_many_sums_are_right():
    """About so many, always the same ones."""
    model = get_model("simulated/demo", accuracy=0.7)
    right = [model.invoke("", f"{i} + {i}").response == str(2 * i) for i in range(300)]
    assert 0.6 < sum(right) / 300 < 0.8
    assert right == [
        get_model("simulated/demo", accuracy=0.7).invoke("", f"{i} + {i}").response == str(2 * i)
        for i in range(300)
    ]


def test_offered_choice_is_taken():
    """One of the words that the prompt asks for, also where the system prompt does."""
    texts = [f"Review {i}: fine. Answer positive, negative or neutral" for i in range(30)]
    assert {say(text) for text in texts} == {"positive", "negative", "neutral"}
    answer = get_model("simulated/demo").invoke("Reply with yes or no.", "Is this good?").response
    assert answer in ("yes", "no")


def test_anything_else_gets_a_sentence_about_it():
    """Made of the prompt's own words."""
    answer = say("Discuss the consequences of industrialisation for medieval agriculture")
    assert "industrialisation" in answer and answer.endswith(".")
    assert say("?!") in ("Yes.", "No.")


def test_answers_depend_on_prompt_seed_and_name_only():
    """Another process gives the same ones; another seed does not."""
    prompts = [f"Essay {i}: mountains, rivers, valleys and forests. Say good or bad" for i in range(40)]
    here = [say(prompt) for prompt in prompts]
    code = (
        "import json\nfrom promptlab.models.registry import get_model\nm = "
        f"get_model('simulated/demo')\nprint(json.dumps([m.invoke('', p).response for p in {prompts!r}]))"
    )
    there = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert json.loads(there.stdout) == here
    assert [say(prompt, seed=2) for prompt in prompts] != here
    assert [say(prompt, "simulated/other") for prompt in prompts] != here


def test_max_tokens_cuts_and_says_so():
    """As a real model does."""
    answer = get_model("simulated/echo", max_tokens=2).invoke("", "one two three")
    assert (answer.response, answer.finish_reason, answer.completion_tokens) == ("one two", "length", 2)


def test_json_is_given_where_it_is_asked_for():
    """response_format."""
    assert json.loads(say("1 + 1", accuracy=1, response_format={"type": "json_object"})) == {"answer": "2"}


def test_tokens_are_counted():
    """Read and written."""
    answer = get_model("simulated/echo").invoke("Be brief.", "hello, world")
    assert (answer.prompt_tokens, answer.completion_tokens) == (14, 3)


async def test_failures_come_at_their_rates_and_end_with_retries():
    """Each attempt is a new draw; a retried run gets all its answers."""
    clock = Clock()
    model = SimulatedModel(
        {
            "name": "simulated/echo",
            "failure_rate": 0.2,
            "rate_limit_rate": 0.3,
            "retry_after_s": 1,
            "max_retries": 50,
        },
        clock=clock,
    )
    kinds = []
    for i in range(400):
        try:
            await model.achat([{"role": "user", "content": f"question {i}"}])
        except ModelError as error:
            kinds.append((error.type, error.retry_after_s, error.retryable))
    assert 50 < kinds.count(("server_error", None, True)) < 110
    assert 85 < kinds.count(("rate_limit", 1.0, True)) < 155
    for i in range(100):
        assert (await model.ainvoke("", f"question {i}")).response == f"question {i}"


async def test_failures_are_the_same_in_every_run():
    """They depend on the prompt, the seed and the attempt."""

    async def outcomes(**more: object) -> list[str]:
        model = get_model("simulated/echo", failure_rate=0.5, **more)
        found = []
        for i in [*range(50), *range(50)]:
            try:
                found.append((await model.achat([{"role": "user", "content": str(i)}])).response)
            except ModelError as error:
                found.append(error.type)
        return found

    assert await outcomes() == await outcomes()
    assert await outcomes() != await outcomes(seed=1)


async def test_latency_is_waited():
    """latency_ms, and up to so much of it more as jitter says."""
    clock = Clock()
    model = SimulatedModel({"name": "simulated/echo", "latency_ms": 200, "jitter": 0.5}, clock=clock)
    await asyncio.gather(*(model.ainvoke("", str(i)) for i in range(30)))
    assert all(0.2 <= s <= 0.3 for s in clock.slept)
    assert len(set(clock.slept)) > 20


@pytest.mark.parametrize("params", [{"failure_rate": 2}, {"latency_ms": -1}, {"accuracy": "much"}])
def test_wrong_parameters_are_explained(params: dict[str, object]):
    """In plain words."""
    with pytest.raises(ConfigError, match=next(iter(params))):
        get_model("simulated/x", **params)


def test_parameters_of_real_models_change_nothing():
    """So that models can be swapped."""
    assert say("hello there", top_p=0.5, logit_bias={}) == say("hello there")


def test_embeddings_are_close_for_texts_that_share_words():
    """Unit vectors, the same every time."""

    def cosine(a: str, b: str) -> float:
        return sum(x * y for x, y in zip(embedding(a), embedding(b), strict=True))

    vectors = get_model("simulated/x").embed(["the cat sat", "the cat sat", ""])
    assert vectors[0] == vectors[1] == embedding("the cat sat")
    assert all(math.isclose(sum(x * x for x in v), 1.0) for v in vectors)
    assert (
        cosine("the cat sat on the mat", "a cat sat on the mat")
        > 0.7
        > cosine("the cat sat on the mat", "quarterly revenue grew")
    )
