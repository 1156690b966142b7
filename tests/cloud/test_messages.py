"""Answers that are messages, through the URL of a deployed stack: pictures, conversations, the playground."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from promptlab import Dataset, PromptLab, PromptTemplate
from tests.cloud.conftest import Stack
from tests.cloud.runs import ended, logged, processes, started, until
from tests.cloud.test_faults import timeout
from tests.servers import ModelServer, Reply, Request
from tests.studio.test_playground import form

pytestmark = pytest.mark.cloud
PNG = b"\x89PNG\r\n\x1a\n"
SIZES = (30_000, 4_000_000, 10_000_000, 20 << 20)
"""Of pictures: two that the Studio's function can send, and two that are longer than Lambda's answers."""
ROWS, TURNS, KILLS = 20, 8, 10
AT_ONCE = 5
"""Runs at once, of four conversations each."""
PATIENCE_S = 600.0
"""Five workers begin at once: minutes on a machine that has much else to do."""


def test_pictures_go_to_the_model_and_onto_the_page_and_are_stored_once(
    stack: Stack, pl: PromptLab, tmp_path: Path
) -> None:
    """Files beside the rows, sent by the SDK; a page shows also what is too long for a function's answer."""
    pictures = [PNG + os.urandom(size - len(PNG)) for size in SIZES]
    for picture in pictures:
        (tmp_path / f"{len(picture)}.png").write_bytes(picture)
    sizes = [*SIZES, SIZES[0]]
    rows = tmp_path / "rows.jsonl"
    lines = ({"n": n, "photo": f"{size}.png"} for n, size in enumerate(sizes))
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    parts = [{"type": "text", "text": "<n>"}, {"type": "image", "column": "photo"}]
    with ModelServer(size_of_picture) as server:
        run = pl.experiment.run(
            {
                "name": "pictures",
                "dataset": Dataset(name="pictures", file_path=rows, media={"photo": "image"}),
                "prompt_template": PromptTemplate(name="look", messages=[{"role": "user", "content": parts}]),
                "model": {"name": "openai/mini", "endpoint": server.openai_url},
                "evaluation": [{"metric": "length"}],
            }
        )
    assert [row["response"] for row in run.results()] == [f"{4 * -(-size // 3)} characters" for size in sizes]
    hashes = [hashlib.sha256(picture).hexdigest() for picture in pictures]
    assert {f"media/{sha256}" for sha256 in hashes} <= set(stack.keys("media/"))
    with stack.client() as browser:
        for case, picture in enumerate(pictures):
            page = browser.get(f"/runs/{run.run_id}/cases/{case}").raise_for_status()
            (source,) = set(re.findall(r'<img src="([^"]+)"', page.text))
            shown = browser.get(source)
            assert shown.status_code == (303 if len(picture) > 4 << 20 else 200)
            if shown.status_code == 303:  # to the bucket, which the page's policy allows
                policy = page.headers["content-security-policy"]
                assert f"img-src 'self' {origin(shown.headers['location'])}" in policy
                shown = httpx.get(shown.headers["location"], timeout=60)
            assert shown.content == picture


def size_of_picture(request: Request) -> str:
    """Say how many characters of base64 came."""
    (_, picture) = request.json["messages"][-1]["content"]
    return f"{len(picture['image_url']['url'].partition(',')[2])} characters"


def origin(url: str) -> str:
    """The origin of an address."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def test_conversations_go_on_between_two_turns_after_deadlines_and_a_kill(
    stack: Stack, pl: PromptLab
) -> None:
    """Workers that have 15 s, and one that gets SIGKILL: each turn is in the store once, and only those are
    asked twice that were in flight then."""
    said = [[f"turn {turn} of {row}" for turn in range(TURNS)] for row in range(ROWS)]
    with ModelServer(lambda request: Reply(text=f"to {request.prompt}", delay_s=1.5)) as server:
        config: dict[str, Any] = {
            "name": "talk",
            "dataset": {"name": "talks", "rows": [{"said": turns} for turns in said]},
            "prompt_template": {"name": "kind", "system_prompt": "Be kind."},
            "model": {
                "name": "openai/mini",
                "endpoint": server.openai_url,
                "max_concurrent_tasks": ROWS,
            },
            "conversation": {"user_turns": "$said", "max_turns": TURNS},
            "evaluation": [{"metric": "turn_count"}],
        }
        function = stack.function("Infer")
        with timeout(stack, function, 15):
            run_id = started(stack, config)
            server.wait_for_requests(2 * ROWS + 5)
            for process in processes(function):
                os.kill(process, signal.SIGKILL)
            ended(stack, run_id)
        asked = Counter(request.prompt for request in server.requests)
    assert set(asked) == {text for turns in said for text in turns}
    assert asked.total() <= ROWS * TURNS + 2 * ROWS
    # Workers after the one that died.
    assert sum('"inferred"' in line for line in logged(stack, run_id)) > 1
    for row, turns in zip(pl.experiment.get(run_id).results(), said, strict=True):
        talk = [message.text for message in row["messages"]]
        assert talk == ["Be kind.", *(text for turn in turns for text in (turn, f"to {turn}"))][-len(talk) :]
        assert row["score.turn_count"] == TURNS


@pytest.mark.timeout(1800)
def test_conversations_that_are_killed_ten_times_at_random_pay_for_no_turn_twice(
    stack: Stack, pl: PromptLab
) -> None:
    """Workers that get SIGKILL in the middle of it: each turn is in the store once, and only those are asked
    twice that were in flight then.

    The conversations are those of several runs at once: a shard whose worker was killed rests until its lease
    has ended, and the others are killed meanwhile. Their last turns are answered when all are killed.
    """
    said = [[f"turn {turn} of {row}" for turn in range(TURNS)] for row in range(ROWS)]
    last = f"turn {TURNS - 1} of"
    chance = random.Random(10)
    with ModelServer(
        lambda request: Reply(text=f"to {request.prompt}", delay_s=1.5, hang=request.prompt.startswith(last))
    ) as server:
        function = stack.function("Infer")
        runs = [started(stack, talks(server, number, said[number::AT_ONCE])) for number in range(AT_ONCE)]
        for _ in range(KILLS):
            kill_one_at_work(server, function, chance)
        server.release()
        for run_id in runs:
            ended(stack, run_id, patience_s=PATIENCE_S)
        asked = Counter(request.prompt for request in server.requests)
    assert set(asked) == {text for turns in said for text in turns}
    # Whoever is killed has four conversations, and so four calls in flight at most.
    assert asked.total() <= ROWS * TURNS + KILLS * ROWS // AT_ONCE
    for number, run_id in enumerate(runs):
        rows = pl.experiment.get(run_id).results()
        for row, turns in zip(rows, said[number::AT_ONCE], strict=True):
            talk = [message.text for message in row["messages"]]
            assert talk == [text for turn in turns for text in (turn, f"to {turn}")]
            assert [turn["number"] for turn in row["trace"].turns] == list(range(1, TURNS + 1))
            assert row["score.turn_count"] == TURNS


def talks(server: ModelServer, number: int, said: list[list[str]]) -> dict[str, Any]:
    """One of the experiments, with its conversations."""
    return {
        "name": f"talk-{number}",
        "dataset": {"name": f"talks-{number}", "rows": [{"said": turns} for turns in said]},
        "prompt_template": {"name": "kind", "system_prompt": "Be kind."},
        "model": {"name": "openai/mini", "endpoint": server.openai_url, "timeout_s": 600},
        "conversation": {"user_turns": "$said", "max_turns": TURNS},
        "evaluation": [{"metric": "turn_count"}],
    }


def kill_one_at_work(server: ModelServer, function: str, chance: random.Random) -> None:
    """Kill one of the workers that wait for answers, some calls from now, or once all conversations wait."""
    calls = len(server.requests) + chance.randrange(1, 8)
    until(lambda: len(server.requests) >= calls or server.in_flight >= ROWS, "calls", PATIENCE_S)

    def at_work() -> list[int]:
        inodes = {inode for port, inode in connections() if port in server.waiting}
        return [worker for worker in processes(function) if inodes & sockets(worker)]

    os.kill(chance.choice(until(at_work, "a worker waits for answers", PATIENCE_S)), signal.SIGKILL)


def connections() -> list[tuple[int, str]]:
    """The TCP connections of this machine: their local ports and inodes."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = (line.split() for line in lines)
    return [(int(one[1].partition(":")[2], 16), one[9]) for one in fields]


def sockets(process: int) -> set[str]:
    """The inodes of a process's sockets; none, where it has ended."""
    found = set()
    with suppress(OSError):
        for descriptor in Path(f"/proc/{process}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                found.add(os.readlink(descriptor).removeprefix("socket:[").removesuffix("]"))
    return found


def test_the_playground_asks_in_runs_and_shows_their_answers(stack: Stack, pl: PromptLab) -> None:
    """Two models beside each other on three rows, with their metrics, from the form to the page."""
    rows = [{"q": f"{n} + 1", "answer": str(n + 1)} for n in range(30)]
    pl.asset.create(Dataset(name="sums", rows=rows))
    with stack.client(**{"Sec-Fetch-Site": "same-origin"}) as browser:
        sent = browser.post("/playground", data=form())
        assert sent.status_code == 303, sent.text
        url = sent.headers["location"]
        runs = parse_qs(urlsplit(url).query)["run"]

        def page() -> str | None:
            text = browser.get(url).raise_for_status().text
            return None if "waiting …" in text or 'hx-get="/playground' in text else text

        shown = until(page, "the answers are there")
    assert "What is 3 + 1?" in shown and "exact_match <b>pass</b>" in shown
    for run_id in runs:
        assert ended(stack, run_id)["tags"] == ["playground"]
