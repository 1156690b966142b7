"""A store that was made when answers were texts only opens, and its run shows as it did."""

from __future__ import annotations

import csv
import json
import tarfile
from pathlib import Path
from typing import Any

import httpx
import pytest
from promptlab_studio.app import create_app

from promptlab import PromptLab
from promptlab.results.table import TOKEN_COUNTS
from promptlab.store_lab import StoreLab

STORE = Path(__file__).parents[1] / "data" / "before-messages.tar.xz"
LATER = ("messages", "trace", *TOKEN_COUNTS)


@pytest.fixture
def old(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """The store's file, and what its run was."""
    with tarfile.open(STORE) as packed:
        packed.extractall(tmp_path, filter="data")
    return tmp_path / "lab.db", json.loads((tmp_path / "expected.json").read_text())


def test_its_results_are_what_they_were(old: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """With nothing in the columns that came later; in exports, too."""
    path, expected = old
    with PromptLab(str(path)) as pl:
        run = pl.experiment.get(expected["run"])
        rows = [dict(row) for row in run.results()]
        assert {row[name] for row in rows for name in LATER} == {None}
        assert [{k: v for k, v in row.items() if k not in LATER} for row in rows] == expected["rows"]
        assert run.summary is not None
        now, then = run.summary.to_json(), expected["summary"]
        same = ("cases", "succeeded", "failed", "errors", "messages", "cut", "cost_usd", "prompt_tokens")
        assert [now[name] for name in same] == [then[name] for name in same]
        assert run.summary.metrics["length"].mean == 8 and run.summary.finish_reasons == {}
        assert pl.asset.get("say").hash == expected["hash"]
        for end in ("csv", "jsonl", "parquet"):
            run.export(str(tmp_path / f"out.{end}"))
    with (tmp_path / "out.csv").open(newline="") as file:
        assert [line["response"] for line in csv.DictReader(file)] == [r["response"] or "" for r in rows]
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["messages"] for line in lines] == [None] * 6


async def test_its_pages_are_there(old: tuple[Path, dict[str, Any]]) -> None:
    """The run, each case, and a filter by what finished it."""
    path, expected = old
    lab = StoreLab.open({"db_file": str(path)})
    transport = httpx.ASGITransport(create_app(lab))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8501") as client:
        page = await client.get(f"/runs/{expected['run']}")
        assert page.status_code == 200 and ">Calls</th>" not in page.text
        cut = await client.get(f"/runs/{expected['run']}?finish=length")
        assert cut.status_code == 200 and "It is 2." in cut.text and "It is 1." not in cut.text
        for n in range(6):
            answer = await client.get(f"/runs/{expected['run']}/cases/{n}")
            assert (
                answer.status_code == 200 and ("✕ server_error" if n == 3 else f"It is {n}.") in answer.text
            )
    await lab.close()
