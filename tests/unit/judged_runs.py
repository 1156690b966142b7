"""Runs whose judge is a server that says what it is told to, with labels of people on them."""

from __future__ import annotations

import json
import random
from typing import Any

from promptlab import Dataset, PromptLab, PromptTemplate
from promptlab.domain.labels import CaseLabel
from promptlab.sdk.run import Run
from tests.servers import ModelServer, Request

PRICES = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0}


def truth(n: int) -> bool:
    """Whether people pass row n: 7 in 10 of them, in no order."""
    return random.Random(n).random() < 0.7


def judge_says(n: int, model: str, tpr: float, tnr: float) -> bool:
    """What a judge of such rates says of row n."""
    drawn = random.Random(f"{model}{n}").random()
    return drawn < tpr if truth(n) else drawn >= tnr


class JudgeServer(ModelServer):
    """A model that answers each row, and judges by their names: `judge-90-80` has TPR .9 and TNR .8."""

    def __init__(self) -> None:
        super().__init__(self._said)

    @staticmethod
    def _said(request: Request) -> str:
        model = str(request.json["model"])
        # The row's number stands in the question, and again in what the judge is shown.
        n = int("".join(c for c in request.prompt.partition("row ")[2].partition("?")[0] if c.isdigit()) or 0)
        if not model.startswith("judge"):
            return f"Answer to row {n}? {'word ' * (n % 40)}"
        _, tpr, tnr, *_ = model.split("-")
        yes = judge_says(n, model, int(tpr) / 100, int(tnr) / 100)
        return json.dumps({"reasoning": f"I looked at {n}.", "label": "yes" if yes else "no"})


def experiment(
    server: ModelServer, judge: str | list[str] = "judge-90-80", rows: int = 60, **more: Any
) -> Any:
    """Describe a run of so many rows, with one judge or a jury."""
    names = [judge] if isinstance(judge, str) else judge
    common = {"endpoint": server.openai_url, **PRICES}
    judges = [{"name": f"openai/{name}", **common} for name in names]
    return {
        "name": "judged",
        "dataset": Dataset(name="rows", rows=[{"n": n, "kind": "ab"[n % 2]} for n in range(rows)]),
        "prompt_template": PromptTemplate(name="ask", user_prompt="What is row <n>?"),
        "model": {"name": "openai/mini", **common},
        "evaluation": [{"metric": "rubric", "params": {"criterion": "It is right."}, "judge": judges}],
        **more,
    }


def label_rows(pl: PromptLab, run: Run, rows: range, *, rater: str = "zoe", random: bool = True) -> None:
    """Label rows as people would."""
    labels = [CaseLabel(case=n, passed=truth(n), rater=rater, random=random) for n in rows]
    pl.label.put_all(run, labels)
