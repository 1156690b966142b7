"""Opens DuckDB with bounded memory and without access to anything but the files it is given.

DuckDB takes a path for a pattern (`data[1].parquet`, `lab*.db.blobs`) and reads whatever matches. So a file
never meets DuckDB by its own name: `given` links it into a scratch folder under a plain one, and a connection
reaches that folder and what is linked into it, and nothing else.

    with ScratchFolder() as folder:
        source = parquet(given(path, folder))
        with connect(folder) as con:
            con.execute(f"SELECT * FROM {source}")
"""

from __future__ import annotations

import errno
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from promptlab.errors import DiskFullError, StoreDamagedError
from promptlab.program import program

if TYPE_CHECKING:
    import duckdb

MEMORY = "128MB"
"""The memory that DuckDB may hold: 5,000 rows of 100 KB need more than 64 MB of it, 100,000 of 1 KB took
130 MB of the process, its 75 MB before that included."""
MORE_MEMORY = ("1GB", "4GB")
"""The larger limits to try where that is not enough, one after the other."""
_GIVE_BACK = "allocator_bulk_deallocation_flush_threshold = '1MB'"
"""Memory that is freed goes back to the system at once: 6 MB less at the peak for 300,000 rows, for 0.15 s of
processor time."""
_LINK = "given-"
_names = itertools.count()


def given(path: Path, folder: Path) -> Path:
    """Link a file, or a folder of files with plain names, into `folder`, so that connections opened on
    `folder` from then on can reach it.

    A file to write to must exist, and is written in place (`USE_TMP_FILE false`).
    """
    link = folder / f"{_LINK}{os.getpid()}-{next(_names)}"
    link.symlink_to(path.absolute())
    return link


@contextmanager
def reading_results() -> Iterator[None]:
    """In the block, what DuckDB says of a file that it cannot read is an error of ours.

    Raises:
        StoreDamagedError: a file is damaged.
        DiskFullError: the disk, or what one may use of it, is full.
    """
    import duckdb

    try:
        yield
    except (
        duckdb.OutOfMemoryException,
        duckdb.InterruptException,
        duckdb.ParserException,
        duckdb.BinderException,
    ):
        raise  # the machine's, the caller's or the query's fault
    except duckdb.Error as error:
        if why := _full(error):
            raise DiskFullError(
                f"{why}: there is no room for what a query writes. Free some in {tempfile.gettempdir()}, or "
                "set TMPDIR to a folder on another disk."
            ) from error
        raise StoreDamagedError(
            f"The results of the run cannot be read ({str(error).splitlines()[0]}): a file is damaged. "
            f"{program()} doctor says which."
        ) from error


def _full(error: Exception) -> str | None:
    """The system's words, where DuckDB had no room to write; it gives no number of the error."""
    words = map(os.strerror, (errno.ENOSPC, errno.EDQUOT))
    return next((said for said in words if said in str(error)), None)


def connect(
    folder: Path, memory: str = MEMORY, threads: int = 1, *, settings: Sequence[str] = ()
) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection that spills into `folder` and has access to what is in there, and to what `given`
    linked into it, only.

    No query can change its settings: what is to be set besides is given, as in `name = 'value'`.
    """
    import duckdb

    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": threads,
        "memory_limit": memory,
        "preserve_insertion_order": True,
        "temp_directory": str(folder),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    con = duckdb.connect(":memory:", config=config)
    try:
        links = [path for path in folder.iterdir() if path.name.startswith(_LINK)]
        files, folders = [p for p in links if not p.is_dir()], [p for p in links if p.is_dir()]
        con.execute(f"SET allowed_paths = {_both(files)}")
        con.execute(f"SET allowed_directories = {_both([folder, *folders])}")
        con.execute("SET TimeZone = 'UTC'")
        for setting in settings:
            con.execute(f"SET {setting}")
        con.execute("SET enable_external_access = false")
        con.execute("SET lock_configuration = true")
    except BaseException:
        con.close()
        raise
    return con


def _both(paths: Sequence[Path]) -> str:
    """A list of paths in SQL, each as it is and as the pattern for it: DuckDB checks the pattern before it
    looks for files, and the files after."""
    names = dict.fromkeys(name for path in paths for name in (str(path), pattern(path)))
    return f"[{', '.join(map(literal, names))}]"


def with_room(
    work: Callable[[duckdb.DuckDBPyConnection], object], folder: Path, *, large: bool = False
) -> None:
    """Do something with a DuckDB on `folder`, in as little memory as it takes: long rows and a
    thousand columns take more."""
    import duckdb

    *less, most = MORE_MEMORY if large else (MEMORY, *MORE_MEMORY)
    for memory in less:
        with suppress(duckdb.OutOfMemoryException), connect(folder, memory, settings=(_GIVE_BACK,)) as con:
            work(con)
            return
    with connect(folder, most, settings=(_GIVE_BACK,)) as con:
        work(con)


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """An SQL string."""
    return "'" + text.replace("'", "''") + "'"


def parquet(path: Path) -> str:
    """A Parquet file as an SQL source."""
    return f"read_parquet({literal(pattern(path))}, hive_partitioning = false)"


def json_lines(
    paths: Sequence[Path], types: Mapping[str, str], largest_row_bytes: int, *, compressed: bool = False
) -> str:
    """Files of JSON lines as one SQL source, in their order.

    Args:
        paths: one file or more.
        types: DuckDB's type for each column.
        largest_row_bytes: the longest line.
        compressed: whether the files are gzipped.
    """
    files = ", ".join(literal(pattern(path)) for path in paths)
    shape = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in types.items())
    return (
        f"read_json([{files}], format = 'newline_delimited', columns = {{{shape}}}, hive_partitioning "
        "= false, "
        f"compression = '{'gzip' if compressed else 'none'}', maximum_object_size = {largest_row_bytes})"
    )


def pattern(path: Path) -> str:
    """The pattern that matches this path only: that of a scratch folder, and of plain names in it.

    DuckDB takes a backslash beside one of `*?[` for a separator; `ScratchFolder` gives no such path.
    """
    return "".join(f"[{c}]" if c in "*?[" else c for c in str(path))
