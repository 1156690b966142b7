"""Results with long rows and many columns are written and exported: what a dataset may
have, a run can end with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from promptlab import Dataset, PromptLab, PromptTemplate

CONFIG = {"name": "large", "model": "simulated/demo", "evaluation": [{"metric": "length"}]}


@pytest.mark.long
def test_two_thousand_columns_are_run_and_exported(tmp_path: Path) -> None:
    """The most that a dataset may have."""
    with PromptLab({"db_file": str(tmp_path / "lab.db")}) as pl:
        rows = Dataset(name="wide", rows=[{f"column_{n}": n for n in range(2000)}])
        run = pl.experiment.run(
            {**CONFIG, "dataset": rows, "prompt_template": PromptTemplate(name="p", user_prompt="<column_1>")}
        )
        assert run.status == "completed"
        for format in ("csv", "jsonl", "parquet"):
            assert run.export(tmp_path / f"x.{format}").stat().st_size > 10_000


@pytest.mark.long
def test_rows_of_a_megabyte_are_exported_as_json_lines(tmp_path: Path) -> None:
    """In the memory that it takes."""
    with PromptLab({"db_file": str(tmp_path / "lab.db")}) as pl:
        rows = Dataset(name="long", rows=[{"q": f"{n} " + "x" * 1_000_000} for n in range(60)])
        run = pl.experiment.run(
            {
                **CONFIG,
                "model": "simulated/echo",
                "dataset": rows,
                "prompt_template": PromptTemplate(name="p", user_prompt="<q>"),
            }
        )
        lines = run.export(tmp_path / "x.jsonl").read_text().splitlines()
    assert [len(json.loads(line)["response"]) > 1_000_000 for line in lines] == [True] * 60


@pytest.mark.parametrize("value", [2**63, 2**64 - 1])
def test_the_digits_of_a_large_integer_are_in_the_results(tmp_path: Path, value: int) -> None:
    """Beside a small one in the same column; in the rows and in every export."""
    with PromptLab({"db_file": str(tmp_path / "lab.db")}) as pl:
        rows = Dataset(name="d", rows=[{"q": value}, {"q": 5}])
        run = pl.experiment.run(
            {
                **CONFIG,
                "model": "simulated/echo",
                "dataset": rows,
                "prompt_template": PromptTemplate(name="p", user_prompt="<q>"),
            }
        )
        assert [row["response"] for row in run.results()] == [str(value), "5"]
        for format in ("csv", "jsonl"):
            assert str(value) in run.export(tmp_path / f"x.{format}").read_text()
