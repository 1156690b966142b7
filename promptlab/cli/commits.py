"""The commit that a run is made at: what is given, or what git and the machinery of a pipeline say."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import click

AUTO = "auto"
VARIABLES = (
    "GITHUB_SHA",
    "CI_COMMIT_SHA",
    "BITBUCKET_COMMIT",
    "BUILDKITE_COMMIT",
    "CIRCLE_SHA1",
    "BUILD_SOURCEVERSION",
    "GIT_COMMIT",
    "DRONE_COMMIT_SHA",
    "TRAVIS_COMMIT",
    "CODEBUILD_RESOLVED_SOURCE_VERSION",
)
"""The variables of GitHub, GitLab, Bitbucket, Buildkite, CircleCI, Azure, Jenkins, Drone, Travis and
CodeBuild."""
_HASH = re.compile(r"[0-9a-f]{7,64}")
GIT_S = 10.0

commit_option = click.option(
    "--commit",
    metavar="COMMIT",
    help="The commit that the run is made at; auto: what the pipeline's environment or git says.",
)


def found_commit(given: str | None, folder: Path, environment: Mapping[str, str] = os.environ) -> str | None:
    """Give the commit that is given; for `auto` that of the environment, else of the folder's repository.

    Raises:
        click.UsageError: neither says one.
    """
    if given != AUTO:
        return given
    for name in VARIABLES:
        if _HASH.fullmatch(value := environment.get(name, "")):
            return value
    try:
        asked = ["git", "-C", str(folder or Path()), "rev-parse", "HEAD"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=GIT_S, check=False)
        if done.returncode == 0 and _HASH.fullmatch(found := done.stdout.strip()):
            return found
        why = done.stderr.strip().splitlines()[-1:] or ["it says none"]
    except (OSError, subprocess.TimeoutExpired) as error:
        why = [str(error)]
    raise click.UsageError(
        f"--commit auto: none of {', '.join(VARIABLES)} is set, and git says: "
        f"{why[0][:200]}. Give the commit."
    )
