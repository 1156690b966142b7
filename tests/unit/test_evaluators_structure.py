"""is_json and json_schema."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from promptlab.domain.results import Score
from promptlab.errors import ConfigError
from promptlab.evaluators.registry import build

PERSON = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string", "pattern": "^[A-Z]"}, "age": {"$ref": "#/$defs/age"}},
    "$defs": {"age": {"type": "integer", "minimum": 0}},
}


def score(metric: str, response: Any, **params: Any) -> Score:
    result = build(metric, params).evaluate({"response": response})
    assert isinstance(result, Score)
    return result


@pytest.mark.parametrize(
    ("response", "params", "passed"),
    [
        ('{"a": 1}', {}, True),
        (" [1, 2]\n", {}, True),
        ("null", {}, True),
        ('"é👍"', {}, True),
        ("", {}, False),
        ("{'a': 1}", {}, False),
        ("[1,]", {}, False),
        ("NaN", {}, False),
        ('{"a": 1} trailing', {}, False),
        ({"a": [1, None]}, {}, True),
        ("[" * 100_000, {}, False),
        ('{"a": 1}', {"expect": "object"}, True),
        ("[]", {"expect": "object"}, False),
        ("[]", {"expect": "array"}, True),
        ('```json\n{"a": 1}\n```', {}, False),
        ('```json\n{"a": 1}\n```', {"fenced": True}, True),
        ('Here:\n```JSON\n{"a": "```"}\n```\nDone.', {"fenced": True}, True),
        ("```\n[1]\n```", {"fenced": True}, True),
        ("```python\nx = 1\n```\n```json\n[1]\n```", {"fenced": True}, True),
        ("```python\nx = 1\n```", {"fenced": True}, False),
        ("``` (see below)\n```json\n[1]\n```", {"fenced": True}, True),
        ("[1]", {"fenced": True}, True),
        ("```" + " " * 1_000_000, {"fenced": True}, False),
    ],
)
def test_is_json(response: Any, params: dict[str, Any], passed: bool) -> None:
    """RFC 8259, whole response or the first fenced block."""
    result = score("is_json", response, **params)
    assert result.passed is passed
    assert (result.reason is None) is passed
    assert len(result.reason or "") <= 200


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ('{"name": "Ada", "age": 36}', None),
        ('{"name": "Ada", "age": -1}', "$.age: -1 is less than the minimum of 0"),
        ('{"age": 3}', "$: 'name' is a required property"),
        ('{"name": "ada"}', "$.name: 'ada' does not match '^[A-Z]'"),
        ("[]", "$: [] is not of type 'object'"),
    ],
)
def test_json_schema_gives_the_path_and_the_rule(response: str, reason: str | None) -> None:
    """The most telling error becomes the reason."""
    result = score("json_schema", response, schema=PERSON)
    assert (result.passed, result.reason) == (reason is None, reason)


def test_json_schema_fails_what_is_no_json() -> None:
    """Neither text nor an empty response passes any schema; a fenced block does on request."""
    assert (score("json_schema", "", schema={}).reason or "").startswith("not JSON: ")
    assert score("json_schema", "```json\n{}\n```", schema={}).passed is False
    assert score("json_schema", "```json\n{}\n```", schema={}, fenced=True).passed is True


def test_json_schema_reasons_stay_short() -> None:
    """A huge value is not quoted whole."""
    assert len(score("json_schema", f'"{"x" * 1_000_000}"', schema={"type": "object"}).reason or "") == 200


def test_the_schema_may_name_an_older_draft() -> None:
    """`items` as a list is a tuple in Draft 7, and no schema in 2020-12."""
    items = {"items": [{"type": "integer"}]}
    assert (
        score(
            "json_schema", '["x"]', schema={"$schema": "http://json-schema.org/draft-07/schema#", **items}
        ).passed
        is False
    )
    with pytest.raises(ConfigError, match="not a valid JSON Schema"):
        build("json_schema", {"schema": items})


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "objekt"}, r"schema is not a valid JSON Schema: \$\.type: 'objekt'"),
        (
            {"properties": {"a": {"$ref": "#/$defs/b"}}},
            r"schema has a \$ref to '#/\$defs/b', which is not in it",
        ),
        ("{}", "schema must be a valid dictionary"),
    ],
)
def test_a_wrong_schema_is_refused_when_built(schema: Any, message: str) -> None:
    """No case is paid for with a schema that cannot work."""
    with pytest.raises(ConfigError, match=message):
        build("json_schema", {"schema": schema})


def test_references_inside_the_schema_and_to_the_metaschema_work() -> None:
    """Ids, anchors and the drafts themselves are known without a network."""
    schema = {
        "$id": "https://example.org/a",
        "properties": {"b": {"$ref": "b"}},
        "$defs": {"b": {"$id": "b", "type": "string"}},
    }
    assert score("json_schema", '{"b": 1}', schema=schema).passed is False
    assert (
        score(
            "json_schema",
            '{"type": "objekt"}',
            schema={"$ref": "https://json-schema.org/draft/2020-12/schema"},
        ).passed
        is False
    )
    named_like_it = {"properties": {"$ref": {"type": "string"}}, "enum": [{"$ref": "x"}]}
    assert score("json_schema", '{"$ref": "x"}', schema=named_like_it).passed is True


@pytest.fixture
def schema_server() -> Iterator[tuple[str, list[str]]]:
    """A server with a schema, and the paths it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: Any) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/schema.json", asked
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef"])
def test_a_remote_reference_is_never_fetched(schema_server: tuple[str, list[str]], keyword: str) -> None:
    """Neither at build time nor for a case."""
    url, asked = schema_server
    if keyword == "$ref":
        with pytest.raises(ConfigError, match="nothing is fetched"):
            build("json_schema", {"schema": {keyword: url}})
    else:
        evaluator = build("json_schema", {"schema": {keyword: url}})
        with pytest.raises(Exception, match=r"schema\.json"):
            evaluator.evaluate({"response": "{}"})
    assert asked == []


def test_a_pattern_in_a_schema_cannot_hang() -> None:
    """The same limit as everywhere."""
    with pytest.raises(TimeoutError, match="pattern"):
        score("json_schema", f'"{"x" * 5000}"', schema={"pattern": "(x+x+)+y"}, timeout_s=0.05)
