"""Big runs, stored as a real run stores them, without asking a model: for benches and browser tests.

    python -m tests.bench.make_runs --db FILE --cases 100000 [--runs 2] [--ledger]

Dataset, parts, shard summaries and results come from the code that real runs use. Only with
`ledger` are completions and scores recorded too, which costs more than all else; the Studio reads
them for runs without results only.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import random
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from promptlab.assets.rows import read_index, read_rows
from promptlab.domain.assets import Dataset, DatasetContent, PromptTemplate, Shard, content_hash
from promptlab.domain.experiment import AssetRef, Experiment, Metric
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.results import Completion, Failure, RunRecord, Score, ScoreSet, ShardSummary
from promptlab.engine.evaluate import summarize_cases
from promptlab.engine.summarize import summarize
from promptlab.results.table import Case, table_row
from promptlab.store_lab import StoreLab
from promptlab.store_lab.starting import new_run_id

WORDS = [
    "amber",
    "otter",
    "lantern",
    "river",
    "quiet",
    "market",
    "harbour",
    "copper",
    "violet",
    "garden",
    "winter",
    "ticket",
    "bottle",
    "engine",
    "letter",
    "orange",
    "window",
    "silver",
    "meadow",
    "pocket",
    "basket",
    "doctor",
    "captain",
    "teacher",
    "farmer",
    "sister",
    "uncle",
    "neighbour",
    "student",
    "painter",
    "sells",
    "buys",
    "counts",
    "carries",
    "divides",
    "shares",
    "repairs",
    "paints",
    "measures",
    "collects",
    "eleven",
    "twelve",
    "forty",
    "ninety",
    "hundred",
    "thousand",
    "dollars",
    "pounds",
    "metres",
    "hours",
    "minutes",
    "apples",
    "pencils",
    "tickets",
    "marbles",
    "cookies",
    "how",
    "many",
    "much",
    "does",
    "left",
    "over",
    "the",
    "of",
    "to",
    "and",
    "in",
    "for",
    "with",
    "each",
    "every",
    "after",
    "before",
    "because",
    "while",
    "than",
    "then",
    "first",
    "second",
    "total",
    "remaining",
    "together",
    "again",
    "still",
    "already",
    "about",
]
METRICS = (
    Metric(
        name="exact_match",
        metric="exact_match",
        column_mapping={"response": "$inference", "reference": "answer"},
    ),
    Metric(
        name="token_f1", metric="token_f1", column_mapping={"response": "$inference", "reference": "answer"}
    ),
    Metric(name="length", metric="length", column_mapping={"response": "$inference"}, higher_is_better=False),
    Metric(name="tone", metric="Tone", column_mapping={"response": "$inference"}),
)
ERRORS = (
    Failure("timeout", "no answer within 120 s"),
    Failure("rate_limit", "429: slow down, please"),
    Failure("content_filter", "the answer was withheld"),
)
AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Made:
    """The settings in which one run differs from another of the same dataset."""

    seed: int = 0
    skill: float = 0.7
    """The chance of a right answer."""
    model: str = "simulated/echo"
    name: str = "made"
    ledger: bool = False
    """Record completions and scores in the ledger."""
    results: bool = True
    """Sum the run up; else it stays a running one, with `shards` of it done."""
    shards: int | None = None
    """How many shards are done; all by default."""
    trials: int = 1
    created_at: str = "2026-11-23T09:00:00.000000Z"
    tags: tuple[str, ...] = field(default=("made",))
    metrics: tuple[Metric, ...] = METRICS
    case: Callable[[random.Random, int, int, int, dict[str, Any], bool], Case] | None = None
    """The function that makes a case of a shard, case, trial, row and whether it is
    right; `_case` by default."""
    prompt: str | PromptTemplate = "Answer: <question>"


def question(number: int) -> dict[str, str]:
    """One dataset row: some 250 characters of question and a short answer."""
    chance = random.Random(number)
    text = " ".join(chance.choices(WORDS, k=38))
    return {
        "id": str(number),
        "question": f"{text.capitalize()}, and what is {number}?",
        "answer": f"{chance.choice(WORDS)} {number % 1000}",
    }


async def make_dataset(lab: StoreLab, cases: int, name: str = "made") -> Dataset:
    """A dataset of `cases` rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        await asyncio.to_thread(_write, path, cases)
        made = await lab.assets.create(Dataset(name=name, description="Made rows.", file_path=path))
    assert isinstance(made, Dataset)
    return made


def _write(path: Path, cases: int) -> None:
    with path.open("wb") as file:
        file.writelines(orjson.dumps(question(n)) + b"\n" for n in range(cases))


async def make_run(lab: StoreLab, dataset: Dataset, made: Made = Made()) -> RunRecord:
    """A stored run over the dataset."""
    content = dataset.content
    assert content is not None
    prompt = made.prompt
    if isinstance(prompt, str):
        prompt = PromptTemplate(name="made-qa", description="Made.", user_prompt=prompt)
    if prompt.version is None:
        prompt = await lab.assets.create(prompt)
    experiment = _experiment(prompt, dataset, made)
    run = RunRecord(
        run_id=new_run_id(made.created_at),
        name=made.name,
        status="running",
        experiment=experiment.to_json(),
        cases=content.rows * made.trials,
        created_at=made.created_at,
        started_at=made.created_at,
        tags=made.tags,
    )
    await lab.ledger.add_run(run)
    pending: set[asyncio.Task[None]] = set()
    async for shard in read_index(lab.blobs, content):
        if made.shards is not None and shard.number >= made.shards:
            break
        pending.add(asyncio.create_task(_shard(lab, run, content, shard, made)))
        if len(pending) >= AT_ONCE:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    await asyncio.gather(*pending)
    if made.results:
        await summarize(lab.ledger, lab.blobs, run, content, made.metrics)
        await lab.ledger.update_run(
            run.run_id,
            {"status": "completed", "finished_at": made.created_at, "wall_s": content.rows * 0.004},
        )
    found = await lab.ledger.get_run(run.run_id)
    assert found is not None
    return found


def _experiment(prompt: Any, dataset: Dataset, made: Made) -> Experiment:
    refs = {
        what: AssetRef(name=asset.name, version=asset.version, hash=asset.hash)
        for what, asset in (("prompt_template", prompt), ("dataset", dataset))
    }
    experiment = Experiment(
        name=made.name,
        model=ModelConfig(name=made.model, temperature=0),
        evaluation=made.metrics,
        trials=made.trials,
        **refs,
    )
    return experiment.model_copy(update={"hash": content_hash(experiment.to_json())})


async def _shard(lab: StoreLab, run: RunRecord, content: DatasetContent, shard: Shard, made: Made) -> None:
    rows = await read_rows(lab.blobs, content, shard)
    cases, summary, part, largest = await asyncio.to_thread(_made_shard, content, shard, rows, made)
    if made.ledger:
        await lab.ledger.put_completions(run.run_id, [case.completion for case in cases])
        await lab.ledger.put_scores(run.run_id, [case.scores for case in cases if case.scores])
    key = f"runs/{run.run_id}/parts/{shard.number:06}.jsonl.gz"
    await lab.blobs.put(key, part)
    await lab.ledger.put_shard(
        run.run_id,
        ShardSummary(number=shard.number, generation=0, summary=summary, part=key, largest_row_bytes=largest),
    )


def _made_shard(
    content: DatasetContent, shard: Shard, rows: list[dict[str, Any]], made: Made
) -> tuple[list[Case], dict[str, Any], bytes, int]:
    cases = list(_cases(shard, rows, made))
    lines = [orjson.dumps(table_row(content, made.metrics, case)) for case in cases]
    return (
        cases,
        summarize_cases(made.metrics, cases).to_json(),
        gzip.compress(b"\n".join(lines) + b"\n", compresslevel=1, mtime=0),
        max(map(len, lines)),
    )


def _cases(shard: Shard, rows: list[dict[str, Any]], made: Made) -> Iterator[Case]:
    chance = random.Random(made.seed * 1_000_003 + shard.number)
    make = made.case or _case
    for case, row in enumerate(rows, shard.first):
        # Half of the difficulty is the row's own: runs of the same rows are then as alike as real ones.
        hard = random.Random(case ^ 0x5EED).random()
        for trial in range(made.trials):
            yield make(chance, shard.number, case, trial, row, (hard + chance.random()) / 2 < made.skill)


def _case(chance: random.Random, shard: int, case: int, trial: int, row: dict[str, Any], right: bool) -> Case:
    fields: dict[str, Any] = {
        "shard": shard,
        "case": case,
        "trial": trial,
        "created_at": "2026-11-23T09:00:00.000000Z",
        "latency_ms": chance.lognormvariate(6, 0.5),
    }
    if chance.random() < 0.02:
        return Case(row, Completion(**fields, attempts=3, error=chance.choice(ERRORS)), None)
    answer = row["answer"] if right else chance.choice(WORDS)
    response = f"{' '.join(chance.choices(WORDS, k=45)).capitalize()}. So it is {answer}."
    tokens = {
        "prompt_tokens": 60 + chance.randrange(20),
        "completion_tokens": 40 + chance.randrange(30),
        "cost_usd": chance.uniform(1e-5, 9e-5),
    }
    completion = Completion(**fields, **tokens, response=response, finish_reason="stop")
    f1 = round(chance.uniform(0.6, 1) if right else chance.uniform(0, 0.6), 4)
    tone = (
        Score(label=chance.choice(("polite", "plain", "rude")))
        if chance.random() > 0.005
        else Score(error=Failure("evaluator_error", "Tone: ValueError: no words"))
    )
    scores = {
        "exact_match": Score(passed=right, reason=f"expected {row['answer']!r}"),
        "token_f1": Score(value=f1),
        "length": Score(value=float(len(response))),
        "tone": tone,
    }
    return Case(row, completion, ScoreSet(shard=shard, case=case, trial=trial, scores=scores))


async def make(db: Path, cases: int, runs: int, ledger: bool) -> list[RunRecord]:
    """A store with one dataset and some runs of it."""
    lab = StoreLab.open({"type": "sqlite", "db_file": str(db)})
    try:
        dataset = await make_dataset(lab, cases, name=f"made-{cases}")
        return [
            await make_run(
                lab,
                dataset,
                Made(
                    seed=n,
                    skill=0.6 + 0.04 * n,
                    model=f"simulated/model-{n}",
                    ledger=ledger,
                    created_at=f"2026-11-23T09:{n:02}:00.000000Z",
                ),
            )
            for n in range(runs)
        ]
    finally:
        await lab.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=re.split(r"\n", __doc__ or "")[0])
    parser.add_argument("--db", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--ledger", action="store_true", help="record completions and scores too")
    args = parser.parse_args()
    for run in asyncio.run(make(args.db, args.cases, args.runs, args.ledger)):
        print(run.run_id, run.cases)


if __name__ == "__main__":
    main()
