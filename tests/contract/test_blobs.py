"""The contract of Blobs."""

from __future__ import annotations

import asyncio
import hashlib
import random
from pathlib import Path

import pytest

from promptlab.errors import BlobNotFoundError
from promptlab.ports import Blobs

MIB = 1 << 20
KEY = "runs/run-1/parts/000001.jsonl.gz"
BAD_KEYS = [
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "a/..",
    "../a",
    "a/../b",
    "./a",
    "a/./b",
    "a b",
    "a\\b",
    "ä",
    "a\n",
    "a\x00b",
    "a:b",
    "~a",
    "a*",
]


async def test_a_blob_comes_back_as_it_was_put(blobs: Blobs) -> None:
    """Any bytes, none too."""
    for data in (b"", b"\x00\xff\r\n", "ü 🙂".encode(), bytes(range(256)) * 1000):
        await blobs.put(KEY, data)
        assert await blobs.get(KEY) == data
        assert b"".join([piece async for piece in blobs.stream(KEY)]) == data


async def test_a_blob_is_replaced_whole(blobs: Blobs) -> None:
    """Nothing of a longer one is left."""
    await blobs.put(KEY, b"long " * 1000)
    await blobs.put(KEY, b"short")
    assert await blobs.get(KEY) == b"short"


@pytest.mark.parametrize(
    "key",
    ["a", "a/b/c/d", "datasets/" + "0" * 64 + ".jsonl", "A-Z_0.9=x/..b/.hidden/a..", "runs/" + "x" * 200],
)
async def test_keys_of_every_allowed_kind(blobs: Blobs, key: str) -> None:
    """Every key that the rules allow works everywhere."""
    await blobs.put(key, b"1")
    assert await blobs.get(key) == b"1"
    assert await blobs.keys("") == [key]


@pytest.mark.parametrize("key", BAD_KEYS)
async def test_a_key_that_breaks_the_rules_is_refused(blobs: Blobs, tmp_path: Path, key: str) -> None:
    """By every method, naming the key, before anything is touched."""
    source = tmp_path / "source"
    source.write_bytes(b"1")

    async def stream() -> None:
        async for _ in blobs.stream(key):
            pass

    for call in (
        blobs.put(key, b"1"),
        blobs.put_file(key, source),
        blobs.get(key),
        stream(),
        blobs.exists(key),
        blobs.files([key], tmp_path),
        blobs.delete(key),
    ):
        with pytest.raises(ValueError, match="key"):
            await call
    assert await blobs.keys("") == []


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (0, None, b"0123456789"),
        (3, None, b"3456789"),
        (0, 4, b"0123"),
        (3, 4, b"3456"),
        (8, 10, b"89"),
        (3, 0, b""),
        (10, None, b""),
        (10, 5, b""),
        (20, 5, b""),
    ],
)
async def test_a_range_is_cut_at_the_end_of_the_blob(
    blobs: Blobs, offset: int, length: int | None, expected: bytes
) -> None:
    """A range past the end has no bytes; that is no error."""
    await blobs.put(KEY, b"0123456789")
    assert await blobs.get(KEY, offset=offset, length=length) == expected


async def test_a_blob_that_is_not_there_is_an_error(blobs: Blobs, tmp_path: Path) -> None:
    """Named by its key, by everything that reads; also a range of it."""
    await blobs.put("there", b"1")
    for call in (
        blobs.get(KEY),
        blobs.get(KEY, offset=1, length=0),
        anext(blobs.stream(KEY)),
        blobs.files(["there", KEY], tmp_path),
    ):
        with pytest.raises(BlobNotFoundError) as caught:
            await call
        assert caught.value.key == KEY
    assert not await blobs.exists(KEY)


async def test_the_beginning_of_a_key_is_not_a_blob(blobs: Blobs, tmp_path: Path) -> None:
    """Neither its folder nor its first letters."""
    await blobs.put("runs/run-1/part", b"1")
    for key in ("runs", "runs/run-1", "runs/run-1/par", "runs/run-1/part/x"):
        assert not await blobs.exists(key)
        await blobs.delete(key)
        with pytest.raises(BlobNotFoundError):
            await blobs.get(key)
        with pytest.raises(BlobNotFoundError):
            await anext(blobs.stream(key))
        with pytest.raises(BlobNotFoundError):
            await blobs.files([key], tmp_path)
    assert await blobs.get("runs/run-1/part") == b"1"


async def test_a_file_is_copied(blobs: Blobs, tmp_path: Path) -> None:
    """The file stays, and changing it later changes nothing."""
    source = tmp_path / "rows.jsonl"
    data = random.Random(3).randbytes(3 * MIB + 17)
    source.write_bytes(data)
    await blobs.put_file(KEY, source)
    assert source.read_bytes() == data
    with source.open("r+b") as file:
        file.write(b"changed")
    source.unlink()
    assert await blobs.get(KEY) == data


async def test_a_missing_file_puts_nothing(blobs: Blobs, tmp_path: Path) -> None:
    """And the blob that was there stays."""
    await blobs.put("old", b"1")
    for key in ("old", "new"):
        with pytest.raises(FileNotFoundError):
            await blobs.put_file(key, tmp_path / "nothing")
    assert await blobs.keys("") == ["old"]
    assert await blobs.get("old") == b"1"


async def test_a_stream_has_pieces_of_a_mebibyte_at_most(blobs: Blobs) -> None:
    """A big blob never needs its size in memory."""
    data = random.Random(4).randbytes(5 * MIB + 3)
    await blobs.put(KEY, data)
    pieces = [piece async for piece in blobs.stream(KEY)]
    assert all(0 < len(piece) <= MIB for piece in pieces)
    assert b"".join(pieces) == data


async def test_a_stream_can_be_left_early(blobs: Blobs) -> None:
    """The blob can be read, replaced and removed afterwards."""
    await blobs.put(KEY, bytes(3 * MIB))
    async for _ in blobs.stream(KEY):
        break
    await blobs.put(KEY, b"new")
    assert await blobs.get(KEY) == b"new"
    await blobs.delete(KEY)
    assert not await blobs.exists(KEY)


async def test_keys_are_found_by_their_first_letters(blobs: Blobs) -> None:
    """Sorted as text; a prefix may end inside a part."""
    keys = [
        "a",
        "runs/run-1/manifest",
        "runs/run-1/parts/1",
        "runs/run-1/parts/10",
        "runs/run-1/parts/2",
        "runs/run-10/manifest",
        "runs0",
    ]
    for key in reversed(keys):
        await blobs.put(key, b"")
    assert await blobs.keys("") == sorted(keys)
    assert await blobs.keys("runs/run-1/parts/") == [
        "runs/run-1/parts/1",
        "runs/run-1/parts/10",
        "runs/run-1/parts/2",
    ]
    assert await blobs.keys("runs/run-1/parts/1") == ["runs/run-1/parts/1", "runs/run-1/parts/10"]
    assert await blobs.keys("runs/run-1") == [k for k in sorted(keys) if k.startswith("runs/run-1")]
    assert await blobs.keys("run") == [k for k in sorted(keys) if k.startswith("run")]
    for prefix in ("b", "runs/run-2", "runs/run-1/parts/1/", "../", "/", "runs//", "runs/../a", "./"):
        assert await blobs.keys(prefix) == []


async def test_there_is_a_file_for_every_key(blobs: Blobs, tmp_path: Path) -> None:
    """In the order of the keys, a key twice too."""
    contents = {f"runs/{i}/part": f"content {i}".encode() for i in range(5)}
    for key, data in contents.items():
        await blobs.put(key, data)
    folder = tmp_path / "copies"
    folder.mkdir()
    keys = [*reversed(contents), "runs/2/part"]
    paths = await blobs.files(keys, folder)
    assert [path.read_bytes() for path in paths] == [contents[key] for key in keys]
    assert await blobs.files([], folder) == []


async def test_a_deleted_blob_is_gone(blobs: Blobs) -> None:
    """Deleting it again is fine, and its neighbours stay."""
    await blobs.put("a/b", b"1")
    await blobs.put("a/c", b"2")
    await blobs.delete("a/b")
    await blobs.delete("a/b")
    await blobs.delete("never/was")
    assert await blobs.keys("") == ["a/c"]


async def test_concurrent_writers_and_readers_see_whole_blobs(blobs: Blobs) -> None:
    """A reader gets one of the versions, never a mixture or a part."""
    versions = {hashlib.sha256(data := bytes([i]) * (200_000 + i)).digest(): data for i in range(8)}
    await blobs.put(KEY, next(iter(versions.values())))

    async def read() -> list[bytes]:
        return [hashlib.sha256(await blobs.get(KEY)).digest() for _ in range(20)]

    *found, _ = await asyncio.gather(
        read(), read(), asyncio.gather(*(blobs.put(KEY, data) for data in versions.values()))
    )
    assert {digest for digests in found for digest in digests} <= versions.keys()
    assert hashlib.sha256(await blobs.get(KEY)).digest() in versions


async def test_closing_twice_is_fine(blobs: Blobs) -> None:
    """As the port says."""
    await blobs.put(KEY, b"1")
    await blobs.close()
    await blobs.close()


async def test_what_begins_so_is_erased_some_at_a_time(blobs: Blobs) -> None:
    """All else stays, and to erase nothing is fine."""
    for key in ("runs/a/1", "runs/a/b/2", "runs/a/b/3", "runs/ab/1", "datasets/a.jsonl"):
        await blobs.put(key, b"x")
    assert await blobs.erase("runs/a/", limit=2) == 2
    assert len(await blobs.keys("runs/a/")) == 1
    assert await blobs.erase("runs/a/", limit=2) == 1
    assert await blobs.erase("runs/a/") == 0
    assert await blobs.keys("") == ["datasets/a.jsonl", "runs/ab/1"]
    await blobs.put("runs/a/1", b"again")
    assert await blobs.get("runs/a/1") == b"again"
