"""The formulas of judges on tables made by hand: each value by a formula of its own here, exactly."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest

from promptlab.evaluators.judging.claims import average_precision
from promptlab.evaluators.registry import build
from tests.servers import ModelServer, Request
from tests.unit.test_judges import DATA, bound, score, server

__all__ = ["server"]
QUOTE = "capital is Paris"


def items(verdicts: Sequence[str]) -> str:
    """Write pieces with these verdicts, as a judge does."""
    made = [
        {"text": f"c{n}", "quote": QUOTE, "reasoning": "so", "number": n, "verdict": verdict}
        for n, verdict in enumerate(verdicts, 1)
    ]
    return json.dumps({"items": made})


def share(good: int, of: int) -> float | None:
    return float(Fraction(good, of)) if of else None


SHARES = [
    # metric, the good verdict, the others, the value where there is no piece
    ("faithfulness", "supported", ("contradicted", "unsupported"), None),
    ("answer_relevance", "relevant", ("irrelevant",), 0.0),
    ("context_recall", "stated", ("contradicted", "missing"), None),
    ("instruction_following", "followed", ("broken",), None),
    ("tool_choice", "right", ("wrong",), None),
]


@pytest.mark.parametrize(("metric", "good", "others", "none"), SHARES)
def test_a_share_is_of_all_pieces(
    server: ModelServer, metric: str, good: str, others: Sequence[str], none: float | None
) -> None:
    """Good ÷ all, for none to six pieces: a perfect one is 1 and no 0.9999999999, one without pieces is no
    NaN."""
    for right, wrong in itertools.product(range(5), range(3)):
        verdicts = [good] * right + [others[n % len(others)] for n in range(wrong)]
        said = items(verdicts)
        server.answer = lambda request, said=said: said
        contexts = {"contexts": f"The {QUOTE}.", "response": f"{right} and {wrong}"}
        found = score(bound(server, metric), {**DATA, **contexts})
        expected = share(right, right + wrong)
        assert found.value == (none if expected is None else expected), (right, wrong)


@pytest.mark.parametrize(
    ("response", "reference", "precision", "recall", "f1"),
    [
        # verdicts of the response's claims, and of the reference's
        ("ssmc", "s", Fraction(1, 2), Fraction(1), Fraction(2, 3)),
        ("s", "sm", Fraction(1), Fraction(1, 2), Fraction(2, 3)),
        ("ssm", "sscm", Fraction(2, 3), Fraction(1, 2), Fraction(4, 7)),
        ("sss", "sm", Fraction(1), Fraction(1, 2), Fraction(2, 3)),
        ("sss", "ss", Fraction(1), Fraction(1), Fraction(1)),
        ("mmc", "mm", Fraction(0), Fraction(0), Fraction(0)),
        ("", "ss", None, Fraction(1), None),
        ("s", "", Fraction(1), None, None),
    ],
)
def test_factual_correctness_divides_each_by_its_own_claims(
    server: ModelServer, response: str, reference: str, precision: Any, recall: Any, f1: Any
) -> None:
    """Recall is reference claims over reference claims: with the response's three over those and the one that
    is missing, the fourth table had 3/4."""
    words = {"s": "stated", "m": "missing", "c": "contradicted"}

    def answer(request: Request) -> str:
        said = response if request.prompt.startswith("<<<RESPONSE>>>") else reference
        return items([words[one] for one in said])

    server.answer = answer
    found = score(bound(server, "factual_correctness"))
    expected = {"f1": f1, "precision": precision, "recall": recall}
    for name, one in expected.items():
        assert found[name].value == (None if one is None else pytest.approx(float(one), rel=1e-15)), name


@pytest.mark.parametrize(
    ("claims", "points", "value"),
    [("sm", "ss", 0.5), ("ss", "smmm", 0.25), ("sss", "sss", 1.0), ("mm", "ss", 0.0), ("", "ss", None)],
)
def test_a_summary_is_as_good_as_the_lesser_half(
    server: ModelServer, claims: str, points: str, value: float | None
) -> None:
    """min(alignment, coverage); nothing where one of the two is not known."""
    words = {"s": "stated", "m": "missing"}

    def answer(request: Request) -> str:
        said = claims if request.prompt.startswith("<<<SUMMARY>>>") else points
        return items([words[one] for one in said])

    server.answer = answer
    assert score(bound(server, "summarization")).value == value


def test_context_precision_is_the_mean_of_precisions_where_it_is_useful(server: ModelServer) -> None:
    """Σ P@k·vₖ ÷ Σ vₖ of every table of one to six contexts, and through a judge of three of them."""
    for size in range(1, 7):
        for useful in itertools.product([False, True], repeat=size):
            precisions = [Fraction(sum(useful[: k + 1]), k + 1) for k in range(size) if useful[k]]
            expected = sum(precisions) / len(precisions) if precisions else Fraction(0)
            assert average_precision(useful) == pytest.approx(float(expected), abs=1e-15)
            if all(useful):
                assert average_precision(useful) == 1.0
    for verdicts, value in (("yny", Fraction(5, 6)), ("nny", Fraction(1, 3)), ("nnn", Fraction(0))):
        said = items(["useful" if one == "y" else "useless" for one in verdicts])
        server.answer = lambda request, said=said: said
        found = score(bound(server, "context_precision"), {**DATA, "contexts": ["a", "b", verdicts]})
        assert found.value == pytest.approx(float(value), abs=1e-15)


@pytest.mark.parametrize(
    ("metric", "params", "table"),
    [
        ("rubric", {"criterion": "x"}, {"yes": 1, "no": 0}),
        ("closed_qa", {}, {"yes": 1, "no": 0}),
        ("factuality", {}, {"same": 1, "immaterial": 1, "superset": 0.6, "subset": 0.4, "conflict": 0}),
        ("rubric", {"criterion": "x", "labels": {"C": 1, "P": 0.5, "I": 0}}, {"C": 1, "P": 0.5, "I": 0}),
        # the mark, moved to 0 … 1: (s − min) ÷ (max − min), min 1 and max 5
        ("g_eval", {"criterion": "x", "steps": ["y"]}, {str(s): (s - 1) / (5 - 1) for s in range(1, 6)}),
        ("harmful_content", {}, {"yes": 1, "no": 0}),
        ("goal_reached", {}, {"yes": 1, "no": 0}),
    ],
)
def test_a_label_has_the_score_of_its_table(
    server: ModelServer, metric: str, params: dict[str, Any], table: dict[str, float]
) -> None:
    """Never a number of the judge's own."""
    for label, value in table.items():
        server.answer = lambda request, label=label: json.dumps({"reasoning": "r", "label": label})
        found = score(bound(server, metric, params, cache=False))
        assert (found.label, found.value) == (label, value)


def test_retrieval_by_id_is_found_over_wanted() -> None:
    """Without a judge: recall = found ÷ wanted, precision = found ÷ looked at, and the first hit's place."""
    found = build("retrieval", {"k": 4}).evaluate(
        {"retrieved": ["x", "a", "b", "y", "c"], "reference": ["a", "b", "c"]}
    )
    assert isinstance(found, dict)
    values = {name: one.value if hasattr(one, "value") else one for name, one in found.items()}
    assert values["recall"] == pytest.approx(float(Fraction(2, 3)), rel=1e-15)
    assert values["precision"] == float(Fraction(2, 4)) and values["mrr"] == 0.5
