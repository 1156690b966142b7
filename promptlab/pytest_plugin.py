"""The pytest plug-in: `pytest --promptlab` runs tests that are marked with a gate, and judges their signals.

    @pytest.mark.promptlab("gate.yaml")
    def test_refund(promptlab_gate):
        answer = ask("How do I get a refund?")
        promptlab_gate.invariant("refund" in answer, "no word of a refund")   # fails this test
        promptlab_gate.signal("polite", is_polite(answer))                     # judged over all tests

An invariant fails its test. A signal is recorded, and its mean over all tests of the same gate is judged
once they are done, against the gate's baseline: one impolite answer fails nothing, a system that became less
polite does. Without the flag marked tests are skipped, and this module imports nothing beside pytest.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from promptlab.gates.outcome import GateOutcome

MARK = "promptlab"
PROPERTY = "promptlab"
"""The user property of a test's report, which pytest-xdist brings from its workers."""
MOST_SIGNALS = 50


class Recorder:
    """What a test says about what it saw."""

    def __init__(self) -> None:
        self.signals: dict[str, float | bool] = {}

    def invariant(self, holds: object, message: str = "an invariant does not hold") -> None:
        """Fail the test unless something holds.

        Raises:
            AssertionError: it does not.
        """
        __tracebackhide__ = True
        if not holds:
            raise AssertionError(message)

    def signal(self, name: str, value: float | bool) -> None:
        """Record a number, or whether something was so; nothing fails by it here.

        Args:
            name: the metric that it becomes.
            value: finite; True and False are a pass and a failure.

        Raises:
            ValueError: it is no number, was recorded already, or there are more than MOST_SIGNALS.
        """
        if not isinstance(value, bool) and not (isinstance(value, int | float) and abs(value) < 1e308):
            raise ValueError(f"signal {name!r}: {value!r} is no finite number and no bool")
        if name in self.signals:
            raise ValueError(f"signal {name!r} was recorded already in this test")
        if not name or len(name) > 200 or len(self.signals) >= MOST_SIGNALS:
            raise ValueError(f"signal {name[:200]!r}: names have 1 to 200 characters, a test {MOST_SIGNALS}")
        self.signals[name] = value if isinstance(value, bool) else float(value)


@pytest.fixture
def promptlab_gate(request: pytest.FixtureRequest) -> Recorder:
    """The test's recorder of invariants and signals."""
    recorder = Recorder()
    request.node.stash[_RECORDER] = recorder
    return recorder


_RECORDER = pytest.StashKey[Recorder]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("promptlab")
    group.addoption(
        "--promptlab", action="store_true", help="Run tests marked promptlab, and judge their gates."
    )
    group.addoption(
        "--promptlab-baseline", metavar="RUN|LABEL", help="The run that gates are held against; else theirs."
    )
    group.addoption(
        "--promptlab-db",
        metavar="FILE",
        help="The store of their runs.  [default: PROMPTLAB_DB, promptlab.db]",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        'promptlab(gate): a test whose signals are judged by a gate, as in "gate.yaml"; --promptlab.',
    )
    if config.getoption("--promptlab"):
        config.pluginmanager.register(Gating(config), "promptlab-gating")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--promptlab"):
        return
    skip = pytest.mark.skip(reason="its gate is judged with --promptlab only")
    for item in items:
        if item.get_closest_marker(MARK):
            item.add_marker(skip)


class Gating:
    """Gathers what marked tests recorded, and judges it once all are done."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._is_worker = hasattr(config, "workerinput")
        # By the gate's file and the test: whether it failed, and its signals.
        self.seen: dict[str, dict[str, tuple[bool, dict[str, float | bool]]]] = {}
        self.said: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        mark = item.get_closest_marker(MARK)
        if mark is not None and call.when in ("setup", "call"):
            recorder = item.stash.get(_RECORDER, None)
            path = str(gate_file(item, mark))
            value = {"gate": path, "signals": recorder.signals if recorder else {}}
            report.user_properties = [p for p in report.user_properties if p[0] != PROPERTY]
            report.user_properties.append((PROPERTY, json.dumps(value)))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self._is_worker or report.skipped or not (report.when == "call" or report.failed):
            return
        for name, text in report.user_properties:
            if name == PROPERTY:
                value = json.loads(str(text))
                tests = self.seen.setdefault(value["gate"], {})
                failed, signals = tests.get(report.nodeid, (False, {}))
                tests[report.nodeid] = failed or bool(report.failed), signals | value["signals"]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._is_worker:
            return
        for path, tests in sorted(self.seen.items()):
            try:
                found = judge_signals(
                    Path(path),
                    tests,
                    db=self._config.getoption("--promptlab-db"),
                    baseline=self._config.getoption("--promptlab-baseline"),
                )
            except _errors() as error:
                self.said += [f"{path}: {error}"]
                passed = False
            else:
                self.said += _lines(found) if found else [f"{path}: no test recorded a signal"]
                passed = found is None or found.passed
            if not passed and session.exitstatus in (pytest.ExitCode.OK, 0):
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.said:
            terminalreporter.section("promptlab gates")
            for line in self.said:
                terminalreporter.line(line)


def _errors() -> tuple[type[Exception], ...]:
    from promptlab.errors import PromptLabError

    return (PromptLabError,)


def _lines(found: GateOutcome) -> Iterable[str]:
    from promptlab.gates.reports import lines

    return lines(found)


def gate_file(item: pytest.Item, mark: pytest.Mark) -> Path:
    """The gate's file: beside the test's, or below pytest's root.

    Raises:
        pytest.UsageError: the mark names none.
    """
    if len(mark.args) != 1 or mark.kwargs or not isinstance(mark.args[0], str):
        raise pytest.UsageError(f'{item.nodeid}: write @pytest.mark.promptlab("gate.yaml")')
    beside = item.path.parent / mark.args[0]
    return beside if beside.exists() else item.config.rootpath / mark.args[0]


def judge_signals(
    path: Path,
    tests: dict[str, tuple[bool, dict[str, float | bool]]],
    *,
    db: str | None,
    baseline: str | None,
) -> GateOutcome | None:
    """Record the signals of tests as a run, a row a test, and judge it; None where there are none.

    A failed test that did not come to a signal which others recorded has a failed score there: what it would
    have been is not known, and the metric's worst-case range counts it.

    Raises:
        PromptLabError: the file is wrong, or the run cannot be judged.
    """
    from promptlab.signals import judged

    return judged(path, tests, db=db, baseline=baseline)
