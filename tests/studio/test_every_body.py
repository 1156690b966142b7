"""Bodies as large and as odd as a request may bring them, at every route that takes one: each is answered in
few words, and holds up nothing else meanwhile."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
import pytest

from tests.studio.large_lab import BODIES, Asked

pytestmark = [pytest.mark.long, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]


def experiment(**more: Any) -> bytes:
    """An experiment that would be refused, so that nothing runs: it has one metric too many."""
    rows = [{"q": "x", "answer": "y"}]
    fields = {
        "prompt_template": {"name": "p", "user_prompt": "<q>"},
        "dataset": {"name": "d", "rows": rows},
        "model": "simulated/demo",
    }
    metric = {"metric": "exact_match", "name": "last", "column_mapping": {"reference": "nowhere"}}
    return orjson.dumps({**fields, **more, "evaluation": [*more.get("evaluation", ()), metric]})


def schema(value: Any) -> bytes:
    return experiment(evaluation=[{"metric": "json_schema", "params": {"schema": value}}])


def prompt(text: str, template_format: str = "simple", name: str = "p") -> dict[str, str]:
    return {"name": name, "user_prompt": text, "template_format": template_format}


# Made when asked for: together they are half a gigabyte, and every worker imports this file.
TEXTS: dict[str, Callable[[], str]] = {
    "brackets": lambda: "<" * 4_000_000,
    "open brackets": lambda: "<a" * 2_000_000,
    "placeholders": lambda: "".join(f"<n{n}>" for n in range(400_000)),
    "one placeholder": lambda: "<q>" * 1_000_000,
    "backslashes": lambda: "\\" * 4_000_000 + "<q>",
    "a long placeholder": lambda: f"<{'a' * 4_000_000}>",
    "combining marks": lambda: f"<a{chr(0x301) * 1_000_000}>",
    "another syntax": lambda: "{{q}}" * 800_000,
    "braces": lambda: "{" * 4_000_000,
    "spaces in braces": lambda: "{ " * 2_000_000,
    "dollars": lambda: "$" * 4_000_000,
}


def as_prompt(text: str) -> bytes:
    return orjson.dumps(prompt(TEXTS[text](), name=text.replace(" ", "-")))


def in_experiment(text: str) -> bytes:
    return experiment(prompt_template=prompt(TEXTS[text]()))


JSON_BODIES: dict[str, Callable[[], bytes]] = {
    "deep lists": lambda: b"[" * 2_000_000 + b"]" * 2_000_000,
    "deep objects": lambda: b'{"a":' * 900_000,
    "lists": lambda: b"[%b1]" % (b"[]," * 1_600_000),
    "a huge integer": lambda: b'{"trials":%b}' % (b"9" * 4_100_000),
    "wide integers": lambda: b'{"trials":%b,"limit":1,"version":%b}' % (b"9" * 4_000, b"9" * 4_000),
    "a huge exponent": lambda: b'{"trials":1e999999999,"limit":1e999,"version":1e999,"size_bytes":1e999}',
    "a long fraction": lambda: b'{"trials":0.%b}' % (b"9" * 4_100_000),
    "a key many times": lambda: b'{%b"a":1}' % (b'"a":1,' * 700_000),
    "many keys": lambda: b"{%b}" % b",".join(b'"k%d":1' % n for n in range(400_000)),
    "a long name": lambda: orjson.dumps({"name": "n" * 4_100_000, "user_prompt": "x", "rows": [{"q": 1}]}),
    "halves of surrogate pairs": lambda: b'{"name":"\\ud800","user_prompt":"\\ud800","tags":["\\ud800"]}',
    "empty rows": lambda: b'{"name":"d","rows":[%b{}]}' % (b"{}," * 1_500_000),
    "wrong rows": lambda: b'{"name":"d","rows":[%b1]}' % (b"1," * 900_000),
    "rows of many columns": lambda: (
        b'{"name":"d","rows":[{%b}]}' % b",".join(b'"k%d":1' % n for n in range(300_000))
    ),
    "deep rows": lambda: b'{"name":"d","rows":[{"a":%b%b}]}' % (b"[" * 900, b"]" * 900),
    "many rows": lambda: b'{"name":"e","rows":[%b{"a":2}]}' % (b'{"a":1},' * 300_000),
    "messages": lambda: b'{"name":"p","messages":[%b1]}' % (b'{"role":"user","content":"x"},' * 150_000),
    "wrong messages": lambda: b'{"name":"p","messages":[%b1]}' % (b'{"role":1},' * 400_000),
    "wrong tags": lambda: b'{"tags":[%b1]}' % (b"1," * 900_000),
    "a long tag": lambda: orjson.dumps({"tags": ["a" * 4_100_000]}),
    "a long file name": lambda: orjson.dumps({"file_name": ".csv" * 1_200_000, "size_bytes": 1}),
    "no JSON": lambda: b"\xff" * 4_100_000,
    "broken Jinja": lambda: orjson.dumps(prompt("{{" * 2_000_000, "jinja2", "j1")),
    "long Jinja": lambda: orjson.dumps(prompt("{{ q }}" * 600_000, "jinja2", "j2")),
    "deep Jinja": lambda: orjson.dumps(prompt("{% if q %}" * 400_000, "jinja2", "j3")),
    **{text: partial(as_prompt, text) for text in TEXTS},
}
EXPERIMENTS: dict[str, Callable[[], bytes]] = {
    **{text: partial(in_experiment, text) for text in TEXTS},
    "placeholders × columns": lambda: experiment(
        prompt_template=prompt("".join(f"<cc{n}>" for n in range(300_000))), dataset="columns"
    ),
    "columns × placeholders": lambda: experiment(prompt_template="many", dataset="columns"),
    "another syntax × columns": lambda: experiment(
        prompt_template=prompt("".join(f"{{{{c{n % 2_000:04}}}}}" for n in range(400_000))), dataset="columns"
    ),
    "a long metric": lambda: experiment(evaluation=[{"metric": "exact_matc" * 400_000}]),
    "many metrics": lambda: experiment(evaluation=[{"metric": 1}] * 300_000),
    "a long column": lambda: experiment(
        evaluation=[{"metric": "exact_match", "column_mapping": {"reference": "a" * 4_000_000}}]
    ),
    "a long mapping": lambda: experiment(
        evaluation=[{"metric": "exact_match", "column_mapping": {f"r{n}": 1 for n in range(300_000)}}]
    ),
    "many parameters": lambda: experiment(
        evaluation=[{"metric": "exact_match", "params": {f"p{n}": 1 for n in range(300_000)}}]
    ),
    "a long parameter": lambda: experiment(
        evaluation=[{"metric": "exact_match", "params": {"ignore_cas" * 400_000: 1}}]
    ),
    "a long pattern": lambda: experiment(
        evaluation=[{"metric": "regex_match", "params": {"pattern": "(a|b)" * 800_000}}]
    ),
    "patterns": lambda: experiment(
        evaluation=[
            {"metric": "regex_match", "name": f"m{n}", "params": {"pattern": f"{'(a|b)' * 1_900}{n}"}}
            for n in range(10)
        ]
    ),
    "repetitions of repetitions": lambda: experiment(
        evaluation=[
            {"metric": "regex_match", "params": {"pattern": "((((a{1,1000}){1,1000}){1,1000}){1,1000})"}}
        ]
    ),
    "a large schema": lambda: schema({"properties": {f"p{n}": {"type": "string"} for n in range(9_000)}}),
    "too large a schema": lambda: schema(
        {"properties": {f"p{n}": {"type": "string"} for n in range(100_000)}}
    ),
    "a schema of references": lambda: schema(
        {
            "$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(30)}
            | {"d30": {}},
            "$ref": "#/$defs/d0",
        }
    ),
    "a schema of patterns": lambda: schema(
        {"patternProperties": {f"{'(a|b)' * 1_000}{n}": {} for n in range(900)}}
    ),
    "many values of a condition": lambda: experiment(
        evaluation=[{"metric": "length", "when": {"column": "q", "in": [[]] * 300_000}}]
    ),
    "a long model": lambda: experiment(model="/" * 4_000_000),
    "a long provider": lambda: experiment(model=f"openai/{'x' * 4_000_000}"),
    "many fields of a model": lambda: experiment(
        model={"name": "simulated/demo", **{f"x{n}": 1 for n in range(300_000)}}
    ),
    "a wide integer of a model": lambda: experiment(
        model={"name": "simulated/demo", "max_tokens": 1}
    ).replace(b'"max_tokens":1', b'"max_tokens":1' + b"0" * 4_000),
    "infinity": lambda: experiment(model={"name": "simulated/demo", "temperature": 1}).replace(
        b'"temperature":1', b'"temperature":1e999'
    ),
    "a long endpoint": lambda: experiment(
        model={"name": "openai/x", "endpoint": f"http://{'@' * 4_000_000}"}
    ),
    "long references": lambda: experiment(prompt_template="@" * 299, dataset="columns@" + "9" * 290),
}
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(("method", "path"), [(method, path) for (method, _), path in BODIES.items()])
async def test_a_body_may_be_anything(asked: Asked, method: str, path: str) -> None:
    """What is refused is refused in few words."""
    for body in JSON_BODIES.values():
        answer = await asked.send(method, path, content=body(), headers=JSON)
        assert answer.is_success or len(answer.content) < 50_000, answer.text[:500]


@pytest.mark.parametrize("name", EXPERIMENTS)
async def test_an_experiment_may_be_anything(asked: Asked, name: str) -> None:
    """It is refused, in few words; its preview is no larger than an answer may be."""
    body = EXPERIMENTS[name]()
    answer = await asked.send("POST", "/api/v1/runs", content=body, headers=JSON)
    assert 400 <= answer.status_code < 500 and len(answer.content) < 50_000, answer.text[:500]
    fields = re.sub(rb'"model":("[^"]*"|\{[^}]*\}),', b"", body)
    preview = await asked.send("POST", "/api/v1/preview", content=fields, headers=JSON)
    assert len(preview.content) < 6_000_000
