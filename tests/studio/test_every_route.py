"""Every route of the Studio, with addresses and forms as large and as odd as a request may bring them: each
is answered, without a fault, and holds up nothing else meanwhile.

A route that is added fails `test_every_route_is_in_the_table`. What is measured is processor time.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from fastapi.routing import iter_route_contexts
from promptlab_studio.api.bodies import Exact
from promptlab_studio.app import create_app
from promptlab_studio.forms import MOST_FIELDS
from promptlab_studio.security import MAX_ADDRESS_BYTES, MAX_PARAMETERS

from promptlab.store_lab import StoreLab
from tests.browser import labs
from tests.studio.large_lab import BODIES, FORMS, PATHS, WITHOUT, Asked

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]


LONG = MAX_ADDRESS_BYTES - 500
LONG_VALUES = (
    *("9" * LONG, "a" * LONG, "~" * LONG, "<" * (LONG // 3), "é" * (LONG // 6), "1e" + "9" * LONG),
    "latency_ms~1~",
)
SHORT_VALUES = ("\0", "\ud800", "1e999", "-1", "a~", "~", "\t", "0x10", "１", "nan", "a" * 300, "🦊")
NAMES = (
    *(
        "q",
        "range",
        "pass",
        "fail",
        "label",
        "unscored",
        "error",
        "status",
        "sort",
        "desc",
        "col",
        "page",
        "tab",
    ),
    *("run", "tag", "experiment", "metric", "change", "other", "as", "name", "version", "against", "dataset"),
    *(
        "prompt",
        "model",
        "trials",
        "temperature",
        "from",
        "next",
        "limit",
        "offset",
        "cursor",
        "text",
        "done",
    ),
    *(
        "margin",
        "column",
        "text_chars",
        "delimiter",
        "format",
        "bom",
        "archived",
        "details",
        "descending",
        "charts",
        "picked",
    ),
)
"""Parameters that some route knows."""


def many(name: str, value: Callable[[int], str]) -> str:
    """As many values of a parameter as an address has room for."""
    parts, size = list[str](), 0
    while size < LONG - 100 and len(parts) < MAX_PARAMETERS - 10:
        parts.append(urlencode({name: value(len(parts))}))
        size += len(parts[-1]) + 1
    return "&".join(parts)


DEEP = '{"not":' * 900
QUERIES: dict[str, str] = {
    "ranges": many("range", lambda n: f"latency_ms~{n}~1e300"),
    "ranges of nothing": many("range", lambda n: f"{n}~~"),
    "passes": many("pass", lambda n: f"m{n}"),
    "labels": many("label", lambda n: f"m~{n}"),
    "columns": many("col", lambda n: f"input.{n}"),
    "runs": many("run", str),
    "tags": many("tag", str),
    "metrics": many("metric", lambda n: "regex_match"),
    "parameters": "&".join(f"a{n}=" for n in range(MAX_PARAMETERS - 10)),
    "metric's parameters": many("m.exact_match.reference", lambda n: f"c{n}"),
    "a deep schema": f"metric=json_schema&p.json_schema.schema={quote(DEEP)}",
    "a long pattern": f"metric=regex_match&p.regex_match.pattern={'(a|b)' * (LONG // 6)}",
    "percent signs": "%" * LONG,
    "no pairs": "=&" * (MAX_PARAMETERS // 2),
}


def routes(lab: StoreLab) -> set[tuple[str, str]]:
    found = iter_route_contexts(create_app(lab).routes)
    return {(method, str(r.path)) for r in found for method in getattr(r, "methods", None) or ()}


async def test_every_route_is_in_the_table(tmp_path: Path) -> None:
    """One that is added is added above."""
    lab = labs.open_lab(tmp_path)
    known = (
        {("GET", path) for path in PATHS}
        | {("POST", path) for path in FORMS}
        | BODIES.keys()
        | WITHOUT.keys()
    )
    assert routes(lab) == known
    for route in iter_route_contexts(create_app(lab).routes):
        original = getattr(route, "original_route", None)
        if getattr(original, "body_field", None) is not None:
            assert isinstance(original, Exact), route.path
    await lab.close()


def soups() -> list[str]:
    """Every parameter that some route knows, with values that nobody meant, a few in each address."""
    chance, names = random.Random(7), list(NAMES)
    found = []
    for _ in range(2):
        chance.shuffle(names)
        for start in range(0, len(names), 4):
            long, *short = names[start : start + 4]
            pairs = [
                (long, chance.choice(LONG_VALUES)),
                *((name, chance.choice(SHORT_VALUES)) for name in short),
            ]
            found.append("&".join(f"{name}={quote(value, errors='surrogatepass')}" for name, value in pairs))
    return found


@pytest.mark.long
@pytest.mark.parametrize("path", [address for addresses in PATHS.values() for address in addresses])
async def test_an_address_may_be_anything(asked: Asked, path: str) -> None:
    """It is answered, and so is everybody else meanwhile."""
    await asked.send("GET", path)
    for query in (*QUERIES.values(), *soups()):
        await asked.send("GET", path, query)


HEADERS = {
    "HX-Current-URL": "http://[",
    "Origin": "http://a]b",
    "Referer": "http://[",
    "Range": "bytes=x",
    "If-None-Match": '"',
    "Accept": "text/html;q=x",
    "User-Agent": "\xff" * 5_000,
    "Cookie": "promptlab-project=\xe9; =; promptlab",
}


@pytest.mark.long
async def test_headers_may_be_anything(asked: Asked) -> None:
    """Of every page and route of the API, as parts of pages and whole; and of what changes something."""
    headers = {name: value.encode("latin-1") for name, value in HEADERS.items()}
    for paths in PATHS.values():
        await asked.send("GET", paths[0], headers=headers)
        for target in (b"\xff", b"cases", b"main", b"nav", b"title", b"live", b"answers", b"outlook"):
            part = {"HX-Request": b"true", "HX-Target": target}
            await asked.send("GET", paths[0], headers=headers | part)
    for path in ("/api/v1/prompts", "/new", "/prompts/new"):
        answer = await asked.send("POST", path, headers=headers, json={})
        assert answer.status_code in (403, 405)


@pytest.mark.long
@pytest.mark.parametrize("path", PATHS)
async def test_a_path_may_be_anything(asked: Asked, path: str) -> None:
    """Names of assets and ids of runs come from it."""
    for odd in (
        "9" * LONG,
        "a%2F" * (LONG // 4),
        "%00",
        "%FF" * 100,
        "..%2F" * 100,
        "%ED%A0%80",
        "-1",
        "1e999",
    ):
        await asked.send("GET", re.sub(r"\{\w+\}", odd, path))


NEW = b"dataset=wide&prompt=made-qa&model=simulated/demo"
FORM_FIELDS: dict[str, Callable[[], bytes]] = {
    "no fields": lambda: b"&" * 4_000_000,
    "many fields": lambda: b"a=b&" * 1_000_000,
    "the most fields": lambda: b"&".join([b"content=x&role=user&metric=exact_match"] * (MOST_FIELDS // 3)),
    "a long text": lambda: b"role=user&name=a&content=" + b"x" * 4_000_000,
    "a long text of spaces": lambda: b"role=user&name=b&content=" + b"%20" * 1_500_000,
    "brackets": lambda: b"role=user&name=c&content=" + b"%3C" * 1_500_000,
    "a broken Jinja template": lambda: (
        b"template_format=jinja2&role=user&name=d&content=" + b"{{" * 2_000_000
    ),
    "lines": lambda: b"role=user&name=e&content=" + b"%0D%0A" * 700_000,
    "a long name": lambda: b"role=user&content=x&version=0&label=l&name=" + b"n" * 4_000_000,
    "a long label": lambda: b"name=long&version=0&label=" + b"l" * 4_000_000,
    "a long version": lambda: b"name=long&label=l&version=" + b"9" * 4_000_000,
    "a long token": lambda: b"next=/&token=" + b"t" * 4_000_000,
    "a long way on": lambda: b"token=t&next=/" + b"a" * 4_000_000,
    "long tags": lambda: b"tags=" + b"a," * 2_000_000,
    "many runs": lambda: b"&".join(b"run=%d" % n for n in range(MOST_FIELDS)),
    "a deep schema": lambda: NEW + b"&metric=json_schema&p.json_schema.schema=" + b"[" * 4_000_000,
    "a long pattern": lambda: NEW + b"&metric=regex_match&p.regex_match.pattern=" + b"(a|b)" * 700_000,
    "a long number": lambda: NEW + b"&temperature=" + b"9" * 4_000_000,
    "a long model": lambda: b"dataset=wide&prompt=made-qa&model=" + b"/" * 4_000_000,
    "placeholders without columns": lambda: b"dataset=columns&prompt=many&model=simulated/demo",
}


@pytest.mark.long
@pytest.mark.parametrize("path", FORMS.values())
async def test_a_form_may_be_anything(asked: Asked, path: str) -> None:
    """A million fields, or one of four megabytes."""
    for form in FORM_FIELDS.values():
        await asked.send(
            "POST", path, content=form(), headers={"Content-Type": "application/x-www-form-urlencoded"}
        )


@pytest.mark.long
@pytest.mark.parametrize(("method", "path"), [(method, path) for (method, _), path in WITHOUT.items()])
async def test_what_is_not_there_may_have_a_long_name(asked: Asked, method: str, path: str) -> None:
    await asked.send(method, path.replace("none", "n" * LONG))


async def test_addresses_and_forms_have_a_bound_that_is_said(asked: Asked) -> None:
    """With what was sent."""
    answer = await asked.send("GET", "/", "q=" + "a" * MAX_ADDRESS_BYTES)
    assert (answer.status_code, answer.json()["detail"]) == (
        414,
        f"The address has {MAX_ADDRESS_BYTES + 3:,} bytes; it may have {MAX_ADDRESS_BYTES:,}.",
    )
    answer = await asked.send("GET", "/", "a&" * MAX_PARAMETERS)
    assert (
        answer.json()["detail"]
        == f"The address has {MAX_PARAMETERS + 1:,} parameters; it may have {MAX_PARAMETERS:,}."
    )
    answer = await asked.send("POST", "/prompt/edit", content=b"a&" * MOST_FIELDS)
    assert answer.status_code == 413
    assert (
        answer.json()["detail"] == f"This form has {MOST_FIELDS + 1:,} fields; {MOST_FIELDS:,} can be read."
    )
