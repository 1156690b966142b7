"""Disks without locks, pipes in place of files, terminals that close, folders that go: clear errors before a
call is paid for, and nothing lost after."""

from __future__ import annotations

import errno
import os
import pty
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from filelock import FileLock

from promptlab import Dataset, PromptLab, PromptTemplate
from promptlab.adapters.local.runner import LocalRunner
from promptlab.cli import commands as cli
from promptlab.errors import DatasetError, PromptLabError
from promptlab.scratch import LOCK, PREFIX, remove_stale
from promptlab.store_lab import StoreLab
from promptlab.wiring import open_parts
from tests.servers import ModelServer, Reply, Request
from tests.unit.test_store_faults import experiment

YAML = """
name: e
dataset: {{name: d, file_path: {rows}}}
prompt_template: {{name: p, user_prompt: <q>}}
model: {{name: openai/m, endpoint: '{url}', api_key_env: ODD_API_KEY, max_concurrent_tasks: 5}}
evaluation: [{{metric: length}}]
"""


def write(folder: Path, url: str, rows: str = "rows.jsonl", count: int = 60) -> Path:
    """An experiment's file, and its dataset beside it."""
    (folder / "rows.jsonl").write_text("".join(f'{{"q": "q{n}"}}\n' for n in range(count)))
    path = folder / "e.yaml"
    path.write_text(YAML.format(rows=rows, url=url))
    return path


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
async def test_a_disk_without_locks_is_a_clear_error_before_any_call(tmp_path: Path, code: int) -> None:
    """Without a lock a second process would pay for the same calls. Nothing is recorded, and no call made."""

    class Refused(FileLock):
        def _acquire(self) -> None:
            raise OSError(code, os.strerror(code))

    parts = open_parts({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    runner = LocalRunner(parts.ledger, parts.blobs, parts.clock, tmp_path / ".locks", lock=Refused)
    lab = StoreLab(replace(parts, runner=runner))
    with ModelServer() as server:
        with pytest.raises(PromptLabError, match=r"lock .* cannot be taken .*give another db_file"):
            await lab.run(experiment(server))
        assert server.requests == [] and (await lab.list_runs())[0] == []
    await lab.close()


def test_a_working_folder_that_is_gone_costs_nothing_that_does_not_need_it(tmp_path: Path) -> None:
    """Paths that are absolute are used as ever; one that counts from there is a clear error."""
    gone = tmp_path / "gone"
    gone.mkdir()
    with ModelServer() as server:
        path = write(tmp_path, server.openai_url)
        command = f"cd {gone} && rmdir {gone} && exec {sys.executable} -m promptlab"
        env = os.environ | {"ODD_API_KEY": "k", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}

        def called(*words: str) -> subprocess.CompletedProcess[str]:
            gone.mkdir(exist_ok=True)
            line = " ".join((command, *words))
            return subprocess.run(
                ["sh", "-c", line], capture_output=True, text=True, env=env, timeout=200, check=False
            )

        whole = called("run", str(path), "--db", str(tmp_path / "lab.db"))
        assert whole.returncode == 0, whole.stderr
        assert "60 of 60" in whole.stdout + whole.stderr
        for words in (["runs"], ["run", str(path)], ["run", "e.yaml", "--db", str(tmp_path / "lab.db")]):
            refused = called(*words)
            assert refused.returncode in (1, 2), refused.stdout
            assert "Error:" in refused.stderr and "Traceback" not in refused.stderr, refused.stderr
        assert len(server.requests) == 60


@pytest.mark.parametrize("kind", ["dataset", "experiment", "store", "prompt", "messages"])
def test_a_pipe_in_place_of_a_file_does_not_hang(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody will ever write into it."""
    monkeypatch.setenv("ODD_API_KEY", "k")
    path = write(tmp_path, "http://127.0.0.1:1/v1")
    pipe = tmp_path / ("pipe.yaml" if kind == "experiment" else "pipe.jsonl")
    os.mkfifo(pipe)
    if kind == "dataset":
        path = write(tmp_path, "http://127.0.0.1:1/v1", rows=str(pipe))
        with (
            pytest.raises(DatasetError, match="not a regular file"),
            PromptLab({"db_file": str(tmp_path / "lab.db")}) as pl,
        ):
            pl.asset.create(Dataset(name="d", file_path=pipe))
    elif kind in ("prompt", "messages"):
        field = f"user_prompt: 'file:{pipe}'" if kind == "prompt" else f"messages: 'file:{pipe}'"
        path.write_text(path.read_text().replace("user_prompt: <q>", field))
    db = pipe if kind == "store" else tmp_path / "lab.db"
    given = pipe if kind == "experiment" else path
    process = subprocess.run(
        [sys.executable, "-m", "promptlab", "run", str(given), "--db", str(db)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=200,
        check=False,
    )
    assert process.returncode == 2, process.stderr
    assert "Error:" in process.stderr and "Traceback" not in process.stderr


INGEST = """
import sys, tempfile
from promptlab import Dataset, PromptLab
with PromptLab({"db_file": sys.argv[1]}) as pl:
    pl.asset.create(Dataset(name="d", file_path=sys.argv[2]))
"""


def test_what_a_killed_ingest_left_is_removed_by_the_next_process(tmp_path: Path) -> None:
    """Neither the temporary folder nor the store keeps half a dataset."""
    temporary, rows = tmp_path / "tmp", tmp_path / "rows.jsonl"
    temporary.mkdir()
    with rows.open("w") as file:
        for number in range(300_000):
            file.write(f'{{"q": "{number} {"x" * 60}"}}\n')
    env = os.environ | {"TMPDIR": str(temporary)}
    command = [sys.executable, "-c", INGEST, str(tmp_path / "lab.db")]
    process = subprocess.Popen([*command, str(rows)], env=env)
    try:
        while not [p for p in temporary.glob(f"{PREFIX}*/*") if p.name != LOCK and p.stat().st_size]:
            assert process.poll() is None, "it was over before it could be killed"
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait(200) == -signal.SIGKILL
    finally:
        process.kill()
    for folder in temporary.iterdir():
        os.utime(folder / LOCK, (0, 0))  # as an hour later
    small = tmp_path / "small.jsonl"
    small.write_text('{"q": "1"}\n')
    subprocess.run([*command, str(small)], env=env, check=True)
    assert list(temporary.iterdir()) == []
    with PromptLab({"db_file": str(tmp_path / "lab.db")}) as pl:
        assert [len(dataset) for dataset in pl.asset.list("dataset")] == [1]


def test_a_terminal_that_closes_keeps_the_answers_in_flight(tmp_path: Path) -> None:
    """A real one: the command leads its session, and its terminal hangs up in the middle of the run."""

    def answer(request: Request) -> Reply:
        return Reply(text="ok", delay_s=0.3)

    with ModelServer(answer) as server:
        path, db = write(tmp_path, server.openai_url), tmp_path / "lab.db"
        with PromptLab({"db_file": str(db)}) as pl:  # a command on a terminal asks before it makes a store
            pl.asset.create(PromptTemplate(name="p", user_prompt="<q>"))
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ["ODD_API_KEY"] = "k"
            words = [sys.executable, "-m", "promptlab", "run", str(path), "--db", str(db)]
            os.execv(sys.executable, words)
        try:
            server.wait_for_requests(25, 60)
            os.close(terminal)
            _, status = os.waitpid(pid, 0)
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            raise
        assert os.waitstatus_to_exitcode(status) in (-signal.SIGHUP, 128 + signal.SIGHUP)
        with PromptLab({"db_file": str(db)}) as pl:
            [run] = pl.experiment.list()
            assert run.status == "interrupted"
            assert len(list(run.results())) == len(server.requests) < 60


SLOW = """
import sys
from promptlab import PromptLab
from tests.unit.test_odd_machines import slow
PromptLab({"db_file": sys.argv[1]}).experiment.run(slow(sys.argv[2]))
"""


def slow(url: str) -> dict[str, Any]:
    return {
        "name": "slow",
        "dataset": {"name": "d", "rows": [{"q": f"q{n}"} for n in range(40)]},
        "prompt_template": {"name": "p", "user_prompt": "<q>"},
        "model": {"name": "openai/m", "endpoint": url, "max_concurrent_tasks": 2, "api_key": "k" * 30},
    }


def test_the_time_of_a_killed_pass_is_in_the_time_of_the_run(tmp_path: Path) -> None:
    """What the run took is what its passes took, whichever way they ended."""
    with ModelServer(lambda request: Reply(text="ok", delay_s=0.2)) as server:
        db = tmp_path / "lab.db"
        process = subprocess.Popen([sys.executable, "-c", SLOW, str(db), server.openai_url])
        try:
            server.wait_for_requests(26, 60)  # 12 waves of 0.2 s
            process.send_signal(signal.SIGKILL)
            process.wait(200)
        finally:
            process.kill()
        with PromptLab({"db_file": str(db)}, quiet=True) as pl:
            [killed] = pl.experiment.list()
            # A look each second records it: of 2.4 s at least one second is there.
            assert killed.record.wall_s >= 1
            resumed = killed.resume({**slow(server.openai_url)})
            assert resumed.status == "completed"
            assert resumed.record.wall_s >= killed.record.wall_s + 0.2


def test_stale_folders_without_a_lock_are_left_alone(tmp_path: Path) -> None:
    """They may be somebody else's, whatever they are called."""
    (tmp_path / f"{PREFIX}notes").mkdir()
    remove_stale(tmp_path)
    assert (tmp_path / f"{PREFIX}notes").exists()


def test_a_command_with_a_pipe_for_a_store_says_so(tmp_path: Path) -> None:
    """Every command that opens one."""
    os.mkfifo(tmp_path / "pipe.db")
    for words in (["runs"], ["show", "latest"], ["datasets"], ["doctor", str(tmp_path / "pipe.db")]):
        more = [] if words[0] == "doctor" else ["--db", str(tmp_path / "pipe.db")]
        done = CliRunner().invoke(cli, [*words, *more])
        assert done.exit_code == 2, (words, done.output)
        assert "pipe" in done.output, done.output
