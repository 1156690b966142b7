"""The documentation holds: its examples run, its YAML is valid, its links lead
somewhere, its commands exist."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import inspect
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from promptlab import EvaluationConfig, ExperimentConfig, ModelConfig
from promptlab.domain.stopping import StopConfig
from promptlab.experiments.matrix import SweepConfig, has_matrix

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("**/*.md")),
    *sorted((ROOT / "samples").glob("**/README.md")),
]
_BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"(?:^|[|&;])\s*(?:[A-Z_]+=\S+\s+)*promptlab\b([^|&;>#\n]*)", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: Path
    line: int
    """The number of its first line of content, from 1."""
    info: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        for match in _BLOCK.finditer(text):
            if match[1].split(" ")[0] in languages:
                found.append(Block(page, text.count("\n", 0, match.start()) + 2, match[1].strip(), match[2]))
    return found


def test_tests_that_pages_name_are_there() -> None:
    """Who says what proves something names a file: with its folder, or one of tests/studio or tests/unit."""
    for page in PAGES:
        for named in re.findall(r"\b(?:tests/\w+/)?test_\w+\.py\b", page.read_text("utf-8")):
            tests = ROOT / "tests"
            places = [ROOT / named] if "/" in named else [tests / "studio" / named, tests / "unit" / named]
            assert any(place.is_file() for place in places), f"{name_of(page)}: there is no {named}"


def pages_with_python() -> list[Path]:
    return [page for page in PAGES if any(block.page == page for block in blocks("python"))]


def name_of(value: object) -> str:
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else str(value)


@pytest.fixture
def module(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """Make a module in which the examples of a page define their names, as in a script."""
    made = ModuleType(f"docs_{request.node.callspec.params['page'].stem.lower()}")
    sys.modules[made.__name__] = made
    yield made
    del sys.modules[made.__name__]


@pytest.mark.parametrize("page", pages_with_python(), ids=name_of)
def test_python_examples_run_in_order(
    page: Path, module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As written, one after another, in an empty folder, offline and without keys."""
    monkeypatch.chdir(tmp_path)
    for variable in ("OPENAI_API_KEY", "PROMPTLAB_DB"):
        monkeypatch.delenv(variable, raising=False)
    for block in blocks("python"):
        if block.page == page:
            # Blank lines before it, so that a traceback has the page's own line.
            source = "\n" * (block.line - 1) + block.text
            code = compile(source, name_of(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            if block.info == "python":
                run_cell(code, vars(module))


def run_cell(code: Any, names: dict[str, Any]) -> None:
    """Run a block as a notebook does, where `await` may stand outside of functions."""
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(eval(code, names))
    else:
        exec(code, names)


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_examples_are_valid(block: Block) -> None:
    """A whole experiment parses; so does each part that stands alone."""
    value = yaml.safe_load(block.text)
    assert isinstance(value, dict)
    if "dataset" in value:
        if has_matrix(value):
            SweepConfig.parse(value)
        else:
            ExperimentConfig.parse(value)
        return
    known = {"evaluation", "model", "embedding_model", "stop"}
    assert value.keys() <= known, (
        f"{block}: neither a whole experiment nor parts of one: {value.keys() - known}"
    )
    for item in value.get("evaluation", ()):
        EvaluationConfig.model_validate(item)
    if "stop" in value:
        StopConfig.model_validate(value["stop"])
    for name in {"model", "embedding_model"} & value.keys():
        ModelConfig.model_validate(value[name])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    """Every link inside the project: the file is there, and so is the heading."""
    text = _BLOCK.sub("", page.read_text("utf-8"))
    broken = []
    for target in re.findall(r"!?\[[^\]]*\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, by GitHub's rule, and those written out."""
    text = _BLOCK.sub("", page.read_text("utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r'<a id="([^"]+)">', text))


@pytest.mark.parametrize(
    "block", [b for b in blocks("console", "sh") if _COMMAND.search(b.text.replace("$ ", ""))], ids=str
)
def test_commands_and_their_options_exist(block: Block) -> None:
    """Each `promptlab …` line names a command that there is, with options that it has."""
    commands = pytest.importorskip("promptlab.cli").commands
    for arguments in _COMMAND.findall(re.sub(r"^\$ ", "", block.text, flags=re.MULTILINE)):
        words = arguments.split()
        command = commands
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert command is not commands or not words or words[0].startswith("-"), (
            f"{block}: no command {words[0]!r}"
        )
        named = ((*parameter.opts, *parameter.secondary_opts) for parameter in command.params)
        options = {option for names in named for option in names} | {"--help", "-h"}
        assert {w.partition("=")[0] for w in words if re.match(r"--?[a-z]", w)} <= options, (
            f"{block}: promptlab{arguments}"
        )


@pytest.mark.parametrize(
    "block", [b for b in blocks("console", "sh") if re.search(r"^(\$ )?make ", b.text, re.MULTILINE)], ids=str
)
def test_make_verbs_exist(block: Block) -> None:
    """Each `make …` line names a target of the Makefile, or of what it includes."""
    files = [ROOT / "Makefile", *(ROOT / "infra").glob("*.mk")]
    targets = {
        target
        for file in files
        for target in re.findall(r"^([a-z-]+):", file.read_text("utf-8"), re.MULTILINE)
    }
    assert set(re.findall(r"^(?:\$ )?make ([a-z-]+)", block.text, re.MULTILINE)) <= targets


def readme_commands() -> list[str]:
    """The README's console lines, but for the one that serves until Ctrl-C."""
    lines = [
        line.removeprefix("$ ")
        for block in blocks("console")
        if block.page == ROOT / "README.md"
        for line in block.text.splitlines()
    ]
    return [line for line in lines if line != "promptlab studio"]


def test_commands_of_the_readme_work_as_printed(tmp_path: Path) -> None:
    """One after another, in a folder with nothing but the samples, offline and without keys: each exits with
    0."""
    ignored = shutil.ignore_patterns("promptlab.db*", "__pycache__")
    shutil.copytree(ROOT / "samples", tmp_path / "samples", ignore=ignored)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PROMPTLAB_") and not k.endswith("_KEY")}
    kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    commands = readme_commands()
    assert any("--fail-if" in command for command in commands) and len(commands) >= 5
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=kept, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def test_the_experiment_of_the_readme_is_that_of_the_samples() -> None:
    """Whoever reads it there can run it."""
    (shown,) = [block.text for block in blocks("yaml") if block.page == ROOT / "README.md"]
    assert shown == (ROOT / "samples" / "quickstart" / "gate.yaml").read_text("utf-8")


def test_pictures_of_statistics_are_drawn_from_the_formulas() -> None:
    """`make pictures` would change nothing."""
    place = ROOT / "infra" / "statistics_pictures.py"
    specification = importlib.util.spec_from_file_location("statistics_pictures", place)
    assert specification and specification.loader
    drawing = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(drawing)
    for name, picture in drawing.drawn().items():
        assert (drawing.FOLDER / name).read_text("utf-8") == picture, f"{name}: run `make pictures`"


def test_the_demo_names_a_port_that_is_taken() -> None:
    """Before anything is run, with the variable that chooses another one."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, str(ROOT / "infra" / "free_port.py"), str(port)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and f"Port {port} " in done.stderr and "make demo PORT=" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_checks_find_what_they_look_for() -> None:
    """The patterns see the examples that are there: a check of nothing would pass."""
    assert len(pages_with_python()) >= 5
    assert len([b for b in blocks("yaml") if "dataset:" in b.text]) >= 2
    assert _COMMAND.findall("promptlab run x.yaml --json > f && PROMPTLAB_DB=x promptlab runs | cat") == [
        " run x.yaml --json ",
        " runs ",
    ]
    assert "what-is-promised-of-a-run" in anchors(ROOT / "docs" / "concepts.md")
