"""Labels of people: kept, imported, drawn; judges checked by them; means and gates that rest on them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from promptlab import Evaluator, PromptLab
from promptlab.cli import commands
from promptlab.domain.labels import MOST_HISTORY, CaseLabel
from promptlab.errors import ConfigError, RunNotFoundError, UnknownNameError
from promptlab.labelling import Drift, JudgeCheck
from promptlab.labels.files import labels_in
from promptlab.sdk.run import Run
from tests.simulation.judged import false_differences
from tests.unit.judged_runs import JudgeServer, experiment, label_rows, truth


@pytest.fixture(scope="module")
def server() -> Iterator[JudgeServer]:
    with JudgeServer() as running:
        yield running


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "lab.db"


@pytest.fixture
def pl(db: Path) -> Iterator[PromptLab]:
    with PromptLab(str(db)) as lab:
        yield lab


@pytest.fixture
def run(server: JudgeServer, pl: PromptLab) -> Run:
    return pl.experiment.run(experiment(server), quiet=True)


def test_a_label_is_kept_with_what_it_said_before(pl: PromptLab, run: Run) -> None:
    """By rater and metric; saying the same again changes nothing; the history is bounded."""
    assert pl.label.put(run, 3, passed=True, note="fine", rater="zoe")
    assert not pl.label.put(run, "3", passed=True, note="fine", rater="zoe")
    assert pl.label.put(run, 3, passed=False, tag="wrong unit", rater="zoe")
    pl.label.put(run, 3, passed=True, rater="bob")
    pl.label.put(run, 3, score=0.5, metric="rubric", rater="zoe")
    found = {(one.rater, one.metric): one for one in pl.label.list(run)}
    assert len(found) == 3 and found["zoe", "rubric"].score == 0.5 and found["bob", ""].passed is True
    zoe = found["zoe", ""]
    assert (zoe.passed, zoe.tag, zoe.note, zoe.id) == (False, "wrong unit", None, "3") and zoe.at
    assert [(one["passed"], one["note"]) for one in zoe.history] == [(True, "fine")]
    for n in range(MOST_HISTORY + 5):
        pl.label.put(run, 3, tag=f"tag {n}", rater="zoe")
    (zoe,) = (one for one in pl.label.list(run) if one.rater == "zoe" and not one.metric)
    assert len(zoe.history) == MOST_HISTORY and zoe.history[-1]["tag"] == f"tag {MOST_HISTORY + 3}"
    assert pl.label.remove(run, 3, rater="bob") and not pl.label.remove(run, 3, rater="bob")
    assert pl.label.forget_rater("zoe") == 2 and list(pl.label.list(run)) == []


def test_a_label_that_cannot_be_is_an_error_that_says_why(pl: PromptLab, run: Run) -> None:
    """No case, no metric, nothing said, beyond the range; and of a run that there is not."""
    with pytest.raises(ConfigError, match=r"no case 60\.0: it has 60 rows"):
        pl.label.put(run, 60, passed=True)
    with pytest.raises(ConfigError, match="no row with the id 'x'"):
        pl.label.put(run, "x", passed=True)
    with pytest.raises(ConfigError, match="says nothing"):
        pl.label.put(run, 1)
    with pytest.raises(ConfigError, match="note of 10,001 characters"):
        pl.label.put(run, 1, note="x" * 10_001)
    with pytest.raises(UnknownNameError, match="rubic"):
        pl.label.put(run, 1, passed=True, metric="rubic")
    with pytest.raises(ConfigError, match="goes from 0 to 1"):
        pl.label.put(run, 1, score=4, metric="rubric")
    with pytest.raises(RunNotFoundError):
        pl.label.put("nobody", 1, passed=True)
    assert list(pl.label.list(run)) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("row,passed\n0,maybe\n", "Line 2: passed is 'maybe'"),
        ("case,score\n0,high\n", "Line 2: the score 'high' is no number"),
        ("case,note\n0,\n", "Line 2 says nothing"),
        ("case,passed\nx,1\n", "Line 2: 'x' is no case"),
        ("case,passed\n,1\n", "Line 2 names no case"),
        ("name,passed\n0,1\n", "`case` or `id`"),
        ("", "It has nothing"),
    ],
)
def test_a_wrong_line_of_a_csv_file_is_named(text: str, words: str) -> None:
    """And nothing of it is read."""
    with pytest.raises(ConfigError, match=words):
        labels_in(text.encode())


def test_csv_is_read_however_spreadsheets_write_it() -> None:
    """Semicolons, a byte order mark, trials after a dot, other words for pass and fail, further columns."""
    first, second = labels_in("\ufeffCase;Pass;Category;x\n12.1;YES;\n3;fail;odd;y\n".encode())
    assert (first.case, first.trial, first.passed, first.tag) == (12, 1, True, None)
    assert (second.case, second.trial, second.passed, second.tag) == (3, 0, False, "odd")


def test_a_queue_is_a_seeded_sample_that_two_runs_share(server: JudgeServer, pl: PromptLab, run: Run) -> None:
    """What is labelled already is marked; a second rater gets what another labelled."""
    other = pl.experiment.run(experiment(server, "judge-70-70"), quiet=True)
    drawn = [one.id for one in pl.label.queue(run, 10, seed=3)]
    assert len(set(drawn)) == 10 and drawn == [one.id for one in pl.label.queue(other, 10, seed=3)]
    assert drawn == [one.id for one in pl.label.queue(run, 20, seed=3)][:10]
    assert drawn != [one.id for one in pl.label.queue(run, 10, seed=4)]
    pl.label.put(run, int(drawn[0]), passed=True, rater="zoe")
    assert [one.labelled for one in pl.label.queue(run, 2, seed=3, rater="zoe")] == [True, False]
    assert [one.id for one in pl.label.queue(run, 10, second=True, rater="bob")] == [drawn[0]]
    with pytest.raises(ConfigError, match="1 to 5,000"):
        pl.label.queue(run, 0)


def test_a_judge_is_checked_against_people_and_gates_ask_for_that(server: JudgeServer, pl: PromptLab) -> None:
    """Rates, table, disagreements and what is missing; a good judge with enough labels is certified, for
    other runs too, and another judge is not; the check is the same as JSON."""
    good = pl.experiment.run(experiment(server, "judge-98-98", rows=260), quiet=True)
    gates = [{"metric": "rubric", "min": 0.3}]
    refused = pl.experiment.gate(good, gates=gates)
    assert refused.outcome == "undecided" and "never checked" in refused.checks[0].said
    label_rows(pl, good, range(20))
    check = pl.judge.check("rubric", good)
    assert not check.certified and check.needed_passed and "not certified: TPR is" in check.why
    assert pl.experiment.gate(good, gates=gates).outcome == "undecided"
    label_rows(pl, good, range(260))
    check = pl.judge.check("rubric", good)
    judged = {row["case"]: row["passed.rubric"] for row in good.results()}
    assert check.certified and check.table.n == 260 and check.random and not check.own
    assert check.table.both_pass == sum(truth(n) and judged[n] for n in range(260))
    assert {one.case for one in check.disagreements} == {n for n in range(260) if truth(n) != judged[n]}
    assert check.tpr is not None and check.tpr.low >= 0.8 and check.kappa is not None and check.kappa > 0.8
    assert JudgeCheck.from_json(json.loads(json.dumps(check.to_json()))) == check
    assert pl.experiment.gate(good, gates=gates).passed
    again = pl.experiment.run(experiment(server, "judge-98-98", rows=30), quiet=True)
    assert pl.experiment.gate(again, gates=gates).checks[0].kind != "judge"
    other = pl.experiment.run(experiment(server, "judge-97-98", rows=30), quiet=True)
    allowed = {"uncertified_judges": "allow", "checks": gates}
    assert pl.experiment.gate(other, gates=gates).outcome == "undecided"
    assert pl.experiment.gate(other, gates=allowed).passed


def test_labels_correct_means_and_differences_and_show_drift(server: JudgeServer, pl: PromptLab) -> None:
    """Beside the judge's own, wherever 20 rows are labelled; labels that are no random sample say so; answers
    that are the same in both runs tell that the judge differs."""
    a = pl.experiment.run(experiment(server, ["judge-80-80", "judge-80-81", "judge-81-80"], 150), quiet=True)
    b = pl.experiment.run(experiment(server, "judge-99-40", 150), quiet=True)
    assert pl.label.corrected(a) == {}
    label_rows(pl, a, range(80))
    label_rows(pl, b, range(40, 150), random=False)
    mean = pl.label.corrected(a)["rubric"]
    people = sum(map(truth, range(150))) / 150
    assert mean.labels == 80 and mean.ci_low < people < mean.ci_high and mean.caveat is None
    assert "not known to be a random sample" in str(pl.label.corrected(b)["rubric"].caveat)
    (metric,) = pl.experiment.compare(a, b).metrics
    assert (metric.difference or 0) > 0.1 and metric.corrected is not None
    found = metric.corrected
    assert found.labels == 40 and found.ci_low <= 0 <= found.ci_high
    assert found.verdict == "no evidence of a difference"
    assert (
        pl.experiment.compare(a, b).to_json()["others"][0]["metrics"]["rubric"]["corrected"]
        == found.to_json()
    )
    drift = pl.judge.drift("rubric", a, b)
    assert drift.drifted and drift.pairs == 150 and "the judge changed by" in drift.words
    assert drift.fingerprints[0] != drift.fingerprints[1]
    assert Drift.from_json(json.loads(json.dumps(drift.to_json()))) == drift
    check = pl.judge.check("rubric", a, record=False)
    assert check.jury == 3 and check.jury_alpha is not None and 0 < check.jury_alpha < 0.6
    assert check.length_slope is not None and check.length_slope.n == 150


class Halves(Evaluator):
    """Gives two scores, neither of which is what a pass of the answer says."""

    inputs = {"response": "$inference"}
    scores = ("first", "second")
    value_range = (0.0, 1.0)

    def evaluate(self, data: dict[str, Any]) -> dict[str, float]:
        return {"first": 0.0, "second": len(data["response"]) % 2}


def test_labels_of_whole_answers_are_none_of_one_score_of_several(server: JudgeServer, pl: PromptLab) -> None:
    """They correct and check the judge's one score, and no part of another's, which labels of its own do."""
    common = {"endpoint": server.openai_url}
    pair = {"metric": "pairwise", "judge": {"name": "openai/judge-90-90", **common}}
    config = experiment(server)
    more = [
        {**pair, "column_mapping": {"question": "kind", "other": "kind"}},
        {"metric": "h", "evaluator": Halves()},
    ]
    run = pl.experiment.run({**config, "evaluation": [*config["evaluation"], *more]}, quiet=True)
    label_rows(pl, run, range(40))
    assert list(pl.label.corrected(run)) == ["rubric"]
    check = pl.judge.check("pairwise.win", run, threshold=0.5)
    assert check.table.n == 0 and check.own
    own = [CaseLabel(case=n, passed=n % 2 == 0, rater="zoe", metric="h.second") for n in range(30)]
    pl.label.put_all(run, own)
    assert list(pl.label.corrected(run)) == ["rubric", "h.second"]


def test_labels_go_with_their_run(pl: PromptLab, run: Run, db: Path) -> None:
    """Nothing of them is left in the store."""
    label_rows(pl, run, range(30))
    pl.experiment.delete(run.run_id)
    with sqlite3.connect(db) as con:
        assert con.execute("SELECT count(*) FROM record WHERE kind = 'CASE_LABEL'").fetchone() == (0,)


def test_the_command_line_labels_imports_and_checks(
    pl: PromptLab, run: Run, db: Path, tmp_path: Path
) -> None:
    """`label RUN production` still labels the run."""
    runner, store = CliRunner(), ["--db", str(db)]

    def said(*words: str, code: int = 0) -> str:
        result = runner.invoke(commands, [*words, *store])
        assert result.exit_code == code, result.output
        return result.output

    assert "@production is run" in said("label", "latest", "production")
    assert "is labelled" in said("label", "latest", "--case", "5", "--fail", "--tag", "odd")
    said("label", "latest", code=2)
    said("label", "latest", "production", "--fail", code=2)
    file = tmp_path / "labels.csv"
    file.write_text("id,passed,rater\n" + "".join(f"{n},{truth(n)},zoe\n" for n in range(40)))
    assert "40 labels read, 40 of them new" in said("labels", "import", "latest", str(file), "--random")
    assert "0 of them new" in said("labels", "import", "latest", str(file), "--random")
    assert len(json.loads(said("labels", "list", "latest", "--json"))) == 41
    assert "odd" in said("labels", "list", "latest")
    assert "TPR (people pass)" in said("judge", "check", "rubric", "latest")
    assert "corrected by 40 labels" in said("show", "latest")
    assert json.loads(said("show", "latest", "--json"))["corrected"]["rubric"]["labels"] == 40
    assert "40 labels of zoe are gone" in said("labels", "delete", "zoe", "--yes")
    assert "this label no more" in said("label", "latest", "--case", "5", "--remove")


@pytest.mark.long
def test_labels_keep_a_judges_taste_from_making_a_difference() -> None:
    """No true difference, TPR .8 and TNR .8 on one run, .9 and .7 on the other, 1,000 cases, 100 labels."""
    alone, corrected = false_differences(1_000)
    assert alone > 0.95 and corrected <= 0.05
