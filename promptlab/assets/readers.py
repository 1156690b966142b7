"""Finds the reader for a dataset: of a file by its name, or of rows that are given.

Blank lines and rows are skipped. The values of a CSV file are strings, an empty field an empty one.
"""

from __future__ import annotations

import stat
from pathlib import Path

from promptlab.assets.csv_rows import csv_rows
from promptlab.assets.given_rows import given_rows
from promptlab.assets.json_files import json_lines_rows, json_source
from promptlab.assets.sources import Source, read_errors
from promptlab.domain.assets import Dataset
from promptlab.errors import DatasetError

TEXT_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
SUFFIXES = (*TEXT_SUFFIXES, ".parquet", ".xlsx")
"""The kinds of file that can be read; those of text also with .gz behind."""
ZIP = ".zip"
"""The kind of a file that has one of them, and the media that it names."""


def kind_of_file(name: str) -> str:
    """The suffix that says how a file is read, without .gz; one that is none of SUFFIXES cannot be.

    >>> kind_of_file("data/Questions.CSV.gz")
    '.csv'
    """
    path = Path(name.lower())
    inner = Path(path.stem).suffix
    return inner if path.suffix == ".gz" and inner in TEXT_SUFFIXES else path.suffix


def open_source(dataset: Dataset, scratch: Path, unpacked: tuple[str, Path] | None = None) -> Source:
    """Open the rows of a dataset, to be read once.

    Args:
        dataset: with a `file_path` or with `rows`.
        scratch: a scratch folder.
        unpacked: name and path of the file with the rows, where `file_path` is a zip that has it.

    Raises:
        DatasetError: there is no such file, or it is of a kind that cannot be read; while
            reading: a row is broken.
        MissingExtraError: an Excel file, and openpyxl is not installed.
    """
    if (dataset.file_path is None) == (dataset.rows is None):
        given = "both file_path and rows" if dataset.rows is not None else "neither file_path nor rows"
        raise DatasetError(f"Dataset {dataset.name!r} has {given}: give one of them.")
    if dataset.rows is not None:
        return Source("rows", "[{}]", given_rows(dataset.rows))
    name = str(dataset.file_path) if unpacked is None else unpacked[0]
    path = regular_file(name) if unpacked is None else unpacked[1]
    kind = kind_of_file(path.name)
    if dataset.delimiter is not None and kind not in (".csv", ".tsv"):
        raise DatasetError(
            f"{name}: a delimiter is for .csv and .tsv files. Leave delimiter={dataset.delimiter!r} out."
        )
    if kind == ".parquet":
        from promptlab.assets.parquet_rows import parquet_rows

        return Source(name, ", row {}", parquet_rows(path, name, scratch))
    if kind == ".xlsx":
        from promptlab.assets.xlsx_rows import xlsx_rows

        return Source(name, ", row {}", xlsx_rows(path, name))
    if kind in (".csv", ".tsv"):
        delimiter = dataset.delimiter or ("\t" if kind == ".tsv" else None)
        return Source(name, ", line {}", csv_rows(path, name, delimiter))
    return (
        json_source(path, name) if kind == ".json" else Source(name, ", line {}", json_lines_rows(path, name))
    )


def regular_file(name: str) -> Path:
    """Find a file that can be read as a dataset.

    Raises:
        DatasetError: there is none of that name, or it is of a kind that cannot be read.
    """
    path = Path(name).expanduser().absolute()
    with read_errors(name, path):
        mode = path.stat().st_mode
    kind = kind_of_file(path.name)
    if kind not in (*SUFFIXES, ZIP):
        if stat.S_ISDIR(mode):
            raise DatasetError(
                f"{name} is a folder ({path}): file_path names one file of {', '.join(SUFFIXES)}."
            )
        what = f"{kind} files" if kind else "files without a suffix"
        raise DatasetError(
            f"{name}: {what} cannot be read; these can: {', '.join(SUFFIXES)}, those of text with .gz "
            f"behind, and a {ZIP} of one of them and the media that it names."
        )
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise DatasetError(f"{name} is {what} ({path}): file_path names one file of {', '.join(SUFFIXES)}.")
    return path
