"""The tools of the local AWS: MiniStack and the SAM CLI, each in an environment of its own
under .cloud/, as pinned."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".cloud"
RUNTIMES = ("3.13", "3.12")
"""The Pythons that the template allows, newest first: MiniStack runs functions in its own Python."""


class CloudError(Exception):
    """An error, and what to do about it."""


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command


def find_python() -> tuple[str, str]:
    """A Python that the template allows, and its version.

    Raises:
        CloudError: there is none.
    """
    roots = [Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"]
    candidates = [os.environ["CLOUD_PYTHON"]] if "CLOUD_PYTHON" in os.environ else []
    if not candidates:
        candidates = [sys.executable]
        for version in RUNTIMES:
            candidates += [
                f"python{version}",
                *(str(p) for root in roots for p in sorted(root.glob(f"{version}.*/bin/python{version}"))),
            ]
    for candidate in candidates:
        found = _version(candidate)
        if found in RUNTIMES:
            return candidate, found
    raise CloudError(
        f"The local AWS needs Python {' or '.join(RUNTIMES)}, as the functions do; tried: "
        f"{', '.join(candidates)}. Name one: CLOUD_PYTHON=/path/to/python3.13"
    )


def _version(python: str) -> str | None:
    try:
        out = subprocess.run(
            [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return out.stdout.strip()


def make_venv(name: str, requirements: str, python: str) -> Path:
    """The folder of an environment that holds exactly what a requirements file pins, made anew
    when that file changes."""
    folder, pins = HOME / name, (ROOT / requirements).read_bytes()
    stamp, want = folder / "stamp", hashlib.sha256(pins + (_version(python) or "").encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == want:
        return folder
    say(f"Installing {requirements} into {folder.relative_to(ROOT)} …")
    shutil.rmtree(folder, ignore_errors=True)
    run([python, "-m", "venv", str(folder)])
    run(
        [
            str(folder / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
            str(ROOT / requirements),
        ]
    )
    stamp.write_text(want)
    return folder


def make_tools() -> tuple[Path, Path, str]:
    """The environments of MiniStack and of SAM, and the version of the functions' Python."""
    python, version = find_python()
    return (
        make_venv("ministack", "requirements-ministack.txt", python),
        make_venv("sam", "requirements-cloud.txt", python),
        version,
    )


def run(command: list[str], *, env: dict[str, str] | None = None, log: Path | None = None) -> str:
    """Run a command in the root of the repository and give what it printed.

    Raises:
        CloudError: it failed; with the end of what it printed.
    """
    done = subprocess.run(
        command,
        check=False,
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if log:
        log.write_text(done.stdout)
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-40:])
        raise CloudError(
            f"{Path(command[0]).name} {' '.join(command[1:3])} … failed ({done.returncode}):\n{tail}"
        )
    return done.stdout
