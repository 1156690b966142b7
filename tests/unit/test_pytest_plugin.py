"""The pytest plug-in: invariants fail their tests, signals are judged over all of them."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
GATE = """\
name: answers
gates:
  baseline: production
  checks:
    - metric: polite
      no_regression: 0.1
"""
# Installed, pytest finds the plug-in itself, and takes it only once.
PLUGIN = () if entry_points(group="pytest11", name="promptlab") else ("-p", "promptlab.pytest_plugin")
TESTS = """\
import pytest

@pytest.mark.promptlab("gate.yaml")
@pytest.mark.parametrize("n", range(60))
def test_answer(n, promptlab_gate):
    promptlab_gate.invariant({invariant}, f"answer {{n}} says nothing")
    promptlab_gate.signal("polite", {polite})

def test_plain():
    pass
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder with a gate's file."""
    for name in ("PROMPTLAB_DB", "PROMPTLAB_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    pytester.makefile(".yaml", gate=GATE)
    return pytester


def run(
    suite: pytest.Pytester, *args: str, invariant: str = "True", polite: str = "True"
) -> pytest.RunResult:
    suite.makepyfile(TESTS.format(invariant=invariant, polite=polite))
    return suite.runpytest_subprocess(*PLUGIN, "-q", *args)


def label(suite: pytest.Pytester) -> None:
    done = suite.run(sys.executable, "-m", "promptlab", "label", "latest", "production")
    assert done.ret == 0


def test_without_the_flag_marked_tests_are_skipped_and_nothing_is_loaded(suite: pytest.Pytester) -> None:
    """The plug-in costs those who do not ask for it an import of a few milliseconds."""
    result = run(suite)
    result.assert_outcomes(passed=1, skipped=60)
    assert not (suite.path / "promptlab.db").exists()
    asked = (
        "import sys, promptlab.pytest_plugin; "
        "print([m for m in sys.modules if m.startswith('promptlab.')], 'pydantic' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "['promptlab.pytest_plugin'] False"


def test_signals_fail_no_test_and_are_judged_together(suite: pytest.Pytester) -> None:
    """The first run becomes the baseline; one that is less polite fails the session, and no test."""
    first = run(suite, "--promptlab")
    first.assert_outcomes(passed=61)
    first.stdout.fnmatch_lines(
        ["*No run of 'answers' is labelled 'production' yet*promptlab label*production"]
    )
    assert first.ret == 1
    label(suite)
    same = run(suite, "--promptlab", polite="n != 3")
    same.assert_outcomes(passed=61)
    worse = run(suite, "--promptlab", polite="n % 2 == 0")
    worse.assert_outcomes(passed=61)
    worse.stdout.fnmatch_lines(
        ["*promptlab gates*", "Gate failed: 1 failed", "*polite no regression (0.1): worse*"]
    )
    assert (same.ret, worse.ret) == (0, 1)


@pytest.mark.long
def test_an_invariant_fails_its_test_and_leaves_its_signals_unknown(suite: pytest.Pytester) -> None:
    """The message is the test's; what it did not come to is missing, and not left out."""
    run(suite, "--promptlab")
    label(suite)
    broken = run(suite, "--promptlab", invariant="n >= 10")
    broken.assert_outcomes(passed=51, failed=10)
    broken.stdout.fnmatch_lines(["*AssertionError: answer 0 says nothing", "*depends on missing scores*"])
    broken.stdout.fnmatch_lines(["*without a score: 0 of the baseline, 10 here*"])


@pytest.mark.long
def test_what_is_wrong_with_a_gate_is_said(suite: pytest.Pytester) -> None:
    """A field that there is not, a mark without a file, a signal that is no number."""
    suite.makefile(".yaml", gate=GATE + "nonsense: 1\n")
    wrong = run(suite, "--promptlab")
    wrong.stdout.fnmatch_lines(["*gate.yaml: nonsense: Extra inputs are not permitted"])
    assert wrong.ret == 1
    suite.makefile(".yaml", gate=GATE)
    run(suite, "--promptlab", polite="'yes'").stdout.fnmatch_lines(["*'yes' is no finite number*"])


def test_the_entry_point_names_the_plug_in() -> None:
    """Installed, pytest finds it by itself."""
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"promptlab": "promptlab.pytest_plugin"}
