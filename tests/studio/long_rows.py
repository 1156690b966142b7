"""A lab whose rows, answers and prompts are as long as they may be: 10 MB a row."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from promptlab.domain.assets import Dataset, PromptTemplate
from promptlab.domain.experiment import Metric
from promptlab.domain.results import Completion, Score, ScoreSet
from promptlab.results.table import Case
from promptlab.store_lab import StoreLab
from tests.bench.make_runs import Made, make_run
from tests.browser import labs

CHARS = 4_600_000
ROWS = 3
METRICS = (Metric(name="contains", metric="contains", column_mapping={"reference": "expected"}),)


def long_row(number: int) -> dict[str, Any]:
    """A row of some 10 MB, with quotes, brackets and letters of two bytes."""
    return {
        "id": f"r{number}",
        "question": f'{number} "<b>é" ' * (CHARS // 10),
        "nested": {"list": ["x" * 1_000] * (CHARS // 1_000 - 1_000)},
        "expected": "yes",
    }


async def lab_with_long_rows(folder: Path) -> tuple[StoreLab, dict[str, str]]:
    """A lab with two runs over such rows, whose answers are as long; prompts of some MB in many versions."""
    lab = labs.open_lab(folder)
    ids = await add_long_things(lab)
    return lab, ids


async def add_long_things(lab: StoreLab) -> dict[str, str]:
    """Put them into a lab, and give the ids of the runs."""
    rows = [long_row(n) for n in range(ROWS)]
    dataset = await lab.assets.create(Dataset(name="long", rows=rows))
    assert isinstance(dataset, Dataset)
    for version in range(6):
        await lab.assets.create(
            PromptTemplate(name="long", user_prompt=f"{version} <question>" + "é " * 500_000)
        )
    for number in range(6):
        await lab.assets.create(PromptTemplate(name=f"p{number}", user_prompt="<question>" + "é " * 500_000))
    runs = [
        await make_run(
            lab,
            dataset,
            Made(
                seed=n,
                model="simulated/long",
                name="long",
                metrics=METRICS,
                prompt="<question>",
                case=_case,
                created_at=f"2026-11-23T10:0{n}:00.000000Z",
            ),
        )
        for n in range(2)
    ]
    return {"run": runs[0].run_id, "other": runs[1].run_id}


def _case(chance: random.Random, shard: int, case: int, trial: int, row: dict[str, Any], right: bool) -> Case:
    where: dict[str, Any] = {"shard": shard, "case": case, "trial": trial}
    done = Completion(
        **where,
        created_at="2026-11-23T09:00:00.000000Z",
        latency_ms=5.0,
        response=f'{chance.random()} "no" ' * (CHARS // 24),
        prompt_tokens=1,
        completion_tokens=1,
        cost_usd=0.1,
        attempts=1,
    )
    return Case(row, done, ScoreSet(**where, scores={"contains": Score(passed=right, reason="why " * 5_000)}))
