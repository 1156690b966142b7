"""An agent in place of prompt and model: a function of the row that calls a model and a tool.

cd samples/agent && ../../.venv/bin/python agent.py
PROMPTLAB_SAMPLE_MODEL=ollama/llama3.2 ../../.venv/bin/python agent.py
"""

import os
import re
from pathlib import Path

from promptlab import Dataset, ModelResponse, PromptLab, get_model

HERE = Path(__file__).parent
ORDERS = {
    "1001": "shipped on 18 November",
    "1002": "waiting for stock",
    "1003": "delivered on 12 November",
    "1004": "cancelled at your request",
    "1005": "shipped on 20 November",
}
model = get_model(os.environ.get("PROMPTLAB_SAMPLE_MODEL", "simulated/demo"))


def order_status(question: str) -> str:
    """Look up the order that a question names in the shop's database."""
    number = re.search(r"\d{4}", question)
    return (
        f"Your order was {ORDERS[number[0]]}."
        if number and number[0] in ORDERS
        else "Which order do you mean?"
    )


def return_policy(question: str) -> str:
    """Look up the shop's rules."""
    return "You can send it back within 30 days, free of charge."


TOOLS = {"order_status": order_status, "return_policy": return_policy}


async def shop_agent(row: dict) -> ModelResponse:
    """Lets the model choose a tool, and answers with what the tool says."""
    choice = await model.ainvoke(
        "You choose a tool.",
        f"Question: {row['question']}\nAnswer with order_status or return_policy, and nothing else.",
    )
    tool = TOOLS.get(choice.response.strip(" .`\n"))
    if tool is None:
        raise LookupError(
            f"the model chose {choice.response!r}, which is no tool"
        )  # a failed case; the run goes on
    return ModelResponse(
        tool(row["question"]), prompt_tokens=choice.prompt_tokens, completion_tokens=choice.completion_tokens
    )


def main() -> None:
    pl = PromptLab({"type": "sqlite", "db_file": str(HERE / "promptlab.db")})
    run = pl.experiment.run(
        {
            "name": "agent",
            "agent_proxy": shop_agent,
            "agent_max_concurrent_tasks": 4,
            "dataset": Dataset(name="shop_questions", file_path=HERE / "questions.jsonl"),
            "evaluation": [
                {"metric": "contains", "name": "right_fact", "column_mapping": {"reference": "fact"}}
            ],
        }
    )
    print(run)

    print()
    for row in run.results():
        mark = "right" if row["passed.right_fact"] else "wrong"
        print(f"{row['id']} {mark}  {row['input.question']}  ->  {row['response'] or row['error_message']}")
    pl.close()


if __name__ == "__main__":
    main()
