"""The SDK under type checkers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
from typing import Any, assert_type

from promptlab import Dataset, PromptLab, PromptTemplate

lab = PromptLab()
assert_type(lab.asset.get("a", kind="dataset"), Dataset)
assert_type(lab.asset.get("a", 3, kind="prompt_template"), PromptTemplate)
assert_type(lab.asset.get("a", label="production", kind="dataset").columns, tuple[str, ...])
assert_type(lab.asset.create(Dataset(name="d", rows=[])), Dataset)


async def later() -> None:
    assert_type(await lab.asset.get_async("a", kind="dataset"), Dataset)
    assert_type(await lab.asset.get_async("a", kind="prompt_template"), PromptTemplate)


def anything(value: Any) -> None:
    assert_type(lab.asset.get("a"), Any)
"""


@pytest.mark.long
def test_an_asset_has_the_type_of_its_kind(tmp_path: Path) -> None:
    """`kind` decides, in sync and async calls alike."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--follow-imports=silent"]
    command += ["--config-file=", f"--cache-dir={tmp_path}/cache", str(program)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2], timeout=300
    )
    assert done.stdout == "", done.stdout
