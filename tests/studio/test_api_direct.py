"""Files that go straight to and from the bucket, as they do in the cloud."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from promptlab_studio.auth import Auth

from promptlab import Dataset
from promptlab.adapters.aws.s3_blobs import S3Blobs
from promptlab.adapters.http.client import ApiClient
from promptlab.adapters.http.lab import RemoteLab
from promptlab.errors import RemoteError
from tests import aws
from tests.servers import ModelServer
from tests.studio.builders import experiment
from tests.studio.live import BEARER, TOKEN, LiveStudio


@pytest.fixture
def hosted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveStudio]:
    """A Studio with a token, whose blobs are in a bucket."""
    aws.credentials(monkeypatch)
    with LiveStudio(
        tmp_path, blobs=S3Blobs(aws.new_bucket(), session=aws.session()), auth=Auth(TOKEN, secure=False)
    ) as live:
        yield live


async def test_a_dataset_goes_to_the_bucket_and_results_come_from_there(
    hosted: LiveStudio, model: ModelServer, tmp_path: Path
) -> None:
    """Through presigned URLs; the SDK follows them, without its token."""
    path = tmp_path / "questions.csv"
    path.write_text("question,answer\n" + "".join(f"What is {n}?,it is {n}\n" for n in range(120)))
    lab = RemoteLab(hosted.url, TOKEN)
    run = await lab.run({**experiment(model), "dataset": Dataset(name="questions", file_path=path)})
    assert len([row async for row in lab.results(run.run_id)]) == 120
    await lab.export(run.run_id, tmp_path / "out.csv", "csv")
    assert (tmp_path / "out.csv").read_text().count("\n") == 121
    await lab.close()


async def test_a_redirected_upload_is_an_error(hosted: LiveStudio, tmp_path: Path) -> None:
    """S3 answers so for a bucket of another region; nothing was stored."""
    path = tmp_path / "x.csv"
    path.write_text("question\n1\n")
    api = ApiClient(hosted.url, TOKEN)
    with HTTPServer(("127.0.0.1", 0), Moved) as s3:
        Thread(target=s3.handle_request, daemon=True).start()
        with pytest.raises(RemoteError, match="status 307"):
            await api.upload("PUT", f"http://127.0.0.1:{s3.server_port}/bucket/uploads/1", {}, path)
    await api.aclose()


class Moved(BaseHTTPRequestHandler):
    """A bucket of another region."""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(307)
        self.send_header("Location", "https://elsewhere.example/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_uploads_and_exports_are_urls_of_the_bucket(hosted: LiveStudio, model: ModelServer) -> None:
    """Signed for this one object, for a while; the app itself takes no file."""
    with hosted.client(headers=BEARER) as api:
        content = b"question,answer\n1,1\n"
        place = api.post("/datasets/uploads", json={"file_name": "x.csv", "size_bytes": len(content)}).json()
        url = urlsplit(place["upload_url"])
        assert f"{url.scheme}://{url.netloc}" == aws.moto_url()
        assert url.path.endswith(place["key"])
        assert "Signature" in url.query
        assert parse_qs(url.query)["X-Amz-SignedHeaders"] == ["content-length;content-type;host"]
        assert httpx.put(place["upload_url"], content=content, headers=place["headers"]).status_code == 200
        assert api.post("/datasets", json={"name": "x", "upload": place["key"]}).status_code == 201
        assert api.put(f"/datasets/{place['key']}", content=b"x").status_code == 404
        body = experiment(model, dataset="x@0")
        run_id = api.post("/runs", json=body).json()["run_id"]
        while not api.get(f"/runs/{run_id}").json()["summarized"]:
            pass
        for format in ("csv", "parquet"):
            answer = api.get(f"/runs/{run_id}/export", params={"format": format})
            assert answer.status_code == 303
            assert answer.headers["location"].startswith(aws.moto_url())
            assert httpx.get(answer.headers["location"]).status_code == 200
