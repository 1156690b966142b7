"""Two runs of word problems that a model judges, and what people say of them, for pictures."""

from __future__ import annotations

import json
import random
from functools import cache
from typing import Any

from promptlab.domain.assets import Dataset
from promptlab.domain.labels import CaseLabel
from promptlab.domain.results import RunRecord
from promptlab.store_lab import StoreLab
from tests.bench.word_problems import STEPS, problem
from tests.servers import ModelServer, Request

ROWS, LABELLED = 400, 240
SKILLS = {"mini": 0.62, "large": 0.6}
RATES = {"mini": (0.97, 0.96), "large": (0.98, 0.55)}
"""TPR and TNR of the judge by whose answers it judges: it likes the style of the second."""


@cache
def _questions() -> dict[str, int]:
    return {problem(n)["question"]: n for n in range(ROWS)}


def answered(number: int, model: str) -> tuple[str, bool]:
    """What a model says of a problem, and whether that is right."""
    row, chance = problem(number), random.Random(f"{model}{number}")
    right, steps = chance.random() < SKILLS[model], row["solution"].partition(" So the answer")[0]
    result = int(row["answer"]) if right else int(row["answer"]) + chance.choice((-10, -4, -2, 3, 5, 12))
    style = "Let us check it once more: yes. " if model == "large" else ""
    return f"{steps} {style}A: {result}", right


def says(request: Request) -> str:
    """Answer as the model that is asked, or as the judge of one."""
    model, text = str(request.json["model"]), request.prompt
    number = next(n for question, n in _questions().items() if question in text)
    if model in SKILLS:
        return answered(number, model)[0]
    by = "large" if "once more" in text else "mini"
    tpr, tnr = RATES[by]
    yes = random.Random(f"judge{number}{by}").random() < (tpr if answered(number, by)[1] else 1 - tnr)
    why = "Each step follows, and so does the result." if yes else "A step does not follow from the text."
    return json.dumps({"reasoning": why, "label": "yes" if yes else "no"})


async def add_judged(lab: StoreLab) -> list[RunRecord]:
    """The judge is certified by the first; of the second it passes too much."""
    problems = Dataset(name="word-problems", rows=[problem(n) for n in range(ROWS)], id_column="id")
    runs = []
    with ModelServer(says) as server:

        def model(name: str) -> dict[str, Any]:
            return {"name": f"openai/{name}", "endpoint": server.openai_url, "api_key": "k"}

        for name in SKILLS:
            config = {
                "name": "judged word problems",
                "dataset": problems,
                "prompt_template": STEPS,
                "model": model(name),
                "evaluation": [
                    {
                        "metric": "rubric",
                        "name": "sound",
                        "params": {"criterion": "Every step is right, and so is the result."},
                        "judge": model("judge"),
                        "column_mapping": {"question": "question"},
                    }
                ],
            }
            runs.append(await lab.run(config))
            for rater, rows in (("Ines", range(LABELLED)), ("Kofi", range(LABELLED - 60, LABELLED))):
                labels = [_said(n, name, rater) for n in rows]
                await lab.labels.put(runs[-1].run_id, labels, rater=rater.lower(), rater_name=rater)
            await lab.labels.check(runs[-1].run_id, "sound")
    return runs


def _said(number: int, model: str, rater: str) -> CaseLabel:
    """What a person says of an answer: that it is right, but for a slip now and then."""
    passed = answered(number, model)[1] != (random.Random(f"{rater}{number}").random() < 0.02)
    return CaseLabel(case=number, passed=passed, tag=None if passed else "wrong step", random=True)
