"""The sandbox as processes of this machine, behind the port that workers know."""

from __future__ import annotations

import sys
from pathlib import Path

import orjson
import pytest

from promptlab.adapters.local.file_blobs import FileBlobs
from promptlab.adapters.local.sandbox import LocalSandbox
from promptlab.domain.code import CodeBundle
from promptlab.errors import BlobNotFoundError, SandboxError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")


async def test_it_answers_over_bundles_among_the_blobs(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    bundle = CodeBundle(name="code", files={"m.py": "def f(data): return data['x'] * 2"})
    await blobs.put(bundle.blob, orjson.dumps(bundle.content()))
    box = LocalSandbox(blobs)
    asked = {
        "role": "evaluate",
        "ref": {"module": "m", "qualname": "f"},
        "cases": [{"n": 0, "data": {"x": 21}}],
    }
    try:
        for _ in range(2):
            answer = await box.ask(bundle.content_hash(), asked)
            assert answer["answers"] == [{"n": 0, "score": {"value": 42.0}}]
        with pytest.raises(SandboxError, match="the role 'drop' is none of"):
            await box.ask(bundle.content_hash(), {**asked, "role": "drop"})
        with pytest.raises(BlobNotFoundError):
            await box.ask("0" * 64, asked)
    finally:
        await box.close()
        await box.close()
