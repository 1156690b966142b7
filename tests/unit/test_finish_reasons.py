"""Why answers finished: counted, filtered by, and said where it matters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from promptlab import Dataset, Model, ModelResponse, PromptLab, PromptTemplate
from promptlab.domain.summary import MOST_REASONS, OTHER, Summary
from promptlab.queries.filters import Filter
from promptlab.report import brief, cut_words, filtered_words


class Stops(Model):
    """Finishes for the reason that it is asked."""

    async def ainvoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        return ModelResponse("so far", finish_reason=user_prompt or None)


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """A run over six rows."""
    reasons = ["stop", "length", "length", "content_filter", "", "refusal"]
    with PromptLab(str(tmp_path / "lab.db")) as pl:
        yield pl.experiment.run(
            {
                "name": "finishes",
                "dataset": Dataset(name="d", rows=[{"why": why} for why in reasons]),
                "prompt_template": PromptTemplate(name="p", user_prompt="<why>", system_prompt="Go."),
                "model": Stops(),
                "evaluation": [{"metric": "length"}],
            },
            quiet=True,
        )


def test_finish_reasons_are_counted(run: Any) -> None:
    """In the summary, in what programs are told, and in words for people."""
    counted = {"stop": 1, "length": 2, "content_filter": 1, "refusal": 1}
    assert run.summary.finish_reasons == counted
    assert (run.summary.cut, run.summary.filtered) == (2, 2)
    facts = brief(run.record)
    assert (facts["finish_reasons"], facts["cut"], facts["filtered"]) == (counted, 2, 2)
    assert "2 answers were cut" in cut_words(facts)
    assert filtered_words(facts).startswith("2 answers were held back by the provider's filter")
    assert filtered_words({}) == "" and "1 answer was" in filtered_words({"filtered": 1})


async def test_cases_are_found_by_their_finish_reason(run: Any) -> None:
    """And the facets say how many there are."""
    results = await run._lab.results_of(run.record)
    page = await results.page(Filter(finish_reason="length"))
    assert [row["case"] for row in page.rows] == [1, 2]
    assert (await results.facets()).finish_reasons == {
        "length": 2,
        "content_filter": 1,
        "refusal": 1,
        "stop": 1,
    }


def test_few_different_reasons_are_counted_by_name() -> None:
    """A model of one's own may give each answer another one."""
    total = Summary()
    for n in range(3):
        part = Summary()
        for m in range(MOST_REASONS):
            part.finished(f"r{n * MOST_REASONS + m}")
        total.merge(Summary.from_json(part.to_json()))
    assert len(total.finish_reasons) == MOST_REASONS + 1
    assert total.finish_reasons[OTHER] == 2 * MOST_REASONS
    assert Summary.from_json({}).finish_reasons == {}
