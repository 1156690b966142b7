"""Values of an answer besides its text: as inputs of metrics, and in results and exports."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, ClassVar

import pytest

from promptlab import Dataset, Evaluator, Model, ModelResponse, PromptLab, Run, RunEvaluator, Score
from promptlab.errors import ConfigError

CALLS = [{"name": "add", "arguments": {"a": 1}}]


class Talkative(Model):
    """Answers with metadata, but for the second question."""

    def invoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        metadata = {"tool_calls": CALLS, "a.b": "dotted", "a": {"b": "nested", "c": 2}}
        return ModelResponse(
            response="done", finish_reason="stop", metadata={} if "second" in user_prompt else metadata
        )


class Seen(Evaluator):
    """Tells what it is given."""

    def evaluate(self, data: dict[str, Any]) -> Score:
        return Score(value=1.0, reason=json.dumps(data["it"]))


def run(lab: PromptLab, **sources: str) -> Run:
    return lab.experiment.run(
        {
            "dataset": Dataset(name="d", rows=[{"q": "first"}, {"q": "second"}]),
            "prompt_template": {
                "name": "p",
                "system_prompt": "Answer <q>.",
                "user_prompt": "{{ q }}, <q>",
            },
            "model": Talkative(),
            "evaluation": [
                {"metric": name, "evaluator": Seen(), "column_mapping": {"it": source}}
                for name, source in sources.items()
            ],
        }
    )


def test_metrics_are_given_the_prompt_the_finish_reason_and_the_metadata(tmp_path: Path) -> None:
    """Keys may have dots, or lead on into objects and lists; what is not there is null."""
    sources = {
        "prompt": "$prompt",
        "finish": "$finish_reason",
        "all": "$metadata",
        "calls": "$metadata.tool_calls",
        "name": "$metadata.tool_calls.0.name",
        "beyond": "$metadata.tool_calls.1.name",
        "dotted": "$metadata.a.b",
        "nested": "$metadata.a.c",
        "nothing": "$metadata.none.at.all",
    }
    with PromptLab(tmp_path / "lab.db") as lab:
        first, second = run(lab, **sources).results()
    given = {name: json.loads(first[f"reason.{name}"]) for name in sources}
    assert given["prompt"] == "Answer first.\n\n{{ q }}, first"
    assert (given["finish"], given["calls"], given["name"]) == ("stop", CALLS, "add")
    assert (given["dotted"], given["nested"]) == ("dotted", 2)
    assert (given["beyond"], given["nothing"]) == (None, None)
    assert given["all"]["a"] == {"b": "nested", "c": 2}
    assert json.loads(second["reason.prompt"]).endswith("second")
    assert (second["reason.all"], second["reason.calls"]) == ("{}", "null")


def test_calls_of_tools_are_found_where_they_were_kept_before(tmp_path: Path) -> None:
    """They are stored once, in the messages; mappings of before read them, for metrics of a case and of the
    run."""

    class Counts(RunEvaluator):
        inputs: ClassVar = {"name": "$metadata.tool_calls.0.name", "all": "$metadata"}

        def evaluate(self, cases: Any) -> float:
            return sum(case["name"] == "add" and len(case["all"]["tool_calls"]) == 2 for case in cases)

    called = {"name": "add", "arguments": {"a": 1}}
    with PromptLab(tmp_path / "lab.db") as lab:
        done = lab.experiment.run(
            {
                "dataset": Dataset(name="d", rows=[{"q": "first"}]),
                "prompt_template": {"name": "p", "user_prompt": "<q>"},
                "model": {"name": "simulated/tools", "tool_calls": [called, {"name": "stop"}]},
                "evaluation": [
                    {
                        "metric": "it",
                        "evaluator": Seen(),
                        "column_mapping": {"it": "$metadata.tool_calls.0.arguments"},
                    },
                    {"metric": "counts", "evaluator": Counts()},
                ],
            }
        )
        (row,) = done.results()
        assert json.loads(row["reason.it"]) == {"a": 1}
        assert "tool_calls" not in (row["metadata"] or "")
        assert done.summary is not None
        assert done.summary.run_metrics["counts"].brief()["values"]["counts"]["value"] == 1.0


def test_the_prompt_of_a_template_in_jinja_is_given_to_built_in_metrics_too(tmp_path: Path) -> None:
    """An answer that repeats its prompt is equal to it."""
    with PromptLab(tmp_path / "lab.db") as lab:
        done = lab.experiment.run(
            {
                "dataset": Dataset(name="d", rows=[{"q": "first"}, {"q": "second"}]),
                "prompt_template": {
                    "name": "p",
                    "user_prompt": "{{ q | upper }}",
                    "template_format": "jinja2",
                },
                "model": "simulated/echo",
                "evaluation": [{"metric": "exact_match", "column_mapping": {"reference": "$prompt"}}],
            }
        )
        assert [row["score.exact_match"] for row in done.results()] == [1.0, 1.0]


@pytest.mark.parametrize("source", ["$metadata.", "$meta", "$prompts", "$"])
def test_what_an_answer_does_not_have_is_refused_before_the_run(tmp_path: Path, source: str) -> None:
    """The error lists the values that there are."""
    with (
        PromptLab(tmp_path / "lab.db") as lab,
        pytest.raises(ConfigError, match=r"is not a value of the answer.*\$metadata\.<key>"),
    ):
        run(lab, it=source)


def test_an_agent_has_no_prompt_to_map(tmp_path: Path) -> None:
    """Its metrics are told so before the run."""
    with PromptLab(tmp_path / "lab.db") as lab, pytest.raises(ConfigError, match="an agent has no prompt"):
        lab.experiment.run(
            {
                "dataset": Dataset(name="d", rows=[{"q": "first"}]),
                "agent_proxy": lambda row: "x",
                "evaluation": [
                    {"metric": "it", "evaluator": Seen(), "column_mapping": {"it": "$prompt"}},
                ],
            }
        )


def test_results_exports_and_frames_have_the_metadata(tmp_path: Path) -> None:
    """As JSON text; null where an answer has none."""
    with PromptLab(tmp_path / "lab.db") as lab:
        done = run(lab)
        rows, frame = done.results(), done.results().to_pandas()
        files = [done.export(tmp_path / f"out.{form}") for form in ("csv", "jsonl")]
    assert json.loads(rows[0]["metadata"])["tool_calls"] == CALLS
    assert rows[1]["metadata"] is None
    assert frame["metadata"].tolist()[0] == rows[0]["metadata"]
    with files[0].open(newline="") as file:
        assert [row["metadata"] for row in csv.DictReader(file)] == [rows[0]["metadata"], ""]
    lines = [json.loads(line) for line in files[1].read_text().splitlines()]
    assert [line["metadata"] for line in lines] == [rows[0]["metadata"], None]
