"""Reads rows from Parquet files.

Decimals become text, so that no digit is lost, binary base64, times text (in UTC where they have a zone), and
durations ISO 8601 text with their unit (`PT1.5S`), wherever they are nested.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptlab.assets.arrow_schema import ArrowField, arrow_fields
from promptlab.assets.json_rows import MAX_ROW_BYTES, clip, parse_row, too_big
from promptlab.assets.sources import MAX_COLUMNS, Budget, Rows, first_repeated, read_errors
from promptlab.duck import connect, given, literal, parquet, pattern, quoted
from promptlab.errors import DatasetError

if TYPE_CHECKING:
    import duckdb

# DuckDB holds a column chunk's page and 2,048 rows as JSON: 300 rows of 1 MB took 0.9 GB, rows of 3 KB 0.3
# GB.
_MEMORY = "1GB"
MAX_LISTS = 12
"""Lists and maps that hold each other. DuckDB reads a row of 16 in 13 ms, of 24 in 2.4 s; each one more takes
twice as long."""
MAX_DEPTH = 40
"""Levels of the schema, of which a list has two: structs of 60 took 0.7 s, of 120 11 s."""
MAX_FIELDS = 3 * MAX_COLUMNS
"""Columns and the fields in them: a list has two."""
MAX_INNER = 1_000
"""Fields of one field: to take it apart takes DuckDB time by their square, 1 s for 2,000 decimals."""
_WITH_FORM = frozenset({"list", "struct", "map", "array", "decimal", "blob", "float", "interval"})


def parquet_rows(path: Path, name: str, scratch: Path) -> Rows:
    """Read the rows of a Parquet file.

    Args:
        path: the file.
        name: the file as the user gave it.
        scratch: a scratch folder.
    """
    import duckdb

    with read_errors(name, path):
        path.open("rb").close()  # DuckDB's own message about permissions is long
    linked = given(path, scratch)
    budget = Budget(name, path.stat().st_size)
    try:
        with connect(scratch, _MEMORY) as connection:
            connection.execute(f"SELECT {_row(connection, linked, name, budget)} FROM {parquet(linked)}")
            number = 0
            while batch := connection.fetchmany(8):
                for (text,) in batch:
                    number += 1
                    budget.add(len(text))
                    yield number, parse_row(text.encode(), name, ", row {}", number)
    except duckdb.OutOfMemoryException as error:
        raise DatasetError(
            f"{name} needs more than {_MEMORY} of memory: write it with smaller row groups and pages, or as "
            f".jsonl. A row may have {MAX_ROW_BYTES:,} bytes."
        ) from error
    except duckdb.Error as error:
        raise DatasetError(
            f"{name} is not a Parquet file that can be read: "
            f"{str(error).splitlines()[0].replace(str(linked), name)}"
        ) from error


def _row(connection: duckdb.DuckDBPyConnection, path: Path, name: str, budget: Budget) -> str:
    """SQL of a whole row as JSON text."""
    names = _stored_names(connection, path, name)
    described = connection.execute(f"SELECT * FROM {parquet(path)} LIMIT 0").description or ()
    fields = _stored_fields(connection, path)
    if len(names) != len(described):
        names = [column[0] for column in described]
    if (twice := first_repeated(names)) is not None:
        raise DatasetError(f"{name} has two columns {clip(repr(twice))}. Give each column its own name.")
    sql = "SELECT CAST(coalesce(sum(num_rows), 0) AS BIGINT) FROM parquet_file_metadata(?)"
    ((rows,),) = connection.execute(sql, [pattern(path)]).fetchall()
    # By the shortest values there are, so that a file of few bytes and a billion rows is refused at once.
    budget.check(rows * sum(len(column) + 5 for column in names))
    return _object(
        [
            (column, _json(quoted(found[0]), found[1], fields[at] if fields else None))
            for at, (column, found) in enumerate(zip(names, described, strict=True))
        ]
    )


def _stored_names(connection: duckdb.DuckDBPyConnection, path: Path, file: str) -> list[str]:
    """The columns' names as they are in the file: DuckDB calls the second of `a` and `A` `A_1`.

    Raises:
        DatasetError: there are more columns or fields than can be read, or lists too deep in each other.
    """
    sql = "SELECT name, num_children, repetition_type FROM parquet_schema(?)"
    found = connection.execute(sql, [pattern(path)]).fetchall()[1:]
    if len(found) > MAX_FIELDS:
        raise DatasetError(
            f"{file} has {len(found):,} columns and fields in them; {MAX_FIELDS:,} can be read. "
            "Give the rows as .jsonl."
        )
    names: list[str] = []
    around: list[tuple[int, int, int]] = []  # fields that are left to come, levels and lists around them
    for field, children, repetition in found:
        left, depth, lists = around.pop() if around else (0, 0, 0)
        if not left:
            names.append(field)
        elif left > 1:
            around.append((left - 1, depth, lists))
        lists += repetition == "REPEATED"
        if lists > MAX_LISTS or depth >= MAX_DEPTH:
            raise DatasetError(
                f"{file}, column {clip(repr(names[-1]))}: lists are nested more than {MAX_LISTS} levels "
                f"deep, or fields more than {MAX_DEPTH}, which takes too long to read. "
                "Give the rows as .jsonl."
            )
        if (children or 0) > MAX_INNER:
            raise DatasetError(
                f"{file}, column {clip(repr(names[-1]))}: {children:,} fields in one; {MAX_INNER:,} can be "
                "read. Give the rows as .jsonl."
            )
        if children:
            around.append((children, depth + 1, lists))
    size = sum(map(len, names))
    if len(names) > MAX_COLUMNS:
        raise DatasetError(
            f"{file} has {len(names):,} columns; a dataset may have {MAX_COLUMNS:,}. Nest what varies."
        )
    if size > MAX_ROW_BYTES:
        raise too_big(f"{file}, row 1", size, at_least=True)
    return names


def _stored_fields(connection: duckdb.DuckDBPyConnection, path: Path) -> Sequence[ArrowField] | None:
    sql = "SELECT value FROM parquet_kv_metadata(?) WHERE key = 'ARROW:schema'::BLOB"
    found = connection.execute(sql, [pattern(path)]).fetchone()
    return arrow_fields(bytes(found[0])) if found else None


def _json(value: str, kind: Any, field: ArrowField | None) -> str:
    """SQL of a value as JSON.

    Args:
        value: SQL of the value.
        kind: its type in DuckDB.
        field: its field in the Arrow schema, where the file has one.
    """
    if _is_plain(kind, field):
        return f"to_json({value})"
    if kind.id in ("list", "array"):
        inner = _json("x", kind.children[0][1], _child(field, 0))
        return f"to_json(list_transform({value}, lambda x: {inner}))"
    if kind.id == "map":
        entries = _child(field, 0)
        inner = _json("x", kind.children[1][1], _child(entries, 1))
        keys = f"list_transform(map_keys({value}), lambda k: CAST(k AS VARCHAR))"
        return f"to_json(map({keys}, list_transform(map_values({value}), lambda x: {inner})))"
    if kind.id == "struct":
        parts = [
            (
                child.name if (child := _child(field, at)) else name,
                _json(f"struct_extract({value}, {literal(name)})", inner, child),
            )
            for at, (name, inner) in enumerate(kind.children)
        ]
        return f"CASE WHEN {value} IS NOT NULL THEN {_object(parts)} END"
    return f"to_json({_text(value, kind, field)})"


def _is_plain(kind: Any, field: ArrowField | None) -> bool:
    """Whether DuckDB's own JSON of a value is right: its names are as they were, and
    nothing in it needs a form."""
    if field is not None and field.digits is not None:
        return False
    if kind.id not in _WITH_FORM:
        return True
    if kind.id not in ("list", "array", "map", "struct"):
        return False
    inner = [(name, child) for name, child in kind.children if name != "size"]
    if kind.id == "map":
        return all(_is_plain(child, _child(_child(field, 0), at)) for at, (_, child) in enumerate(inner))
    return all(
        _is_plain(child, found := _child(field, at))
        and (kind.id != "struct" or found is None or found.name == name)
        for at, (name, child) in enumerate(inner)
    )


def _child(field: ArrowField | None, at: int) -> ArrowField | None:
    return field.children[at] if field is not None and at < len(field.children) else None


def _text(value: str, kind: Any, field: ArrowField | None) -> str:
    """SQL of a single value in the form that JSON has room for."""
    if field is not None and field.digits is not None:
        number = f"abs(CAST({value} AS DECIMAL(20, 0)))"
        if field.digits:
            scaled = f"{number} * CAST('1e-{field.digits}' AS DECIMAL(10, 9))"
            number = f"rtrim(rtrim(CAST({scaled} AS VARCHAR), '0'), '.')"
        return f"CASE WHEN {value} < 0 THEN '-PT' ELSE 'PT' END || {number} || 'S'"
    if kind.id == "blob":
        return f"base64({value})"
    # As written: 0.1 in 32 bits would become 0.10000000149011612.
    return f"CAST(CAST({value} AS VARCHAR) AS DOUBLE)" if kind.id == "float" else f"CAST({value} AS VARCHAR)"


def _object(parts: Sequence[tuple[str, str]]) -> str:
    """SQL of a JSON object. A map, since the names of a struct's fields must differ in more than case."""
    names = ", ".join(literal(name) for name, _ in parts)
    return f"to_json(map([{names}], [{', '.join(value for _, value in parts)}]))"
