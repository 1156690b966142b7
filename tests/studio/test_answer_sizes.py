"""No answer is longer than what Lambda can send, whatever is in the store: rows, answers and prompts of 10
MB; and what a list cuts can be had whole."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI, Request, Response
from promptlab_studio.app import create_app
from promptlab_studio.bounds import MAX_ANSWER_BYTES, Bounded, streams
from starlette.responses import StreamingResponse

from promptlab.domain.assets import Dataset
from promptlab.store_lab import StoreLab
from tests.studio.large_lab import PATHS
from tests.studio.long_rows import CHARS, ROWS, lab_with_long_rows, long_row

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]
FILES = {
    "/runs/{run_id}/cases.{form}",
    "/runs/{run_id}/cases/{key}/text",
    "/api/v1/runs/{run_id}/cases/{key}",
    "/api/v1/runs/{run_id}/export",
    "/api/v1/datasets/{name}/versions/{version}/rows/{number}",
}
"""Routes that give files, which a laptop sends however long they are."""
NAMES = ("made-qa", "name=wide", "name=columns", "name=texts", "name=many", "=columns", "=texts", "=many")


class Studio:
    """A laptop's Studio over long rows."""

    def __init__(self, lab: StoreLab, ids: dict[str, str]) -> None:
        self.lab, self.ids = lab, ids
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(create_app(lab)), base_url="http://localhost", timeout=60
        )

    async def get(self, path: str, **params: Any) -> httpx.Response:
        for name, run_id in self.ids.items():
            path = path.replace(f"{{{name}}}", run_id)
        return await self.client.get(path, params=params or None)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def studio(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Studio]:
    lab, ids = await lab_with_long_rows(tmp_path_factory.mktemp("long"))
    found = Studio(lab, ids)
    yield found
    await found.client.aclose()
    await lab.close()


def addresses() -> list[tuple[str, str]]:
    """Every address of the table, asked of what is long here."""
    found = []
    for route, paths in PATHS.items():
        for path in paths:
            for name in NAMES:
                path = path.replace(name, re.sub(r"[\w-]+$", "long", name))
            for kind in ("columns", "texts"):
                path = path.replace(f"/datasets/{kind}", "/datasets/long")
            found.append((route, path))
    return found


@pytest.mark.parametrize(("route", "path"), addresses())
async def test_no_answer_is_longer_than_the_bound(studio: Studio, route: str, path: str) -> None:
    answer = await studio.get(path)
    assert answer.status_code < 500, answer.text[:500]
    if route not in FILES:
        assert len(answer.content) <= MAX_ANSWER_BYTES, path


async def test_a_page_of_cases_says_what_it_cuts_and_where_the_whole_is(studio: Studio) -> None:
    """Page by page, every case; each text as it was recorded."""
    seen, cursor = list[int](), ""
    while True:
        page = (await studio.get("/api/v1/runs/{run}/cases", **({"cursor": cursor} if cursor else {}))).json()
        for place, row in enumerate(page["items"]):
            seen.append(row["case"])
            cuts = {tuple(cut["path"]): cut for cut in page["cut"] if cut["item"] == place}
            assert {("response",), ("input.question",)} <= cuts.keys()
            whole = (await studio.get(cuts["response",]["url"])).json()
            assert whole["response"].startswith(row["response"])
            assert len(whole["response"]) == cuts["response",]["characters"] > CHARS / 3
            assert whole["input.question"] == long_row(row["case"])["question"]
            assert {k for k, v in whole.items() if v != row[k]} == {path[0] for path in cuts}
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == list(range(ROWS))


async def test_a_page_of_rows_says_what_it_cuts_and_where_the_whole_is(studio: Studio) -> None:
    page = (await studio.get("/api/v1/datasets/long/versions/0/rows", offset=1, limit=2)).json()
    (cut,) = [c for c in page["cut"] if c["item"] == 0 and c["path"] == ["question"]]
    assert cut["url"].endswith("/rows/1")
    assert (await studio.get(cut["url"])).json() == long_row(1)
    assert page["items"][0]["nested"] is None, "its texts are short, and there are too many of them"
    assert {"item": 0, "path": ["nested"], "characters": None, "url": cut["url"]} in page["cut"]


async def test_versions_and_latest_of_long_prompts_come_page_by_page(studio: Studio) -> None:
    """Each whole at its own address."""
    versions, cursor = [], None
    while True:
        answer = await studio.get("/api/v1/prompts/long", limit=4, **({"cursor": cursor} if cursor else {}))
        page = answer.json()
        versions += page["versions"]
        assert {cut["url"] for cut in page["cut"]} == {
            f"/api/v1/prompts/long/versions/{v['version']}" for v in page["versions"]
        }
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert [v["version"] for v in versions] == list(range(6))
    whole = (await studio.get("/api/v1/prompts/long/versions/5")).json()
    assert len(whole["content"]["user_prompt"]) > 1_000_000


async def test_a_preview_cuts_and_gives_the_whole_where_it_is_asked(studio: Studio) -> None:
    body = {"prompt_template": {"name": "p", "user_prompt": "<question>"}, "dataset": "long", "limit": 2}
    answer = await studio.client.post("/api/v1/preview", json=body)
    assert len(answer.content) <= MAX_ANSWER_BYTES
    assert ["messages", 0, "content"] in [cut["path"] for cut in answer.json()["cut"]]
    whole = await studio.client.post("/api/v1/preview", json={**body, "limit": 1, "whole": True})
    assert whole.json()["rows"][0]["messages"][0]["content"] == long_row(0)["question"]


async def test_a_case_s_page_links_to_the_whole_of_each_text(studio: Studio) -> None:
    """As plain text."""
    page = (await studio.get("/runs/{run}/cases/2")).text
    assert "more characters" in page
    for of in ("response", "message.0", "input.question"):
        # The question stands in the message, and not a second time among the columns.
        assert (f"/cases/2/text?of={of}" in page) == (of != "input.question")
        text = await studio.get(f"/runs/{{run}}/cases/2/text?of={of}")
        assert text.headers["content-type"] == "text/plain; charset=utf-8"
    assert text.text == long_row(2)["question"]
    assert (await studio.get("/runs/{run}/cases/2/text?of=message.7")).status_code == 404


async def test_a_list_of_runs_is_as_short_as_its_runs_are_long(tmp_path: Path) -> None:
    """And goes on where it ended."""
    from dataclasses import replace

    from tests.browser import labs

    lab = labs.open_lab(tmp_path)
    await labs.add_assets(lab, 5)
    run = await lab.run(labs.config({"name": "simulated/demo"}))
    for number in range(12):
        experiment = {**run.experiment, "padding": "x" * 500_000}
        await lab.ledger.add_run(replace(run, run_id=f"long-{number:02}", experiment=experiment))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(lab)), base_url="http://localhost", timeout=60
    ) as client:
        seen, cursor = list[str](), None
        while True:
            params = {"details": "true", **({"cursor": cursor} if cursor else {})}
            answer = await client.get("/api/v1/runs", params=params)
            assert len(answer.content) <= MAX_ANSWER_BYTES
            seen += [item["run_id"] for item in answer.json()["items"]]
            cursor = answer.json()["next_cursor"]
            if cursor is None:
                break
    assert len(seen) == len(set(seen)) == 13
    await lab.close()


def app_with(answer: Response, *, file: bool = False) -> FastAPI:
    app = FastAPI()

    @app.get("/api/x")
    async def route(request: Request) -> Response:
        if file:
            streams(request)
        return answer

    return app


@pytest.mark.parametrize("hosted", [False, True])
@pytest.mark.parametrize("file", [False, True])
async def test_an_answer_beyond_the_bound_is_an_error_and_never_half_of_one(hosted: bool, file: bool) -> None:
    """Only a laptop sends files however long they are."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x" * 1_000

    app = app_with(StreamingResponse(pieces()), file=file)
    guard = Bounded(app, streaming=not hosted, most=5_000)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url="http://localhost") as client:
        answer = await client.get("/api/x")
    if file and not hosted:
        assert (answer.status_code, len(answer.content)) == (200, 10_000)
    else:
        assert answer.status_code == 507
        assert answer.json()["type"] == "urn:promptlab:answer-too-large"
        assert "5,000 bytes" in answer.json()["detail"] and "limit" in answer.json()["detail"]


async def test_what_fits_is_sent_as_it_is() -> None:
    """Its headers too."""
    guard = Bounded(app_with(Response(b"y" * 5_000, headers={"X-Y": "z"})), streaming=False, most=5_000)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url="http://localhost") as client:
        answer = await client.get("/api/x")
    assert (answer.status_code, answer.headers["x-y"], answer.content) == (200, "z", b"y" * 5_000)


async def test_names_of_columns_that_are_longer_than_a_page_leave_their_fields_out(tmp_path: Path) -> None:
    """The row is whole at its own address."""
    from tests.browser import labs

    lab = labs.open_lab(tmp_path)
    row = {"n" * 3_000_000: 1, "q": "x"}
    await lab.assets.create(Dataset(name="names", rows=[row]))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(lab)), base_url="http://localhost", timeout=60
    ) as client:
        page = (await client.get("/api/v1/datasets/names/versions/0/rows")).json()
        assert page["items"] == [{"q": "x"}] and page["cut"][0]["path"] == []
        assert (await client.get(page["cut"][0]["url"])).json() == row
    await lab.close()
