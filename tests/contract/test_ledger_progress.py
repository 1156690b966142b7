"""The contract of Ledger: progress is what counting everything would say, whatever happened before."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from promptlab.domain.results import Completion, Failure, Progress
from promptlab.domain.spending import Sums, summed
from promptlab.ports import Ledger
from tests.contract.builders import run, shard_summary

SHARDS, ROWS, TRIALS = 4, 5, 3
AMOUNTS = (None, 0, 1, 7, 4_000_000_000)
COSTS = (None, 0.0, 1e-7, 0.25, 1 / 3, 120.0)


def any_completion(chance: random.Random, generation: int) -> Completion:
    """An answer or a failure, with or without what it used."""
    shard = chance.randrange(SHARDS)
    failed = chance.random() < 0.3
    return Completion(
        shard=shard,
        case=shard * ROWS + chance.randrange(ROWS),
        trial=chance.randrange(TRIALS),
        generation=generation,
        response=None if failed else "an answer",
        error=Failure(chance.choice(("timeout", "rate_limit")), "no") if failed else None,
        prompt_tokens=chance.choice(AMOUNTS),
        completion_tokens=chance.choice(AMOUNTS),
        cost_usd=chance.choice(COSTS),
    )


async def counted(ledger: Ledger, run_id: str) -> Progress:
    """The progress of a run, from all that is recorded of it."""
    sums, done, failed = Sums(), 0, 0
    for shard in range(SHARDS):
        for c in await ledger.get_completions(run_id, shard):
            sums, done, failed = Sums(**summed(sums, c.spent)), done + 1, failed + (c.error is not None)
    return Progress(total=60, done=done, failed=failed, **summed(Sums(), sums))


async def check(ledger: Ledger, run_id: str) -> None:
    told, known = await ledger.progress(run_id), await counted(ledger, run_id)
    cost = told.cost_usd, known.cost_usd
    assert [c is None for c in cost] == [known.cost_usd is None] * 2
    assert cost[0] == pytest.approx(cost[1], rel=1e-9, abs=1e-15) if None not in cost else True
    for name in ("total", "done", "failed", "prompt_tokens", "completion_tokens", "unknown_tokens"):
        assert getattr(told, name) == getattr(known, name), name
    assert (told.unknown_cost, told.unpriced) == (known.unknown_cost, known.unpriced)


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.long) for n in range(1, 6))])
async def test_progress_is_what_a_full_count_says(open_ledger: Callable[[], Ledger], seed: int) -> None:
    """After answers, failures, passes over failures, repeated writes, finished shards, deleted runs and
    ledgers that are opened anew, of several runs at once."""
    chance, ledger, ids = random.Random(seed), open_ledger(), ("a", "b")
    generations = dict.fromkeys(ids, 0)
    last: dict[str, list[Completion]] = {run_id: [] for run_id in ids}
    for run_id in ids:
        await ledger.add_run(run(run_id, cases=60))
    for _ in range(60):
        run_id = chance.choice(ids)
        deed = chance.choices(
            ("put", "again", "shard", "resume", "reopen", "delete"), (60, 10, 10, 10, 5, 2)
        )[0]
        if deed == "put":
            puts = [any_completion(chance, generations[run_id]) for _ in range(chance.randrange(1, 12))]
            last[run_id] = list({(c.shard, c.key): c for c in puts}.values())
            await ledger.put_completions(run_id, last[run_id])
        elif deed == "again":
            await ledger.put_completions(run_id, last[run_id])
        elif deed == "shard":
            await ledger.put_shard(run_id, shard_summary(chance.randrange(SHARDS)))
        elif deed == "resume":
            generations[run_id] += 1
        elif deed == "reopen":
            await ledger.close()
            ledger = open_ledger()
        else:
            assert await ledger.delete_run(run_id)
            last[run_id] = []
            await ledger.add_run(run(run_id, cases=60))
        await check(ledger, run_id)
    for run_id in ids:
        await check(ledger, run_id)


async def test_a_large_cost_that_is_replaced_leaves_no_trace(ledger: Ledger) -> None:
    """Beside 1e15 dollars nothing is left of a cent: what remains is added up anew."""
    await ledger.add_run(run("a", cases=60))
    put = [Completion(shard=0, case=case, trial=0, response="x", cost_usd=0.01) for case in range(5)]
    wrong = Completion(shard=0, case=5, trial=0, error=Failure("timeout", "no"), cost_usd=1e15)
    await ledger.put_completions("a", [*put, wrong])
    await ledger.put_completions("a", [Completion(shard=0, case=5, trial=0, response="x", cost_usd=0.01)])
    assert (await ledger.progress("a")).cost_usd == pytest.approx(0.06, rel=1e-12)
