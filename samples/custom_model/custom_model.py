"""Models of one's own: rules (only `invoke`), and a majority of three answers (only `ainvoke`).

cd samples/custom_model && ../../.venv/bin/python custom_model.py
PROMPTLAB_SAMPLE_MODEL=ollama/llama3.2 ../../.venv/bin/python custom_model.py
"""

import asyncio
import os
from collections import Counter
from pathlib import Path

from promptlab import Dataset, Model, ModelResponse, PromptLab, PromptTemplate, get_model

HERE = Path(__file__).parent


class Rules(Model):
    """A baseline without any model: words that speak for themselves. Sync code runs in threads."""

    BAD = (
        "broke",
        "stopped",
        "bad",
        "poor",
        "late",
        "scratched",
        "sent it back",
        "leaks",
        "disappointing",
        "fell apart",
    )

    def invoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        negative = any(word in user_prompt.lower() for word in self.BAD)
        return ModelResponse("negative" if negative else "positive", cost_usd=0.0)


class Majority(Model):
    """Asks a model three times, with three seeds, and gives the answer that most of them are."""

    def __init__(self) -> None:
        name = os.environ.get("PROMPTLAB_SAMPLE_MODEL", "simulated/demo")
        super().__init__({"name": "custom/majority-of-3", "max_concurrent_tasks": 4})
        self.voters = [get_model(name, seed=seed) for seed in range(3)]

    async def ainvoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        answers = await asyncio.gather(*(voter.ainvoke(system_prompt, user_prompt) for voter in self.voters))
        votes = Counter(a.response.strip(" .\n").lower() for a in answers)
        # Tokens and cost are those of the three calls: PromptLab counts what its own models are asked.
        return ModelResponse(votes.most_common(1)[0][0])

    async def aclose(self) -> None:
        for voter in self.voters:
            await voter.aclose()


def main() -> None:
    pl = PromptLab({"type": "sqlite", "db_file": str(HERE / "promptlab.db")})
    prompt = PromptTemplate(
        name="sentiment",
        user_prompt="Review: <review>\n\nAnswer with positive or negative, and nothing else.",
    )
    for model in (Rules(), Majority()):
        run = pl.experiment.run(
            {
                "name": "custom_model",
                "dataset": Dataset(name="reviews", file_path=HERE / "reviews.jsonl"),
                "prompt_template": prompt,
                "model": model,
                "evaluation": [{"metric": "exact_match", "column_mapping": {"reference": "sentiment"}}],
            }
        )
        print(f"{run}\n")
    pl.close()


if __name__ == "__main__":
    main()
