"""Datasets in a zip: the rows' file, and beside it the media that it names."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest

from promptlab import Dataset
from promptlab.assets.ingest import stage
from promptlab.assets.zipped import MOST_DIRECTORY
from promptlab.errors import DatasetError

PNG = b"\x89PNG\r\n\x1a\n" + bytes(60)
ROWS = b'{"q": "one", "photo": "photos/a.png"}\n{"q": "two", "photo": null}\n'


def packed(path: Path, files: dict[str, bytes]) -> Path:
    """Write a zip."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return path


async def staged(path: Path, **more: object) -> tuple[list[dict[str, object]], int]:
    """The rows as they are kept, and how many different media there are."""
    dataset = Dataset(name="d", file_path=str(path), media={"photo": "image"}, **more).without_files()
    async with stage(dataset) as found:
        rows = [json.loads(line) for line in found.rows_path.read_bytes().splitlines()]
        return rows, len(found.media)


@pytest.mark.parametrize(
    "files",
    [
        {"rows.jsonl": ROWS, "photos/a.png": PNG},
        {
            "set/rows.jsonl": ROWS,
            "set/photos/a.png": PNG,
            "__MACOSX/set/._rows.jsonl": b"x",
            ".DS_Store": b"x",
        },
        {"rows.csv": b"q,photo\none,photos/a.png\n", "photos/a.png": PNG, "photos/deep/rows.csv": b"a\n1\n"},
        {"rows.jsonl": ROWS, "a.png": PNG},  # chosen one by one, without their folder
        {
            "rows.jsonl": '{"photo": "fotos/b\u00fc cher.png"}'.encode(),
            "fotos/bu\u0308 cher.png": PNG,
        },  # macOS
    ],
)
async def test_media_are_found_beside_the_rows(files: dict[str, bytes], tmp_path: Path) -> None:
    """Also where the lab takes no files of the machine: what is in the zip is the sender's."""
    rows, media = await staged(packed(tmp_path / "set.zip", files))
    assert media == 1 and rows[0]["photo"]["size"] == len(PNG)  # type: ignore[index]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a.png": PNG}, "has no file of rows: put one of .jsonl"),
        ({"a.csv": b"q\n1\n", "b.csv": b"q\n1\n"}, "2 files that may be the rows: 'a.csv', 'b.csv'"),
        ({"rows.jsonl": ROWS}, "no file 'photos/a.png' beside the rows; it has no other file"),
        ({"rows.jsonl": ROWS, "x/b.png": PNG}, "it has 'x/b.png'"),
        ({"rows.jsonl": b'{"photo": "../../etc/passwd"}', "x/b.png": PNG}, "no file '../../etc/passwd'"),
        ({"rows.jsonl": ROWS, "photos/a.png": b"MZ" + bytes(90)}, "none of image/png"),
        ({"rows.jsonl": b"not json", "x/b.png": PNG}, "set.zip/rows.jsonl, line 1"),
        ({"rows.jsonl": ROWS, "photos/a.png": PNG + bytes(21 << 20)}, "20,971,520 are taken"),
    ],
)
async def test_what_is_wrong_with_a_zip_is_said(files: dict[str, bytes], words: str, tmp_path: Path) -> None:
    """With the name of the file in it, and what to do."""
    with pytest.raises(DatasetError) as caught:
        await staged(packed(tmp_path / "set.zip", files))
    assert words in str(caught.value)


async def test_what_is_no_zip_is_refused(tmp_path: Path) -> None:
    """Also one that is cut, damaged, packed with a password, or lists more files than anybody needs."""
    whole = packed(tmp_path / "whole.zip", {"rows.jsonl": ROWS * 50, "photos/a.png": PNG}).read_bytes()
    at = whole.index(b"rows.jsonl") + 20
    locked = bytearray(whole)
    locked[6] |= 1
    locked[whole.index(b"PK\x01\x02") + 8] |= 1
    long = bytearray(whole)
    long[-10:-6] = (MOST_DIRECTORY + 1).to_bytes(4, "little")
    for data, words in (
        (b"no zip at all", "is not a zip that can be read"),
        (whole[:-30], "is not a zip that can be read"),
        (whole[:at] + b"\xff\xff\xff\xff" + whole[at + 4 :], "cannot be read"),
        (bytes(locked), "without a password"),
        (bytes(long), "Make several datasets"),
    ):
        path = tmp_path / "bad.zip"
        path.write_bytes(data)
        with pytest.raises(DatasetError, match=words):
            await staged(path)


async def test_rows_that_unpack_to_too_much_are_refused(tmp_path: Path) -> None:
    """Ten thousand times their size, before the disk is full."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file, file.open("rows.jsonl", "w") as rows:
        for _ in range(300):
            rows.write(bytes(1 << 20))
    path = tmp_path / "bomb.zip"
    path.write_bytes(out.getvalue())
    with pytest.raises(DatasetError, match="decode to more than 268,435,456"):
        await staged(path)
