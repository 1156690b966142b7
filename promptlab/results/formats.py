"""In which forms results are given out: what only names them needs to load nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from promptlab.errors import ConfigError

MAX_ROWS = 500
"""Rows of a page of results at most."""
ExportFormat = Literal["csv", "jsonl", "parquet", "otel"]
SUFFIXES: dict[str, str] = {"otel": "otel.jsonl"}
"""The suffixes of files whose format is called otherwise."""


@dataclass(frozen=True, slots=True)
class CsvStyle:
    """How a CSV file is written."""

    delimiter: str = ","
    """The separator between two values: one character."""
    bom: bool = False
    """Whether the file begins with a byte order mark, by which Excel knows UTF-8."""

    def __post_init__(self) -> None:
        delimiter = self.delimiter
        if len(delimiter) != 1 or not (delimiter == "\t" or "!" <= delimiter <= "~") or delimiter.isalnum():
            raise ConfigError(
                f"The delimiter {delimiter[:20]!r} cannot stand between the values of a CSV file: give one "
                "of "
                "the characters , ; | and tab, or another sign of ASCII."
            )
        if delimiter in "\"'+-.":
            raise ConfigError(
                f"The delimiter {delimiter!r} stands in values, too: give one of , ; | and tab."
            )

    def check(self, format: ExportFormat) -> None:
        """Refuse a style for a file that is no CSV.

        Raises:
            ConfigError: it is not the default one, and the format is not csv.
        """
        if format != "csv" and self != CsvStyle():
            raise ConfigError(f"A delimiter and a byte order mark are for CSV, and the format is {format}.")


PLAIN_CSV = CsvStyle()


def export_name(run_id: str, format: str) -> str:
    """Name the file of an export."""
    return f"{run_id}.{SUFFIXES.get(format, format)}"


def export_format(path: Path) -> ExportFormat:
    """The format of a path's suffix: `.otel.jsonl` is OTLP JSON.

    Raises:
        ConfigError: it is none of .csv, .jsonl, .parquet and .otel.jsonl.
    """
    suffix = path.suffix.lower()
    if path.name.lower().endswith(".otel.jsonl"):
        return "otel"
    if suffix not in (".csv", ".jsonl", ".parquet"):
        raise ConfigError(
            f"Cannot tell the format from {path.name!r}: name it .csv, .jsonl, .parquet or .otel.jsonl, or "
            "give the format."
        )
    return suffix[1:]  # type: ignore[return-value]
