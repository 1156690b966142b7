"""Whatever a store has and cannot be read is shown as such, in its place."""

from __future__ import annotations

import httpx
import pytest

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
