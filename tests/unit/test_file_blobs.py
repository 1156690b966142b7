"""Properties that only blobs in a folder have."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from promptlab.adapters.local.file_blobs import FileBlobs
from promptlab.errors import BlobNotFoundError

KILLED = """
import asyncio, itertools, sys
from promptlab.adapters.local.file_blobs import FileBlobs

async def main():
    blobs = FileBlobs(sys.argv[1])
    for i in itertools.count():
        await blobs.put("runs/r/part", bytes([i % 256]) * 2_000_000)
        print("put", flush=True)

asyncio.run(main())
"""


async def test_no_folder_before_the_first_write(tmp_path: Path) -> None:
    """Looking leaves nothing behind."""
    folder = tmp_path / "deep" / "blobs"
    blobs = FileBlobs(folder)
    assert not await blobs.exists("a")
    assert await blobs.keys("") == []
    await blobs.delete("a")
    with pytest.raises(BlobNotFoundError):
        await blobs.get("a")
    with pytest.raises(ValueError, match="got ''"):
        await blobs.put("a//b", b"1")
    with pytest.raises(FileNotFoundError):
        await blobs.put_file("a", tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []
    await blobs.put("a", b"1")
    assert (folder / "a").read_bytes() == b"1"


async def test_a_blob_is_its_own_file(tmp_path: Path) -> None:
    """Nothing is copied to read it."""
    blobs = FileBlobs(tmp_path / "blobs")
    await blobs.put("runs/r/part", b"1")
    elsewhere = tmp_path / "copies"
    assert await blobs.files(["runs/r/part"], elsewhere) == [tmp_path / "blobs" / "runs" / "r" / "part"]
    assert not elsewhere.exists()


async def test_a_copied_file_shares_nothing_with_its_source(tmp_path: Path) -> None:
    """A hard link would change with it."""
    source = tmp_path / "source"
    source.write_bytes(b"before")
    blobs = FileBlobs(tmp_path / "blobs")
    await blobs.put_file("copy", source)
    with source.open("r+b") as file:
        file.write(b"after!")
    assert await blobs.get("copy") == b"before"


async def test_files_that_are_no_blobs_are_ignored(tmp_path: Path) -> None:
    """Files that a killed process or a file manager left are not listed."""
    blobs = FileBlobs(tmp_path)
    await blobs.put("a/b", b"1")
    (tmp_path / "~unfinished" / "0123").write_bytes(b"half")
    (tmp_path / "a" / "b~").write_bytes(b"backup")
    (tmp_path / "New Folder").mkdir()
    (tmp_path / "New Folder" / "c").write_bytes(b"1")
    assert await blobs.keys("") == ["a/b"]
    assert await blobs.keys("~unfinished/") == []
    assert await blobs.keys("a/") == ["a/b"]


async def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    """Neither a blob nor a half of one, and the error names the conflict."""
    blobs = FileBlobs(tmp_path)
    await blobs.put("a/b", b"1")
    with pytest.raises(OSError):
        await blobs.put("a", b"a folder has this name")
    with pytest.raises(OSError):
        await blobs.put("a/b/c", b"a file has this name")
    assert await blobs.keys("") == ["a/b"]
    assert list((tmp_path / "~unfinished").iterdir()) == []


async def test_the_folder_is_fixed_when_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that changes its working folder keeps its blobs."""
    monkeypatch.chdir(tmp_path)
    blobs = FileBlobs("blobs")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    await blobs.put("a", b"1")
    assert (tmp_path / "blobs" / "a").read_bytes() == b"1"


async def test_a_killed_writer_leaves_whole_blobs(tmp_path: Path) -> None:
    """SIGKILL in the middle of replacing a blob: one version is there, all of it."""
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline() == b"put\n"
        process.send_signal(signal.SIGKILL)
    blobs = FileBlobs(tmp_path)
    data = await blobs.get("runs/r/part")
    assert len(data) == 2_000_000 and len(set(data)) == 1
    assert await blobs.keys("") == ["runs/r/part"]


async def test_unfinished_work_expires(tmp_path: Path) -> None:
    """Files that a killed process left, and uploads that nobody read, a day later; nothing else."""
    first = FileBlobs(tmp_path)
    for key in ("uploads/a/old.csv", "uploads/b/new.csv", "runs/r/old.gz"):
        await first.put(key, b"x")
    (tmp_path / "~unfinished" / "left").write_bytes(b"x")
    for path in ("uploads/a/old.csv", "uploads/a", "runs/r/old.gz", "~unfinished/left"):
        os.utime(tmp_path / path, (0, 0))
    second = FileBlobs(tmp_path)
    await second.put("runs/r/new.gz", b"x")
    assert await second.keys("") == ["runs/r/new.gz", "runs/r/old.gz", "uploads/b/new.csv"]
    assert list((tmp_path / "~unfinished").iterdir()) == []
