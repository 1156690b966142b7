"""Metrics that run code or need packages of their own: math_equal, code_tests, meteor, bertscore."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from promptlab.errors import ConfigError, MissingExtraError
from promptlab.evaluators.registry import build
from promptlab.experiments.config import EvaluationConfig
from promptlab.experiments.portable import check_portable_metrics, check_runs_answers

MATH = [
    (r"so the answer is $\frac{1}{2}$", "0.5", True),
    (r"Thus \boxed{x^2+2x+1}.", "(x+1)^2", True),
    (r"$\sqrt{8}$", r"2\sqrt{2}", True),
    (r"$\{2,1\}$", r"\{1,2\}", True),
    ("41", "42", False),
    (r"\boxed{x+1}", "x-1", False),
]


def test_expressions_are_equal_as_math_verify_has_them() -> None:
    metric = build("math_equal")
    for response, reference, equal in MATH:
        assert metric.evaluate({"response": response, "reference": reference}).passed is equal, response


def test_an_answer_without_an_expression_is_wrong() -> None:
    score = build("math_equal").evaluate({"response": "I do not know", "reference": "7"})
    assert score.passed is False and score.reason == "the response has no mathematical expression"


CODE = [
    ("```python\ndef add(a, b):\n    return a + b\n```", ["assert add(1, 2) == 3"], True, ""),
    ("def add(a, b): return a - b", "assert add(1, 2) == 3", False, "assert add(1, 2) == 3"),
    ("def f(:", "pass", False, "SyntaxError"),
    ("while True: pass", "pass", False, "longer than timeout_s=2"),
    ("x = 'a' * 10**10", "pass", False, "MemoryError"),
    ("import os; os._exit(0)", "pass", False, "ended its process"),
    ("raise SystemExit", "pass", False, "SystemExit"),
    ("import socket; socket.socket()", "pass", False, "PermissionError"),
    ("import subprocess; subprocess.run(['ls'])", "pass", False, "PermissionError"),
    ("open('/etc/passwd').read()", "pass", False, "PermissionError"),
    (
        "import os; assert not os.environ; open('x', 'w').write('a')",
        "assert open('x').read() == 'a'",
        True,
        "",
    ),
    ("def f(x: int): pass", "assert f.__annotations__ == {'x': int}", True, ""),
    (
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom typing import ClassVar\n"
        "@dataclass\nclass A:\n    n: ClassVar[int] = 3\n    x: int = 1",
        "assert (A(5).n, A(5).x) == (3, 5)",
        True,
        "",
    ),
]


@pytest.mark.parametrize(("answer", "tests", "passed", "why"), CODE)
def test_code_is_run_with_its_tests_and_nothing_else(answer: str, tests: Any, passed: bool, why: str) -> None:
    # Only what has no end is waited for: a busy machine may take long over a process that begins.
    timeout_s = 2.0 if "timeout_s=2" in why else 60.0
    score = build("code_tests", {"timeout_s": timeout_s}).evaluate({"response": answer, "tests": tests})
    assert score.passed is passed
    assert why in (score.reason or "")


def test_a_candidate_is_given_to_check_as_in_humaneval() -> None:
    metric = build("code_tests", {"entry_point": "twice"})
    tests = "def check(candidate):\n    assert candidate(2) == 4\n"
    assert metric.evaluate({"response": "def twice(x): return 2 * x", "tests": tests}).passed
    assert not metric.evaluate({"response": "def twice(x): return x", "tests": tests}).passed


def test_a_hosted_lab_without_a_sandbox_refuses_code_of_answers() -> None:
    check_portable_metrics([EvaluationConfig(metric="CodeTests")])
    with pytest.raises(ConfigError, match=r"runs the code of answers\. AllowCode is false"):
        check_runs_answers([EvaluationConfig(metric="CodeTests")], "AllowCode is false")


def reference_meteor(wanted: list[str], said: list[str]) -> float:
    """METEOR with exact matches only, by its definition, for words that each text has once at most."""
    matches = sorted((said.index(w), wanted.index(w)) for w in set(wanted) & set(said))
    if not matches:
        return 0.0
    chunks = 1 + sum(b != (a[0] + 1, a[1] + 1) for a, b in pairwise(matches))
    precision, recall = len(matches) / len(said), len(matches) / len(wanted)
    mean = precision * recall / (0.9 * precision + 0.1 * recall)
    return mean * (1 - 0.5 * (chunks / len(matches)) ** 3)


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.long)])
def test_meteor_is_that_of_its_definition(count: int) -> None:
    words, drawn, metric = [chr(97 + n) * 2 for n in range(20)], random.Random(4), build("meteor")
    for _ in range(count):
        said, wanted = (drawn.sample(words, drawn.randint(1, 12)) for _ in range(2))
        found = metric.evaluate({"response": " ".join(said), "reference": " ".join(wanted)}).value
        assert found == pytest.approx(reference_meteor(wanted, said)), (said, wanted)


def test_meteor_matches_stems_and_says_what_synonyms_need() -> None:
    assert build("meteor").evaluate({"response": "jumps", "reference": "jumping"}).value == pytest.approx(0.5)
    with pytest.raises(ConfigError, match="downloader wordnet"):
        build("meteor", {"synonyms": True})


def printed(script: str, **environment: str) -> str:
    """Run a script in a process of its own, which finds other data and packages; give what it prints."""
    command, env = [sys.executable, "-c", script], os.environ | environment
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout


def test_meteor_reads_the_synonyms_of_wordnet(tmp_path: Path) -> None:
    """nltk's own reader, over a WordNet of one synset."""
    folder = tmp_path / "corpora" / "wordnet"
    folder.mkdir(parents=True)
    for pos in ("adj", "adv", "noun", "verb"):
        for name in (f"data.{pos}", f"index.{pos}", f"{pos}.exc"):
            (folder / name).touch()
    for name in ("cntlist.rev", "index.sense", "lexnames"):
        (folder / name).touch()
    (folder / "lexnames").write_text("00\tnoun.artifact\t1\n")
    (folder / "data.noun").write_text("00000000 00 n 02 car 0 auto 0 000 | a vehicle with a motor\n")
    (folder / "index.noun").write_text("auto n 1 0 1 0 00000000\ncar n 1 0 1 0 00000000\n")
    script = (
        "from promptlab.evaluators.registry import build\n"
        "data = {'response': 'the car', 'reference': 'the auto'}\n"
        "print(*(build('meteor', {'synonyms': s}).evaluate(data).value for s in (True, False)))"
    )
    with_synonyms, without = map(float, printed(script, NLTK_DATA=str(tmp_path)).split())
    assert with_synonyms == pytest.approx(1 - 0.5 * (1 / 2) ** 3) and without == pytest.approx(0.25)


def test_bertscore_names_its_extra() -> None:
    assert "bert_score" not in sys.modules
    with pytest.raises(MissingExtraError, match="bertscore"):
        build("bertscore")


BERT_SCORE = '''
class BERTScorer:
    """Stands for bert-score's: precision, recall and F1 of the first letters of two texts."""

    def __init__(self, model_type, num_layers, device):
        assert (model_type, num_layers, device) == ("a/model", 2, "cpu")

    def score(self, said, wanted):
        a, b = set(said[0]), [set(one) for one in wanted[0]]
        found = max(((len(a & one) / len(a), len(a & one) / len(one)) for one in b), key=sum)
        return [found[0]], [found[1]], [2 * found[0] * found[1] / sum(found)]
'''


def test_bertscore_gives_the_measure_that_is_asked_for(tmp_path: Path) -> None:
    """Over a package of the same interface: bert-score itself needs gigabytes. Held against it by hand with
    torch 2.13 and a small model in a folder: equal to 2e-7 over 200 pairs."""
    package = tmp_path / "bert_score"
    package.mkdir()
    (package / "__init__.py").write_text(BERT_SCORE)
    (package / "utils.py").write_text("model2layers = {}\n")
    script = (
        "from promptlab.evaluators.registry import build\n"
        "made = lambda **more: build('bertscore', {'model': 'a/model', **more})\n"
        "data = {'response': 'abcd', 'reference': ['xy', 'ab']}\n"
        "names = ('precision', 'recall', 'f1')\n"
        "print(*(made(num_layers=2, measure=name).evaluate(data).value for name in names))\n"
        "try:\n    made().evaluate(data)\nexcept ValueError as error:\n    print(error)\n"
    )
    values, said = printed(script, PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path])).splitlines()
    assert [float(one) for one in values.split()] == [0.5, 1.0, pytest.approx(2 / 3)]
    assert said == "bert-score knows no layer of a/model: give num_layers, too"
