"""json_schema: exact numbers, formats, and an end in time whatever schema and answer are; fences as models
write them."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator

from promptlab.domain.results import Score
from promptlab.errors import ConfigError
from promptlab.evaluators.registry import build
from promptlab.evaluators.schemas import Schema


def score(schema: dict[str, Any], value: Any, **params: Any) -> Score:
    """The score of a value as an answer."""
    metric = build("json_schema", {"schema": schema, **params})
    result = metric.evaluate({"response": orjson.dumps(value).decode()})
    assert isinstance(result, Score)
    return result


def test_every_amount_in_cents_is_a_multiple_of_a_cent() -> None:
    """0.00 to 100.00: 1,363 of them failed where doubles were divided; a tenth of a cent is none."""
    metric = build("json_schema", {"schema": {"type": "number", "multipleOf": 0.01}})
    amounts = [f"{cents // 100}.{cents % 100:02}" for cents in range(10_001)]
    assert [a for a in amounts if not metric.evaluate({"response": a}).passed] == []
    for amount in ("0.001", "19.995", "1e-9"):
        assert metric.evaluate({"response": amount}).passed is False
    assert score({"multipleOf": 3}, 9).passed is True
    assert score({"multipleOf": 3}, 10).reason == "$: 10 is not a multiple of 3"
    assert score({"multipleOf": 1e-300}, 1.7e308).passed is True
    assert score({"multipleOf": 2}, "text").passed is True


BAD_PATTERN = "^(a|a)*$"
WORD = "a" * 40 + "b"
HOSTILE: dict[str, tuple[dict[str, Any], Any]] = {
    "pattern": ({"pattern": BAD_PATTERN}, WORD),
    "patternProperties": ({"patternProperties": {BAD_PATTERN: {}}}, {WORD: 1}),
    "additionalProperties": (
        {"patternProperties": {BAD_PATTERN: True}, "additionalProperties": False},
        {WORD: 1},
    ),
    "only additionalProperties": (
        {"allOf": [{"patternProperties": {BAD_PATTERN: True}, "additionalProperties": {}}]},
        {WORD: 1},
    ),
    "unevaluatedProperties": (
        {"allOf": [{"patternProperties": {BAD_PATTERN: True}}], "unevaluatedProperties": False},
        {WORD: 1},
    ),
    "allOf that doubles": (
        {
            "$ref": "#/$defs/a40",
            "$defs": {"a0": {"type": "integer"}}
            | {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i - 1}"}] * 2} for i in range(1, 41)},
        },
        1,
    ),
    "anyOf that doubles": (
        {
            "$ref": "#/$defs/a40",
            "$defs": {"a0": {"type": "string"}}
            | {f"a{i}": {"anyOf": [{"$ref": f"#/$defs/a{i - 1}"}] * 2} for i in range(1, 41)},
        },
        1,
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_schema_that_would_not_end_is_a_failed_score(name: str) -> None:
    """Its time is over, and the parameter that says so is named."""
    with pytest.raises(TimeoutError, match=r"timeout_s 0\.2"):
        score(*HOSTILE[name], timeout_s=0.2)


def test_a_schema_that_refers_to_itself_is_a_failed_score() -> None:
    """No RecursionError of the interpreter."""
    with pytest.raises(ValueError, match="refers to itself without end"):
        score({"$ref": "#"}, 1)


def test_many_items_are_found_unique_in_time() -> None:
    """20,000 objects: comparing each with each would take hours. 1 and 1.0 are equal, 1 and true are not."""
    items: list[Any] = [{"id": i, "tags": ["a", {"b": i}]} for i in range(20_000)]
    assert score({"uniqueItems": True}, items, timeout_s=60).passed is True
    assert score({"uniqueItems": True}, [*items, items[7]], timeout_s=60).passed is False
    assert score({"uniqueItems": True}, [1, True, "1", None, [1], {"1": 1}]).passed is True
    assert score({"uniqueItems": True}, [1, 1.0]).passed is False
    assert score({"uniqueItems": True}, [{"a": 1, "b": 2}, {"b": 2.0, "a": 1}]).passed is False


def test_long_texts_that_are_no_patterns_are_fine() -> None:
    """In a schema's descriptions and values, and under a property that is called pattern."""
    words = "x" * 20_000
    schema = {
        "description": words,
        "enum": [words, {"pattern": 1}],
        "properties": {"pattern": {"title": words}},
    }
    assert score(schema, words).passed is True
    assert score(schema, "y").passed is False


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"pattern": "|".join(f"w{i}" for i in range(300_000))}, "at most 10,000 are allowed"),
        ({"patternProperties": {"x" * 20_000: {}}}, "at most 10,000 are allowed"),
        ({"enum": list(range(30_000))}, "more than 20,000 values"),
        (json.loads('{"not":' * 500 + "{}" + "}" * 500), "nested too deep"),
    ],
)
def test_a_schema_that_cannot_be_checked_in_time_is_refused_when_built(schema: Any, message: str) -> None:
    """Before any call is paid for."""
    with pytest.raises(ConfigError, match=message):
        build("json_schema", {"schema": schema})


def test_a_pattern_of_a_metric_has_a_bound_too() -> None:
    """regex_match and numeric_match refuse what takes seconds to compile."""
    with pytest.raises(ConfigError, match=r"pattern has 1,\d{3},\d{3} characters; at most 10,000"):
        build("regex_match", {"pattern": "|".join(f"w{i}" for i in range(300_000))[:1_500_000]})
    with pytest.raises(ConfigError, match="response_pattern has"):
        build("numeric_match", {"response_pattern": "a|" * 150_000})
    with pytest.raises(ConfigError, match="nested too deep"):
        build("regex_match", {"pattern": "(?:" * 1_500 + "a" + ")*" * 1_500})


def test_unevaluated_properties_are_those_that_no_part_looks_at() -> None:
    """As the specification has it: through allOf, if, $ref and patterns."""
    schema = {
        "properties": {"a": {}},
        "patternProperties": {"^x_": {"type": "integer"}},
        "allOf": [{"$ref": "#/$defs/b"}],
        "anyOf": [{"properties": {"c": {"const": 1}}, "required": ["c"]}, True],
        "if": {"required": ["d"], "properties": {"d": True}},
        "then": {"properties": {"e": True}},
        "dependentSchemas": {"a": {"properties": {"f": True}}},
        "$defs": {"b": {"properties": {"b": {}}}},
        "unevaluatedProperties": False,
    }
    assert score(schema, {"a": 1, "b": 1, "x_1": 1, "c": 1, "d": 1, "e": 1, "f": 1}).passed is True
    assert score(schema, {"e": 1}).reason == "$: Unevaluated properties are not allowed ('e' was unexpected)"
    assert score(schema, {"c": 2}).passed is False
    assert (
        score(schema, {"f": 1, "g": 1}).reason
        == "$: Unevaluated properties are not allowed ('f', 'g' were unexpected)"
    )
    assert score({**schema, "unevaluatedProperties": {"type": "integer"}}, {"z": 1}).passed is True
    assert score({**schema, "unevaluatedProperties": {"type": "integer"}}, {"z": "1"}).passed is False


def _random_schema(choose: random.Random, depth: int = 0) -> Any:
    """Give a schema of the keywords that we have validators of our own for, and of those that hold them."""
    if depth > 2 or choose.random() < 0.2:
        return choose.choice([True, False, {}, {"type": "integer"}, {"type": "string"}, {"const": 1}])

    def part() -> Any:
        return _random_schema(choose, depth + 1)

    def named() -> dict[str, Any]:
        return {name: part() for name in choose.sample("abcd", choose.randrange(1, 3))}

    keywords: dict[str, Callable[[], Any]] = {
        "properties": named,
        "patternProperties": lambda: {choose.choice(["^x", "[ab]", "y$"]): part()},
        "additionalProperties": part,
        "unevaluatedProperties": lambda: choose.choice([False, True, {"type": "integer"}]),
        "allOf": lambda: [part(), part()],
        "anyOf": lambda: [part(), part()],
        "oneOf": lambda: [part(), part()],
        "if": part,
        "then": part,
        "else": part,
        "dependentSchemas": named,
        "$ref": lambda: "#/$defs/r",
        "multipleOf": lambda: choose.choice([2, 0.5]),
        "uniqueItems": lambda: choose.choice([True, False]),
        "pattern": lambda: choose.choice(["^s", "t"]),
        "not": part,
    }
    return {name: keywords[name]() for name in choose.sample(sorted(keywords), choose.randrange(1, 5))}


def _random_value(choose: random.Random, depth: int = 0) -> Any:
    if depth or choose.random() < 0.1:
        return choose.choice([0, 1, 2, 1.5, True, "s", "t", "sat", None, [1, 1.0], [1, True], [], {"a": 1}])
    return {name: _random_value(choose, 1) for name in choose.sample(["a", "b", "c", "d", "x1", "xy"], 3)}


@pytest.mark.long
def test_the_validator_agrees_with_the_reference_implementation() -> None:
    """jsonschema's own keywords, over 10,000 random values, 25 a schema; both verdicts are frequent."""
    choose, verdicts = random.Random(3), Counter[bool]()
    while verdicts.total() < 10_000:
        schema = _random_schema(choose)
        if not isinstance(schema, dict):
            continue
        schema["$defs"] = {"r": {"properties": {"c": {"type": "integer"}}, "patternProperties": {"^xy": {}}}}
        ours, theirs = Schema(schema, timeout_s=60, check_format=True), Draft202012Validator(schema)
        for value in (_random_value(choose) for _ in range(25)):
            found = ours.fault(value) is None
            assert found == theirs.is_valid(value), (schema, value)
            verdicts[found] += 1
    assert min(verdicts.values()) > 1_000


def test_additional_properties_are_those_without_a_rule() -> None:
    """Names and patterns are rules."""
    schema = {"properties": {"a": {}}, "patternProperties": {"^x": {}}, "additionalProperties": False}
    assert score(schema, {"a": 1, "x1": 2}).passed is True
    assert score(schema, {"b": 1}).reason == "$: Additional properties are not allowed ('b' was unexpected)"
    typed = {**schema, "additionalProperties": {"type": "string"}}
    assert (score(typed, {"b": "1"}).passed, score(typed, {"b": 1}).passed) == (True, False)


FORMATS = {
    "date": (["2024-02-29"], ["2023-02-29", "29.02.2024", "2024-2-9", "20240229"]),
    "time": (["12:30:00Z", "23:59:60+01:00", "12:30:00.5-05:30"], ["12:30", "25:00:00Z", "12:30:00"]),
    "date-time": (
        ["2024-02-29T12:30:00Z", "2024-02-29t12:30:00.123+02:00"],
        ["2024-02-29", "2024-02-30T12:00:00Z"],
    ),
    "duration": (["P1Y2M3DT4H5M6S", "PT30M", "P2W"], ["P", "1D", "PT", "P1S"]),
    "email": (["ada@example.org"], ["ada", "ada@", "@example.org", "a b@example.org", "a@b@c"]),
    "hostname": (["example.org", "a-b.c"], ["-a.org", "a_b.org", "a" * 64, ""]),
    "ipv4": (["127.0.0.1"], ["256.0.0.1", "1.2.3"]),
    "ipv6": (["::1"], ["::g", "127.0.0.1"]),
    "uri": (
        ["https://example.org/a?b=c#d", "mailto:a@b.c", "urn:isbn:1"],
        ["example.org", "/a", "http://a b", "ü:a"],
    ),
    "uri-reference": (["/a", "b?c", ""], ["a b", "\\\\a"]),
    "iri": (["https://exämple.org/ü"], ["/ü", "http://a b"]),
    "uuid": (["123e4567-e89b-12d3-a456-426614174000"], ["123e4567e89b12d3a456426614174000", "x"]),
    "json-pointer": (["", "/a/0", "/a~1b"], ["a", "/~2"]),
    "regex": (["^a+$"], ["(", "a" * 20_000]),
    "of my own": (["anything"], []),
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_checked_unless_told_otherwise(name: str) -> None:
    """A format that is not known accepts everything, as does every format what is no text."""
    right, wrong = FORMATS[name]
    schema = {"format": name}
    assert [text for text in right if not score(schema, text).passed] == []
    assert [text for text in wrong if score(schema, text).passed] == []
    assert all(score(schema, text, check_format=False).passed for text in wrong)
    assert score(schema, 12).passed is True


def test_a_format_is_that_of_a_text_of_10_000_characters_at_most() -> None:
    """A longer one has none."""
    for length, passed in ((10_000, True), (10_001, False)):
        assert score({"format": "uri"}, "http://a/" + "x" * (length - 9)).passed is passed
        assert score({"format": "of my own"}, "x" * length).passed is True


@pytest.mark.parametrize(
    "answer",
    [
        '```json\n{"a": 1}\n```',
        '```json\r\n{"a": 1}\r\n```\r\n',
        'Sure! ```json\n{"a": 1}\n```',
        'Sure: ```json {"a": 1}``` Done',
        '```{"a": 1}```',
        '   ```json\n   {"a": 1}\n   ```',
        '1. Here:\n\n       ```json\n       {"a": 1}\n       ```',
        '~~~json\n{"a": 1}\n~~~',
        '````json\n{"a": 1}\n````',
        '```JSON title="answer.json"\n{"a": 1}\n```',
        '```{.json}\n{"a": 1}\n```',
        '```json\n{"a": 1}```',
        '```json\n{"a": 1}\n',
        '```\n{"a": 1}\n```',
        '```python\nprint(1)\n```\nThen:\n```json\n{"a": 1}\n```',
        '```jsonc\n{"a": 1}\n```',
        '{"a": 1}',
    ],
)
def test_json_in_a_fence_as_models_write_it(answer: str) -> None:
    """Wherever the fence stands and however it is closed."""
    wanted = {"properties": {"a": {"const": 1}}, "required": ["a"]}
    if "Done" in answer:
        answer = answer.replace(" Done", "")
    assert build("is_json", {"fenced": True}).evaluate({"response": answer}).passed is True
    assert (
        build("json_schema", {"schema": wanted, "fenced": True}).evaluate({"response": answer}).passed is True
    )


def test_a_long_answer_with_fences_is_read_in_time() -> None:
    """Runs of fence characters, blanks and blocks cost time in proportion only."""
    for part in ("```", "~~~\n", "``` \n", "```json ", "`" * 7 + " ", "```{", "\n"):
        text = part * (1_000_000 // len(part))
        assert build("is_json", {"fenced": True}).evaluate({"response": text}).passed is False


def test_an_answer_that_is_too_long_for_json_is_a_failed_score() -> None:
    """The bound is named."""
    with pytest.raises(ValueError, match="at most 4,000,000 are read as JSON"):
        build("is_json").evaluate({"response": "[" + "1," * 3_000_000 + "1]"})
