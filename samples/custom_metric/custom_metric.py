"""Metrics of one's own: pass/fail with a reason, a category, and a number from async code.

cd samples/custom_metric && ../../.venv/bin/python custom_metric.py
PROMPTLAB_SAMPLE_MODEL=ollama/llama3.2 ../../.venv/bin/python custom_metric.py
"""

import asyncio
import os
from pathlib import Path

from promptlab import Dataset, Evaluator, PromptLab, PromptTemplate, Score

HERE = Path(__file__).parent


class MentionsProduct(Evaluator):
    """Passes when the reply names the product; says why not."""

    inputs = {"response": "$inference", "product": None}  # None: the experiment must map it

    def evaluate(self, data: dict) -> Score:
        named = data["product"].lower() in data["response"].lower()
        return Score(passed=named, reason=None if named else f"does not say {data['product']!r}")


class Wording(Evaluator):
    """A category: plain, or wordy. A string that is no number is a label, which the summary counts."""

    inputs = {"response": "$inference"}

    def evaluate(self, data: dict) -> str:
        words = data["response"].split()
        return "plain" if sum(map(len, words)) / max(len(words), 1) < 4.8 else "wordy"


class LengthRatio(Evaluator):
    """How many times as long as the best reply. Async, as a call to a service would be."""

    higher_is_better = False
    inputs = {"response": "$inference", "reference": None}

    async def evaluate(self, data: dict) -> float:
        await asyncio.sleep(0)
        return len(data["response"]) / len(data["reference"])


def main() -> None:
    pl = PromptLab({"type": "sqlite", "db_file": str(HERE / "promptlab.db")})
    run = pl.experiment.run(
        {
            "name": "custom_metric",
            "dataset": Dataset(name="complaints", file_path=HERE / "complaints.jsonl"),
            "prompt_template": PromptTemplate(
                name="reply",
                system_prompt="You answer customers in two sentences.",
                user_prompt="<complaint>",
            ),
            "model": os.environ.get("PROMPTLAB_SAMPLE_MODEL", "simulated/demo"),
            "evaluation": [
                {
                    "metric": "mentions_product",
                    "column_mapping": {"product": "product"},
                    "evaluator": MentionsProduct(),
                },
                {"metric": "wording", "evaluator": Wording()},
                {
                    "metric": "length_ratio",
                    "column_mapping": {"reference": "best_reply"},
                    "evaluator": LengthRatio(),
                },
            ],
        }
    )
    print(run)

    print("\nNot passed or not scored:")
    for row in run.results():
        why = row["reason.mentions_product"] or row["score_error.length_ratio"]
        if why:
            print(f"  {row['id']}: {why}")
    pl.close()


if __name__ == "__main__":
    main()
