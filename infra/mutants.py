"""Changes the code in small ways, one at a time, and sees whether the tests notice.

    .venv/bin/python infra/mutants.py --number 300 --seed 1

Cosmic Ray's operators make the changes that are usual in the field (OPERATORS). Each is made in
a copy of the project, and the tests that reach the changed line run against it (mutant_trials.py). What no
test notices is listed; as NEW, where tests/mutants.md gives no reason for it.
"""

from __future__ import annotations

import argparse
import ast
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from queue import SimpleQueue

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.plugins import get_operator, operator_names
from mutant_trials import BUILD, ROOT, UNNOTICED, WORKERS, Fate, Mutant, Trial, copied, measured

PACKAGES = ("engine", "results", "queries", "evaluators", "domain")
WANTED = 0.9
OPERATORS = re.compile(
    r"core/(AddNot|Replace(True|False|And|Or|Break|Continue)With\w+|ZeroIterationForLoop|ExceptionReplacer"
    r"|RemoveDecorator|NumberReplacer|ReplaceUnaryOperator_\w+"
    r"|ReplaceComparisonOperator_(Eq_NotEq|NotEq_Eq|Is_IsNot|IsNot_Is|Lt_LtE|LtE_Lt|Gt_GtE|GtE_Gt)"
    r"|ReplaceBinaryOperator_(Add_Sub|Sub_Add|Mul_Div|Div_Mul|FloorDiv_Div|Mod_Div|Pow_Mul|RShift_LShift"
    r"|LShift_RShift|BitOr_BitAnd|BitAnd_BitOr|BitXor_BitAnd))"
)
"""The pairs that mutmut and PIT take. Cosmic Ray changes each operator into every other one besides; of these
most are either no change at all (`format == "jsonl"` and `format <= "jsonl"`, where no other format is
left) or an error that any test notices (`text + b`, `text >> b`)."""


def candidates(path: Path) -> Iterator[Mutant]:
    """List all changes of a module, but for those of annotations, which are never run."""
    code = path.read_text()
    tree, ignored = get_ast(code), set(annotated(code))
    for name in operator_names():
        operator = get_operator(name)
        if operator.arguments() or not OPERATORS.fullmatch(name):
            continue
        positions = (position for node in ast_nodes(tree) for position in operator().mutation_positions(node))
        for occurrence, (start, _end) in enumerate(positions):
            if start not in ignored:
                yield Mutant(str(path.relative_to(ROOT)), start[0], name, occurrence)


def annotated(code: str) -> Iterator[tuple[int, int]]:
    """List the places (line, column) of everything in annotations, decorators left in."""
    for node in ast.walk(ast.parse(code)):
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
    places = chance.sample(sorted(lines), len(lines))
    found = (next(filter(Mutant.compiles, chance.sample(lines[at], len(lines[at]))), None) for at in places)
    return list(islice((mutant for mutant in found if mutant), number))


def tried(mutants: list[Mutant]) -> list[Fate]:
    """Find what becomes of each change, some at a time, each in a copy of its own."""
    reach = measured()
    free: SimpleQueue[Trial] = SimpleQueue()
    for number in range(WORKERS):
        free.put(Trial(copied(f"copy-{number}")))

    def one(mutant: Mutant) -> Fate:
        trial = free.get()
        try:
            fate = trial.fate(mutant, reach)
        finally:
            free.put(trial)
        sys.stdout.write(f"{fate.how:>10}  {mutant.words()}  {fate.test}\n")
        sys.stdout.flush()
        return fate

    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(one, mutants))


def main() -> int:
    """Try a sample of changes, and write what no test noticed to build/mutants/survivors.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--number", type=int, default=300, help="how many changes")
    parser.add_argument("--seed", type=int, default=1, help="which ones")
    options = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    started, mutants = time.monotonic(), sampled(options.number, options.seed)
    fates = tried(mutants)
    reasons = (ROOT / "tests" / "mutants.md").read_text()
    alive = [mutant for mutant, fate in zip(mutants, fates, strict=True) if fate.how == UNNOTICED]
    report = "".join(
        f"- {mutant.words()} (line {mutant.line}, {mutant.operator})"
        f"{'' if mutant.words() in reasons else ' — NEW'}\n"
        for mutant in alive
    )
    (BUILD / "survivors.md").write_text(report)
    ways = ", ".join(f"{count} {how}" for how, count in Counter(fate.how for fate in fates).most_common())
    share = 1 - len(alive) / len(mutants)
    took = time.monotonic() - started
    sys.stdout.write(f"\n{len(mutants)} changes: {ways}; {share:.1%} noticed; {took:.0f} s\n{report}")
    return 0 if share >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
