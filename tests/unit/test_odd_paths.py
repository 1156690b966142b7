"""Paths that DuckDB would take for patterns, and names that SQL would take for something else."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from promptlab import Dataset, PromptLab, PromptTemplate
from promptlab.duck import connect, given, literal, parquet
from promptlab.queries.filters import Filter
from promptlab.scratch import LOCK, ScratchFolder, remove_stale
from promptlab.store_lab import StoreLab

ODD = (
    "lab*",
    "data[1]",
    "wh?t",
    "{a,b}",
    "it's",
    'say "so"',
    "back\\slash*[1]",
    "year=2026",
    "**",
    "~home",
    "a b#c%20;d",
    "[!x]",
    "漢字 ü",
)


def write_parquet(path: Path, text: str) -> Path:
    """A Parquet file with one column `question` and one row; DuckDB meets a plain name only."""
    plain = path.parent.parent / "plain.parquet"
    with duckdb.connect() as con:
        con.execute(f"COPY (SELECT {literal(text)} AS question) TO {literal(str(plain))} (FORMAT parquet)")
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(plain, path)
    return path


def ask(lab: PromptLab, **dataset: Any) -> Any:
    template = PromptTemplate(name="p", user_prompt="<question>")
    return lab.experiment.run(
        {
            "dataset": Dataset(name="d", **dataset),
            "prompt_template": template,
            "model": "simulated/echo",
            "evaluation": [{"metric": "length"}],
        }
    )


def decoys(tmp_path: Path, name: str, make: Any) -> None:
    """Files whose names the odd one would match as a pattern."""
    for other in ("lab1", "labx", "data1", "what", "a", "b", "backslash1", "x", "y"):
        if other != name:
            make(tmp_path / other)


@pytest.mark.parametrize("name", ODD)
def test_a_parquet_file_is_read_by_its_own_name(tmp_path: Path, name: str) -> None:
    """And no other file is, whatever its name matches."""
    (tmp_path / "files").mkdir()
    decoys(tmp_path / "files", name, lambda p: write_parquet(p.with_suffix(".parquet"), "another file"))
    path = write_parquet(tmp_path / "files" / f"{name}.parquet", "mine")
    with PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")}) as lab:
        dataset = lab.asset.create(Dataset(name="d", file_path=path))
        assert dataset.columns == ("question",)
        assert ask(lab, file_path=path).results()[0]["response"] == "mine"


@pytest.mark.parametrize("name", ODD)
async def test_a_store_of_any_name_shows_its_own_rows(tmp_path: Path, name: str) -> None:
    """Results, exports to an odd folder and searches have the store's rows, beside a copy of the store."""
    folder = tmp_path / name
    folder.mkdir()
    await with_store(folder / f"{name}.db", folder)


async def with_store(db: Path, folder: Path) -> None:
    """Fill a store and read it in each way."""
    lab = StoreLab.open({"type": "sqlite", "db_file": str(db)})
    try:
        run = await lab.run(
            {
                "dataset": Dataset(name="d", rows=[{"question": f"q{n}"} for n in range(3)]),
                "prompt_template": PromptTemplate(name="p", user_prompt="<question>"),
                "model": "simulated/echo",
            }
        )
        decoys(folder.parent, folder.name, lambda p: shutil.copytree(folder, p, dirs_exist_ok=True))
        rows = [row["response"] async for row in lab.results(run.run_id)]
        assert rows == ["q0", "q1", "q2"]
        page, _ = await lab.cases(run.run_id)
        assert [row["response"] for row in page] == rows
        for suffix in ("csv", "jsonl", "parquet"):
            path = folder / f"out {folder.name}.{suffix}"
            await lab.export(run.run_id, path, suffix)  # type: ignore[arg-type]
            assert path.stat().st_size
        with (folder / f"out {folder.name}.csv").open(newline="", encoding="utf-8") as file:
            assert [row["response"] for row in csv.DictReader(file)] == rows
        found = await (await lab.results_of(run)).page(Filter(text="q1"))
        assert [row["response"] for row in found.rows] == ["q1"]
        assert not [p for p in folder.iterdir() if p.name.endswith(".tmp")]
    finally:
        await lab.close()


@contextlib.contextmanager
def temporary_folder(path: Path) -> Iterator[None]:
    """Make a folder the one for temporary files."""
    before, tempfile.tempdir = tempfile.tempdir, str(path)
    try:
        yield
    finally:
        tempfile.tempdir = before


@pytest.mark.parametrize("name", ODD)
def test_the_temporary_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    """DuckDB works in it, and it is empty afterwards."""
    (tmp_path / name).mkdir()
    (tmp_path / "files").mkdir()
    path = write_parquet(tmp_path / "files" / "d.parquet", "mine")
    with (
        temporary_folder(tmp_path / name),
        PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")}) as lab,
    ):
        run = ask(lab, file_path=path)
        assert run.results()[0]["response"] == "mine"
        run.export(tmp_path / "out.csv")
    assert list((tmp_path / name).iterdir()) == []


def test_a_path_that_is_not_utf8_can_be_read_and_written(tmp_path: Path) -> None:
    """DuckDB cannot be told such a name, and need not be."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    path = write_parquet(folder / os.fsdecode(b"\xff.parquet"), "mine")
    with PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")}) as lab:
        run = ask(lab, file_path=path)
        assert run.results()[0]["response"] == "mine"
        assert "mine" in run.export(folder / os.fsdecode(b"\xfe.csv")).read_text(encoding="utf-8")


NAMES = (
    "question",
    "a",
    "A",
    "a_2",
    "A_2",
    'quo"te',
    "it's",
    "case",
    "trial",
    "id",
    "select",
    "t",
    "r",
    "error",
    "response",
    "score.length",
    "input.a",
    "",
    " ",
    "a\nb",
    "a\0b",
    "é",
    "É",
    "İ",
    "i̇",
    "$inference",
    "漢",
    "; DROP TABLE x; --",
)


async def test_columns_of_any_name_are_kept_apart(tmp_path: Path) -> None:
    """In results, exports, searches and sorts, also where two differ only in case."""
    rows = [{name: f"{n}/{at}" for at, name in enumerate(NAMES)} | {"id": f"i{n}"} for n in range(3)]
    lab = StoreLab.open({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    try:
        run = await lab.run(
            {
                "dataset": Dataset(name="d", rows=rows),
                "prompt_template": PromptTemplate(name="p", user_prompt="<question>"),
                "model": "simulated/echo",
                "evaluation": [{"metric": "length"}],
            }
        )
        results = [row async for row in lab.results(run.run_id)]
        query = await lab.results_of(run)
        wanted = [[row[name] for name in NAMES] for row in rows]
        for found in (results, (await query.page(sort="input.question")).rows):
            assert [[row[name] for _, name, _ in query.columns.inputs] for row in found] == wanted
        await lab.export(run.run_id, tmp_path / "out.csv", "csv")
        with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
            header, *lines = csv.reader(file)
        inputs = [at for at, name in enumerate(header) if name.startswith("input.")]
        assert [[line[at].removeprefix("'") for at in inputs] for line in lines] == wanted
    finally:
        await lab.close()


def test_a_connection_reaches_only_what_it_is_given(tmp_path: Path) -> None:
    """Neither other files, nor those that a given name matches, nor the settings."""
    secret = write_parquet(tmp_path / "files" / "secret.parquet", "no")
    mine = write_parquet(tmp_path / "files" / "s*.parquet", "yes")
    with ScratchFolder() as folder:
        source = given(mine, folder)
        with connect(folder) as con:
            assert con.execute(f"SELECT * FROM {parquet(source)}").fetchall() == [("yes",)]
            for sql in (
                f"SELECT * FROM {parquet(secret)}",
                f"SELECT * FROM {parquet(mine)}",
                "SELECT * FROM read_text('/etc/hostname')",
                f"COPY (SELECT 1) TO {literal(str(tmp_path / 'x.csv'))}",
                "SET enable_external_access = true",
            ):
                with pytest.raises(duckdb.Error):
                    con.execute(sql)


def test_folders_of_killed_processes_are_removed(tmp_path: Path) -> None:
    """And those of living ones are not."""
    code = (
        "import sys,tempfile,time; tempfile.tempdir=sys.argv[1]\nfrom promptlab.scratch import "
        "ScratchFolder\n"
    )
    code += (
        "f=ScratchFolder('dead'); (f.path/'big').write_bytes(b'x'); print(f.path, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().decode().strip())
        os.utime(left / LOCK, (0, 0))
        remove_stale(tmp_path)
        assert (left / "big").exists()
        process.kill()
    other = tmp_path / "promptlab-of-somebody"
    other.mkdir()
    remove_stale(tmp_path)
    assert not left.exists()
    assert other.exists()


def test_a_scratch_folder_is_held_by_a_lock(tmp_path: Path) -> None:
    """As long as it is open, no other process can take its lock."""
    with (
        temporary_folder(tmp_path),
        ScratchFolder() as folder,
        (folder / LOCK).open("r+b") as file,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert list(tmp_path.iterdir()) == []
