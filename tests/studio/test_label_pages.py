"""Labels of people in the Studio: on a case, in a queue, as a filter, in exports, as a correction."""

from __future__ import annotations

import re

from promptlab_studio.views.cases import expected_columns

from promptlab.domain.experiment import Experiment
from tests.studio.test_actions import posted, run
from tests.studio.test_pages import Studio, studio

__all__ = ["studio"]


async def test_a_queue_goes_from_case_to_case_and_hides_the_scores(studio: Studio) -> None:
    """What is said is kept as blind, of a random sample; the next case comes; at the end it says so."""
    found = await run(studio, model={"name": "simulated/demo"})
    place = f"/runs/{found.run_id}/label?n=2&seed=3"
    for passed in ("pass", "fail"):
        page = (await studio.client.get(place)).text
        assert "exact_match</th>" not in page
        (form,) = re.findall(r'action="([^"]+/label)"', page)
        fields = {"passed": passed, "tag": "odd", "then": place, "blind": "1", "random": "1"}
        where, said = await posted(studio, form, **fields)
        assert where == place and said.startswith(f"done|{passed.title()}ed")
    assert "All of them are labelled" in (await studio.client.get(place)).text
    labels = [label async for label in studio.lab.labels.of(found.run_id)]
    assert [label.blind and label.random for label in labels] == [True, True]
    tab = (await studio.client.get(f"/runs/{found.run_id}?tab=labels")).text
    assert "2 labels of people" in tab
    cases = (await studio.client.get(f"/runs/{found.run_id}/cases.csv?people=fail")).text.splitlines()
    assert len(cases) == 2 and "people.passed" in cases[0] and "odd" in cases[1]


async def test_a_queue_is_of_the_cases_that_the_runs_page_is_filtered_to(studio: Studio) -> None:
    """The form carries the filter, in words too; a number that is none is said, and no queue of one case."""
    found = await run(studio, model={"name": "simulated/demo"})
    place = f"/runs/{found.run_id}"
    failed = int((await studio.lab.get_run(found.run_id)).summary["metrics"]["exact_match"]["scored"])  # type: ignore[index]
    tab = (await studio.client.get(f"{place}?tab=labels&fail=exact_match")).text
    assert f'href="{place}/label?fail=exact_match">Label these cases' in tab
    form = (await studio.client.get(f"{place}/label?fail=exact_match&q=six")).text
    assert 'name="fail" value="exact_match"' in form and "exact_match: did not pass" in form
    assert 'value="six"' in form
    whole = (await studio.client.get(f"{place}/label?n=1000&status=ok")).text
    some = (await studio.client.get(f"{place}/label?n=1000&fail=exact_match")).text
    count = re.compile(r"0 of (\d+) labelled")
    (all_of_them,), (of_the_filter,) = count.findall(whole), count.findall(some)
    assert 0 < int(of_the_filter) < int(all_of_them) == failed
    for asked in ("n=0", "n=-1", "n=abc", "n=1001", "n=5&seed=²", f"n={'9' * 30}"):
        said = (await studio.client.get(f"{place}/label?{asked}")).text
        assert "is a whole number from" in said and "Begin</button>" in said


async def test_a_correction_is_a_new_version_of_the_dataset(studio: Studio) -> None:
    """With the row as it should be; the run stays over the version that it had."""
    found = await run(studio, model={"name": "simulated/demo"})
    form = f"/runs/{found.run_id}/cases/5.0/correct"
    _, said = await posted(studio, form, column="answer", value="six")
    assert "sums@1 has the row" in said
    newest = await studio.lab.assets.get("sums", kind="dataset")
    rows = await studio.lab.assets.rows(newest, 0, 100)  # type: ignore[arg-type]
    assert len(rows) == 60 and rows[5]["answer"] == "six" and rows[4]["answer"] == "5"
    _, said = await posted(studio, form, column="answer", value=" ")
    assert said.startswith("problem|Give the right answer")


def test_what_a_judge_is_asked_about_is_not_what_is_expected() -> None:
    metrics = [
        {
            "name": "a",
            "metric": "exact_match",
            "column_mapping": {"reference": "answer", "response": "$inference"},
        },
        {"name": "b", "metric": "sql_result", "column_mapping": {"reference": "sql", "database": "schema"}},
        {"name": "c", "metric": "own", "column_mapping": {"gold": "people_say"}},
        {
            "name": "d",
            "metric": "rubric",
            "judge": [{"name": "openai/j"}],
            "column_mapping": {"question": "question", "tone": "tone", "reference": "answer"},
        },
    ]
    model, dataset = {"name": "openai/m"}, {"name": "rows", "version": 0, "hash": "0"}
    experiment = Experiment.model_validate(
        {"name": "x", "dataset": dataset, "model": model, "evaluation": metrics}
    )
    assert expected_columns(experiment) == ["answer", "sql", "people_say"]
