"""An estimate knows judges: how often they would be asked, how much they would read, and what that costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from promptlab import Dataset, PromptLab, PromptTemplate


def experiment(folder: Path, *evaluation: dict[str, Any]) -> dict[str, Any]:
    file = folder / "rows.jsonl"
    file.write_text(
        "\n".join(f'{{"question": "What is {n}?", "kind": "{"ab"[n // 20]}"}}' for n in range(40)) + "\n"
    )
    return {
        "name": "judged",
        "prompt_template": PromptTemplate(name="p", user_prompt="<question>"),
        "dataset": Dataset(name="rows", file_path=str(file)),
        "model": {"name": "simulated/echo", "max_tokens": 100},
        "evaluation": list(evaluation),
    }


JUDGE = {"name": "openai/gpt-5-mini", "input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0}


def test_each_judge_of_each_metric_has_its_calls_tokens_and_dollars(tmp_path: Path) -> None:
    lab = PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    polite = {
        "metric": "rubric",
        "name": "polite",
        "judge": [{**JUDGE, "repeats": 3}, JUDGE],
        "params": {"criterion": "The answer is polite."},
        "when": {"column": "kind", "is": "a"},
    }
    pair = {"metric": "pairwise", "judge": JUDGE, "column_mapping": {"reference": "question"}}
    found = lab.experiment.estimate(experiment(tmp_path, polite, pair))
    calls = [(one.metric, one.calls) for one in found.judges]
    assert calls == [("polite", 60), ("polite", 20), ("pairwise", 80)]  # both orders
    first = found.judges[0]
    assert first.usd is not None and first.prompt_tokens.expected > 100
    tokens = first.prompt_tokens.expected * 1.0 + first.answer_tokens.expected * 2.0
    assert first.usd.expected == pytest.approx(60 * tokens / 1e6)
    assert found.metrics_usd == pytest.approx(sum(one.usd.expected for one in found.judges if one.usd))
    assert found.to_json()["judges"][2]["metric"] == "pairwise"


def test_without_judges_nothing_is_added(tmp_path: Path) -> None:
    lab = PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    found = lab.experiment.estimate(experiment(tmp_path, {"metric": "length"}))
    assert found.judges == [] and found.metrics_usd is None


def test_a_judge_in_batch_mode_costs_half(tmp_path: Path) -> None:
    lab = PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    judge = {"name": "openai/gpt-5-mini"}
    params = {"criterion": "The answer is polite."}
    polite = {"metric": "rubric", "judge": [judge, {**judge, "batch": True}], "params": params}
    full, half = lab.experiment.estimate(experiment(tmp_path, polite)).judges
    assert full.usd is not None and half.usd is not None
    assert half.usd.expected == pytest.approx(full.usd.expected / 2)
