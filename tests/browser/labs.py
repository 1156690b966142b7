"""A lab with real runs of simulated models, as the pages' tests and the screenshots need it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from promptlab.domain.assets import Dataset, PromptTemplate
from promptlab.domain.code import CodeBundle
from promptlab.domain.labels import CaseLabel
from promptlab.domain.results import RunRecord
from promptlab.ports import Sandbox
from promptlab.store_lab import StoreLab
from promptlab.wiring import open_parts

WORDS = ("river", "ledger", "orbit", "meadow", "signal", "harbour", "lantern", "quarry", "thistle", "copper")
MODELS = ("small", "medium", "large", "huge")
PRICES = {"input_usd_per_mtok": 2.5, "output_usd_per_mtok": 10.0}
SUMS = [
    {"metric": "numeric_match", "column_mapping": {"reference": "answer"}},
    {"metric": "token_f1", "column_mapping": {"reference": "answer"}},
    {"metric": "length", "params": {"unit": "characters", "max": 12}},
]


def open_lab(folder: Path, sandbox: Sandbox | None = None) -> StoreLab:
    """A lab in a folder."""
    parts = open_parts({"type": "sqlite", "db_file": str(folder / "lab.db")})
    return StoreLab(replace(parts, sandbox=sandbox))


def sums(count: int) -> list[dict[str, Any]]:
    """Rows with a sum to work out, its answer and a topic."""
    return [
        {
            "id": f"q{i:04}",
            "question": f"What is {i % 97} + {i * 7 % 89}? It is about a {WORDS[i % 10]}.",
            "answer": str(i % 97 + i * 7 % 89),
            "topic": WORDS[i % 10],
        }
        for i in range(count)
    ]


def config(
    model: Mapping[str, Any], prompt: str = "sums", dataset: str = "arithmetic", **more: Any
) -> dict[str, Any]:
    """An experiment over assets that are in the lab."""
    return {
        "name": "arithmetic",
        "prompt_template": prompt,
        "dataset": dataset,
        "model": dict(model),
        "evaluation": SUMS,
        **more,
    }


RULES = '''"""How a reply speaks to customers."""

from promptlab import Evaluator, Score

WORDS = ("please", "thank", "sorry", "glad")


class Politeness(Evaluator):
    """Passes where a reply has enough polite words; says which."""

    inputs = {"response": "$inference"}

    def __init__(self, least: int = 1) -> None:
        self.least = least

    def evaluate(self, data: dict) -> Score:
        found = [word for word in WORDS if word in data["response"].lower()]
        return Score(passed=len(found) >= self.least, reason=", ".join(found) or "none of them")
'''


async def add_code(lab: StoreLab) -> None:
    """Code of one's own in two versions, the second with a label."""
    for text in (RULES.replace('"sorry", ', ""), RULES):
        files = {"scoring/__init__.py": "", "scoring/rules.py": text}
        await lab.assets.create(CodeBundle(name="scoring", description="How replies sound.", files=files))
    await lab.assets.label("scoring", "production", version=1, kind="code")


async def add_assets(lab: StoreLab, rows: int = 120) -> None:
    """Two prompts, one in two versions, and two datasets."""
    await lab.assets.create(
        PromptTemplate(
            name="sums",
            description="Works out a sum.",
            system_prompt="You are careful with numbers.",
            user_prompt="<question>\nAnswer with the number only.",
        )
    )
    await lab.assets.create(
        PromptTemplate(
            name="sums",
            description="Works out a sum.",
            system_prompt="You are careful with numbers.\nThink before you answer.",
            user_prompt="Question: <question>\nAnswer with the number only, no words.",
        )
    )
    await lab.assets.label("sums", "production", version=0, kind="prompt_template")
    await lab.assets.create(
        PromptTemplate(
            name="describe",
            description="One sentence about a topic.",
            user_prompt="Describe a <topic> in one sentence.",
        )
    )
    await lab.assets.create(Dataset(name="arithmetic", description="Sums up to 186.", rows=sums(rows)))
    await lab.assets.create(
        Dataset(
            name="topics",
            description="Ten words.",
            rows=[{"topic": word, "note": f"as in {word}s"} for word in WORDS],
        )
    )


async def add_runs(lab: StoreLab) -> list[RunRecord]:
    """Finished runs: better and worse models, two prompts, failures, a run without metrics."""
    models: list[tuple[str, float, float, str, tuple[str, ...]]] = [
        ("simulated/small", 0.72, 0.0, "sums@0", ("baseline",)),
        ("simulated/medium", 0.83, 0.0, "sums@0", ()),
        ("simulated/medium", 0.79, 0.06, "sums@1", ("candidate",)),
        ("simulated/large", 0.95, 0.0, "sums@1", ("candidate", "nightly")),
    ]
    found = []
    for n, (name, accuracy, failures, prompt, tags) in enumerate(models):
        model = {
            "name": name,
            "accuracy": accuracy,
            "failure_rate": failures,
            "max_retries": 0,
            "latency_ms": 4 + 3 * n,
            "jitter": 0.8,
            "max_concurrent_tasks": 40,
        }
        model |= {key: value * (n + 1) for key, value in PRICES.items()}
        found.append(await lab.run(config(model, prompt, tags=tags)))
    found.append(
        await lab.run(
            {
                "name": "describe topics",
                "prompt_template": "describe",
                "dataset": "topics",
                "model": "simulated/writer",
            }
        )
    )
    return found


async def add_labels(lab: StoreLab, run: RunRecord, metric: str = "") -> None:
    """What two people say of the first cases of a run, by a queue."""
    for rater, rows in (("Zoe", range(24)), ("Bob", range(12))):
        labels = [CaseLabel(case=n, passed=n % 5 > 0, metric=metric, rater=rater, random=True) for n in rows]
        await lab.labels.put(run.run_id, labels, rater=rater)


async def add_sweep(lab: StoreLab, accuracies: Sequence[float] = (0.7, 0.9)) -> str:
    """Models of these accuracies and rising prices, ranked; give the sweep's id."""
    models = [
        {"name": f"simulated/{name}", "accuracy": accuracy, "latency_ms": 3, "max_concurrent_tasks": 40}
        | {key: value * 3**place for key, value in PRICES.items()}
        for place, (name, accuracy) in enumerate(zip(MODELS, accuracies, strict=False))
    ]
    made = {**config({}, "sums@1"), "name": "which model", "model": models}
    return (await lab.sweep(made)).sweep_id
