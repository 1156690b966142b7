"""Decided before all cases are done: waves and an e-process, replayed over real and null pairs."""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Sequence
from pathlib import Path

import pytest

from promptlab.domain.stopping import next_rows, place_of
from promptlab.statistics.sequential import Decided, Sequential

SOLUTIONS = Path(__file__).resolve().parents[3] / "shared" / "data" / "gsm8k_solutions.jsonl"
needs_gsm8k = pytest.mark.skipif(not SOLUTIONS.exists(), reason="GSM8K's solutions are not on this machine")
SHARD = 50


def replay(differences: Sequence[float | None], seed: int, **more: float) -> Decided | None:
    """Give the differences in a seeded order, a shard at a time, as a run does."""
    order = random.Random(seed).sample(range(len(differences)), len(differences))
    rule = Sequential(len(differences), **more)  # type: ignore[arg-type]
    for start in range(0, len(order), SHARD):
        if found := rule.add([differences[n] for n in order[start : start + SHARD]]):
            return found
    return None


def gsm8k(base: str, other: str) -> list[float | None]:
    rows = [json.loads(line) for line in SOLUTIONS.read_text().splitlines()]
    return [float(bool(r[other]["is_correct"])) - float(bool(r[base]["is_correct"])) for r in rows]


@needs_gsm8k
def test_a_much_better_model_is_decided_within_150_of_1319_calls() -> None:
    """175b_finetuning → 175b_verification, the median of 20 seeds; none is decided wrongly."""
    found = [replay(gsm8k("175b_finetuning", "175b_verification"), seed) for seed in range(20)]
    assert all(one is not None and one.verdict == "better" for one in found)
    calls = [-(-one.n // SHARD) * SHARD for one in found if one]
    assert statistics.median(calls) <= 150


def stopped(differences: Sequence[float | None], seed: int) -> int:
    """The cases that a run does until it is decided, in its own order and steps."""
    total = len(differences)
    order = sorted(range(total), key=lambda row: place_of(seed, row))
    rule, done = Sequential(total), 0
    while done < total:
        begun, done = done, next_rows(done, total, 10)
        if rule.add([differences[row] for row in order[begun:done]]) and done < total:
            return done
    return total


@pytest.mark.long
@needs_gsm8k
def test_a_run_asks_at_most_150_cases_of_a_much_better_model() -> None:
    """The median of 20 seeds, by the order and the steps of runs; of 200 nulls few end early."""
    real = gsm8k("175b_finetuning", "175b_verification")
    assert statistics.median(stopped(real, seed) for seed in range(20)) <= 150
    early = 0
    for seed in range(200):
        draw = random.Random(f"null {seed}")
        early += (
            stopped([draw.choice((-1.0, 1.0)) if draw.random() < 0.27 else 0.0 for _ in real], seed) < 1319
        )
    assert early <= 10


@needs_gsm8k
def test_equal_models_run_to_the_end() -> None:
    """No pair differs: nothing is decided without a margin, in any order; with one, that they are the same
    needs discordant pairs to say so."""
    same: list[float | None] = [0.0] * 1319
    assert [replay(same, seed) for seed in range(20)] == [None] * 20
    assert replay(same, 0, margin=0.05) is None


def test_of_nulls_at_most_one_in_twenty_is_decided() -> None:
    """200 seeds of pairs of which as many improve as regress, as GSM8K's (27% differ)."""
    wrong = 0
    for seed in range(200):
        draw = random.Random(f"null {seed}")
        pairs: list[float | None] = [
            0.0 if (x := draw.random()) > 0.27 else 1.0 if x < 0.135 else -1.0 for _ in range(1319)
        ]
        wrong += replay(pairs, seed) is not None
    assert wrong <= 10


def test_the_same_within_a_margin_ends_a_set_early() -> None:
    """Few pairs differ, as many in either way."""
    pairs: list[float | None] = [1.0, -1.0] * 40 + [0.0] * 1920
    found = replay(pairs, 3, margin=0.05)
    assert found is not None and (found.verdict, found.by) == ("the same within δ", "waves")
    assert found.n < 2000 and -0.05 < found.low < found.high < 0.05 and found.saved == 2000 - found.n


def test_missing_scores_that_could_turn_it_leave_it_open() -> None:
    """As many without a score as are better: those may all be losses, in whichever order they come."""
    assert [replay([1.0] * 100 + [None] * 100, seed) for seed in range(20)] == [None] * 20
    found = replay([1.0] * 160 + [None] * 10, 1)
    assert found is not None and found.verdict == "better"


def test_numbers_are_judged_by_their_mean_at_the_ends_of_waves() -> None:
    """No e-process; a shift of a standard deviation is seen after few waves."""
    draw = random.Random(7)
    found = replay([draw.gauss(0.5, 0.5) for _ in range(1000)], 7)
    assert found is not None and (found.verdict, found.by, found.e) == ("better", "waves", None)
    assert found.n in (100, 200, 300)


def test_boundaries_are_those_of_4_percent() -> None:
    """STATISTICS §4f, ten equal waves."""
    bounds = Sequential(1000)._bounds
    wanted = [6.4945, 4.5923, 3.7521, 3.2636, 2.9423, 2.7132, 2.5402, 2.4045, 2.2946, 2.2037]
    assert bounds == pytest.approx(wanted, abs=5e-5)


@pytest.mark.parametrize("wrong", [{"total": 0}, {"total": 5, "looks": 0}, {"total": 5, "margin": 0.0}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    """The message has the numbers."""
    with pytest.raises(ValueError, match="1 to 100 looks"):
        Sequential(**wrong)  # type: ignore[arg-type]
