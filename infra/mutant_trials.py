"""Which tests reach a changed line, and whether they notice the change (for mutants.py)."""

from __future__ import annotations

import ast
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from xml.etree import ElementTree

from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from coverage import CoverageData

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "mutants"
TESTS = ("tests/unit", "tests/contract", "tests/functions", "tests/studio")
LEFT_OUT = "not cloud and not long"
AS_ANOTHER_USER = (
    "tests/unit/test_sqlite_file.py::test_a_folder_that_may_not_be_written_is_named",
    "tests/unit/test_store_faults.py::test_a_store_that_may_only_be_read_shows_its_runs",
)
"""Tests in which coverage cannot write its file."""
WORKERS = 2
LOOK_AT_ALL = ("tests/unit/test_values.py", "tests/unit/test_api.py", "tests/unit/test_experiment_file.py")
"""Tests that look at what was imported; those with a class for each parameter at those of the module."""
IN_A_CHILD = {
    "promptlab/domain/jinja.py": "promptlab/domain/templates.py",
    "promptlab/engine/process_child.py": "promptlab/engine/processes.py",
    "promptlab/engine/watchdog_child.py": "promptlab/engine/watchdog.py",
}
"""Modules that run in child processes, of which coverage knows nothing, and who asks them."""
ROUNDS = ((80, 10.0), (1_500, 60.0))
"""The most tests that a change meets, and the most seconds that they took without it: first the nearest, and
where none noticed the shortest, of which so many fit in."""
GRACE_S, PATIENCE = 30.0, 6
"""A test counts as hung when it takes this much longer (seconds), and so many times as long, as it should."""
PROBLEMS = ("failure", "error", "skipped")
ASSERTION, ERROR, TIME_OUT, UNNOTICED = "assertion", "error", "time-out", "unnoticed"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One small change of one module."""

    module: str
    line: int
    operator: str
    occurrence: int

    def changed(self) -> str:
        """Give the module's code with the change."""
        before = (ROOT / self.module).read_text()
        after: str | None = mutate_code(before, get_operator(self.operator)(), self.occurrence)
        if after is None or after == before:
            raise ValueError(f"{self} changes nothing")  # it would count as noticed, or not, for no reason
        return after

    def compiles(self) -> bool:
        """Check that the changed code is Python, and gives no warning (as `is` with a string does).

        Any test notices the other changes: they would only make the share look better.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                changed = self.changed()
                compile(changed, self.module, "exec", dont_inherit=True)
            except (SyntaxError, ValueError, AttributeError):  # Cosmic Ray itself stumbles over `except a.b`
                return False
        # Cosmic Ray takes the star before keyword-only parameters for a product, and makes a slash of it.
        return _positional(changed) == _positional((ROOT / self.module).read_text())

    def in_function(self) -> bool:
        """Check whether the change is in what runs when a function is called."""
        nodes = ast.walk(ast.parse((ROOT / self.module).read_text()))
        functions = (node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
        return any(f.body[0].lineno <= self.line <= (f.end_lineno or 0) for f in functions)

    def words(self) -> str:
        """Give the change as the first line that it changes, before and after."""
        before, after = (ROOT / self.module).read_text().splitlines(), self.changed().splitlines()
        old, new = next((x.strip(), y.strip()) for x, y in zip(before, after, strict=False) if x != y)
        return f"{self.module}: `{old}` → `{new}`"


@dataclass(frozen=True, slots=True)
class Fate:
    """The outcome of a change: the way it was noticed, if it was, and the test that did."""

    how: str
    test: str = ""


def _positional(code: str) -> int:
    return sum(len(n.posonlyargs) for n in ast.walk(ast.parse(code)) if isinstance(n, ast.arguments))


# --------------------------------------------------------------------------- which tests


@dataclass(frozen=True)
class Reach:
    """The tests that reach each line, and how long each test takes (seconds)."""

    lines: dict[str, dict[str, list[str]]]
    seconds: dict[str, float]

    @cached_property
    def breadth(self) -> Counter[str]:
        """The number of lines of the whole library that each test reaches."""
        return Counter(name for module in self.lines.values() for names in module.values() for name in names)

    def tests(self, mutant: Mutant) -> list[str]:
        """List the tests for a change, those first for which its module is most of what they reach.

        What runs in a child process is reached by those that reach the module which asks it. What runs at
        import is reached by the test that imports it first: there all tests are meant of the files in which
        one reaches the module, and those that look at what was imported.
        """
        module = self.lines.get(mutant.module, {})
        asker = self.lines.get(IN_A_CHILD.get(mutant.module, ""), {})
        depth = Counter(name for names in (*module.values(), *asker.values()) for name in names)
        names, first = module.get(str(mutant.line)), []

        def share(name: str) -> float:
            return depth[name] / self.breadth[name] if name in depth else 0.0

        if not names or mutant.module in IN_A_CHILD or not mutant.in_function():
            dotted = mutant.module.removesuffix(".py").replace("/", ".")
            every = (name for name in self.seconds if name.startswith(LOOK_AT_ALL))
            first = [name for name in every if "[" not in name or f"[{dotted}." in name]
            nearest: dict[str, float] = {}
            for name in depth:
                nearest[file_of(name)] = max(nearest.get(file_of(name), 0.0), share(name))
            names = [name for name in self.seconds if file_of(name) in nearest]
            names.sort(key=lambda name: (-nearest[file_of(name)], -share(name), self.seconds[name], name))
        else:
            names = sorted(names, key=lambda name: (-share(name), self.seconds[name], name))
        return list(dict.fromkeys((*first, *names)))

    def rounds(self, mutant: Mutant) -> Iterator[list[str]]:
        """Divide the tests for a change into those that it meets first, and those for what is left."""
        names = self.tests(mutant)
        for most, left in ROUNDS:
            chosen: list[str] = []
            for name in names:
                if len(chosen) < most and self.seconds[name] < left:
                    left -= self.seconds[name]
                    chosen.append(name)
            if names:
                yield chosen or [min(names, key=lambda name: self.seconds[name])]
            names = sorted((name for name in names if name not in chosen), key=self.seconds.__getitem__)


def file_of(name: str) -> str:
    """Give a test's file."""
    return name.partition("::")[0]


def measured() -> Reach:
    """Run the tests once under coverage, or read what an earlier run of the same commit found.

    They run in a copy, as they will with a change: a test that is red there can notice none.
    """
    asked = ["git", "rev-parse", "HEAD"]
    commit = subprocess.run(asked, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    kept = BUILD / "reach.json"
    if kept.exists() and (found := json.loads(kept.read_text()))["commit"] == commit:
        return Reach(found["lines"], found["seconds"])
    folder, report, data, settings = (
        copied("measured"),
        *(BUILD / x for x in ("measured.xml", "coverage", "rc")),
    )
    settings.write_text(f"[run]\ndata_file = {data}\nsource = promptlab\n")
    spread = ["-n", str(WORKERS), "--dist", "loadfile", "-m", LEFT_OUT, "--continue-on-collection-errors"]
    spread += [f"--deselect={name}" for name in AS_ANOTHER_USER]
    cover = ["--cov=promptlab", f"--cov-config={settings}", "--cov-context=test", "--cov-report="]
    done = subprocess.run(
        [*pytest(report), *spread, *cover, *TESTS], cwd=folder, env=environment(folder), check=False
    )
    cases = list(read(report))
    # On a busy machine a test takes many times as long as it works, and most would not fit into a round.
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    works = min(1.0, (used.ru_utime + used.ru_stime) / sum(took for _, took, _ in cases))
    seconds = {name: took * works for name, took, problems in cases if not problems}
    sys.stdout.write(f"{len(seconds)} tests measured, {len(cases) - len(seconds)} red or skipped\n")
    lines: dict[str, dict[str, list[str]]] = {}
    stored = CoverageData(str(data))
    stored.read()
    for file in stored.measured_files():
        module = lines.setdefault(str(Path(file).relative_to(folder)), {})
        for line, contexts in stored.contexts_by_lineno(file).items():
            names = {ungrouped(context.rpartition("|")[0]) for context in contexts}
            module[str(line)] = sorted(names & seconds.keys())
    if done.returncode not in (0, 1):
        raise SystemExit(f"The tests could not be measured: pytest ended with {done.returncode}.")
    kept.write_text(json.dumps({"commit": commit, "lines": lines, "seconds": seconds}))
    return Reach(lines, seconds)


def pytest(report: Path) -> list[str]:
    """Give the command that runs tests, and writes what became of each to a file."""
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    return [*command, "-o", "junit_family=xunit1", f"--junit-xml={report}"]


def environment(folder: Path) -> dict[str, str]:
    """Give the environment in which a copy of the project is imported, and not this one."""
    return {**os.environ, "PYTHONPATH": f"{folder}:{folder / 'studio'}", "PYTHONDONTWRITEBYTECODE": "1"}


def read(report: Path) -> Iterator[tuple[str, float, dict[str, str]]]:
    """Read each test's name, its seconds, and what it was but green: failure, error, skipped, and why."""
    for case in ElementTree.parse(report).iter("testcase"):
        problems = {part.tag: part.get("message", "") for part in case if part.tag in PROBLEMS}
        yield ungrouped(f"{case.get('file')}::{case.get('name')}"), float(case.get("time") or 0), problems


def ungrouped(name: str) -> str:
    """Leave out the name of the group that pytest-xdist adds to a test's."""
    return name.removesuffix("@notebook").removesuffix("@samples")


# --------------------------------------------------------------------------- the trial


def copied(name: str) -> Path:
    """Make a copy of the project."""
    listed = ["git", "ls-files", "-z"]
    files = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    folder = BUILD / name
    shutil.rmtree(folder, ignore_errors=True)
    for file in filter(None, files.split("\0")):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, folder / file)
    static = "studio/promptlab_studio/static"
    shutil.copytree(ROOT / static, folder / static, dirs_exist_ok=True)
    return folder


class Trial:
    """A copy of the project in which changes are tried, one after the other."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._report = folder, folder.with_suffix(".xml")
        self._green: set[str] = set()

    def fate(self, mutant: Mutant, reach: Reach) -> Fate:
        """Run the tests that reach a change against it, until one notices."""
        code, place = mutant.changed(), self._folder / mutant.module
        clean = (ROOT / mutant.module).read_text()
        try:
            for names in reach.rounds(mutant):
                limit = GRACE_S + PATIENCE * max(reach.seconds[name] for name in names)
                fate = self._noticed(place, clean, code, names, limit)
                if fate.how != UNNOTICED:
                    return fate
            return Fate(UNNOTICED)
        finally:
            place.write_text(clean)

    def _noticed(self, place: Path, clean: str, code: str, names: list[str], limit: float) -> Fate:
        """Run tests against a change. A busy machine turns tests red too: a failure counts if it comes twice,
        and the same test was seen to be green without a change, in the same copy."""
        left = list(names)
        while left:
            place.write_text(code)
            fate = self._run(left, limit)
            if fate.how == UNNOTICED:
                break
            again = (
                [fate.test] if fate.test in left else left
            )  # a module that cannot be imported names no test
            if (fate := self._run(again, limit)).how != UNNOTICED and self._is_green(
                place, clean, again, limit
            ):
                return fate
            left = [name for name in left if name not in again]
        return Fate(UNNOTICED)

    def _is_green(self, place: Path, clean: str, names: list[str], limit: float) -> bool:
        if not self._green.issuperset(names):
            place.write_text(clean)
            if self._run(names, limit).how != UNNOTICED:
                return False
            self._green.update(names)
        return True

    def _run(self, names: list[str], limit: float) -> Fate:
        """Run tests up to the first that fails, and end all processes that they started."""
        self._report.unlink(missing_ok=True)
        command = [*pytest(self._report), "-x", "-o", f"timeout={limit:.0f}", *names]
        process = subprocess.Popen(
            command,
            cwd=self._folder,
            env=environment(self._folder),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            # Twice that of one test, for one that cannot be interrupted, after others.
            status = process.wait(2 * limit + len(names))
        except subprocess.TimeoutExpired:
            return Fate(TIME_OUT)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if status == 0:
            return Fate(UNNOTICED)
        cases = list(read(self._report)) if self._report.exists() else []
        red = (
            (name, why) for name, _, problems in cases for tag, why in problems.items() if tag != "skipped"
        )
        name, why = next(red, ("", ""))
        return Fate(_kind(why), name)


def _kind(why: str) -> str:
    """Tell an assertion from a time-out and from any other error by a test's message."""
    if why.startswith("Failed: Timeout"):
        return TIME_OUT
    return ASSERTION if why.startswith(("assert", "AssertionError", "Failed")) else ERROR
