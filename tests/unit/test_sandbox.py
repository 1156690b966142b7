"""The sandbox as its callers see it: bundles, roles, limits, and what is said when something is wrong."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import select
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from promptlab import Evaluator
from promptlab.domain.code import CodeBundle, Wheel
from promptlab.experiments import code_answers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
if sys.platform == "linux":
    from promptlab.engine.sandbox.child import SandboxUnavailableError
    from promptlab.engine.sandbox.files import emptied, measured
    from promptlab.engine.sandbox.guard import LOAD_S, PRELOAD, Guard
    from promptlab.engine.sandbox.request import EventError

_IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def guard() -> Iterator[Guard]:
    with tempfile.TemporaryDirectory(dir=_IN_MEMORY) as folder:
        made = Guard(Path(folder))
        yield made
        made.close()


def event(bundle: CodeBundle | str, name: str = "f", *cases: Any, **more: Any) -> dict[str, Any]:
    """An invocation of a name of a module `m`."""
    if isinstance(bundle, str):
        bundle = CodeBundle(name="code", files={"m.py": bundle})
    return {
        "bundle": {"hash": bundle.content_hash(), "content": bundle.content()},
        "role": "evaluate",
        "ref": {"module": "m", "qualname": name},
        "metric": "own",
        "limit_s": 20,
        "cases": [{"n": n, "data": data} for n, data in enumerate(cases)],
        **more,
    }


def scores(answer: dict[str, Any]) -> list[Any]:
    assert "answers" in answer, answer
    return [found["score"] for found in answer["answers"]]


# -------------------------------------------------------------------- bundles
def test_a_bundle_is_sent_once_and_asked_for_where_it_is_not_known(guard: Guard) -> None:
    asked = event("def f(data): return data['x'] + 1", "f", {"x": 1})
    named = {**asked, "bundle": {"hash": asked["bundle"]["hash"]}}
    assert guard.answer(named) == {"need": "bundle"}
    assert scores(guard.answer(asked)) == [{"value": 2.0}]
    assert scores(guard.answer(named)) == [{"value": 2.0}]


def test_code_of_an_answer_has_a_child_of_its_own(guard: Guard) -> None:
    """What it leaves in its process no other answer meets, and the end of its process is its verdict."""
    answers = [
        "import math; math.pi = 3\ndef f(): return 3",
        "import math\ndef f(): return 3 if math.pi > 3 else 4",
        "import os; os._exit(0)",
        "def f(): return 4",
    ]
    cases = [{"response": answer, "tests": "assert f() == 3"} for answer in answers]
    ref = {"module": "promptlab.engine.sandbox.answers_code", "qualname": "AnswersCode"}
    asked = event(code_answers.bundle(), "", *cases, role="code", ref=ref)
    found = scores(guard.answer(asked))
    assert [score["passed"] for score in found] == [True, True, False, False]
    assert "ended its process" in found[2]["reason"] and "assert f() == 3" in found[3]["reason"]


def test_a_bundle_that_is_not_what_its_hash_says_is_refused(guard: Guard) -> None:
    asked = event("def f(data): return 1  # and nobody has sent it before", "f", {})
    asked["bundle"]["content"]["files"]["m.py"] += "\n"
    with pytest.raises(EventError, match="not what its hash says"):
        guard.answer(asked)


@pytest.mark.parametrize("path", ["../m.py", "/etc/m.py", "a/../../m.py", ".env", "a\\b.py"])
def test_a_path_out_of_the_bundle_is_refused(guard: Guard, path: str) -> None:
    from promptlab.domain.versioned import content_hash

    content = {"files": {path: ""}, "pickled": None, "requirements": [], "wheels": [], "python": "3.13"}
    asked = event("x = 1", "f", {})
    asked["bundle"] = {"hash": content_hash(content), "content": content}
    with pytest.raises(EventError, match="the bundle cannot be used"):
        guard.answer(asked)


def test_modules_of_a_bundle_import_each_other_and_hide_what_has_their_name(guard: Guard) -> None:
    files = {
        "m.py": "import statistics\nfrom rules.lengths import long\n"
        "def f(data): return long(data['text']) + statistics.more",
        "rules/__init__.py": "",
        "rules/lengths.py": "def long(text): return len(text)",
        "statistics.py": "more = 100",
    }
    assert scores(guard.answer(event(CodeBundle(name="c", files=files), "f", {"text": "four"}))) == [
        {"value": 104.0}
    ]


def test_nothing_of_one_bundle_is_there_for_the_next(guard: Guard) -> None:
    writes = """
import os
def f(data):
    open("mark", "w").write("secret rows")
    os.makedirs("a/b/c"); os.chmod("a/b", 0); os.symlink("/etc/passwd", "link")
    return os.getcwd()
"""
    looks = """
import os
def f(data):
    found = []
    for folder in (os.getcwd(), os.path.dirname(os.getcwd()), data["before"]):
        try:
            for at, _, names in os.walk(folder, onerror=lambda e: None):
                found += [n for n in names if not n.endswith(".py") and not n.endswith(".pyc")]
        except OSError:
            pass
    return f"found {found}"
"""
    (before,) = scores(guard.answer(event(writes, "f", {})))
    assert scores(guard.answer(event(looks, "f", {"before": before["label"]}))) == [{"label": "found []"}]
    assert not Path(before["label"]).exists()


def test_a_child_never_works_for_two(guard: Guard) -> None:
    """State that a module keeps is gone for another tenant, and stays for the same."""
    counts = "seen = []\ndef f(data):\n    seen.append(1)\n    return len(seen)"
    assert scores(guard.answer(event(counts, "f", {}, tenant="a"))) == [{"value": 1.0}]
    assert scores(guard.answer(event(counts, "f", {}, tenant="a"))) == [{"value": 2.0}]
    assert scores(guard.answer(event(counts, "f", {}, tenant="b"))) == [{"value": 1.0}]


class Threshold(Evaluator):
    """An evaluator with state, as of a notebook."""

    def __init__(self, at: int) -> None:
        self.at = at

    def evaluate(self, data: dict[str, Any]) -> bool:
        return len(data["text"]) > self.at


def pickled(thing: Any, python: str = HERE) -> CodeBundle:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        data = cloudpickle.dumps(thing)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    return CodeBundle(name="object", pickled=base64.b64encode(data).decode(), python=python)


class Opens:
    """A pickle that runs a program when it is read."""

    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/promptlab-was-here",)


LEAVES = """
import os, threading, time

def f(data):
    if data["x"]:
        threading.Thread(target=lambda: (time.sleep(0.05), os._exit(3)), daemon=True).start()
    return 1
"""


def test_a_child_that_ends_between_two_invocations_is_replaced(guard: Guard) -> None:
    """By a thread that the code left behind, or for want of memory: the next invocation has another."""
    asked = event(LEAVES, "f", {"x": True})
    assert scores(guard.answer(asked)) == [{"value": 1.0}]
    assert guard._child is not None
    assert select.select([guard._child._read], [], [], 60)[0]  # its end
    assert scores(guard.answer({**asked, "cases": [{"n": 0, "data": {"x": False}}]})) == [{"value": 1.0}]


def test_the_process_that_children_come_from_is_replaced() -> None:
    """Whoever ended it."""
    made = Guard()
    try:
        asked = event("def f(data): return 1", "f", {})
        assert scores(made.answer(asked)) == [{"value": 1.0}]
        made._zygote._process.kill()
        made._zygote._process.wait(60)
        assert scores(made.answer(asked)) == [{"value": 1.0}]
    finally:
        made.close()


def test_an_object_of_a_notebook_is_made_inside(guard: Guard) -> None:
    asked = event(pickled(Threshold(3)), "", {"text": "four"}, {"text": "one"})
    assert scores(guard.answer(asked)) == [{"value": 1.0, "passed": True}, {"value": 0.0, "passed": False}]


def test_an_object_of_another_python_is_refused_in_words(guard: Guard) -> None:
    answer = guard.answer(event(pickled(Threshold(3), "3.99"), "", {"text": "x"}))
    assert "an object made for Python 3.99" in answer["error"]["message"]
    assert f"Send it from Python {HERE}" in answer["error"]["message"]


def test_a_pickle_that_runs_a_program_runs_none(guard: Guard) -> None:
    answer = guard.answer(event(pickled(Opens()), "", {"text": "x"}))
    assert answer["error"]["type"] == "cannot_load"
    assert not Path("/tmp/promptlab-was-here").exists()


def wheel(name: str, files: dict[str, str]) -> tuple[Wheel, bytes]:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for path, text in files.items():
            file.writestr(path, text)
    content = data.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    return Wheel(file_name=name, sha256=digest, size_bytes=len(content)), content


def test_packages_are_fetched_compared_and_unpacked_inside() -> None:
    described, content = wheel("tiny-1.0-py3-none-any.whl", {"tiny/__init__.py": "size = 7", "../up.py": "x"})
    bundle = CodeBundle(
        name="c",
        files={"m.py": "import tiny\ndef f(data): return tiny.size"},
        requirements=("tiny==1.0",),
        wheels=(described,),
        python=HERE,
    )
    asked = event(bundle, "f", {})
    asked["bundle"]["urls"] = {described.sha256: "https://bucket/wheel"}
    got: dict[str, Any] = {}

    def fetch(url: str, most: int) -> bytes:
        got.update(url=url, most=most)
        return content if not got.get("other") else b"PK other"

    guard = Guard(fetch=fetch)
    try:
        assert scores(guard.answer(asked)) == [{"value": 7.0}]
        assert got == {"url": "https://bucket/wheel", "most": described.size_bytes}
        got["other"] = True
        answer = guard.answer({**asked, "tenant": "another"})
        assert "is not the file that was sent" in answer["error"]["message"]
    finally:
        guard.close()


def test_a_sandbox_without_packages_says_so(guard: Guard) -> None:
    described, _ = wheel("tiny-1.0-py3-none-any.whl", {"tiny/__init__.py": ""})
    bundle = CodeBundle(name="c", files={"m.py": "def f(data): return 1"}, wheels=(described,), python=HERE)
    assert "this sandbox gets no packages" in guard.answer(event(bundle, "f", {}))["error"]["message"]


# -------------------------------------------------------------------- what cannot be loaded
@pytest.mark.parametrize(
    ("source", "name", "says"),
    [
        ("def f(data) return 1", "f", r"SyntaxError.*m\.py, line 1"),
        ("import nowhere_to_be_found\ndef f(data): return 1", "f", r"No module named.*m\.py, line 1"),
        ("x = 1", "f", "there is no 'f' in it"),
        ("x = 1", "x", "not int|got int"),
        ("import sys\nsys.exit(3)", "f", "SystemExit"),
        ("import os\nos._exit(3)", "f", r"exit code 3\) while it was loaded"),
        ("import os\nos.fork()", "f", r"Operation not permitted.*m\.py, line 2"),
        ("import socket\nsocket.create_connection(('127.0.0.1', 1))", "f", "Operation not permitted"),
        ("import ctypes\nctypes.string_at(0)", "f", "SIGSEGV"),
        (
            "class f:\n    def __init__(self): raise ValueError('no')\n    def evaluate(self, d): return 1",
            "f",
            r"ValueError: no \(m\.py, line 2\)",
        ),
        ("class f:\n    pass", "f", "a method evaluate"),
        ("x = bytearray(64 << 30)", "f", "MemoryError"),
    ],
)
def test_what_cannot_be_loaded_is_said_with_the_users_own_lines(
    guard: Guard, source: str, name: str, says: str
) -> None:
    import re

    answer = guard.answer(event(source, name, {}))
    assert answer["error"]["type"] == "cannot_load"
    assert re.search(says, answer["error"]["message"], re.DOTALL), answer
    assert scores(guard.answer(event("def f(data): return 1", "f", {}))) == [{"value": 1.0}]


def test_a_module_that_never_ends_to_load(guard: Guard) -> None:
    guard.load_s = 0.5
    answer = guard.answer(event("while True: pass", "f", {}))
    guard.load_s = LOAD_S
    assert answer["error"]["message"] == "it is not loaded after 0.5 s"


# -------------------------------------------------------------------- cases
def test_prints_and_lines_are_kept_with_their_case(guard: Guard) -> None:
    source = """
def f(data):
    print("row", data["x"])
    return halved(data["x"])
def halved(x):
    return 1 / x
"""
    answer = guard.answer(event(source, "f", {"x": 1}, {"x": 0}, {"x": 2}))
    one, none, two = answer["answers"]
    assert (one["printed"], none["printed"], two["printed"]) == ("row 1\n", "row 0\n", "row 2\n")
    message = none["score"]["error"]["message"]
    assert message.startswith("own: ZeroDivisionError")
    assert "m.py, line 6: return 1 / x" in message


def test_the_first_ten_kilobytes_of_what_a_case_prints_are_kept(guard: Guard) -> None:
    source = "def f(data):\n    print('é' * data['n'])\n    return 1"
    answer = guard.answer(event(source, "f", {"n": 10}, {"n": 1_000_000}, {"n": 10}))
    printed = [found["printed"] for found in answer["answers"]]
    assert [len(text.encode()) for text in (printed[0], printed[2])] == [21, 21]
    assert 10_000 < len(printed[1].encode()) <= 10_240 + 3
    assert scores(answer) == [{"value": 1.0}] * 3


def test_an_invocation_ends_with_its_budget_and_says_what_it_has(guard: Guard) -> None:
    source = "import time\ndef f(data):\n    time.sleep(0.05)\n    return 1"
    answer = guard.answer(event(source, "f", *[{}] * 500, budget_s=0.3))
    assert 1 <= len(answer["answers"]) < 500
    assert [found["n"] for found in answer["answers"]] == list(range(len(answer["answers"])))


def test_answers_stop_before_they_are_too_large_for_one_payload(guard: Guard) -> None:
    """5 MB fit: the other cases are for another invocation."""
    source = "def agent(row): return 'x' * 1_500_000"
    answer = guard.answer(event(source, "agent", *[told("{}")] * 8, role="infer"))
    assert 2 <= len(answer["answers"]) <= 3


def test_an_answer_that_fits_in_no_payload_has_failed_in_words(guard: Guard) -> None:
    source = "def agent(row): return 'é' * 7_000_000"
    (found,) = guard.answer(event(source, "agent", told("{}"), role="infer"))["answers"]
    assert found["error"]["type"] == "sandbox"
    assert "at most 5.0 MB fit" in found["error"]["message"]


def test_many_cases_are_all_answered_in_order(guard: Guard) -> None:
    answer = guard.answer(event("def f(data): return data['x']", "f", *({"x": n} for n in range(2_000))))
    assert [found["score"]["value"] for found in answer["answers"]] == list(range(2_000))


def test_an_async_evaluator_and_several_scores(guard: Guard) -> None:
    source = """
import asyncio
from promptlab import Evaluator
class E(Evaluator):
    scores = ("a", "b")
    async def evaluate(self, data):
        await asyncio.sleep(0)
        return {"a": 1, "b": 0.5}
"""
    (found,) = scores(guard.answer(event(source, "E", {}, parts=["a", "b"])))
    assert found["metadata"]["promptlab.parts"]["b"]["value"] == 0.5


# -------------------------------------------------------------------- models, agents, and what a thing is
MODEL = """
from promptlab import Model, ModelError, ModelResponse
class Upper(Model):
    def __init__(self, ending=""):
        super().__init__()
        self.ending = ending
    async def ainvoke(self, system_prompt, user_prompt):
        if user_prompt == "raise":
            raise ModelError("too many", type="rate_limit", retryable=True, retry_after_s=2)
        if user_prompt == "break":
            raise KeyError("oh")
        return ModelResponse(response=user_prompt.upper() + self.ending, prompt_tokens=3, metadata={"m": 1})
def agent(row):
    print("asked")
    return row["q"] * 2
async def slow(row):
    import asyncio
    await asyncio.sleep(60)
class Nothing:
    pass
class E:
    scores = ("a", "b")
    higher_is_better = {"a": False}
    inputs = {"text": "$inference"}
    needs_embedding = True
    def evaluate(self, data): ...
"""


def told(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def test_a_model_answers_and_its_errors_are_data(guard: Guard) -> None:
    ref = {"module": "m", "qualname": "Upper", "params": {"ending": "!"}}
    config = {"name": "custom/Upper"}
    answer = guard.answer(
        event(MODEL, "Upper", told("hi"), told("raise"), told("break"), role="infer", ref=ref, config=config)
    )
    good, later, broken = answer["answers"]
    assert (good["response"]["response"], good["response"]["prompt_tokens"]) == ("HI!", 3)
    assert later["error"] == {
        "type": "rate_limit",
        "message": "too many",
        "retryable": True,
        "sent": True,
        "retry_after_s": 2.0,
    }
    assert broken["error"]["type"] == "KeyError"
    assert "m.py, line 11: raise KeyError" in broken["error"]["message"]


def test_an_agent_is_given_its_row(guard: Guard) -> None:
    (found,) = guard.answer(event(MODEL, "agent", told('{"q": "ab"}'), role="infer"))["answers"]
    assert found["response"]["response"] == "abab"
    assert found["printed"] == "asked\n"


def test_an_agent_that_is_too_slow_is_ended(guard: Guard) -> None:
    (found,) = guard.answer(event(MODEL, "slow", told("{}"), role="infer", limit_s=0.3))["answers"]
    assert found["error"] == {"type": "timeout", "message": "no answer within timeout_s=0.3 s"}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Upper", {"kind": "model"}),
        ("agent", {"kind": "function"}),
        (
            "E",
            {
                "kind": "evaluator",
                "scores": ["a", "b"],
                "higher_is_better": {"a": False},
                "needs_embedding": True,
                "inputs": {"text": "$inference"},
            },
        ),
    ],
)
def test_what_a_thing_is_is_said_without_loading_it_here(
    guard: Guard, name: str, says: dict[str, Any]
) -> None:
    asked = event(MODEL, name, role="check")
    del asked["cases"]
    (found,) = guard.answer(asked)["answers"]
    assert says.items() <= found["said"].items()
    assert "m" not in sys.modules


# -------------------------------------------------------------------- where it cannot be
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"role": "drop"}, "the role 'drop' is none of"),
        ({"bundle": {}}, "no bundle, or it has no hash"),
        ({"cases": None}, "there are no cases"),
        ({"cases": [{"n": 1}]}, "a case is"),
        ({"cases": [{"n": 1, "data": {}}, {"n": 1, "data": {}}]}, "two cases have the same number"),
        ({"limit_s": 0}, "limit_s must be"),
        ({"limit_s": float("nan")}, "limit_s must be"),
    ],
)
def test_a_wrong_event_is_refused_in_words(guard: Guard, wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(EventError, match=says):
        guard.answer({**event("x = 1", "f", {}), **wrong})


def first(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> list[str]:
    """The modules that a sandbox loads first, with one of this code before them."""
    (folder / "loaded_first.py").write_text(code)
    monkeypatch.syspath_prepend(folder)
    return ["loaded_first", *PRELOAD]


def test_without_a_filter_of_calls_nothing_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A processor whose calls are not known: the filter cannot be made, and no child is used without it."""
    riscv = "import platform\nplatform.machine = lambda: 'riscv64'"
    with pytest.raises(SandboxUnavailableError, match=r"cannot be confined here: NoSeccompError.*riscv64"):
        Guard(preload=first(monkeypatch, tmp_path, riscv))


def test_without_an_interpreter_nothing_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SandboxUnavailableError, match="exit code 7"):
        Guard(preload=first(monkeypatch, tmp_path, "raise SystemExit(7)"))


def test_the_guard_itself_cannot_be_read() -> None:
    guard = Guard()
    try:
        import ctypes

        assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 0  # PR_GET_DUMPABLE
        assert guard.held["seccomp"] is True
    finally:
        guard.close()


# -------------------------------------------------------------------- files
def test_a_folder_is_emptied_whatever_is_in_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(outside, target_is_directory=True)
    (folder / "closed").mkdir()
    (folder / "closed" / "file").write_text("x")
    (folder / "closed").chmod(0)
    os.mkfifo(folder / "pipe")
    here = os.open(folder, os.O_RDONLY)
    for _ in range(300):  # deeper than any path may be
        os.mkdir("d" * 50, dir_fd=here)
        below = os.open("d" * 50, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    (folder / "kept").mkdir()
    (folder / "kept" / "file").write_text("x")
    emptied(folder, {"kept"})
    assert [path.name for path in folder.iterdir()] == ["kept"]
    assert (folder / "kept" / "file").exists()
    emptied(folder)
    assert list(folder.iterdir()) == []
    assert (outside / "kept").read_text() == "x"


def test_a_folder_is_measured_as_far_as_it_matters(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / str(number)).write_bytes(bytes(4096))
    size, entries = measured(tmp_path, 100)
    assert (size >= 30 * 4096, entries) == (True, 30)
    assert measured(tmp_path, 10)[1] == 11
