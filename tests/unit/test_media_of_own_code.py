"""Code of users reads the bytes of its case's media wherever it runs: in threads and on the loop, in
processes of this machine, in the sandbox; and no others."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from promptlab import (
    ChatRequest,
    Dataset,
    Evaluator,
    Media,
    Message,
    PromptLab,
    Score,
    Text,
    Tool,
    read_media,
)
from promptlab.adapters.local.file_blobs import FileBlobs
from promptlab.adapters.local.sandbox import LocalSandbox
from promptlab.clock import SystemClock
from promptlab.domain.chat import read_request
from promptlab.domain.code import CodeBundle
from promptlab.domain.experiment import CodeRef
from promptlab.domain.keys import media_key
from promptlab.domain.media_in import MOST_GIVEN, MOST_MEDIUM, blobs_in
from promptlab.domain.model_config import ModelConfig
from promptlab.engine.limits import Deadline
from promptlab.engine.processes import SANDBOX, Recipe
from promptlab.engine.sandboxed import SandboxPool
from promptlab.experiments.stored import StoredModel, described, model_of
from promptlab.models.base import lacking
from promptlab.models.media import MediaReader

linux = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
PNG = b"\x89PNG\r\n\x1a\n" + b"a picture" * 100
SHA = hashlib.sha256(PNG).hexdigest()
CODE = """
import asyncio, hashlib, json
from promptlab import ChatRequest, Media, Model, ModelResponse, read_media

async def seen(photo):
    return hashlib.sha256(await read_media(photo)).hexdigest()

def scored(data):
    return asyncio.run(seen(data["photo"]))

async def agent(row):
    return await seen(row["photo"])

class Sees(Model):
    takes = frozenset({"image", "tools"})
    by_address = frozenset({"image"})
    forces_tools = False

    async def achat(self, asked):
        assert isinstance(asked, ChatRequest)
        parts = [part for message in asked.messages for part in message.parts]
        hashes = [await seen(part) for part in parts if isinstance(part, Media)]
        return ModelResponse(json.dumps({"seen": hashes, "asked": asked.to_json()}))
"""


def picture(sha256: str = SHA, size: int = len(PNG)) -> dict[str, Any]:
    return Media(modality="image", mime_type="image/png", sha256=sha256, size=size).to_json()


async def hashed(data: dict[str, Any]) -> str:
    return hashlib.sha256(await read_media(data["photo"])).hexdigest()


class InThread(Evaluator):
    """Reads the picture from sync code."""

    def evaluate(self, data: dict[str, Any]) -> Score:
        return Score(label=asyncio.run(hashed(data)))


class OnLoop(Evaluator):
    """Reads it from async code."""

    async def evaluate(self, data: dict[str, Any]) -> Score:  # type: ignore[override]
        return Score(label=await hashed(data))


@pytest.mark.parametrize("isolated", [None, True])
@pytest.mark.parametrize("evaluator", [InThread(), OnLoop()])
def test_evaluators_read_the_media_of_their_row(
    tmp_path: Path, evaluator: Evaluator, isolated: bool | None
) -> None:
    """Also when a run is scored once more; what is not in the store says so."""
    coded = base64.b64encode(PNG).decode()
    rows = [{"photo": f"data:image/png;base64,{coded}"}, {"photo": "https://example.com/a.png"}]
    metric = {
        "metric": "saw",
        "evaluator": evaluator,
        "column_mapping": {"photo": "photo"},
        "isolated": isolated,
    }
    with PromptLab(str(tmp_path / "lab.db"), quiet=True) as pl:
        run = pl.experiment.run(
            {
                "name": "media",
                "agent_proxy": lambda row: "seen",
                "dataset": Dataset(name="d", rows=rows, media={"photo": "image"}),
                "evaluation": [metric],
            }
        )
        first, second = run.results()
        assert first["label.saw"] == SHA
        assert "is not in the store" in second["score_error.saw"]


def test_references_to_media_are_found_wherever_they_are() -> None:
    other = "b" * 64
    row = {"a": [picture(), {"deep": picture(other, 7)}], "b": {"type": "uri", "sha256": SHA}, "c": "blob"}
    assert blobs_in(row) == {SHA: len(PNG), other: 7}
    for wrong in ("../secret", SHA.upper(), SHA + "\n", 5, None):
        assert blobs_in({"type": "blob", "sha256": wrong}) == {}
    assert blobs_in({"type": "blob", "sha256": SHA, "size": "many"}) == {SHA: 0}


async def test_no_case_takes_more_memory_than_its_share(tmp_path: Path) -> None:
    """Whatever its rows say of sizes; one that is gone is told from one that is too much."""
    blobs, large = FileBlobs(tmp_path), b"x" * (MOST_MEDIUM + 1)
    many = {hashlib.sha256(data).hexdigest(): data for data in (bytes([n]) * MOST_MEDIUM for n in range(4))}
    for data in (large, *many.values()):
        await blobs.put(media_key(hashlib.sha256(data).hexdigest()), data)
    names = [hashlib.sha256(large).hexdigest(), "0" * 64, *many]
    row = [picture(name, 1) for name in names]
    async with MediaReader(blobs).given(row) as found:
        whole = [one for one in found.values() if isinstance(one, bytes)]
        assert sum(map(len, whole)) <= MOST_GIVEN and len(whole) == 3
        assert "not in the store" in str(found["0" * 64])
        assert sum("is too much" in str(one) for one in found.values() if isinstance(one, str)) == 2


def test_a_request_is_read_as_it_was_written() -> None:
    asked = ChatRequest(
        (Message("user", (Text("Look."), Media(modality="image", sha256=SHA, size=3))),),
        (Tool("find", "Finds.", {"type": "object"}), Tool("stop")),
        "required",
    )
    assert read_request(orjson.loads(orjson.dumps(asked.to_json()))) == asked


if sys.platform == "linux":
    from promptlab.engine.sandbox.guard import Guard


class Store:
    """Where a guard gets media: counts how often."""

    def __init__(self, **found: bytes) -> None:
        self.found, self.got = found, list[str]()

    def fetch(self, url: str, most: int) -> bytes:
        self.got.append(url)
        if url not in self.found:
            raise OSError("HTTP Error 404: Not Found")
        return self.found[url][: most + 1]


@pytest.fixture(scope="module")
def guard() -> Iterator[Any]:
    with tempfile.TemporaryDirectory() as folder:
        made = Guard(Path(folder))
        yield made
        made.close()


def invocation(urls: dict[str, str], *photos: Any, name: str = "scored") -> dict[str, Any]:
    bundle = CodeBundle(name="code", files={"m.py": CODE})
    return {
        "bundle": {"hash": bundle.content_hash(), "content": bundle.content(), "urls": urls},
        "role": "evaluate",
        "ref": {"module": "m", "qualname": name},
        "limit_s": 20,
        "cases": [
            {"n": n, "data": {"photo": photo}, "media": blobs_in(photo)} for n, photo in enumerate(photos)
        ],
    }


@linux
def test_the_guard_gets_what_cases_refer_to_once(guard: Any) -> None:
    """And a case whose medium cannot be had, or is another, fails by itself and says why."""
    store = Store(here=PNG, other=b"another")
    guard.fetch = store.fetch
    gone, other, unsaid = "0" * 64, "1" * 64, "2" * 64
    photos = [picture()] * 40 + [picture(gone), picture(other), picture(unsaid)] + [picture()] * 40
    answer = guard.answer(invocation({SHA: "here", gone: "gone", other: "other"}, *photos))
    found = [one["score"] for one in answer["answers"]]
    assert [score.get("label") for score in found if "error" not in score] == [SHA] * 80
    told = [score["error"]["message"] for score in found[40:43]]
    assert "cannot be had: HTTP Error 404" in told[0]
    assert "is not the file that the row names" in told[1]
    assert "gets no media" in told[2]
    assert store.got.count("here") == 1, "the next cases have the same picture"


@linux
def test_a_medium_is_not_there_for_later_cases(guard: Any) -> None:
    """Nor for one that names it without having it among its inputs."""
    store = Store(here=PNG)
    guard.fetch = store.fetch
    asked = invocation({SHA: "here"}, picture(), picture())
    del asked["cases"][1]["media"]
    first = guard.answer(asked)["answers"][0]["score"]
    assert first.get("label") == SHA
    alone = invocation({}, picture())
    del alone["cases"][0]["media"]
    (answer,) = guard.answer(alone)["answers"]
    assert "is none of this case's inputs" in answer["score"]["error"]["message"]


@linux
def test_who_knows_a_hash_has_not_the_file(guard: Any) -> None:
    """What the cases of one project had is got again for another's, by its own address."""
    store = Store(mine=PNG)
    guard.fetch = store.fetch
    first = guard.answer(invocation({SHA: "mine"}, picture()) | {"tenant": "a"})
    assert first["answers"][0]["score"]["label"] == SHA
    (other,) = guard.answer(invocation({SHA: "theirs"}, picture()) | {"tenant": "b"})["answers"]
    assert "cannot be had: HTTP Error 404" in other["score"]["error"]["message"]
    assert store.got == ["mine", "theirs"]


@linux
def test_a_medium_beyond_the_bound_is_not_read_to_its_end(guard: Any) -> None:
    data = b"x" * (MOST_MEDIUM + 100)
    sha256 = hashlib.sha256(data).hexdigest()
    store = Store(here=data)
    guard.fetch = store.fetch
    (answer,) = guard.answer(invocation({sha256: "here"}, picture(sha256, 5)))["answers"]
    assert "is too much" in answer["score"]["error"]["message"]


@linux
async def test_agents_and_models_in_the_sandbox_see_what_they_are_asked(tmp_path: Path) -> None:
    """An agent the pictures of its row, a model those of its request, with its tools; and a model takes what
    its class says, on both sides of the sandbox."""
    blobs = FileBlobs(tmp_path)
    bundle = CodeBundle(name="code", files={"m.py": CODE})
    await blobs.put(bundle.blob, orjson.dumps(bundle.content()))
    await blobs.put(media_key(SHA), PNG)
    box, clock = LocalSandbox(blobs), SystemClock()
    pool = SandboxPool(box, clock, Deadline(clock, None))

    def ref(name: str) -> CodeRef:
        return CodeRef(qualname=name, module="m", bundle="code@0", bundle_hash=bundle.content_hash())

    try:
        agent = StoredModel(ref("agent"), ModelConfig(name="agent/agent"), agent=True)
        agent.through(pool)
        row = orjson.dumps({"photo": picture()}).decode()
        assert (await agent.achat([{"role": "user", "content": row}])).response == SHA

        said = await described(box, ref("Sees"), "model")
        model = model_of(ref("Sees"), said, None)
        model.through(pool)
        assert model.takes == {"image", "tools"} and model.by_address == {"image"} and not model.forces_tools
        assert "does not take sounds" in lacking(model, frozenset({"image", "audio"}))
        looking = ChatRequest(
            (Message("user", (Text("Look."), Media(modality="image", sha256=SHA, size=len(PNG)))),),
            (Tool("find", "Finds."),),
        )
        answered = orjson.loads((await model.achat(looking)).response)
        assert answered == {"seen": [SHA], "asked": orjson.loads(orjson.dumps(looking.to_json()))}

        named = {"hash": bundle.content_hash(), "ref": {"module": "m", "qualname": "scored"}}
        scored = Recipe("saw", SANDBOX, orjson.dumps({"role": "evaluate", **named}))
        assert (await pool.call(scored, {"photo": picture()}, 20.0)).label == SHA
    finally:
        await pool.close()
        await box.close()
