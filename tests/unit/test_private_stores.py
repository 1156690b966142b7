"""A store is its owner's alone, and one that somebody else made runs no code."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from promptlab import Dataset, PromptLab, PromptTemplate
from promptlab.adapters.local.private import own_folder
from promptlab.cli import commands
from promptlab.errors import UntrustedCodeError

MINE = """
from pathlib import Path
from promptlab import Evaluator, Model, ModelResponse

class Mine(Evaluator):
    loaded = Path({ran!r}).touch()

    def evaluate(self, data):
        return 1

def agent(row, loaded=Path({ran!r}).touch()):
    return "x"
"""


@pytest.fixture(autouse=True)
def _usual_umask() -> Any:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state of one user, and a folder with code of theirs."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE.format(ran=str(tmp_path / "ran")))
    return tmp_path


def experiment(**more: Any) -> dict[str, Any]:
    return {
        "name": "e",
        "dataset": Dataset(name="d", rows=[{"q": f"{n}"} for n in range(60)]),
        "prompt_template": PromptTemplate(name="p", user_prompt="<q>"),
        "model": "simulated/demo",
        "evaluation": [
            {"metric": "Mine", "evaluator": "mine.py:Mine", "column_mapping": {"response": "$inference"}}
        ],
        **more,
    }


def modes(folder: Path) -> dict[str, int]:
    """What others may do with each file and folder."""
    return {
        str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) & 0o077 for path in folder.rglob("*")
    }


def test_what_a_run_leaves_behind_is_its_owners_alone(home: Path) -> None:
    """The file, its log and the index of the log; every folder and every blob; also while it is open."""
    store = home / "store"
    store.mkdir()
    with PromptLab(str(store / "lab.db")) as lab:
        lab.experiment.run(experiment())
        found = modes(store)
        assert {"lab.db", "lab.db-wal", "lab.db-shm", "lab.db.blobs"} <= found.keys()
        assert not any(found.values())
    assert len(modes(store)) > 8 and not any(modes(store).values())
    assert not any(modes(home / "state").values())


def test_a_store_that_was_open_to_others_is_closed_when_its_owner_opens_it(home: Path) -> None:
    """As an older version made it, with the usual umask."""
    store = home / "store"
    store.mkdir()
    with PromptLab(str(store / "lab.db")) as lab:
        run = lab.experiment.run(experiment())
    for path in store.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert all(modes(store).values())
    with PromptLab(str(store / "lab.db")) as lab:
        assert len(lab.experiment.get(run.run_id).results()) == 60
        assert not any(modes(store).values())


def test_links_lead_nowhere(tmp_path: Path) -> None:
    """What a store links to is not a part of it."""
    (tmp_path / "blobs").mkdir(mode=0o755)
    (tmp_path / "other").write_text("x")
    (tmp_path / "blobs" / "link").symlink_to(tmp_path / "other")
    own_folder(tmp_path / "blobs")
    assert stat.S_IMODE((tmp_path / "other").stat().st_mode) == 0o644


def failing(run_id: str, lab: PromptLab) -> None:
    """Make a run one that has something left to do."""
    asyncio.run(lab._lab.ledger.update_run(run_id, {"status": "interrupted", "results": None}))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"agent_proxy": {"code": "mine.py:agent"}, "model": None, "prompt_template": None, "evaluation": []},
    ],
)
def test_code_of_a_store_from_elsewhere_is_run_only_when_the_user_says_so(
    home: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    """By command, from Python, and from the Studio; what is trusted once stays so."""
    with PromptLab("theirs.db") as lab:
        run = lab.experiment.run(experiment(**more))
        failing(run.run_id, lab)
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state of another user"))
    (home / "ran").unlink()
    for name in ("theirs.db", "theirs.db.blobs"):
        copy = shutil.copytree if (home / name).is_dir() else shutil.copy
        copy(home / name, home / name.replace("theirs", "mine"))
    said = CliRunner().invoke(commands, ["resume", run.run_id, "--db", "mine.db"])
    assert said.exit_code == 2 and "mine.py:" in said.output and "--trust-code" in said.output
    with PromptLab("mine.db") as lab:
        with pytest.raises(UntrustedCodeError) as caught:
            lab.experiment.resume(run.run_id)
        assert caught.value.code[0].startswith(str(home / "mine.py"))
        with pytest.raises(UntrustedCodeError):
            asyncio.run(lab._lab.start_resume(run.run_id))
        with pytest.raises(UntrustedCodeError):
            asyncio.run(lab._lab.start_selected(run.run_id, [0, 1]))
        assert not (home / "ran").exists()
        assert lab.experiment.resume(run.run_id, trust_code=True).record.status == "completed"
        assert (home / "ran").exists()
        failing(run.run_id, lab)
        assert lab.experiment.resume(run.run_id).record.status == "completed"


def test_code_that_was_recorded_here_is_run_again_without_a_question(home: Path) -> None:
    """By the same user, also from another process."""
    with PromptLab("mine.db") as lab:
        run = lab.experiment.run(experiment())
        failing(run.run_id, lab)
    said = CliRunner().invoke(commands, ["resume", run.run_id, "--db", "mine.db"])
    assert said.exit_code == 0, said.output


def test_a_seal_of_other_code_opens_nothing(home: Path) -> None:
    """Who may write to the store cannot put another path under a seal that is there."""
    with PromptLab("mine.db") as lab:
        run = lab.experiment.run(experiment())
        changed = dict(run.record.experiment)
        changed["evaluation"][0]["code"]["file"] = str(home / "other.py")
        (home / "other.py").write_text((home / "mine.py").read_text())
        asyncio.run(lab._lab.ledger.update_run(run.run_id, {"experiment": changed}))  # type: ignore[union-attr]
        failing(run.run_id, lab)
        with pytest.raises(UntrustedCodeError, match=r"other\.py"):
            lab.experiment.resume(run.run_id)


def test_without_a_place_for_a_key_code_is_asked_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that is a file, or not there: the run itself goes well."""
    (home / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "file"))
    with PromptLab("mine.db") as lab:
        run = lab.experiment.run(experiment())
        failing(run.run_id, lab)
        with pytest.raises(UntrustedCodeError):
            lab.experiment.resume(run.run_id)
        assert lab.experiment.resume(run.run_id, trust_code=True).record.status == "completed"
