"""Prompts with tools, media and transcripts; datasets with media, each kept once."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

import promptlab
from promptlab import (
    ChatMessage,
    ChatRequest,
    Dataset,
    Media,
    Model,
    ModelResponse,
    PromptLab,
    PromptTemplate,
    Text,
    ToolCall,
    get_model,
)
from promptlab.domain.assets import content_hash
from promptlab.errors import ConfigError, DatasetError, ModelError, TemplateError
from promptlab.experiments.subset import First, subset
from promptlab.models.media import read_media
from promptlab.sync import run_sync

PNG = b"\x89PNG\r\n\x1a\n" + b"a picture" * 100
PNG_CODED = base64.b64encode(PNG).decode()
JPEG = b"\xff\xd8\xff" + b"another"
TOOL = {"name": "find", "description": "Finds.", "parameters": {"type": "object", "properties": {}}}


class Looks(Model):
    """Says what it was asked, as JSON, with the hashes of the bytes that it can read."""

    takes = frozenset({"tools", "image", "uri", "document"})

    async def achat(self, messages: Any) -> ModelResponse:
        if not isinstance(messages, ChatRequest):
            return ModelResponse(orjson.dumps({"plain": list(messages)}).decode())
        parts = [part for message in messages.messages for part in message.parts]
        read = [await read_media(p) for p in parts if isinstance(p, Media) and p.sha256]
        seen = [hashlib.sha256(data).hexdigest() for data in read]
        return ModelResponse(orjson.dumps(messages.to_json() | {"seen": seen}).decode())


class Reads(Model):
    """Takes texts only."""

    async def achat(self, messages: Any) -> ModelResponse:
        return ModelResponse(orjson.dumps({"plain": list(messages)}).decode())


@pytest.fixture
def pl(tmp_path: Path) -> Any:
    (tmp_path / "lab").mkdir()
    with PromptLab(str(tmp_path / "lab" / "lab.db")) as lab:
        yield lab


def asked(pl: PromptLab, template: Any, dataset: Dataset, model: Model | None = None) -> list[Any]:
    """What the model says that it was asked, by row."""
    run = pl.experiment.run(
        {
            "name": "parts",
            "prompt_template": template,
            "dataset": dataset,
            "model": model or Looks(),
            "evaluation": [{"metric": "length"}],
        },
        quiet=True,
    )
    return [orjson.loads(row["response"]) if row["response"] else row for row in run.results()]


def test_templates_of_before_keep_their_hash() -> None:
    """What a template does not use is not in its content."""
    plain = PromptTemplate(name="p", system_prompt="Be terse.", user_prompt="<q>")
    assert plain.content() == {
        "system_prompt": "Be terse.",
        "user_prompt": "<q>",
        "messages": [],
        "template_format": "simple",
    }
    # As version 69eff2b computed it.
    chat = PromptTemplate(name="p", messages=(ChatMessage(role="user", content="<q>"),))
    assert chat.content()["messages"] == [{"role": "user", "content": "<q>"}]
    assert content_hash(plain.content()) != content_hash(
        PromptTemplate(name="p", system_prompt="Be terse.", user_prompt="<q>", tools=(TOOL,)).content()
    )


def test_tools_are_sent(pl: PromptLab) -> None:
    """In either form that they are written in; with what may be chosen."""
    openai = {"type": "function", "function": TOOL}
    template = PromptTemplate(name="t", user_prompt="<q>", tools=(openai,), tool_choice="find")
    (said,) = asked(pl, template, Dataset(name="d", rows=[{"q": "What?"}]))
    assert said == {
        "messages": [{"role": "user", "parts": [{"type": "text", "content": "What?"}]}],
        "tools": [TOOL],
        "tool_choice": "find",
        "seen": [],
    }
    again = pl.asset.get("t", kind="prompt_template")
    assert isinstance(again, PromptTemplate) and again.tools[0].name == "find"
    assert pl.asset.create(template).version == 0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tools": (TOOL, TOOL)}, "two tools are called 'find'"),
        ({"tool_choice": "auto"}, "tool_choice 'auto' needs tools"),
        ({"tools": (TOOL,), "tool_choice": "lose"}, "'lose' is none of auto, none, required, find"),
        ({"tools": ({"name": "a b"},)}, "name"),
        ({"tools": ({"name": "f", "parameters": {"type": "array"}},)}, "has type object"),
        ({"messages": "$chat"}, "not both"),
    ],
)
def test_a_template_that_cannot_work_is_refused(fields: dict[str, Any], words: str) -> None:
    """In words."""
    with pytest.raises(ValidationError, match=words):
        PromptTemplate(name="t", user_prompt="<q>", **fields)


def test_pictures_come_from_a_column_and_are_kept_once(pl: PromptLab, tmp_path: Path) -> None:
    """Files beside the dataset, data and addresses; a list of them, and none."""
    folder = tmp_path / "set"
    (folder / "img").mkdir(parents=True)
    (folder / "img" / "a.png").write_bytes(PNG)
    (folder / "copy.bin").write_bytes(PNG)
    data = f"data:image/jpeg;base64,{base64.b64encode(JPEG).decode()}"
    rows = [
        {"q": "one", "photo": "img/a.png"},
        {"q": "two", "photo": data},
        {"q": "three", "photo": "https://example.com/c.png?sig=1"},
        {"q": "four", "photo": ["copy.bin", data]},
        {"q": "five", "photo": None},
    ]
    (folder / "rows.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    dataset = Dataset(name="photos", file_path=folder / "rows.jsonl", media={"photo": "image"})
    parts = [{"type": "text", "text": "Look: <q>"}, {"type": "image", "column": "photo"}]
    template = PromptTemplate(name="look", messages=[{"role": "user", "content": parts}])
    said = asked(pl, template, dataset)
    png, jpeg = (hashlib.sha256(data).hexdigest() for data in (PNG, JPEG))
    shown = {"type": "blob", "modality": "image", "mime_type": "image/png", "sha256": png, "size": len(PNG)}
    assert said[0]["messages"][0]["parts"] == [{"type": "text", "content": "Look: one"}, shown]
    assert [one.get("seen") for one in said] == [[png], [jpeg], [], [png, jpeg], None]
    assert said[2]["messages"][0]["parts"][1]["uri"] == "https://example.com/c.png?sig=1"
    assert said[4] == {"plain": [{"role": "user", "content": "Look: five"}]}
    kept = sorted(path.name for path in (tmp_path / "lab" / "lab.db.blobs" / "media").iterdir())
    assert kept == sorted([png, jpeg])
    # The files of before are needed no more, and a version goes with what it alone has.
    (folder / "img" / "a.png").unlink()
    assert asked(pl, "look", pl.asset.get("photos"), Looks())[0]["seen"] == [png]


def test_media_go_with_the_last_version_that_has_them(pl: PromptLab, tmp_path: Path) -> None:
    """One that another version has, too, stays."""
    data = [f"data:image/png;base64,{base64.b64encode(PNG + bytes([n])).decode()}" for n in range(3)]
    for version, some in enumerate((data[:2], data[1:])):
        rows = [{"photo": one} for one in some]
        made = pl.asset.create(Dataset(name="photos", rows=rows, media={"photo": "image"}))
        assert made.version == version
    folder = tmp_path / "lab" / "lab.db.blobs" / "media"
    assert len(list(folder.iterdir())) == 3
    pl.asset.delete("photos", version=0)
    hashes = {hashlib.sha256(PNG + bytes([n])).hexdigest() for n in (1, 2)}
    assert {path.name for path in folder.iterdir()} == hashes
    pl.asset.delete("photos", version=1)
    assert not folder.exists() or not list(folder.iterdir())


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("../secret.png", "is not beside the dataset"),
        ("/etc/hostname", "is not beside the dataset"),
        ("link.png", "is not beside the dataset"),
        ("gone.png", "cannot be read: No such file"),
        ("text.png", "it is none of image/png, image/jpeg"),
        ("http://example.com/a.png", "begins with https://"),
        ("https://me:secret@example.com/a.png", "has no user or password"),
        ("data:image/png;base64,@@@", "its base64 cannot be read"),
        ("data:image/png,abc", "a data: address is"),
        (7, "int is no medium"),
        ({"type": "blob", "modality": "image", "sha256": "0" * 64}, "which the store does not have"),
        ("large.png", "at most 20,971,520 are taken"),
        ("a\0b.png", "'a.x00b.png' cannot be read: embedded null"),
        ("circle.png", "'circle.png' cannot be read: "),
        (".", "it is no file, but a folder or a device"),
        ("pipe.png", "it is no file, but a folder or a device"),
    ],
)
def test_a_medium_that_cannot_be_had_is_named(pl: PromptLab, tmp_path: Path, value: Any, words: str) -> None:
    """With its row and column; nothing is stored."""
    folder = tmp_path / "set"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(PNG)
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "circle.png").symlink_to("circle.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "text.png").write_text("no picture")
    with (folder / "large.png").open("wb") as file:
        file.write(PNG)
        file.truncate((20 << 20) + 1)
    (folder / "rows.jsonl").write_bytes(orjson.dumps({"photo": value}))
    with pytest.raises(DatasetError, match=words):
        pl.asset.create(Dataset(name="p", file_path=folder / "rows.jsonl", media={"photo": "image"}))
    assert pl.asset.list() == []


def test_what_a_model_cannot_take_is_an_error_before_the_first_call(pl: PromptLab) -> None:
    """And so is a column without media."""
    rows = [{"q": "a", "photo": "https://example.com/a.png"}]
    with_media = Dataset(name="d", rows=rows, media={"photo": "image"})
    parts = [{"type": "image", "column": "photo"}]
    template = PromptTemplate(name="look", messages=[{"role": "user", "content": parts}])
    with pytest.raises(ConfigError, match="does not take pictures, media by their address"):
        asked(pl, template, with_media, Reads())
    with pytest.raises(ConfigError, match="does not take tools and their calls; it takes texts only"):
        asked(pl, PromptTemplate(name="t", user_prompt="<q>", tools=(TOOL,)), with_media, Reads())
    with pytest.raises(TemplateError, match=r"'photo' is no image of the dataset. .*media: \{photo: image\}"):
        asked(pl, template, Dataset(name="d", rows=rows))
    with pytest.raises(TemplateError, match="no column fills <photo>"):
        asked(pl, template, Dataset(name="d", rows=[{"q": "a"}]))
    forced = PromptTemplate(name="t", user_prompt="<q>", tools=(TOOL,), tool_choice="required")
    with pytest.raises(ConfigError, match="takes no tool_choice 'required'; leave it out, or say auto"):
        asked(pl, forced, Dataset(name="d", rows=rows), get_model("ollama/x"))
    assert pl.experiment.list() == []


def test_what_is_not_taken_by_its_address_is_an_error_before_the_first_call(pl: PromptLab) -> None:
    """Of the columns that the prompt names, and in the protocol that is asked for."""
    rows = [{"paper": "https://example.com/a.pdf", "photo": f"data:image/png;base64,{PNG_CODED}"}]
    both = Dataset(name="d", rows=rows, media={"photo": "image", "paper": "document"})
    reading = PromptTemplate(
        name="r", messages=[{"role": "user", "content": [{"type": "pdf", "column": "paper"}]}]
    )
    looking = PromptTemplate(
        name="l", messages=[{"role": "user", "content": [{"type": "image", "column": "photo"}]}]
    )
    with pytest.raises(ConfigError, match="openai/x does not take documents by their address"):
        asked(pl, reading, both, get_model("openai/x", api_key="k"))
    sounds = Dataset(
        name="s", rows=[{"said": "data:audio/wav;base64,UklGRgAAAABXQVZF"}], media={"said": "audio"}
    )
    hearing = PromptTemplate(
        name="h", messages=[{"role": "user", "content": [{"type": "audio", "column": "said"}]}]
    )
    with pytest.raises(ConfigError, match="does not take sounds; it takes document, image, tools, uri"):
        asked(pl, hearing, sounds, get_model("openai/x", api_key="k", api="responses"))
    assert pl.experiment.list() == []

    class Sees(Looks):
        takes = frozenset({"image"})

    assert asked(pl, looking, both, Sees())[0]["seen"] == [hashlib.sha256(PNG).hexdigest()]


def test_agents_read_the_media_of_their_row(pl: PromptLab) -> None:
    """Sync and async; of an address there are no bytes, and outside of a case none at all."""
    kept = {"photo": f"data:image/png;base64,{PNG_CODED}"}
    dataset = Dataset(name="d", rows=[kept, {"photo": "https://example.com/a.png"}], media={"photo": "image"})

    async def looks(row: dict[str, Any]) -> str:
        return hashlib.sha256(await promptlab.read_media(row["photo"])).hexdigest()

    def in_thread(row: dict[str, Any]) -> str:
        return asyncio.run(looks(row))

    for agent in (looks, in_thread):
        run = pl.experiment.run({"name": "a", "agent_proxy": agent, "dataset": dataset}, quiet=True)
        first, second = run.results()
        assert first["response"] == hashlib.sha256(PNG).hexdigest()
        assert second["error_type"] == "media_missing" and "is not in the store" in second["error_message"]
    for wrong in ({"type": "blob", "modality": "image", "sha256": "0" * 64}, "x.png", {}):
        with pytest.raises(ModelError, match=r"no medium|nothing says in which"):
            asyncio.run(promptlab.read_media(wrong))  # type: ignore[arg-type]


def test_data_addresses_are_read_as_programs_write_them(pl: PromptLab) -> None:
    """In capitals, with parameters, in lines."""
    lines = base64.encodebytes(PNG).decode()
    rows = [{"photo": f"{start};base64,{lines}"} for start in ("data:image/png", "DATA:Image/PNG;charset=x")]
    looking = PromptTemplate(
        name="l", messages=[{"role": "user", "content": [{"type": "image", "column": "photo"}]}]
    )
    said = asked(pl, looking, Dataset(name="d", rows=rows, media={"photo": "image"}))
    assert [one["seen"] for one in said] == [[hashlib.sha256(PNG).hexdigest()]] * 2


def test_a_transcript_comes_from_a_column(pl: PromptLab) -> None:
    """In OpenAI's form or OpenTelemetry's, behind a system prompt; texts go as plain messages."""
    call = {"id": "1", "function": {"name": "find", "arguments": '{"q": 1}'}}
    rows: list[dict[str, Any]] = [
        {"chat": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
        {"chat": [{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}]},
        {"chat": [{"role": "assistant", "content": None, "tool_calls": [call]}]},
        {"chat": [{"role": "robot", "content": "x"}]},
    ]
    template = PromptTemplate(name="talk", system_prompt="Be kind.", messages="$chat")
    said = asked(pl, template, Dataset(name="chats", rows=rows))
    system = {"role": "system", "content": "Be kind."}
    assert said[0] == {"plain": [system, *rows[0]["chat"]]}
    assert said[1] == {"plain": [system, {"role": "user", "content": "Hi"}]}
    call_part = ToolCall("find", {"q": 1}, "1").to_json()
    assert said[2]["messages"][1] == {"role": "assistant", "parts": [call_part]}
    assert said[3]["error_type"] == "template_error" and "role 'robot'" in said[3]["error_message"]
    # A model of texts is asked what is text; the other case says why it was not.
    rest = asked(pl, "talk", pl.asset.get("chats"), Reads())
    assert rest[0] == said[0] and "does not take tools" in rest[2]["error_message"]
    assert Text("x").to_json() == {"type": "text", "content": "x"}


def test_a_few_rows_are_tried_with_their_pictures(pl: PromptLab, tmp_path: Path) -> None:
    """Before the dataset is in the store, and after."""
    for n in range(3):
        (tmp_path / f"{n}.png").write_bytes(PNG + bytes([n]))
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(orjson.dumps({"photo": f"{n}.png"}) for n in range(3)))
    dataset = Dataset(name="photos", file_path=tmp_path / "rows.jsonl", media={"photo": "image"})
    template = PromptTemplate(
        name="look", messages=[{"role": "user", "content": [{"type": "image", "column": "photo"}]}]
    )
    store = pl._lab.assets  # type: ignore[union-attr]

    async def tried(whole: Dataset | str) -> Dataset:
        async with subset(store, whole, First(1)) as few:
            made = await store.create(few)
        assert isinstance(made, Dataset)
        return made

    for whole in (dataset, "photos"):
        few = run_sync(tried(whole))
        assert len(few) == 1
        assert asked(pl, template, few)[0]["seen"] == [hashlib.sha256(PNG + b"\0").hexdigest()]
        pl.asset.create(dataset)
