"""Versions and labels of a prompt: two wordings side by side, each pinned by its number or its label.

cd samples/asset_versioning && ../../.venv/bin/python asset_versioning.py
PROMPTLAB_SAMPLE_MODEL=ollama/llama3.2 ../../.venv/bin/python asset_versioning.py
"""

import os
from pathlib import Path

from promptlab import Dataset, PromptLab, PromptTemplate
from promptlab.errors import AssetNotFoundError

HERE = Path(__file__).parent

# Every wording there ever was, oldest first. Append to this list; what is in the store never changes.
WORDINGS = [
    PromptTemplate(
        name="route",
        description="Short",
        user_prompt="Which team is this for? Answer billing, technical or account.\n\n<ticket>",
    ),
    PromptTemplate(
        name="route",
        description="Says what each team does",
        system_prompt="Billing has payments and invoices, technical has faults, account has logins, users "
        "and profiles.",
        user_prompt="Ticket: <ticket>\n\nAnswer with billing, technical or account, and nothing else.",
    ),
]


def create_missing(pl: PromptLab, wordings: list[PromptTemplate]) -> None:
    """Create the versions that are not there yet, so that this script can be run again."""
    try:
        there = len(pl.asset.versions("route"))
    except AssetNotFoundError:
        there = 0
    for wording in wordings[there:]:
        pl.asset.create(wording)


def main() -> None:
    pl = PromptLab({"type": "sqlite", "db_file": str(HERE / "promptlab.db")})
    create_missing(pl, WORDINGS)
    pl.asset.label("route", "production", version=0)
    pl.asset.create(Dataset(name="tickets", file_path=HERE / "tickets.csv"))

    for version in pl.asset.versions("route"):
        print(
            f"route@{version.version}  {', '.join(version.labels) or '-':<12}{version.hash[:12]}  "
            f"{version.description}"
        )

    for prompt in ("route@production", "route@1"):
        run = pl.experiment.run(
            {
                "name": "routing",
                "prompt_template": prompt,
                "dataset": "tickets",
                "model": os.environ.get("PROMPTLAB_SAMPLE_MODEL", "simulated/demo"),
                "evaluation": [
                    {
                        "metric": "exact_match",
                        "column_mapping": {"reference": "team"},
                        "params": {"case_sensitive": False, "ignore_punctuation": True},
                    }
                ],
                "tags": [prompt],
            }
        )
        print(f"\n{run}")

    # Both runs say exactly what they ran: a version and its hash, not "the prompt".
    newest, before = pl.experiment.list("routing", limit=2)
    for old in (before, newest):
        used = old.record.experiment["prompt_template"]
        print(f"\n{old.run_id} used {used['name']}@{used['version']} ({used['hash'][:12]})", end="")
    print()
    pl.close()


if __name__ == "__main__":
    main()
