"""Whatever a store has and cannot be read is shown as such, in its place."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.servers import ModelServer
from tests.studio.builders import experiment, finished, started
from tests.studio.live import LiveStudio

BROKEN = "Line one\n{% if x %}"
BOMB = "{{ 10 ** (10 ** 9) }}"


@pytest.mark.parametrize(
    ("text", "said"), [(BROKEN, "line 2: not a valid Jinja template"), (BOMB, "cannot be read: it ")]
)
def test_a_prompt_that_cannot_be_read_shows_its_text_and_its_error(
    studio: LiveStudio, api: httpx.Client, text: str, said: str
) -> None:
    """On its page and in its form; the list has it as any other, and a preview says the same."""
    prompt = {"name": "bad", "user_prompt": text, "template_format": "jinja2"}
    api.post("/prompts", json=prompt).raise_for_status()
    for path in ("/prompt?name=bad", "/prompt/edit?name=bad&version=0", "/prompts"):
        page = httpx.get(f"{studio.url}{path}")
        assert page.status_code == 200, path
        assert (said in page.text) == (path != "/prompts"), path
    rows = {"name": "d", "rows": [{"x": 1}]}
    answer = api.post("/preview", json={"prompt_template": "bad", "dataset": rows})
    assert answer.status_code == 422 and said in answer.text


@pytest.mark.parametrize("gone", ["dataset", "prompt", "results"])
def test_a_run_whose_parts_are_gone_shows_what_is_there(
    studio: LiveStudio, api: httpx.Client, model: ModelServer, tmp_path: Path, gone: str
) -> None:
    """Its metrics and its configuration, and what is missing; other pages of it say the same."""
    run = finished(api, started(api, experiment(model))["run_id"])
    if gone == "results":
        shutil.rmtree(tmp_path / "lab.db.blobs" / "runs")
    else:
        kind = "dataset" if gone == "dataset" else "prompt_template"
        with closing(sqlite3.connect(tmp_path / "lab.db")) as db, db:
            db.execute("DELETE FROM asset WHERE kind = ?", (kind,))
    said = {
        "dataset": "dataset &#39;questions&#39;, version 0, which the store does not have",
        "prompt": "There is no prompt template &#39;ask&#39;",
        "results": "runs/",
    }[gone]
    for tab in ("", "?tab=summary", "?tab=configuration"):
        page = httpx.get(f"{studio.url}/runs/{run['run_id']}{tab}")
        assert page.status_code == 200, page.text
        assert "exact_match" in page.text and "openai/mini" in page.text
        if gone != "prompt" or tab != "?tab=summary":
            assert said in page.text
    assert httpx.get(f"{studio.url}/").status_code == 200
    other = httpx.get(f"{studio.url}/runs/{run['run_id']}/cases/1")
    assert other.status_code == (200 if gone == "prompt" else 404)
