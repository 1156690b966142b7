"""The arrows between the parts of the project are held."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter with the contracts of a folder."""
    arguments = ["--config", "pyproject.toml", "--no-cache", "--no-logo"]
    return subprocess.run(
        [sys.executable, "-c", _LINT, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


def test_imports_follow_the_arrows() -> None:
    """No module imports what is above it (pyproject.toml, tool.importlinter)."""
    pytest.importorskip("importlinter")
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout
    assert "Contracts: 0 kept" not in done.stdout


def test_an_import_against_the_arrows_is_found(tmp_path: Path) -> None:
    """The check can fail: domain that imports the engine breaks such a contract."""
    pytest.importorskip("importlinter")
    package = tmp_path / "arrows"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "engine.py").touch()
    (package / "domain.py").write_text("from arrows import engine\n")
    contract = (
        '[tool.importlinter]\nroot_packages = ["arrows"]\n[[tool.importlinter.contracts]]\nname = '
        '"layers"\ntype = "layers"\n'
    )
    (tmp_path / "pyproject.toml").write_text(f'{contract}layers = ["arrows.engine", "arrows.domain"]\n')
    done = lint(tmp_path)
    assert done.returncode == 1
    assert "arrows.domain is not allowed to import arrows.engine" in done.stdout


def test_the_picture_of_the_layers_is_drawn_from_what_is_checked() -> None:
    """`make layers` would change nothing."""
    specification = importlib.util.spec_from_file_location("layers_picture", ROOT / "infra/layers_picture.py")
    assert specification and specification.loader
    drawing = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(drawing)
    assert drawing.PICTURE.read_text() == drawing.draw(), "run `make layers`"


@pytest.mark.parametrize(
    "name",
    [
        *("Columns", "Parts", "Stack", "Draft", "Verdict", "Work", "Estimate", "Interval", "CasePage"),
        *("kind_of", "text_of", "dollars", "_score"),
    ],
)
def test_a_name_that_stood_for_several_things_stands_for_one(name: str) -> None:
    """Whoever reads `Interval` anywhere reads of the same one."""
    assert len(_defined().get(name, ())) <= 1, _defined()[name]


@cache
def _defined() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for folder in ("promptlab", "studio/promptlab_studio", "functions"):
        for path in (ROOT / folder).rglob("*.py"):
            for made in ast.parse(path.read_text(encoding="utf-8")).body:
                for name in _names(made):
                    found.setdefault(name, []).append(str(path.relative_to(ROOT)))
    return found


def _names(made: ast.stmt) -> set[str]:
    if isinstance(made, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {made.name}
    targets = made.targets if isinstance(made, ast.Assign) else [getattr(made, "target", None)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def test_the_docstring_of_a_function_begins_with_a_verb() -> None:
    """Never with Of, Who, That or What; those of the API's routes are the words of its pages."""
    found = [
        f"{path.relative_to(ROOT)}:{made.lineno}"
        for folder in ("promptlab", "studio/promptlab_studio", "functions", "infra", "samples")
        for path in (ROOT / folder).rglob("*.py")
        if path.parent != ROOT / "studio/promptlab_studio/api"
        for made in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(made, ast.FunctionDef | ast.AsyncFunctionDef)
        and not any("property" in ast.unparse(decorator) for decorator in made.decorator_list)
        and (ast.get_docstring(made) or "").startswith(("Of ", "Who ", "That ", "What "))
    ]
    assert found == []
