"""What of an answer is judged: the steps of `extract`, alone, in a run, and where they are written."""

from __future__ import annotations

import json
import re
import string
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from promptlab import Dataset, Model, ModelResponse, PromptLab, PromptTemplate
from promptlab.domain.extraction import Step, Steps
from promptlab.errors import ConfigError
from promptlab.evaluators.choices import chosen
from promptlab.evaluators.extraction import NothingError, extraction
from promptlab.evaluators.registry import build
from tests.unit.phrasings import NONE, phrasings

DATA = next(
    (p / "shared" / "data" for p in Path(__file__).resolve().parents if (p / "shared" / "data").is_dir()),
    None,
)
STEPS: TypeAdapter[tuple[Step, ...]] = TypeAdapter(Steps)


def take(written: Any, text: Any) -> str:
    return extraction(STEPS.validate_python(written)).of(text, "response")


@pytest.mark.parametrize(
    ("written", "text", "expected"),
    [
        ("last_number", "It is 3 of 1,234.5 apples.", "1,234.5"),
        ("last_number", 18, "18"),
        ("boxed", r"so \boxed{1} and \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        ("boxed", r"\boxed 7", "7"),
        ("boxed", r"\boxed{7} or \boxed{8", "7"),
        ({"after": "Answer:"}, "Answer: 1\n**ANSWER:** 18 apples ", "18 apples"),
        ({"after": "Answer:", "take": "first"}, "Answer: 1\nanswer: 18", "1\nanswer: 18"),
        ({"json": "$.answer"}, '{"answer": {"n": [1, 2]}}', '{"n": [1, 2]}'),
        ({"json": "answer.n[-1]"}, 'Here:\n```json\n{"answer": {"n": [1, 2]}}\n```', "2"),
        ({"json": "$['the answer']"}, 'I say {"x": 1} {"the answer": "B"} so', "B"),
        ({"regex": r"(\d+) apples"}, "3 apples, 4 apples", "4"),
        ({"regex": r"(\d+) apples", "take": "first"}, "3 apples, 4 apples", "3"),
        ("choice", "The answer is (c).", "C"),
        ({"choice": "XYZ"}, "I choose Y.", "Y"),
        ("code_block", "```\na\n```\n```python\nb = 1\n```", "b = 1\n"),
        ({"code_block": "sql"}, "```sql\nSELECT 1\n```\n```python\nb = 1\n```", "SELECT 1\n"),
        ({"strip": "reasoning"}, "<think>18?</think>\n17", "17"),
        ({"strip": "reasoning"}, "18?</think>17<think>or 16", "17"),
        (
            [{"strip": "reasoning"}, {"after": "####"}, "last_number"],
            "<think>#### 1</think>#### it is 18 $",
            "18",
        ),
        ([], "as it is", "as it is"),
    ],
)
def test_a_step_takes_its_part(written: Any, text: Any, expected: str) -> None:
    """As written in an experiment, over what a model said."""
    assert take(written, text) == expected


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("last_number", "none"),
        ("boxed", "18"),
        ({"after": "Answer:"}, "18"),
        ({"json": "$.answer"}, '{"other": 1}'),
        ({"json": "$.answer"}, "no JSON {"),
        ({"regex": r"(\d+) apples"}, "pears"),
        ("choice", "I do not know."),
        ("code_block", "no code"),
        ({"strip": "reasoning"}, "<think>and so on, cut"),
        (["boxed", "last_number"], r"\boxed{x} 7"),
    ],
)
def test_what_is_not_there_is_said_with_the_step(written: Any, text: str) -> None:
    """The reason of a wrong score names it."""
    with pytest.raises(NothingError, match=r"nothing to judge: \w+.* is not in the response"):
        take(written, text)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("last_word", "is no step: a step is last_number, boxed, choice or code_block"),
        ({"after": "a", "regex": "b"}, "after and regex in one step"),
        ({}, "nothing in one step"),
        ({"json": "$.a", "take": "first"}, "take is for after and regex, not for json"),
        ({"choice": "AAB"}, "choice must be 2 to 26 capital letters"),
        ({"strip": "tags"}, "reasoning"),
        ([{"after": "x"}] * 11, "at most 10 items"),
    ],
)
def test_a_step_that_is_none_is_an_error_that_names_the_steps(written: Any, said: str) -> None:
    """Before anything is run."""
    with pytest.raises(ValidationError, match=said):
        STEPS.validate_python(written)


def test_steps_are_recorded_as_they_are_written() -> None:
    """So that a run's experiment can be read, and run again."""
    written = [{"strip": "reasoning"}, {"after": "Answer:", "take": "first"}, {"json": "$.a"}, "last_number"]
    read = STEPS.validate_python(written)
    assert STEPS.dump_python(read, mode="json") == written
    assert STEPS.validate_python(STEPS.dump_python(read, mode="json")) == read
    assert STEPS.validate_python("boxed") == STEPS.validate_python(["boxed"])


def test_a_choice_is_read_from_each_of_500_phrasings() -> None:
    """Without one mistake; and nothing is read from what chooses none, or several."""
    given = list(phrasings())
    assert len(given) >= 500
    assert [(text, chosen(text), x) for text, x in given if chosen(text) != x] == []
    assert [(text, chosen(text)) for text in NONE if chosen(text) is not None] == []


@pytest.mark.parametrize("letters", ["ABCDE", "ABCDEFGHIJ"])
def test_a_choice_has_the_letters_that_are_named(letters: str) -> None:
    """E is one of five, and none of four."""
    assert chosen("The answer is E.", letters) == "E"
    assert chosen("The answer is E.") is None


@pytest.mark.parametrize(
    "piece", ["**", "( ", "\n * ", r"\boxed{", "the answer is ", "A, B, ", "<think>", "{"]
)
def test_no_answer_holds_a_step_up(piece: str) -> None:
    """What a model repeats until its tokens are used up: a step gives up on it, or finds nothing."""
    for written in ("choice", "boxed", "last_number", {"json": "$.a"}, {"strip": "reasoning"}, "code_block"):
        text = piece * (1_000_000 // len(piece))
        with suppress(NothingError):
            assert take(written, text)


@pytest.mark.skipif(DATA is None, reason="the GSM8K answers are not beside this repository")
@pytest.mark.parametrize(
    ("model", "correct"),
    [("6b_finetuning", 286), ("6b_verification", 515), ("175b_finetuning", 458), ("175b_verification", 742)],
)
def test_extraction_and_numeric_match_agree_with_gsm8k(model: str, correct: int) -> None:
    """The published verdicts on four models' answers, whichever steps find the number."""
    assert DATA is not None
    rows, answers = (
        [json.loads(line) for line in (DATA / name).read_text("utf-8").splitlines()]
        for name in ("gsm8k_test.jsonl", "gsm8k_solutions.jsonl")
    )
    reference = extraction(STEPS.validate_python({"after": "####"}))
    evaluator = build("numeric_match")
    for written in ("last_number", [{"regex": r"A: *(-?[\d.,]+)"}], [{"after": "A:"}, "last_number"]):
        steps, right = extraction(STEPS.validate_python(written)), 0
        for row, answer in zip(rows, answers, strict=True):
            try:
                said = steps.of(answer[model]["solution"], "response")
            except NothingError:
                continue
            data = {"response": said, "reference": reference.of(row["answer"], "reference")}
            right += bool(evaluator.evaluate(data).passed)  # type: ignore[union-attr]
        assert right == correct


class Says(Model):
    """Says the user's text."""

    def invoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        return ModelResponse(response=user_prompt)


def least(data: dict[str, Any]) -> float:
    """An evaluator of one's own, without a range."""
    return float(len(data["response"]))


def run(folder: Path, rows: list[dict[str, Any]], evaluation: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give the rows of a run's results."""
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    pl = PromptLab({"type": "sqlite", "db_file": str(folder / "promptlab.db")})
    done = pl.experiment.run(
        {
            "name": "judged",
            "model": Says({"name": "custom/says"}),
            "prompt_template": PromptTemplate(name="p", system_prompt="", user_prompt="<said>"),
            "dataset": Dataset(name="d", file_path=str(folder / "rows.jsonl")),
            "evaluation": evaluation,
        }
    )
    return list(done.results())


def test_what_was_judged_stands_beside_the_score(tmp_path: Path) -> None:
    """Of built-in metrics and of one's own; an answer without it is wrong, or not scored where nobody knows
    the worst score."""
    rows = [
        {"said": "<think>17</think>**Answer:** 18 apples", "gold": "because #### 18"},
        {"said": "I do not know", "gold": "#### 3"},
        {"said": "Answer: 4", "gold": "no mark: 4"},
    ]
    number = {"extract": [{"strip": "reasoning"}, {"after": "Answer:"}, "last_number"]}
    gold = {"column_mapping": {"reference": "gold"}, "extract_reference": {"after": "####"}}
    found = run(
        tmp_path,
        rows,
        [
            {"metric": "numeric_match", **number, **gold},
            {"metric": "token_f1", **number, **gold},
            {"metric": "least", "evaluator": least, "column_mapping": {"response": "$inference"}, **number},
            {"metric": "length"},
        ],
    )
    assert [row["judged.numeric_match"] for row in found] == ["18", None, None]
    assert [row["passed.numeric_match"] for row in found] == [True, False, None]
    assert found[1]["reason.numeric_match"].startswith(
        "nothing to judge: after 'Answer:' is not in the response"
    )
    assert "the dataset or extract_reference is wrong" in found[2]["score_error.numeric_match"]
    assert [row["score.token_f1"] for row in found] == [1.0, 0.0, None]
    assert [row["score.least"] for row in found] == [2.0, None, 1.0]
    assert [row["judged.least"] for row in found] == ["18", None, "4"]
    assert "nothing to judge" in found[1]["score_error.least"]
    assert "judged.length" not in found[0]


def test_an_evaluator_of_several_scores_judges_nothing_where_the_steps_find_nothing(tmp_path: Path) -> None:
    """Each of its scores by its own measure: all fields are missing then, and none is too many."""
    rows = [{"said": "no code", "gold": {"a": 1}}, {"said": '```json\n{"a": 1}\n```', "gold": {"a": 1}}]
    metric = {"metric": "json_fields", "column_mapping": {"reference": "gold"}, "extract": "code_block"}
    first, second = run(tmp_path, rows, [metric])
    names = [f"score.json_fields.{part}" for part in ("share", "missing", "extra")]
    assert [[row[name] for name in names] for row in (first, second)] == [[0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (
            {"metric": "latency", "extract": "boxed"},
            "reads no response, so that extract would change nothing",
        ),
        (
            {"metric": "regex_match", "params": {"pattern": "a"}, "extract_reference": "boxed"},
            "reads no reference",
        ),
        ({"metric": "is_json", "extract": {"regex": "(a"}}, "extract: .* is not a valid regular expression"),
        ({"metric": "is_json", "extract": {"json": "$..a"}}, "is no path of keys and positions"),
        ({"metric": "is_json", "extract": "words"}, "is no step"),
    ],
)
def test_steps_that_cannot_work_are_an_error_before_the_first_call(
    tmp_path: Path, metric: dict[str, Any], said: str
) -> None:
    """Nothing was paid for then."""
    with pytest.raises(ConfigError, match=said):
        run(tmp_path, [{"said": "x"}], [metric])


SQUAD = [
    ("The  Cat.", "cat", True),
    ("a cat, an owl", "cat owl", True),
    ("theory", "ory", False),
    ("Caf\u00e9", "cafe", False),
]


def test_exact_match_normalizes_as_squad_does() -> None:
    """Against the evaluation script's own function (Rajpurkar et al. 2016), typed from its text."""

    def official(text: str) -> str:
        text = "".join(c for c in text.lower() if c not in set(string.punctuation))
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())

    metric = build("exact_match", {"normalize": "squad"})
    for said, gold, same in SQUAD:
        assert (official(said) == official(gold)) is same
        assert metric.evaluate({"response": said, "reference": gold}).passed is same  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("params", "said", "gold"),
    [
        ({"ignore_articles": True}, "The answer", "answer"),
        ({"fold_whitespace": True}, "a \n b", "a b"),
        ({"normalize": "nfkc"}, "ﬁ１", "fi1"),
    ],
)
def test_exact_match_leaves_out_what_it_is_told_to(params: dict[str, Any], said: str, gold: str) -> None:
    """And not without being told."""
    assert build("exact_match", params).evaluate({"response": said, "reference": gold}).passed  # type: ignore[union-attr]
    assert not build("exact_match").evaluate({"response": said, "reference": gold}).passed  # type: ignore[union-attr]
