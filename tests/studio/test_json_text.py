"""JSON as pages show it."""

from __future__ import annotations

import json

import orjson
import pytest
from promptlab_studio.views.json_text import MOST_CHARS, indented
from promptlab_studio.views.text import form_of, shown


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [1, 2.50, {"b": null}], "c": {}, "d": [], "e": "x, [y]: {z} \\" \\\\"}',
        "[[], [[]], {}]",
        '"text"',
        "17",
        '{"": {"": ""}}',
        '["\\u0041", "é", "\\ud83d\\ude00"]',
    ],
)
def test_it_is_the_same_value_indented_as_json_is(text: str) -> None:
    found = indented(text)
    assert found is not None and json.loads(found) == json.loads(text)
    exact = json.dumps(json.loads(text), indent=2, ensure_ascii=False).replace("2.5,", "2.50,")
    assert found.replace("\\u0041", "A").replace("\\ud83d\\ude00", "😀") == exact


@pytest.mark.parametrize(
    "number", ["12345678901234567890123", "1.10", "1E5", "-0.0", "9007199254740993", "1e-12"]
)
def test_a_number_keeps_its_digits(number: str) -> None:
    assert indented(f'{{"a": {number}}}') == f'{{\n  "a": {number}\n}}'


def test_a_repeated_key_stays() -> None:
    assert indented('{"a":1,"a":2}') == '{\n  "a": 1,\n  "a": 2\n}'


@pytest.mark.parametrize(
    "text",
    ["[" * 300 + "]" * 300, "[" * 5_000 + "]" * 5_000, "[1,2", "", "{'a': 1}", f'["{"x" * MOST_CHARS}"]'],
)
def test_what_cannot_be_indented_is_shown_as_it_is(text: str) -> None:
    """Three hundred levels were an error of the page."""
    assert indented(text) is None
    assert str(shown(text, "json")).startswith("<pre")
    assert form_of(text) in ("plain", "markdown")


def test_what_orjson_writes_is_indented_as_orjson_does() -> None:
    value = {"a": [1, {"b": [True, None, "x"]}], "c": 1.5}
    assert indented(orjson.dumps(value).decode()) == orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
