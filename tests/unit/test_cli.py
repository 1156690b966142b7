"""The commands, run in this process."""

from __future__ import annotations

import csv
import json
import re
import socket
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from promptlab import PromptLab
from promptlab.cli import commands
from promptlab.program import program
from tests.servers import ModelServer, Reply, Request

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"
EXPERIMENT = """\
name: sums
dataset: {name: sums, file_path: sums.jsonl}
prompt_template: {name: math, user_prompt: "What is <a> + <b>?"}
model: {name: simulated/calculator, accuracy: 1}
evaluation:
  - metric: exact_match
    column_mapping: {response: $inference, reference: answer}
"""
BRIEF = [
    "run_id",
    "status",
    "cases",
    "succeeded",
    "failed",
    "wall_s",
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
    "metrics",
    "errors",
    "messages",
    "cut",
    "finish_reasons",
]
Invoke = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with ten sums."""
    monkeypatch.chdir(tmp_path)
    for name in ("PROMPTLAB_DB", "PROMPTLAB_ENDPOINT", "PROMPTLAB_API_KEY", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "sums.jsonl").write_text(
        "".join(json.dumps({"a": i, "b": 7, "answer": str(i + 7)}) + "\n" for i in range(10))
    )
    (tmp_path / "sums.yaml").write_text(EXPERIMENT)
    return tmp_path


@pytest.fixture
def invoke(folder: Path) -> Invoke:
    """Run a command; an exit code other than the expected one shows what was said."""

    def run(*args: str, code: int = 0) -> Result:
        result = CliRunner().invoke(commands, args, prog_name="promptlab")
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return run


def replaced(folder: Path, **changes: str) -> str:
    """An experiment with other lines for some fields."""
    text = EXPERIMENT
    for field, line in changes.items():
        text, count = re.subn(rf"^{field}:.*\n(  .*\n)*", lambda _: f"{field}: {line}\n", text, flags=re.M)  # noqa: B023
        assert count == 1
    (folder / "changed.yaml").write_text(text)
    return "changed.yaml"


def test_run_prints_a_summary_and_keeps_everything_beside_the_default_store(
    invoke: Invoke, folder: Path
) -> None:
    """Standard output has the table and nothing else; progress is on standard error."""
    result = invoke("run", "sums.yaml")
    assert "10 of 10 cases succeeded" in result.stdout and re.search(r"exact_match +1 ", result.stdout)
    assert result.stdout.startswith("sums  run ") and "\x1b" not in result.output
    assert result.stderr.startswith("sums: run ") and "10 of 10 done, 0 failed" in result.stderr
    assert (folder / "promptlab.db").is_file() and (folder / "promptlab.db.blobs").is_dir()


def test_run_json_is_one_object_with_every_key_though_an_evaluator_prints(
    invoke: Invoke, folder: Path
) -> None:
    """Output of the user's own code goes to standard error."""
    (folder / "mine.py").write_text(
        "from promptlab import Evaluator\n"
        "print('loading')\n"
        "class Mine(Evaluator):\n"
        "    def evaluate(self, data):\n"
        "        print('noise')\n"
        "        return len(data['response'])\n"
    )
    file = replaced(
        folder,
        evaluation="[{metric: Mine, evaluator: 'mine.py:Mine', column_mapping: {response: $inference}}]",
    )
    result = invoke("run", file, "--json", "--quiet")
    value = json.loads(result.stdout)
    assert list(value) == BRIEF
    assert (value["status"], value["cases"], value["succeeded"], value["failed"], value["errors"]) == (
        "completed",
        10,
        10,
        0,
        {},
    )
    assert list(value["metrics"]["Mine"])[:6] == ["n", "rows", "mean", "stderr", "ci_low", "ci_high"]
    assert "noise" in result.stderr and "done" not in result.stderr


def test_quiet_says_nothing_on_standard_error(invoke: Invoke) -> None:
    """The summary is all there is."""
    assert invoke("run", "sums.yaml", "-q").stderr == ""


def test_failed_cases_are_reported_and_fail_a_pipeline_only_on_request(invoke: Invoke, folder: Path) -> None:
    """Exit code 0, or 3 with --fail-on-error; the run is completed either way."""
    with ModelServer(
        lambda request: Reply(status=400, text="no [b]sums[/b] :smile:") if "3 +" in request.prompt else "10"
    ) as server:
        file = replaced(folder, model=f"{{name: openai/m, endpoint: '{server.openai_url}', api_key: k}}")
        assert "1 failed: 1 × bad_request" in invoke("run", file).stdout
        value = json.loads(invoke("run", file, "--json", "--fail-on-error", code=3).stdout)
    assert (value["status"], value["failed"], value["errors"]) == ("completed", 1, {"bad_request": 1})
    shown = invoke("show", "latest").stdout
    assert "Failed cases:" in shown and "no [b]sums[/b] :smile:" in " ".join(shown.split())
    (failure,) = json.loads(invoke("show", "latest", "--json").stdout)["failures"]
    assert (
        failure["case"] == 3 and failure["type"] == "bad_request" and "no [b]sums[/b]" in failure["message"]
    )


def test_a_part_of_the_rows_is_run_and_keeps_its_ids(invoke: Invoke) -> None:
    """The first rows, or a sample that a seed names; from a file and from a stored dataset alike."""
    invoke("run", "sums.yaml", "-q")

    def rows(*args: str) -> list[tuple[str, str]]:
        invoke("run", "sums.yaml", "-q", *args)
        lines = invoke("export", "latest", "--format", "jsonl", "-o", "-").stdout.splitlines()
        return [(row["id"], row["input.answer"]) for row in map(json.loads, lines)]

    whole = [(str(n), str(n + 7)) for n in range(10)]
    assert rows("--limit", "3") == rows("--limit", "3", "--set", "dataset=sums") == whole[:3]
    some = rows("--sample", "4", "--seed", "1")
    assert len(some) == 4 and set(some) < set(whole) and some == sorted(some)
    assert rows("--sample", "4", "--seed", "1", "--set", "dataset=sums@0") == some
    assert rows("--sample", "4", "--seed", "2") != some and rows("--sample", "99") == whole
    assert "one or the other" in invoke("run", "sums.yaml", "--limit", "1", "--sample", "1", code=2).stderr
    assert "give --sample" in invoke("run", "sums.yaml", "--seed", "1", code=2).stderr


def test_fields_are_changed_on_the_command_line(invoke: Invoke) -> None:
    """By dotted paths, with values as YAML reads them; a wrong one is an error before anything is stored."""
    sets = (
        "model.accuracy=0",
        "evaluation.exact_match.name=same",
        "evaluation.0.params={strip: false}",
        "tags=[x]",
    )
    invoke("run", "sums.yaml", "-q", *(part for change in sets for part in ("--set", change)))
    spec = json.loads(invoke("show", "latest", "--json").stdout)
    assert spec["experiment"]["model"]["accuracy"] == 0 and spec["metrics"]["same"]["mean"] == 0
    assert spec["tags"] == ["x"] and spec["experiment"]["evaluation"][0]["params"] == {"strip": False}
    invoke("run", "sums.yaml", "-q", "--set", "model=simulated/calculator", "--set", "model.accuracy=1")
    for wrong, words in (
        ("model.temperature", "PATH=VALUE"),
        ("trials.x=1", "trials: "),
        ("evaluation.f1.name=x", "no 'f1' in this list of 1: exact_match"),
        ("nonsense=1", "nonsense"),
        ("trials=[", "value '[' is not valid YAML"),
        ("name=" + "x" * 10_001, "10,000 characters"),
    ):
        assert words in invoke("run", "sums.yaml", "--set", wrong, code=2).stderr, wrong
    assert len(json.loads(invoke("runs", "--json").stdout)) == 2


def test_a_condition_fails_a_pipeline_and_says_the_number(invoke: Invoke) -> None:
    """Exit code 4; one that holds for no run is found before anything is run."""
    assert "Failed" not in invoke("run", "sums.yaml", "--fail-if", "exact_match < 0.5 or failed > 0").stderr
    said = invoke("run", "sums.yaml", "--fail-if", "exact_match.ci_low < 0.8 and cases >= 10", code=4).stderr
    assert "exact_match.ci_low is 0.722467, which is < 0.8 and cases is 10, which is >= 10" in said
    before = len(json.loads(invoke("runs", "--json").stdout))
    for wrong, words in (
        ("exact_mach.ci_low < 1", "there is no 'exact_mach.ci_low'"),
        ("exact_match.ci_low", "no comparison"),
        ("exact_match < nan", "no comparison"),
        ("__import__('os') < 1", "there is no"),
        ("exact_match < 1 and", "no comparison"),
        ("a" * 1_001, "1,000 at most"),
    ):
        assert words in invoke("run", "sums.yaml", "--fail-if", wrong, code=2).stderr, wrong
    assert len(json.loads(invoke("runs", "--json").stdout)) == before


def test_a_mistyped_store_is_not_made(invoke: Invoke, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pipe it is an error that names what is there; a run begins a new store."""
    invoke("run", "sums.yaml", "-q", "--db", "lab.db")
    for args in (("runs",), ("show", "latest"), ("studio",), ("prompts",)):
        error = invoke(*args, "--db", "lap.db", code=2).stderr
        assert "There is no store lap.db" in error and "lab.db" in error and "promptlab run" in error
    monkeypatch.setenv("PROMPTLAB_DB", "lap.db")
    assert "There is no store lap.db" in invoke("runs", code=2).stderr
    assert not (folder / "lap.db").exists()


def test_init_writes_an_experiment_that_runs(invoke: Invoke, folder: Path) -> None:
    """And leaves what is there alone."""
    assert f"Next: {program()} run my.sums.yaml" in invoke("init", "my.sums.yaml").stderr
    assert "3 of 3 cases succeeded" in invoke("run", "my.sums.yaml").stdout
    assert "already" in invoke("init", "my.sums.yaml", code=2).stderr
    assert "ends in .yaml" in invoke("init", "x.txt", code=2).stderr
    assert "no folder" in invoke("init", "no/x.yaml", code=2).stderr


def test_a_pipe_gets_whole_lines(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long names are: ids stay whole, and no line is folded."""
    monkeypatch.delenv("COLUMNS")
    name = "a name of many words " * 9
    value = json.loads(invoke("run", "sums.yaml", "--json", "-q", "--set", f"name={name}").stdout)
    lines = invoke("runs").stdout.splitlines()
    assert len(lines) == 2 and value["run_id"] in lines[1] and name.strip() in lines[1]
    monkeypatch.setenv("COLUMNS", "50")
    words = invoke("runs").stdout.split()
    assert value["run_id"] in words and set(name.split()) < set(words)


def test_a_run_is_asked_in_sql(invoke: Invoke) -> None:
    """As a table, as JSON and from Python alike; what DuckDB says of a wrong question is the message."""
    run = json.loads(invoke("run", "sums.yaml", "--json", "-q").stdout)["run_id"]
    asked = 'SELECT "score.exact_match" AS right, count(*) AS n FROM cases GROUP BY ALL'
    assert invoke("sql", run, asked).stdout.split() == ["right", "n", "1.0", "10"]
    value = json.loads(invoke("sql", "latest", asked, "--json").stdout)
    assert value["rows"] == [[1.0, 10]]
    assert "nowhere" in invoke("sql", run, "SELECT * FROM nowhere", code=2).stderr
    with PromptLab() as pl:
        assert pl.experiment.sql(run, asked).to_json() == value


def test_runs_are_compared(invoke: Invoke, folder: Path) -> None:
    """Means, interval, cases won and lost, and the cases that differ; as a table and as JSON,
    and from Python alike."""
    wrong = replaced(folder, model="{name: simulated/calculator, accuracy: 0}")
    base, other = (
        json.loads(invoke("run", f, "--json", "-q").stdout)["run_id"] for f in (wrong, "sums.yaml")
    )
    words = " ".join(invoke("compare", base, "latest", "--limit", "3").stdout.split())
    assert f"A run {base} B run {other} 10 cases are in all" in words
    assert re.search(r"exact_match B 0 1 \+1 .* 10 10 0 0", words) and "3 of 10 cases" in words
    assert "0: B improved in exact_match A" in words
    value = json.loads(invoke("compare", base, other, "--json", "--change", "regressed").stdout)
    (against,) = value["others"]
    assert (value["base"], against["run_id"], value["items"]) == (base, other, [])
    assert {
        k: against["metrics"]["exact_match"][k] for k in ("n", "difference", "wins", "losses", "ties")
    } == {
        "n": 10,
        "difference": 1.0,
        "wins": 10,
        "losses": 0,
        "ties": 0,
    }
    assert "2 to 4 runs" in invoke("compare", base, code=2).stderr
    assert "'f1'" in invoke("compare", base, other, "--metric", "f1", code=2).stderr
    with PromptLab() as pl:
        same = pl.experiment.compare(pl.experiment.get(base), other, change="regressed", limit=10)
    assert same.to_json() == {**value, "limit": 10} and "exact_match" in str(same)


def test_the_end_of_a_run_says_what_went_wrong_and_what_to_do(invoke: Invoke, folder: Path) -> None:
    """The most frequent message of each type, cut answers, the next commands; failed cases
    are listed on request."""

    def answer(request: Request) -> Reply | str:
        number = int(request.prompt.split()[2])
        if number < 4:
            return Reply(status=400, text="no such deployment" if number else "something rare")
        cut = {"choices": [{"message": {"content": "10"}, "finish_reason": "length"}]}
        return Reply(body=cut) if number == 9 else "10"

    with ModelServer(answer) as server:
        file = replaced(folder, model=f"{{name: openai/m, endpoint: '{server.openai_url}', api_key: k}}")
        result = invoke("run", file)
        value = json.loads(invoke("run", file, "--json", "-q").stdout)
    run_id = json.loads(invoke("runs", "--json").stdout)[1]["run_id"]
    words = " ".join(result.stdout.split())
    assert "4 failed: 4 × bad_request" in words and "bad_request, 3 ×:" in words
    assert words.index("no such deployment") < words.index("something rare")
    assert "1 answer was cut" in words and "max_tokens" in words
    assert f"promptlab show {run_id} --failed" in result.stderr and "promptlab studio" in result.stderr
    assert [item["cases"] for item in value["messages"]["bad_request"]] == [3, 1] and value["cut"] == 1
    listed = " ".join(invoke("show", run_id, "--failed").stdout.split())
    assert listed.count("no such") == 3 and "sha256" not in listed
    assert (
        len(json.loads(invoke("show", run_id, "--json", "--failed", "--limit", "2").stdout)["failures"]) == 2
    )


def test_a_run_in_which_every_case_failed_is_an_error(invoke: Invoke, folder: Path) -> None:
    """Exit code 1, status words, the message in full, and why there are no scores."""
    with ModelServer(lambda request: Reply(status=422, text="no model called m")) as server:
        file = replaced(folder, model=f"{{name: openai/m, endpoint: '{server.openai_url}', api_key: k}}")
        result = invoke("run", file, code=1)
    words = " ".join(result.stdout.split())
    assert "all failed: bad_request" in words and "no model called m" in words
    assert "No scores: no case was answered" in words
    assert "No scores" not in invoke("run", "sums.yaml").stdout
    bare = replaced(folder, evaluation="[]")
    assert "No scores: the experiment has no metrics" in invoke("run", bare).stdout


def test_resume_failed_does_only_the_failed_cases(invoke: Invoke, folder: Path) -> None:
    """Ten calls, then one."""
    broken = True

    def answer(request: Request) -> Reply | str:
        return Reply(status=400) if broken and "3 +" in request.prompt else "10"

    with ModelServer(answer) as server:
        file = replaced(
            folder, model=f"{{name: openai/m, endpoint: '{server.openai_url}', api_key_env: SUMS_API_KEY}}"
        )
        runner = CliRunner(env={"SUMS_API_KEY": "k"})
        assert runner.invoke(commands, ["run", file]).exit_code == 0
        assert (
            "is complete: there is nothing to do.\n" in runner.invoke(commands, ["resume", "latest"]).stderr
        )
        calls, broken = len(server.requests), False
        mistyped = runner.invoke(commands, ["resume", "latest", "--errors", "bad_requst"])
        assert "no case failed with bad_requst: its errors are bad_request (1).\n" in mistyped.stderr
        assert len(server.requests) == calls
        result = runner.invoke(commands, ["resume", "latest", "--failed", "--json", "--fail-on-error"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["succeeded"] == 10 and len(server.requests) == calls + 1
    assert ", pass 2, " in result.stderr


def test_resume_takes_the_experiment_where_the_evaluator_has_moved(invoke: Invoke, folder: Path) -> None:
    """Without it the error names the file; one that changes more than code is refused."""
    code = (
        "from promptlab import Evaluator\nclass Mine(Evaluator):\n    def evaluate(self, data):\n    "
        "    return {} if broken and data['response'] != '7' else 1\n"
    )
    (folder / "mine.py").write_text("broken = True\n" + code)
    file = replaced(
        folder,
        evaluation="[{metric: Mine, evaluator: 'mine.py:Mine', column_mapping: {response: $inference}}]",
    )
    value = json.loads(invoke("run", file, "--json").stdout)
    assert value["metrics"]["Mine"]["n"] == 1
    (folder / "mine.py").unlink()
    assert "mine.py" in invoke("resume", "latest", "--failed", code=2).stderr
    (folder / "moved.py").write_text("broken = False\n" + code)
    moved = folder / "moved.yaml"
    moved.write_text((folder / file).read_text().replace("mine.py", "moved.py"))
    (folder / "other.yaml").write_text(moved.read_text() + "trials: 2\n")
    refused = invoke("resume", "latest", "--failed", "--experiment", "other.yaml", code=2).stderr
    assert "trials: 1 in the run, 2 here" in refused
    again = json.loads(invoke("resume", "latest", "--failed", "--experiment", "moved.yaml", "--json").stdout)
    assert (again["metrics"]["Mine"]["n"], "failed" in again["metrics"]["Mine"]) == (10, False)


def test_runs_lists_the_newest_first(invoke: Invoke, folder: Path) -> None:
    """As a table and as a list of objects, with a limit and by name."""
    assert "No runs in" in invoke("runs").stderr
    assert json.loads(invoke("runs", "--json").stdout) == []
    ids = [json.loads(invoke("run", "sums.yaml", "--json", "--tag", "one", "--tag", "two").stdout)["run_id"]]
    ids.append(json.loads(invoke("run", replaced(folder, name="other"), "--json").stdout)["run_id"])
    listed = json.loads(invoke("runs", "--json").stdout)
    assert [run["run_id"] for run in listed] == ids[::-1]
    assert list(listed[0])[: len(BRIEF)] == BRIEF and listed[1]["tags"] == ["one", "two"]
    assert [run["name"] for run in json.loads(invoke("runs", "--json", "--name", "sums").stdout)] == ["sums"]
    assert [run["run_id"] for run in json.loads(invoke("runs", "--json", "--limit", "1").stdout)] == ids[1:]
    assert all(run_id in invoke("runs").stdout for run_id in ids)


def test_tags_archive_and_labels_are_changed_afterwards_and_runs_deleted(invoke: Invoke) -> None:
    """Lists are filtered by tag, model, prompt and status; a removal is asked for, and refused without --yes
    in a pipe."""
    one, two = (json.loads(invoke("run", "sums.yaml", "--json", "-q").stdout)["run_id"] for _ in "ab")
    assert invoke("tag", "latest", "day", "main").stdout == "day\nmain\n"
    assert invoke("tag", two, "--remove", "main").stdout == "day\n"
    assert "has no tag 'main'" in invoke("tag", two, "--remove", "main", code=2).stderr
    said = invoke("describe", two, "--title", "the one", "--description", "why").stdout
    assert said == invoke("describe", two).stdout == "the one\nwhy\n"
    assert "the one  (" in invoke("show", two).stdout

    def listed(*args: str) -> list[str]:
        return [run["run_id"] for run in json.loads(invoke("runs", "--json", *args).stdout)]

    assert listed("--tag", "day") == [two] and listed("--model", "calculator", "--prompt", "math@0") == [
        two,
        one,
    ]
    assert listed("--status", "failed") == [] and "No such runs" in invoke("runs", "--tag", "x").stderr
    invoke("archive", one)
    assert (listed(), listed("--archived")) == ([two], [one])
    invoke("archive", one, "--undo")
    assert "math@production is math@0" in invoke("label", "math@0", "production").stderr
    assert "production" in invoke("prompts", "math").stdout
    invoke("label", "math", "production", "--remove")
    assert "no label 'production'" in invoke("label", "math", "production", "--remove", code=2).stderr
    assert "for good?" in invoke("delete", one, code=1).stderr and listed() == [two, one]
    assert f"Run {one} is gone" in invoke("delete", one, "--yes").stderr and listed() == [two]
    assert f"used by a run ({two})" in invoke("delete", "math@0", "--yes", code=2).stderr
    invoke("delete", two, "--yes")
    assert "1 version (math@0) for good?" in invoke("delete", "math@0", code=1).stderr
    assert "math@0 is gone" in invoke("delete", "math@0", "--yes").stderr
    assert "'math@new' names no version" in invoke("delete", "math@new", "--yes", code=2).stderr


@pytest.mark.parametrize("columns", ["80", "40"])
def test_tables_fit_the_terminal_and_lose_nothing(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    """No line is longer, and no id or hash is cut."""
    run_id = json.loads(invoke("run", "sums.yaml", "--json", "--tag", "nightly").stdout)["run_id"]
    monkeypatch.setenv("COLUMNS", columns)
    details = json.loads(invoke("show", "latest", "--json").stdout)
    for args in (("runs",), ("show", "latest"), ("prompts", "math"), ("datasets", "sums")):
        shown = invoke(*args).stdout
        assert max(map(len, shown.splitlines())) <= int(columns), args
        assert "…" not in shown.replace(" … ", " "), args
    squeezed = "".join(invoke("show", "latest").stdout.split())
    assert details["experiment"]["dataset"]["hash"] in squeezed and details["experiment"]["hash"] in squeezed
    assert run_id in invoke("runs").stdout


def test_a_run_is_found_by_the_beginning_of_its_id(invoke: Invoke) -> None:
    """`latest`, a prefix that one run has, and clear errors for all else."""
    assert "There is no latest run" in invoke("show", "latest", code=2).stderr
    first, second = (json.loads(invoke("run", "sums.yaml", "--json").stdout)["run_id"] for _ in range(2))
    shown = [
        json.loads(invoke("show", name, "--json").stdout)["run_id"] for name in (first[:-1], second, "latest")
    ]
    assert shown == [first, second, second]
    error = invoke("show", "20", code=2).stderr
    assert "'20' begins the ids of 2 runs" in error and first in error and "Give more" in error
    for command in ("show", "resume", "export"):
        for name in ("nope", "", "%"):
            assert f"No run {name!r} in this store" in invoke(command, name, code=2).stderr


def test_show_tells_of_one_case_and_its_attempts(invoke: Invoke, folder: Path) -> None:
    """For people and as JSON; a case that is not there is a mistake of whoever asks."""

    def answer(request: Request) -> Reply | str:
        if "3 +" in request.prompt:
            return Reply(status=400, headers={"x-request-id": "req_9"}, text="no")
        return Reply(status=503) if "4 +" in request.prompt and request.attempt == 1 else "10"

    with ModelServer(answer) as server:
        file = replaced(folder, model=f"{{name: openai/m, endpoint: '{server.openai_url}', api_key: k}}")
        invoke("run", file)
    shown = " ".join(invoke("show", "latest", "--case", "4").stdout.split())
    assert "2 attempts:" in shown and "server_error 503" in shown and "answered" in shown
    row = json.loads(invoke("show", "latest", "--case", "3.0", "--json").stdout)
    assert (row["case"], row["input.a"], row["error_type"]) == (3, 3, "bad_request")
    assert [(one["status"], one["request_id"]) for one in row["tries"]] == [(400, "req_9")]
    assert "attempt" not in invoke("show", "latest", "--case", "0").stdout.replace("attempts", "")
    (failure,) = json.loads(invoke("show", "latest", "--failed", "--json").stdout)["failures"]
    assert (failure["attempts"], failure["tries"]) == (1, row["tries"])
    assert "has no answer or failure of case 10.0" in invoke("show", "latest", "--case", "10", code=2).stderr
    assert "is no case" in invoke("show", "latest", "--case", "x", code=2).stderr
    assert "leave out" in invoke("show", "latest", "--case", "1", "--failed", code=2).stderr


def test_show_has_the_exact_configuration(invoke: Invoke) -> None:
    """Hashes, versions, parameters."""
    invoke("run", "sums.yaml", "--tag", "nightly")
    value = json.loads(invoke("show", "latest", "--json").stdout)
    spec = value["experiment"]
    assert list(value)[: len(BRIEF)] == BRIEF and value["tags"] == ["nightly"] and value["failures"] == []
    assert spec["dataset"]["version"] == 0 and len(spec["dataset"]["hash"]) == len(spec["hash"]) == 64
    assert spec["evaluation"][0]["column_mapping"] == {"response": "$inference", "reference": "answer"}
    words = " ".join(invoke("show", "latest").stdout.split())
    assert (
        "sums@0 sha256" in words
        and "accuracy=1" in words
        and "exact_match: response=$inference, reference=answer" in words
        and "nightly" in words
    )


def test_export_writes_each_format_and_names_the_file_after_the_run(invoke: Invoke, folder: Path) -> None:
    """By default in the working folder; the format may be that of --output."""
    run_id = json.loads(invoke("run", "sums.yaml", "--json").stdout)["run_id"]
    for format_ in ("csv", "jsonl", "parquet"):
        assert f"Wrote {run_id}.{format_}." in invoke("export", "latest", "--format", format_).stderr
    with (folder / f"{run_id}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10 and rows[3]["response"] == "10" and rows[3]["score.exact_match"] == "1.0"
    assert [
        json.loads(line)["case"] for line in (folder / f"{run_id}.jsonl").read_text().splitlines()
    ] == list(range(10))
    assert (folder / f"{run_id}.parquet").read_bytes()[:4] == b"PAR1"
    invoke("export", "latest", "-o", "out.jsonl")
    assert (folder / "out.jsonl").read_text() == (folder / f"{run_id}.jsonl").read_text()


def test_export_writes_csv_for_excel(invoke: Invoke, folder: Path) -> None:
    """With the delimiter and the mark that were asked for, and only for CSV."""
    run_id = json.loads(invoke("run", "sums.yaml", "--json").stdout)["run_id"]
    plain = invoke("export", run_id, "-o", "-").stdout
    for given, delimiter in ((";", ";"), ("tab", "\t"), ("|", "|")):
        invoke("export", run_id, "-o", "out.csv", "--bom", "--delimiter", given)
        data = (folder / "out.csv").read_bytes()
        assert data.startswith(b"\xef\xbb\xbfcase" + delimiter.encode() + b"trial")
        rows = list(csv.DictReader(StringIO(data.decode("utf-8-sig"), newline=""), delimiter=delimiter))
        assert rows == list(csv.DictReader(StringIO(plain, newline="")))
    refused = invoke("export", run_id, "--format", "jsonl", "--bom", code=2).stderr
    assert "are for CSV, and the format is jsonl" in refused
    for sign in ("", ";;", "é", "x", '"', "\n", "."):
        assert "he delimiter" in invoke("export", run_id, "--delimiter", sign, code=2).stderr


def test_export_to_standard_output_is_the_file_itself(invoke: Invoke, folder: Path) -> None:
    """For csv and jsonl; Parquet is refused, and so is a folder that is not there."""
    invoke("run", "sums.yaml")
    assert [
        json.loads(line)["id"]
        for line in invoke("export", "latest", "--format", "jsonl", "--output", "-").stdout.splitlines()
    ] == [str(i) for i in range(10)]
    assert len(list(csv.DictReader(StringIO(invoke("export", "latest", "-o", "-").stdout)))) == 10
    before = sorted(folder.iterdir())
    assert (
        "Parquet is not text" in invoke("export", "latest", "--format", "parquet", "-o", "-", code=2).stderr
    )
    assert "there is no folder" in invoke("export", "latest", "-o", "no/such.csv", code=2).stderr
    assert "Cannot tell the format" in invoke("export", "latest", "-o", "out.txt", code=2).stderr
    assert sorted(folder.iterdir()) == before


def test_prompts_and_datasets_list_versions_labels_and_content(invoke: Invoke, folder: Path) -> None:
    """Names in lists; versions, and the text or the columns, with a name."""
    assert "No prompt templates in" in invoke("prompts").stderr
    assert json.loads(invoke("datasets", "--json").stdout) == []
    invoke("run", "sums.yaml", "-q")
    invoke("run", replaced(folder, prompt_template='{name: math, user_prompt: "[b]<a>[/b] plus <b>?"}'), "-q")
    assert [(p["name"], p["version"]) for p in json.loads(invoke("prompts", "--json").stdout)] == [
        ("math", 1)
    ]
    versions = json.loads(invoke("prompts", "math", "--json").stdout)
    assert [v["version"] for v in versions] == [0, 1] and versions[0]["content"][
        "user_prompt"
    ] == "What is <a> + <b>?"
    assert "[b]<a>[/b] plus <b>?" in invoke("prompts", "math").stdout
    assert "What is <a> + <b>?" in invoke("prompts", "math@0").stdout
    assert re.search(r"a +integer +10", invoke("datasets", "sums").stdout)
    assert "no version 7" in invoke("prompts", "math@7", code=2).stderr
    assert "There is no dataset 'nope'" in invoke("datasets", "nope", code=2).stderr


def test_the_store_is_named_by_an_option_or_the_environment(
    invoke: Invoke, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The option wins."""
    monkeypatch.setenv("PROMPTLAB_DB", "env.db")
    invoke("run", "sums.yaml", "-q")
    invoke("run", "sums.yaml", "-q", "--db", "option.db")
    assert sorted(path.name for path in folder.glob("*.db")) == ["env.db", "option.db"]
    assert len(json.loads(invoke("runs", "--json", "--db", "option.db").stdout)) == 1
    assert "is a folder" in invoke("runs", "--db", ".", code=2).stderr


def test_a_file_that_is_no_store_is_refused(invoke: Invoke, folder: Path) -> None:
    """With its name, and untouched."""
    assert str(folder / "sums.jsonl") in invoke("runs", "--db", "sums.jsonl", code=2).stderr
    assert (folder / "sums.jsonl").read_text().startswith('{"a": 0')


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


BAD: dict[str, tuple[dict[str, str], str]] = {
    "a missing file": ({"dataset": "{name: d, file_path: gone.jsonl}"}, "gone.jsonl"),
    "an empty dataset": ({"dataset": "{name: d, file_path: empty.jsonl}"}, "empty"),
    "a broken line": ({"dataset": "{name: d, file_path: broken.jsonl}"}, "line 2"),
    "duplicate ids": ({"dataset": "{name: d, file_path: twice.jsonl}"}, "'x'"),
    "a placeholder without a column": (
        {"prompt_template": "{name: p, user_prompt: 'What is <aa>?'}"},
        "no column fills <aa>",
    ),
    "a mapping to no column": (
        {"evaluation": "[{metric: exact_match, column_mapping: {reference: anser}}]"},
        "Did you mean 'answer'",
    ),
    "an unknown metric": ({"evaluation": "[{metric: exact_mach}]"}, "'exact_match'"),
    "an unknown provider": ({"model": "opnai/gpt-6-luna"}, "'openai'"),
    "a missing key": ({"model": "{name: openai/gpt-6-luna, api_key_env: NO_SUCH_KEY}"}, "NO_SUCH_KEY"),
    "an unreachable endpoint": (
        {"model": "{name: openai/m, endpoint: 'http://127.0.0.1:CLOSED/v1', api_key: k}"},
        "127.0.0.1",
    ),
    "an unknown field": ({"name": "x\ntrails: 2"}, "'trials'"),
    "an unknown parameter": ({"evaluation": "[{metric: exact_match, params: {case: 1}}]"}, "'case'"),
    "no such asset": ({"dataset": "nope@3"}, "There is no dataset 'nope'"),
    "no such evaluator": ({"evaluation": "[{metric: m, evaluator: 'sums.py:M'}]"}, "sums.py"),
    "a name that is not in the file": ({"evaluation": "[{metric: m, evaluator: 'm.py:M'}]"}, "'M'"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_clear_message_and_leaves_nothing(invoke: Invoke, folder: Path, what: str) -> None:
    """Exit code 2, `Error: …`, no store, no blobs."""
    changes, said = BAD[what]
    (folder / "empty.jsonl").write_text("")
    (folder / "broken.jsonl").write_text('{"a": 1, "b": 2, "answer": "3"}\n{"a": 1,\n')
    (folder / "twice.jsonl").write_text('{"id": "x", "a": 1, "b": 2, "answer": "3"}\n' * 2)
    (folder / "m.py").write_text("class N: ...\n")
    file = replaced(
        folder, **{field: line.replace("CLOSED", str(closed_port())) for field, line in changes.items()}
    )
    before = sorted(folder.iterdir())
    result = invoke("run", file, code=2)
    assert result.stdout == "" and result.stderr.startswith("Error: ") and said in result.stderr, (
        result.stderr
    )
    assert "Traceback" not in result.stderr
    assert sorted(folder.iterdir()) == before


def test_wrong_usage_is_exit_code_2(invoke: Invoke) -> None:
    """Unknown commands, options and values."""
    for args in (
        ("nope",),
        ("run",),
        ("run", "sums.yaml", "--nope"),
        ("runs", "--limit", "0"),
        ("export", "latest", "--format", "xls"),
    ):
        assert "Error: " in invoke(*args, code=2).stderr


def test_help_is_what_promptlab_alone_prints(invoke: Invoke) -> None:
    """With the exit codes, and the commands in the order in which one meets them."""
    text = invoke().stdout
    assert text == invoke("--help").stdout and "Exit codes:" in text
    assert re.findall(r"^  ([a-z]+) {2,}", text.partition("Commands:")[2], flags=re.M) == list(
        commands.commands
    )


def test_schema_and_version(invoke: Invoke) -> None:
    """The schema is one JSON object; the version is that of the distribution."""
    from importlib.metadata import version

    assert json.loads(invoke("schema").stdout)["$schema"].endswith("draft/2020-12/schema")
    assert invoke("version").stdout.strip() == version("promptlab-serverless")


def documentable(group: click.Group = commands, before: str = "") -> dict[str, click.Command]:
    """Every command by its whole name; a group that only groups others' words is documented with them."""
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        if before == "" or not isinstance(command, click.Group):
            found[before + name] = command
        if isinstance(command, click.Group):
            found |= documentable(command, f"{before}{name} ")
    return found


def sections() -> dict[str, str]:
    """The text of docs/cli.md for each command."""
    parts = re.split(r"^## `promptlab ([a-z ]+)`$", DOCS.read_text(encoding="utf-8"), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_documentation_has_every_command_with_an_example() -> None:
    """In the order of --help."""
    documented = sections()
    assert list(documented) == list(documentable())
    assert [name for name, text in documented.items() if f"$ promptlab {name}" not in text] == []


@pytest.mark.parametrize("name", list(documentable()))
def test_the_documentation_has_every_option_and_no_other(name: str) -> None:
    """The table of options of a command is that of its --help."""
    real = {
        opt
        for param in documentable()[name].params
        if isinstance(param, click.Option)
        for opt in (*param.opts, *param.secondary_opts)
    }
    rows = [line for line in sections()[name].splitlines() if line.startswith("| `-")]
    assert {
        option for row in rows for option in re.findall(r"(?<=`)--?[a-z][a-z-]*", row.split("|")[1])
    } == real


def test_the_documentation_has_every_exit_code(invoke: Invoke) -> None:
    """The same as --help."""
    codes = set(re.findall(r"^\| (\d+) \|", DOCS.read_text(encoding="utf-8"), flags=re.M))
    assert codes == {"0", "1", "2", "3", "4", "5", "130", "143"}
    assert all(code in invoke("--help").stdout for code in codes)


def test_the_documented_yaml_is_that_which_is_read(folder: Path) -> None:
    """The example of the documentation loads."""
    from promptlab.experiments.file import load_experiment

    block = re.search(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), flags=re.S)
    assert block
    (folder / "doc.yaml").write_text(block[1])
    (folder / "gsm8k_test.jsonl").write_text("{}")
    config: Any = load_experiment(folder / "doc.yaml").config
    assert config.model.api_key_env == "SOME_API_KEY" and config.evaluation[0].metric == "numeric_match"
