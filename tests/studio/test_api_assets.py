"""Prompt templates, datasets, uploads, and what there is to choose from."""

from __future__ import annotations

import contextlib
import gzip
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from promptlab.assets import sources
from promptlab.evaluators.registry import known
from promptlab.models.registry import PROVIDERS
from tests.studio.live import LiveStudio

ROWS = [{"id": f"q{n}", "question": f"What is {n}?", "answer": n} for n in range(120)]


def test_a_prompt_gets_versions_and_labels(api: httpx.Client) -> None:
    """201 for a new version, 200 for the same content again; a label moves."""
    first = api.post("/prompts", json={"name": "q a", "user_prompt": "A: <q>", "description": "Zoë's"})
    assert (first.status_code, first.json()["version"], first.json()["description"]) == (201, 0, "Zoë's")
    assert api.post("/prompts", json={"name": "q a", "user_prompt": "A: <q>"}).status_code == 200
    second = api.post("/prompts", json={"name": "q a", "messages": [{"role": "user", "content": "B: <q>"}]})
    assert (second.status_code, second.json()["version"]) == (201, 1)
    assert api.get(httpx.URL(first.headers["location"]).path.removeprefix("/api/v1")).json() == first.json()
    assert api.put("/prompts/q a/labels/production", json={"version": 0}).json()["labels"] == ["production"]
    assert api.put("/prompts/q a/labels/production", json={"version": 1}).json()["labels"] == ["production"]
    versions = api.get("/prompts/q a").json()["versions"]
    assert [(v["version"], v["labels"]) for v in versions] == [(0, []), (1, ["production"])]
    for which in ("1", "latest", "production"):
        assert (
            api.get(f"/prompts/q a/versions/{which}").json()["content"]["messages"][0]["content"] == "B: <q>"
        )
    assert api.get("/prompts/q a/versions/2").status_code == 404
    assert api.put("/prompts/q a/labels/7", json={"version": 0}).json()["type"] == "urn:promptlab:asset-error"


@pytest.mark.parametrize("name", ["данные", "a?b", "50%25", "a;b", "a b", "100%"])
@pytest.mark.parametrize("path", ["prompts", "datasets"])
def test_what_was_created_is_where_the_answer_says(api: httpx.Client, path: str, name: str) -> None:
    """Whatever is in its name."""
    body = {"name": name, "user_prompt": "x"} if path == "prompts" else {"name": name, "rows": [{"q": 1}]}
    made = api.post(f"/{path}", json=body)
    assert made.status_code == 201
    found = api.get(httpx.URL(str(api.base_url)).join(made.headers["location"]))
    assert found.json() == made.json()


def test_assets_are_listed_page_by_page(api: httpx.Client) -> None:
    """The latest version of each, by name; prompts and datasets apart."""
    for name in "cab":
        api.post("/prompts", json={"name": name, "user_prompt": "x"})
    api.post("/prompts", json={"name": "a", "user_prompt": "y"})
    page = api.get("/prompts", params={"limit": 2}).json()
    assert [(a["name"], a["version"]) for a in page["items"]] == [("a", 1), ("b", 0)]
    rest = api.get("/prompts", params={"limit": 2, "cursor": page["next_cursor"]}).json()
    assert ([a["name"] for a in rest["items"]], rest["next_cursor"]) == (["c"], None)
    assert api.get("/datasets").json()["items"] == []


def test_a_dataset_of_rows_is_read_back_page_by_page(api: httpx.Client) -> None:
    """Columns, ids and rows in order."""
    made = api.post("/datasets", json={"name": "questions", "rows": ROWS}).json()
    assert (
        made["content"]["rows"],
        made["content"]["id_column"],
        [c["name"] for c in made["content"]["columns"]],
    ) == (120, "id", ["id", "question", "answer"])
    page = api.get("/datasets/questions/versions/0/rows", params={"offset": 48, "limit": 5}).json()
    assert page == {"items": ROWS[48:53], "cut": [], "offset": 48, "total": 120}
    assert api.get("/datasets/questions/versions/latest/rows", params={"offset": 500}).json()["items"] == []


def test_a_page_of_long_rows_is_shorter(api: httpx.Client) -> None:
    """An answer stays below what a Lambda function may send."""
    api.post(
        "/datasets",
        json={"name": "long", "rows": [{"text": "x" * 900_000} for _ in range(4)] + [{"text": "y"}]},
    )
    page = api.get("/datasets/long/versions/0/rows").json()
    assert (len(page["items"]), page["total"]) == (3, 5)


def upload(api: httpx.Client, name: str, content: bytes) -> str:
    place = (
        api.post("/datasets/uploads", json={"file_name": name, "size_bytes": len(content)})
        .raise_for_status()
        .json()
    )
    httpx.request(
        place["method"], place["upload_url"], headers=place["headers"], content=content
    ).raise_for_status()
    return str(place["key"])


@pytest.mark.parametrize(
    ("name", "content"),
    [("my questions.csv", b"q,a\n1,2\n3,4\n"), ("x.JSONL", b'{"q": "1", "a": "2"}\n{"q": "3", "a": "4"}\n')],
)
def test_an_uploaded_file_becomes_a_dataset(
    studio: LiveStudio, api: httpx.Client, name: str, content: bytes
) -> None:
    """The upload itself is gone afterwards."""
    key = upload(api, name, content)
    made = api.post("/datasets", json={"name": "uploaded", "upload": key})
    assert (made.status_code, made.json()["content"]["rows"]) == (201, 2)
    assert api.get("/datasets/uploaded/versions/0/rows").json()["items"][1] == {"q": "3", "a": "4"}
    again = api.post("/datasets", json={"name": "uploaded", "upload": key})
    assert "no upload" in again.json()["detail"]


def test_a_broken_file_is_told_by_its_line(api: httpx.Client) -> None:
    """In the name that the user gave it; nothing is stored."""
    key = upload(api, "broken.jsonl", b'{"q": 1}\n{"q": 2}\n{"q": oops}\n[]\n')
    answer = api.post("/datasets", json={"name": "broken", "upload": key})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:promptlab:dataset")
    error, second = answer.json()["errors"]
    assert (error["field"], error["line"], second["line"]) == ("upload", 3, 4)
    assert error["message"].startswith("broken.jsonl, line 3, column 7: not valid JSON")
    assert api.get("/datasets").json()["items"] == []


@pytest.mark.parametrize(
    "key", ["datasets/x.jsonl", "uploads/../lab.db", "uploads/" + "0" * 32 + "/../../x", "uploads/x"]
)
def test_only_uploads_can_be_taken_for_datasets(api: httpx.Client, key: str) -> None:
    """No other blob, and no path."""
    answer = api.post("/datasets", json={"name": "x", "upload": key})
    assert answer.json()["errors"][0]["field"] == "upload"


def test_a_dataset_has_one_source_and_an_upload_a_known_kind(api: httpx.Client) -> None:
    """Each said in the field's words."""
    assert "either rows or upload" in api.post("/datasets", json={"name": "x"}).json()["detail"]
    assert api.post("/datasets/uploads", json={"file_name": "x.exe", "size_bytes": 4}).status_code == 422
    assert (
        httpx.put(
            f"{str(api.base_url).rstrip('/')}/datasets/uploads/{'0' * 31}/x.csv", content=b""
        ).status_code
        == 422
    )


def test_a_preview_fills_the_first_rows_and_stores_nothing(api: httpx.Client) -> None:
    """Inline and by reference; what would stop a run is told beside it."""
    prompt: dict[str, Any] = {"name": "ask", "system_prompt": "Be <tone>.", "user_prompt": "<question>"}
    rows = [{"question": "2 + 2?", "tone": "terse"}, {"question": "3 + 3?"}]
    found = api.post(
        "/preview", json={"prompt_template": prompt, "dataset": {"name": "d", "rows": rows}}
    ).json()
    assert (found["placeholders"], found["columns"]) == (["tone", "question"], ["question", "tone"])
    assert found["rows"][0]["messages"] == [
        {"role": "system", "content": "Be terse."},
        {"role": "user", "content": "2 + 2?"},
    ]
    assert found["rows"][1]["messages"] is None
    assert "tone" in found["rows"][1]["error"]
    assert "'tone' is missing in 1 of 2" in found["errors"][0]
    assert api.get("/prompts").json()["items"] == []
    api.post("/datasets", json={"name": "questions", "rows": ROWS})
    found = api.post(
        "/preview",
        json={"prompt_template": {**prompt, "system_prompt": ""}, "dataset": "questions", "limit": 2},
    ).json()
    assert ([row["messages"][0]["content"] for row in found["rows"]], found["errors"]) == (
        ["What is 0?", "What is 1?"],
        [],
    )
    bad = api.post(
        "/preview",
        json={
            "prompt_template": {"name": "j", "user_prompt": "{{", "template_format": "jinja2"},
            "dataset": "questions",
        },
    )
    assert bad.json()["type"] == "urn:promptlab:template"


def test_metrics_and_providers_are_listed(api: httpx.Client) -> None:
    """All of them."""
    metrics = api.get("/metrics").json()
    assert [metric["name"] for metric in metrics] == known()
    assert next(m for m in metrics if m["name"] == "exact_match")["higher_is_better"]
    providers = {provider["name"]: provider for provider in api.get("/models/providers").json()}
    assert providers.keys() == PROVIDERS.keys()
    assert providers["anthropic"]["key_variable"] == "ANTHROPIC_API_KEY"


def test_health_is_plain(studio: LiveStudio) -> None:
    """Status and version."""
    answer = httpx.get(f"{studio.api}/health").json()
    assert answer["status"] == "ok"
    assert answer["version"].count(".") == 2


def test_an_upload_through_the_app_leaves_no_file_behind(
    studio: LiveStudio, api: httpx.Client, tmp_path: Path
) -> None:
    """Neither the temporary one nor the blob."""
    place = api.post("/datasets/uploads", json={"file_name": "x.csv", "size_bytes": 4}).json()
    assert urlsplit(place["upload_url"]).netloc == f"127.0.0.1:{studio.port}"
    httpx.put(place["upload_url"], content=b"q\n1\n", headers=place["headers"]).raise_for_status()
    assert len(list(tmp_path.rglob("uploads/*/*"))) == 1
    api.post("/datasets", json={"name": "x", "upload": place["key"]}).raise_for_status()
    assert [path for path in tmp_path.rglob("uploads/**/*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("broken.jsonl", b"{"),
        ("bomb.jsonl.gz", gzip.compress(b'{"a": "%b"}\n' % (b"x" * 1_000_000) * 3)),
        ("cut.csv.gz", gzip.compress(b"a,b\n1,2\n" * 1000)[:-9]),
        ("not.parquet", b"PAR1"),
        ("not.xlsx", b"PK"),
    ],
    ids=["broken.jsonl", "bomb.jsonl.gz", "cut.csv.gz", "not.parquet", "not.xlsx"],
)
def test_a_refused_upload_leaves_nothing_behind(
    api: httpx.Client, tmp_path: Path, name: str, content: bytes
) -> None:
    """Neither the upload, nor rows of it, nor a temporary folder; the file is named as it was given."""
    with scratch_folders(tmp_path / "scratch") as left, small_budget():
        answer = api.post("/datasets", json={"name": "x", "upload": upload(api, name, content)})
    assert answer.status_code == 422, answer.text
    assert name in answer.json()["detail"]
    assert str(tmp_path) not in answer.text
    assert left() == []
    assert [p for p in tmp_path.rglob("uploads/**/*") if p.is_file()] == []
    assert list(tmp_path.rglob("datasets/*")) == []


@contextlib.contextmanager
def small_budget() -> Iterator[None]:
    """Let compressed files decode to a megabyte."""
    before = sources.DECODED_BYTES, sources.DECODED_TIMES
    sources.DECODED_BYTES, sources.DECODED_TIMES = 1 << 20, 1
    try:
        yield
    finally:
        sources.DECODED_BYTES, sources.DECODED_TIMES = before


@contextlib.contextmanager
def scratch_folders(folder: Path) -> Iterator[Callable[[], list[Path]]]:
    """Make a folder the one for temporary files; what is left in it."""
    folder.mkdir()
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield lambda: list(folder.iterdir())
    finally:
        tempfile.tempdir = before
