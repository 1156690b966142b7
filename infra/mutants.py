"""Changes the code in small ways, one at a time, and sees whether the tests notice.

    .venv/bin/python infra/mutants.py --number 300 --seed 1

Cosmic Ray's operators make the changes: a comparison, a number, a condition turned round. Each is made in a
copy of the project, and the tests that reach the changed line run against it, the quickest first. What no
test notices is listed, but for what tests/mutants.md gives a reason for. Which tests reach which line is
measured once and kept in build/mutants.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from xml.etree import ElementTree

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from coverage import CoverageData

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "mutants"
PACKAGES = ("engine", "results", "queries", "evaluators", "domain")
TESTS = ("tests/unit", "tests/contract", "tests/functions")
LEFT_OUT = "not cloud and not slow"
WORKERS = 2
TEST_S, MOST_TESTS = 30.0, 60
"""For one mutant: seconds that its tests took without it, and how many tests, at most."""
PATIENCE = 6
"""How many times longer than that they may take before they count as hung."""
WANTED = 0.9


@dataclass(frozen=True, slots=True)
class Mutant:
    """One small change of one module."""

    module: str
    line: int
    operator: str
    occurrence: int

    def changed(self) -> str | None:
        """Give the module's code with the change; None if there is nothing to change."""
        operator = get_operator(self.operator)()
        found: str | None = mutate_code((ROOT / self.module).read_text(), operator, self.occurrence)
        return found

    def words(self) -> str:
        """Give the change as the lines before and after it."""
        before, after = (ROOT / self.module).read_text().splitlines(), (self.changed() or "").splitlines()
        pairs = [(x.strip(), y.strip()) for x, y in zip(before, after, strict=False) if x != y]
        old, new = pairs[0] if pairs else ("", "")
        return f"{self.module}: `{old}` → `{new}`"


# --------------------------------------------------------------------------- which changes


def candidates(path: Path) -> Iterator[Mutant]:
    """List all changes of a module, but for those of annotations, which are never run."""
    tree, ignored = get_ast(path.read_text()), set(annotations(path))
    for name in operator_names():
        operator = get_operator(name)
        if operator.arguments():
            continue
        positions = (position for node in ast_nodes(tree) for position in operator().mutation_positions(node))
        for occurrence, (start, _end) in enumerate(positions):
            if start not in ignored:
                yield Mutant(str(path.relative_to(ROOT)), start[0], name, occurrence)


def annotations(path: Path) -> Iterator[tuple[int, int]]:
    """List the places (line, column) of everything in annotations, decorators left in."""
    for node in ast.walk(ast.parse(path.read_text())):
        found = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        for part in filter(None, found):
            for line in range(part.lineno, (part.end_lineno or part.lineno) + 1):
                first = part.col_offset if line == part.lineno else 0
                last = part.end_col_offset if line == part.end_lineno else 200
                yield from ((line, column) for column in range(first, (last or 200) + 1))


def sampled(number: int, seed: int) -> list[Mutant]:
    """Choose changes: at most one of each line, so that a long comparison counts no more than a short one."""
    chance = random.Random(seed)
    lines: dict[tuple[str, int], list[Mutant]] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / "promptlab" / package).rglob("*.py")):
            for mutant in candidates(path):
                lines.setdefault((mutant.module, mutant.line), []).append(mutant)
    places = chance.sample(sorted(lines), min(number, len(lines)))
    return [chance.choice(lines[place]) for place in places]


# --------------------------------------------------------------------------- which tests


@dataclass(frozen=True, slots=True)
class Reach:
    """The tests that reach each line, and how long each test takes (seconds)."""

    lines: dict[str, dict[str, list[str]]]
    seconds: dict[str, float]

    def tests(self, mutant: Mutant) -> list[str]:
        """Choose the tests for a change, the quickest first; those of its module if no test
        alone reaches the line."""
        module = self.lines.get(mutant.module, {})
        names = set(module.get(str(mutant.line), ())) or {name for found in module.values() for name in found}
        chosen, left = [], TEST_S
        for name in sorted(names, key=lambda name: (self.seconds.get(name, 1.0), name)):
            left -= self.seconds.get(name, 1.0)
            if len(chosen) == MOST_TESTS or (left < 0 and chosen):
                break
            chosen.append(name)
        return chosen


def measured() -> Reach:
    """Run the tests once under coverage, or read what an earlier run of the same commit found."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()
    kept = BUILD / "reach.json"
    if kept.exists() and (found := json.loads(kept.read_text()))["commit"] == commit:
        return Reach(found["lines"], found["seconds"])
    data, report = BUILD / "coverage", BUILD / "junit.xml"
    (BUILD / "coveragerc").write_text(f"[run]\ndata_file = {data}\nsource = promptlab\n")
    subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-n", str(WORKERS), "-m", LEFT_OUT, "-p", "no:cacheprovider"),
            *(
                "--cov=promptlab",
                f"--cov-config={BUILD / 'coveragerc'}",
                "--cov-context=test",
                "--cov-report=",
            ),
            *(f"--junit-xml={report}", "-o", "junit_family=xunit1", *TESTS),
        ],
        cwd=ROOT,
        check=False,  # a test that is red for another reason tells nothing, and stops nothing
    )
    seconds: dict[str, float] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        if not list(case):  # neither failed nor skipped
            seconds[f"{case.get('file')}::{case.get('name')}"] = float(case.get("time") or 0)
    lines: dict[str, dict[str, list[str]]] = {}
    stored = CoverageData(str(data))
    stored.read()
    for file in stored.measured_files():
        module = lines.setdefault(str(Path(file).relative_to(ROOT)), {})
        for line, contexts in stored.contexts_by_lineno(file).items():
            names = {context.partition("|")[0] for context in contexts}
            module[str(line)] = sorted(names & seconds.keys())
    kept.write_text(json.dumps({"commit": commit, "lines": lines, "seconds": seconds}))
    return Reach(lines, seconds)


# --------------------------------------------------------------------------- the trial


def copies() -> SimpleQueue[Path]:
    """Make a copy of the project for each worker."""
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    free: SimpleQueue[Path] = SimpleQueue()
    for number in range(WORKERS):
        folder = BUILD / f"copy-{number}"
        shutil.rmtree(folder, ignore_errors=True)
        for name in filter(None, names.split("\0")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        static = "studio/promptlab_studio/static"
        shutil.copytree(ROOT / static, folder / static, dirs_exist_ok=True)
        free.put(folder)
    return free


def survives(mutant: Mutant, tests: list[str], seconds: float, free: SimpleQueue[Path]) -> bool:
    """Run the tests against a change; whether none of them noticed."""
    code = mutant.changed()
    if code is None or not tests:
        return not tests
    folder = free.get()
    try:
        (folder / mutant.module).write_text(code)
        command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
        limit = 60 + PATIENCE * seconds
        environment = {"PYTHONPATH": f"{folder}:{folder / 'studio'}", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            capture_output=True,
            timeout=limit,
            check=False,
        )
        return done.returncode == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        shutil.copy(ROOT / mutant.module, folder / mutant.module)
        free.put(folder)


def main() -> int:
    """Try a sample of changes, and write what survived to build/mutants/survivors.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--number", type=int, default=300, help="how many changes")
    parser.add_argument("--seed", type=int, default=1, help="which ones")
    options = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    reach, mutants, free = measured(), sampled(options.number, options.seed), copies()
    started = time.monotonic()

    def tried(mutant: Mutant) -> bool:
        tests = reach.tests(mutant)
        alive = survives(mutant, tests, sum(reach.seconds.get(name, 1.0) for name in tests), free)
        sys.stdout.write("S" if alive else ".")
        sys.stdout.flush()
        return alive

    with ThreadPoolExecutor(WORKERS) as pool:
        alive = [mutant for mutant, lives in zip(mutants, pool.map(tried, mutants), strict=True) if lives]
    reasons = (ROOT / "tests" / "mutants.md").read_text()
    lines = [(mutant, mutant.words()) for mutant in alive]
    report = "".join(
        f"- {words} (line {mutant.line}, {mutant.operator}){'' if words in reasons else ' — NEW'}\n"
        for mutant, words in lines
    )
    (BUILD / "survivors.md").write_text(report)
    share = 1 - len(alive) / len(mutants)
    sys.stdout.write(
        f"\n{len(mutants)} changes, {len(alive)} unnoticed, {share:.1%} noticed, "
        f"{time.monotonic() - started:.0f} s\n{report}"
    )
    return 0 if share >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
