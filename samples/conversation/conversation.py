"""Conversations with an agent: a simulated user with a goal talks to it, and metrics see every turn.

cd samples/conversation && ../../.venv/bin/python conversation.py
PROMPTLAB_SAMPLE_MODEL=ollama/llama3.2 ../../.venv/bin/python conversation.py
"""

import os
from pathlib import Path

from promptlab import CaseRecorder, Dataset, PromptLab, get_model

HERE = Path(__file__).parent
MODEL = os.environ.get("PROMPTLAB_SAMPLE_MODEL", "simulated/demo")
model = get_model(MODEL)
HOURS = {"Rome": "9 to 19", "Oslo": "10 to 17", "Lima": "8 to 20"}


async def shop(row: dict, case: CaseRecorder) -> str:
    """Answers one turn: looks the hours up, and lets the model say the rest."""
    hours = HOURS[row["city"]]
    case.contexts([f"The shop in {row['city']} is open from {hours}."])
    said = "\n".join(f"{message.role}: {message.text}" for message in case.messages)
    answer = await model.ainvoke(f"You help in a shop that is open from {hours}.", said)
    return f"{answer.response} We are open from {hours}."


def grounded(data: dict) -> bool:
    """Whether every answer has the hours that were looked up."""
    hours = data["contexts"][0].rpartition("from ")[2].rstrip(".")
    return all(hours in turn["assistant"] for turn in data["turns"])


def main() -> None:
    pl = PromptLab({"type": "sqlite", "db_file": str(HERE / "promptlab.db")})
    run = pl.experiment.run(
        {
            "name": "conversation",
            "agent_proxy": shop,
            "dataset": Dataset(name="cities", rows=[{"id": city, "city": city} for city in HOURS]),
            "conversation": {
                "simulated_user": {
                    "model": MODEL,
                    "persona": "Short of time.",
                    "goal": "Find out when the shop in <city> opens.",
                },
                "max_turns": 3,
            },
            "evaluation": [
                {
                    "metric": "grounded",
                    "evaluator": grounded,
                    "column_mapping": {"turns": "$turns", "contexts": "$contexts"},
                }
            ],
        }
    )
    print(run)

    for row in run.results():
        print(f"\n{row['id']}")
        for turn in row["trace"].turns if row["trace"] else ():
            print(f"  user       {turn['user']}\n  assistant  {turn['assistant']}")
    pl.close()


if __name__ == "__main__":
    main()
