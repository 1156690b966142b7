"""The name of the command line, as a shell in this folder finds it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

NAME = "promptlab"
_SUFFIX = ".exe" if sys.platform == "win32" else ""


def program() -> str:
    """Name the command line so that a hint works as printed.

    Whoever started it as `python -m promptlab`, or by a path, does so again; `promptlab` alone is for a
    shell that finds this very installation by it. Where there is no script, as in a Lambda function, the
    reader is elsewhere and has one: `promptlab`.
    """
    import shlex  # of all errors few are ever printed

    begun = Path(sys.argv[0] if sys.argv else "")
    if begun.parts[-2:] == (NAME, "__main__.py"):
        return f"{shlex.quote(sys.orig_argv[0])} -m {NAME}"
    script = begun if begun.stem == NAME else Path(sys.executable).with_name(NAME + _SUFFIX)
    if not script.is_file() or _is_found(script):
        return NAME
    return shlex.quote(str(_from_here(script)))


def is_deployed() -> bool:
    """Whether this is a function of a deployed lab: who reads its errors can install or set nothing in it."""
    return "AWS_LAMBDA_FUNCTION_NAME" in os.environ


def _is_found(script: Path) -> bool:
    """Check whether a shell finds the script by its name: PATH may have another environment's."""
    import shutil

    found = shutil.which(NAME)
    return found is not None and Path(found).samefile(script)


def _from_here(script: Path) -> Path:
    """Shorten a path below the working folder, as in `.venv/bin/promptlab`; any other is whole, so that
    it holds wherever it is pasted."""
    whole = script.absolute()
    try:
        return whole.relative_to(Path.cwd())
    except (ValueError, OSError):  # it is elsewhere, or the folder is gone
        return whole
