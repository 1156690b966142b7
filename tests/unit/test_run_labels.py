"""Labels on runs: baselines of an experiment, moved at once; and the commit that a run is made at."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from promptlab import PromptLab
from promptlab.cli import commands
from promptlab.cli.commits import found_commit
from promptlab.deleting.projects import Retention
from promptlab.errors import ConfigError, LabelMovedError, LabelNotFoundError, RunInUseError
from promptlab.run_labels import MOST_LABELS, RunLabels
from promptlab.store_lab import StoreLab

SUMS = {
    "name": "sums",
    "dataset": {"name": "sums", "rows": [{"a": n, "b": 1, "answer": str(n + 1)} for n in range(20)]},
    "prompt_template": {"name": "math", "user_prompt": "What is <a> + <b>?"},
    "model": {"name": "simulated/calculator", "accuracy": 1},
    "evaluation": [
        {"metric": "exact_match", "column_mapping": {"response": "$inference", "reference": "answer"}}
    ],
}


@pytest.fixture
def lab(tmp_path: Path) -> StoreLab:
    return StoreLab.open({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})


async def test_a_label_is_at_one_run_at_a_time_whoever_moves_it(lab: StoreLab) -> None:
    """Fifty moves at once leave one run with the label; no other label is lost by them."""
    runs = [(await lab.run(SUMS)).run_id for _ in range(3)]
    await lab.label_run(runs[0], "first")
    moves = [lab.label_run(runs[n % 3], "production") for n in range(12)]
    await asyncio.gather(*moves, *(lab.label_run(runs[n % 3], f"l{n}") for n in range(8)))
    labels = await lab.run_labels("sums")
    assert labels.keys() == {"first", "production", *(f"l{n}" for n in range(8))}
    listed, _ = await lab.list_runs()
    assert sum("production" in run.labels for run in listed) == 1
    assert {run.run_id: run.labels for run in listed} == {
        run_id: (await lab.get_run(run_id)).labels for run_id in runs
    }
    await lab.close()


async def test_a_label_moves_only_from_the_run_that_was_named(lab: StoreLab) -> None:
    """Compare-and-swap: of two who promote at once, one is told."""
    one, two, three = [(await lab.run(SUMS)).run_id for _ in range(3)]
    await lab.label_run(one, "production", was=None)
    done = await asyncio.gather(
        *(lab.label_run(run_id, "production", was=one) for run_id in (two, three)), return_exceptions=True
    )
    assert sorted(type(found).__name__ for found in done) == ["LabelMovedError", "RunRecord"]
    with pytest.raises(LabelMovedError, match="points at run"):
        await lab.unlabel_run(one, "production")
    for wrong in ("", "latest", "7", "a b", "x@1", "x" * 101):
        with pytest.raises(ConfigError, match="label"):
            await lab.label_run(one, wrong)
    with pytest.raises(LabelNotFoundError, match=r"no label 'staging'. It has production"):
        await lab.unlabel_run(one, "staging")
    labels = RunLabels(lab.ledger)
    for n in range(MOST_LABELS - 1):
        await labels.move("sums", f"l{n}", one)
    with pytest.raises(ConfigError, match="50 labels"):
        await labels.move("sums", "more", one)
    await lab.close()


async def test_a_labelled_run_is_kept_and_its_label_goes_with_it(lab: StoreLab) -> None:
    """Neither a person nor the retention deletes it; a project's deletion leaves no label behind."""
    kept, other = [(await lab.run(SUMS)).run_id for _ in range(2)]
    await lab.label_run(kept, "production")
    with pytest.raises(RunInUseError, match=rf"is production of 'sums'.*label {kept} production --remove"):
        await lab.delete_run(kept)
    assert await Retention(lab.ledger, lab.blobs, lab.clock).mark(0) == 1
    await lab.go_on_deleting()
    assert [run.run_id for run in (await lab.list_runs())[0]] == [kept] and other != kept
    await lab._deleting.mark(await lab.get_run(kept), "a project's deletion")
    await lab._deleting.remove(kept)
    assert await lab.run_labels("sums") == {}
    await lab.close()


def test_scripts_label_runs_and_find_them(tmp_path: Path) -> None:
    """The experiment's label gives the run; the commit is kept with it."""
    with PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")}) as pl:
        run = pl.experiment.run({**SUMS, "commit": "abc1234"}, quiet=True)
        assert pl.experiment.label(run, "production").labels == ("production",)
        found = pl.experiment.labelled("sums", "production")
        assert (found.run_id, found.commit) == (run.run_id, "abc1234")
        pl.experiment.unlabel(run.run_id, "production")
        with pytest.raises(LabelNotFoundError, match="no run labelled 'production'"):
            pl.experiment.labelled("sums", "production")
        with pytest.raises(ConfigError, match="commit"):
            pl.experiment.run({**SUMS, "commit": "a b"})


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command in a folder with an experiment."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sums.yaml").write_text(json.dumps(SUMS))

    def run(*args: str, code: int = 0) -> Result:
        result = CliRunner().invoke(commands, args, prog_name="promptlab")
        assert result.exit_code == code, result.output
        return result

    return run


def test_the_command_line_labels_runs_and_names_them_by_labels(invoke: Callable[..., Result]) -> None:
    """By latest or an id's beginning; compare takes EXPERIMENT@LABEL; assets are labelled as before."""
    one, two = (json.loads(invoke("run", "sums.yaml", "-q", "--json").stdout)["run_id"] for _ in "ab")
    assert f"sums@production is run {two}." in invoke("label", "latest", "production").stderr
    assert json.loads(invoke("show", "latest", "--json").stdout)["labels"] == ["production"]
    assert "@production" in invoke("runs").stdout and "@production" in invoke("show", "latest").stdout
    compared = json.loads(invoke("compare", "sums@production", one, "--json").stdout)
    assert (compared["base"], compared["others"][0]["run_id"]) == (two, one)
    assert "points at run" in invoke("label", one, "production", "--instead-of", "none", code=2).stderr
    invoke("label", one, "production", "--instead-of", "latest")
    assert json.loads(invoke("show", "sums@production", "--json").stdout)["run_id"] == one
    alone = invoke("compare", "production", "latest", code=2).stderr
    assert "'production' is a label of 'sums': say 'sums@production'." in alone.replace("\n", " ")
    invoke("label", one, "stable")
    other = invoke("show", "sums@prodction", code=2).stderr
    assert "The labels of 'sums' are production, stable." in other.replace("\n", " ")
    invoke("label", one, "production", "--remove")
    assert "No run 'sums@production'" in invoke("show", "sums@production", code=2).stderr
    assert "math@stable is math@0" in invoke("label", "math", "stable").stderr
    assert "give one of them" in invoke("label", "math", "x", "--run", "--prompt", code=2).stderr


def test_the_commit_is_that_of_the_pipeline_or_of_git(
    invoke: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only when asked; a value is taken as it is."""
    nowhere = dict.fromkeys(("GITHUB_SHA", "CI_COMMIT_SHA", "GIT_COMMIT"), "")
    for name in nowhere:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert "commit" not in json.loads(invoke("run", "sums.yaml", "-q", "--json").stdout)
    invoke("run", "sums.yaml", "-q", "--commit", "v1.2/rc")
    assert "v1.2/rc" in invoke("show", "latest").stdout
    with pytest.raises(click.UsageError, match="git says"):
        found_commit("auto", tmp_path, nowhere)
    assert found_commit("auto", tmp_path, {"CI_COMMIT_SHA": "a" * 40}) == "a" * 40
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.com"]
    for args in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run([*git, *args], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    assert found_commit("auto", tmp_path, {}) == head.strip()
    assert found_commit(None, tmp_path, {"GITHUB_SHA": "a" * 40}) is None
