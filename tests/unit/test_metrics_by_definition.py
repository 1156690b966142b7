"""refusal, code_tests, latency, cost and length, which no package has, over 10,000 random cases each: against
labels that are known by how a case was made, Python's own exec, and the definitions."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from promptlab import Score
from promptlab.engine.sandbox.code_child import ran
from promptlab.evaluators.code_tests import CodeTests
from promptlab.evaluators.registry import build

pytestmark = pytest.mark.long
MANY = 10_000

DECLINES = (
    "I'm sorry, but I can't {verb} {thing}.",
    "I’m sorry, but I cannot assist with {thing}.",
    "Sorry, I am not able to {verb} {thing}.",
    "I apologize, but I won't be able to help: I can't {verb} {thing}.",
    "Unfortunately, I can't {verb} {thing}.",
    "I cannot help with {thing}.",
    "I can't provide {thing}.",
    "I won't write {thing}.",
    "I must decline to {verb} {thing}.",
    "I must respectfully decline.",
    "As an AI language model, I cannot {verb} {thing}.",
    "As an AI, I am unable to {verb} {thing}.",
    "Writing {thing} goes against my guidelines.",
    "I do not feel comfortable helping with that; I don't feel comfortable discussing {thing}.",
    "Lo siento, pero no puedo ayudar con eso ({thing}).",
    "Je suis désolé, mais je ne peux pas aider ({thing}).",
    "Ich kann dir dabei leider nicht helfen ({thing}).",
    "Mi dispiace, ma non posso aiutarti ({thing}).",
    "К сожалению, я не могу помочь с этим ({thing}).",
    "申し訳ありませんが、そのご要望にはお応えできません（{thing}）。",
    "很抱歉，我无法提供（{thing}）。",
    "I have to refuse to {verb} {thing}.",
    "I'd rather not discuss {thing}.",
    "죄송하지만 도와드릴 수 없습니다 ({thing}).",
    "عذرًا، لا أستطيع المساعدة في ذلك ({thing}).",
    "Desculpe, não posso ajudar com isso ({thing}).",
)
"""Sentences that a person calls a refusal, whatever stands in the gaps."""
ANSWERS = (
    "Here is how to {verb} {thing}.",
    "You cannot {verb} {thing} on a Sunday.",
    "The court could not {verb} {thing}, so it waited.",
    "She said sorry and went on to {verb} {thing}.",
    "To {verb} {thing}, open the file first.",
    "I can help you to {verb} {thing}.",
    "Unfortunately the harvest of {thing} was poor in 1932.",
    "Nobody is allowed to {verb} {thing} without a licence.",
    "The answer is 18.",
    "As an AI, I like {thing}.",
    "I can't help but {verb} {thing}.",
    "I can't wait to {verb} {thing}.",
    "'I cannot {verb} {thing},' he said.",
    "If I can't {verb} {thing}, ask again.",
    "Claro, aquí está: {thing}.",
    "Natürlich, gern: {thing}.",
    "もちろんです。{thing}はこちらです。",
    "当然可以：{thing}。",
)
"""Sentences that a person calls an answer, some of which speak of what cannot be."""
VERBS = ("provide", "write", "explain", "share", "create", "discuss")
THINGS = ("a recipe", "malware", "the second chapter", "a poem", "that letter", "the budget of 2021")
FINISHES = ("stop", "length", "tool_calls", "", None, "refusal", "content_filter", "safety", "STOP", "SAFETY")


def openings() -> Iterator[tuple[str, Any, bool]]:
    """Answers, their finish reasons, and whether they decline: by the sentence that they open with, or by the
    reason; a refusal behind the first 400 characters is a part of an answer."""
    pick = random.Random(21)
    for _ in range(MANY):
        declines, late = pick.random() < 0.5, pick.random() < 0.1
        text = pick.choice(DECLINES if declines else ANSWERS)
        text = text.format(verb=pick.choice(VERBS), thing=pick.choice(THINGS))
        if late:
            text = "The first of the steps is this one. " * 12 + text
        if pick.random() < 0.5:
            text = f"\n {text}\n\nThe second paragraph says more."
        finish = pick.choice(FINISHES)
        yield text, finish, (declines and not late) or str(finish).lower() in FINISHES[5:8]


def test_what_opens_with_a_refusal_is_one_and_nothing_else_is() -> None:
    metrics = {wanted: build("refusal", {"expect": wanted}) for wanted in ("answer", "refusal")}
    for text, finish, declines in openings():
        label = "refusal" if declines else "answer"
        for wanted, metric in metrics.items():
            found = metric.evaluate({"response": text, "finish_reason": finish})
            assert isinstance(found, Score)
            assert (found.label, found.passed) == (label, wanted == label), (text, finish)


BODIES = (
    "return {a} + x",
    "return x * {a}",
    "return [x] * {a}",
    "return str(x) + '{a}'",
    "return {{'x': x, 'a': {a}}}",
    "return x / ({a} - 3)",
    "raise ValueError(x)",
    "return (n for n in range(x))",
    "return f.__annotations__.get('x')",
    "retrun x",
)
CHECKS = (
    "assert f({b}) == {c}",
    "assert f({b}) == [{b}] * {c}",
    "assert f({b}) == '{b}{c}'",
    "assert f({b})['a'] == {c}",
    "assert list(f({b})) == list(range({c}))",
    "try:\n    f({b})\nexcept ValueError as error:\n    assert error.args == ({c},)\nelse:\n    assert False",
    "assert f({b}) is int",
    "f({b})",
    "raise SystemExit({c})",
    "assert g({b})",
)
FORMS = (
    "{code}",
    "```python\n{code}\n```",
    "Like this:\n\n```py\n{code}\n```\nIt works.",
    "First\n```python\nraise KeyError\n```\nno, better\n```\n{code}\n```",
    "<think>perhaps\n```python\nraise KeyError\n```\n</think>\n```python\n{code}\n```",
    "```bash\npip install x\n```\n```python\n{code}\n```\n```json\n{{}}\n```",
)


def programs(count: int) -> Iterator[tuple[str, str, str]]:
    """Code, an answer that has it, and tests."""
    pick = random.Random(22)
    for _ in range(count):
        a, b, c = (pick.randrange(5) for _ in range(3))
        code = f"def f(x: int):\n    {pick.choice(BODIES).format(a=a)}"
        yield code, pick.choice(FORMS).format(code=code), pick.choice(CHECKS).format(b=b, c=c)


def runs(code: str, tests: str) -> bool:
    """Python's own word: neither raises."""
    there: dict[str, Any] = {}
    try:
        exec(compile(f"{code}\n", "code", "exec", dont_inherit=True), there)
        exec(compile(tests, "tests", "exec", dont_inherit=True), there)
    except BaseException:  # noqa: BLE001 - SystemExit is among what tests raise
        return False
    return True


def test_code_passes_where_python_runs_it_and_its_tests() -> None:
    """Both in this process: what is taken out of the answer, and the verdict; the process around it is that
    of the next test."""
    metric, verdicts = build("code_tests"), [0, 0]
    assert isinstance(metric, CodeTests)
    for code, answer, tests in programs(MANY):
        wanted = runs(code, tests)
        found = ran(*metric.code_and_tests({"response": answer, "tests": tests}))
        assert found["passed"] is wanted, (answer, tests, found)
        verdicts[wanted] += 1
    assert min(verdicts) > 500


def test_a_confined_process_says_the_same() -> None:
    metric = build("code_tests")
    for code, answer, tests in programs(60):
        found = metric.evaluate({"response": answer, "tests": tests})
        assert found.passed is runs(code, tests), (answer, tests, found)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "source", "bound"), [("latency", "latency_ms", "max_ms"), ("cost", "cost_usd", "max_usd")]
)
def test_a_measure_is_what_was_measured_and_passes_up_to_its_bound(
    name: str, source: str, bound: str
) -> None:
    """As decimals, which are not rounded: numbers, and their texts, on the bound, near it and far from it."""
    pick = random.Random(name)
    bounds = [Decimal(pick.randrange(10**9)).scaleb(-pick.randrange(10)) for _ in range(200)]
    metrics = {one: build(name, {bound: float(one)}) for one in bounds}
    for _ in range(MANY):
        most = pick.choice(bounds)
        step = Decimal(pick.choice((-1, 0, 1))).scaleb(-pick.randrange(4))
        given = max(Decimal(0), most + step * pick.choice((0, 1, most)))
        found = metrics[most].evaluate({source: pick.choice((float, str))(given)})
        assert isinstance(found, Score)
        assert (found.value, found.passed) == (float(given), given <= most), (given, most)
        assert (found.reason is None) is (found.passed is True)


def test_a_length_is_the_count_of_its_unit() -> None:
    """Characters as a reader counts them (NFC), words between white space, lines between their ends."""
    pick = random.Random(23)
    metrics = {
        (unit, least, most): build("length", {"unit": unit, "min": least, "max": most})
        for unit in ("characters", "words", "lines")
        for least in range(0, 24, 3)
        for most in range(least, 30, 4)
    }
    for _ in range(MANY):
        text = "".join(pick.choices("ab é\u0301e\u0308\n\t日本 🙂", k=pick.randrange(40)))
        unit, least, most = pick.choice(list(metrics))
        wanted = {
            "characters": len(unicodedata.normalize("NFC", text)),
            "words": sum(1 for word in text.replace("\n", " ").replace("\t", " ").split(" ") if word),
            "lines": text.count("\n") + (text != "" and not text.endswith("\n")),
        }[unit]
        found = metrics[unit, least, most].evaluate({"response": text})
        assert isinstance(found, Score)
        assert (found.value, found.passed) == (wanted, least <= wanted <= most), (text, unit)
