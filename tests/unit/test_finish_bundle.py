"""What the bundle of the functions is made smaller by."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import regex

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); import regex; assert regex.match(r'\\p{L}+', 'für')"


def finish() -> object:
    """The program, which is no module of a package."""
    spec = importlib.util.spec_from_file_location("finish_bundle", ROOT / "infra" / "finish_bundle.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(sys.platform != "linux", reason="the functions run on Linux")
def test_a_library_without_its_symbols_loads_as_before_and_takes_less_room(tmp_path: Path) -> None:
    """Its bytes are where they were."""
    shutil.copytree(Path(regex.__file__).parent, tmp_path / "regex")
    (library,) = (tmp_path / "regex").glob("_regex*.so")
    before = library.read_bytes()
    finish().blank_symbols(library)  # type: ignore[attr-defined]
    after = library.read_bytes()
    assert len(after) == len(before) and len(zlib.compress(after, 1)) < len(zlib.compress(before, 1))
    subprocess.run([sys.executable, "-I", "-S", "-c", PROGRAM, tmp_path], check=True)


def test_what_is_no_library_stays_as_it_is(tmp_path: Path) -> None:
    """A linker's script may have such a name."""
    script = tmp_path / "libodd.so"
    script.write_text("INPUT(libodd.so.1)")
    finish().blank_symbols(script)  # type: ignore[attr-defined]
    assert script.read_text() == "INPUT(libodd.so.1)"
