"""Every sample runs as its text says, twice, in a copy."""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from promptlab import PromptLab

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
NAMES = sorted(path.parent.name for path in SAMPLES.glob("*/README.md"))


def copy(name: str, to: Path) -> Path:
    """A copy of a sample's folder, without what earlier runs left there."""
    return Path(
        shutil.copytree(
            SAMPLES / name, to / name, ignore=shutil.ignore_patterns("promptlab.db*", "__pycache__")
        )
    )


def environment(**changes: str) -> dict[str, str]:
    """As on a machine without keys; a warning in a sample is an error."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    settings = {
        "PROMPTLAB_SAMPLE_MODEL": "simulated/demo",
        "PROMPTLAB_SAMPLE_SERVE": "0",
        "PYTHONWARNINGS": "error",
        "PYTHONIOENCODING": "utf-8",
    }
    return kept | settings | changes


def run(folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, f"{folder.name}.py"]
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(**changes),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


@dataclass(frozen=True)
class Twice:
    """The output of a sample, run for the first and for the second time."""

    folder: Path
    first: str
    second: str
    hints: str
    """What the first run wrote to standard error."""
    assets: list[list[tuple[str, int | None]]]
    """Names and latest versions in its store after each run."""


Ran = Callable[[str], Twice]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Runs a sample twice, once for all tests; it must end well and complain of nothing."""

    @functools.cache
    def ran(name: str) -> Twice:
        folder = copy(name, tmp_path_factory.mktemp("samples"))
        outputs, hints, stored = [], [], []
        for _ in range(2):
            done = run(folder)
            assert done.returncode == 0 and not re.search("Traceback|[Ww]arning|Error", done.stderr), (
                done.stderr
            )
            outputs.append(done.stdout)
            hints.append(done.stderr)
            stored.append(assets(folder))
        return Twice(folder, outputs[0], outputs[1], hints[0], stored)

    return ran


def assets(folder: Path) -> list[tuple[str, int | None]]:
    with PromptLab({"type": "sqlite", "db_file": str(folder / "promptlab.db")}) as pl:
        return [(asset.name, asset.version) for asset in pl.asset.list()]


def without_what_differs(text: str) -> str:
    """An output without run ids, times and the padding that depends on them."""
    text = re.sub(r"\d{8}-\d{6}-[0-9a-f]{6}", "RUN", text)
    return re.sub(r"in [\d.]+ s|p50 \S+ ms, p95 \S+ ms", "TIME", text)


def mean(text: str, metric: str) -> float:
    """A metric's mean in a printed summary."""
    found = re.search(rf"^{metric} +([\d.]+) ", text, re.MULTILINE)
    assert found, f"no metric {metric} in\n{text}"
    return float(found[1])


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_can_be_run_again(name: str, sample: Ran) -> None:
    """The second run prints the same and makes no further versions; the sample's folder in the project is
    left alone."""
    before = sorted(SAMPLES.rglob("*"))
    ran = sample(name)
    assert without_what_differs(ran.second) == without_what_differs(ran.first)
    assert ran.assets[1] == ran.assets[0]
    assert re.search(r"run \d{8}-\d{6}-[0-9a-f]{6} +completed", ran.first)
    assert sorted(SAMPLES.rglob("*")) == before


def test_quickstart_shows_the_share_of_right_answers_and_the_wrong_ones(sample: Ran) -> None:
    """As many wrong answers are listed, with what was expected, as the mean says."""
    text = sample("quickstart").first
    assert "20 of 20 cases succeeded" in text
    wrong = re.findall(r"^  (\S+): expected \d+, got \d+$", text, re.MULTILINE)
    assert 0 < len(wrong) == round((1 - mean(text, "numeric_match")) * 20)


def test_asset_versioning_runs_two_versions_of_one_prompt(sample: Ran) -> None:
    """The label's version and the other one, each with its own hash."""
    text = sample("asset_versioning").first
    assert re.search(r"^route@0 +production ", text, re.MULTILINE)
    used = re.findall(r"used route@(\d) \(([0-9a-f]{12})\)", text)
    assert [version for version, _ in used] == ["0", "1"]
    assert len({digest for _, digest in used}) == 2
    assert text.count("15 of 15 cases succeeded") == 2


def test_custom_metric_shows_a_label_a_reason_and_a_case_without_a_reference(sample: Ran) -> None:
    """One case has nothing to compare with: it is counted, and in no mean."""
    text = sample("custom_metric").first
    assert "8 of 8 cases succeeded" in text
    assert "not labelled: 1 case\n" in text and re.search(r"length_ratio .* 7   lower", text)
    assert re.search(r"C-\d: does not say '\w+'", text)
    assert re.search(r"plain: \d \(.*wordy: \d \(|wordy: \d \(.*plain: \d \(", text)


def test_custom_model_shows_what_a_model_says_of_its_cost(sample: Ran) -> None:
    """The rules are right in 11 of 12 and cost 0; the majority costs what the models cost that it asks."""
    rules, majority = sample("custom_model").first.split("custom/majority-of-3")
    assert "custom/Rules" in rules
    assert mean(rules, "exact_match") == 0.9167
    assert "cost $0.00" in rules
    assert "cost $0.00" in majority and "tokens unknown" not in majority


def test_agent_answers_from_its_tools(sample: Ran) -> None:
    """Every answer is a tool's, and the mean is the share of right ones."""
    text = sample("agent").first
    answers = re.findall(r"^Q-\d\d (right|wrong)  .*  ->  (.+)$", text, re.MULTILINE)
    assert len(answers) == 10
    assert mean(text, "right_fact") == [mark for mark, _ in answers].count("right") / 10
    assert {answer.split()[0] for _, answer in answers} <= {"You", "Your", "Which"}


def test_async_example_prints_the_answer_the_summary_and_where_the_studio_is(sample: Ran) -> None:
    """The three metrics, and the custom one is the mean length of the answers."""
    ran = sample("async_example")
    text = ran.first
    assert text.startswith("simulated/demo says: ")
    assert "12 of 12 cases succeeded" in text
    with PromptLab({"type": "sqlite", "db_file": str(ran.folder / "promptlab.db")}) as pl:
        done, _ = pl.experiment.list("async_example")
        lengths = [len(row["response"]) for row in done.results()]
    assert mean(text, "LengthEvaluator") == round(sum(lengths) / 12, 4)
    assert 0 < mean(text, "token_f1") < 1
    assert f"Look at it: {Path(sys.executable).with_name('promptlab')} studio\n" in ran.hints


def test_async_example_says_what_to_do_without_a_model(tmp_path: Path) -> None:
    """Without Ollama: one message with the remedy, no traceback, and no run."""
    folder = copy("async_example", tmp_path)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        done = run(
            folder,
            PROMPTLAB_SAMPLE_MODEL="ollama/llama3.2",
            OLLAMA_HOST=f"http://127.0.0.1:{unused.getsockname()[1]}",
        )
    assert done.returncode == 1
    assert "Nothing answers at http://127.0.0.1:" in done.stderr
    remedy = f"PROMPTLAB_SAMPLE_MODEL=simulated/demo {shlex.quote(sys.executable)} async_example.py"
    assert remedy in done.stderr
    assert "Traceback" not in done.stderr


def test_async_example_serves_the_studio_until_ctrl_c(tmp_path: Path) -> None:
    """The page lists the run; Ctrl-C ends it without a traceback."""
    folder = copy("async_example", tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    changes = environment(PROMPTLAB_SAMPLE_SERVE="1", PORT=str(port))
    command = [sys.executable, "async_example.py"]
    with subprocess.Popen(
        command,
        cwd=folder,
        env=changes,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        try:
            assert process.stderr is not None
            said = read_until(process.stderr, "(Ctrl-C ends it)\n")
            address = said[said.rindex("http://") :].split()[0]
            opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
            with opener.open(address, timeout=200) as answer:
                page = answer.read().decode()
            process.send_signal(signal.SIGINT)
            printed, errors = process.communicate(timeout=200)
        finally:
            process.kill()
    assert process.returncode == 0 and "Traceback" not in errors
    assert address.startswith(f"http://127.0.0.1:{port}/open?code=")
    assert "12 of 12 cases succeeded" in printed
    assert "async_example" in page


def read_until(lines: IO[str], last: str) -> str:
    """Read what is printed up to a line with an end that must come."""
    text = ""
    for line in lines:
        text += line
        if line.endswith(last):
            return text
    raise AssertionError(f"no line {last!r} in\n{text}")


def test_every_sample_has_its_script_its_text_and_a_place_in_the_index() -> None:
    """A folder's script has its name; the README of the samples lists it."""
    folders = sorted(
        path.name for path in SAMPLES.iterdir() if path.is_dir() and not path.name.startswith((".", "_"))
    )
    folders.remove("gates")  # pipelines to copy, which tests/unit/test_gates.py runs
    assert folders == NAMES
    index = (SAMPLES / "README.md").read_text("utf-8")
    for name in NAMES:
        assert (SAMPLES / name / f"{name}.py").is_file()
        assert f"[{name}]({name}/)" in index
        assert f"python {name}.py" in (SAMPLES / name / "README.md").read_text("utf-8")
