"""The contract of Ledger: turns of conversations."""

from __future__ import annotations

from promptlab.domain.messages import Message, Text, ToolCall
from promptlab.domain.results import CaseKey, Usage
from promptlab.domain.turns import Turn
from promptlab.ports import Ledger
from tests.contract.builders import RUN, completion, run


def turn(case: int = 0, number: int = 0, *, trial: int = 0, shard: int = 0, words: str = "hi") -> Turn:
    answer = completion(case, trial, shard=shard, response=f"{words} {number}")
    return Turn(shard=shard, case=case, trial=trial, number=number, user=words, answer=answer)


async def test_a_turn_comes_back_as_it_was_put(ledger: Ledger) -> None:
    """Every field survives, of one that is only asked and of one that is answered."""
    used = Usage(calls=1, prompt_tokens=5, completion_tokens=None, unknown_cost=1)
    said = (Message("assistant", (ToolCall("look", {"ü": [1, None]}, "c1"), Text("x"))),)
    put = [
        turn(0, 0, words="long " * 60_000),
        Turn(shard=0, case=0, trial=0, number=1, generation=3, user="🙂 and?", simulator=used),
        Turn(shard=0, case=0, trial=1, number=0, answer=completion(0, 1, messages=said)),
        Turn(shard=0, case=7, trial=0, number=2, is_over=True),
    ]
    await ledger.put_turns(RUN, put)
    assert await ledger.get_turns(RUN, 0) == put
    assert await ledger.get_turns(RUN, 1) == []


async def test_turns_are_in_order_and_each_is_there_once(ledger: Ledger) -> None:
    """Whatever order they came in, and however often; the last one holds."""
    every = [turn(case, number, trial=trial) for case in (3, 11) for trial in (0, 1) for number in range(12)]
    await ledger.put_turns(RUN, list(reversed(every)))
    await ledger.put_turns(RUN, every[:7])
    assert await ledger.get_turns(RUN, 0) == every
    await ledger.put_turns(RUN, [turn(3, 4, words="again")])
    assert (await ledger.get_turns(RUN, 0))[4] == turn(3, 4, words="again")


async def test_the_turns_of_a_case_that_is_done_are_removed_and_no_others(ledger: Ledger) -> None:
    """Also of a case whose number begins with the same digits."""
    kept = [turn(1, 0, trial=1), turn(11, 0), turn(1, 0, shard=1)]
    await ledger.put_turns(RUN, [turn(1, 0), turn(1, 1), turn(2, 0), *kept])
    await ledger.clear_turns(RUN, 0, [CaseKey(1, 0), CaseKey(2, 0), CaseKey(5, 0)])
    assert await ledger.get_turns(RUN, 0) == kept[:2]
    assert await ledger.get_turns(RUN, 1) == kept[2:]


async def test_turns_count_no_case_and_go_with_their_run(ledger: Ledger) -> None:
    """A shard that has nothing but turns is found, and cleared."""
    await ledger.add_run(run())
    await ledger.put_turns(RUN, [turn(0, 0), turn(60, 0, shard=1)])
    await ledger.put_completions(RUN, [completion(0)])
    assert (await ledger.progress(RUN)).done == 1
    assert await ledger.shard_numbers(RUN, limit=10) == [0, 1]
    await ledger.clear_shards(RUN, [1])
    assert await ledger.get_turns(RUN, 1) == [] and len(await ledger.get_turns(RUN, 0)) == 1
    assert await ledger.delete_run(RUN)
    assert await ledger.get_turns(RUN, 0) == [] and await ledger.shard_numbers(RUN, limit=10) == []
