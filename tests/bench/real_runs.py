"""Labs as people have them, for judging the Studio's pages: `python -m tests.bench.real_runs --db FILE`.

Three sets, all made in seconds and the same each time: the real answers of four models to GSM8K's 1,319
questions (where its files are), a set with 31 columns, 12 metrics, trials, nine kinds of error and
four scripts, and 500 runs.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from promptlab.domain.assets import Dataset
from promptlab.domain.experiment import CodeRef, Metric
from promptlab.domain.results import Completion, Failure, RunRecord, Score, ScoreSet
from promptlab.results.table import Case
from promptlab.store_lab import StoreLab
from tests.bench.make_runs import Made, make_run

_HERE = Path(__file__).resolve()
SHARED = next(
    (p / "shared/data" for p in _HERE.parents[2:5] if (p / "shared/data/gsm8k_solutions.jsonl").exists()),
    _HERE,
)
"""The folder with GSM8K, beside the repository or one above."""
MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
_MAPPED = {"response": "$inference", "reference": "answer"}
GSM8K = (
    Metric(name="numeric_match", metric="numeric_match", column_mapping=_MAPPED),
    Metric(
        name="length",
        metric="length",
        column_mapping={"response": "$inference"},
        params={"unit": "words"},
        higher_is_better=False,
    ),
)
SCRIPTS = {
    "en": ("What is the total price of the order, with everything?", "The total is"),
    "ar": ("كم يبلغ السعر الإجمالي للطلب مع كل الإضافات والضرائب؟", "المبلغ الإجمالي بعد احتساب كل شيء هو"),
    "zh": ("这个订单连同所有附加费用和税款的总价是多少？", "把所有费用加在一起之后，总金额是"),
    "th": ("ราคารวมของคำสั่งซื้อนี้พร้อมค่าใช้จ่ายทั้งหมดเป็นเท่าไร", "ราคารวมทั้งหมดหลังจากคิดทุกอย่างแล้วคือ"),
}
ODD = (1609.83, 12345678.9, 3.14159265, 1e-12, -0.0, 9007199254740993, 9223372036854775807, 0.1)
"""Numbers that a page which rounds, or goes through a double, shows wrongly."""
FAILURES = (
    Failure("timeout", "no answer within 120 s"),
    Failure("rate_limit", "429: slow down, please"),
    Failure(
        "not_found", "404: the model `gpt-9-nano-preview` does not exist or you do not have access to it"
    ),
    Failure("bad_request", "400: max_tokens is too large: 999999"),
    Failure("auth", "401: the key was refused"),
    Failure("connection", "the connection was closed before the answer was whole"),
    Failure("server_error", "503: overloaded"),
    Failure("content_filter", "the answer was withheld"),
    Failure("invalid_response", "the answer is not JSON: expected value at line 1 column 1"),
)
WIDE = (
    *(
        Metric(name=name, metric=name, column_mapping=_MAPPED)
        for name in (
            "exact_match",
            "numeric_match",
            "contains",
            "token_f1",
            "rouge",
            "bleu",
            "edit_distance",
        )
    ),
    Metric(name="semantic_similarity_of_the_answers", metric="semantic_similarity", column_mapping=_MAPPED),
    Metric(name="length", metric="length", column_mapping={"response": "$inference"}, higher_is_better=False),
    Metric(
        name="latency", metric="latency", column_mapping={"latency_ms": "$latency_ms"}, higher_is_better=False
    ),
    Metric(name="cost", metric="cost", column_mapping={"cost_usd": "$cost_usd"}, higher_is_better=False),
    Metric(
        name="tone",
        metric="Tone",
        column_mapping={"response": "$inference"},
        code=CodeRef(qualname="Tone", file="tone.py"),
    ),
)


def has_gsm8k() -> bool:
    """Whether the real questions and answers are there."""
    return (SHARED / "gsm8k_solutions.jsonl").exists()


async def add_gsm8k(lab: StoreLab, most: int = 1319) -> list[RunRecord]:
    """A run for each of the four models, of its real answers and their authors' marks."""
    text = await asyncio.to_thread((SHARED / "gsm8k_test.jsonl").read_text)
    asked = [orjson.loads(line) for line in text.splitlines()][:most]
    rows = [
        {
            "question": row["question"],
            "answer": row["answer"].rpartition("####")[2].strip(),
            "solution": row["answer"],
        }
        for row in asked
    ]
    dataset = await lab.assets.create(Dataset(name="gsm8k", description="Grade school sums.", rows=rows))
    assert isinstance(dataset, Dataset)
    text = await asyncio.to_thread((SHARED / "gsm8k_solutions.jsonl").read_text)
    solutions = {row["question"]: row for row in map(orjson.loads, text.splitlines())}
    runs = []
    for n, model in enumerate(MODELS):
        answers = [solutions[row["question"]][model] for row in asked]

        def case(
            chance: random.Random,
            shard: int,
            case: int,
            trial: int,
            row: dict[str, Any],
            right: bool,
            answers: Any = answers,
        ) -> Case:
            return _answered(chance, shard, case, row, answers[case])

        made = Made(
            seed=n,
            model=f"openai/{model}",
            name="gsm8k",
            metrics=GSM8K,
            case=case,
            prompt="<question>\nEnd with A: and the number.",
            created_at=f"2026-11-2{n}T1{n}:05:00.000000Z",
            tags=("nightly",) if n % 2 else ("baseline", "a-tag-of-somebody-who-likes-long-names"),
        )
        runs.append(await make_run(lab, dataset, made))
    return runs


def _answered(chance: random.Random, shard: int, case: int, row: dict[str, Any], found: Any) -> Case:
    text = re.sub(r"<<[^>]*>>", "", found["solution"])
    got, words = text.rpartition("A:")[2].strip(), len(text.split())
    completion = Completion(
        shard=shard,
        case=case,
        trial=0,
        created_at="2026-11-23T09:00:00.000000Z",
        latency_ms=chance.lognormvariate(7, 0.4),
        response=text,
        finish_reason="stop",
        prompt_tokens=len(row["question"]) // 4,
        completion_tokens=len(text) // 4,
        cost_usd=len(text) * 3.7e-7,
        attempts=1,
    )
    right = bool(found["is_correct"])
    scores = {
        "numeric_match": Score(passed=right, reason=f"expected {row['answer']}, got {got[:40]}"),
        "length": Score(value=float(words)),
    }
    return Case(row, completion, ScoreSet(shard=shard, case=case, trial=0, scores=scores))


def wide_row(number: int) -> dict[str, Any]:
    """A row of 31 columns in one of four scripts, with numbers that are hard to show."""
    script = list(SCRIPTS)[number % 4]
    row: dict[str, Any] = {
        "id": f"{script}-{number}",
        "question": SCRIPTS[script][0],
        "answer": ODD[number % len(ODD)],
        "language": script,
        "topic": ("shipping", "refund", "unknown", "warranty")[number % 4],
    }
    return row | {f"column_{n:02}": ODD[(number + n) % len(ODD)] if n % 3 else f"v{n}" for n in range(26)}


async def add_wide(lab: StoreLab, rows: int = 60, runs: int = 4, trials: int = 3) -> list[RunRecord]:
    """Runs over 31 columns with 12 metrics."""
    made = await lab.assets.create(Dataset(name="wide", rows=[wide_row(n) for n in range(rows)]))
    assert isinstance(made, Dataset)
    return [
        await make_run(
            lab,
            made,
            Made(
                seed=n,
                skill=0.5 + 0.1 * n,
                model=f"provider-with-a-long-name/model-of-the-week-{n}",
                name="customer_support_triage",
                metrics=WIDE,
                trials=trials,
                case=_wide_case,
                created_at=f"2026-11-23T10:{n:02}:00.000000Z",
                tags=("wide", f"candidate-{n}"),
            ),
        )
        for n in range(runs)
    ]


def _wide_case(
    chance: random.Random, shard: int, case: int, trial: int, row: dict[str, Any], right: bool
) -> Case:
    where: dict[str, Any] = {
        "shard": shard,
        "case": case,
        "trial": trial,
        "created_at": "2026-11-23T09:00:00.000000Z",
        "latency_ms": chance.lognormvariate(6, 0.8),
    }
    if chance.random() < 0.15:
        return Case(row, Completion(**where, attempts=3, error=chance.choice(FAILURES)), None)
    text = f"{SCRIPTS[row['language']][1]} {row['answer'] if right else chance.randrange(900)}. " * 4
    completion = Completion(
        **where,
        response=text,
        finish_reason="stop",
        prompt_tokens=52,
        completion_tokens=len(text) // 4,
        cost_usd=chance.uniform(1e-6, 2e-2),
        attempts=1,
    )
    names = ("token_f1", "rouge", "bleu", "edit_distance", "semantic_similarity_of_the_answers")
    scores = {
        name: Score(value=chance.uniform(0.5, 1) if right else chance.uniform(0, 0.5)) for name in names
    }
    scores |= {
        name: Score(passed=right, reason=f"expected {row['answer']}")
        for name in ("exact_match", "numeric_match", "contains")
    }
    scores |= {
        "length": Score(value=float(len(text))),
        "latency": Score(value=where["latency_ms"]),
        "cost": Score(value=completion.cost_usd),
        "tone": Score(label=chance.choice(("polite", "plain", "rude")))
        if chance.random() < 0.95
        else Score(error=Failure("evaluator_error", "Tone: ValueError: no words")),
    }
    return Case(row, completion, ScoreSet(shard=shard, case=case, trial=trial, scores=scores))


async def add_many(lab: StoreLab, like: RunRecord, count: int = 500) -> None:
    """Runs of one experiment over some months, with the summary of one."""
    start = datetime.fromisoformat("2026-06-01T08:00:00+00:00")
    for n in range(count):
        at = f"{start + timedelta(hours=8 * n):%Y-%m-%dT%H:%M:%S}.000000Z"
        run_id = f"{at[:10].replace('-', '')}-{at[11:19].replace(':', '')}-{n:06x}"
        await lab.ledger.add_run(replace(like, run_id=run_id, created_at=at, tags=(f"week-{n // 21}",)))


async def make(db: Path) -> None:
    """Make a store with all three sets."""
    lab = StoreLab.open({"type": "sqlite", "db_file": str(db)})
    try:
        wide = await add_wide(lab)
        await add_many(lab, wide[0])
        if has_gsm8k():
            await add_gsm8k(lab)
    finally:
        await lab.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--db", type=Path, required=True)
    asyncio.run(make(parser.parse_args().db))


if __name__ == "__main__":
    main()
