"""Reads rows from the first sheet of an Excel workbook, with openpyxl
(`pip install 'promptlab-serverless[xlsx]'`)."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from promptlab.assets.json_rows import clip, plain_row
from promptlab.assets.sources import MAX_COLUMNS, Broken, Budget, Rows, first_repeated, read_errors
from promptlab.errors import DatasetError, MissingExtraError

_MOST_SHARED = 256 << 20
"""Bytes of the texts that a workbook shares: openpyxl holds them all."""


def xlsx_rows(path: Path, name: str) -> Rows:
    """Read the rows of a workbook: the first row names the columns; an empty cell is null,
    dates are ISO 8601 text."""
    workbook = _opened(path, name)
    broken = Broken()
    try:
        header: Sequence[str] | None = None
        sheet = workbook.worksheets[0]
        sheet.reset_dimensions()  # what programs write there is often wrong
        for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
            values = list(cells)
            while values and values[-1] is None:
                values.pop()
            if not values:
                continue
            if header is None:
                header = _header(values, f"{name}, row {number}")
            elif len(values) > len(header):
                broken.add(
                    DatasetError(
                        f"{name}, row {number}: a value stands right of the {len(header)} named columns. "
                        "Name its column, or remove it."
                    )
                )
            else:
                padded = [*values, *[None] * (len(header) - len(values))]
                try:
                    row = plain_row(dict(zip(header, padded, strict=True)), f"{name}, row {number}")
                except DatasetError as error:
                    broken.add(error)
                else:
                    yield number, row
    except (
        ValueError,
        KeyError,
        SyntaxError,
        zipfile.BadZipFile,
        EOFError,
    ) as error:  # SyntaxError: broken XML
        raise DatasetError(f"{name} is not a workbook that can be read: {clip(str(error), 200)}.") from error
    finally:
        workbook.close()
    broken.check()


def _opened(path: Path, name: str) -> Any:
    try:
        import openpyxl
    except ImportError:
        raise MissingExtraError(f"Reading {name}", "xlsx") from None
    with read_errors(name, path):
        size = path.stat().st_size
        path.open("rb").close()
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {item.filename: item.file_size for item in archive.infolist()}
        # An entry never unpacks to more than it says.
        Budget(name, size).check(sum(sizes.values()))
        if sizes.get("xl/sharedStrings.xml", 0) > _MOST_SHARED:
            raise DatasetError(f"{name} shares more than {_MOST_SHARED:,} bytes of text. Save it as .csv.")
        return openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
    except (zipfile.BadZipFile, KeyError, ValueError, SyntaxError, EOFError, OSError) as error:
        raise DatasetError(
            f"{name} is not an Excel workbook that can be read ({clip(str(error), 200)}). Save it as "
            ".xlsx or .csv; "
            "the older .xls and protected files cannot be read."
        ) from error


def _header(values: Sequence[Any], where: str) -> Sequence[str]:
    names = [value if isinstance(value, str) else "" if value is None else str(value) for value in values]
    if len(names) > MAX_COLUMNS:
        raise DatasetError(f"{where}: {len(names):,} columns; a dataset may have {MAX_COLUMNS:,}.")
    if "" in names:
        raise DatasetError(f"{where}: column {names.index('') + 1} has no name. Name every column.")
    if (twice := first_repeated(names)) is not None:
        raise DatasetError(f"{where}: two columns are called {clip(repr(twice))}. Give each its own name.")
    return names
