"""A store with bytes changed: a run finishes or ends with a clear error, pays for nothing twice, and no
command breaks."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from click.testing import CliRunner
from promptlab_studio.app import create_app

from promptlab import Dataset, PromptTemplate
from promptlab.cli import commands
from promptlab.store_lab import StoreLab as Lab
from tests.servers import ModelServer

ROWS, KEPT, IN_FLIGHT = 300, 140, 10
STORES = int(os.environ.get("PROMPTLAB_DAMAGED_STORES", "8"))
"""How many stores are damaged: 200 take five minutes."""


def experiment(server: ModelServer) -> dict[str, Any]:
    return {
        "name": "quiz",
        "dataset": Dataset(
            name="questions", rows=[{"question": f"Q{n}", "answer": "ok"} for n in range(ROWS)]
        ),
        "prompt_template": PromptTemplate(name="ask", user_prompt="<question>"),
        "model": {"name": "openai/mini", "endpoint": server.openai_url, "max_concurrent_tasks": IN_FLIGHT},
        "evaluation": [{"metric": "exact_match", "column_mapping": {"reference": "answer"}}],
    }


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer() as started:
        yield started


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, server: ModelServer) -> Path:
    """A store with a run that is whole, and one that was stopped."""
    folder = tmp_path_factory.mktemp("stopped")
    asyncio.run(_make(folder, server))
    return folder


async def _make(folder: Path, server: ModelServer) -> None:
    lab = Lab.open({"db_file": str(folder / "lab.db")})
    whole = await lab.run(experiment(server))
    run = await lab.run(experiment(server))
    await lab.close()
    connection = sqlite3.connect(folder / "lab.db")
    with connection:
        (body,) = connection.execute("SELECT body FROM run WHERE run_id = ?", (run.run_id,)).fetchone()
        body = orjson.loads(body) | {"status": "interrupted", "summary": None, "results": None}
        connection.execute(
            "UPDATE run SET status = 'interrupted', body = ? WHERE run_id = ?",
            (orjson.dumps(body), run.run_id),
        )
        for table, column, first in (("completion", "case_number", KEPT), ("shard", "number", KEPT // 50)):
            connection.execute(f"DELETE FROM {table} WHERE run_id = ? AND {column} >= ?", (run.run_id, first))
    connection.close()
    (folder / "lab.db.blobs" / "runs" / run.run_id / "results.parquet").unlink()
    (folder / "runs").write_text(f"{run.run_id} {whole.run_id}")


def spoil(path: Path, chance: random.Random, count: int) -> None:
    """Change some bytes of a file."""
    data = bytearray(path.read_bytes())
    for _ in range(count):
        data[chance.randrange(len(data))] = chance.randrange(256)
    path.write_bytes(data)


def said(*arguments: str) -> str:
    """Return what a command prints; it must end by itself, and not by an exception
    of ours or of a library."""
    result = CliRunner().invoke(commands, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), (
        arguments,
        repr(result.exception),
    )
    assert "Traceback" not in result.output, result.output
    return result.output


async def pages(db: Path, run_id: str, whole: str) -> None:
    """Open the Studio's pages; a page may say what is wrong, and never that the server broke."""
    lab = Lab.open({"db_file": str(db)})
    app = create_app(lab)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        for path in (
            "/",
            f"/runs/{run_id}",
            f"/runs/{whole}",
            f"/runs/{whole}/cases/7/0",
            f"/api/v1/runs/{whole}/cases",
            "/prompts",
            "/datasets",
            "/api/v1/runs",
            f"/api/v1/runs/{run_id}",
        ):
            answer = await client.get(path, headers={"accept": "text/html"}, follow_redirects=True)
            assert answer.status_code != 500, (path, answer.text[:500])
    await lab.close()


@pytest.mark.parametrize("seed", [*range(STORES)])
def test_a_damaged_store_costs_no_call_twice_and_breaks_no_command(
    stopped: Path, server: ModelServer, tmp_path: Path, seed: int
) -> None:
    """Bytes of the ledger, and in every third store of a blob, are any."""
    chance = random.Random(seed)
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    db, (run_id, whole) = tmp_path / "lab.db", (tmp_path / "runs").read_text().split()
    blobs = sorted(path for path in tmp_path.glob("lab.db.blobs/[dr]*/**/*") if path.is_file())
    spoil(chance.choice(blobs) if seed % 3 == 2 else db, chance, chance.choice([1, 1, 5, 50]))
    before = len(server.requests)
    said("resume", run_id, "--db", str(db), "--quiet")
    assert len(server.requests) - before <= ROWS + IN_FLIGHT
    for command in (
        ("runs",),
        ("show", run_id),
        ("show", run_id, "--failed"),
        ("export", run_id, str(tmp_path / "out.jsonl")),
        ("show", whole),
        ("export", whole, str(tmp_path / "out.csv")),
        ("prompts", "list"),
        ("datasets", "list"),
        ("cancel", run_id),
    ):
        said(*command, "--db", str(db))
    asyncio.run(pages(db, run_id, whole))
