"""The contract of Ledger: completions, scores, shards and progress."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from types import MappingProxyType

import pytest

from promptlab.domain.messages import Media, Message, Reasoning, Text, ToolCall, ToolCallResponse
from promptlab.domain.results import Attempt, Completion, Failure, Progress, Score, ScoreSet
from promptlab.domain.trace import Trace
from promptlab.errors import RunNotFoundError
from promptlab.ports import Ledger
from tests.contract.builders import NOW, RUN, completion, failed_completion, run, score_set, shard_summary

SAID = (
    Message("assistant", (Reasoning("hm ü"), ToolCall("find", {"q": [1, None, "x"], "text": ""}, "c1"))),
    Message("tool", (ToolCallResponse('{"a": 1}', "c1"), ToolCallResponse(None, None, is_error=True))),
    Message("assistant", (Text("four"), Media(modality="image", sha256="ab" * 32, size=3)), "stop"),
)
ODD_TEXTS = ["", " ", "ü 🙂 漢字 \u0000\u2028", 'quote " and \\ back\r\n\tslash', "long " * 60_000]


async def test_a_completion_comes_back_as_it_was_put(ledger: Ledger) -> None:
    """Every field survives."""
    put = [
        completion(
            0,
            generation=3,
            attempts=4,
            metadata={"model": "gpt", "deep": {"list": [1, 0.1, None, True, "ü"], "empty": {}}},
        ),
        failed_completion(1, error=Failure("rate_limit", "429: slow down 🙂")),
        Completion(shard=0, case=2, trial=0),
        completion(
            3,
            messages=SAID,
            cached_tokens=7,
            cache_write_tokens=0,
            reasoning_tokens=3,
            trace=Trace(("a", {"text": "b"}), ({"name": "s", "duration_ms": 1.5},), ({"number": 1},)),
        ),
    ]
    await ledger.put_completions(RUN, put)
    assert await ledger.get_completions(RUN, 0) == put


async def test_a_score_set_comes_back_as_it_was_put(ledger: Ledger) -> None:
    """Every field of every score survives."""
    scores = {
        "numeric": Score(value=0.1, reason="because ü"),
        "passed": Score(passed=False),
        "label": Score(label="positive", metadata={"votes": {"a": 1}, "none": None}),
        "failed": Score(error=Failure("TypeError", "no number")),
        "nothing": Score(),
        "name with . # / and 🙂": Score(value=0.0, passed=True),
    }
    put = [score_set(0, scores=scores, generation=2), score_set(1, scores={})]
    await ledger.put_scores(RUN, put)
    assert await ledger.get_scores(RUN, 0) == put


@pytest.mark.parametrize("text", ODD_TEXTS, ids=["empty", "blank", "unicode", "escapes", "300 KB"])
async def test_any_text_survives(ledger: Ledger, text: str) -> None:
    """An empty answer is not a missing one."""
    await ledger.put_completions(RUN, [completion(0, response=text), completion(1, metadata={"text": text})])
    await ledger.put_scores(
        RUN, [score_set(0, scores={"m": Score(reason=text)}), score_set(1, scores={"m": Score(label=text)})]
    )
    assert await ledger.get_completions(RUN, 0) == [
        completion(0, response=text),
        completion(1, metadata={"text": text}),
    ]
    assert [s.scores["m"] for s in await ledger.get_scores(RUN, 0)] == [Score(reason=text), Score(label=text)]


@pytest.mark.parametrize(
    "number", [0.0, 0.1, -0.1, 1 / 3, 1e-300, 1.7976931348623157e308, 5e-324, 123456789.123456789]
)
async def test_any_finite_number_survives_exactly(ledger: Ledger, number: float) -> None:
    """Not one bit is rounded."""
    await ledger.put_completions(
        RUN, [completion(latency_ms=number, cost_usd=number, metadata={"n": number})]
    )
    await ledger.put_scores(RUN, [score_set(scores={"m": Score(value=number)})])
    found = (await ledger.get_completions(RUN, 0))[0]
    assert (found.latency_ms, found.cost_usd, found.metadata["n"]) == (number, number, number)
    assert (await ledger.get_scores(RUN, 0))[0].scores["m"].value == number


async def test_unknown_is_not_zero(ledger: Ledger) -> None:
    """None stays None and 0 stays 0."""
    unknown = completion(
        0, prompt_tokens=None, completion_tokens=None, cost_usd=None, latency_ms=None, finish_reason=None
    )
    zero = completion(1, prompt_tokens=0, completion_tokens=0, cost_usd=0.0, latency_ms=0.0, finish_reason="")
    await ledger.put_completions(RUN, [unknown, zero])
    assert await ledger.get_completions(RUN, 0) == [unknown, zero]


async def test_metadata_may_be_any_mapping(ledger: Ledger) -> None:
    """Read-only mappings are taken too."""
    await ledger.put_completions(
        RUN, [completion(metadata=MappingProxyType({"a": MappingProxyType({"b": 1})}))]
    )
    assert (await ledger.get_completions(RUN, 0))[0].metadata == {"a": {"b": 1}}


async def test_attempts_are_kept_with_their_case(ledger: Ledger) -> None:
    """In order, with every field; of 20 with the longest texts, too."""
    some = (
        Attempt(number=1, started_at=NOW, duration_ms=0.5, status=429, type="rate_limit", said="é" * 500),
        Attempt(number=2, started_at=NOW, duration_ms=1e3, request_id="r", prompt_tokens=1, cost_usd=0.1),
    )
    many = tuple(
        Attempt(number=n, started_at=NOW, duration_ms=n, type="timeout", said=f"{n}" * 500)
        for n in range(10, 30)
    )
    cases = [completion(0, attempts=2, tries=some), failed_completion(1, attempts=40, tries=many)]
    await ledger.put_completions(RUN, cases)
    assert await ledger.get_completions(RUN, 0) == cases


async def test_a_shard_without_cases_is_empty(ledger: Ledger) -> None:
    """Also that of a run that nobody knows."""
    await ledger.put_completions(RUN, [completion(0)])
    assert await ledger.get_completions(RUN, 1) == []
    assert await ledger.get_completions("nothing", 0) == []
    assert await ledger.get_scores(RUN, 0) == []
    assert [s async for s in ledger.shards("nothing")] == []


async def test_nothing_to_put_is_fine(ledger: Ledger) -> None:
    """An empty batch writes nothing."""
    await ledger.put_completions(RUN, [])
    await ledger.put_scores(RUN, [])
    assert await ledger.get_completions(RUN, 0) == []


async def test_a_shard_is_read_by_case_and_trial(ledger: Ledger) -> None:
    """Numbers are ordered as numbers."""
    keys = [(case, trial) for case in (0, 2, 9, 10, 11, 100, 99_999_999) for trial in (0, 1, 2, 10, 99)]
    mixed = random.Random(1).sample(keys, len(keys))
    await ledger.put_completions(RUN, [completion(case, trial, shard=4) for case, trial in mixed])
    await ledger.put_scores(RUN, [score_set(case, trial, shard=4) for case, trial in mixed])
    assert [c.key for c in await ledger.get_completions(RUN, 4)] == keys
    assert [s.key for s in await ledger.get_scores(RUN, 4)] == keys


async def test_runs_and_shards_are_apart(ledger: Ledger) -> None:
    """Records put under one are not seen under another."""
    await ledger.put_completions("a", [completion(0, response="a0"), completion(50, response="a1")])
    await ledger.put_completions("b", [completion(0, response="b0")])
    assert [c.response for c in await ledger.get_completions("a", 0)] == ["a0"]
    assert [c.response for c in await ledger.get_completions("a", 1)] == ["a1"]
    assert [c.response for c in await ledger.get_completions("b", 0)] == ["b0"]


async def test_the_same_case_and_trial_is_replaced(ledger: Ledger) -> None:
    """The newest stands alone, and its neighbours stay."""
    await ledger.put_completions(RUN, [failed_completion(0), failed_completion(0, 1), failed_completion(1)])
    await ledger.put_completions(RUN, [completion(0, generation=1), completion(2)])
    assert await ledger.get_completions(RUN, 0) == [
        completion(0, generation=1),
        failed_completion(0, 1),
        failed_completion(1),
        completion(2),
    ]
    await ledger.put_scores(RUN, [score_set(0), score_set(1)])
    await ledger.put_scores(RUN, [score_set(0, scores={"other": Score(value=0.5)})])
    assert await ledger.get_scores(RUN, 0) == [score_set(0, scores={"other": Score(value=0.5)}), score_set(1)]


async def test_a_write_can_be_repeated(ledger: Ledger) -> None:
    """A retry changes nothing."""
    await ledger.add_run(run())
    for _ in range(3):
        await ledger.put_completions(RUN, [completion(0), completion(1)])
        await ledger.put_scores(RUN, [score_set(0)])
        await ledger.put_shard(RUN, shard_summary(0))
    assert await ledger.get_completions(RUN, 0) == [completion(0), completion(1)]
    assert await ledger.get_scores(RUN, 0) == [score_set(0)]
    assert [s async for s in ledger.shards(RUN)] == [shard_summary(0)]
    assert (await ledger.progress(RUN)).done == 2


async def test_a_thousand_cases_can_be_put_at_once(ledger: Ledger) -> None:
    """Whatever an adapter's batches can hold."""
    await ledger.put_completions(RUN, [completion(i, shard=i % 2) for i in range(1000)])
    await ledger.put_scores(RUN, [score_set(i, shard=i % 2) for i in range(1000)])
    for shard in (0, 1):
        assert await ledger.get_completions(RUN, shard) == [
            completion(i, shard=shard) for i in range(shard, 1000, 2)
        ]
        assert await ledger.get_scores(RUN, shard) == [
            score_set(i, shard=shard) for i in range(shard, 1000, 2)
        ]


async def test_a_shard_of_long_texts_is_read_whole(ledger: Ledger) -> None:
    """Fifty answers of 100 KB: more than a store may give in one page."""
    put = [completion(i, response=f"{i} " + "x" * 100_000) for i in range(50)]
    await ledger.put_completions(RUN, put)
    assert await ledger.get_completions(RUN, 0) == put


async def test_concurrent_puts_of_one_case_leave_one_of_them_whole(open_ledger: Callable[[], Ledger]) -> None:
    """Never a mixture, and never two."""
    ledgers = [open_ledger() for _ in range(3)]
    put = [completion(0, response=str(i), prompt_tokens=i, generation=i) for i in range(12)]
    await asyncio.gather(*(ledgers[i % 3].put_completions(RUN, [c]) for i, c in enumerate(put)))
    found = await ledgers[0].get_completions(RUN, 0)
    assert len(found) == 1 and found[0] in put


async def test_concurrent_puts_of_different_cases_all_stay(open_ledger: Callable[[], Ledger]) -> None:
    """As many workers write into one shard at once."""
    ledgers = [open_ledger() for _ in range(3)]
    await asyncio.gather(*(ledgers[i % 3].put_completions(RUN, [completion(i, shard=0)]) for i in range(60)))
    assert await ledgers[1].get_completions(RUN, 0) == [completion(i, shard=0) for i in range(60)]


async def test_a_write_is_seen_by_everybody_as_soon_as_it_returned(open_ledger: Callable[[], Ledger]) -> None:
    """Another process reads what this one wrote, and reads anew each time."""
    writer, reader = open_ledger(), open_ledger()
    await writer.add_run(run())
    for i in range(20):
        await writer.put_completions(RUN, [completion(i)])
        assert (await reader.progress(RUN)).done == i + 1
        assert (await reader.get_completions(RUN, 0))[-1] == completion(i)


async def test_what_was_written_is_there_after_closing(open_ledger: Callable[[], Ledger]) -> None:
    """Closing twice is fine."""
    first = open_ledger()
    await first.add_run(run())
    await first.put_completions(RUN, [completion(0)])
    await first.put_scores(RUN, [score_set(0)])
    await first.put_shard(RUN, shard_summary(0))
    await first.close()
    await first.close()
    second = open_ledger()
    assert await second.get_run(RUN) == run()
    assert await second.get_completions(RUN, 0) == [completion(0)]
    assert await second.get_scores(RUN, 0) == [score_set(0)]
    assert [s async for s in second.shards(RUN)] == [shard_summary(0)]


async def test_shards_come_by_number(ledger: Ledger) -> None:
    """More than a page of either ledger, put in any order: 100 rows of SQLite's, 1 MB of DynamoDB's."""
    numbers = [*range(150), 999, 1000, 9_999, 99_999]
    chance = random.Random(2)
    texts = {number: chance.randbytes(7_500).hex() for number in numbers}  # which deflates to half of it
    summaries = [shard_summary(number, summary={"text": texts[number]}) for number in numbers]
    await asyncio.gather(*(ledger.put_shard(RUN, s) for s in chance.sample(summaries, len(summaries))))
    assert [s async for s in ledger.shards(RUN)] == summaries


async def test_a_shard_summary_is_replaced(ledger: Ledger) -> None:
    """A later pass's summary stands; another run's is another."""
    await ledger.put_shard(RUN, shard_summary(0))
    await ledger.put_shard(
        RUN,
        shard_summary(0, generation=1, summary={"mean": 0.1, "cost_usd": None}, largest_row_bytes=12_000_000),
    )
    await ledger.put_shard("other", shard_summary(1))
    assert [s async for s in ledger.shards(RUN)] == [
        shard_summary(0, generation=1, summary={"mean": 0.1, "cost_usd": None}, largest_row_bytes=12_000_000)
    ]


async def test_progress_of_an_unknown_run_is_an_error(ledger: Ledger) -> None:
    """Even where rows are recorded under its id."""
    await ledger.put_completions(RUN, [completion(0)])
    with pytest.raises(RunNotFoundError):
        await ledger.progress(RUN)


async def test_progress_counts_what_is_recorded(ledger: Ledger) -> None:
    """Over all shards of one run; tokens that nobody knows add nothing."""
    await ledger.add_run(run(cases=200))
    assert await ledger.progress(RUN) == Progress(total=200)
    await ledger.put_completions(
        RUN, [completion(0), completion(60), completion(61, prompt_tokens=None, completion_tokens=None)]
    )
    await ledger.put_completions(
        RUN, [failed_completion(120), failed_completion(121, prompt_tokens=7, cost_usd=0.5)]
    )
    await ledger.put_completions("other", [completion(0)])
    assert await ledger.progress(RUN) == Progress(
        total=200,
        done=5,
        failed=2,
        prompt_tokens=207,
        completion_tokens=40,
        cost_usd=1.25,
        unknown_tokens=2,
        unknown_cost=1,
    )


async def test_progress_counts_a_replaced_case_once(ledger: Ledger) -> None:
    """As it is now: a failure that was done again is a failure no more."""
    await ledger.add_run(run())
    await ledger.put_completions(RUN, [failed_completion(0), completion(1, cost_usd=8.0), completion(2)])
    await ledger.put_completions(RUN, [completion(0, generation=1), completion(1, cost_usd=0.25)])
    assert await ledger.progress(RUN) == Progress(
        total=100, done=3, failed=0, prompt_tokens=300, completion_tokens=60, cost_usd=0.75
    )


async def test_the_cost_is_unknown_when_that_of_any_answer_is(ledger: Ledger) -> None:
    """A failed call without a cost leaves it known."""
    await ledger.add_run(run())
    await ledger.put_completions(RUN, [completion(0), failed_completion(1)])
    assert (await ledger.progress(RUN)).cost_usd == 0.25
    await ledger.put_completions(RUN, [completion(2, cost_usd=None)])
    assert (await ledger.progress(RUN)).cost_usd is None
    await ledger.put_completions(RUN, [completion(2, cost_usd=0.5)])
    assert (await ledger.progress(RUN)).cost_usd == 0.75


async def test_what_nobody_told_is_unknown_and_not_zero(ledger: Ledger) -> None:
    """Answers without tokens; a call that was refused used none, one that was lost may have used any."""
    await ledger.add_run(run())
    silent = {"prompt_tokens": None, "completion_tokens": None}
    await ledger.put_completions(RUN, [failed_completion(0, cost_usd=0.0)])
    seen = await ledger.progress(RUN)
    assert (seen.prompt_tokens, seen.completion_tokens, seen.cost_usd, seen.unknown_tokens) == (0, 0, 0.0, 0)
    await ledger.put_completions(RUN, [failed_completion(1)])
    seen = await ledger.progress(RUN)
    assert (seen.prompt_tokens, seen.cost_usd, seen.unknown_tokens, seen.unknown_cost) == (None, None, 1, 1)
    await ledger.put_completions(RUN, [completion(2, **silent), completion(3, prompt_tokens=None)])
    seen = await ledger.progress(RUN)
    assert (seen.prompt_tokens, seen.completion_tokens, seen.unknown_tokens) == (None, 20, 3)


async def test_what_is_no_json_is_an_error_and_not_a_lost_ledger(ledger: Ledger) -> None:
    """The writer is told; others go on."""
    bad = ScoreSet(shard=0, case=0, trial=0, scores={"m": Score(metadata={"object": object()})})
    outcomes = await asyncio.gather(
        ledger.put_scores(RUN, [bad]), ledger.put_scores(RUN, [score_set(1)]), return_exceptions=True
    )
    assert isinstance(outcomes[0], TypeError) and outcomes[1] is None
    assert await ledger.get_scores(RUN, 0) == [score_set(1)]
