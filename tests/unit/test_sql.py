"""Questions in SQL about a run: what is answered, what is refused, and what is stopped."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from promptlab.errors import SqlError
from promptlab.queries.sql import CELL_CHARS, MOST_ROWS, SqlAnswer, ask
from promptlab.scratch import ScratchFolder


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results file of 3,000 cases, beside another that nobody may read."""
    folder = tmp_path_factory.mktemp("sql[1]")
    path = folder / "results*.parquet"
    duckdb.sql(
        'SELECT range AS "case", \'row \' || range AS id, range % 3 AS "score.f1", '
        "repeat('x', 30000) AS long FROM range(3000)"
    ).write_parquet(str(folder / "made.parquet"))
    (folder / "made.parquet").rename(path)
    (folder / "secret.txt").write_text("nobody may read this")
    return path


async def asked(results: Path, sql: str) -> SqlAnswer:
    with ScratchFolder("sql") as folder:
        return await ask(results, folder, sql)


async def test_a_select_is_answered(results: Path) -> None:
    found = await asked(
        results,
        'SELECT "score.f1" AS f1, count(*) AS n, avg("case") FROM cases GROUP BY ALL ORDER BY 1; -- all',
    )
    assert found.columns[:2] == ("f1", "n")
    assert found.types[:2] == ("BIGINT", "BIGINT")
    assert found.rows == ((0, 1000, 1498.5), (1, 1000, 1499.5), (2, 1000, 1500.5))
    assert not found.more


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        ("SELECT 170141183460469231731687303715884105727", "170141183460469231731687303715884105727"),
        ("SELECT 1.50::DECIMAL(9, 2)", "1.50"),
        ("SELECT 'nan'::DOUBLE", None),
        ("SELECT DATE '2026-11-26'", "2026-11-26"),
        ("SELECT TIMESTAMPTZ '2026-11-26 10:00:00+01'", "2026-11-26 09:00:00+00"),
        ("SELECT [1, 2]", "[1,2]"),
        ("SELECT {'a': [1]}", '{"a":[1]}'),
        ("SELECT 'für 漢字;' ; -- ü;", "für 漢字;"),
        ("SELECT NULL", None),
        ("SELECT true", True),
        ("SELECT 9007199254740993", 9007199254740993),
        ("SELECT 1 AS a, 2 AS a", 1),
        ("DESCRIBE SELECT 1", "1"),
        ("FROM cases SELECT id LIMIT 1", "row 0"),
    ],
)
async def test_every_type_has_a_form_in_json(results: Path, sql: str, value: object) -> None:
    assert (await asked(results, sql)).rows[0][0] == value


async def test_rows_and_texts_have_bounds(results: Path) -> None:
    many = await asked(results, "SELECT id FROM cases")
    assert (len(many.rows), many.more) == (MOST_ROWS, True)
    long = await asked(results, "SELECT long FROM cases")
    assert long.more
    assert 10 < len(long.rows) < MOST_ROWS
    assert len(long.rows[0][0]) < CELL_CHARS + 100


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("", "no question"),
        ("SELEC 1", "syntax error"),
        ("SELECT nothing FROM cases", "nothing"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("DROP VIEW cases", "Only SELECT"),
        ("COPY (SELECT 1) TO 'out.csv'", "Only SELECT"),
        ("SET threads = 64", "Only SELECT"),
        ("ATTACH 'x.db'", "Only SELECT"),
        ("INSTALL httpfs", "Only SELECT"),
        ("SELECT * FROM read_text('{folder}/secret.txt')", "ermission"),
        ("SELECT * FROM '{folder}/secret.txt'", "does not exist"),
        ("SELECT * FROM read_text('/etc/hostname')", "ermission"),
        ("SELECT * FROM read_parquet('http://127.0.0.1:9/x.parquet')", "ermission|httpfs|disabled"),
        ("SELECT 1) AS a UNION (SELECT 2", "syntax error"),
        ("SELECT " + "1," * 10_000 + "1", "at most 20,000"),
    ],
)
async def test_what_is_no_question_is_refused(results: Path, sql: str, words: str) -> None:
    with pytest.raises(SqlError, match=words):
        await asked(results, sql.replace("{folder}", str(results.parent)))


@pytest.mark.parametrize(
    "sql",
    [
        "WITH RECURSIVE t AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM t) SELECT count(*) FROM t",
        "SELECT length(repeat(repeat('ab', 10000000), 100))",
        "SELECT list(a.range) FROM range(100000) a, range(100000) b",
    ],
)
async def test_what_takes_too_much_is_stopped_and_the_next_is_answered(results: Path, sql: str) -> None:
    with pytest.raises(SqlError, match=r"stopped|Out of Memory"):
        await asked(results, sql)
    assert (await asked(results, "SELECT count(*) FROM cases")).rows == ((3000,),)
