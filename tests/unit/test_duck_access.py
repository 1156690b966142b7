"""DuckDB reaches the files that it was given, and nothing else: whatever SQL somebody might get into it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from promptlab.duck import connect, given, literal
from promptlab.scratch import ScratchFolder

SECRET = "what nobody may read"


@pytest.fixture
def door() -> Iterator[socket.socket]:
    """A port on which nobody may ever knock."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


TRIES = (
    "SELECT * FROM read_text({secret})",
    "SELECT * FROM read_blob({secret})",
    "SELECT * FROM read_csv({secret})",
    "SELECT * FROM read_json({secret})",
    "SELECT * FROM read_parquet({secret})",
    "SELECT * FROM {secret}",
    "SELECT * FROM sniff_csv({secret})",
    "SELECT * FROM read_text({climbing})",
    "SELECT * FROM read_text({planted})",
    "SELECT * FROM read_csv([{mine}, {secret}])",
    "SELECT * FROM read_text('/proc/self/environ')",
    "SELECT * FROM read_text('/dev/fd/0')",
    "SELECT * FROM read_csv('http://127.0.0.1:{port}/x.csv')",
    "SELECT * FROM read_parquet('s3://bucket/x.parquet')",
    "SELECT * FROM 'http://127.0.0.1:{port}/x.csv'",
    "ATTACH {secret} AS other",
    "ATTACH {new} AS other",
    "ATTACH 'http://127.0.0.1:{port}/x.db' AS other",
    "COPY (SELECT 1) TO {new}",
    "COPY (SELECT 1) TO {secret}",
    "EXPORT DATABASE {new}",
    "IMPORT DATABASE {folder}",
    "INSTALL httpfs",
    "INSTALL httpfs FROM 'http://127.0.0.1:{port}'",
    "LOAD httpfs",
    "LOAD {secret}",
    "FORCE INSTALL spatial",
    "CREATE SECRET (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "SET enable_external_access = true",
    "RESET enable_external_access",
    "SET allowed_directories = ['/']",
    "SET allowed_paths = [{secret}]",
    "RESET allowed_directories",
    "SET extension_directory = {folder}",
    "SET temp_directory = {folder}",
    "SET home_directory = {folder}",
    "SET secret_directory = {folder}",
    "SET custom_extension_repository = 'http://127.0.0.1:{port}'",
    "SET allow_unsigned_extensions = true",
    "SET enable_logging = true",
    "SET log_query_path = {new}",
    "PRAGMA enable_profiling = 'json'; SET profiling_output = {new}; SELECT 1",
)


@pytest.mark.parametrize("sql", TRIES)
def test_no_sql_reaches_anything_else(tmp_path: Path, door: socket.socket, sql: str) -> None:
    """Neither by reading nor by writing, neither a file nor an address; and the settings stay as they are."""
    (secret := tmp_path / "secret.csv").write_text(SECRET)
    (mine := tmp_path / "mine.csv").write_text("a\n1\n")
    new = tmp_path / "new"
    with ScratchFolder() as folder:
        link = given(mine, folder)
        climbing = folder / ".." / ".." / secret.relative_to("/")
        (planted := folder / "planted").symlink_to(secret)
        paths = {"secret": secret, "mine": link, "new": new, "climbing": climbing, "planted": planted}
        names = {name: literal(str(path)) for name, path in (paths | {"folder": tmp_path}).items()}
        with connect(folder) as con:
            said = ""
            try:
                said = str(con.execute(sql.format(**names, port=door.getsockname()[1])).fetchall())
            except duckdb.Error:
                pass
            else:
                assert not sql.startswith(("SET", "RESET", "ATTACH", "COPY", "INSTALL", "LOAD")), said
            assert SECRET not in said
            assert con.execute(f"SELECT a FROM read_csv({names['mine']})").fetchall() == [(1,)]
    assert secret.read_text() == SECRET and not new.exists()
    with pytest.raises(BlockingIOError):
        door.accept()
