"""Metrics and providers of installed packages, as the Studio offers them."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

from promptlab.domain.assets import Dataset, PromptTemplate
from tests.studio.test_actions import ended, forms
from tests.studio.test_pages import Studio, studio
from tests.unit.test_plugins import installed

__all__ = ["installed", "studio"]


async def test_the_form_of_a_new_run_offers_metrics_of_packages(installed: Path, studio: Studio) -> None:
    """With fields for their parameters; a broken one is named, and the others work."""
    await studio.lab.assets.create(PromptTemplate(name="p", user_prompt="<q>"))
    await studio.lab.assets.create(Dataset(name="d", rows=[{"q": "no"}, {"q": "thanks"}]))
    path = "/new?prompt=p&dataset=d&model=acme%2Flarge&metric=acme_politeness"
    page = await studio.page(path)
    assert "Whether a word of thanks is in the answer." in page.text
    assert 'name="p.acme_politeness.word"' in page.source
    assert "'broken_metric' of the package acme 1.2" in page.text
    answer = await studio.client.post(path.replace("?", "?x=1&"), content=path.partition("?")[2])
    assert answer.status_code == 303, answer.text
    run = await ended(studio, answer.headers["location"].removeprefix("/runs/"))
    scores = [row["score.acme_politeness"] async for row in studio.lab.results(run.run_id)]
    assert scores == [0.0, 1.0]
    assert forms((await studio.page(f"/runs/{run.run_id}?status=ok")).source, "/again")


async def test_a_run_whose_metric_is_gone_can_be_run_again_without_it(
    installed: Path, studio: Studio
) -> None:
    """The form says what it left out."""
    run = await studio.lab.run(
        {
            "dataset": {"name": "d", "rows": [{"q": "thanks"}]},
            "prompt_template": {"name": "p", "user_prompt": "<q>"},
            "model": "simulated/echo",
            "evaluation": [{"metric": "acme_politeness"}],
        }
    )
    shutil.rmtree(installed)
    importlib.invalidate_caches()
    answer = await studio.client.get(f"/new?from={run.run_id}")
    assert answer.status_code == 303
    assert "there%20is%20no%20%27acme_politeness%27%20any%20more" in answer.headers["set-cookie"]


async def test_the_api_lists_providers_of_packages(installed: Path, studio: Studio) -> None:
    """Those that can be loaded."""
    providers = (await studio.client.get("/api/v1/models/providers")).json()
    assert [p["name"] for p in providers][:3] == ["acme", "anthropic", "azure"]
    metrics = (await studio.client.get("/api/v1/metrics")).json()
    assert metrics[-1]["name"] == "acme_politeness"
