"""Metrics that apply to some rows only: `when` in an experiment."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from promptlab import Dataset, Evaluator, ExperimentConfig, PromptLab, Run
from promptlab.domain.experiment import Experiment, When
from promptlab.errors import ConfigError
from promptlab.experiments.file import load_experiment

ROWS = [
    {"q": "12", "answer": "12", "kind": "math", "level": 1},
    {"q": "x", "answer": "y", "kind": "words", "level": 2},
    {"q": "13", "answer": "14", "kind": "math", "level": 2},
    {"q": "z", "answer": "z", "kind": None, "level": 3},
]


def when(**condition: Any) -> When:
    return When.model_validate({"column": "kind", **condition})


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ({"is": "math"}, [0, 2]),
        ({"is_not": "math"}, [1, 3]),
        ({"in": ["math", "words"]}, [0, 1, 2]),
        ({"is": None}, [3]),
        ({"is_not": None}, [0, 1, 2]),
        ({"column": "level", "is": 2}, [1, 2]),
        ({"column": "level", "is": 2.0}, [1, 2]),
        ({"column": "level", "is": True}, []),
        ({"column": "level", "is": "2"}, []),
        ({"column": "elsewhere", "is": None}, [0, 1, 2, 3]),
    ],
)
def test_a_condition_holds_by_the_value_of_a_column(condition: dict[str, Any], rows: list[int]) -> None:
    """Values are equal as in JSON; a column that is missing is null. The condition survives a record."""
    test = when(**condition)
    assert [n for n, row in enumerate(ROWS) if test.holds(row)] == rows
    assert When.model_validate(test.model_dump(mode="json", exclude_none=True)) == test


class Words(Evaluator):
    """Scores on the event loop."""

    async def evaluate(self, data: dict[str, Any]) -> str:
        return str(data["kind"])


def run(lab: PromptLab, *metrics: dict[str, Any], **fields: Any) -> Run:
    return lab.experiment.run(
        {
            "dataset": Dataset(name="d", rows=ROWS),
            "prompt_template": {"name": "p", "user_prompt": "<q>"},
            "model": "simulated/echo",
            "evaluation": metrics,
            **fields,
        }
    )


EXACT = {"metric": "exact_match", "column_mapping": {"reference": "answer"}}


def test_rows_that_a_metric_does_not_apply_to_are_not_scored_and_counted_apart(tmp_path: Path) -> None:
    """The mean and n are of the other rows; nothing of it is a failure, with trials
    and async evaluators too."""
    words = {"metric": "words", "evaluator": Words(), "column_mapping": {"kind": "kind"}}
    with PromptLab(tmp_path / "lab.db") as lab:
        done = run(
            lab,
            {**EXACT, "when": {"column": "kind", "is": "math"}},
            {**words, "when": {"column": "kind", "in": ["words"]}},
            {**EXACT, "name": "all"},
            trials=2,
        )
        exact, labels, everything = (done.summary.metrics[n] for n in ("exact_match", "words", "all"))
        rows = list(done.results())
        assert (exact.n, exact.mean, exact.scored, exact.failed, exact.not_applicable) == (2, 0.5, 4, 0, 4)
        assert (dict(labels.labels), labels.not_applicable) == ({"words": 2}, 6)
        assert (everything.n, everything.not_applicable) == (4, 0)
        assert done.summary.failed == 0
        scored = [row.get("score.exact_match") for row in rows if row["trial"] == 0]
        assert scored == [1.0, None, 0.0, None]
        assert "not_applicable" not in everything.brief() and exact.brief()["not_applicable"] == 4
        assert Experiment.model_validate(done.record.experiment).evaluation[0].when == when(**{"is": "math"})


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ({"column": "kinds", "is": "math"}, "names the column 'kinds'.*Did you mean 'kind'"),
        ({"column": "kind", "is": 1}, "of the type string: no row can be equal. Write the value in quotes"),
        ({"column": "level", "in": [1, "2"]}, "compares the column 'level' with '2'.*of the type integer"),
        ({"column": "kind"}, "give exactly one of is, is_not and in"),
        ({"column": "kind", "is": "a", "is_not": "b"}, "give exactly one of is, is_not and in"),
        ({"column": "kind", "in": []}, "at least 1 item"),
        ({"column": "kind", "is": ["a"]}, "is"),
        ({"column": "kind", "equals": "math"}, "unknown field"),
    ],
)
def test_a_condition_that_no_row_can_meet_is_refused_before_the_run(
    tmp_path: Path, condition: dict[str, Any], said: str
) -> None:
    """A column that is not there, a value of another type, or no test at all."""
    with PromptLab(tmp_path / "lab.db") as lab:
        with pytest.raises(ConfigError, match=said):
            run(lab, {**EXACT, "when": condition})
        assert lab.experiment.list() == []


def test_a_condition_is_written_in_yaml(tmp_path: Path) -> None:
    """The file's `when` is the configuration's."""
    path = tmp_path / "e.yaml"
    path.write_text(
        "dataset: d@0\nprompt_template: p@0\nmodel: simulated/echo\nevaluation:\n"
        "  - metric: exact_match\n    when: {column: kind, is: math}\n"
    )
    config = load_experiment(path).config
    assert config.evaluation[0].when == when(**{"is": "math"})
    assert isinstance(config, ExperimentConfig)


def test_shards_count_what_does_not_apply_together(tmp_path: Path) -> None:
    """Summaries of shards are merged, read back from JSON."""
    rows = [{"q": "1", "answer": "1", "kind": "math" if n % 3 else "words"} for n in range(150)]
    with PromptLab(tmp_path / "lab.db") as lab:
        done = asyncio.run(_run_async(lab, rows))
        metric = done.summary.metrics["exact_match"]
        assert (metric.n, metric.not_applicable) == (100, 50)


async def _run_async(lab: PromptLab, rows: list[dict[str, Any]]) -> Run:
    return await lab.experiment.run_async(
        {
            "dataset": Dataset(name="d", rows=rows),
            "prompt_template": {"name": "p", "user_prompt": "<q>"},
            "model": "simulated/echo",
            "evaluation": [{**EXACT, "when": {"column": "kind", "is": "math"}}],
        }
    )
