"""Files for other programs: how CSV may be written, what a spreadsheet must not run, and no half a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptlab import Dataset, PromptLab, PromptTemplate
from promptlab.duck import connect, literal, parquet
from promptlab.errors import AssetNotFoundError, ConfigError
from promptlab.results.export import safe_csv_columns, safe_csv_text
from promptlab.results.formats import CsvStyle, export_format
from promptlab.store_lab import StoreLab
from tests.contract.builders import run as recorded


@pytest.mark.parametrize("sign", [",", ";", "|", "\t", "!", "~", "#", "^", ":"])
def test_any_sign_may_stand_between_values(sign: str) -> None:
    """Of ASCII, and a tab."""
    assert CsvStyle(sign).delimiter == sign


@pytest.mark.parametrize(
    "sign", ["", ",,", "a", "Z", "5", " ", "\n", "\r", "\x7f", "é", "；", '"', "'", *"+-."]
)
def test_what_stands_in_values_may_not_stand_between_them(sign: str) -> None:
    """Letters, digits, quotes, blanks, and the signs of numbers."""
    with pytest.raises(ConfigError, match="delimiter"):
        CsvStyle(sign)


def test_a_style_is_for_csv() -> None:
    """Both parts of it; the plain one goes with every format."""
    for style in (CsvStyle(";"), CsvStyle(bom=True)):
        style.check("csv")
        for other in ("jsonl", "parquet"):
            with pytest.raises(ConfigError, match=f"the format is {other}"):
                style.check(other)  # type: ignore[arg-type]
    CsvStyle().check("jsonl")
    CsvStyle(",", False).check("parquet")


def test_the_format_is_that_of_the_suffix() -> None:
    """In any case of letters."""
    assert [export_format(Path(f"x.{end}")) for end in ("csv", "JSONL", "Parquet")] == [
        "csv",
        "jsonl",
        "parquet",
    ]
    with pytest.raises(ConfigError, match=r"'x\.xlsx'"):
        export_format(Path("a/x.xlsx"))


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("=1+1", "'=1+1"),
        ("+49 30", "'+49 30"),
        ("-x", "'-x"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\tx", "'\tx"),
        ("\rx", "'\rx"),
        ("-1.5", "-1.5"),
        ("+3e4", "+3e4"),
        ("-", "'-"),
        ("x=1", "x=1"),
        ("'=1", "'=1"),
        ("", ""),
        ("1", "1"),
    ],
)
def test_no_text_is_a_formula_in_a_spreadsheet(tmp_path: Path, text: str, written: str) -> None:
    """Written by Python and by DuckDB; a number stays one, and numbers' own columns are left alone."""
    assert safe_csv_text(text) == written
    columns = safe_csv_columns({"t": "VARCHAR", "n": "BIGINT"}, {"t": literal(text), "n": "-7"})
    with connect(tmp_path) as con:
        assert con.execute(f"SELECT {columns}").fetchall() == [(written, -7)]


@pytest.mark.parametrize("format_", ["csv", "jsonl", "parquet"])
def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, format_: str) -> None:
    """Where a folder has its name, the message says so, and nothing is left beside it."""
    out = tmp_path / "out"
    taken = out / f"x.{format_}"
    taken.mkdir(parents=True)
    with PromptLab({"db_file": str(tmp_path / "lab.db")}) as pl:
        run = pl.experiment.run(
            {
                "name": "x",
                "model": "simulated/echo",
                "dataset": Dataset(name="rows", rows=[{"q": "=1"}, {"q": "b"}]),
                "prompt_template": PromptTemplate(name="ask", user_prompt="<q>"),
                "evaluation": [],
            }
        )
        with pytest.raises(ConfigError, match=r"Cannot write .*: Is a directory\."):
            run.export(taken)
        assert list(out.iterdir()) == [taken]
        run.export(out / f"y.{format_}")
        assert {path.name for path in out.iterdir()} == {taken.name, f"y.{format_}"}


async def test_a_run_without_an_answer_is_a_table_without_rows(tmp_path: Path) -> None:
    """All columns are there, in every format."""
    lab = StoreLab.open({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    dataset = await lab.assets.create(Dataset(name="numbers", rows=[{"n": 1}]))
    experiment = {
        "name": "x",
        "dataset": {"name": "numbers", "version": 0, "hash": dataset.hash},
        "model": {"name": "simulated/echo"},
        "evaluation": [{"name": "length", "metric": "length", "column_mapping": {}}],
    }
    await lab.ledger.add_run(recorded("r", experiment=experiment, cases=1))
    for format_ in ("csv", "jsonl", "parquet"):
        await lab.export("r", tmp_path / f"out.{format_}", format_)
    header = (tmp_path / "out.csv").read_text().splitlines()
    assert len(header) == 1 and header[0].startswith("case,trial,id,input.n,response,")
    assert (tmp_path / "out.jsonl").read_text() == ""
    with connect(tmp_path) as con:
        found = con.execute(f"SELECT * FROM {parquet(tmp_path / 'out.parquet')}")
        assert [column[0] for column in found.description] == header[0].split(",")
        assert found.fetchall() == []
    await lab.close()


async def test_a_run_whose_dataset_is_gone_names_it(tmp_path: Path) -> None:
    """Its results cannot be read without."""
    lab = StoreLab.open({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    experiment = {
        "name": "x",
        "dataset": {"name": "gone", "version": 3, "hash": "h"},
        "model": {"name": "simulated/echo"},
    }
    await lab.ledger.add_run(recorded("r", experiment=experiment, cases=1))
    with pytest.raises(AssetNotFoundError, match="Run r is over the dataset 'gone', version 3"):
        await lab.export("r", tmp_path / "out.csv", "csv")
    await lab.close()
