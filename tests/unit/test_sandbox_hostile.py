"""Hostile code in the sandbox's own child: contained, recorded in words, and the run goes on."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from promptlab.domain.code import CodeBundle
from tests.unit.hostile import HOSTILE, Hostile

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")

CANARY = "wJalr-canary"


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with credentials, as this user may read it."""
    path = tmp_path_factory.mktemp("home") / "credentials"
    path.write_text(CANARY)
    return path


@pytest.fixture(scope="module")
def guard() -> Iterator[Any]:
    """A guard in an environment with keys."""
    from promptlab.engine.sandbox.confine import Limits
    from promptlab.engine.sandbox.guard import Guard

    # A busy disk takes long to reach what is allowed.
    few = Limits(folder_bytes=100 << 20, files=2_000)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "OPENAI_API_KEY"):
            patch.setenv(name, CANARY)
        # In memory where there is such a folder: a busy disk takes long for many small files.
        shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        with tempfile.TemporaryDirectory(dir=shared) as folder:
            made = Guard(Path(folder), limits=few)
            yield made
            made.close()


@pytest.fixture(scope="module")
def reached() -> Iterator[tuple[int, list[str]]]:
    """A server that stands for the runtime API: its port, and what it was asked."""
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1], asked
    server.shutdown()
    server.server_close()
    thread.join()


def invocation(source: str, cases: list[Any], **more: Any) -> dict[str, Any]:
    """An event for a bundle of one file, whose `f` is asked."""
    bundle = CodeBundle(name="code", files={"m.py": source})
    return {
        "bundle": {"hash": bundle.content_hash(), "content": bundle.content()},
        "role": "evaluate",
        "ref": {"module": "m", "qualname": "f"},
        "metric": "own",
        "limit_s": 10,
        "cases": [{"n": n, "data": data} for n, data in enumerate(cases)],
        **more,
    }


@pytest.mark.parametrize("hostile", HOSTILE, ids=[one.name for one in HOSTILE])
def test_it_is_contained_and_recorded_and_the_run_goes_on(
    hostile: Hostile, guard: Any, reached: tuple[int, list[str]], secret: Path
) -> None:
    """The cases before and after it have their scores, its own says in words what became of it, and no key is
    in any."""
    if hostile.landlock and not guard.held["landlock"]:
        pytest.skip("this kernel has no Landlock")
    before = children_of(os.getpid())  # of other tests, too
    port, asked = reached
    told = {"guard": os.getpid(), "port": port, "secret": str(secret)}
    cases = [{"do": do, **told} for do in (False, True, False)]
    answer = guard.answer(invocation(hostile.source(), cases, limit_s=hostile.limit_s))
    assert "answers" in answer, answer
    left = children_of(os.getpid()) - before
    scores = [
        json.dumps(found["score"], separators=(",", ":"), ensure_ascii=False) for found in answer["answers"]
    ]
    assert [found["n"] for found in answer["answers"]] == [0, 1, 2]
    assert hostile.held(scores[1]), scores[1]
    assert scores[2] == '{"value":1.0}' or hostile.name in SPOILS, scores[2]
    assert scores[0] == '{"value":1.0}', scores[0]
    assert CANARY not in json.dumps(answer)
    assert len(json.dumps(answer)) < 100_000
    assert not asked
    assert left <= 1, "no process is left but the one that children come from"


SPOILS = frozenset({"no modules", "no built-ins", "a trace of everything", "an alarm inside the protocol"})
"""What its own process cannot go on after: its later cases fail, too, and no others."""


def children_of(process: int) -> int:
    """How many processes a process has that are not at their end, without theirs."""
    tasks = Path(f"/proc/{process}/task").iterdir()
    return sum(len((task / "children").read_text().split()) for task in tasks)


def test_the_guard_is_out_of_reach_without_landlock_too(
    secret: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on Lambda, whose kernel may have none: what is asked for of the guard is refused by other walls."""
    from promptlab.engine.sandbox.guard import PRELOAD, Guard

    without = "import promptlab.engine.sandbox.landlock as l; l.version = lambda: 0\n"
    (tmp_path / "without_landlock.py").write_text(without)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    guard = Guard(preload=["without_landlock", *PRELOAD])
    told = {"guard": os.getpid(), "port": 9, "secret": str(secret)}
    asked = [one for one in HOSTILE if "guard" in one.body or "getppid" in one.body]
    try:
        assert guard.held["landlock"] == 0 and len(asked) >= 15
        for one in asked:
            if not one.landlock:
                answer = guard.answer(invocation(one.source(), [{"do": True, **told}], limit_s=one.limit_s))
                (score,) = [json.dumps(found["score"], separators=(",", ":")) for found in answer["answers"]]
                assert one.held(score), (one.name, score)
                assert CANARY not in score
    finally:
        guard.close()


def test_there_are_more_than_sixty() -> None:
    assert len(HOSTILE) >= 60
    assert len({one.name for one in HOSTILE}) == len(HOSTILE)
