"""Metrics of two runs that are not the same one: their judges, their code, what counts as missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from promptlab import PromptLab
from promptlab.domain.comparable import not_comparable
from promptlab.domain.experiment import Metric, RunMetricSpec
from promptlab.domain.judges import JudgeConfig
from promptlab.domain.made_of import resting_on
from tests.servers import ModelServer, Reply, Request

JUDGE = {"name": "openai/gpt-5", "temperature": 0.0}


def metric(**changes: Any) -> Metric:
    judge = changes.pop("judge", (JUDGE,))
    fields: dict[str, Any] = {"name": "good", "metric": "rubric", "column_mapping": {}, **changes}
    return Metric(**fields, judge=tuple(JudgeConfig.model_validate(one) for one in judge))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"judge": ({"name": "openai/mini"},)}, "judged by openai/gpt-5 in one run and by openai/mini"),
        ({"judge": (JUDGE, {"name": "openai/mini"})}, "openai/gpt-5 and openai/mini in the other"),
        ({"judge": ({**JUDGE, "temperature": 0.7},)}, "asked otherwise: temperature"),
        ({"missing": "exclude"}, "missing is the default in one run and exclude in the other"),
        ({"judge": ({**JUDGE, "max_concurrent_tasks": 3, "requests_per_minute": 9},)}, ""),
    ],
)
def test_other_judges_and_other_rules_are_said(changes: dict[str, Any], why: str) -> None:
    """How often, and how fast, a judge may be asked changes nothing."""
    found = not_comparable(metric(), metric(**changes), {}, {}) or ""
    assert why in found and bool(why) == bool(found)


def test_what_is_made_of_a_judges_scores_is_the_judges() -> None:
    """A combined metric of parts that differ is not comparable, and gates ask for the judge below it."""
    params = {"all": [{"not": {"metric": "good", "at_most": 0.5}}, "short"]}
    both = Metric(name="both", metric="combined", column_mapping={}, params=params)
    sure = RunMetricSpec(name="sure", metric="calibration", column_mapping={"outcome": "$score.both"})
    assert resting_on(["sure"], [sure, both, metric()]) == ["sure", "both", "good", "short"]
    runs = [
        {"evaluation": [one.model_dump(mode="json") for one in (both, metric(judge=({"name": name},)))]}
        for name in ("openai/gpt-5", "openai/mini")
    ]
    assert "it is made of good: it is judged by" in str(not_comparable(both, both, *runs))
    assert "made of both: it is made of good" in str(not_comparable(sure, sure, *runs))
    assert not_comparable(both, both, runs[0], runs[0]) is None


CODE = '''
from promptlab import Evaluator, Score

class Short(Evaluator):
    """Whether an answer is short."""

    inputs = {"response": "$inference"}

    def evaluate(self, response: str) -> Score:
        return Score(passed=len(response) < %s)


UNUSED = %s
'''


def test_code_that_was_edited_is_another_metric_and_the_rest_of_its_file_is_not(tmp_path: Path) -> None:
    """On a laptop, by the source of the class; comments at its end count for nothing."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join('{"q": "1 + %s"}\n' % n for n in range(20)))  # noqa: UP031 - JSON has braces
    file = tmp_path / "own.py"
    experiment = {
        "name": "own",
        "dataset": {"name": "q", "file_path": str(rows)},
        "prompt_template": {"name": "q", "user_prompt": "<q>"},
        "model": "simulated/demo",
        "evaluation": [{"metric": "short", "evaluator": f"{file}:Short"}],
    }
    with PromptLab(tmp_path / "lab.db", quiet=True) as pl:
        runs = []
        for limit, other in ((9, 1), (9, 2), (3, 2)):
            file.write_text(CODE % (limit, other))
            runs.append(pl.experiment.run(experiment))
        same = pl.experiment.compare(runs[0], runs[1]).metrics[0]
        edited = pl.experiment.compare(runs[0], runs[2]).metrics[0]
    assert same.not_comparable is None
    assert edited.not_comparable == "its evaluator's code differs"


def test_a_judge_that_answered_as_another_version_is_another_judge(tmp_path: Path) -> None:
    """Under the same name and configuration: by what the runs recorded of who answered, also after runs are
    read again; equal versions are comparable, and so is a run of before, which does not tell."""
    version = "judge-2026-06-01"

    def answer(request: Request) -> Reply | str:
        if request.json["model"] != "judge":
            return request.prompt
        message = {"role": "assistant", "content": '{"reasoning": "so", "label": "yes"}'}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return Reply(body={"model": version, "choices": choices, "usage": {}})

    with ModelServer(answer) as server, PromptLab(tmp_path / "lab.db", quiet=True) as pl:
        at = {"endpoint": server.openai_url, "api_key": "k"}
        judge = {"name": "openai/judge", "cache": False, **at}
        experiment = {
            "name": "judged",
            "dataset": {"name": "rows", "rows": [{"n": n} for n in range(20)]},
            "prompt_template": {"name": "ask", "user_prompt": "<n>"},
            "model": {"name": "openai/mini", **at},
            "evaluation": [{"metric": "rubric", "params": {"criterion": "It is kind."}, "judge": judge}],
        }
        runs = [pl.experiment.run(experiment) for _ in range(2)]
        version = "judge-2026-11-01"
        runs.append(pl.experiment.run(experiment))
        same, changed = (pl.experiment.compare(runs[0], run).metrics[0] for run in runs[1:])
        gate = pl.experiment.gate(
            runs[2],
            baseline=runs[0].run_id,
            gates={"uncertified_judges": "allow", "checks": [{"metric": "rubric", "no_regression": 0.1}]},
        )
        other_cache = {"name": "openai/judge", "cache": {"expires_days": 1}, **at}
        again = pl.experiment.score(runs[0].run_id, [{**experiment["evaluation"][0], "judge": other_cache}])
        (judged_again,) = (m for m in pl.experiment.compare(again, runs[2]).metrics if m.metric == "rubric")
    assert same.not_comparable is None and same.judgement.verdict is not None
    assert changed.not_comparable == (
        "its judge answered as another version: openai/judge as judge-2026-06-01 in one run and openai/judge "
        "as judge-2026-11-01 in the other"
    )
    assert changed.judgement.verdict is None and gate.outcome == "undecided"
    assert judged_again.not_comparable is None and judged_again.judgement.verdict is not None
