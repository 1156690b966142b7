"""Run an experiment asynchronously, with a custom evaluator, and look at it in the Studio.

    cd samples/async_example && ../../.venv/bin/python async_example.py

By default the model is llama3.2 in a local Ollama (`ollama pull llama3.2`). Any other one is a
variable away, and `simulated/demo` needs nothing at all:

    PROMPTLAB_SAMPLE_MODEL=openai/gpt-6-luna ../../.venv/bin/python async_example.py
    PROMPTLAB_SAMPLE_MODEL=simulated/demo ../../.venv/bin/python async_example.py
"""

import asyncio
import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path

from promptlab import Dataset, Evaluator, PromptLab, PromptLabError, PromptTemplate, get_model

HERE = Path(__file__).parent


class LengthEvaluator(Evaluator):
    """How long the answer is, in characters."""

    higher_is_better = False

    def evaluate(self, data: dict) -> str:
        return str(len(data.get("response", "")))


async def main() -> None:
    pl = PromptLab({"type": "sqlite", "db_file": str(HERE / "promptlab.db")})

    prompt_template = await pl.asset.create_async(
        PromptTemplate(
            name="essay_feedback",
            description="Feedback on a short essay",
            system_prompt="You are a helpful teacher. You give feedback on essays.",
            user_prompt="The essay topic is: <essay_topic>\n\nThe submitted essay is: <essay>\n\nGive "
            "feedback in two sentences.",
        )
    )
    dataset = await pl.asset.create_async(
        Dataset(
            name="essays",
            description="Short essays with a teacher's feedback",
            file_path=HERE / "essays.jsonl",
        )
    )

    model = get_model(os.environ.get("PROMPTLAB_SAMPLE_MODEL", "ollama/llama3.2"))

    try:
        await model.check()  # costs nothing: is the key there, does the endpoint answer?
    except PromptLabError as error:
        raise SystemExit(
            f"{error}\nWithout any model: PROMPTLAB_SAMPLE_MODEL=simulated/demo {shlex.join(sys.orig_argv)}"
        ) from None

    # One call, by hand …
    answer = await model.ainvoke("You are a terse assistant.", "What is the capital of France?")
    print(f"{model.name} says: {answer.response}\n")

    # … and one for every row of the dataset, as many at once as the model allows.
    run = await pl.run_experiment_async(
        {
            "name": "async_example",
            "inference_model": model,
            "prompt_template": prompt_template,
            "dataset": dataset,
            "evaluation": [
                {
                    "metric": "LengthEvaluator",
                    "column_mapping": {"response": "$inference"},
                    "evaluator": LengthEvaluator(),
                },
                {"metric": "token_f1", "column_mapping": {"response": "$inference", "reference": "feedback"}},
                {
                    "metric": "contains",
                    "name": "no_apology",
                    "params": {"values": ["sorry", "as an AI"], "case_sensitive": False, "negate": True},
                },
            ],
        }
    )
    print(run)

    if os.environ.get("PROMPTLAB_SAMPLE_SERVE", "1") == "1":
        port = int(os.environ.get("PORT", "8000"))
        await pl.start_studio_async(port)
    await pl.aclose()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):  # Ctrl-C is how the Studio ends
        asyncio.run(main())
