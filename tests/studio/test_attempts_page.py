"""A case's attempts, as the Studio's page, its API and its exports tell of them."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from promptlab_studio.app import create_app

from promptlab.domain.results import Attempt, Completion, Failure
from promptlab.results.table import Case
from promptlab.store_lab import StoreLab
from tests.bench.make_runs import Made, make_dataset, make_run
from tests.browser import labs
from tests.servers import ModelServer, Reply
from tests.studio.builders import experiment, finished, started
from tests.studio.live import LiveStudio
from tests.studio.test_pages import Page


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[StoreLab]:
    """An empty lab."""
    lab = labs.open_lab(tmp_path)
    yield lab
    await lab.close()


def tried(number: int, **changes: Any) -> Attempt:
    given = {"started_at": "2026-11-26T10:00:00.125000Z", "duration_ms": 1.0, "said": "later", **changes}
    return Attempt(number=number, **given)


def answered(chance: Any, shard: int, case: int, trial: int, row: dict[str, Any], right: bool) -> Case:
    """Case 0 is answered at once, case 1 after 24 refusals, case 2 never."""
    throttled = {"type": "rate_limit", "status": 429}
    numbers = (*range(1, 11), *range(16, 25))
    tries: dict[int, Sequence[Attempt]] = {
        1: [*(tried(number, **throttled) for number in numbers), tried(25, said="")],
        2: [tried(1, type="bad_request", status=400, said="<b>no</b>", request_id="req_7", cost_usd=0.0)],
    }
    error = Failure("bad_request", "no") if case == 2 else None
    return Case(
        row,
        Completion(
            shard=shard,
            case=case,
            trial=trial,
            response=None if error else "yes",
            attempts=[1, 25, 1][case],
            tries=tuple(tries.get(case, ())),
            error=error,
        ),
        None,
    )


async def test_attempts_are_told_everywhere(lab: StoreLab) -> None:
    """On the case's page with what is left out in the middle, in the API as in the results, in CSV as
    JSON."""
    run_id = (await make_run(lab, await make_dataset(lab, 3), Made(case=answered))).run_id
    transport = httpx.ASGITransport(create_app(lab))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:

        async def page(case: int) -> Page:
            found = Page((await client.get(f"/runs/{run_id}/cases/{case}")).text)
            assert found.mistakes == []
            return found

        assert "Attempts" not in (await page(0)).text
        many, refused = (await page(1)).text, (await page(2)).text
        assert "25 attempts" in many and "5 more, not kept" in many and "✓ answered" in many
        assert many.count("✕ rate_limit 429") == 19
        assert "✕ bad_request 400" in refused and "request req_7" in refused and "<b>no</b>" in refused
        items: list[dict[str, Any]] = (await client.get(f"/api/v1/runs/{run_id}/cases")).json()["items"]
        assert [len(item["tries"] or ()) for item in items] == [0, 20, 1]
        table = (await client.get(f"/runs/{run_id}/cases.csv")).text
        cells = [row["tries"] for row in csv.DictReader(io.StringIO(table))]
        assert [json.loads(cell) if cell else None for cell in cells] == [item["tries"] for item in items]


@pytest.mark.parametrize(
    "given",
    [
        {"name": "openai/mini", "temperature": 0.2, "seed": 7, "max_tokens": 30, "top_p": 0.5},
        {"name": "anthropic/haiku", "max_tokens": 30},
    ],
)
def test_the_page_shows_the_body_that_was_sent(
    studio: LiveStudio, api: httpx.Client, model: ModelServer, given: dict[str, Any]
) -> None:
    """To the byte of its values, in the provider's own form, though nothing of it is kept."""
    model.script(Reply(status=503), prompt="What is 3?")
    prompt = {"name": "ask", "system_prompt": "Be < \\<short>.", "user_prompt": "<question>"}
    body = experiment(model, prompt_template=prompt, model={**given, "endpoint": model.openai_url})
    run = finished(api, started(api, body)["run_id"])
    sent = [one.json for one in model.requests if one.prompt == "What is 3?"]
    assert len(sent) == 2 and sent[0] == sent[1]
    page = httpx.get(f"{studio.url}/runs/{run['run_id']}/cases/3").text
    shown = re.search(r'id="request".*?<pre dir="auto">(.*?)</pre>', page, re.DOTALL)
    assert shown is not None and json.loads(html.unescape(shown[1])) == sent[0]


@pytest.mark.parametrize("keep_raw", [True, False])
def test_the_page_shows_the_body_that_came_where_it_is_kept(
    studio: LiveStudio, api: httpx.Client, model: ModelServer, keep_raw: bool
) -> None:
    """With what nothing else of the case tells; and how to keep it, where it is not."""
    choice = {"message": {"content": "<yes>", "logprobs": [-0.25]}, "finish_reason": "stop"}
    body = {"id": "x", "choices": [choice]}
    model.script(Reply(body=body))
    asked = {"name": "openai/mini", "endpoint": model.openai_url, "keep_raw": keep_raw}
    run = finished(api, started(api, experiment(model, model=asked))["run_id"])
    page = httpx.get(f"{studio.url}/runs/{run['run_id']}/cases/0").text
    shown = re.search(r'id="raw-body".*?<pre dir="auto">(.*?)</pre>', page, re.DOTALL)
    if keep_raw:
        assert shown is not None and json.loads(html.unescape(shown[1])) == body
    else:
        assert shown is None and "<code>keep_raw: true</code>" in page and "logprobs" not in page
