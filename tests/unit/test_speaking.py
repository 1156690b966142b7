"""Output of a run in a script, in a process of its own."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

RUN = """
from promptlab import PromptLab
pl = PromptLab()
run = pl.experiment.run({
    "name": "sums", "dataset": {"name": "sums", "rows": [{"a": n} for n in range(5)]},
    "prompt_template": {"name": "ask", "user_prompt": "<a>"}, "model": "simulated/demo",
}%s)
print(run.status)
"""


def script(folder: Path, code: str, *, name: str = "script.py", **environment: str) -> tuple[str, str]:
    """Standard output and standard error of a script that ends well."""
    (folder / name).write_text(code)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PROMPTLAB")}
    done = subprocess.run(
        [sys.executable, name],
        cwd=folder,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_a_script_says_how_far_it_is_and_what_to_do_next(tmp_path: Path) -> None:
    """Lines on standard error; standard output is the script's own."""
    out, err = script(tmp_path, RUN % "")
    assert out == "completed\n"
    assert "sums: run " in err and "5 of 5 done, 0 failed" in err and "promptlab studio" in err


@pytest.mark.parametrize("way", ["argument", "environment", "callback"])
def test_a_script_is_quiet_on_request(tmp_path: Path, way: str) -> None:
    """By `quiet=True` or PROMPTLAB_QUIET; whoever shows progress alone sees no other."""
    more = {"argument": ", quiet=True", "callback": ", on_progress=lambda p: None"}.get(way, "")
    out, err = script(tmp_path, RUN % more, **({"PROMPTLAB_QUIET": "1"} if way == "environment" else {}))
    assert out == "completed\n"
    assert "done" not in err and (way == "callback" or err == "")


def test_a_terminal_gets_a_bar(tmp_path: Path) -> None:
    """With its percentage, in place."""
    (tmp_path / "script.py").write_text(RUN % "")
    master, slave = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "PROMPTLAB_QUIET")}
    process = subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**environment, "TERM": "xterm", "COLUMNS": "80"},
        stdout=subprocess.DEVNULL,
        stderr=slave,
    )
    os.close(slave)
    said = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:
            break
        if not piece:
            break
        said += piece
    os.close(master)
    assert process.wait(200) == 0
    assert b"100%" in said and b"\x1b[" in said and b"5 of 5 done" in said


@pytest.mark.parametrize("name", ["studio.py", "types.py", "queries.py", "report.py"])
def test_a_script_may_have_the_name_of_a_part(tmp_path: Path, name: str) -> None:
    """Nothing of PromptLab is called so."""
    out, _ = script(tmp_path, RUN % "", name=name)
    assert out == "completed\n"
