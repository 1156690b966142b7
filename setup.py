"""Builds the package. All that is known of it is in pyproject.toml; here is what the
build has to do besides."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent


def build_front_end() -> None:
    """Build the Studio's front-end files, unless they are there (as in a source distribution)."""
    if not (ROOT / "studio" / "promptlab_studio" / "static" / "manifest.json").exists():
        script = ROOT / "frontend" / "build.sh"
        subprocess.run(["bash", str(script), sys.executable], check=True, stdout=sys.stderr)


class BuildPy(build_py):
    """Builds the front end first, and takes nothing from an earlier build."""

    def run(self) -> None:
        if not self.editable_mode:
            # Setuptools never forgets a module that was there when it built before.
            shutil.rmtree(self.build_lib, ignore_errors=True)
            build_front_end()
        super().run()


class Sdist(sdist):
    """Packs the built front end, so that whoever builds from the archive needs no Node."""

    def run(self) -> None:
        build_front_end()
        super().run()


setup(cmdclass={"build_py": BuildPy, "sdist": Sdist})
