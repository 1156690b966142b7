"""Evaluators that give several scores and say their names: each is a metric of its own."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from promptlab import Evaluator, PromptLab, Score, get_model
from promptlab.errors import ConfigError
from promptlab.evaluators.foreign import scores_of
from promptlab.gates.conditions import parse_condition

Pair = namedtuple("Pair", "precision recall")


class Match(Evaluator):
    """Two scores of an answer, as a class that can be made again."""

    scores = ("precision", "recall")
    higher_is_better = {"precision": True, "recall": False}

    def evaluate(self, data: dict[str, Any]) -> Any:
        get_model("simulated/echo").invoke("", "counted as the metric's usage")
        said = data["response"]
        if said == "raise":
            raise RuntimeError("nothing there")
        if said == "assert":
            raise AssertionError("not like this")
        if said == "half":
            return {"precision": 0.25, "words": 3}
        return {"precision": 0.5, "recall": Score(passed=True, reason="all of it")}


def run(pl: PromptLab, rows: list[str], **metric: Any) -> Any:
    """A run whose answers are its rows."""
    return pl.experiment.run(
        {
            "name": "several",
            "dataset": {"name": "d", "rows": [{"q": q} for q in rows]},
            "prompt_template": {"name": "p", "user_prompt": "<q>"},
            "model": "simulated/echo",
            "evaluation": [
                {"metric": "match", "evaluator": Match, "column_mapping": {"response": "q"}, **metric},
                {"metric": "length"},
            ],
        }
    )


def test_each_named_score_is_a_metric_of_its_own(tmp_path: Path) -> None:
    """In results, exports and the summary, and compared with another run's."""
    with PromptLab(tmp_path / "lab.db") as pl:
        first = run(pl, ["a", "half", "raise", "assert"], headline=True)
        rows = list(first.results())
        assert [row["score.match.precision"] for row in rows] == [0.5, 0.25, None, 0.0]
        assert [row["score.match.recall"] for row in rows] == [1.0, None, None, 0.0]
        assert [row["passed.match.recall"] for row in rows] == [True, None, None, False]
        assert rows[0]["reason.match.recall"] == "all of it"
        assert rows[1]["score_error.match.recall"] == (
            "recall: ValueError: the evaluator gave no score 'recall'"
        )
        assert (
            "nothing there" in rows[2]["score_error.match.precision"] == rows[2]["score_error.match.recall"]
        )
        metrics = first.summary.metrics
        assert list(metrics) == ["match.precision", "match.recall", "length"]
        assert (metrics["match.precision"].n, metrics["match.precision"].failed) == (3, 1)
        assert (metrics["match.recall"].n, metrics["match.recall"].failed) == (2, 2)
        assert [metrics[name].higher_is_better for name in ("match.precision", "match.recall")] == [
            True,
            False,
        ]
        assert [metrics[name].usage.calls for name in ("match.precision", "match.recall")] == [4, 0]
        assert [m.get("headline") for m in first.record.experiment["evaluation"]] == [True, None, None]
        first.export(tmp_path / "out.csv")
        assert "score.match.precision,passed.match.precision" in (tmp_path / "out.csv").read_text()
        other = run(pl, ["a", "half", "raise", "assert"])
        compared = pl.experiment.compare(first.run_id, other.run_id)
        assert {"match.precision", "match.recall"} <= compared.to_json()["others"][0]["metrics"].keys()


def test_one_evaluation_gives_all_and_a_pass_over_the_failures_makes_all_again(tmp_path: Path) -> None:
    """A case of which one score failed is evaluated once more; the others are left alone."""
    calls: list[str] = []

    class Counted(Match):
        def evaluate(self, data: dict[str, Any]) -> Any:
            calls.append(data["response"])
            return super().evaluate(data)

    with PromptLab(tmp_path / "lab.db") as pl:
        done = run(pl, ["a", "half", "b"], evaluator=Counted())
        assert sorted(calls) == ["a", "b", "half"]
        calls.clear()
        again = done.resume(failed=True)
        assert calls == ["half"]
        assert again.summary.metrics["match.precision"].n == 3


def test_the_configuration_names_scores_too(tmp_path: Path) -> None:
    """For a function; and they are names, each once, of an evaluator that may give several."""
    with PromptLab(tmp_path / "lab.db") as pl:
        named = run(pl, ["a"], evaluator=lambda data: {"x": 1, "y": 2}, scores=["x", "y"])
        assert list(named.summary.metrics) == ["match.x", "match.y", "length"]
        unnamed = run(pl, ["a"], evaluator=lambda data: {"x": 1, "y": 2})
        assert list(unnamed.summary.metrics) == ["match", "length"]
        for wrong, why in (
            ({"scores": ["x", "x"]}, "each once"),
            ({"metric": "exact_match", "evaluator": None, "scores": ["x"]}, "gives one score"),
            ({"name": "length", "scores": ["x"]}, "2 times"),
        ):
            with pytest.raises(ConfigError, match=why):
                run(pl, ["a"], **wrong)
        with pytest.raises(ConfigError, match=r"'match\.x' is a metric, and a score of another one"):
            pl.experiment.run(
                {
                    "dataset": "d",
                    "prompt_template": "p",
                    "model": "simulated/echo",
                    "evaluation": [
                        {"metric": "length", "name": "match.x"},
                        {"metric": "match", "evaluator": Match, "scores": ["x"]},
                    ],
                }
            )


def test_named_scores_are_read_from_dicts_lists_and_objects() -> None:
    """What is not there has failed; what is more is in the metadata of the first."""
    parts = ("precision", "recall")
    for verdict in (
        {"recall": 0.5, "precision": 1},
        [{"name": "precision", "score": 1.0}, {"name": "recall", "score": 0.5}],
        Pair(1, 0.5),
    ):
        found = scores_of(verdict, parts)
        assert {name: score.value for name, score in found.items()} == {"precision": 1.0, "recall": 0.5}
    more = scores_of({"precision": 1, "recall": 2, "words": 9, "other": object()}, parts)
    assert more["precision"].metadata == {"others": {"words": 9}}
    for wrong in (0.5, {"f1": 1}, []):
        with pytest.raises(TypeError, match="its scores are precision, recall, and gave none of them"):
            scores_of(wrong, parts)


def test_a_gate_names_a_score(tmp_path: Path) -> None:
    """Also one that only the class knows."""
    facts = {"metrics": {"match.recall": {"mean": 0.4, "ci_low": 0.1}}}
    for text in ("match.recall < 0.5", "match.recall.ci_low < 0.2"):
        assert parse_condition(text, ["match"], ["match"]).met(facts), text
        assert parse_condition(text, ["match.recall"]).met(facts), text
    assert (
        parse_condition("match.nothing < 0.5", ["match"], ["match"]).met(facts)
        == "match.nothing.mean is unknown"
    )


class MatchLater(Match):
    """The same, on the event loop."""

    async def evaluate(self, data: dict[str, Any]) -> Any:
        if data["response"] == "raise":
            raise RuntimeError("nothing there")
        return {"precision": 0.5, "recall": True}


CODE = """
from promptlab import Evaluator

class Match(Evaluator):
    scores = ("precision", "recall")

    def evaluate(self, data):
        if data["response"] == "raise":
            raise RuntimeError("nothing there")
        return {"precision": 0.5, "recall": True}
"""


@pytest.mark.parametrize("where", ["loop", "process by name", "process by value"])
def test_named_scores_are_the_same_wherever_the_evaluator_runs(tmp_path: Path, where: str) -> None:
    """On the event loop, in a process that loads its file, and in one that it is sent to."""
    (tmp_path / "mine.py").write_text(CODE)
    metric: dict[str, Any] = {
        "loop": {"evaluator": MatchLater()},
        "process by name": {"evaluator": f"{tmp_path / 'mine.py'}:Match"},
        "process by value": {"evaluator": Match(), "isolated": True},
    }[where]
    with PromptLab(tmp_path / "lab.db") as pl:
        rows = list(run(pl, ["a", "raise"], **metric).results())
    assert [row["score.match.precision"] for row in rows] == [0.5, None]
    assert [row["score.match.recall"] for row in rows] == [1.0, None]
    assert "match: RuntimeError: nothing there" in rows[1]["score_error.match.recall"]
