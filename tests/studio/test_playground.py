"""The playground: a prompt beside models on a few rows; every call is a run's."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from promptlab import Dataset, PromptTemplate
from promptlab.domain.results import RunRecord
from tests.servers import ModelServer
from tests.studio.live import LiveStudio

ROWS = [{"id": f"r{n}", "q": f"{n} + 1", "answer": str(n + 1)} for n in range(30)]


@pytest.fixture
def pages(studio: LiveStudio) -> Iterator[httpx.Client]:
    """A browser without a script."""
    studio.call(lambda lab: lab.assets.create(Dataset(name="sums", rows=ROWS)))
    prompt = PromptTemplate(name="ask", system_prompt="Be short.", user_prompt="<q>")
    studio.call(lambda lab: lab.assets.create(prompt))
    headers = {"Sec-Fetch-Site": "same-origin"}
    with httpx.Client(base_url=studio.url, headers=headers, timeout=60) as client:
        yield client


def form(**changes: Any) -> dict[str, Any]:
    """A form that is filled."""
    return {
        "role": ["system", "user"],
        "content": ["Be short.", "What is <q>?"],
        "dataset": "sums@0",
        "rows": "1, 3-4",
        "model": ["simulated/demo", "simulated/echo", ""],
        "params": ['{"accuracy": 1}', "", ""],
        "metric": ["exact_match", "latency"],
        **changes,
    }


def asked(pages: httpx.Client, **changes: Any) -> tuple[str, list[str]]:
    """Send the form; give the address of the answers, and the runs in it."""
    answer = pages.post("/playground", data=form(**changes))
    assert answer.status_code == 303, answer.text
    url = answer.headers["location"]
    return url, parse_qs(urlsplit(url).query)["run"]


def found(studio: LiveStudio, run_id: str) -> RunRecord:
    """A run as it is now."""
    return studio.call(lambda lab: lab.get_run(run_id))


def when_done(pages: httpx.Client, url: str) -> str:
    """The page once nothing waits any more."""
    for _ in range(600):
        page = pages.get(url).text
        if "waiting …" not in page and 'hx-get="/playground' not in page:
            return page
        time.sleep(0.1)
    raise AssertionError("the answers do not come")


def test_models_answer_beside_each_other(pages: httpx.Client, studio: LiveStudio) -> None:
    """On the chosen rows, with tokens and metrics; each in a run of its own, with the tag."""
    assert "Playground" in pages.get("/").text
    url, runs = asked(pages)
    page = when_done(pages, url)
    assert len(runs) == 2 and "What is 3 + 1?" in page and "q: 4 + 1" in page and "q: 2 + 1" not in page
    assert "exact_match <b>pass</b>" in page and "exact_match <b>fail</b>" in page and "tokens" in page
    for run_id, model in zip(runs, ("simulated/demo", "simulated/echo"), strict=True):
        run = found(studio, run_id)
        assert run.tags == ("playground",) and run.cases == 3 and run.status == "completed"
        assert run.experiment["model"]["name"] == model
    # What was asked is in the form again.
    assert 'value="1, 3-4"' in page and '<option value="sums@0" selected' in page
    assert 'value="simulated/demo"' in page and "&#34;accuracy&#34;" in page and "What is &lt;q&gt;?" in page


def test_a_typed_row_and_a_transcript(pages: httpx.Client) -> None:
    """Without any dataset, and with messages in OpenAI's form."""
    transcript = '[{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}, ' + (
        '{"role": "user", "content": "Say <word>"}]'
    )
    typed = {"dataset": "", "row": '{"word": "ready"}', "transcript": transcript, "metric": []}
    url, runs = asked(pages, **typed, model=["simulated/echo"], params=[""])
    page = when_done(pages, url)
    assert len(runs) == 1 and "Say ready" in page and "word: ready" in page
    assert "Run on the whole dataset" not in page


def test_a_typed_row_has_pictures(pages: httpx.Client, studio: LiveStudio) -> None:
    """As data or by an https address; a path names no file of the Studio's machine."""
    coded = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(50)).decode()
    looks = {"role": ["user"], "content": ["What is it?"], "written": ["text"], "media": ["image: photo"]}
    one = {**looks, "dataset": "", "metric": [], "model": ["simulated/demo"], "params": [""]}
    row = json.dumps({"photo": f"data:image/png;base64,{coded}"})
    url, (run_id,) = asked(pages, **one, row=row)
    when_done(pages, url)
    assert found(studio, run_id).status == "completed"
    case = pages.get(f"/runs/{run_id}/cases/0").text
    assert "<img src=" in case
    refused = pages.post("/playground", data=form(**one, row='{"photo": "/etc/hostname"}'))
    assert refused.status_code == 422 and "is a file, and here is none" in refused.text


def test_tools_and_transcripts_with_calls(pages: httpx.Client, studio: LiveStudio) -> None:
    """A prompt's tools stay with it in the form; a transcript with calls is asked as it is, and answered."""
    tool = {"name": "rate", "parameters": {"type": "object", "properties": {"day": {"type": "string"}}}}
    asks = PromptTemplate(name="tooled", user_prompt="<q>?", tools=[tool], tool_choice="required")
    studio.call(lambda lab: lab.assets.create(asks))
    page = pages.get("/playground?prompt=tooled@0&dataset=sums@0").text
    assert "name: rate" in page and 'value="required"' in page
    tools = {"tools": "- {name: rate, parameters: {type: object, properties: {day: {type: string}}}}"}
    one = {"model": ["simulated/echo"], "params": [""], "metric": []}
    url, _ = asked(pages, **one, **tools, tool_choice="required", rows="1")
    page = when_done(pages, url)
    assert "<summary" in page and "rate(" in page and "name: rate" in page
    transcript = [
        {"role": "user", "content": "Rate?"},
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "rate", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "1.07"},
    ]
    typed = {**one, **tools, "dataset": "", "transcript": json.dumps(transcript), "content": ["", ""]}
    url, (run_id,) = asked(pages, **typed)
    page = when_done(pages, url)
    run = found(studio, run_id)
    assert (run.status, run.cases) == ("completed", 1)
    assert "1.07" in page and "tool_call_response" in page  # in the form again


def test_from_there_to_a_version_and_to_a_run(pages: httpx.Client, studio: LiveStudio) -> None:
    """The prompt is saved under a name; the whole dataset is asked from the form for runs."""
    url, _ = asked(pages)
    page = when_done(pages, url)
    reference = re.search(r'name="prompt" value="([^"]+)"', page)
    assert reference is not None
    saved = pages.post("/playground/save", data={"name": "ask", "prompt": reference[1]})
    assert saved.status_code == 303 and "/prompt?name=ask" in saved.headers["location"]
    prompt = studio.call(lambda lab: lab.assets.get("ask", kind="prompt_template"))
    assert isinstance(prompt, PromptTemplate) and prompt.version == 1 and prompt.user_prompt == "What is <q>?"
    whole = [href.replace("&amp;", "&") for href in re.findall(r'href="(/new\?[^"]+)"', page)]
    assert len(whole) == 2 and "dataset=sums%400" in whole[0] and "metric=exact_match" in whole[0]
    assert pages.get(whole[0]).status_code == 200
    assert pages.post("/playground/save", data={"name": "", "prompt": "x"}).status_code in (400, 422)


def test_it_begins_with_a_stored_prompt(pages: httpx.Client) -> None:
    """Which is loaded into the form, and is not changed by what is asked."""
    page = pages.get("/playground?prompt=ask@0&dataset=sums@0").text
    assert "Be short." in page and "&lt;q&gt;" in page
    assert pages.get("/playground?prompt=none@7").status_code == 200


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": [""], "params": [""]}, "Name a model"),
        ({"rows": "0-10"}, "10 at most"),
        ({"rows": "x"}, "is no row"),
        ({"rows": "29, 30"}, "there is no row 30"),
        ({"dataset": ""}, "Choose a dataset, or write a row"),
        ({"row": "[1]"}, "A row is a JSON object"),
        ({"row": "{"}, "not valid JSON"),
        ({"content": ["", ""]}, "a prompt template needs"),
        ({"content": ["", "<nowhere>"]}, "nowhere"),
        ({"params": ["{", "", ""]}, "not valid JSON"),
        ({"params": ['{"api_key": "sk"}', "", ""]}, "without a key"),
        ({"transcript": "[1]"}, "Transcript, message 1"),
        ({"tools": "words"}, "Tools: a list is expected"),
        ({"max_cost_usd": "few"}, "no number of dollars"),
        ({"model": ["nowhere/x"], "params": [""]}, "nowhere"),
    ],
)
def test_what_is_wrong_is_said_and_the_form_is_kept(
    changes: dict[str, Any], words: str, pages: httpx.Client, studio: LiveStudio
) -> None:
    """And nothing is asked."""
    answer = pages.post("/playground", data=form(**changes))
    assert answer.status_code == 422 and words in answer.text
    assert "sums@0" in answer.text
    runs, _ = studio.call(lambda lab: lab.list_runs())
    assert runs == []


def test_one_model_that_cannot_start_keeps_no_other_from_it(pages: httpx.Client) -> None:
    """It is said of the one."""
    answer = pages.post("/playground", data=form(model=["simulated/echo", "nowhere/x"], params=["", ""]))
    assert answer.status_code == 303 and "problem" in answer.headers["set-cookie"]
    assert len(parse_qs(urlsplit(answer.headers["location"]).query)["run"]) == 1


def test_budgets_hold(pages: httpx.Client, studio: LiveStudio) -> None:
    """For each model: a run that would cost more ends as budget_reached."""
    with ModelServer(lambda request: "4") as server:
        dear = {"endpoint": server.openai_url, "input_usd_per_mtok": 1e5, "output_usd_per_mtok": 1e5}
        params = (
            '{"max_tokens": 10, '
            + ", ".join(f'"{k}": {v!r}'.replace("'", '"') for k, v in dear.items())
            + "}"
        )
        _, (run_id,) = asked(pages, model=["openai/mini"], params=[params], max_cost_usd="0.01", metric=[])
        for _ in range(300):
            run = found(studio, run_id)
            if run.status != "running":
                break
            time.sleep(0.1)
        assert run.status == "budget_reached" and not server.requests
