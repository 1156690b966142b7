"""Whether the code of an answer passes tests: run in a process of its own, confined, and ended in time."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any, ClassVar

import orjson
from pydantic import Field
from pydantic.dataclasses import dataclass

from promptlab.domain.results import Score
from promptlab.errors import ConfigError
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.extraction import without_reasoning
from promptlab.evaluators.structure import fenced_blocks
from promptlab.evaluators.text import STRICT, response_of

MOST_CODE = 200_000
"""Characters of code, and of tests."""
START_S = 20.0
"""How long the process may take to start and to be confined, on a busy machine."""
MOST_WHY = 1_000
MOST_ANSWER = 100_000
LOST = "it ended its process, or had no memory left"
OVERDUE = "it took longer than timeout_s={timeout_s:g} s"
FAILED = "it failed"
_KEPT = ("LD_LIBRARY_PATH",)
_START = (
    "import sys; sys.path[:] = {path!r}\n"
    "from promptlab.engine.sandbox.code_child import serve; serve({folder!r}, {memory}, {cpu_s})"
)


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class CodeTests(Evaluator):
    """The Python code of the response passes the tests of the row, in a confined process."""

    inputs = {"response": "$inference", "tests": None}
    value_range: ClassVar = (0.0, 1.0)
    decides = True
    runs_code = True

    entry_point: str | None = Field(
        None,
        pattern=r"^[A-Za-z_]\w*$",
        description="The function that the tests' `check` is called with, as in HumanEval; by default the "
        "tests run by themselves.",
    )
    timeout_s: float = Field(5.0, gt=0, le=60, description="Seconds that code and tests may take together.")
    memory_mb: int = Field(512, ge=128, le=4096, description="Megabytes of address space that they may take.")

    def __post_init__(self) -> None:
        if not sys.platform.startswith("linux"):
            raise ConfigError(
                "Metric 'code_tests' runs code of models, which is confined by means of Linux: run it there, "
                "or in a container."
            )

    def evaluate(self, data: dict[str, Any]) -> Score:
        """Score one case: 1 if the code runs and no test raises, else 0.

        Raises:
            ValueError: there are no tests, or a text is too long.
        """
        return self._run(*self.code_and_tests(data))

    def code_and_tests(self, data: Mapping[str, Any]) -> tuple[str, str]:
        """Take the code out of a case's answer, and its tests.

        Raises:
            ValueError: there are no tests, or a text is too long.
        """
        code, tests = _code(response_of(data)), _tests(data.get("tests"))
        if max(len(code), len(tests)) > MOST_CODE:
            raise ValueError(f"code and tests have at most {MOST_CODE:,} characters each")
        return code, tests if self.entry_point is None else f"{tests}\ncheck({self.entry_point})\n"

    def _run(self, code: str, tests: str) -> Score:
        with tempfile.TemporaryDirectory(prefix="promptlab-code-", ignore_cleanup_errors=True) as folder:
            start = _START.format(
                path=[os.path.realpath(p) for p in sys.path if p],
                folder=os.path.realpath(folder),
                memory=self.memory_mb << 20,
                cpu_s=int(self.timeout_s) + 2,
            )
            process = subprocess.Popen(
                [sys.executable, "-I", "-B", "-X", "utf8", "-c", start],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in _KEPT if name in os.environ},
                start_new_session=True,
            )
            try:
                return self._answer(process, code, tests)
            finally:
                process.kill()
                process.wait()
                for pipe in (process.stdin, process.stdout):
                    if pipe:
                        with contextlib.suppress(OSError):
                            pipe.close()

    def _answer(self, process: subprocess.Popen[bytes], code: str, tests: str) -> Score:
        request = orjson.dumps({"code": code, "tests": tests})
        lines = _Lines(process)
        first = lines.next(START_S)
        if first != b"confined":
            why = first.decode("utf-8", "replace")[:500] if first else "its process did not start"
            raise ValueError(f"the code cannot be confined on this machine, so it was not run: {why}")
        assert process.stdin
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(request)
            process.stdin.close()
        answer = lines.next(self.timeout_s)
        if answer is None:
            process.kill()
            return Score(passed=False, judged=code, reason=OVERDUE.format(timeout_s=self.timeout_s))
        if not answer:
            return Score(passed=False, judged=code, reason=LOST)
        try:
            found = orjson.loads(answer)
            passed, said = found["passed"] is True, str(found.get("why") or "")
        except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError):
            passed, said = False, "its process answered with something else"
        return Score(passed=passed, judged=code, reason=None if passed else said[:MOST_WHY] or FAILED)


def believed(score: Score, data: Mapping[str, Any]) -> Score:
    """Take of a score what counts where the process of the code itself gave it: its verdict and a reason.

    Args:
        score: what was answered; the code may have answered in its evaluator's place.
        data: the case.
    """
    if score.error is not None:
        return Score(error=score.error)
    passed = score.passed is True
    return Score(
        passed=passed,
        judged=_code(response_of(data)),
        reason=None if passed else (score.reason or FAILED)[:MOST_WHY],
    )


class _Lines:
    """Lines of a process's output, each within a time; bytes that are too many are none."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout
        self._descriptor, self._left = process.stdout.fileno(), b""

    def next(self, limit_s: float) -> bytes | None:
        """The next line; empty at the end, None when it is too late."""
        import select
        from time import monotonic

        until = monotonic() + limit_s
        while b"\n" not in self._left:
            ready, _, _ = select.select([self._descriptor], [], [], max(0.0, until - monotonic()))
            if not ready:
                return None
            piece = os.read(self._descriptor, 65_536)
            if not piece or len(self._left) > MOST_ANSWER:
                return b""
            self._left += piece
        line, _, self._left = self._left.partition(b"\n")
        return line


def _code(text: str) -> str:
    """The code of an answer: its last fenced block, else all but what was thought."""
    text = without_reasoning(text) or text
    blocks = [body for language, body in fenced_blocks(text) if language in ("python", "python3", "py", "")]
    return blocks[-1] if blocks else text


def _tests(given: Any) -> str:
    """The tests as one text; a list of statements as lines.

    Raises:
        ValueError: there are none.
    """
    if isinstance(given, list | tuple):
        given = "\n".join(map(str, given))
    if not isinstance(given, str) or not given.strip():
        raise ValueError("tests are Python statements, as in 'assert add(1, 2) == 3', or a list of them")
    return given
