"""json_fields, retrieval and sql_result: tables of right values, references, and what must not happen."""

from __future__ import annotations

import json
import math
import random
import sqlite3
from pathlib import Path
from typing import Any

import numpy
import pytest

from promptlab.domain.results import Score
from promptlab.evaluators.registry import build


def several(metric: str, params: dict[str, Any] | None = None, **data: Any) -> dict[str, float | None]:
    found = build(metric, params).evaluate(data)
    assert isinstance(found, dict)
    return {name: score.value for name, score in found.items()}


@pytest.mark.parametrize(
    ("params", "response", "reference", "expected"),
    [
        ({}, '{"a": 1, "b": "x"}', {"a": 1.0, "b": "x"}, (1, 0, 0)),
        ({}, '{"a": true}', {"a": 1}, (0, 0, 0)),
        ({}, '{"a": 1, "c": 2}', {"a": 1, "b": 2}, (1 / 2, 1 / 2, 1 / 2)),
        ({}, '{"a": {"b": [1, 2]}}', {"a": {"b": [1, 3]}}, (1 / 2, 0, 0)),
        ({}, "no JSON", {"a": 1}, (0, 1, 0)),
        ({}, 'It is ```json\n{"a": 1}\n```', '{"a": 1}', (1, 0, 0)),
        ({}, '{"a": 2}', [{"a": 1}, {"a": 2}], (1, 0, 0)),
        ({"fields": {"$.t": "set"}}, '{"t": [2, 1, 1]}', {"t": [1, 2]}, (1, 0, 0)),
        ({"fields": {"$.n": "number"}, "tolerance": 0.5}, '{"n": "20.4"}', {"n": 20}, (1, 0, 0)),
        ({"fields": {"$.n": "number"}, "relative_tolerance": 0.01}, '{"n": 99}', {"n": 100}, (1, 0, 0)),
        ({"fields": {"$.s": "text"}}, '{"s": " A  b"}', {"s": "a B"}, (1, 0, 0)),
        ({"fields": {"$.s": "exact", "$.id": "ignore"}}, '{"s": 1, "id": 7}', {"s": 1, "id": 8}, (1, 0, 0)),
    ],
)
def test_fields_are_compared_one_by_one(
    params: dict[str, Any], response: str, reference: Any, expected: tuple[float, float, float]
) -> None:
    """Share, missing and extra, by hand."""
    found = several("json_fields", params, response=response, reference=reference)
    assert tuple(found.values()) == pytest.approx(expected)


def test_equal_json_is_right_whatever_it_is() -> None:
    """Random values against themselves, and against themselves without a field."""
    pick = random.Random(3)

    def value(depth: int) -> Any:
        kind = pick.randrange(6 if depth else 4)
        if kind == 4:
            return [value(depth - 1) for _ in range(pick.randrange(4))]
        if kind == 5:
            return {pick.choice("abcdef"): value(depth - 1) for _ in range(pick.randrange(4))}
        return (None, True, pick.random(), pick.choice("xyz"))[kind]

    for _ in range(200):
        given = {"z": 1, "v": value(3)}
        assert several("json_fields", response=json.dumps(given), reference=given)["share"] == 1
        less = several("json_fields", response=json.dumps({"v": given["v"]}), reference=given)
        assert less["share"] < 1 and less["missing"] > 0  # type: ignore[operator]


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.long)])
def test_retrieval_is_the_textbooks(count: int) -> None:
    """Against measures written out with NumPy, as trec_eval defines them, over random rankings."""
    pick = random.Random(4)
    for _ in range(count):
        ids = [f"d{n}" for n in range(12)]
        ranked = pick.sample(ids, pick.randrange(13))
        gains = {name: pick.randrange(1, 4) for name in pick.sample(ids, pick.randrange(1, 6))}
        k = pick.randrange(1, 15)
        given = numpy.array([gains.get(name, 0) for name in ranked][:k], dtype=float)
        best = numpy.array(sorted(gains.values(), reverse=True)[:k], dtype=float)
        weight = 1 / numpy.log2(numpy.arange(2, 20))
        first = next((n for n, name in enumerate(ranked, 1) if name in gains), math.inf)
        expected = {
            "recall": (given > 0).sum() / len(gains),
            "precision": (given > 0).sum() / k,
            "mrr": 1 / first,
            "ndcg": (given * weight[: len(given)]).sum() / (best * weight[: len(best)]).sum(),
            "hit": float((given > 0).any()),
        }
        found = several("retrieval", {"k": k}, retrieved=ranked, reference=gains)
        assert found == pytest.approx({name: float(value) for name, value in expected.items()})


@pytest.mark.parametrize(
    ("retrieved", "reference", "expected"),
    [
        (["d1", "d2", "d3"], ["d2", "d9"], (1 / 2, 1 / 3, 1 / 2)),
        ('["d1", "d1", "d2"]', "d2", (1, 1 / 3, 1 / 2)),
        ([{"id": 1}, {"doc_id": 2}], [2], (1, 1 / 3, 1 / 2)),
        ([], ["d1"], (0, 0, 0)),
    ],
)
def test_lists_of_ids_are_read_as_they_come(retrieved: Any, reference: Any, expected: Any) -> None:
    """As JSON, as objects, with an id twice, empty."""
    found = several("retrieval", {"k": 3}, retrieved=retrieved, reference=reference)
    assert (found["recall"], found["precision"], found["mrr"]) == pytest.approx(expected)


TABLE = "CREATE TABLE t(a INTEGER, b REAL); INSERT INTO t VALUES (1, 2.0), (3, 4.0), (3, 4.0);"


def sql(response: str, reference: str = "SELECT a, b FROM t", **params: Any) -> Score:
    found = build("sql_result", {"database": TABLE, **params}).evaluate(
        {"response": response, "reference": reference}
    )
    assert isinstance(found, Score)
    return found


@pytest.mark.parametrize(
    ("response", "reference", "passed"),
    [
        ("SELECT a, b FROM t ORDER BY a DESC", "SELECT a, b FROM t", True),
        ("Here:\n```sql\nSELECT a AS x, b FROM t;\n```", "SELECT a, b FROM t", True),
        ("SELECT a, b + 1e-12 FROM t", "SELECT a, b FROM t", True),
        ("SELECT a FROM t ORDER BY a DESC", "SELECT a FROM t ORDER BY a", False),
        ("SELECT DISTINCT a, b FROM t", "SELECT a, b FROM t", False),
        ("SELECT b, a FROM t", "SELECT a, b FROM t", False),
        ("SELECT nothing FROM t", "SELECT a FROM t", False),
        ("I do not know", "SELECT a FROM t", False),
    ],
)
def test_statements_are_held_against_each_other_by_their_rows(
    response: str, reference: str, passed: bool
) -> None:
    """By hand."""
    assert sql(response, reference).passed is passed


@pytest.mark.parametrize("count", [100, pytest.param(10_000, marks=pytest.mark.long)])
def test_rows_are_the_same_as_a_multiset(count: int) -> None:
    """Against counting the columns and rows that SQLite itself gives, for random statements."""
    pick = random.Random(5)
    plain = sqlite3.connect(":memory:")
    plain.executescript(TABLE)
    metric = build("sql_result", {"database": TABLE})
    statements = [
        f"SELECT {columns} FROM t WHERE a {test} {number} {rest}"
        for columns in ("a", "a, b", "DISTINCT a", "count(*)", "b * 2, a")
        for test in ("<", ">=", "<>")
        for number in (1, 2, 3)
        for rest in ("", "LIMIT 1")
    ]
    for _ in range(count):
        one, other = pick.choice(statements), pick.choice(statements)
        got, wanted = plain.execute(one), plain.execute(other)
        columns = len(got.description) == len(wanted.description)
        same = columns and sorted(got) == sorted(wanted)
        assert metric.evaluate({"response": one, "reference": other}).passed is same  # type: ignore[union-attr]
    plain.close()


@pytest.mark.parametrize(
    "response",
    [
        "DROP TABLE t",
        "DELETE FROM t",
        "INSERT INTO t VALUES (1, 1)",
        "ATTACH 'FILE' AS x",
        "PRAGMA writable_schema = 1",
        "SELECT load_extension('FILE')",
        "VACUUM INTO 'FILE'",
        "SELECT a FROM t; DROP TABLE t",
        "SELECT zeroblob(2000000)",
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c",
        "SELECT hex(zeroblob(400000)) FROM t a, t b, t c, t d",
    ],
)
def test_a_statement_reads_its_table_and_nothing_else(response: str, tmp_path: Path) -> None:
    """No file, no other statement, no endless answer: it fails, and says why."""
    found = sql(response.replace("FILE", str(tmp_path / "x.db")), timeout_s=2.0)
    assert found.passed is False and "it gives no rows" in str(found.reason)
    assert list(tmp_path.iterdir()) == []
    assert sql("SELECT a, b FROM t").passed


@pytest.mark.parametrize(
    ("response", "why"),
    [
        ("", "it is no query"),
        ("-- nothing", "it is no query"),
        ("REINDEX", "it is no query"),
        ("SELECT a, b FROM t WHERE 0", "expected 1 columns, got 2"),
        ("SELECT a FROM t WHERE 0", ""),
    ],
)
def test_no_rows_are_right_only_of_a_query_with_as_many_columns(response: str, why: str) -> None:
    """An answer that asks nothing is wrong, also where nothing is what was asked for."""
    found = sql(response, "SELECT a FROM t WHERE a > 99")
    assert found.passed is (why == "") and why in str(found.reason)


@pytest.mark.parametrize(
    ("response", "reference", "share"),
    [
        ('[{"n": 1}, {"n": 2}]', [{"n": 1}, {"n": 2}], 1.0),
        ('[{"n": 1}, {"n": 3}]', '[{"n": 1}, {"n": 2}]', 0.5),
        ("[1, 2]", [1, 2], 1.0),
        ('{"n": 2}', [{"n": 1}, {"n": 2}], 1.0),
        ('[{"n": 2}]', [[{"n": 1}], [{"n": 2}]], 1.0),
        ("I do not know", [{"n": 1}], 0.0),
    ],
)
def test_a_list_is_held_against_a_list(response: str, reference: Any, share: float) -> None:
    """Of objects, of plain values; an object against each of several, and lists against several lists."""
    assert several("json_fields", response=response, reference=reference)["share"] == share


def test_a_reference_without_rows_is_a_mistake_of_the_dataset() -> None:
    """And no wrong answer; SQL that makes no database is an error before the first call."""
    with pytest.raises(ValueError, match="the reference 'SELECT c FROM t' gives no rows: no such column: c"):
        sql("SELECT a FROM t", "SELECT c FROM t")
    with pytest.raises(Exception, match="the SQL of database cannot be run"):
        build("sql_result", {"database": "CREATE TABEL t(a)"})
