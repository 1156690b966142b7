"""Sums in words with worked answers, as GSM8K has them, for pictures: the same each time."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from promptlab.domain.assets import Dataset, PromptTemplate
from promptlab.domain.experiment import Metric
from promptlab.domain.results import Completion, Failure, RunRecord, Score, ScoreSet
from promptlab.results.table import Case
from promptlab.store_lab import StoreLab
from tests.bench.make_runs import Made, make_run

NAMES = ("Amara", "Ben", "Chidi", "Dana", "Elif", "Farah", "Goran", "Hana", "Ines", "Jonas", "Kofi", "Lucía")
THINGS = ("apples", "stamps", "pencils", "tickets", "marbles", "postcards", "candles", "seedlings")
TOPICS = ("shopping", "work", "travel", "cooking", "sharing", "saving")
MAPPED = {"response": "$inference", "reference": "answer"}
METRICS = (
    Metric(name="numeric_match", metric="numeric_match", column_mapping=MAPPED),
    Metric(
        name="reasoning",
        metric="token_f1",
        column_mapping={"response": "$inference", "reference": "solution"},
    ),
    Metric(
        name="length",
        metric="length",
        column_mapping={"response": "$inference"},
        params={"unit": "words"},
        higher_is_better=False,
    ),
)
ERRORS = (
    Failure("timeout", "no answer within 120 s"),
    Failure("rate_limit", "429: too many requests in this minute; try again in 8 s"),
    Failure("content_filter", "the provider withheld the answer"),
)
Steps = tuple[str, list[str], int]


def _shopping(c: random.Random, who: str, thing: str) -> Steps:
    many, price, coupon = c.randrange(4, 30), c.randrange(2, 15), c.randrange(2, 8)
    text = (
        f"{who} buys {many} {thing} at ${price} each and has a coupon for ${coupon}. "
        "How many dollars does it cost in all?"
    )
    total = many * price
    return text, [f"The {thing} cost {many} * {price} = ${total}."], total - coupon


def _work(c: random.Random, who: str, thing: str) -> Steps:
    hours, wage, extra = c.randrange(20, 41), c.randrange(12, 30), c.randrange(2, 9)
    text = (
        f"{who} earns ${wage} an hour, and half as much again for overtime. Last week it was {hours} hours "
        f"and {2 * extra} hours of overtime. How many dollars did {who} earn?"
    )
    plain, more = hours * wage, wage * 3 * extra
    steps = [f"The usual hours give {hours} * {wage} = ${plain}.", f"Overtime gives ${more} more."]
    return text, steps, plain + more


def _travel(c: random.Random, who: str, thing: str) -> Steps:
    first, second, speed = c.randrange(2, 6), c.randrange(2, 5), c.randrange(8, 20) * 5
    text = (
        f"{who} drives for {first} hours at {speed} miles an hour, rests, and drives {second} hours more at "
        f"{speed - 20} miles an hour. How many miles is that?"
    )
    one, two = first * speed, second * (speed - 20)
    return (
        text,
        [f"Before the rest it is {first} * {speed} = {one} miles.", f"After it, {two} miles."],
        one + two,
    )


def _sharing(c: random.Random, who: str, thing: str) -> Steps:
    friends, each, kept = c.randrange(3, 12), c.randrange(3, 25), c.randrange(2, 20)
    text = (
        f"{who} gives each of {friends} friends {each} {thing} and keeps {kept}. "
        f"How many {thing} were there at first?"
    )
    given = friends * each
    return text, [f"The friends have {friends} * {each} = {given} {thing}."], given + kept


def _saving(c: random.Random, who: str, thing: str) -> Steps:
    weeks, put, spent = c.randrange(6, 30), c.randrange(5, 40), c.randrange(10, 60)
    text = (
        f"{who} saves ${put} every week for {weeks} weeks, then spends ${spent} on {thing}. "
        "How many dollars are left?"
    )
    return text, [f"After {weeks} weeks there are {weeks} * {put} = ${weeks * put}."], weeks * put - spent


_KINDS: tuple[tuple[str, Callable[[random.Random, str, str], Steps]], ...] = (
    ("shopping", _shopping),
    ("work", _work),
    ("travel", _travel),
    ("sharing", _sharing),
    ("saving", _saving),
)


def problem(number: int) -> dict[str, str]:
    """One dataset row: a question, its answer and how one gets there."""
    chance = random.Random(number)
    topic, kind = chance.choice(_KINDS)
    question, steps, answer = kind(chance, chance.choice(NAMES), chance.choice(THINGS))
    solution = " ".join([*steps, f"So the answer is {answer}."])
    return {
        "id": f"p{number:04}",
        "question": question,
        "answer": str(answer),
        "topic": topic,
        "solution": solution,
    }


def answered(
    *, words: int, latency: float, usd: float, failures: float
) -> Callable[[random.Random, int, int, int, dict[str, Any], bool], Case]:
    """How a model answers: with a few sentences of reasoning and a number, right or nearly so.

    Args:
        words: of an answer, at most so many sentences of it.
        latency: the logarithm of the median, in milliseconds.
        usd: dollars of one character of an answer.
        failures: the share of calls that fail.
    """

    def case(
        chance: random.Random, shard: int, number: int, trial: int, row: dict[str, Any], right: bool
    ) -> Case:
        where: dict[str, Any] = {
            "shard": shard,
            "case": number,
            "trial": trial,
            "created_at": "2026-11-23T09:00:00.000000Z",
            "latency_ms": chance.lognormvariate(latency, 0.35),
        }
        if chance.random() < failures:
            return Case(row, Completion(**where, attempts=3, error=chance.choice(ERRORS)), None)
        steps = row["solution"].split(". ")[:-1]
        said = [step.rstrip(".") + "." for step in steps][:words] or [row["solution"]]
        answer = int(row["answer"])
        got = answer if right else answer + chance.choice((-10, -4, -2, 3, 5, 12))
        start = chance.choice(("Let us go step by step.", "First,", "We work it out.", ""))
        text = " ".join([start, *said, f"A: {got:,}" if chance.random() < 0.3 else f"A: {got}"]).strip()
        completion = Completion(
            **where,
            response=text,
            finish_reason="stop",
            prompt_tokens=len(row["question"]) // 4 + 14,
            completion_tokens=len(text) // 4,
            cost_usd=len(text) * usd,
            attempts=1,
        )
        shared = chance.uniform(0.55, 0.95) if right else chance.uniform(0.3, 0.8)
        scores = {
            "numeric_match": Score(passed=right, reason=f"expected {answer}, got {got}"),
            "reasoning": Score(value=round(shared, 4)),
            "length": Score(value=float(len(text.split()))),
        }
        return Case(row, completion, ScoreSet(shard=shard, case=number, trial=trial, scores=scores))

    return case


PLAIN = PromptTemplate(
    name="solve",
    description="Solves a sum in words.",
    system_prompt="You are careful with numbers.",
    user_prompt="<question>\nEnd with A: and the number.",
)
STEPS = PromptTemplate(
    name="solve",
    description="Solves a sum in words.",
    system_prompt="You are careful with numbers.\nWork step by step, and check each step.",
    user_prompt="Question: <question>\nEnd with A: and the number alone, without a unit.",
)


async def add_word_problems(lab: StoreLab, rows: int = 1319) -> list[RunRecord]:
    """A dataset, a prompt in two versions, and five runs of three models over them."""
    made = await lab.assets.create(
        Dataset(
            name="word-problems",
            description="Sums in words, with answers and solutions.",
            rows=[problem(number) for number in range(rows)],
        )
    )
    plain = await lab.assets.create(PLAIN)
    steps = await lab.assets.create(STEPS)
    await lab.assets.label("solve", "production", version=0, kind="prompt_template")
    assert isinstance(made, Dataset)
    # model, prompt, skill, the logarithm of the latency, dollars of a character, failures, tags
    settings: list[tuple[str, Any, float, float, float, float, tuple[str, ...]]] = [
        ("ollama/llama3.2", plain, 0.44, 7.6, 0.0, 0.0, ("baseline",)),
        ("openai/gpt-6-luna", plain, 0.66, 6.7, 2.3e-7, 0.004, ("baseline",)),
        ("openai/gpt-6-luna", steps, 0.71, 6.9, 2.3e-7, 0.012, ("candidate", "nightly")),
        ("ollama/llama3.2", steps, 0.47, 7.8, 0.0, 0.0, ("candidate",)),
        ("anthropic/claude-sonnet-5-5", steps, 0.83, 7.1, 4e-6, 0.0, ("candidate", "nightly")),
    ]
    return [
        await make_run(
            lab,
            made,
            Made(
                seed=n,
                skill=skill,
                model=model,
                name="word problems",
                metrics=METRICS,
                case=answered(words=2 + n % 3, latency=latency, usd=usd, failures=failures),
                prompt=prompt,
                created_at=f"2026-11-{18 + n}T{9 + n:02}:{7 * n:02}:00.000000Z",
                tags=tags,
            ),
        )
        for n, (model, prompt, skill, latency, usd, failures, tags) in enumerate(settings)
    ]
