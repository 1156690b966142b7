"""Runs compared case by case."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from promptlab import Dataset, Evaluator, Model, ModelResponse, PromptTemplate
from promptlab.domain.results import RunRecord, Score
from promptlab.errors import RunError, UnknownNameError
from promptlab.queries.compare import MetricComparison
from promptlab.queries.compare_sql import ANSWER
from promptlab.queries.compared import Compared
from promptlab.queries.comparison_json import comparison_from, comparison_json
from promptlab.queries.query_engine import QueryEngine
from promptlab.statistics import bp_t, judge, paired_data
from promptlab.store_lab import StoreLab
from tests.unit.query_runs import LABELS, QUOTED, RATE, ROWS, run

Rows = list[dict[str, Any]]


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[StoreLab]:
    lab = StoreLab.open({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    yield lab
    await lab.close()


@pytest.fixture
async def engine(lab: StoreLab) -> AsyncIterator[QueryEngine]:
    engine = QueryEngine(lab.ledger, lab.blobs)
    yield engine
    await engine.close()


async def rows_of(lab: StoreLab, run: RunRecord) -> Rows:
    return [row async for row in lab.results(run.run_id)]


def metric(found: Sequence[MetricComparison], name: str, other: int = 0) -> MetricComparison:
    return next(m for m in found if (m.metric, m.other) == (name, other))


def changes(base: Rows, other: Rows, name: str, gain: int) -> list[str]:
    """The verdict on each pair, without SQL; `gain` is -1 where lower is better."""
    verdicts = []
    for one, two in zip(base, other, strict=True):
        a, b = one[f"score.{name}"], two[f"score.{name}"]
        if a is None or b is None:
            verdicts.append(
                "same" if a is b is None and one[f"label.{name}"] == two[f"label.{name}"] else "missing"
            )
        else:
            verdicts.append("same" if a == b else "improved" if (b - a) * gain > 0 else "regressed")
    return verdicts


@pytest.mark.parametrize(("name", "gain"), [(QUOTED, 1), (RATE, -1)])
async def test_differences_intervals_and_counts_are_those_of_the_rows(
    lab: StoreLab, engine: QueryEngine, name: str, gain: int
) -> None:
    """n, means, the paired interval and wins, losses and ties agree with a plain computation."""
    runs = [await run(lab), await run(lab, shift=1, healthy=True)]
    base, other = [await rows_of(lab, one) for one in runs]
    page = await engine.compare(runs[0], runs[1:])
    found = metric(page.metrics, name)
    pairs = [(a[f"score.{name}"], b[f"score.{name}"]) for a, b in zip(base, other, strict=True)]
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    differences = [b - a for a, b in both]
    judged = judge([paired_data([a for a, _ in both], [b for _, b in both], higher_is_better=gain > 0)])[0]
    stderr, low, high = judged.stderr, judged.ci_low, judged.ci_high
    assert judged.method == found.judgement.method == ("tango" if name == QUOTED else "bp_t")
    assert found.n == len(both) < len(pairs)
    wanted = (
        statistics.mean(a for a, _ in both),
        statistics.mean(b for _, b in both),
        statistics.mean(differences),
        stderr,
        low,
        high,
    )
    assert (
        found.base_mean,
        found.other_mean,
        found.difference,
        found.stderr,
        found.low,
        found.high,
    ) == pytest.approx(wanted)
    verdicts = changes(base, other, name, gain)
    assert (found.improved, found.regressed, found.same) == tuple(
        verdicts.count(word) for word in ("improved", "regressed", "same")
    )
    assert min(found.improved, found.regressed, found.same) > 0
    assert found.different == len(pairs) - found.same
    assert (page.joined_on, page.unmatched, page.total) == ("case", ((0, 0),), 160)


async def test_every_count_is_a_filter_that_selects_as_many(lab: StoreLab, engine: QueryEngine) -> None:
    """Wins, losses, ties and differences of each metric and run select just their cases."""
    runs = [await run(lab), await run(lab, shift=1), await run(lab, shift=2, healthy=True)]
    whole = await engine.compare(runs[0], runs[1:])
    for one in whole.metrics:
        for change in ("improved", "regressed", "same", "different"):
            page = await engine.compare(runs[0], runs[1:], Compared(change, one.metric, one.other), limit=200)
            assert page.total_matching == len(page.rows) == getattr(one, change) == page.counts[change], (
                one,
                change,
            )
            for row in page.rows:
                verdict = row.deltas[one.other][one.metric].verdict
                assert verdict != "same" if change == "different" else verdict == change
    assert whole.counts["different"] + whole.counts["same"] == whole.counts["all"] == 160
    assert [one.different for one in whole.metrics if one.metric == LABELS] == [
        0,
        sum(n % 11 == 3 for n in range(160)),
    ]


async def test_a_row_has_every_side_and_each_delta(lab: StoreLab, engine: QueryEngine) -> None:
    """Inputs, both answers, both scores and the difference with its direction."""
    runs = [await run(lab), await run(lab, suffix=" indeed", shift=1)]
    page = await engine.compare(runs[0], runs[1:], Compared("regressed", RATE), sort="difference", limit=3)
    worst = page.rows[0]
    delta = worst.deltas[0][RATE]
    assert delta.verdict == "regressed"
    assert delta.difference is not None and delta.difference > 0
    assert worst.inputs["Case"] == worst.case
    assert worst.others[0].response == f"{worst.base.response} indeed"
    assert worst.others[0].scores[RATE]["score"] == pytest.approx(
        worst.base.scores[RATE]["score"] + delta.difference
    )
    assert worst.base.scores[LABELS]["label"] in ("po'lite", 'ru"de', "🦊")


async def test_the_greatest_loss_comes_first_whichever_way_is_better(
    lab: StoreLab, engine: QueryEngine
) -> None:
    """Sorted by difference: of a metric where lower is better, the greatest rise."""
    runs = [await run(lab), await run(lab, shift=1)]
    for descending in (False, True):
        page = await engine.compare(
            runs[0], runs[1:], Compared(metric=RATE), sort="difference", descending=descending, limit=200
        )
        gains = [-delta for row in page.rows if (delta := row.deltas[0][RATE].difference) is not None]
        assert gains == sorted(gains, reverse=descending)
        assert len(set(gains)) > 1


@pytest.mark.parametrize("text", ["it's", "INDEED", "q-15", "%", "🦊", "absent", "\\", "' OR 1=1 --"])
async def test_a_search_looks_into_every_run(lab: StoreLab, engine: QueryEngine, text: str) -> None:
    """A text that only one run has finds the pair."""
    runs = [await run(lab), await run(lab, suffix=" indeed")]
    found = [
        row.case for row in (await engine.compare(runs[0], runs[1:], Compared(text=text), limit=200)).rows
    ]
    in_runs = [await (await engine.results(one)).page(_text(text), limit=200) for one in runs]
    assert found == sorted({row["case"] for page in in_runs for row in page.rows})


def _text(text: str) -> Any:
    from promptlab.queries.query_engine import Filter

    return Filter(text=text)


async def test_another_dataset_version_is_joined_on_ids(lab: StoreLab, engine: QueryEngine) -> None:
    """Rows that moved are found by their id; those of one run only are counted."""
    moved = [*ROWS[100:150], {"id": "new", "text": "fresh 0", "Case": 0}, *ROWS[20:100]]
    runs = [await run(lab), await run(lab, rows=moved), await run(lab)]
    page = await engine.compare(runs[0], runs[1:], limit=200)
    assert (page.joined_on, page.total, page.unmatched) == ("id", 130, ((30, 1), (0, 0)))
    assert [row.case for row in page.rows] == list(range(20, 150))
    assert [row.others[0].case for row in page.rows] == [*range(51, 131), *range(50)]
    assert metric(page.metrics, QUOTED).different == 0


async def test_trials_of_a_row_are_one_observation(lab: StoreLab, engine: QueryEngine) -> None:
    """n counts dataset rows, wins count cases, and the error is that of the rows' means."""
    runs = [await run(lab, trials=2), await run(lab, trials=2, shift=1)]
    base, other = [await rows_of(lab, one) for one in runs]
    page = await engine.compare(runs[0], runs[1:])
    found = metric(page.metrics, QUOTED)
    scored = {
        row["case"]: b[f"score.{QUOTED}"] - row[f"score.{QUOTED}"]
        for row, b in zip(base, other, strict=True)
        if row[f"score.{QUOTED}"] is not None
    }
    assert (found.n, page.total) == (len(scored), 320)
    d, n = list(scored.values()), len(scored)
    wanted = bp_t(statistics.mean(d), statistics.stdev(d), n, 1)
    assert (found.judgement.method, found.stderr) == ("bp_t", pytest.approx(wanted.stderr))
    assert found.improved == changes(base, other, QUOTED, 1).count("improved")


async def test_runs_with_different_numbers_of_trials_share_what_both_have(
    lab: StoreLab, engine: QueryEngine
) -> None:
    """A second trial without a counterpart is counted as unmatched."""
    runs = [await run(lab), await run(lab, trials=2)]
    page = await engine.compare(runs[0], runs[1:])
    assert (page.total, page.unmatched, page.joined_on) == (160, ((0, 160),), "case")


async def test_a_run_compared_with_itself_is_the_same(lab: StoreLab, engine: QueryEngine) -> None:
    """No difference, an interval that says how little so many rows can tell, nothing different."""
    one = await run(lab)
    page = await engine.compare(one, [one])
    found = metric(page.metrics, RATE)
    assert (found.difference, page.counts["different"], found.judgement.p) == (0, 0, 1)
    assert found.low == -found.high < 0  # type: ignore[operator]
    assert metric(page.metrics, QUOTED).judgement.verdict == "too few cases"


async def test_a_page_beyond_the_end_is_the_last_one(lab: StoreLab, engine: QueryEngine) -> None:
    """A shared link outlives the rows it counted on."""
    one = await run(lab)
    page = await engine.compare(one, [one], offset=999, limit=50)
    assert (page.offset, [row.case for row in page.rows]) == (150, list(range(150, 160)))


async def test_what_cannot_be_compared_is_refused_by_name(lab: StoreLab, engine: QueryEngine) -> None:
    """Too few runs, too many, unknown metrics, runs and orders."""
    one = await run(lab)
    for others in ([], [one] * 4):
        with pytest.raises(RunError, match=f"with one to three others, not with {len(others)}"):
            await engine.compare(one, others)
    for selected in (Compared(metric="nope"), Compared(other=1), Compared(change="x; DROP")):  # type: ignore[arg-type]
        with pytest.raises(UnknownNameError):
            await engine.compare(one, [one], selected)
    with pytest.raises(UnknownNameError):
        await engine.compare(one, [one], sort="r0; --")


async def test_trials_without_a_shared_metric_are_paired_all_the_same(
    lab: StoreLab, engine: QueryEngine
) -> None:
    """One row of counts, however many dataset rows there are."""
    config = {
        "dataset": {"name": "d", "rows": [{"q": f"{n} + 1"} for n in range(7)]},
        "prompt_template": {"name": "p", "user_prompt": "<q>"},
        "trials": 3,
    }
    runs = [
        await lab.run({**config, "model": "simulated/demo", "evaluation": [{"metric": name}]})
        for name in ("length", "is_json")
    ]
    page = await engine.compare(runs[0], runs[1:])
    assert (page.total, page.metrics, len(page.rows)) == (21, (), 21)


async def test_runs_without_a_common_case_are_compared_to_nothing(lab: StoreLab, engine: QueryEngine) -> None:
    """Other ids: every count is 0, and each side says how many it has alone."""
    config = {
        "prompt_template": {"name": "p", "user_prompt": "<q>"},
        "model": "simulated/demo",
        "evaluation": [{"metric": "length"}],
    }
    runs = [
        await lab.run(
            {
                **config,
                "dataset": {"name": name, "rows": [{"id": f"{name}{n}", "q": "1 + 1"} for n in range(3)]},
            }
        )
        for name in "ab"
    ]
    page = await engine.compare(runs[0], runs[1:])
    assert (page.total, page.total_matching, page.rows, page.unmatched) == (0, 0, [], ((3, 3),))
    assert set(page.counts.values()) == {0}
    (length,) = page.metrics
    assert (
        length.n,
        length.improved,
        length.regressed,
        length.same,
        length.different,
        length.difference,
    ) == (0, 0, 0, 0, 0, None)


class Suffix(Model):
    """Answers right to every third row, and otherwise with words of its own."""

    def __init__(self, suffix: str, right: int) -> None:
        super().__init__(f"own/{suffix.replace(' ', '-')}")
        self.suffix, self.right = suffix, right

    async def ainvoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        number = int(user_prompt.rsplit(" ", 1)[1])
        text = f"yes {number}" if number % self.right == 0 else f"{self.suffix} {number}"
        return ModelResponse(response=text, prompt_tokens=1, completion_tokens=1)


async def _asked(lab: StoreLab, model: Model, evaluation: list[dict[str, Any]], cases: int = 30) -> RunRecord:
    rows = [{"id": f"q{n}", "text": f"case {n}", "answer": f"yes {n}"} for n in range(cases)]
    return await lab.run(
        {
            "name": "facts",
            "prompt_template": PromptTemplate(name="say", user_prompt="<text>"),
            "dataset": Dataset(name="thirty", rows=rows),
            "inference_model": model,
            "evaluation": evaluation,
        }
    )


EXACT = {"metric": "exact_match", "column_mapping": {"reference": "answer"}}


async def test_a_mere_fact_is_no_verdict(lab: StoreLab, engine: QueryEngine) -> None:
    """Longer answers are neither better nor worse, and change no case."""
    evaluation = [{"metric": "length"}, EXACT]
    base = await _asked(lab, Suffix("no", 3), evaluation)
    other = await _asked(lab, Suffix("certainly not", 3), evaluation)
    page = await engine.compare(base, [other])
    length = metric(page.metrics, "length")
    assert (length.fact, length.improved, length.regressed, length.different) == (True, 0, 0, 20)
    assert dict(page.counts) == {"all": 30, "different": 0, "regressed": 0, "improved": 0, "same": 30}
    written = comparison_json([base.run_id, other.run_id], page)
    assert written["others"][0]["metrics"]["length"]["fact"] is True
    assert written["others"][0]["metrics"]["length"]["method"] == "t"
    assert comparison_from(written) == page
    for value in written["others"][0]["metrics"].values():
        del value["fact"]  # a Studio of an older version does not say
    assert not any(one.fact for one in comparison_from(written).metrics)
    written = comparison_json([base.run_id, other.run_id], page)
    assert comparison_from(json.loads(json.dumps(written))) == page
    chosen = await engine.compare(base, [other], Compared(metric="length"))
    assert (chosen.counts["different"], chosen.counts["regressed"]) == (20, 0)


async def test_of_one_pair_there_is_no_interval(lab: StoreLab, engine: QueryEngine) -> None:
    """One difference says nothing of how much differences vary; two do."""
    for cases, known in ((1, False), (2, True)):
        runs = [
            await _asked(lab, Suffix("no" * (1 + other), 2), [{"metric": "length"}], cases)
            for other in (0, 1)
        ]
        (length,) = (await engine.compare(runs[0], runs[1:])).metrics
        assert length.n == cases
        assert [value is not None for value in (length.stderr, length.low, length.high)] == [known] * 3


async def test_long_answers_are_cut_in_a_list(lab: StoreLab, engine: QueryEngine) -> None:
    """Behind 600 characters, unless one says otherwise."""
    runs = [await _asked(lab, Suffix(word * 700, 50), [{"metric": "length"}], 2) for word in "xy"]
    for way, most in (({}, 600), ({"text_chars": 20}, 20)):
        page = await engine.compare(runs[0], runs[1:], **way)
        assert page.rows[1].others[0].response == "y" * most


async def test_pages_follow_each_other(lab: StoreLab, engine: QueryEngine) -> None:
    """Beyond the last, it is the last; by difference, the greatest loss comes first unless one says so."""
    runs = [await run(lab), await run(lab, shift=1)]
    found = [
        [row.case for row in (await engine.compare(runs[0], runs[1:], offset=at, limit=70)).rows]
        for at in (0, 70, 140, 700)
    ]
    assert found[0] + found[1] + found[2] == list(range(160)) and found[3] == found[2]
    unsaid = await engine.compare(runs[0], runs[1:], Compared(metric=RATE), sort="difference")
    losses = await engine.compare(
        runs[0], runs[1:], Compared(metric=RATE), sort="difference", descending=False
    )
    assert [row.case for row in unsaid.rows] == [row.case for row in losses.rows]


async def test_a_bound_makes_a_verdict_of_a_fact(lab: StoreLab, engine: QueryEngine) -> None:
    """The verdict depends on whether the bound is kept, and not by how much."""
    evaluation = [{"metric": "length", "params": {"unit": "words", "max": 2}}]
    base = await _asked(lab, Suffix("no", 3), evaluation)
    other = await _asked(lab, Suffix("certainly not", 3), evaluation)
    page = await engine.compare(base, [other])
    assert (page.counts["regressed"], page.counts["improved"]) == (20, 0)
    assert not metric(page.metrics, "length").fact


async def test_runs_without_a_shared_metric_differ_by_their_answers(
    lab: StoreLab, engine: QueryEngine
) -> None:
    """Every answer that changed is a difference."""
    base = await _asked(lab, Suffix("no", 3), [])
    other = await _asked(lab, Suffix("never", 2), [EXACT])
    page = await engine.compare(base, [other], Compared(change="different"))
    assert page.metrics == ()
    assert (page.total_matching, page.counts["same"]) == (25, 5)
    assert page.rows[0].deltas[0][ANSWER].verdict == "different"


async def test_differences_within_rounding_are_none(lab: StoreLab, engine: QueryEngine) -> None:
    """The last digit of a sum depends on its order."""

    class Nearly(Evaluator):
        inputs = {"response": "$inference"}

        def __init__(self, by: float) -> None:
            self.by = by

        def evaluate(self, data: dict[str, Any]) -> float:
            return 0.5 + self.by

    async def scored(by: float) -> RunRecord:
        return await _asked(lab, Suffix("no", 3), [{"metric": "nearly", "evaluator": Nearly(by)}])

    base = await scored(0.0)
    assert (await engine.compare(base, [await scored(5e-10)])).counts["same"] == 30
    assert (await engine.compare(base, [await scored(5e-9)])).counts["improved"] == 30


async def test_a_score_on_one_side_only_is_missing_whatever_the_labels_say(
    lab: StoreLab, engine: QueryEngine
) -> None:
    """Two labels that differ are a change only where both sides have all that there is to compare."""

    class Says(Evaluator):
        """Of every other case a label without a value, or both."""

        inputs = {"text": "text"}

        def __init__(self, value: float | None, label: str) -> None:
            self.score = Score(value=value, label=label)

        def evaluate(self, data: dict[str, Any]) -> Score:
            odd = int(data["text"].split()[1]) % 2
            return self.score if odd else Score(value=0.5, label="same")

    async def scored(value: float | None, label: str) -> RunRecord:
        says = {"metric": "says", "evaluator": Says(value, label), "column_mapping": {"text": "text"}}
        return await _asked(lab, Suffix("no", 3), [says])

    async def verdicts(other: RunRecord) -> Counter[str]:
        page = await engine.compare(base, [other], limit=30)
        return Counter(row.deltas[0]["says"].verdict for row in page.rows)

    base = await scored(None, "a")
    assert await verdicts(await scored(1.0, "b")) == {"same": 15, "missing": 15}
    assert await verdicts(await scored(None, "b")) == {"same": 15, "different": 15}
