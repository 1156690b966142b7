"""Prompts and datasets as values: what may be in them, and what they show of themselves."""

from __future__ import annotations

import dataclasses
from datetime import date
from typing import Any

import pytest
from pydantic import ValidationError

from promptlab import ChatMessage, Dataset, PromptTemplate
from promptlab.domain.asset_checks import checked_asset, read_asset, unreadable_asset
from promptlab.domain.assets import (
    AssetVersion,
    Column,
    DatasetContent,
    asset_from,
    content_hash,
    which_version,
)
from promptlab.domain.experiment import EVALUATION_TIMEOUT_S, CodeRef, Experiment, Metric, When
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.records import made
from promptlab.domain.results import Completion, Progress, RunRecord, ScoreSet, ShardSummary
from promptlab.domain.secrets import Secret
from promptlab.errors import DatasetError, StoreDamagedError
from promptlab.evaluators.text import text_of
from promptlab.results.run_table import RunTable
from tests.contract import builders

CONTENT = DatasetContent(
    blob="b",
    index="i",
    rows=12_345,
    bytes=1,
    shards=247,
    columns=(
        Column(name="q", type="string", rows=12_345, nulls=5),
        Column(name="a", type="integer", rows=12_000, first_missing=7),
    ),
    id_column="q",
)


def stored(kind: Any, content: dict[str, Any]) -> AssetVersion:
    return AssetVersion(
        kind=kind,
        name="rows",
        version=3,
        description="what for",
        content=content,
        hash="h",
        created_at="2026-01-01T00:00:00.000000Z",
        labels=("production",),
    )


@pytest.mark.parametrize("name", ["a", "two words", "größe", "質問", "x" * 200, "a.b-c_d", "100%"])
def test_a_name_of_one_line_is_usable(name: str) -> None:
    """In any script, with blanks inside."""
    assert PromptTemplate(name=name, user_prompt="x").name == name


@pytest.mark.parametrize(
    "name", ["", " a", "a@b", "a#b", "a/b", "a\\b", "a\nb", "\ta", "x" * 201, "a\u202eb"]
)
def test_a_name_that_references_could_not_hold_is_refused(name: str) -> None:
    """`@`, `#` and slashes have a meaning there; what cannot be seen would not be found again."""
    with pytest.raises(ValueError):
        PromptTemplate(name=name, user_prompt="x")


def test_a_hidden_character_in_a_stored_name_can_still_be_read() -> None:
    """Older versions let it in."""
    assert PromptTemplate(name="a\u202eb", version=0, user_prompt="x").version == 0


@pytest.mark.parametrize(
    ("text", "which"),
    [
        ("", {}),
        ("latest", {}),
        ("0", {"version": 0}),
        ("12", {"version": 12}),
        ("production", {"label": "production"}),
        ("-1", {"label": "-1"}),
        ("v2", {"label": "v2"}),
        ("9" * 5_000, {"version": int("9" * 1_000)}),
    ],
)
def test_a_version_is_a_number_or_a_label(text: str, which: dict[str, Any]) -> None:
    """Nothing means the latest; a number that no store counts to is one that is not there."""
    assert which_version(text) == which


def test_a_hash_does_not_depend_on_the_order_of_keys() -> None:
    """And depends on everything else."""
    assert content_hash({"a": 1, "b": [1, 2]}) == content_hash({"b": [1, 2], "a": 1})
    assert content_hash({"a": 1, "b": [1, 2]}) != content_hash({"a": 1, "b": [2, 1]})
    assert len(content_hash({})) == 64


def test_a_prompt_has_either_texts_or_messages() -> None:
    """One of them, and not both."""
    messages = (ChatMessage(role="user", content="hi"),)
    for fields in ({"system_prompt": "s"}, {"user_prompt": "u"}):
        with pytest.raises(ValueError, match="give either `messages` or"):
            PromptTemplate(name="p", messages=messages, **fields)
    with pytest.raises(ValueError, match="needs a user_prompt, a system_prompt or messages"):
        PromptTemplate(name="p")
    with pytest.raises(ValueError, match="extra"):
        PromptTemplate(name="p", user_promt="u")  # type: ignore[call-arg]


def test_a_chat_has_the_texts_that_are_there() -> None:
    """The system's first; a list of messages as it is given."""
    system, user = {"role": "system", "content": "s"}, {"role": "user", "content": "u"}
    assert PromptTemplate(name="p", system_prompt="s", user_prompt="u").chat() == [system, user]
    assert PromptTemplate(name="p", system_prompt="s").chat() == [system]
    assert PromptTemplate(name="p", user_prompt="u").chat() == [user]
    listed = PromptTemplate(name="p", messages=(ChatMessage(**user), ChatMessage(**system)))
    assert listed.chat() == [user, system]
    assert listed.content() == {
        "system_prompt": "",
        "user_prompt": "",
        "messages": [user, system],
        "template_format": "simple",
    }


def test_assets_and_messages_do_not_change() -> None:
    """A version is what it was made of."""
    prompt = PromptTemplate(name="p", messages=(ChatMessage(role="user", content="hi"),))
    for value, field in (
        (prompt, "name"),
        (prompt.messages[0], "content"),
        (Dataset(name="d", rows=[]), "rows"),
    ):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(value, field, "x")


def test_a_new_asset_has_no_version_and_no_hash() -> None:
    """Nor labels, columns or rows that anybody has counted; a dataset is true all the same."""
    prompt, dataset = PromptTemplate(name="p", user_prompt="u"), Dataset(name="d", rows=[])
    for asset in (prompt, dataset):
        assert (asset.version, asset.hash, asset.labels, asset.description) == (None, None, (), "")
    assert (len(dataset), dataset.columns, dataset.content, bool(dataset)) == (0, (), None, True)
    assert repr(dataset).startswith("Dataset(name='d'")


def test_a_stored_asset_shows_what_the_ledger_has() -> None:
    """A dataset without its rows: name, version, columns."""
    dataset = asset_from(stored("dataset", CONTENT.to_json()))
    assert isinstance(dataset, Dataset)
    assert repr(dataset) == "<Dataset rows@3: 12,345 rows of q, a>"
    assert (len(dataset), dataset.columns, dataset.content) == (12_345, ("q", "a"), CONTENT)
    assert (dataset.hash, dataset.labels, dataset.id_column) == ("h", ("production",), "q")
    prompt = asset_from(stored("prompt_template", {"user_prompt": "u"}))
    assert isinstance(prompt, PromptTemplate)
    assert (prompt.user_prompt, prompt.version, prompt.description) == ("u", 3, "what for")


def test_what_a_record_of_an_older_version_lacks_is_nothing() -> None:
    """Each field that has a default: no count, no time, no name."""
    old: dict[type[Any], dict[str, Any]] = {
        DatasetContent: {"blob": "b", "index": "i", "rows": 1, "bytes": 1, "shards": 1, "columns": ()},
        AssetVersion: {"kind": "dataset", "name": "d", "version": 0, "description": "", "content": {}},
        Completion: {"shard": 0, "case": 1, "trial": 2},
        ScoreSet: {"shard": 0, "case": 1, "trial": 2, "scores": {}},
        ShardSummary: {"number": 0, "generation": 0, "summary": {}, "part": "p"},
        RunRecord: {"run_id": "r", "name": "n", "status": "running", "experiment": {}, "cases": 1},
        Progress: {"total": 1},
    }
    old[DatasetContent] |= {"id_column": None}
    old[AssetVersion] |= {"hash": "h", "created_at": ""}
    old[RunRecord] |= {"created_at": ""}
    for kind, fields in old.items():
        record = made(kind, fields)
        lacked = {f.name: getattr(record, f.name) for f in dataclasses.fields(record) if f.name not in fields}
        unusual = {Completion: {"attempts": 1}, RunRecord: {"proven": -1}}  # no pass is proven, not the first
        assert {name: value for name, value in lacked.items() if value} == unusual.get(kind, {})
    with pytest.raises(StoreDamagedError, match="a stored ShardSummary lacks its 'part'"):
        made(ShardSummary, {"number": 0, "generation": 0, "summary": {}})
    assert made(Progress, {"total": 1, "of a newer version": 2}, done=1) == Progress(total=1, done=1)


def test_missing_values_of_a_column_are_null_or_not_there() -> None:
    """Unknown in records of versions that did not count nulls."""
    q, a = CONTENT.columns
    assert (q.missing(12_345), q.missing(12_350), a.missing(12_345)) == (5, 10, None)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (iter([{}]), "An iterator can be read only once: give list"),
        ({"train": [], "test": []}, r"give one of its parts \('train', 'test'\)"),
        ({str(n): [] for n in range(6)}, r"\('0', '1', '2', '3', '4'\)"),
        ("text", "rows cannot be a str"),
        (b"bytes", "rows cannot be a bytes"),
        (7, "rows cannot be a int"),
    ],
)
def test_what_cannot_be_rows_is_met_with_what_can(rows: Any, words: str) -> None:
    """And with the way from the one to the other."""
    with pytest.raises(DatasetError, match=words) as raised:
        Dataset(name="d", rows=rows)
    assert "a list of dicts" in str(raised.value)


@pytest.mark.parametrize("delimiter", ["", ",,", '"', "\n", "\r"])
def test_a_delimiter_is_one_character_that_no_field_needs(delimiter: str) -> None:
    """No quote and no end of line."""
    with pytest.raises(ValueError, match="delimiter"):
        Dataset(name="d", file_path="x.csv", delimiter=delimiter)
    assert Dataset(name="d", file_path="x.csv", delimiter="\t").delimiter == "\t"


def test_a_version_that_cannot_be_read_has_a_stand_in() -> None:
    """It says why, and is listed in its place; a sound one is itself."""
    sound = stored("dataset", CONTENT.to_json())
    assert checked_asset(sound) is sound
    for kind, content in (
        ("dataset", {"rows": 1}),
        ("prompt_template", {"user_prompt": 7}),
        ("prompt_template", {}),
    ):
        broken = stored(kind, content)
        with pytest.raises(StoreDamagedError, match="The content of rows@3 in the ledger cannot be read"):
            read_asset(broken)
        found = checked_asset(broken)
        assert (found.kind, found.name, found.version, found.labels) == (kind, "rows", 3, ())
        assert found.description.startswith("The content of rows@3")
        assert read_asset(found).name == "rows"
    assert len(unreadable_asset("dataset", "x", 1, "why").content["columns"]) == 0


@pytest.mark.parametrize(
    ("written", "words", "row", "holds"),
    [
        ({"is": "math"}, 'kind is "math"', "math", True),
        ({"is": "math"}, 'kind is "math"', "code", False),
        ({"is_not": "math"}, 'kind is not "math"', "code", True),
        ({"is_not": "math"}, 'kind is not "math"', "math", False),
        ({"in": [1, None]}, "kind in 1, null", None, True),
        ({"in": [1, None]}, "kind in 1, null", True, False),
        ({"in": list(range(21))}, f"kind in {', '.join(map(str, range(20)))}, …", 20, True),
        ({"in": list(range(20))}, f"kind in {', '.join(map(str, range(20)))}", 20, False),
    ],
)
def test_a_condition_is_said_in_words(written: dict[str, Any], words: str, row: Any, holds: bool) -> None:
    """Twenty values of it; and it holds for the rows that it names."""
    when = When.model_validate({"column": "kind", **written})
    assert when.described() == words
    assert when.holds({"kind": row}) == holds
    assert when.model_dump() == {"column": "kind", **written}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        (True, "true"),
        (1.5, "1.5"),
        (["ü", 1], '["ü", 1]'),
        ((1, 2), "[1, 2]"),
        ({"a": date(2024, 2, 29)}, '{"a": "2024-02-29"}'),
        (date(2024, 2, 29), "2024-02-29"),
    ],
)
def test_values_are_compared_as_text(value: Any, text: str) -> None:
    """Of JSON as JSON; of anything else as Python writes it."""
    assert text_of(value, "x") == text


@pytest.mark.parametrize(
    "value",
    [
        CodeRef(qualname="f"),
        When.model_validate({"column": "kind", "is": "math"}),
        Metric(name="m", metric="length", column_mapping={}),
        Experiment(name="e", dataset={"name": "d", "version": 0, "hash": "h"}, model={"name": "a/b"}),
        ModelConfig(name="a/b"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_run_records_cannot_be_changed(value: Any) -> None:
    """Its hash is that of what it was."""
    name = next(iter(type(value).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(value, name, getattr(value, name))


def test_a_metric_of_which_an_older_version_recorded_less_is_a_plain_one() -> None:
    """It calls no model, has a minute, and is higher the better."""
    metric = Metric.model_validate({"name": "m", "metric": "length", "column_mapping": {}})
    assert (metric.needs_embedding, metric.higher_is_better, metric.timeout_s) == (False, True, None)
    assert EVALUATION_TIMEOUT_S == 60.0


def test_a_configuration_shows_no_key() -> None:
    """Nor that there is one."""
    assert "api_key=" not in repr(ModelConfig(name="openai/x", api_key="sk-0123456789abcdef"))


def test_a_run_that_records_no_trials_has_one() -> None:
    """As runs of older versions have."""
    table = RunTable(None, None, builders.run("r", experiment={}), CONTENT, ())  # type: ignore[arg-type]
    assert table.trials == 1


def test_a_secret_shows_no_key() -> None:
    """Wherever it is printed."""
    assert "0123456789" not in repr(Secret("sk-0123456789", ("https://api.openai.com:443",)))
