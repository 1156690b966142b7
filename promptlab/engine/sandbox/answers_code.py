"""`code_tests` in a child of the sandbox: confined already, and ended after its one case.

On a laptop `code_child` is the other end of a process that the metric itself starts, and imports as little as
it can.
"""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

from promptlab.domain.results import Score
from promptlab.engine.sandbox.code_child import ran
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.code_tests import CodeTests


class AnswersCode(Evaluator):
    """Runs the code of one answer and its tests in this process, which is not to be used again.

    Args:
        params: those of `code_tests`.
    """

    def __init__(self, **params: Any) -> None:
        self._metric = CodeTests(**params)

    def evaluate(self, data: dict[str, Any]) -> Score:
        """Score the case.

        Raises:
            ValueError: there are no tests, or a text is too long.
        """
        code, tests = self._metric.code_and_tests(data)
        _leave(self._metric.memory_mb << 20)
        found = ran(code, tests)
        return Score(passed=found["passed"], reason=found.get("why"))


def _leave(memory_bytes: int) -> None:
    """Leave this process that much address space beside what it has, for ever; no more than it may have."""
    there = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = there + memory_bytes if hard == resource.RLIM_INFINITY else min(there + memory_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
