"""Opens DuckDB with bounded memory, and writes names and texts into its SQL."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

MEMORY = "128MB"
"""What DuckDB may hold: 5,000 rows of 100 KB need more than 64 MB of it, 100,000 of 1 KB took 130 MB of the process, its 75 MB before that included."""
MORE_MEMORY = ("1GB", "4GB")
"""Where that is not enough, one after the other."""


def connect(folder: Path | str | None = None, memory: str = MEMORY) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with bounded memory and one thread, that spills into `folder`."""
    import duckdb

    # Settings of the file format only: nothing is fetched, and nothing a user wrote is run.
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,
        "memory_limit": memory,
        "preserve_insertion_order": True,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    if folder:
        config["temp_directory"] = str(folder)
    return duckdb.connect(":memory:", config=config)


def with_room(
    work: Callable[[duckdb.DuckDBPyConnection], object], folder: Path, *, large: bool = False
) -> None:
    """Do something with a DuckDB, in as little memory as it takes: long rows and a thousand columns take more."""
    import duckdb

    *less, most = MORE_MEMORY if large else (MEMORY, *MORE_MEMORY)
    for memory in less:
        with suppress(duckdb.OutOfMemoryException), connect(folder, memory) as con:
            work(con)
            return
    with connect(folder, most) as con:
        work(con)


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """An SQL string."""
    return "'" + text.replace("'", "''") + "'"


def parquet(path: Path) -> str:
    """A Parquet file as an SQL source, whatever characters its path has."""
    return f"read_parquet({literal(''.join(f'[{c}]' if c in '*?[' else c for c in str(path)))})"
