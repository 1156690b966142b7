"""Metrics of a run as a whole: their values against references, their intervals, and where they are shown."""

from __future__ import annotations

import math
import random
from pathlib import Path
from time import process_time
from typing import Any

import duckdb
import pytest

from promptlab import Dataset, PromptLab, PromptTemplate, RunCase, RunEvaluator
from promptlab.domain.run_metrics import RunMetric
from promptlab.errors import ConfigError
from promptlab.evaluators.calibration import Calibration
from promptlab.evaluators.classification import Classification
from promptlab.evaluators.corpus import CorpusBleu, CorpusChrf
from promptlab.evaluators.of_runs import Additive
from promptlab.results.run_sums import MOST_UNITS, RowSums
from promptlab.statistics import bootstrap, paired_bootstrap

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "sat",
    "ran",
    "on",
    "under",
    "mat",
    "tree",
    "quickly",
    "over",
    "red",
    "old",
]


def cases(pairs: list[tuple[Any, Any]]) -> list[RunCase]:
    return [RunCase({"response": said, "reference": truth}, n) for n, (said, truth) in enumerate(pairs)]


def test_a_confusion_matrix_gives_what_scikit_learn_gives() -> None:
    """Values of scikit-learn 1.9.1: `precision_recall_fscore_support(..., labels=["a", "b", "c"],
    average="macro")` and its kin."""
    truth, said = "aaaaaaaaabbbbbbccc", "aaaaaabcbbbbaaacca"
    found = Classification().evaluate(cases(list(zip(said, truth, strict=True))))
    right = {
        "accuracy": 0.611111111111,
        "balanced_accuracy": 0.611111111111,
        "precision_macro": 0.622222222222,
        "recall_macro": 0.611111111111,
        "f1_macro": 0.614566719830,
        "kappa": 0.353846153846,
        "mcc": 0.355745729312,
    }
    assert {name: found[name] for name in right} == pytest.approx(right, abs=1e-12)


def by_hand(pairs: list[tuple[str, str]]) -> dict[str, float]:
    """The definitions, from the list of pairs (answer, label) itself."""
    labels = sorted({truth for _, truth in pairs})
    pairs = [(s if s in labels else "z", t) for s, t in pairs]
    n = len(pairs)
    f1, recall, precision = [], [], []
    for label in labels:
        tp = sum(s == t == label for s, t in pairs)
        fp = sum(s == label != t for s, t in pairs)
        fn = sum(t == label != s for s, t in pairs)
        precision.append(tp / (tp + fp) if tp + fp else 0.0)
        recall.append(tp / (tp + fn))
        f1.append(2 * tp / (2 * tp + fp + fn))
    agree = sum(s == t for s, t in pairs) / n
    everything = {s for s, _ in pairs} | set(labels)
    share = [(sum(s == c for s, _ in pairs) / n, sum(t == c for _, t in pairs) / n) for c in everything]
    chance = sum(a * b for a, b in share)
    spread = math.sqrt((1 - sum(a * a for a, _ in share)) * (1 - sum(b * b for _, b in share)))
    return {
        "accuracy": agree,
        "precision_macro": sum(precision) / len(labels),
        "recall_macro": sum(recall) / len(labels),
        "f1_macro": sum(f1) / len(labels),
        "kappa": (agree - chance) / (1 - chance),
        "mcc": (agree - chance) / spread,
    }


def test_scores_of_random_tables_are_those_of_the_definitions() -> None:
    drawn = random.Random(3)
    for _ in range(300):
        labels = "abcde"[: drawn.randint(2, 5)]
        pairs = [(drawn.choice(labels + "z"), drawn.choice(labels)) for _ in range(drawn.randint(20, 60))]
        found = Classification().evaluate(cases([(s, t) for s, t in pairs]))
        for name, value in by_hand(pairs).items():
            assert found[name] == pytest.approx(value), (name, pairs)


def test_answers_that_are_no_label_and_none_at_all_have_columns_of_their_own() -> None:
    metric = Classification(positive="yes")
    given = cases([("Yes", "yes"), ("maybe", "yes"), (None, "no"), ("no ", "no")])
    fitted = metric.fitted(given)
    total: dict[str, float] = {}
    for case in given:
        for name, value in fitted.counts(case).items():
            total[name] = total.get(name, 0) + value
    assert fitted.detail(total) == {
        "kind": "confusion",
        "labels": ["no", "yes"],
        "answers": ["no", "yes", "(other)", "(none)"],
        "matrix": [[1, 0, 0, 1], [0, 1, 1, 0]],
    }
    found = metric.evaluate(given)
    assert (found["precision"], found["recall"], found["f1"]) == (1.0, 0.5, pytest.approx(2 / 3))


def test_more_labels_than_a_matrix_holds_are_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="more than 100 different labels: give `labels`"):
        Classification().evaluate(cases([("x", f"label {n}") for n in range(101)]))


def sentences(drawn: random.Random, n: int) -> list[str]:
    return [" ".join(drawn.choice(WORDS) for _ in range(drawn.randint(0, 12))) for _ in range(n)]


@pytest.mark.parametrize("kind", ["bleu", "chrf"])
def test_a_corpus_score_is_sacrebleus(kind: str) -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    drawn = random.Random(kind)
    for _ in range(40):
        said, wanted = sentences(drawn, 25), [f"the {s}" for s in sentences(drawn, 25)]
        metric: Additive = CorpusBleu() if kind == "bleu" else CorpusChrf()
        (found,) = metric.evaluate(cases(list(zip(said, wanted, strict=True)))).values()
        right = {"bleu": sacrebleu.corpus_bleu, "chrf": sacrebleu.corpus_chrf}[kind](
            said, [wanted]
        ).score / 100
        assert found == pytest.approx(right, abs=1e-9)


def test_calibration_is_that_of_its_formulas() -> None:
    given = [(0.95, True), (0.9, True), (0.85, False), ("30%", 0), (0.3, 1)]
    found = Calibration().evaluate([RunCase({"confidence": p, "outcome": y}) for p, y in given])
    assert found["brier"] == pytest.approx((0.05**2 + 0.1**2 + 0.85**2 + 0.3**2 + 0.7**2) / 5)
    # Bins .9 to 1 (two), .8 to .9, .3 to .4 (two).
    assert found["ece"] == pytest.approx((abs(1.85 - 2) + 0.85 + abs(0.6 - 1)) / 5)


@pytest.mark.parametrize(("given", "words"), [(85, "write percentages with a %"), ("sure", "is no number")])
def test_what_is_no_probability_is_named(given: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Calibration().counts(RunCase({"confidence": given, "outcome": 1}))


def mean(sums: Any) -> dict[str, float | None]:
    return {"mean": sums.get("x", 0.0) / sums["n"] if sums.get("n") else None}


def test_the_interval_of_a_mean_is_about_that_of_the_t_interval_and_the_same_every_time() -> None:
    drawn = random.Random(7)
    units = [{"n": 1.0, "x": drawn.gauss(5, 2)} for _ in range(400)]
    found = bootstrap(units, mean)["mean"]
    assert found.stderr == pytest.approx(2 / 20, rel=0.15)
    assert found.interval.low == pytest.approx(5 - 0.196, abs=0.2) and found.resamples == 1_000
    assert bootstrap(list(reversed(units)), mean)["mean"] == found


def test_the_difference_of_two_runs_is_judged_by_the_same_rows() -> None:
    drawn = random.Random(8)
    base = [drawn.gauss(0, 10) for _ in range(300)]
    pairs = [({"n": 1.0, "x": v}, {"n": 1.0, "x": v + 0.5 + drawn.gauss(0, 1)}) for v in base]
    found = paired_bootstrap(pairs, mean)["mean"]
    assert 0.1 < found.interval.low < found.interval.high < 0.9  # the rows' spread of 10 cancels
    assert bootstrap([b for _, b in pairs], mean)["mean"].stderr > 5 * found.stderr


def test_so_many_rows_are_put_into_blocks_that_another_runs_rows_share() -> None:
    drawn, all_rows, few = random.Random(9), RowSums(), RowSums()
    for n in range(3 * MOST_UNITS):
        all_rows.add(f"row {n}", {"n": 1.0, "x": drawn.gauss(0, 1)})
        if n < 50:
            few.add(f"row {n}", {"n": 1.0, "x": 1.0})
    assert all_rows.blocks and not few.blocks and len(all_rows.units) <= MOST_UNITS
    assert set(few.in_blocks().units) <= set(all_rows.units)
    found = bootstrap(list(all_rows.units.values()), mean, most_work=1)["mean"]
    assert found.stderr == pytest.approx(1 / math.sqrt(3 * MOST_UNITS), rel=0.2)
    assert RowSums.unpacked(all_rows.packed()).units == all_rows.units


class Spread(RunEvaluator):
    """Counts different answers, and sums another metric's scores."""

    inputs = {"response": "$inference", "hit": "$score.exact_match"}
    scores = ("different", "hits")
    higher_is_better = {"different": True, "hits": True}
    resamples = 20

    def evaluate(self, cases: Any) -> dict[str, float]:
        return {"different": len({case["response"] for case in cases}), "hits": sum(c["hit"] for c in cases)}


class Breaks(RunEvaluator):
    """Raises."""

    def evaluate(self, cases: Any) -> float:
        raise RuntimeError(f"{len(cases)} cases are not enough")


def experiment(folder: Path, answers: list[str], *more: dict[str, Any]) -> dict[str, Any]:
    file = folder / "rows.jsonl"
    rows = [f'{{"id": "r{n}", "text": "{said}", "kind": "{"ab"[n % 2]}"}}' for n, said in enumerate(answers)]
    file.write_text("\n".join(rows) + "\n")
    return {
        "name": "sorting",
        "prompt_template": PromptTemplate(name="p", user_prompt="<text>"),
        "dataset": Dataset(name="rows", file_path=str(file), id_column="id"),
        "model": "simulated/echo",
        "evaluation": [
            {"metric": "exact_match", "column_mapping": {"reference": "kind"}},
            {"metric": "classification", "column_mapping": {"reference": "kind"}},
            *more,
        ],
    }


def test_a_run_has_them_in_its_summary_its_json_and_a_comparison(tmp_path: Path) -> None:
    lab = PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    own = [{"metric": "spread", "evaluator": Spread()}, {"metric": "breaks", "evaluator": Breaks()}]
    wrong = ["ab"[n % 2] if n % 4 else "b" for n in range(40)]
    first = lab.experiment.run(experiment(tmp_path, wrong, *own), quiet=True)
    second = lab.experiment.run(experiment(tmp_path, ["ab"[n % 2] for n in range(40)], *own), quiet=True)
    assert first.summary is not None
    found = first.summary.run_metrics
    values = found["classification"].values
    assert values["classification.accuracy"].value == pytest.approx(0.75)
    low, high = values["classification.accuracy"].low, values["classification.accuracy"].high
    assert low is not None and high is not None and 0.55 < low < 0.75 < high < 0.9
    assert found["classification"].detail["matrix"] == [[10, 10], [0, 20]]
    assert found["spread"].values["spread.hits"].value == 30
    assert found["spread"].values["spread.hits"].low is not None
    assert "RuntimeError: 40 cases are not enough" in str(found["breaks"].values["breaks"].error)
    assert RunMetric.from_json(found["spread"].to_json()) == found["spread"]
    assert "classification.accuracy" in str(first)
    compared = {m.metric: m for m in lab.experiment.compare(first, second).run_metrics}
    accuracy, hits = compared["classification.accuracy"], compared["spread.hits"]
    assert accuracy.verdict == "better" and accuracy.difference == pytest.approx(0.25)
    # The own metric counts what accuracy is the mean of, over the same rows: so do its draws.
    assert hits.verdict == "better" and hits.difference == 10
    assert hits.low is not None and hits.low / 40 == pytest.approx(accuracy.low, abs=0.06)
    assert "`resamples`" in str(compared["breaks"].why)
    traces = first.export(tmp_path / "first.otel.jsonl").read_text().splitlines()
    assert len(traces) == 41 and "classification.accuracy" in traces[-1] and "exact_match" not in traces[-1]


def test_draws_that_do_not_vary_are_no_certainty(tmp_path: Path) -> None:
    """Two runs that are equal, or have as many different answers in every draw, differ by something all the
    same, as far as so few rows tell."""
    lab = PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    own = {"metric": "spread", "evaluator": Spread()}
    runs = [lab.experiment.run(experiment(tmp_path, ["a"] * 40, own), quiet=True) for _ in range(2)]
    compared = {m.metric: m for m in lab.experiment.compare(*runs).run_metrics}
    accuracy, different = compared["classification.accuracy"], compared["spread.different"]
    assert accuracy.low is not None and accuracy.high is not None
    assert -0.06 < accuracy.low < -0.03 and 0.03 < accuracy.high < 0.06
    assert different.low is None and "draws that vary" in str(different.why)
    gates = [{"metric": "classification.accuracy", "no_regression": m} for m in (0.02, 0.1)]
    gate = lab.experiment.gate(runs[1], baseline=runs[0], gates=gates)
    assert [check.outcome for check in gate.checks] == ["undecided", "passed"]


def test_draws_of_other_rows_are_no_pairs(tmp_path: Path) -> None:
    lab = PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    own = {"metric": "spread", "evaluator": Spread()}
    runs = [lab.experiment.run(experiment(tmp_path, ["a"] * n, own), quiet=True) for n in (20, 21)]
    found = {m.metric: m for m in lab.experiment.compare(*runs).run_metrics}["spread.hits"]
    assert found.difference == 1 and found.verdict is None and "other rows" in str(found.why)


def test_a_clusters_rows_are_drawn_together_for_an_own_metric_too(tmp_path: Path) -> None:
    """Two clusters are too few to draw from, whatever the rows."""
    lab = PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    own = {"metric": "spread", "evaluator": Spread()}
    config = {**experiment(tmp_path, list("abab" * 10), own), "cluster_by": "kind"}
    run = lab.experiment.run(config, quiet=True)
    assert run.summary is not None and run.summary.run_metrics["spread"].values["spread.hits"].low is None


def test_trials_of_a_row_are_drawn_together(tmp_path: Path) -> None:
    """Ten equal answers to each row are no more evidence than one."""
    lab = PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    wrong = ["ab"[n % 2] if n % 4 else "b" for n in range(40)]
    once = lab.experiment.run(experiment(tmp_path, wrong), quiet=True)
    often = lab.experiment.run({**experiment(tmp_path, wrong), "trials": 10}, quiet=True)
    errors = [
        run.summary.run_metrics["classification"].values["classification.accuracy"].stderr
        for run in (once, often)
        if run.summary
    ]
    assert errors[0] == pytest.approx(errors[1])


def test_metrics_of_the_run_are_added_to_one_that_is_there(tmp_path: Path) -> None:
    lab = PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    run = lab.experiment.run(experiment(tmp_path, list("abab" * 5)), quiet=True)
    more = {"metric": "classification", "column_mapping": {"reference": "kind"}, "params": {"positive": "a"}}
    chrf = {"metric": "corpus_chrf", "column_mapping": {"reference": "kind"}}
    again = lab.experiment.score(run.run_id, [more, chrf], quiet=True)
    assert again.summary is not None
    assert list(again.summary.run_metrics) == ["classification", "corpus_chrf", "classification@0"]
    assert again.summary.run_metrics["corpus_chrf"].values["corpus_chrf"].value == 1.0
    assert "classification.precision" in again.summary.run_metrics["classification"].values


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ({"metric": "calibration", "column_mapping": {"outcome": "$score.f2"}}, "metric of \\$score.f2"),
        ({"metric": "spread", "evaluator": Spread(), "headline": True}, "leave headline out"),
        (
            {"metric": "corpus_bleu", "column_mapping": {"response": "$prompt", "reference": "kind"}},
            "not kept",
        ),
    ],
)
def test_what_cannot_be_is_said_before_the_first_call(
    tmp_path: Path, metric: dict[str, Any], words: str
) -> None:
    lab = PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    with pytest.raises(ConfigError, match=words):
        lab.experiment.run(experiment(tmp_path, ["a"], metric), quiet=True)


@pytest.mark.long
def test_a_pattern_without_an_end_holds_up_no_run(tmp_path: Path) -> None:
    """It costs its metric, and a second of a case or two, not of every case."""
    lab = PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    answers = ["a" * 40 + "!"] * 40
    table = {
        "metric": "classification",
        "extract": {"regex": "^(a|a)*$"},
        "column_mapping": {"reference": "kind"},
    }
    config = {**experiment(tmp_path, answers), "evaluation": [table]}
    began = process_time()
    run = lab.experiment.run(config, quiet=True)
    assert process_time() - began < 15
    assert run.status == "completed" and run.summary is not None
    assert run.summary.run_metrics["classification"].values["classification.accuracy"].error
    assert {row["judged.classification"] for row in run.results()} == {None}


def test_what_was_taken_of_each_answer_stands_beside_it(tmp_path: Path) -> None:
    """In the rows of the run and its exports; also of a metric that is added later, and of none where
    nothing was found."""
    lab = PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    answers = ["Answer: a", "so b. Answer: B ", "I do not know"]
    table = {
        "metric": "classification",
        "extract": {"after": "Answer:"},
        "column_mapping": {"reference": "kind"},
    }
    config = {**experiment(tmp_path, answers), "evaluation": [table]}
    run = lab.experiment.run(config, quiet=True)
    taken = ["a", "B", None]
    assert [row["judged.classification"] for row in run.results()] == taken
    sure = {
        "metric": "calibration",
        "extract": {"regex": "(a|b)"},
        "column_mapping": {"outcome": "$score.exact_match"},
    }
    exact = {"metric": "exact_match", "column_mapping": {"reference": "kind"}}
    again = lab.experiment.score(run.run_id, [exact, sure], quiet=True)
    for suffix in ("csv", "jsonl", "parquet"):
        file = again.export(tmp_path / f"x.{suffix}")
        read = {"csv": "read_csv", "jsonl": "read_json", "parquet": "read_parquet"}[suffix]
        con = duckdb.connect()
        found = con.execute(
            f"""SELECT "judged.classification", "judged.calibration" FROM {read}('{file}') ORDER BY "case" """
        ).fetchall()
        con.close()
        assert found == list(zip(taken, ["a", "b", None], strict=True)), suffix
    assert again.summary is not None
    matrix = again.summary.run_metrics["classification"].detail
    assert (matrix["answers"], matrix["matrix"]) == (["a", "b", "(none)"], [[1, 0, 1], [0, 1, 0]])
