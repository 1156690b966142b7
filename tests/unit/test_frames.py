"""DataFrames of a run's rows."""

from __future__ import annotations

from pathlib import Path

import pandas
import pytest

from promptlab import Dataset, PromptLab, PromptTemplate
from promptlab.sdk.frames import to_frame
from promptlab.sdk.run import Results

LONG = 9_007_199_254_740_993


def test_whole_numbers_keep_their_digits_beside_missing_values() -> None:
    """19 digits, where a float has 15; and the type is the same whatever is missing."""
    rows = [
        {"case": 0, "trial": 0, "input.n": LONG, "prompt_tokens": None, "passed.m": True, "score.m": 1.0},
        {"case": 1, "trial": 0, "input.n": None, "prompt_tokens": None, "passed.m": None, "score.m": None},
        {"case": 2, "trial": 0, "input.n": -(2**63), "prompt_tokens": None, "passed.m": False},
    ]
    frame = to_frame(rows)
    assert [str(kind) for kind in frame.dtypes] == ["Int64", "Int64", "Int64", "Int64", "boolean", "float64"]
    assert frame["input.n"].tolist() == [LONG, pandas.NA, -(2**63)]
    assert frame["passed.m"].tolist() == [True, pandas.NA, False]
    assert frame["score.m"].isna().tolist() == [False, True, True]
    assert frame["prompt_tokens"].isna().all()


def test_columns_of_mixed_values_are_kept_as_they_are() -> None:
    """And no rows make an empty frame."""
    frame = to_frame([{"input.x": 1}, {"input.x": "a"}, {"input.x": None}])
    assert frame["input.x"].tolist()[:2] == [1, "a"]
    assert len(Results([]).to_pandas()) == 0


@pytest.mark.parametrize("values", [[LONG, None], [True, None], ["a", None], [0.5, None]])
def test_the_frame_of_a_run_has_what_the_dataset_had(tmp_path: Path, values: list[object]) -> None:
    """Through the whole way from rows to frame."""
    with PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")}) as lab:
        run = lab.experiment.run(
            {
                "dataset": Dataset(name="d", rows=[{"q": "x", "v": value} for value in values]),
                "prompt_template": PromptTemplate(name="p", user_prompt="<q>"),
                "model": "simulated/echo",
            }
        )
        frame = run.results().to_pandas()
    assert frame["input.v"].tolist()[0] == values[0]
    assert frame["input.v"].isna().tolist() == [False, True]
