"""The pages of code: what is kept, how versions differ, pasting a file, and choosing it for a run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs

import httpx
import pytest

from tests.studio.live import LiveStudio
from tests.studio.told import Told

RULES = "import re\n\n\nclass Length:\n    def evaluate(self, data):\n        return len(data['response'])\n"


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[LiveStudio]:
    with LiveStudio(tmp_path, sandbox=Told()) as found:
        yield found


@pytest.fixture
def pages(studio: LiveStudio) -> Iterator[httpx.Client]:
    headers = {"Sec-Fetch-Site": "same-origin"}
    with httpx.Client(base_url=studio.url, headers=headers, timeout=60) as client:
        yield client


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def paste(pages: httpx.Client, text: str = RULES, **fields: str) -> httpx.Response:
    return pages.post("/code/new", data={"name": "rules", "path": "rules.py", "text": text, **fields})


def test_an_empty_lab_says_what_code_is_and_offers_the_form(pages: httpx.Client) -> None:
    """And the navigation has the page."""
    page = pages.get("/code").text
    assert "No code yet" in page and 'href="/code/new"' in page and 'href="/code"' in pages.get("/").text


def test_a_pasted_file_is_a_version_with_its_source(pages: httpx.Client) -> None:
    """With line numbers, what it defines, and what differs from the version before."""
    assert paste(pages).headers["location"] == "/source?name=rules&version=0"
    assert (
        paste(pages, RULES.replace("len(", "1 + len(")).headers["location"] == "/source?name=rules&version=1"
    )
    assert paste(pages).headers["location"] == "/source?name=rules&version=0"
    page = pages.get("/source?name=rules&version=1").text
    assert "1\n2\n3\n4\n5\n6</pre>" in page and "rules:Length" in page.replace("<wbr>", "")
    assert "evaluator, line 4" in page and "In none of the newest runs" in page
    diff = text_of(pages.get("/source?name=rules&version=1&against=0").text)
    assert "From version 0 to version 1" in diff and "1 + len(data" in diff
    listed = text_of(pages.get("/code").text)
    assert "rules version 1" in listed and "Length" in listed and "1 of 1 code" in listed


def test_a_file_that_is_no_python_comes_back_with_its_line(pages: httpx.Client) -> None:
    """And what was pasted is still there."""
    answer = paste(pages, "def f(data):\n    return =\n")
    assert answer.status_code == 422
    assert "rules.py, line 2: invalid syntax: return =" in text_of(answer.text)
    assert "return =" in answer.text and pages.get("/code").text.count("No code yet") == 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "a/b"}, "is not a usable name"),
        ({"path": "../x.py"}, "is no path of a file"),
        ({"path": ".env"}, "is not sent"),
    ],
)
def test_a_form_that_cannot_be_kept_is_said(pages: httpx.Client, fields: dict[str, str], words: str) -> None:
    """In the words of the API."""
    answer = paste(pages, **fields)
    assert answer.status_code == 422 and words in text_of(answer.text)


def test_code_is_chosen_for_a_run_and_the_run_shows_it(studio: LiveStudio, pages: httpx.Client) -> None:
    """Its inputs are suggested; the run links to the version, and a new run from it keeps it."""
    paste(pages)
    with studio.client() as api:
        for path, body in (
            ("/prompts", {"name": "ask", "user_prompt": "<q>"}),
            ("/datasets", {"name": "one", "rows": [{"q": "a", "answer": "b"}]}),
        ):
            assert api.post(path, json=body).status_code == 201
        chosen = "prompt=ask@0&dataset=one@0&model=simulated/demo&code=rules@0/rules:Length"
        form = pages.get(f"/new?{chosen}").text
        assert re.search(r'value="rules@0/rules:Length"\s+checked', form)
        assert 'value="response=$inference reference=answer"' in form
        fields = {
            **dict(pair.split("=", 1) for pair in chosen.split("&")),
            "c.rules@0/rules:Length": 'response=$inference "text=q"',
            "a.rules@0/rules:Length": '{"least": 3}',
        }
        answer = pages.post("/new", data=fields)
        assert answer.status_code == 303, text_of(answer.text)
        run_id = answer.headers["location"].rpartition("/")[2]
        metric = api.get(f"/runs/{run_id}").json()["configuration"]["evaluation"][0]
        assert (metric["name"], metric["code"]["bundle"]) == ("Length", "rules@0")
        assert metric["column_mapping"] == {"response": "$inference", "text": "q"}
        assert metric["params"] == {"least": 3}
        page = pages.get(f"/runs/{run_id}?tab=configuration").text
        assert 'href="/source?name=rules&amp;version=0"' in page and "rules:Length" in page
        assert run_id in pages.get("/source?name=rules").text
        again = pages.get(f"/new?from={run_id}")
        assert "code=rules%400%2Frules%3ALength" in again.headers["location"]
        for wrong, words in (("response", "is no pair"), ('"', "No closing quotation")):
            refused = pages.post("/new", data={**fields, "c.rules@0/rules:Length": wrong})
            assert refused.status_code == 422 and words in text_of(refused.text)
        deleted = pages.post("/source/delete", data={"name": "rules", "version": "0"})
        assert "is used by a run" in deleted.headers["set-cookie"].replace("%20", " ")


AGENT = """
def greet(row, tone='plain'):
    return row['q']


class Echo:
    def invoke(self, s, u):
        return u
"""


def test_an_agent_is_chosen_in_place_of_prompt_and_model(studio: LiveStudio, pages: httpx.Client) -> None:
    """With arguments and a limit; functions are offered; a new run from it keeps all of that."""
    paste(pages, AGENT)
    with studio.client() as api:
        assert "First a prompt and a dataset" in pages.get("/new").text
        body = {"name": "one", "rows": [{"q": "a", "answer": "b"}]}
        assert api.post("/datasets", json=body).status_code == 201
        chosen = "dataset=one@0&agent=rules@0/rules:greet"
        form = pages.get(f"/new?{chosen}&trials=3").text
        assert re.search(r'value="rules@0/rules:greet"\s+selected', form) and "rules:Echo" not in form
        said = text_of(form)
        assert "as the agent gets them" in said and "&#34;answer&#34;: &#34;b&#34;" in said
        assert "calls of the agent 3" in said and not re.search(r"<button[^>]* disabled>Start", form)
        fields = {
            "dataset": "one@0",
            "agent": "rules@0/rules:greet",
            "agent_params": '{"tone":"kind"}',
            "agent_max_concurrent_tasks": "3",
        }
        answer = pages.post("/new", data=fields)
        assert answer.status_code == 303, text_of(answer.text)
        run_id = answer.headers["location"].rpartition("/")[2]
        found = api.get(f"/runs/{run_id}").json()
        agent = found["configuration"]["agent"]
        assert (found["name"], agent["bundle"], agent["qualname"]) == ("greet", "rules@0", "greet")
        assert agent["params"] == {"tone": "kind"}
        assert found["configuration"]["model"]["max_concurrent_tasks"] == 3
        again = parse_qs(pages.get(f"/new?from={run_id}").headers["location"].partition("?")[2])
        assert {name: again[name] for name in fields} == {name: [value] for name, value in fields.items()}
        assert "model" not in again and "prompt" not in again
        for name, wrong, words in (
            ("agent_params", "[", "are not valid JSON"),
            ("agent_params", "[]", "are a JSON object"),
            ("agent_max_concurrent_tasks", "many", "must be a whole number"),
            ("agent_max_concurrent_tasks", "0", "greater than or equal to 1"),
            ("dataset", "", "Choose a dataset first"),
        ):
            refused = pages.post("/new", data={**fields, name: wrong})
            assert refused.status_code == 422 and words in text_of(refused.text), text_of(refused.text)


def test_a_label_is_set_and_an_object_has_no_source(studio: LiveStudio, pages: httpx.Client) -> None:
    """The page says why there is nothing to read."""
    with studio.client() as api:
        assert api.post("/code", json={"name": "obj", "pickled": "gAVLAS4="}).status_code in (201, 422)
    paste(pages)
    answer = pages.post("/source/label", data={"name": "rules", "version": "0", "label": "production"})
    assert answer.headers["location"] == "/source?name=rules&version=0"
    assert "production" in pages.get("/source?name=rules").text


def test_a_lab_that_takes_no_code_says_so(tmp_path: Path) -> None:
    """No link leads there; whoever knows the address is told what to do."""
    with LiveStudio(tmp_path) as studio, httpx.Client(base_url=studio.url) as pages:
        assert 'href="/code"' not in pages.get("/").text
        assert "sandbox of a hosted lab only" in pages.get("/code").text
        assert pages.get("/code/new").status_code == 403
