"""Large pictures in many rows: what memory a run takes, and how often each is stored."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from tests.servers import ModelServer, Request

ROWS, SIZE = 200, 4 << 20
MOST_MB = 300

SCRIPT = """
import sys
from promptlab import PromptLab
with PromptLab({"type": "sqlite", "db_file": sys.argv[1]}) as pl:
    run = pl.experiment.run({
        "name": "pictures",
        "dataset": {"name": "pictures", "file_path": sys.argv[2], "media": {"photo": "image"}},
        "prompt_template": {"name": "look", "messages": [{"role": "user", "content": [
            {"type": "text", "text": "What is it?"}, {"type": "image", "column": "photo"},
        ]}]},
        "model": {"name": "openai/mini", "endpoint": sys.argv[3], "max_concurrent_tasks": 20},
        "evaluation": [{"metric": "length"}],
    }, quiet=True)
    # Not ru_maxrss: a process begins with that of the one that started it.
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    print(run.summary.succeeded, int(status["VmHWM"].split()[0]) // 1024, run.run_id)
"""


@pytest.mark.long
@pytest.mark.parametrize("contents", [10, int(os.environ.get("PROMPTLAB_TEST_PICTURES", "20"))])
def test_pictures_of_4_mb_in_200_rows(contents: int, tmp_path: Path) -> None:
    """Memory stays below 300 MB, and each content is stored once. PROMPTLAB_TEST_PICTURES=200 has as many
    different ones as rows."""
    for number in range(contents):
        head = b"\x89PNG\r\n\x1a\n" + number.to_bytes(4, "big")
        (tmp_path / f"{number}.png").write_bytes(head + os.urandom(1 << 20) * (SIZE >> 20))
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(b"".join(orjson.dumps({"photo": f"{n % contents}.png"}) + b"\n" for n in range(ROWS)))

    def answer(request: Request) -> str:
        (_, picture) = request.json["messages"][0]["content"]
        assert len(picture["image_url"]["url"]) > SIZE
        server.requests.clear()  # five megabytes each
        return "a picture"

    with ModelServer(answer) as server:
        command = [sys.executable, "-c", SCRIPT, str(tmp_path / "lab.db"), str(rows), server.openai_url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True)
    succeeded, most_mb, _ = done.stdout.split()
    assert int(succeeded) == ROWS
    assert int(most_mb) < MOST_MB
    kept = list((tmp_path / "lab.db.blobs" / "media").rglob("*"))
    assert len([path for path in kept if path.is_file()]) == contents
    print(f"{contents} contents: {most_mb} MB")
