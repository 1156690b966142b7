"""A case's messages, reasoning, pictures and spans on the Studio's page."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from promptlab_studio.app import create_app
from promptlab_studio.views.chat import timeline

from promptlab import (
    Dataset,
    Message,
    Model,
    ModelResponse,
    PromptLab,
    PromptTemplate,
    Reasoning,
    Text,
    ToolCall,
    ToolCallResponse,
    Trace,
)
from promptlab.store_lab import StoreLab

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SHA = hashlib.sha256(PNG).hexdigest()
PDF = b"%PDF-1.7 <script>alert(1)</script>"


class Talks(Model):
    """Calls a tool, thinks, and answers."""

    takes = frozenset({"image", "document"})

    async def achat(self, messages: Any) -> ModelResponse:
        spans = [
            {"name": "chat", "span_id": "1", "start": "2026-11-26T10:00:00Z", "duration_ms": 2000.0},
            {
                "name": "<b>find</b>",
                "span_id": "2",
                "parent_id": "1",
                "start": "2026-11-26T10:00:01Z",
                "duration_ms": 500,
                "status": "ERROR",
                "attributes": {"gen_ai.usage.input_tokens": 1200, "gen_ai.usage.output_tokens": 7},
            },
        ]
        return ModelResponse(
            messages=[
                Message("assistant", (Reasoning("Let me <i>see</i>."), ToolCall("find", {"q": "x"}, "c"))),
                Message("tool", (ToolCallResponse({"n": [1]}, "c", is_error=True),)),
                Message("assistant", (Text("It is a dot."),), "stop"),
            ],
            trace=Trace(contexts=("a passage",), spans=tuple(spans), turns=({"number": 1}, {"number": 2})),
        )


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    """A Studio, and the newer of two runs in it."""

    def make() -> str:
        with PromptLab(str(tmp_path / "lab.db")) as pl:
            rows = [
                {"photo": f"data:image/png;base64,{base64.b64encode(PNG).decode()}", "paper": None},
                {"photo": None, "paper": f"data:application/pdf;base64,{base64.b64encode(PDF).decode()}"},
            ]
            parts = [
                {"type": "text", "text": "What is it?"},
                {"type": "image", "column": "photo"},
                {"type": "pdf", "column": "paper"},
            ]
            config = {
                "name": "dots",
                "prompt_template": PromptTemplate(name="look", messages=[{"role": "user", "content": parts}]),
                "dataset": Dataset(name="d", rows=rows, media={"photo": "image", "paper": "document"}),
                "model": Talks(),
                "evaluation": [{"metric": "length"}],
            }
            pl.experiment.run(config, quiet=True)
            return pl.experiment.run(config, quiet=True).run_id

    run_id = await asyncio.to_thread(make)
    lab = StoreLab.open({"db_file": str(tmp_path / "lab.db")})
    transport = httpx.ASGITransport(create_app(lab))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8501") as client:
        yield client, run_id
    await lab.close()


async def test_the_page_of_a_case_shows_a_chat(studio: tuple[httpx.AsyncClient, str]) -> None:
    """With the call and its result in a line each, the reasoning folded, the picture from here."""
    client, run_id = studio
    page = await client.get(f"/runs/{run_id}/cases/0")
    assert page.status_code == 200
    text = page.text
    assert "find({&#34;q&#34;:&#34;x&#34;})" in text and "✕ failed {&#34;n&#34;:[1]}" in text
    assert '<summary dir="auto">Reasoning</summary>' in text and "Let me &lt;i&gt;see" in text
    assert f'<img src="/runs/{run_id}/cases/0/media/{SHA}"' in text
    assert "<b>find</b>" not in text and "1,200 → 7" in text and "1 context retrieved" in text
    assert "What is it?" in text and "finished: stop" in text


async def test_pictures_are_sent_to_be_shown_and_all_else_as_files(
    studio: tuple[httpx.AsyncClient, str],
) -> None:
    """Those of the case only."""
    client, run_id = studio
    shown = await client.get(f"/runs/{run_id}/cases/0/media/{SHA}")
    assert (shown.status_code, shown.content, shown.headers["content-type"]) == (200, PNG, "image/png")
    assert "content-disposition" not in shown.headers
    assert "img-src 'self'" in shown.headers["content-security-policy"]
    assert (await client.get(f"/runs/{run_id}/cases/1/media/{SHA}")).status_code == 404
    assert (await client.get(f"/runs/{run_id}/cases/0/media/{'0' * 64}")).status_code == 404
    assert (await client.get(f"/runs/{run_id}/cases/9/media/{SHA}")).status_code == 404
    paper = await client.get(f"/runs/{run_id}/cases/1/media/{hashlib.sha256(PDF).hexdigest()}")
    assert paper.status_code == 200 and paper.headers["content-disposition"].startswith("attachment")


async def test_parts_can_be_had_whole(studio: tuple[httpx.AsyncClient, str]) -> None:
    """By the address that is behind their beginning."""
    client, run_id = studio
    texts = {"said.0.0": "Let me <i>see</i>.", "said.2.0": "It is a dot.", "asked.0.0": "What is it?"}
    for of, text in (texts | {"context.0": "a passage"}).items():
        answer = await client.get(f"/runs/{run_id}/cases/0/text", params={"of": of})
        assert (answer.status_code, answer.text) == (200, text)
        assert answer.headers["content-type"].startswith("text/plain")
    for of in ("said.9.0", "said.0.9", "said.-1.0", "said.x", "asked.0", "context.5", "said."):
        assert (await client.get(f"/runs/{run_id}/cases/0/text", params={"of": of})).status_code == 404


async def test_the_table_counts_calls_and_turns(studio: tuple[httpx.AsyncClient, str]) -> None:
    """Where any case has them."""
    client, run_id = studio
    text = (await client.get(f"/runs/{run_id}")).text
    assert ">Calls</th>" in text and ">Turns</th>" in text


def test_a_timeline_takes_whatever_spans_say() -> None:
    """Without times, in circles, and none."""
    assert timeline([]) == []
    odd = timeline(
        [{"span_id": "a", "parent_id": "b"}, {"span_id": "b", "parent_id": "a", "duration_ms": "x"}]
    )
    assert [span.width for span in odd] == [0.5, 0.5] and odd[0].depth == 20


async def test_compare_has_what_was_said_beside_each_other(studio: tuple[httpx.AsyncClient, str]) -> None:
    """Calls in a line each, pictures from the case that they are of; how many there are, in the grid, too."""
    client, _ = studio
    runs = "&".join(f"run={run['run_id']}" for run in (await client.get("/api/v1/runs")).json()["items"])
    grid = (await client.get(f"/compare?{runs}")).text
    assert ">Calls</th>" in grid and ">Turns</th>" in grid and ">2 / 2</td>" in grid
    text = (await client.get(f"/compare?{runs}&case=0")).text
    assert text.count('aria-label="What was said in') == 2 and text.count("1 tool call, 2 turns") == 2
    assert text.count("find({&#34;q&#34;:&#34;x&#34;})") == 2 and "Let me &lt;i&gt;see" in text
    assert f"/cases/0/media/{SHA}" in text and "sha256" not in text
