"""Deterministic metrics against reference implementations, over 10,000 random pairs each.

Those with a reference package beside their tables (wer, cer, chrf, ter, bleu, rouge, retrieval, sql_result,
json_schema, meteor) have their 10,000 there; those that no package has (refusal, code_tests, latency, cost)
are in test_metrics_by_definition.
"""

from __future__ import annotations

import json
import random
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from nltk.metrics.distance import edit_distance
from sacrebleu import corpus_bleu, corpus_chrf

from promptlab import RunCase, Score
from promptlab.domain.results import Failure
from promptlab.evaluators.calibration import Calibration
from promptlab.evaluators.combined import Combined
from promptlab.evaluators.corpus import CorpusBleu, CorpusChrf
from promptlab.evaluators.of_runs import Additive
from promptlab.evaluators.registry import build
from promptlab.evaluators.semantic import cosine
from tests.unit.phrasings import phrasings

pytestmark = pytest.mark.long
MANY = 10_000
WORDS = ("the", "a", "An", "cat", "Cats", "sat.", "on,", "mat", "42", "x-y", "it's", "theory", "-", "THE")


def texts(seed: int, most: int = 10) -> Iterator[tuple[str, str]]:
    """Pairs of texts that share words, every fifth pair the same text."""
    pick = random.Random(seed)
    for n in range(MANY):
        said, wanted = (" ".join(pick.choices(WORDS, k=pick.randrange(most))) for _ in range(2))
        yield said, said if n % 5 == 0 else wanted


def one(metric: Any, response: Any, reference: Any) -> Score:
    found = metric.evaluate({"response": response, "reference": reference})
    assert isinstance(found, Score)
    return found


def normalize_answer(text: str) -> str:
    """As in the evaluation script of SQuAD 1.1 and 2.0."""
    text = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def squad_f1(said: str, wanted: str) -> float:
    """The same script's `compute_f1`."""
    given, gold = normalize_answer(said).split(), normalize_answer(wanted).split()
    if not given or not gold:
        return float(given == gold)
    same = sum((Counter(given) & Counter(gold)).values())
    if not same:
        return 0.0
    precision, recall = same / len(given), same / len(gold)
    return 2 * precision * recall / (precision + recall)


def test_exact_match_and_token_f1_are_squads() -> None:
    exact, f1 = build("exact_match", {"normalize": "squad"}), build("token_f1")
    for said, wanted in texts(1):
        assert one(exact, said, wanted).passed == (normalize_answer(said) == normalize_answer(wanted))
        assert one(f1, said, wanted).value == pytest.approx(squad_f1(said, wanted)), (said, wanted)


def test_matches_are_those_of_python() -> None:
    """exact_match, contains, starts_with and regex_match by ==, in, startswith and re."""
    pick = random.Random(2)
    metrics = {name: build(name) for name in ("exact_match", "contains", "starts_with")}
    matches = {"search": re.search, "start": re.match, "full": re.fullmatch}
    patterns = [
        ("".join(pick.choice(("a", "b", "a?", "b*", ".", "(ab|b)", "^", "$")) for _ in range(4)), match)
        for match in matches
        for _ in range(100)
    ]
    regexes = {key: build("regex_match", {"pattern": key[0], "match": key[1]}) for key in patterns}
    for _ in range(MANY):
        said = "".join(pick.choices("ab é\u0301", k=pick.randrange(8)))
        wanted = pick.choice("ab") + "".join(pick.choices("ab é", k=pick.randrange(3))) + pick.choice("ab")
        given, gold = (unicodedata.normalize("NFC", text).strip() for text in (said, wanted))
        expected = {
            "exact_match": given == gold,
            "contains": gold in given,
            "starts_with": given.startswith(gold),
        }
        assert {n: one(m, said, wanted).passed for n, m in metrics.items()} == expected, (said, wanted)
        pattern, match = pick.choice(patterns)
        found = regexes[pattern, match].evaluate({"response": said})
        assert found.passed == bool(matches[match](pattern, said))  # type: ignore[union-attr]


def test_numbers_are_equal_where_their_values_are() -> None:
    """As integers and decimals are written: with thousands, zeros, signs, dollars, in a sentence."""
    pick, metric = random.Random(3), build("numeric_match")
    for _ in range(MANY):
        cents = pick.randrange(-(10 ** pick.randrange(1, 9)), 10**8)
        other = pick.choice((cents, cents, -cents, cents * 10, cents + 1))
        value, wanted = cents / 100, other / 100
        forms = (f"{value:.2f}", f"{value:,.2f}", f"{value:.4f}", f"${value:,.2f}", f"**{value:.2f}**")
        form = pick.choice([f for f in forms if value >= 0 or "$" not in f])
        said = f"First 7 and then 8, so the answer is {form}."
        assert one(metric, said, f"{wanted:.2f}").passed == (cents == other), (said, wanted)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], Any]:
    if value and isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, item in inner for k, v in leaves(item, (*path, key)).items()}
    return {path: value}


def at(value: Any, path: tuple[Any, ...]) -> tuple[bool, Any]:
    for key in path:
        try:
            value = value[key] if isinstance(value, dict if isinstance(key, str) else list) else {}[key]
        except (KeyError, IndexError):
            return False, None
    return True, value


def random_json(pick: random.Random, depth: int = 2) -> Any:
    kind = pick.randrange(7 if depth else 5)
    if kind == 5:
        return [random_json(pick, depth - 1) for _ in range(pick.randrange(3))]
    if kind == 6:
        return {key: random_json(pick, depth - 1) for key in pick.sample("abcd", pick.randrange(4))}
    return (None, True, 1, 2.5, pick.choice("xy"))[kind]


def same_json(a: Any, b: Any) -> bool:
    """Equal as JSON: numbers by their value, and true is no number."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_json(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same_json, a, b))
    return bool(a == b)


def test_json_is_json_and_its_fields_are_counted_by_path() -> None:
    pick, valid, fields = random.Random(4), build("is_json"), build("json_fields")
    for _ in range(MANY):
        said, wanted = ({"k": random_json(pick), **{k: random_json(pick) for k in "ab"}} for _ in range(2))
        text = json.dumps(said)
        place = pick.randrange(len(text))
        broken = text[:place] + pick.choice('[]{},:"1 ') + text[place + 1 :]
        try:
            expected = json.loads(broken) is not Ellipsis
        except ValueError:
            expected = False
        assert valid.evaluate({"response": broken}).passed == expected, broken  # type: ignore[union-attr]
        found = fields.evaluate({"response": text, "reference": wanted})
        assert isinstance(found, dict)
        gold, given = leaves(wanted), leaves(said)
        there = {path: at(said, path) for path in gold}
        right = sum(is_there and same_json(gold[path], value) for path, (is_there, value) in there.items())
        extra = sum(not any(p[:n] in gold for n in range(len(p) + 1)) for p in given)
        assert found["share"].value == pytest.approx(right / len(gold)), (said, wanted)
        assert found["missing"].value == pytest.approx(sum(not ok for ok, _ in there.values()) / len(gold))
        assert found["extra"].value == pytest.approx(extra / len(given))


def test_edits_are_nltks_and_lengths_pythons() -> None:
    distance, similarity = build("edit_distance"), build("edit_distance", {"normalized": True})
    lengths = {unit: build("length", {"unit": unit}) for unit in ("characters", "words")}
    for said, wanted in texts(5, most=5):
        edits = edit_distance(said, wanted)
        assert one(distance, said, wanted).value == edits
        longer = max(len(said), len(wanted))
        assert one(similarity, said, wanted).value == pytest.approx(1 - edits / longer if longer else 1)
        found = [metric.evaluate({"response": said}).value for metric in lengths.values()]  # type: ignore[union-attr]
        assert found == [len(said), len(said.split())]


def test_a_choice_passes_where_its_letter_is_the_references() -> None:
    pick, metric, given = random.Random(6), build("choice"), list(phrasings())
    for _ in range(MANY):
        (text, letter), wanted = pick.choice(given), pick.choice("ABCD")
        assert one(metric, text, pick.choice((wanted, f"({wanted})"))).passed == (letter == wanted)


def counted(said: list[Any], wanted: list[Any]) -> dict[str, float]:
    """The modes and measures of calls that are compared exactly, by counting."""
    a, b = Counter(map(json.dumps, said)), Counter(map(json.dumps, wanted))
    pairs = (a & b).total()
    precision, recall = pairs / len(said) if said else 1.0, pairs / len(wanted) if wanted else 1.0
    return {
        "unordered": float(a == b),
        "subset": float(a <= b),
        "superset": float(b <= a),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
    }


def test_calls_and_ways_are_counted() -> None:
    """tool_calls, trajectory, turn_count and no_error_calls by their definitions."""
    pick, modes = random.Random(7), ("strict", "unordered", "subset", "superset")
    calls, ways = (
        {mode: build(name, {"mode": mode}) for mode in modes} for name in ("tool_calls", "trajectory")
    )
    turns, errors = build("turn_count"), build("no_error_calls")
    for _ in range(MANY):
        said, wanted = ([[drawn(pick) for _ in range(pick.randrange(3))] for _ in range(2)] for _ in range(2))
        if pick.random() < 0.4:
            wanted = [pick.sample(message, len(message)) for message in said]
        flat, gold = ([call for message in way for call in message] for way in (said, wanted))
        expected = counted(flat, gold)
        orders = [[Counter(map(json.dumps, message)) for message in way] for way in (said, wanted)]
        strict = {"tool_calls": float(flat == gold), "trajectory": float(orders[0] == orders[1])}
        given = {
            "tool_calls": flat,
            "expected": gold,
            "messages": messages(said),
            "reference": messages(wanted),
        }
        for name, metrics in (("tool_calls", calls), ("trajectory", ways)):
            for mode, metric in metrics.items():
                found = metric.evaluate(given)
                assert isinstance(found, dict)
                match = strict[name] if mode == "strict" else expected[mode]
                right = [match, expected["precision"], expected["recall"], expected["f1"]]
                assert [score.value for score in found.values()] == pytest.approx(right), given
        failed = pick.random() < 0.5
        told = [
            *messages(said),
            {"role": "tool", "tool_call_id": "0", "content": json.dumps({"error": failed})},
        ]
        assert turns.evaluate({"messages": told}).value == len(said)  # type: ignore[union-attr]
        assert errors.evaluate({"messages": told}).passed is not failed  # type: ignore[union-attr]


def drawn(pick: random.Random) -> dict[str, Any]:
    return {"name": pick.choice("ab"), "arguments": {"x": pick.randrange(2)}}


def messages(way: list[list[Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"role": "user", "content": "go"}]
    for calls in way:
        made = [
            {"id": "0", "function": {"name": c["name"], "arguments": json.dumps(c["arguments"])}}
            for c in calls
        ]
        found.append({"role": "assistant", "content": "ok", **({"tool_calls": made} if made else {})})
    return found


def test_combined_is_kleenes_logic() -> None:
    """Over random trees of three parts: not is 1 − x, all the least and any the greatest of 0, ½ and 1."""
    pick = random.Random(8)
    scores = {0.0: Score(passed=False), 1.0: Score(passed=True), 0.5: Score(error=Failure("error", "lost"))}

    def tree(depth: int) -> Any:
        kind = pick.choice(("all", "any", "not", "leaf") if depth else ("leaf",))
        if kind == "leaf":
            return pick.choice("pqr")
        return {
            kind: tree(depth - 1) if kind == "not" else [tree(depth - 1) for _ in range(pick.randrange(1, 4))]
        }

    def value(node: Any, given: dict[str, float]) -> float:
        if isinstance(node, str):
            return given[node]
        ((kind, inner),) = node.items()
        if kind == "not":
            return 1 - value(inner, given)
        return (min if kind == "all" else max)(value(one, given) for one in inner)

    for _ in range(MANY):
        params, given = {"all": [tree(3)]}, {name: pick.choice((0.0, 0.5, 1.0)) for name in "pqr"}
        metric = build("combined", params)
        assert isinstance(metric, Combined)
        found = metric.combine({n: scores[v] for n, v in given.items()}, dict.fromkeys("pqr", True))
        expected = {0.0: False, 0.5: None, 1.0: True}[value(params, given)]
        assert found.passed is expected, (params, given)


def test_a_confusion_matrix_is_scikit_learns() -> None:
    """One of 10,000 pairs, and 300 small ones, with answers that are no label."""
    from sklearn import metrics as sk

    pick = random.Random(9)
    for size in (MANY, *(pick.randrange(20, 60) for _ in range(300))):
        labels = "abcde"[: pick.randrange(2, 6)]
        wanted = [*labels, *pick.choices(labels, k=size)]
        said = [one if pick.random() < 0.4 else pick.choice("abcdez") for one in wanted]
        pairs = zip(said, wanted, strict=True)
        found = build("classification").evaluate([RunCase({"response": s, "reference": w}) for s, w in pairs])  # type: ignore[arg-type]
        known = [one if one in labels else "z" for one in said]
        expected = {
            "accuracy": sk.accuracy_score(wanted, known),
            "balanced_accuracy": sk.recall_score(wanted, known, labels=list(labels), average="macro"),
            "kappa": sk.cohen_kappa_score(known, wanted),
            "mcc": sk.matthews_corrcoef(wanted, known),
        }
        for average in ("macro", "micro"):
            told: Any = {"labels": list(labels), "average": average, "zero_division": 0}
            for name, score in (
                ("precision", sk.precision_score),
                ("recall", sk.recall_score),
                ("f1", sk.f1_score),
            ):
                expected[f"{name}_{average}"] = score(wanted, known, **told)
        assert found == pytest.approx(expected)


def test_calibration_is_scikit_learns_brier_and_the_binned_gap() -> None:
    import numpy
    from sklearn import metrics as sk

    pick = random.Random(10)
    pairs = [(p := pick.random(), int(pick.random() < p**2)) for _ in range(MANY)]
    found = Calibration().evaluate([RunCase({"confidence": p, "outcome": y}) for p, y in pairs])
    said, right = (numpy.array(side, dtype=float) for side in zip(*pairs, strict=True))
    bins = numpy.minimum((said * 10).astype(int), 9)
    gaps = [abs(said[bins == b].sum() - right[bins == b].sum()) for b in range(10)]
    assert found["brier"] == pytest.approx(sk.brier_score_loss(right, said))
    assert found["ece"] == pytest.approx(sum(gaps) / MANY)


def test_a_corpus_of_10_000_is_sacrebleus() -> None:
    said, wanted = ([*side] for side in zip(*texts(11, most=20), strict=True))
    given = [RunCase({"response": s, "reference": w or "."}) for s, w in zip(said, wanted, strict=True)]
    gold = [[w or "." for w in wanted]]
    measures: list[tuple[Additive, Any]] = [(CorpusBleu(), corpus_bleu), (CorpusChrf(), corpus_chrf)]
    for metric, known in measures:
        (found,) = metric.evaluate(given).values()
        assert found == pytest.approx(known(said, gold).score / 100, abs=1e-9)


def test_the_cosine_is_numpys() -> None:
    import numpy

    pick = random.Random(12)
    for _ in range(MANY):
        a, b = ([pick.gauss(0, 10 ** pick.randrange(-3, 4)) for _ in range(8)] for _ in range(2))
        expected = numpy.dot(a, b) / (numpy.linalg.norm(a) * numpy.linalg.norm(b))
        assert cosine(a, b) == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize("seed", range(13, 18))
def test_expressions_are_equal_where_math_verify_says_so(seed: int) -> None:
    """Fractions, decimals, powers, roots and sets in LaTeX; 500 responses against four references each, in
    parts, for sympy takes milliseconds a pair."""
    from math_verify import parse, verify

    pick, metric = random.Random(seed), build("math_equal")

    def written(a: int, b: int) -> str:
        forms = (rf"\frac{{{a}}}{{{b}}}", f"{a}/{b}", f"{a / b:.6f}", rf"\frac{{{2 * a}}}{{{2 * b}}}")
        chosen = pick.choice((*forms, rf"\sqrt{{{a}}}", f"{a}^{{{b}}}", rf"\{{{a}, {b}\}}"))
        return f"${chosen}$"

    @cache
    def read(text: str) -> Any:
        return parse(text, parsing_timeout=None)

    def numbers() -> tuple[int, int]:
        return pick.randrange(1, 12), pick.randrange(1, 7)

    for _ in range(500):
        a, b = numbers()
        said, wanted = written(a, b), [written(*numbers()) for _ in range(3)]
        wanted.append(written(a, b) if pick.random() < 0.2 else written(*numbers()))
        expected = any(verify(read(text), read(said), timeout_seconds=None) for text in wanted)
        found = metric.evaluate({"response": f"So it is {said}.", "reference": wanted})
        assert found.passed == expected, (said, wanted)  # type: ignore[union-attr]
