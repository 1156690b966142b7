"""Inputs as large as a request or a file may bring: they are read, or refused in few words, in linear time.

What is quadratic in one of these takes minutes, and the time limit ends the test.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from promptlab.assets.json_rows import repeated_key
from promptlab.assets.row_checks import SeenColumns
from promptlab.domain.assets import Column, DatasetContent, PromptTemplate
from promptlab.domain.explain import explain
from promptlab.domain.templates import check_placeholders, compile_template, placeholders
from promptlab.errors import ConfigError, PromptLabError, TemplateError, UnknownNameError
from promptlab.experiments.config import ExperimentConfig
from promptlab.experiments.file import load_experiment

pytestmark = pytest.mark.timeout(60)

MANY, LONG = 40_000, 1_000_000
FEW_WORDS = 20_000
"""Characters that an error may have."""


def content(names: list[str]) -> DatasetContent:
    columns = tuple(Column(name=name, type="string", rows=1) for name in names)
    return DatasetContent(blob="b", index="i", rows=1, bytes=1, shards=1, columns=columns, id_column=None)


def template(text: str) -> PromptTemplate:
    return PromptTemplate(name="p", user_prompt=text)


@pytest.mark.parametrize(
    "fields",
    [
        {f"unknown_{n}": n for n in range(MANY)},
        {"x" * LONG: 1},
        {"mod" + "e" * LONG: 1, "prompt_templat" + "e" * LONG: 2},
        {"evaluation": [{"metric": 1}] * MANY},
        {"dataset": {f"unknown_{n}": n for n in range(MANY)}},
    ],
    ids=["many", "long", "long and alike", "nested", "in a dataset"],
)
def test_wrong_fields_are_told_in_few_words(fields: dict[str, Any]) -> None:
    """However many there are, and however long."""
    with pytest.raises(ValidationError) as caught:
        ExperimentConfig.model_validate(fields)
    said = explain(caught.value, "experiment", ExperimentConfig)
    assert said.startswith("This experiment is not valid") and len(said) < FEW_WORDS


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("".join(f"<n{n}>" for n in range(MANY)), MANY),
        ("<" * LONG, 0),
        ("\\" * LONG + "<a>", 1),
        ("<a" * (LONG // 2), 0),
        ("<" + "a" * LONG + ">", 1),
        ("<a>" * (LONG // 4), 1),
    ],
    ids=["many names", "brackets", "backslashes", "open", "a long name", "one name"],
)
def test_long_templates_are_read_and_filled(text: str, count: int) -> None:
    """As many placeholders as a text has room for, and text that only looks like some."""
    names = placeholders(template(text))
    assert len(names) == count
    (message,) = compile_template(template(text)).render(dict.fromkeys(names, "v"))
    assert "v" in message["content"] or not names


@pytest.mark.parametrize("length", [8, 2_000])
def test_many_placeholders_without_a_column_are_told_in_few_words(length: int) -> None:
    """Beside as many columns, whose names are alike."""
    many = MANY if length < 100 else 500
    wanted = "".join(f"<{'p' * length}{n}>" for n in range(many))
    with pytest.raises(TemplateError) as caught:
        check_placeholders(template(wanted), content([f"{'q' * length}{n}" for n in range(many)]))
    assert len(str(caught.value)) < FEW_WORDS


def _yaml(text: str) -> Callable[[Path], object]:
    def load(folder: Path) -> object:
        path = folder / "experiment.yaml"
        path.write_text(text, encoding="utf-8")
        return load_experiment(path)

    return load


@pytest.mark.parametrize(
    "read",
    [
        _yaml(f"{'x' * 100_000}: 1\n"),
        _yaml("".join(f"unknown_{n}: 1\n" for n in range(3_000))),
        _yaml(f"prompt_template:\n  name: p\n  ? {'user_promp' * 10_000}\n  : x\n"),
    ],
    ids=["a long field", "many fields", "a long field of a prompt"],
)
def test_files_with_wrong_fields_are_refused_in_few_words(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    """The first that is wrong is named, cut where it is long."""
    with pytest.raises((ConfigError, PromptLabError)) as caught:
        read(tmp_path)
    assert len(str(caught.value)) < FEW_WORDS


def test_a_long_name_that_is_not_known_is_cut() -> None:
    """Beside names that are nearly as long."""
    error = UnknownNameError("metric", "a" * LONG, ["a" * 150 + str(n) for n in range(50)])
    assert "Did you mean" in str(error) and len(str(error)) < FEW_WORDS


def test_rows_of_ever_new_shapes_are_counted() -> None:
    """Each row with a column of its own."""
    columns = SeenColumns()
    for number in range(MANY):
        columns.add(number, {f"c{number}": None})
    found = columns.result(MANY)
    assert len(found) == MANY
    assert {(c.rows, c.nulls, c.missing(MANY)) for c in found} == {(1, 1, MANY)}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (b'{"a": {"b": 1, "b": 2}}', "b"),
        (b'[{"a": 1}, {"a": 2}]', None),
        (b'{"a:": "b:", "c": "\\"d\\": 1"}', None),
        (b'{"n": 1e400, "a": 1, "\\u0061": 2}', "a"),
        (b'{"n": 123456789012345678901234567890, "a": 1, "\\u0061": 2}', "a"),
        (b'{"a": 1, "a"', None),
        (b"[" * LONG, None),
        (b"{" + b",".join(b'"k%d":1' % n for n in range(MANY)) + b',"k7":2}', "k7"),
    ],
)
def test_a_key_that_is_there_twice_is_found(text: bytes, key: str | None) -> None:
    """At any depth, in its other spellings, and not in texts; what is no JSON is left to its reader."""
    assert repeated_key(text) == key
