"""The smallest whole experiment: a dataset, a prompt, a model, a metric.

cd samples/quickstart && ../../.venv/bin/python quickstart.py
PROMPTLAB_SAMPLE_MODEL=ollama/llama3.2 ../../.venv/bin/python quickstart.py
"""

import os
from pathlib import Path

from promptlab import Dataset, PromptLab, PromptTemplate

HERE = Path(__file__).parent


def main() -> None:
    pl = PromptLab({"type": "sqlite", "db_file": str(HERE / "promptlab.db")})
    run = pl.experiment.run(
        {
            "name": "quickstart",
            "dataset": Dataset(name="shop_sums", file_path=HERE / "shop_sums.jsonl"),
            "prompt_template": PromptTemplate(
                name="solve", user_prompt="<question>\nEnd with the number alone on the last line."
            ),
            "model": os.environ.get("PROMPTLAB_SAMPLE_MODEL", "simulated/demo"),
            "evaluation": [{"metric": "numeric_match", "column_mapping": {"reference": "answer"}}],
        }
    )
    print(run)

    print("\nWrong:")
    for row in run.results():
        if not row["passed.numeric_match"]:
            print(f"  {row['id']}: {row['reason.numeric_match'] or row['error_message']}")
    pl.close()


if __name__ == "__main__":
    main()
