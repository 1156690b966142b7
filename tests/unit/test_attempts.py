"""The attempts of a case: which are kept, with what, and what the failed ones were billed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from promptlab.domain.prices import Price
from promptlab.domain.results import MAX_SAID, MAX_TRIES, Attempt
from promptlab.engine.attempts import Attempts
from promptlab.results.formats import export_format
from promptlab.store_lab import StoreLab
from tests.servers import ModelServer, Reply, Request

KEY = "sk-proj-4f9d8c7b6a5e4d3c2b1a"
PRICES = {"input_usd_per_mtok": 1_000_000.0, "output_usd_per_mtok": 2_000_000.0}
"""A dollar a token read, two a token written."""


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[StoreLab]:
    """A lab in a folder."""
    lab = StoreLab.open({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    yield lab
    await lab.close()


def config(server: ModelServer, **model: Any) -> dict[str, Any]:
    given = {"name": "openai/mini", "endpoint": server.openai_url, "api_key": KEY, "max_retries": 2, **model}
    return {
        "name": "few",
        "prompt_template": {"name": "ask", "user_prompt": "case <n>"},
        "dataset": {"name": "numbers", "rows": [{"n": n} for n in range(3)]},
        "model": given,
    }


async def rows_of(lab: StoreLab, given: dict[str, Any]) -> list[dict[str, Any]]:
    run = await lab.run(given)
    return [row async for row in lab.results(run.run_id)]


def again(request: Request) -> Reply | str:
    """Case 0 is answered at once, case 1 at the third try, case 2 is refused."""
    if request.prompt == "case 2":
        return Reply(
            status=400,
            headers={"x-request-id": "req_2"},
            body={"error": {"message": f"no {KEY} " + "x" * 1000}},
        )
    if request.prompt == "case 1" and request.attempt < 3:
        return Reply(
            status=503 if request.attempt == 2 else 429,
            headers={"x-request-id": f"req_{request.attempt}", "retry-after": "0.01"},
            body={"error": {"message": "busy"}},
        )
    return "yes"


async def test_attempts_of_failed_and_repeated_calls_are_kept(lab: StoreLab) -> None:
    """With status, type, what came back and the request's id; a case that is answered at once has none."""
    with ModelServer(again) as server:
        at_once, third, refused = await rows_of(lab, config(server))
    assert (at_once["attempts"], at_once["tries"]) == (1, None)
    assert [(t["number"], t["status"], t["type"], t["request_id"]) for t in third["tries"]] == [
        (1, 429, "rate_limit", "req_1"),
        (2, 503, "server_error", "req_2"),
        (3, None, None, None),
    ]
    assert json.loads(third["tries"][0]["said"]) == {"error": {"message": "busy"}}
    assert [t["said"] for t in third["tries"]][2] == ""
    assert all(t["duration_ms"] > 0 for t in third["tries"])
    begun = [t["started_at"] for t in third["tries"]]
    assert begun == sorted(begun) and all(at.endswith("Z") for at in begun)
    (only,) = refused["tries"]
    assert (only["status"], only["type"], only["request_id"]) == (400, "bad_request", "req_2")
    assert len(only["said"]) == MAX_SAID and "***" in only["said"] and KEY not in json.dumps(refused)


async def test_attempts_are_in_every_export(lab: StoreLab, tmp_path: Path) -> None:
    """Nested where the format nests, else as JSON."""
    duckdb = pytest.importorskip("duckdb")
    with ModelServer(again) as server:
        run = await lab.run(config(server))
    expected = [row["tries"] async for row in lab.results(run.run_id)]
    paths = [tmp_path / f"out.{suffix}" for suffix in ("jsonl", "parquet", "csv")]
    for path in paths:
        await lab.export(run.run_id, path, export_format(path))
    lines = [json.loads(line)["tries"] for line in paths[0].read_text().splitlines()]
    assert lines == expected
    nested = duckdb.sql(f"SELECT tries FROM '{paths[1]}' ORDER BY \"case\"").fetchall()
    assert [found for (found,) in nested] == expected
    cells = duckdb.sql(
        f"SELECT tries FROM read_csv('{paths[2]}', all_varchar = true) ORDER BY \"case\""
    ).fetchall()
    assert [json.loads(cell) if cell else None for (cell,) in cells] == expected


BROKEN = {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 3}}


@pytest.mark.parametrize("user_code", [False, True])
async def test_usage_of_failed_calls_that_were_billed_counts(lab: StoreLab, user_code: bool) -> None:
    """An answer that holds no text, with its usage, is paid for: in the case's sums and in the run's."""

    def answer(request: Request) -> Reply | str:
        if request.prompt == "case 0" or (request.prompt == "case 1" and request.attempt == 1):
            return Reply(body=BROKEN)
        return "yes"

    with ModelServer(answer) as server:
        given = config(server, max_retries=1, **PRICES)
        if user_code:
            given["agent_proxy"] = _agent(given.pop("model"))
            given.pop("prompt_template")
        lost, second, plain = await rows_of(lab, given)
        run = (await lab.list_runs())[0][0]
    read, written, usd = plain["prompt_tokens"], plain["completion_tokens"], plain["cost_usd"]
    assert usd == read + 2 * written
    assert (second["prompt_tokens"], second["completion_tokens"]) == (read + 10, written + 3)
    assert second["cost_usd"] == usd + 16
    assert lost["error_type"] == "invalid_response"
    assert (lost["prompt_tokens"], lost["completion_tokens"], lost["cost_usd"]) == (20, 6, 32)
    assert run.summary is not None and run.summary["cost_usd"] == 32 + 16 + 2 * usd
    if not user_code:
        assert [(t["prompt_tokens"], t["cost_usd"]) for t in second["tries"]] == [(10, 16.0), (read, usd)]


def _agent(model: dict[str, Any]) -> Any:
    from promptlab import get_model

    name = model.pop("name")

    async def ask(row: dict[str, Any]) -> str:
        asked = get_model(name, **model)
        try:
            return (await asked.ainvoke("", f"case {row['n']}")).response
        finally:
            await asked.aclose()

    return ask


async def test_a_call_that_was_perhaps_billed_leaves_the_cost_unknown(lab: StoreLab) -> None:
    """Of a failed case; that of an answer is known, whatever went before."""

    def answer(request: Request) -> Reply | str:
        if request.attempt == 1:
            return Reply(drop=True)
        return Reply(status=400) if request.prompt == "case 0" else "yes"

    with ModelServer(answer) as server:
        refused, second, _ = await rows_of(lab, config(server, **PRICES))
    assert (refused["error_type"], refused["cost_usd"]) == ("bad_request", None)
    assert [t["cost_usd"] for t in refused["tries"]] == [None, 0.0]
    usd = second["tries"][1]["cost_usd"]
    assert usd and (second["cost_usd"], second["tries"][0]["cost_usd"]) == (usd, None)


def attempt(number: int, **changes: Any) -> Attempt:
    given = {"started_at": "2026-11-26T10:00:00.000000Z", "duration_ms": 1.0, "type": "timeout", **changes}
    return Attempt(number=number, **given)


def test_first_and_last_attempts_are_kept() -> None:
    """And what the others were billed counts all the same."""
    seen = Attempts(None)
    for number in range(1, 51):
        seen.add(attempt(number, cost_usd=1.0, prompt_tokens=2, completion_tokens=1))
    found = seen.failed()
    half = MAX_TRIES // 2
    assert [t.number for t in found["tries"]] == [*range(1, half + 1), *range(51 - half, 51)]
    assert (found["cost_usd"], found["prompt_tokens"], found["completion_tokens"]) == (50.0, 100, 50)


def test_attempts_go_on_where_another_worker_left_them() -> None:
    """The sums are whole, however few of the attempts there was room for."""
    seen = Attempts(None)
    for number in range(1, 6):
        seen.add(attempt(number, cost_usd=1.0))
    for most, numbers in ((20, [1, 2, 3, 4, 5, 6]), (2, [1, 5, 6]), (0, [6])):
        later = Attempts(None)
        later.resume(json.loads(json.dumps(seen.to_json(most))))
        later.add(attempt(6, cost_usd=1.0))
        found = later.failed()
        assert ([t.number for t in found["tries"]], found["cost_usd"]) == (numbers, 6.0)


def test_a_lost_call_of_a_free_model_costs_nothing() -> None:
    """Its price is known to be 0, whatever it read."""
    seen = Attempts(Price(input_usd_per_mtok=0.0, output_usd_per_mtok=0.0))
    seen.add(attempt(1))
    assert (seen.failed()["cost_usd"], seen.kept[0].cost_usd) == (0.0, 0.0)
