"""A matrix, its cells, and what is refused."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from promptlab.domain.sweeps import MOST_CELLS
from promptlab.errors import ConfigError
from promptlab.experiments.config import ExperimentConfig
from promptlab.experiments.file import SweepFile, load, load_experiment
from promptlab.experiments.matrix import SweepConfig, said
from promptlab.statistics import BLOCKS, bootstrap_ranks, holm, pareto_front

BASE: dict[str, Any] = {"dataset": "q@0", "prompt_template": "ask", "model": "simulated/demo"}


def test_every_combination_is_a_cell_in_the_order_of_the_axes() -> None:
    """Lists of models and prompts are axes; fields within them come after whole ones."""
    given = {
        "dataset": "q@0",
        "prompt_template": ["a@1", "b"],
        "model": ["simulated/demo", {"name": "simulated/demo", "temperature": 1}],
        "matrix": {"model.max_tokens": [10, 20]},
    }
    cells = SweepConfig.parse(given).cells
    assert len(cells) == 8
    assert said(cells[0].choices) == "prompt_template=a@1, model=simulated/demo, model.max_tokens=10"
    assert dict(cells[3].choices) == {
        "prompt_template": "a@1",
        "model": 'simulated/demo {"temperature": 1}',
        "model.max_tokens": "20",
    }
    last = cells[-1].config
    assert (last.prompt_template, last.model.temperature, last.model.max_tokens) == ("b", 1, 20)


@pytest.mark.parametrize(
    ("matrix", "why"),
    [
        ({"models": ["a/b"]}, "'models' cannot change .* Did you mean 'model'"),
        ({"dataset": ["a", "b"]}, "ranked over the same rows"),
        ({"evaluation": [1]}, "by the same metrics"),
        ({"model": ["simulated/echo"]}, "in the matrix and beside it"),
        ({"model.temperature": []}, "needs a list of values"),
        ({"model.temperature": 0.5}, "needs a list of values"),
        ({"model.temperature": [0, 1, 0]}, "has the value 0 twice"),
        ({"model.temperature": list(range(MOST_CELLS + 1))}, f"{MOST_CELLS} cells at most"),
        ({"model.seed": [1, 2, 3, 4, 5], "model.temperature": [0, 1, 2, 3, 4]}, "5 of model.seed × 5 of"),
        ({"prompt_template.user_prompt": ["x"]}, "not in a reference"),
        ({"model.temprature": [0]}, "model.temprature=0: .*temprature"),
        ([1], "a mapping of what changes"),
    ],
)
def test_a_wrong_matrix_says_what_is_wrong(matrix: Any, why: str) -> None:
    """It names the axis, the bound, and the remedy."""
    with pytest.raises(ConfigError, match=why):
        SweepConfig.parse({**BASE, "matrix": matrix})


def test_where_one_experiment_is_wanted_a_matrix_is_refused(tmp_path: Path) -> None:
    """In a dict and in a file, with the way to run it; paths in each cell count from the file."""
    with pytest.raises(ConfigError, match="make a sweep"):
        ExperimentConfig.parse({**BASE, "matrix": {"model.temperature": [0]}})
    path = tmp_path / "m.yaml"
    (tmp_path / "q.csv").write_text("q\n1\n")
    path.write_text(
        "dataset: {name: q, file_path: q.csv}\nprompt_template: {name: a, user_prompt: <q>}\n"
        "model: [simulated/demo, simulated/echo]\n"
    )
    with pytest.raises(ConfigError, match=r"m\.yaml: a matrix"):
        load_experiment(path)
    found = load(path)
    assert isinstance(found, SweepFile)
    datasets = [cell.config.dataset for cell in found.config.cells]
    assert [str(one.file_path) for one in datasets if not isinstance(one, str)] == [
        str(tmp_path / "q.csv")
    ] * 2
    path.write_text("matrx: {}\n" + path.read_text())
    with pytest.raises(
        ConfigError, match=r"line 1: an experiment has no field 'matrx'. Did you mean 'matrix'"
    ):
        load(path)


def test_ranks_are_those_of_the_means_where_rows_leave_no_doubt() -> None:
    """One that is right everywhere is first in every resample; two that are equal share what is left."""
    counts = [1] * 200
    sums = [[1.0] * 200, [0.0, 1.0] * 100, [0.0, 1.0] * 100, [0.0] * 200]
    ranked = bootstrap_ranks(sums, counts)
    assert [tuple(one) for one in ranked] == [(1.0, 1, 1), (0.0, 2, 3), (0.0, 2, 3), (0.0, 4, 4)]
    turned = bootstrap_ranks(sums, counts, higher_is_better=False)
    assert [one.p_best for one in turned] == [0.0, 0.0, 0.0, 1.0]


def test_p_best_is_that_of_the_paired_difference() -> None:
    """Of two runs it is the chance that the mean difference of a resample is above 0 (90 of 100 rows tie, 8
    are won and 2 lost); blocks of rows give the same within chance."""
    won = [1.0] * 8 + [0.0] * 2 + [1.0] * 90
    lost = [0.0] * 8 + [1.0] * 2 + [1.0] * 90
    first, second = bootstrap_ranks([won, lost], [1] * 100, resamples=2_000)
    assert first.p_best + second.p_best == pytest.approx(1.0)
    assert first.p_best == pytest.approx(0.973, abs=0.02)  # with half of the ties
    assert bootstrap_ranks([won, lost], [1] * 100) == bootstrap_ranks([won, lost], [1] * 100)
    draw = random.Random(1)
    rows = draw.sample(list(zip(won * 100, lost * 100, strict=True)), 10_000)
    blocks = [rows[n::BLOCKS] for n in range(BLOCKS)]
    sums = [[sum(row[side] for row in block) for block in blocks] for side in (0, 1)]
    (many, _) = bootstrap_ranks(sums, [len(block) for block in blocks], resamples=100)
    assert many.p_best == 1.0
    with pytest.raises(ValueError, match="as many blocks"):
        bootstrap_ranks([[1.0]], [1, 1])


def test_the_front_has_what_nothing_beats_in_score_and_cost() -> None:
    """Equal points are both on it; what has no cost is not."""
    costs = [1.0, 2.0, 3.0, 1.0, None]
    assert pareto_front(costs, [0.5, 0.9, 0.8, 0.5, 1.0]) == [True, True, False, True, False]
    assert pareto_front(costs, [0.5, 0.9, 0.8, 0.5, 1.0], higher_is_better=False) == [
        True,
        False,
        False,
        True,
        False,
    ]


def test_holm_counts_tests_that_nobody_made() -> None:
    """As if none of them was rejected."""
    assert holm([0.01, 0.02], tests=6) == [pytest.approx(0.06), pytest.approx(0.1)]
    assert holm([0.01, 0.02], tests=1) == holm([0.01, 0.02])
