"""The form that writes a prompt: media, parts, tools and transcripts, read back as they were written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from promptlab_studio.views.prompt_form import DraftMessage, PromptDraft, draft_from, draft_of

from promptlab import PromptTemplate
from promptlab.domain.assets import ChatMessage
from tests.studio.live import LiveStudio

TOOL: dict[str, Any] = {
    "name": "look_up_rate",
    "description": "The rate of a day.",
    "parameters": {"type": "object", "properties": {"day": {"type": "string"}}, "required": ["day"]},
}
PAPER, NO = {"type": "pdf", "column": "paper"}, {"type": "text", "text": "no: 'x'"}
TEMPLATES = {
    "plain": {"system_prompt": "Be short.", "user_prompt": "<q>"},
    "media": {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "<q>?"}, {"type": "pdf", "column": "paper"}],
            }
        ],
        "tools": [TOOL],
        "tool_choice": "look_up_rate",
    },
    "parts": {
        "messages": [
            {"role": "system", "content": "Look."},
            {
                "role": "user",
                "content": [{"type": "image", "column": "a"}, NO],
            },
        ]
    },
    "transcript": {"system_prompt": "Go on.", "messages": "$chat", "tools": [TOOL]},
}


@pytest.fixture
def pages(studio: LiveStudio) -> Iterator[httpx.Client]:
    headers = {"Sec-Fetch-Site": "same-origin"}
    with httpx.Client(base_url=studio.url, headers=headers, timeout=60) as client:
        yield client


def posted(draft: PromptDraft) -> dict[str, Any]:
    """The form as a browser sends it."""
    each = {
        name: [getattr(m, name) for m in draft.messages] for name in ("role", "content", "written", "media")
    }
    lines = {
        name: getattr(draft, name).replace("\n", "\r\n") for name in ("tools", "tool_choice", "transcript")
    }
    return {"name": draft.name, "template_format": draft.template_format, **each, **lines}


@pytest.mark.parametrize("kind", list(TEMPLATES))
def test_a_template_is_the_same_after_the_form(kind: str) -> None:
    """Whatever it has: nothing is lost, and its hash stays."""
    given = PromptTemplate(name="p", **TEMPLATES[kind])
    back = draft_of({k: v if isinstance(v, list) else [v] for k, v in posted(draft_from(given, "p")).items()})
    assert back.prompt().content() == given.content()


def test_a_prompt_with_media_and_tools_is_written_and_edited(pages: httpx.Client, studio: LiveStudio) -> None:
    """With what they are shown while it is written, and the same version where nothing differs."""
    draft = draft_from(PromptTemplate(name="receipts", **TEMPLATES["media"]), "receipts")
    shown = pages.post("/prompt/placeholders", data=posted(draft)).text
    assert '<code class="chip">q</code>' in shown and "pdf ← <code>paper</code>" in shown
    assert "look_up_rate(day)" in shown
    made = pages.post("/prompt/edit", data=posted(draft))
    assert made.status_code == 303
    page = pages.get("/prompt/edit?name=receipts").text
    assert 'value="pdf: paper"' in page and "name: look_up_rate" in page and 'value="look_up_rate"' in page
    same = pages.post("/prompt/edit", data={**posted(draft), "exists": "1"})
    assert "Nothing+differs" in same.headers["set-cookie"] or "Nothing" in same.headers["set-cookie"]
    versions = studio.call(lambda lab: lab.assets.versions("receipts", kind="prompt_template"))
    assert len(versions) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"media": ["photo"]}, "'photo' is no kind and column"),
        ({"media": ["photo: image"]}, "kinds are image, audio, video, document, pdf"),
        ({"tools": "- name: [x"}, "Tools, line 1"),
        ({"tools": "- name: x\n  name: y"}, "there twice"),
        ({"tools": "just words"}, "Tools: a list is expected"),
        ({"tools": "- {name: x, parameters: {type: array}}"}, "type object"),
        ({"tool_choice": "fetch", "tools": "- {name: x}"}, "is none of auto, none, required, x"),
        ({"tool_choice": "auto"}, "needs tools"),
        ({"written": ["parts"], "content": ["- {type: image}"]}, "column"),
        ({"written": ["parts"], "content": ["- {type: text, text: x, colour: red}"]}, "colour"),
        ({"transcript": "chat"}, "before them may stand a system message"),
    ],
)
def test_what_is_wrong_is_said_and_what_was_written_stays(
    changes: dict[str, Any], words: str, pages: httpx.Client, studio: LiveStudio
) -> None:
    """While it is written, and when it is saved."""
    form = {"name": "p", "role": ["user"], "content": ["What is <q>?"], **changes}
    for path, status in (("/prompt/placeholders", 200), ("/prompt/edit", 422)):
        answer = pages.post(path, data=form)
        said = re.sub(r"&#39;|&#34;", "'", answer.text)
        assert answer.status_code == status and words in said, said[-1500:]
    assert studio.call(lambda lab: lab.assets.latest("prompt_template")) == []


def test_odd_parts_are_written_as_parts() -> None:
    """A text after media, or a column with a comma, has no other form."""
    for content in TEMPLATES["parts"]["messages"][1:]:
        message = ChatMessage(**content)
        prompt = PromptTemplate(name="p", messages=(message,))
        assert draft_from(prompt, "p").messages[-1].written == "parts"
    plain = DraftMessage("user", "", media="image: a b , image: c")
    assert plain.message()["content"] == [
        {"type": "image", "column": "a b"},
        {"type": "image", "column": "c"},
    ]
