"""The command line's name in hints: a shell in the same folder can run it as printed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = f"#!{sys.executable}\nfrom promptlab.cli import main\nmain()\n"
ELSEWHERE = os.defpath
"""A PATH without any promptlab."""


def sh(command: str, folder: Path, path: str) -> subprocess.CompletedProcess[str]:
    """Run a command as somebody types it in `folder`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PROMPTLAB")}
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**kept, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def installed(folder: Path, text: str = SCRIPT) -> Path:
    """A script as pip writes it."""
    folder.mkdir(parents=True)
    script = folder / "promptlab"
    script.write_text(text)
    script.chmod(0o755)
    return script


@pytest.mark.parametrize(
    ("started", "path", "named"),
    [
        ("promptlab", "bin", "promptlab"),
        ("bin/promptlab", "", "bin/promptlab"),
        ('"$PWD/bin/promptlab"', "", "bin/promptlab"),
        ("bin/promptlab", "others", "bin/promptlab"),  # PATH has another environment's
        ("'my bin/promptlab'", "", "'my bin/promptlab'"),
        (f"{sys.executable} -m promptlab", "bin", f"{sys.executable} -m promptlab"),
    ],
)
def test_a_hint_names_the_command_as_it_was_started(
    tmp_path: Path, started: str, path: str, named: str
) -> None:
    """The printed command runs in the shell that printed it."""
    for folder, text in (("bin", SCRIPT), ("my bin", SCRIPT), ("others", "#!/bin/sh\nexit 9\n")):
        installed(tmp_path / folder, text)
    found = f"{tmp_path / path}{os.pathsep}{ELSEWHERE}" if path else ELSEWHERE
    said = sh(f"{started} init e.yaml", tmp_path, found)
    assert said.returncode == 0, said.stderr
    hint = said.stderr.strip().partition(" Next: ")[2]
    assert hint == f"{named} run e.yaml"
    assert sh(f"{hint} --help", tmp_path, found).returncode == 0
    wrong = sh(f"{started} run --no-such-option", tmp_path, found).stderr
    assert f"Try '{named} run --help' for help." in wrong


def test_a_script_names_the_command_of_its_own_environment(tmp_path: Path) -> None:
    """Beside its interpreter; by its name alone where PATH leads to the same file."""
    own = Path(sys.executable).with_name("promptlab")
    ask = f"{sys.executable} -c 'from promptlab.program import program; print(program())'"
    assert sh(ask, tmp_path, ELSEWHERE).stdout.strip() == str(own)
    assert sh(ask, own.parents[1], ELSEWHERE).stdout.strip() == f"{own.parent.name}/promptlab"
    assert sh(ask, tmp_path, f"{own.parent}{os.pathsep}{ELSEWHERE}").stdout.strip() == "promptlab"


def test_without_a_script_the_name_stands_alone(tmp_path: Path) -> None:
    """As in a Lambda function: who reads the message is elsewhere."""
    (tmp_path / "python3").symlink_to(sys.executable)
    (tmp_path / "bootstrap").write_text("from promptlab.program import program\nprint(program())\n")
    command = [str(tmp_path / "python3"), "-S", str(tmp_path / "bootstrap")]
    env = {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "PATH": ELSEWHERE}
    said = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200, check=False)
    assert said.stdout == "promptlab\n", said.stderr
