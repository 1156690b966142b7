"""A configuration given to `resume`: keys and code may be others, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from promptlab import Dataset, PromptLab, PromptTemplate
from promptlab.errors import ConfigError
from promptlab.sdk.run import Run
from tests.servers import ModelServer

KEY = "k" * 30


def config(**changes: Any) -> dict[str, Any]:
    return {
        "name": "sums",
        "prompt_template": PromptTemplate(name="add", user_prompt="What is <a> + 1?"),
        "dataset": Dataset(name="numbers", rows=[{"a": i, "answer": i + 1} for i in range(6)]),
        "model": {"name": "simulated/calculator", "api_key_env": "ONE_KEY"},
        "evaluation": [{"metric": "numeric_match", "column_mapping": {"reference": "answer"}}],
    } | changes


@pytest.fixture
def failed(tmp_path: Path) -> tuple[PromptLab, Run]:
    """A run in which cases failed, so that there is something to do."""
    pl = PromptLab({"db_file": str(tmp_path / "lab.db")}, quiet=True)
    model = {"name": "simulated/calculator", "failure_rate": 1, "max_retries": 0, "api_key_env": "ONE_KEY"}
    run = pl.experiment.run(config(model=model))
    assert run.summary is not None and run.summary.failed
    return pl, run


def same(run: Run, **changes: Any) -> dict[str, Any]:
    return config(model=run.record.experiment["model"]) | changes


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"name": "other"}, 'name: "sums" in the run, "other" here'),
    (
        {"prompt_template": PromptTemplate(name="add", user_prompt="<a> and 1?")},
        "prompt_template: add@0 in the run, add with another content here",
    ),
    (
        {"dataset": Dataset(name="numbers", rows=[{"a": 1, "answer": 2}])},
        "dataset: numbers@0 in the run, numbers with another content here",
    ),
    ({"trials": 3}, "trials: 1 in the run, 3 here"),
    ({"run_deadline_s": 60}, "run_deadline_s: not set in the run, 60.0 here"),
    ({"evaluation": []}, "evaluation numeric_match: only in the run"),
    (
        {
            "evaluation": [
                {
                    "metric": "numeric_match",
                    "column_mapping": {"reference": "answer"},
                    "params": {"tolerance": 2},
                }
            ]
        },
        "evaluation numeric_match.params: ",
    ),
]


@pytest.mark.parametrize(("change", "named"), CHANGES, ids=[named for _, named in CHANGES])
def test_a_change_is_named_and_nothing_is_done(
    failed: tuple[PromptLab, Run], change: dict[str, Any], named: str
) -> None:
    """Not ignored: the user would take the results for those of the changed experiment."""
    pl, run = failed
    with pl:
        with pytest.raises(ConfigError) as raised:
            pl.experiment.resume(run.run_id, same(run, **change), failed=True)
        text = str(raised.value)
        assert named in text and "start a new run" in text
        assert len([line for line in text.splitlines() if line.startswith("  ")]) == 1
        assert run.refresh().record == run.record


@pytest.mark.parametrize("failed_too", [False, True])
@pytest.mark.parametrize(("change", "named"), CHANGES, ids=[named for _, named in CHANGES])
def test_a_whole_run_is_held_against_the_configuration_as_well(
    tmp_path: Path, change: dict[str, Any], named: str, failed_too: bool
) -> None:
    """There is nothing left to do, and all the same its results are not those of the other experiment."""
    with PromptLab({"db_file": str(tmp_path / "lab.db")}, quiet=True) as pl:
        run = pl.experiment.run(config())
        assert run.status == "completed" and run.summary is not None and not run.summary.failed
        with pytest.raises(ConfigError) as raised:
            pl.experiment.resume(run.run_id, same(run, **change), failed=failed_too)
        assert named in str(raised.value) and "start a new run" in str(raised.value)
        assert pl.experiment.resume(run.run_id, same(run), failed=failed_too).record == run.record


def test_a_whole_run_needs_no_server(tmp_path: Path) -> None:
    """Nobody is called, so nobody has to answer."""
    with PromptLab({"db_file": str(tmp_path / "lab.db")}, quiet=True) as pl:
        with ModelServer() as server:
            url = server.openai_url
            run = pl.experiment.run(config(model={"name": "openai/mini", "endpoint": url, "api_key": KEY}))
        assert run.resume().record == run.record


def test_all_differences_of_a_model_are_named(failed: tuple[PromptLab, Run]) -> None:
    """Its name and each parameter, whether added, changed or left out."""
    pl, run = failed
    other = config(model={"name": "simulated/demo", "temperature": 0.5, "api_key_env": "ONE_KEY"})
    with pl, pytest.raises(ConfigError) as raised:
        pl.experiment.resume(run.run_id, other, failed=True)
    text = str(raised.value)
    assert 'model.name: "simulated/calculator" in the run, "simulated/demo" here' in text
    assert "model.temperature: not set in the run, 0.5 here" in text and "model.max_retries: 0 in" in text


def test_keys_may_be_others(failed: tuple[PromptLab, Run]) -> None:
    """Giving other keys is what the configuration is for."""
    pl, run = failed
    with pl:
        model = run.record.experiment["model"] | {"api_key_env": "OTHER_KEY"}
        again = pl.experiment.resume(run.run_id, config(model=model), failed=True)
        assert again.record.generation == 1


def test_a_run_goes_on_with_its_own_versions(failed: tuple[PromptLab, Run]) -> None:
    """A newer version of the prompt, made since, does not stand in the way of the
    remembered configuration."""
    pl, _ = failed
    with pl:
        model = {"name": "simulated/calculator", "failure_rate": 1, "max_retries": 0}
        run = pl.experiment.run(config(prompt_template="add", dataset="numbers", model=model))
        pl.asset.update(PromptTemplate(name="add", user_prompt="<a> and 1?"))
        assert run.resume(failed=True).record.experiment["prompt_template"]["version"] == 0
