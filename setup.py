"""Builds the package. All that is known of it is in pyproject.toml; here is what the build has to do besides."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class BuildPy(build_py):
    """Builds the Studio's front-end files where they are not there yet, and takes nothing from an earlier build."""

    def run(self) -> None:
        if not self.editable_mode:
            # Setuptools never forgets a module that was there when it built before.
            shutil.rmtree(self.build_lib, ignore_errors=True)
            if not (ROOT / "studio" / "promptlab_studio" / "static" / "manifest.json").exists():
                subprocess.run(
                    ["bash", str(ROOT / "frontend" / "build.sh"), sys.executable],
                    check=True,
                    stdout=sys.stderr,
                )
        super().run()


setup(cmdclass={"build_py": BuildPy})
