"""Code of users in the cloud: through Evaluate and Infer to the sandbox's own handler, over an HTTP server
that stands in for Lambda's Invoke."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from functions import runtime, sandbox
from promptlab import PromptLab
from promptlab.adapters.aws.lambda_sandbox import LambdaSandbox
from promptlab.domain.code import CodeBundle
from promptlab.errors import ConfigError, SandboxBusyError, SandboxError, SandboxLostError
from tests.functions.conftest import Context, Machine
from tests.servers import ModelServer, Request

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")

CODE = """
from promptlab import Evaluator, Model, ModelResponse, Score

class Long(Evaluator):
    def __init__(self, at=3):
        self.at = at

    def evaluate(self, data):
        print("looked at", data["text"])
        if data["text"] == "it is 5":
            raise ValueError("five is right out")
        return len(data["text"]) > self.at

def several(data):
    return {"words": len(data["text"].split()), "letters": len(data["text"])}

class Several(Evaluator):
    scores = ("words", "letters")
    def evaluate(self, data):
        return several(data)

class Upper(Model):
    async def ainvoke(self, system_prompt, user_prompt):
        return ModelResponse(response=user_prompt.upper(), prompt_tokens=1, completion_tokens=2)

def agent(row):
    if row["question"] == "What is 5?":
        raise LookupError("no five")
    return "the answer to " + row["question"]

def recording(row, case):
    case.contexts([row["text"]])
    case.record({"role": "assistant", "content": "I look it up", "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}]})
    return "the answer to " + row["question"]

class Quits(Evaluator):
    def evaluate(self, data):
        import os
        if data["text"] == "it is 5":
            os._exit(3)
        return 1
"""
ROWS = [{"question": f"What is {n}?", "text": f"it is {n}"} for n in range(60)]


@dataclass
class Invoked:
    """What Lambda's stand-in was asked, and what it is to do instead of asking the handler."""

    events: list[dict[str, Any]] = field(default_factory=list)
    faults: list[tuple[int, str, str]] = field(default_factory=list)
    """Status, error type, and the function's error (for 200)."""
    functions: set[str] = field(default_factory=set)
    """The functions, with their versions, that were invoked."""
    one: threading.Lock = field(default_factory=threading.Lock)


@pytest.fixture
def invoked(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Invoked]:
    """Lambda's stand-in, which the stack's functions know."""
    told = Invoked()

    class Lambda(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path.endswith("/versions"):
                self._answer(201, json.dumps({"Version": "7", "State": "Active"}).encode())
                return
            told.events.append(event)
            told.functions.add(unquote(self.path.split("/")[3]))
            status, type_, broken = told.faults.pop(0) if told.faults else (200, "", "")
            if status == 200 and not broken:
                with told.one:  # an instance of a function has one invocation at a time
                    answer = sandbox.handler(event, Context(600))
            else:
                answer = {"errorType": "Runtime.ExitError", "errorMessage": broken or type_}
            self._answer(status, json.dumps(answer).encode(), type_, broken)

        def _answer(self, status: int, body: bytes, type_: str = "", broken: str = "") -> None:
            self.send_response(status)
            if type_:
                self.send_header("x-amzn-errortype", type_)
            if broken:
                self.send_header("X-Amz-Function-Error", "Unhandled")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Lambda)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("PROMPTLAB_SANDBOX_FUNCTION", "sandbox")
    for kept in (runtime.config, runtime.lab, runtime.worker, sandbox.guard):
        kept.cache_clear()
    machine.lab._parts = _with_sandbox(machine)
    yield told
    sandbox.guard().close()
    sandbox.guard.cache_clear()
    server.shutdown()
    server.server_close()
    thread.join()


def _with_sandbox(machine: Machine) -> Any:
    return replace(machine.lab._parts, sandbox=LambdaSandbox("sandbox", machine.lab.blobs, read_s=60))


def kept(machine: Machine, source: str = CODE) -> CodeBundle:
    """Code that the lab keeps."""
    bundle = CodeBundle(name="mine", files={"m.py": source})
    return runtime.run(machine.lab.assets.create(bundle))  # type: ignore[return-value]


def experiment(server: ModelServer | None, **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "name": "own",
        "dataset": {"name": "questions", "rows": ROWS},
        "prompt_template": {"name": "ask", "user_prompt": "<question>"},
        **changes,
    }
    if server is not None:
        given["model"] = {"name": "openai/mini", "endpoint": server.openai_url}
    return given


def right(request: Request) -> str:
    return f"it is {request.prompt.split()[-1].rstrip('?')}"


def rows(machine: Machine, run_id: str) -> list[dict[str, Any]]:
    async def read() -> list[dict[str, Any]]:
        return [row async for row in machine.lab.results(run_id)]

    return runtime.run(read())


def metric(name: str, qualname: str, **more: Any) -> dict[str, Any]:
    return {
        "metric": name,
        "evaluator": f"mine@0/m:{qualname}",
        "column_mapping": {"text": "$inference"},
        **more,
    }


def test_evaluators_of_users_score_in_the_sandbox(machine: Machine, invoked: Invoked) -> None:
    """A class with params, a function, several scores: with their reasons, prints and the users' own lines; a
    built-in metric beside them."""
    with ModelServer(right) as server:
        kept(machine)
        config = experiment(
            server,
            evaluation=[
                metric("long", "Long", params={"at": 7}),
                metric("longer", "Long", params={"at": 70}),
                metric("both", "Several"),
                metric("one", "several"),
                {"metric": "length"},
            ],
        )
        run = machine.start(config)
        invoked.functions.clear()  # the Studio looks at code as it is deployed
        assert machine.execute(run.run_id) == {"status": "completed"}
    assert invoked.functions == {"sandbox:7"}  # the version that Plan found
    found = rows(machine, run.run_id)
    assert len(found) == len(ROWS)
    by_question = {row["input.question"]: row for row in found}
    five, twelve = by_question["What is 5?"], by_question["What is 12?"]
    assert (twelve["passed.long"], twelve["passed.longer"]) == (True, False)
    assert (twelve["score.both.words"], twelve["score.both.letters"]) == (3, 8)
    assert twelve["score.length"] is not None
    assert "ValueError: five is right out" in five["score_error.long"]
    assert 'm.py, line 11: raise ValueError("five is right out")' in five["score_error.long"]
    assert five["reason.long"] == "Printed:\nlooked at it is 5\n"
    assert twelve["reason.long"] == "Printed:\nlooked at it is 12\n"
    summary = runtime.run(machine.lab.get_run(run.run_id)).summary
    assert summary and summary["metrics"]["long"]["failed"] == 1
    texts = [event["bundle"].get("content") for event in invoked.events if event["role"] == "evaluate"]
    assert sum(text is not None for text in texts) <= 3, "the text is sent once for each worker"
    assert all("tenant" in event for event in invoked.events if event["role"] != "check")


def test_a_model_and_an_agent_of_users_answer_in_the_sandbox(machine: Machine, invoked: Invoked) -> None:
    kept(machine)
    config = experiment(None, model={"code": "mine@0/m:Upper"})
    run = machine.start(config)
    assert machine.execute(run.run_id) == {"status": "completed"}
    found = {row["input.question"]: row for row in rows(machine, run.run_id)}
    assert found["What is 7?"]["response"] == "WHAT IS 7?"
    assert found["What is 7?"]["completion_tokens"] == 2
    agent = experiment(None, name="agent", agent_proxy={"code": "mine@0/m:agent"})
    del agent["prompt_template"]
    run = machine.start(agent)
    assert machine.execute(run.run_id) == {"status": "completed"}
    found = {row["input.question"]: row for row in rows(machine, run.run_id)}
    assert found["What is 7?"]["response"] == "the answer to What is 7?", json.dumps(found["What is 7?"])
    assert found["What is 5?"]["error_type"] == "LookupError"
    assert "no five" in found["What is 5?"]["error_message"]
    infers = [event for event in invoked.events if event["role"] == "infer"]
    assert len(infers) < len(ROWS), "cases go together"
    run = machine.start(agent | {"agent_proxy": {"code": "mine@0/m:recording"}})
    assert machine.execute(run.run_id) == {"status": "completed"}
    found = {row["input.question"]: row for row in rows(machine, run.run_id)}["What is 7?"]
    assert found["response"] == "the answer to What is 7?", json.dumps(found)
    assert "look_up" in json.dumps(found["messages"]) and "it is 7" in json.dumps(found["trace"])
    talk = agent | {"conversation": {"user_turns": ["Hello", "And then?"]}}
    with pytest.raises(ConfigError, match="takes the row only"):
        machine.start(talk)


@pytest.mark.long
def test_code_of_answers_runs_in_the_sandbox_as_on_a_laptop(
    machine: Machine, invoked: Invoked, tmp_path: Path
) -> None:
    """`code_tests`: verdict, reason and code case by case; a code that spoils its process spoils no other's;
    without a sandbox it is refused."""
    answers = [
        "def f(): return 1",
        "def f(): return 2",
        "import json, math; json.dumps = None; math.pi = 3\ndef f(): return 1",
        "import math\ndef f(): return int(math.pi > 3)",
        "while True: pass",
        "import os; os._exit(0)",
        "x = 'a' * 10**10",
        "print('so')\nimport socket; socket.socket()",
        "```python\ndef f():\n    return 1\n```",
    ]
    data = [{"q": str(n), "tests": ["assert f() == 1"]} for n in range(len(answers))]
    config = {
        "name": "code",
        "dataset": {"name": "tasks", "rows": [*data, {"q": "0", "tests": None}]},
        "prompt_template": {"name": "write", "user_prompt": "<q>"},
        "evaluation": [{"metric": "code_tests", "params": {"timeout_s": 2.0, "memory_mb": 256}}],
    }
    kept = ("case", "passed.code_tests", "reason.code_tests", "judged.code_tests", "score_error.code_tests")
    with ModelServer(lambda request: answers[int(request.prompt)]) as server:
        config["model"] = {"name": "openai/mini", "endpoint": server.openai_url}
        run = machine.start(config)
        assert machine.execute(run.run_id) == {"status": "completed"}
        there = [{name: row[name] for name in kept} for row in rows(machine, run.run_id)]
        with PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")}, quiet=True) as pl:
            own = config | {"model": config["model"] | {"api_key": "sk-none"}}
            here = [{name: row[name] for name in kept} for row in pl.experiment.run(own).results()]
    assert there == here
    passed = [row["passed.code_tests"] for row in there]
    assert passed == [True, False, True, True, False, False, False, False, True, None]
    assert "longer than timeout_s=2" in there[4]["reason.code_tests"]
    assert {event["role"] for event in invoked.events} == {"code"}
    machine.lab._parts = replace(machine.lab._parts, sandbox=None)
    with pytest.raises(ConfigError, match="'code_tests' runs the code of answers"):
        machine.start(config)


def test_throttled_and_lost_invocations_are_made_again_and_nothing_is_scored_twice(
    machine: Machine, invoked: Invoked
) -> None:
    with ModelServer(right) as server:
        kept(machine)
        run = machine.start(experiment(server, evaluation=[metric("one", "several")]))
        invoked.faults += [(429, "TooManyRequestsException", ""), (200, "", "signal: killed")]
        assert machine.execute(run.run_id) == {"status": "completed"}
    found = rows(machine, run.run_id)
    assert [row["score.one"] for row in found] == [3.0] * len(ROWS)


def test_what_breaks_the_sandbox_each_time_has_failed_in_words(machine: Machine, invoked: Invoked) -> None:
    with ModelServer(right) as server:
        kept(machine)
        run = machine.start(experiment(server, evaluation=[metric("quits", "Quits")]))
        assert machine.execute(run.run_id) == {"status": "completed"}
    found = {row["input.question"]: row for row in rows(machine, run.run_id)}
    assert "its process ended (exit code 3)" in found["What is 5?"]["score_error.quits"]
    assert found["What is 6?"]["score.quits"] == 1.0


def test_code_that_cannot_be_loaded_is_refused_before_the_run(machine: Machine, invoked: Invoked) -> None:
    with ModelServer(right) as server:
        kept(machine, "import nowhere_to_be_found\ndef several(data): return 1")
        with pytest.raises(ConfigError, match="No module named 'nowhere_to_be_found'"):
            machine.start(experiment(server, evaluation=[metric("one", "several")]))


@pytest.mark.filterwarnings("ignore:No application metrics")
def test_a_lab_that_takes_no_code_refuses_in_words(
    machine: Machine, invoked: Invoked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start of a run, in a worker that is given such a run, and in the sandbox itself."""
    with ModelServer(right) as server:
        kept(machine)
        config = experiment(server, evaluation=[metric("one", "several")])
        run = machine.start(config)
        monkeypatch.setenv("PROMPTLAB_ALLOW_CODE", "false")
        for cached in (runtime.config, runtime.lab, runtime.worker):
            cached.cache_clear()
        with pytest.raises(ConfigError, match="AllowCode of its stack is false"):
            runtime.run(runtime.lab().start(config))
        machine.execute(run.run_id)
        told = runtime.run(machine.lab.get_run(run.run_id))
        assert "AllowCode of its stack is false" in str(told.error)
    refused = sandbox.handler({"role": "check"}, Context(60))
    assert "AllowCode" in refused["refused"]


RISCV = """
import sys, sysconfig
with open(sysconfig.get_path("stdlib") + "/platform.py") as file:
    exec(compile(file.read(), "platform.py", "exec"))
def machine():
    return "riscv64"
"""


def test_a_machine_that_cannot_confine_runs_nothing_and_says_so(
    machine: Machine, invoked: Invoked, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The sandbox refuses; once it can confine again it answers again."""
    (tmp_path / "platform.py").write_text(RISCV)  # as the interpreter from which children are forked finds it
    bundle = kept(machine)
    asked = {"role": "check", "ref": {"module": "m", "qualname": "agent"}}
    with monkeypatch.context() as strange:
        strange.syspath_prepend(tmp_path)
        with pytest.raises(SandboxError, match=r"cannot be confined here, so none is run: .*riscv64"):
            runtime.run(machine.lab.sandbox().ask(bundle.content_hash(), asked))
    answer = runtime.run(machine.lab.sandbox().ask(bundle.content_hash(), asked))
    assert answer["answers"][0]["said"]["kind"] == "function"


def test_a_sandbox_whose_children_cannot_begin_any_more_begins_anew(
    machine: Machine, invoked: Invoked
) -> None:
    """The invocation that finds it so is answered."""
    bundle = kept(machine)
    asked = {"role": "check", "ref": {"module": "m", "qualname": "agent"}}
    runtime.run(machine.lab.sandbox().ask(bundle.content_hash(), asked))
    process = sandbox.guard()._zygote._process
    process.kill()
    process.wait()
    answer = runtime.run(machine.lab.sandbox().ask(bundle.content_hash(), asked))
    assert answer["answers"][0]["said"]["kind"] == "function"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ((429, "TooManyRequestsException", ""), SandboxBusyError),
        ((500, "ServiceException", ""), SandboxBusyError),
        ((502, "ENILimitReachedException", ""), SandboxBusyError),
        ((200, "", "Task timed out after 900.00 seconds"), SandboxLostError),
        ((413, "RequestTooLargeException", ""), SandboxError),
    ],
)
def test_what_lambda_says_is_told_as_the_port_has_it(
    machine: Machine, invoked: Invoked, fault: tuple[int, str, str], error: type[Exception]
) -> None:
    bundle = kept(machine)
    asked = {"role": "check", "ref": {"module": "m", "qualname": "agent"}}
    invoked.faults.append(fault)
    box = machine.lab.sandbox()
    with pytest.raises(error):
        runtime.run(box.ask(bundle.content_hash(), asked))
    answer = runtime.run(box.ask(bundle.content_hash(), asked))
    assert answer["answers"][0]["said"]["kind"] == "function"


def test_a_sandbox_that_forgot_the_code_is_given_it_again(machine: Machine, invoked: Invoked) -> None:
    bundle = kept(machine)
    asked = {"role": "check", "ref": {"module": "m", "qualname": "agent"}}
    box = machine.lab.sandbox()
    runtime.run(box.ask(bundle.content_hash(), asked))
    runtime.run(box.ask(bundle.content_hash(), asked))
    sandbox.guard().close()
    sandbox.guard.cache_clear()  # another instance of the function
    answer = runtime.run(box.ask(bundle.content_hash(), asked))
    assert answer["answers"][0]["said"]["kind"] == "function"
    assert ["content" in event["bundle"] for event in invoked.events] == [True, False, False, True]
