"""Bounds hold to the last one: the largest that is allowed, and one more than that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from promptlab import Dataset, ExperimentConfig, ModelConfig, ModelError, ModelResponse, PromptTemplate, Score
from promptlab.domain.choice import checked_tags
from promptlab.domain.names import visible
from promptlab.domain.results import Completion, Progress, described
from promptlab.domain.said import SHOWN, Messages, count_message, most_frequent
from promptlab.domain.secrets import origin_of
from promptlab.domain.statistics import as_count, as_number, as_object
from promptlab.domain.templates import check_placeholders
from promptlab.engine.answers import checked, said_by
from promptlab.errors import ConfigError, PromptLabError, StoreDamagedError, TemplateError
from promptlab.evaluators.base import to_score
from promptlab.evaluators.foreign import score_of
from promptlab.evaluators.numerals import only_number
from promptlab.evaluators.patterns import SafePattern
from promptlab.evaluators.registry import build
from promptlab.evaluators.schemas import Schema
from promptlab.evaluators.sizes import check_lengths, check_product
from promptlab.evaluators.structure import IsJson, unfenced
from promptlab.evaluators.text import quote, short
from promptlab.queries.opened import cut as cut_row
from tests.unit.test_templates import dataset


def model(**fields: Any) -> ModelConfig:
    return ModelConfig.model_validate({"name": "openai/x", **fields})


def schema(nodes: int, pattern: str = "a") -> Schema:
    """A schema of so many values: itself, `pattern`, `enum` and what is in that."""
    return Schema({"pattern": pattern, "enum": list(range(nodes - 3))}, timeout_s=10, check_format=True)


def answered(text: str) -> ModelResponse:
    return checked(ModelResponse(text), 1.0, "m")


@pytest.mark.parametrize(
    ("made", "most", "words"),
    [
        pytest.param(lambda n: checked_tags([str(i) for i in range(n)]), 50, "51 tags: .* 50", id="tags"),
        pytest.param(lambda n: checked_tags(["x" * n]), 100, "101 characters: .* 1 to 100", id="tag"),
        pytest.param(lambda n: Dataset(name="x" * n, rows=[{}]), 200, "at most 200", id="name"),
        pytest.param(lambda n: model(**{f"zz{i}": i for i in range(n)}), 100, "at most 100", id="parameters"),
        pytest.param(lambda n: model(max_concurrent_tasks=n), 10_000, "10000", id="max_concurrent_tasks"),
        pytest.param(lambda n: model(max_retries=n), 100, "100", id="max_retries"),
        pytest.param(
            lambda n: SafePattern("a" * n, name="pattern", timeout_s=1),
            10_000,
            "at most 10,000",
            id="pattern",
        ),
        pytest.param(schema, 20_000, "more than 20,000", id="values of a schema"),
        pytest.param(lambda n: schema(9, "a" * n), 10_000, "at most 10,000", id="pattern of a schema"),
        pytest.param(
            lambda n: check_product(n, 1, unit="words", remedy=""), 10**9, "1,000,000,000", id="comparisons"
        ),
        pytest.param(lambda n: check_lengths("", "a" * n), 10**6, "at most 1,000,000", id="compared texts"),
        pytest.param(
            lambda n: IsJson().evaluate({"response": f'"{"a" * (n - 2)}"'}),
            4_000_000,
            "4,000,000",
            id="is_json",
        ),
        pytest.param(lambda n: score_of({f"s{i}": 0.5 for i in range(n)}), 50, "at most 50", id="scores"),
        pytest.param(
            lambda n: score_of([{"name": f"s{i}", "score": 1} for i in range(n)]),
            50,
            "at most 50",
            id="listed scores",
        ),
        pytest.param(to_score, 10**150, "at most 1e.150", id="score"),
        pytest.param(lambda n: to_score(-n), 10**150, "at most 1e.150", id="negative score"),
        pytest.param(lambda n: answered("a" * n), 16 << 20, "16,777,217 .* 16,777,216", id="answer"),
    ],
)
def test_the_largest_is_taken_and_no_more(made: Callable[[int], Any], most: int, words: str) -> None:
    """And what is refused hears the bound."""
    made(most)
    more = most + 1 if most < 2**53 else most * 2
    with pytest.raises((ValueError, PromptLabError), match=words):
        made(more)


@pytest.mark.parametrize(
    ("field", "least"),
    [
        ("max_concurrent_tasks", 1),
        ("max_retries", 0),
        ("max_tokens", 1),
        ("temperature", 0),
        ("input_usd_per_mtok", 0),
        ("output_usd_per_mtok", 0),
    ],
)
def test_a_models_least_values_are_taken_and_no_less(field: str, least: int) -> None:
    """No retries, a price of nothing and one call in flight are right."""
    assert getattr(model(**{field: least}), field) == least
    with pytest.raises(ValueError, match=f"{least}"):
        model(**{field: least - 1})


def test_a_tag_is_not_empty() -> None:
    """One character is enough, and a tag given twice is one."""
    assert checked_tags(["a", "b", "a"]) == ("a", "b")
    with pytest.raises(ConfigError, match="tag '' has 0 characters: a tag has 1 to 100"):
        checked_tags([""])
    with pytest.raises(ConfigError, match=r"tag 'x{20}…' has 1,000 characters"):
        checked_tags(["x" * 1_000])


@pytest.mark.parametrize(
    ("cut", "most", "kept"),
    [
        pytest.param(lambda text: to_score(Score(label=text)).label, 500, 500, id="label"),
        pytest.param(lambda text: to_score(Score(1.0, reason=text)).reason, 20_000, 20_000, id="reason"),
        pytest.param(short, 200, 199, id="a metric's own reason"),
        pytest.param(lambda text: quote(text)[1:-1], 80, 79, id="quotation"),
        pytest.param(lambda text: next(iter(counted(text)["timeout"])), 300, 299, id="message of an error"),
    ],
)
def test_texts_of_the_greatest_length_are_kept_whole(cut: Callable[[str], str], most: int, kept: int) -> None:
    """One more, and a sign says that something is gone."""
    assert cut("x" * most) == "x" * most
    short = cut("x" * (most + 1))
    assert short.startswith("x" * kept + "…") and len(short) < most + 50


def counted(*messages: str) -> Messages:
    found: Messages = {}
    for message in messages:
        count_message(found, "timeout", message)
    return found


def test_messages_of_errors_are_bounded() -> None:
    """The ten most frequent of each type, the first in the alphabet of equal ones, of fifty types."""
    found = counted(*(f"m{n:02}" for n in range(20)))
    assert len(found["timeout"]) == 20
    assert most_frequent(found)["timeout"] == {f"m{n:02}": 1 for n in range(10)}
    count_message(found, "timeout", "m19", 4)
    assert most_frequent(found, 1) == {"timeout": {"m19": 5}}
    count_message(found, "timeout", "m20")
    assert found["timeout"] == {"m19": 5} | {f"m{n:02}": 1 for n in range(9)}
    for n in range(60):
        count_message(found, f"type{n}", "x")
        count_message(found, f"type{n}", "x")
    assert len(found) == 50 and found["type48"] == {"x": 2} and "type49" not in found


def test_metadata_of_a_score_has_a_greatest_size() -> None:
    """100,000 bytes as JSON; of more a note stays."""
    for size, kept in ((100_000, True), (100_001, False)):
        metadata = to_score(Score(1.0, metadata={"k": "x" * (size - len('{"k":""}'))})).metadata
        assert ("k" in metadata) == kept
    assert metadata == {"left_out": "metadata of 100,001 bytes; at most 100,000 are kept"}


def test_metadata_of_an_answer_has_a_greatest_size() -> None:
    """A megabyte as JSON; of more a note stays."""
    for size, kept in ((1 << 20, True), ((1 << 20) + 1, False)):
        answer = ModelResponse("a", metadata={"k": "x" * (size - len('{"k":""}'))})
        metadata = checked(answer, 1.0, "m").metadata
        assert ("k" in metadata) == kept
    assert metadata == {"left_out": "metadata of 1,048,577 bytes; at most 1,048,576 are kept"}


def test_counts_of_tokens_have_a_greatest_value() -> None:
    """Nobody's answer has as many; less than none is none that is known."""
    for tokens, known in ((0, True), (2**53 - 1, True), (2**53, False), (-1, False)):
        answer = checked(ModelResponse("a", prompt_tokens=tokens, completion_tokens=tokens), 1.0, "m")
        assert (answer.prompt_tokens == tokens, answer.completion_tokens == tokens) == (known, known)


async def test_errors_have_a_greatest_length() -> None:
    """2,000 characters, the class among them, and 200 of a type that a user's own model gives."""
    words = "x" * 1_988
    assert described(ValueError(words)) == f"ValueError: {words}"
    assert described(ValueError(words + "y")) == f"ValueError: {words}"
    error = await said_by(ModelError(words + "yz", type="t" * 201))
    assert (str(error), error.type) == (words, "t" * 200 + "… (cut: 201 characters)")
    assert (await said_by(ModelError("x", type="t" * 200))).type == "t" * 200


def test_a_reference_that_is_a_number_has_a_greatest_length() -> None:
    """20,000 characters, however many of them are blank."""
    assert only_number(" " * 19_999 + "7") == 7
    assert only_number(" " * 20_000 + "7") == "is too long for one number: 20,001 characters"


def test_a_hundred_blocks_of_an_answer_are_looked_at() -> None:
    """The hundredth is found, the one after it is not."""
    other = "```python\npass\n```\n"
    assert unfenced(other * 99 + "```json\n[1]\n```") == "[1]\n"
    assert unfenced(other * 100 + "```json\n[1]\n```") != "[1]\n"


def test_a_case_that_was_cut_says_so_in_every_providers_words() -> None:
    """Whatever case they are written in; any other reason is none."""
    for reason in (
        "length",
        "max_tokens",
        "MAX_TOKENS",
        "max_output_tokens",
        "model_context_window_exceeded",
    ):
        assert Completion(shard=0, case=0, trial=0, finish_reason=reason).was_cut
    for reason in ("stop", "", None):
        assert not Completion(shard=0, case=0, trial=0, finish_reason=reason).was_cut


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (as_object, "x must be an object, not "),
        (as_number, "x must be a finite number, not "),
        (as_count, "x must be a whole number, 0 or more, not "),
    ],
)
def test_a_stored_value_that_is_wrong_is_shown_in_part(read: Callable[[Any, str], Any], words: str) -> None:
    """80 characters of it."""
    with pytest.raises(StoreDamagedError) as raised:
        read("v" * 81, "x")
    assert str(raised.value) == words + repr("v" * 80)


def test_a_name_with_something_hidden_in_it_is_shown_in_part() -> None:
    """60 characters of it, and where the hidden one stands."""
    with pytest.raises(ValueError) as raised:
        visible("n" * 60 + "\u202e")
    words = "has U+202E (RIGHT-TO-LEFT OVERRIDE) at position 61: leave it out"
    assert str(raised.value) == f"{'n' * 60 + '…'!r} {words}"
    with pytest.raises(
        ValueError, match=r"^'\\n' has U\+000A \(a control character\) at position 1: leave it out$"
    ):
        visible("\n")
    assert visible("n" * 100) == "n" * 100


def test_of_many_placeholders_without_a_column_twenty_are_named() -> None:
    """With a hint for the first three, and twenty columns; long names are cut at 100 characters."""
    columns = [f"column_{n}" for n in range(22)]
    template = PromptTemplate(name="qa", user_prompt=" ".join(f"<colum_{n}>" for n in range(22)))
    with pytest.raises(TemplateError) as raised:
        check_placeholders(template, dataset(*columns))
    said = str(raised.value)
    assert "<colum_19> and 2 more" in said and "<colum_20>" not in said
    assert "'column_19' and 2 more" in said and "column_20" not in said
    assert said.count("Did you mean") == 3 and "Did you mean 'column_2' for 'colum_2'?" in said
    template = PromptTemplate(name="qa", user_prompt=f"<{'p' * 101}>")
    with pytest.raises(TemplateError) as raised:
        check_placeholders(template, dataset("c" * 101, "d" * 100))
    assert f"<{'p' * 99}…." in str(raised.value)
    assert f"the columns {'c' * 100 + '…'!r}, {'d' * 100!r}." in str(raised.value)


def test_a_parameter_that_is_wrong_is_shown_in_part() -> None:
    """80 characters of it, as text or as what it is."""
    with pytest.raises(ConfigError, match=rf"\(got '{'u' * 80}'\)"):
        build("length", {"unit": "u" * 81})
    with pytest.raises(ConfigError, match=r"\(got \[(0, ){26}0\)"):
        build("length", {"min": [0] * 100})


def test_of_many_faults_of_a_configuration_twenty_are_told() -> None:
    """One line each, with at most 200 characters of a name and of a value."""
    fine = {"dataset": "d", "prompt_template": "p", "model": "simulated/echo"}
    with pytest.raises(ConfigError) as raised:
        ExperimentConfig.parse({**fine, **{f"zzz{n:02}": 1 for n in range(22)}})
    said = str(raised.value)
    assert "zzz19" in said and "zzz20" not in said and said.endswith("and 2 more")
    with pytest.raises(ConfigError) as raised:
        ExperimentConfig.parse({**fine, "z" * 201: 1, "trials": "t" * 300})
    said = str(raised.value)
    assert f"  - {'z' * 200}…: unknown field" in said
    assert f"(got '{'t' * 199}…)" in said


def test_a_row_of_a_list_is_cut_behind_its_greatest_length() -> None:
    """And says which of its texts were."""
    row = {"a": "x" * 300, "b": "x" * 301, "n": 10**400}
    assert cut_row(row, 300) == {**row, "b": "x" * 300, "cut": ["b"]}


def test_a_reference_that_is_no_number_is_quoted_in_part() -> None:
    """Forty characters tell which it is."""
    text = "1" + ".2" * 60
    assert only_number(text) == f"is not one number: {text[:40]!r}"


def test_of_each_type_of_error_three_messages_are_seen() -> None:
    """The most frequent ones."""
    messages: Messages = {}
    for number in range(5):
        count_message(messages, "timeout", f"after {number} s", 5 - number)
    assert list(most_frequent(messages, SHOWN)["timeout"]) == ["after 0 s", "after 1 s", "after 2 s"]


def test_progress_begins_with_nothing_used() -> None:
    """None would say that it is unknown."""
    begun = Progress(total=3)
    assert (begun.done, begun.prompt_tokens, begun.completion_tokens, begun.cost_usd) == (0, 0, 0, 0.0)


@pytest.mark.parametrize(
    ("written", "same"),
    [
        ("https://api.openai.com", "https://api.openai.com:443"),
        ("http://localhost", "http://localhost:80"),
        ("http://[::1]", "http://[::1]:80"),
    ],
)
def test_a_port_that_is_left_out_is_that_of_the_scheme(written: str, same: str) -> None:
    """So that a key goes to the same host however it is written."""
    assert origin_of(written) == origin_of(same) == same
