"""Headers that every response carries."""

from __future__ import annotations

from pathlib import Path

import httpx
import psutil
import pytest
from promptlab_studio.app import STATIC

from tests.bench.real_runs import add_wide
from tests.studio.hosted import Hosted
from tests.studio.live import TOKEN, LiveStudio


def test_every_response_has_the_security_headers(studio: LiveStudio) -> None:
    """Pages, the API, errors and static files."""
    for path in ("/", "/api/v1/runs", "/nothing", "/static/nothing.js", "/login"):
        headers = httpx.get(studio.url + path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'self'; "), path
        assert "unsafe" not in policy
        for rule in (
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'self'",
            "object-src 'none'",
            "img-src 'self' data:",
            "connect-src 'self';",
        ):
            assert rule in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert "camera=()" in headers["permissions-policy"]
        assert headers["cache-control"] == "no-store"


def test_pages_may_upload_to_the_bucket_and_show_its_pictures(tmp_path: Path) -> None:
    """Where the bucket's origin is given, and nowhere else."""
    with LiveStudio(tmp_path, upload_origin="https://bucket.s3.amazonaws.com") as studio:
        policy = httpx.get(f"{studio.api}/health").headers["content-security-policy"]
    assert "connect-src 'self' https://bucket.s3.amazonaws.com;" in policy
    assert "img-src 'self' https://bucket.s3.amazonaws.com data:;" in policy


def test_static_files_with_a_hash_are_kept_for_ever_and_others_asked_for(studio: LiveStudio) -> None:
    """A hashed name never means anything else."""
    for path in STATIC.iterdir():
        hashed = "-" in path.name
        answer = httpx.get(f"{studio.url}/static/{path.name}")
        assert answer.headers["cache-control"] == (
            "public, max-age=31536000, immutable" if hashed else "no-cache"
        ), path.name


def test_longer_answers_are_compressed(studio: LiveStudio) -> None:
    """From 1 KB on, where the client can read it."""
    assert httpx.get(f"{studio.api}/metrics").headers["content-encoding"] == "gzip"
    assert (
        "content-encoding"
        not in httpx.get(f"{studio.api}/metrics", headers={"Accept-Encoding": "identity"}).headers
    )
    assert "content-encoding" not in httpx.get(f"{studio.api}/health").headers


@pytest.mark.parametrize(
    ("asked", "status"), [("bytes=0-9", 206), ("bytes=x", 400), ("bytes=9999999-", 416), ("", 200)]
)
async def test_an_export_leaves_nothing_behind_whatever_part_of_it_is_asked_for(
    tmp_path: Path, asked: str, status: int
) -> None:
    """Its file is made for the request, and goes with the answer."""
    async with Hosted(tmp_path) as studio:
        run, *_ = await add_wide(studio.lab, rows=3, runs=1, trials=1)
        headers = {"Range": asked} if asked else {}
        answer = await studio.client(TOKEN).get(f"/api/v1/runs/{run.run_id}/export", headers=headers)
        assert answer.status_code == status
        # A folder of ours is there as long as its lock is held; other processes have theirs beside it.
        held = (file.path for file in psutil.Process().open_files())
        assert [path for path in held if "promptlab-export-" in path] == []
