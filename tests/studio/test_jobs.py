"""Jobs by the API, by the pages and by the remote lab, over a laptop's Studio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from promptlab_studio.app import create_app
from promptlab_studio.views.jobs import job_view

from promptlab.adapters.http.assets import WAITED_BYTES
from promptlab.domain.assets import Dataset
from promptlab.errors import DatasetError
from promptlab.jobs import JOB, Job, TaskStarter
from promptlab.sdk.jobs import said
from promptlab.store_lab import StoreLab
from tests.browser import labs
from tests.studio.live import LiveStudio
from tests.studio.test_remote import lab_of


class Studio:
    """A laptop's Studio in this process, with a run of seven cases."""

    def __init__(self, lab: StoreLab, run_id: str) -> None:
        self.lab, self.run_id, self.app = lab, run_id, create_app(lab)
        transport = httpx.ASGITransport(self.app)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60)

    async def over(self, job_id: str) -> dict[str, Any]:
        while True:
            answer = await self.client.get(f"/api/v1/jobs/{job_id}", params={"wait": 25})
            job: dict[str, Any] = answer.raise_for_status().json()
            if job["status"] not in ("queued", "running"):
                return job

    async def upload(self, content: bytes, name: str = "rows.jsonl") -> str:
        size = {"file_name": name, "size_bytes": len(content)}
        place = (await self.client.post("/api/v1/datasets/uploads", json=size)).json()
        sent = await self.client.put(place["upload_url"], content=content, headers=place["headers"])
        assert sent.status_code == 204
        key: str = place["key"]
        return key


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Studio]:
    lab = labs.open_lab(tmp_path)
    await labs.add_assets(lab, 7)
    run = await lab.run(labs.config({"name": "simulated/demo"}))
    found = Studio(lab, run.run_id)
    yield found
    await found.client.aclose()
    assert isinstance(found.app.state.starter, TaskStarter)
    await found.app.state.starter.close()
    await lab.close()


async def test_an_export_by_the_api(studio: Studio) -> None:
    """202 and where to look; then the file, under a name of its own."""
    body = {"format": "csv", "delimiter": ";", "bom": True}
    answer = await studio.client.post(f"/api/v1/runs/{studio.run_id}/exports", json=body)
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/api/v1/jobs/{job['id']}" and job["file"] is None
    job = await studio.over(job["id"])
    assert (job["status"], job["kind"], job["error"]) == ("done", "export", None)
    file = await studio.client.get(job["file"])
    assert file.headers["content-disposition"] == f'attachment; filename="{studio.run_id}.csv"'
    assert len(file.content) == job["result"]["size_bytes"]
    assert file.text.startswith("\ufeffcase;trial;id;") and len(file.text.splitlines()) == 8


async def test_an_ingest_by_the_api(studio: Studio) -> None:
    """The job's result is the version; its error has the line."""
    body = {"name": "big", "upload": await studio.upload(b'{"q": 1}\n{"q": 2}\n'), "description": "two"}
    answer = await studio.client.post("/api/v1/datasets/ingests", json=body)
    assert answer.status_code == 202
    job = await studio.over(answer.json()["id"])
    assert job["result"] == {"name": "big", "version": 0, "rows": 2} and job["file"] is None
    assert (await studio.client.get("/api/v1/datasets/big/versions/0")).json()["description"] == "two"
    assert (await studio.client.get(f"/api/v1/jobs/{job['id']}/file")).status_code == 404
    body["upload"] = await studio.upload(b'{"q": 1}\n{"q\n')
    job = await studio.over((await studio.client.post("/api/v1/datasets/ingests", json=body)).json()["id"])
    assert job["status"] == "failed" and "rows.jsonl, line 2" in job["error"]["detail"]
    again = await studio.client.post(f"/api/v1/jobs/{job['id']}/retry")
    assert (again.status_code, again.json()["status"]) == (202, "queued")
    assert (await studio.over(job["id"]))["attempts"] == 2


async def test_what_is_wrong_with_the_question_is_said_before_a_job_begins(studio: Studio) -> None:
    missing = await studio.client.post("/api/v1/runs/none/exports", json={})
    assert missing.status_code == 404
    styled = await studio.client.post(
        f"/api/v1/runs/{studio.run_id}/exports", json={"format": "jsonl", "bom": True}
    )
    assert styled.status_code == 422 and "for CSV" in styled.json()["detail"]
    done = await studio.client.post(f"/api/v1/runs/{studio.run_id}/exports", json={})
    job = await studio.over(done.json()["id"])
    again = await studio.client.post(f"/api/v1/jobs/{job['id']}/retry")
    assert again.status_code == 409 and "is done" in again.json()["detail"]
    assert (await studio.client.post(f"/api/v1/jobs/{job['id']}/cancel")).json()["status"] == "done"


async def test_a_page_says_how_far_a_job_is_and_survives_a_reload(studio: Studio) -> None:
    """All that it shows is at its address."""
    begun = await studio.client.post(f"/runs/{studio.run_id}/exports", data={"format": "jsonl"})
    where = begun.headers["location"]
    assert (begun.status_code, where[:6]) == (303, "/jobs/")
    await studio.over(where.removeprefix("/jobs/"))
    for _ in range(2):
        page = (await studio.client.get(where)).text
        assert "✓ done" in page and f"/api/v1{where}/file" in page and studio.run_id in page
        assert "hx-trigger" not in page.split('id="job"')[1].split(">")[0]


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        ({"status": "queued"}, ["○ queued", "Waiting for a worker", "every 2s", "Cancel"]),
        (
            {"status": "running", "stage": "reading rows", "done": 12_000},
            ["Reading rows: 12,000 rows", "every 2s"],
        ),
        ({"status": "running", "beat": 0.0}, ["! interrupted", "Nothing is lost", "Try again"]),
        (
            {"status": "failed", "error": {"detail": "line 7 <b>"}},
            ["✕ failed", "line 7 &lt;b&gt;", "Try again"],
        ),
        ({"status": "cancelled"}, ["■ cancelled", "Try again"]),
        (
            {"status": "done", "result": {"name": "d", "version": 3, "rows": 9}},
            ["✓ done", "9 rows", "/dataset?name=d&amp;version=3"],
        ),
    ],
)
async def test_every_state_has_words(studio: Studio, changes: dict[str, Any], texts: list[str]) -> None:
    """And what can be done."""
    import time

    made = Job("a" * 32, "ingest", "running", {}, "2026-11-23T10:00:00.000000Z", beat=time.time())
    await studio.lab.records.put_record(JOB, made.id, asdict(replace(made, **changes)))
    page = (await studio.client.get(f"/jobs/{made.id}")).text
    for text in texts:
        assert text in page
    assert ("every 2s" in page) is job_view(replace(made, **changes)).active or "interrupted" in page


async def test_a_large_run_is_exported_by_a_job_from_its_page(studio: Studio) -> None:
    """A small one at once."""
    assert (
        f'action="/runs/{studio.run_id}/exports"'
        not in (await studio.client.get(f"/runs/{studio.run_id}")).text
    )
    await studio.lab.ledger.update_run(studio.run_id, {"cases": 50_000})
    page = (await studio.client.get(f"/runs/{studio.run_id}")).text
    assert page.count(f'action="/runs/{studio.run_id}/exports"') == 4 and "export?format=parquet" in page


async def test_the_remote_lab_waits_for_jobs_and_tells_how_far_they_are(
    tmp_path: Path, guarded: LiveStudio
) -> None:
    """A large file is uploaded and read; results are written and fetched."""
    told: list[dict[str, Any]] = []
    lab = lab_of(guarded)
    lab.tell(lambda job: told.append(dict(job)))
    path = tmp_path / "rows.jsonl"
    line = b'{"q": "%b"}\n' % (b"x" * 1_000)
    path.write_bytes(line * (WAITED_BYTES // len(line) + 2))
    made = await lab.assets.create(Dataset(name="big", file_path=path))
    assert isinstance(made, Dataset) and len(made) == WAITED_BYTES // len(line) + 2
    assert {job["kind"] for job in told} == {"upload", "ingest"}
    assert max(job["done"] for job in told if job["kind"] == "upload") == path.stat().st_size
    assert all(said(job) for job in told)
    path.write_bytes(line * (WAITED_BYTES // len(line) + 2) + b"{")
    with pytest.raises(DatasetError, match=r"rows.jsonl, line 20"):
        await lab.assets.create(Dataset(name="big", file_path=path))
    await lab.close()


def test_progress_in_words() -> None:
    assert said({"kind": "ingest", "stage": "reading rows", "done": 1_200, "total": None}) == (
        "ingest: reading rows, 1,200 rows"
    )
    assert said({"kind": "upload", "stage": "uploading", "done": 5_000_000, "total": 10_000_000}) == (
        "upload: uploading, 5.0 of 10.0 MB (50%)"
    )
    assert said({"kind": "export", "stage": "waiting", "done": 0, "total": None}) == "export: waiting"


async def test_two_wait_for_the_same_job(studio: Studio) -> None:
    """Neither holds up the other."""
    begun = await studio.client.post(f"/api/v1/runs/{studio.run_id}/exports", json={"format": "parquet"})
    jobs = await asyncio.gather(*(studio.over(begun.json()["id"]) for _ in range(3)))
    assert {job["status"] for job in jobs} == {"done"}
