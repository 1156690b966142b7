"""The commands as processes: signals, kill -9, pipes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.servers import ModelServer, Reply

CASES = 60
IN_FLIGHT = 5
ME = f"{sys.executable} -m promptlab"
"""The command line as it is started here, and so named in hints."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a dataset of sixty rows and an evaluator."""
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"q": f"q{i}"}) + "\n" for i in range(CASES)))
    (tmp_path / "mine.py").write_text(
        "import os\nfrom promptlab import Evaluator\nclass Mine(Evaluator):\n    def evaluate(self, "
        "data):\n        print('noise')\n        os.write(1, b'noise\\n')\n        return "
        "len(data['response'])\n"
    )
    return tmp_path


def experiment(folder: Path, server: ModelServer) -> None:
    (folder / "e.yaml").write_text(
        "name: e\n"
        "dataset: {name: d, file_path: rows.jsonl}\n"
        "prompt_template: {name: p, user_prompt: <q>}\n"
        f"model: {{name: openai/m, endpoint: '{server.openai_url}', api_key_env: CLI_TEST_API_KEY, "
        f"max_concurrent_tasks: {IN_FLIGHT}}}\n"
        "evaluation: [{metric: Mine, evaluator: 'mine.py:Mine', column_mapping: {response: $inference}}]\n"
    )


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Start a command in the folder; what still runs at the end is killed."""
    with ExitStack() as stack:
        yield lambda *args: stack.enter_context(_ended(_start(folder, *args)))


@contextmanager
def _ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    with process:
        yield process
        process.kill()


def _start(folder: Path, *args: str) -> subprocess.Popen[str]:
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PROMPTLAB_DB", "PROMPTLAB_ENDPOINT", "PROMPTLAB_API_KEY", "FORCE_COLOR", "NO_COLOR")
    }
    # A test run in the background of a script ignores Ctrl-C, and its children would inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "promptlab", *args],
            cwd=folder,
            env=env | {"CLI_TEST_API_KEY": "k"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def finish(process: subprocess.Popen[str]) -> tuple[str, str, int]:
    out, err = process.communicate(timeout=200)
    return out, err, process.returncode


def hanging_after(count: int) -> ModelServer:
    """A server that answers the first `count` requests, and the others only once it is released."""
    server = ModelServer(lambda request: Reply(text="yes", hang=len(server.requests) > count))
    return server


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_was_answered_and_says_how_to_go_on(
    folder: Path, start: Start, number: signal.Signals
) -> None:
    """Answers on their way are waited for; the printed command then does the rest, and nothing twice."""
    with hanging_after(20) as server:
        experiment(folder, server)
        process = start("run", "e.yaml", "--json", "--db", "my lab.db")
        server.wait_for_requests(20 + IN_FLIGHT)
        process.send_signal(number)
        assert process.stderr is not None
        said = ""
        while "Stopping" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        server.release()
        out, err, code = finish(process)
        value = json.loads(out)
        assert code == 128 + number
        assert (
            value["status"] == "interrupted"
            and value["succeeded"] == 20 + IN_FLIGHT
            and value["cases"] == CASES
        )
        *_, first, second = err.splitlines()
        assert first == f"Interrupted: {20 + IN_FLIGHT} of {CASES} cases are done and kept."
        assert second == f"Go on with: {ME} resume {value['run_id']} --db '{folder / 'my lab.db'}'"
        out, err, code = finish(start("resume", "latest", "--db", "my lab.db", "--json"))
    assert code == 0, err
    assert json.loads(out)["succeeded"] == CASES and json.loads(out)["metrics"]["Mine"]["n"] == CASES
    assert (
        Counter(request.prompt for request in server.requests if request.kind == "openai").most_common(1)[0][
            1
        ]
        == 1
    )


def test_a_second_signal_does_not_wait(folder: Path, start: Start) -> None:
    """Answers are kept; the run can be resumed."""
    with hanging_after(20) as server:
        experiment(folder, server)
        process = start("run", "e.yaml", "--json")
        server.wait_for_requests(20 + IN_FLIGHT)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        while "Stopping" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        out, err, code = finish(process)
        assert code == 130 and "Traceback" not in err and "Task" not in err, err
        assert json.loads(out)["status"] == "interrupted" and json.loads(out)["succeeded"] == 20
        server.release()
        out, err, code = finish(start("resume", "latest", "--json", "--quiet"))
    assert code == 0 and json.loads(out)["succeeded"] == CASES, err
    assert len([r for r in server.requests if r.kind == "openai"]) <= CASES + IN_FLIGHT


def test_kill_9_loses_nothing_that_was_recorded(folder: Path, start: Start) -> None:
    """The run shows as interrupted, and resume does the rest."""
    with hanging_after(40) as server:
        experiment(folder, server)
        process = start("run", "e.yaml")
        server.wait_for_requests(40 + IN_FLIGHT)
        process.kill()
        assert finish(process)[2] == -signal.SIGKILL
        (listed,) = json.loads(finish(start("runs", "--json"))[0])
        assert listed["status"] == "interrupted"
        server.release()
        out, err, code = finish(start("resume", listed["run_id"][:-2], "--json"))
        assert code == 0, err
        value = json.loads(out)
        assert (value["status"], value["succeeded"], value["metrics"]["Mine"]["n"]) == (
            "completed",
            CASES,
            CASES,
        )
        exported = finish(start("export", "latest", "--format", "jsonl", "-o", "-"))[0].splitlines()
    assert sorted(json.loads(line)["case"] for line in exported) == list(range(CASES))


def test_a_signal_before_the_run_begins_stores_nothing(folder: Path, start: Start) -> None:
    """Ctrl-C while the experiment is still being checked: here the evaluator's module
    takes its time to load."""
    with (folder / "mine.py").open("a") as module:
        module.write(
            "import pathlib, time\n"
            "pathlib.Path('loading').touch()\n"
            "for _ in range(1200):\n"
            "    if pathlib.Path('go').exists():\n"
            "        break\n"
            "    time.sleep(0.05)\n"
        )
    with ModelServer() as server:
        experiment(folder, server)
        process = start("run", "e.yaml", "--json")
        while not (folder / "loading").exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        (folder / "go").touch()
        out, err, code = finish(process)
        assert (out, code) == ("", 130) and "nothing was stored" in err, err
        assert server.requests == []
    assert not (folder / "promptlab.db").exists()


def test_pipes_get_plain_lines_and_one_json_object(folder: Path, start: Start) -> None:
    """No control codes anywhere, and nothing of the user's own prints on standard output."""
    with ModelServer() as server:
        experiment(folder, server)
        out, err, code = finish(start("run", "e.yaml", "--json"))
        assert code == 0 and json.loads(out)["succeeded"] == CASES
        lines = [line for line in err.splitlines() if line != "noise"]
        assert lines[0].startswith("e: run ") and f"{CASES} of {CASES} done, 0 failed" in lines[-2]
        assert lines[-1] == f"Look at it: {ME} studio"
        table, _, _ = finish(start("show", "latest"))
    assert "\x1b" not in out + err + table


def test_a_reader_that_goes_away_is_no_traceback(folder: Path, start: Start) -> None:
    """As in `promptlab export … -o - | head -1`."""
    (folder / "rows.jsonl").write_text("".join(json.dumps({"q": "x" * 1000}) + "\n" for _ in range(500)))
    (folder / "e.yaml").write_text(
        "dataset: {name: d, file_path: rows.jsonl}\nprompt_template: {name: p, user_prompt: "
        "<q>}\nmodel: {name: simulated/echo, max_concurrent_tasks: 100}\n"
    )
    assert finish(start("run", "e.yaml", "-q"))[2] == 0
    process = start("export", "latest", "--format", "jsonl", "-o", "-")
    assert process.stdout is not None and process.stderr is not None
    assert json.loads(process.stdout.readline())["case"] == 0
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    process.wait(timeout=200)
    assert "Traceback" not in err and "BrokenPipe" not in err, err


def test_a_broken_evaluators_file_is_a_message_with_the_place(folder: Path, start: Start) -> None:
    """The user mends it there; nothing was run or stored, and that is exit code 2."""
    (folder / "mine.py").write_text("1 / 0\n")
    with ModelServer() as server:
        experiment(folder, server)
        out, err, code = finish(start("run", "e.yaml", "--json"))
    assert (out, code) == ("", 2) and "Traceback" not in err
    assert "ZeroDivisionError: division by zero (mine.py, line 1)" in " ".join(err.split())
    assert not (folder / "promptlab.db").exists()


def test_studio_serves_until_ctrl_c(folder: Path, start: Start) -> None:
    """The address is on standard error; Ctrl-C is how it ends, not an error."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        taken.listen()
        out, err, code = finish(start("studio", "--port", str(port)))
        assert (out, code) == ("", 2) and f"Error: Cannot serve on 127.0.0.1:{port}" in err
    process = start("studio", "-p", str(port))
    answer = None
    for _ in range(600):  # until it listens
        with suppress(OSError):
            answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/health", timeout=200)
            break
        assert process.poll() is None
        time.sleep(0.05)
    assert answer is not None and process.stderr is not None
    answer.close()
    printed = process.stderr.readline()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with opener.open(printed.split(": ", 1)[1].split()[0], timeout=60) as page:
        assert page.status == 200 and page.url == f"http://127.0.0.1:{port}/"
    process.send_signal(signal.SIGINT)
    out, err, code = finish(process)
    assert (out, code) == ("", 0) and err.startswith("For another browser: http://")
    assert printed.startswith(f"The Studio of {folder / 'promptlab.db'}: http://127.0.0.1:{port}/open?code=")


def test_help_loads_nothing_heavy(folder: Path) -> None:
    """`promptlab --help` is there at once."""
    heavy = (
        "{'httpx', 'aiohttp', 'duckdb', 'fastapi', 'pydantic', 'rich', 'yaml', 'orjson', 'jinja2', "
        "'pandas', 'numpy'}"
    )
    code = (
        "import sys\nfrom promptlab.cli import commands\ncommands(['--help'], "
        f"standalone_mode=False)\nprint(sorted({heavy} & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    ).stdout
    assert out.splitlines()[-1] == "[]"
