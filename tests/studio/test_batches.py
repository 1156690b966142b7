"""Batch mode in the Studio: how far a run's batches are, and the choice of it for a new run."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from promptlab import Dataset, PromptTemplate
from promptlab.store_lab import StoreLab
from tests.batch_server import BatchServer
from tests.studio.large_lab import Asked


async def test_a_run_that_waits_for_its_batches_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On its page and in the API: how many cases are done, since when; New run shows what it would cost."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    lab = StoreLab.open({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    studio = Asked(lab, {})
    with BatchServer() as server:
        model = {"name": "openai/mini", "endpoint": f"{server.url}/v1", "batch": True}
        config = {
            "name": "night",
            "dataset": Dataset(name="numbers", rows=[{"n": f"{n}"} for n in range(7)]),
            "prompt_template": PromptTemplate(name="ask", user_prompt="<n>"),
            "model": {**model, "api_key_env": "OPENAI_API_KEY"},
        }
        run = await lab.run(config, leave=True)
        page = await studio.client.get(f"/runs/{run.run_id}")
        assert "waiting for 1 batch: 0 of 7 answered there, submitted 20" in page.text
        told = (await studio.client.get(f"/api/v1/runs/{run.run_id}/progress")).json()
        assert (told["batched"]["open"], told["batched"]["cases"]) == (1, 7)
        again = await studio.client.get(f"/new?from={run.run_id}")
        assert "batch=yes" in again.headers["location"]
    chosen = f"prompt=ask%400&dataset=numbers%400&max_tokens=10&model={quote('openai/gpt-6-luna')}"
    form = await studio.client.get(f"/new?{chosen}")
    assert 'name="batch"' in form.text
    assert "In batches: answers within a day, ≈ $" in form.text
    other = await studio.client.get(f"/new?{chosen.replace('openai', 'groq')}")
    assert 'name="batch"' not in other.text
    await studio.client.aclose()
    await lab.close()
