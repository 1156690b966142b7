"""Models that their providers stop serving: dates, warnings, and examples that outlive the next year."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pytest

from promptlab import Dataset, Evaluator, PromptLab, PromptTemplate, get_model
from promptlab.domain.model_config import EXAMPLE_MODEL, ModelConfig
from promptlab.domain.prices import price_of
from promptlab.domain.shutdowns import shutdown_of, shutdown_warnings
from tests.servers import ModelServer

ROOT = Path(__file__).parents[2]
TABLE = orjson.loads((ROOT / "promptlab/domain/shutdowns.json").read_bytes())["shutdowns"]


def config(name: str, **fields: Any) -> ModelConfig:
    return ModelConfig(name=name, **fields)


@pytest.mark.parametrize(
    ("name", "on", "replacement"),
    [
        ("openai/gpt-4o-mini", date(2027, 1, 14), "gpt-6-luna"),
        ("openai/gpt-4o-mini-2024-07-18", date(2027, 1, 14), "gpt-6-luna"),
        ("openai/gpt-4o-2024-05-13", date(2026, 10, 23), "gpt-5.6-sol"),
        ("openrouter/openai/gpt-4o-mini", date(2027, 1, 14), "gpt-6-luna"),
        ("bedrock/us.meta.llama3-1-8b-instruct-v1:0", date(2027, 3, 30), None),
    ],
)
def test_model_that_ends_has_a_date(name: str, on: date, replacement: str | None) -> None:
    """By its name, by that of a dated version, and through those who pass it on."""
    end = shutdown_of(config(name))
    assert end is not None and (end.on, end.replacement) == (on, replacement)


@pytest.mark.parametrize(
    ("name", "endpoint"),
    [
        (EXAMPLE_MODEL, None),
        ("openai/nobody-knows", None),
        ("openai/gpt-4o-mini", "http://127.0.0.1:8000/v1"),
        ("openai/gpt-4o-mini-audio-preview", None),
        ("openai/gpt-4o-mini-20240718x", None),
        ("vllm/gpt-4o-mini", None),
        ("custom/gpt-4o-mini", None),
    ],
)
def test_model_without_a_date_has_none(name: str, endpoint: str | None) -> None:
    """Another model, an unknown one, and the same name on somebody else's server."""
    assert shutdown_of(config(name, endpoint=endpoint)) is None


@pytest.mark.parametrize(
    ("today", "words"),
    [
        (date(2026, 12, 13), None),
        (
            date(2026, 12, 14),
            "will be shut down by its provider on 2027-01-14. openai names gpt-6-luna instead.",
        ),
        (date(2027, 1, 13), "will be shut down"),
        (date(2027, 1, 14), "was shut down by its provider on 2027-01-14."),
    ],
)
def test_warning_comes_a_month_before_the_end(today: date, words: str | None) -> None:
    """Once for a model that is used twice."""
    found = shutdown_warnings([config("openai/gpt-4o-mini")] * 2, today)
    assert len(found) == (words is not None)
    assert words is None or words in found[0]


def test_run_with_a_model_that_is_gone_is_warned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run has the words; on a server of one's own the name means another model."""
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    experiment = {
        "name": "old",
        "dataset": Dataset(name="rows", rows=[{"q": "hi"}]),
        "prompt_template": PromptTemplate(name="ask", user_prompt="<q>"),
        "evaluation": [],
    }
    with ModelServer() as server, PromptLab({"db_file": str(tmp_path / "lab.db")}) as pl:
        model = {"name": "openai/gpt-4", "endpoint": server.openai_url}
        assert pl.experiment.run({**experiment, "model": model}).warnings == ()
        monkeypatch.setenv("https_proxy", server.openai_url)  # it is no proxy: every call fails
        gone = pl.experiment.run(
            {**experiment, "model": {"name": "openai/gpt-4", "api_key": "k" * 20, "max_retries": 0}}
        )
    assert [words.split(".")[0] for words in gone.warnings] == [
        "openai/gpt-4 was shut down by its provider on 2026-10-23"
    ]


class Judge(Evaluator):
    """Has a judge, and would ask it."""

    def __init__(self) -> None:
        self.judge = get_model("openai/gpt-4", api_key="k" * 20)

    def evaluate(self, data: dict[str, Any]) -> bool:
        return True


def test_run_whose_judge_is_gone_is_warned(tmp_path: Path) -> None:
    """As of the model under test; its price is recorded with the run, too."""
    with PromptLab({"db_file": str(tmp_path / "lab.db")}) as pl:
        run = pl.experiment.run(
            {
                "dataset": Dataset(name="rows", rows=[{"q": "hi"}]),
                "prompt_template": PromptTemplate(name="ask", user_prompt="<q>"),
                "model": "simulated/echo",
                "evaluation": [{"metric": "judged", "evaluator": Judge()}],
            }
        )
    assert [words.split(" by ")[0] for words in run.warnings] == ["openai/gpt-4 was shut down"]
    assert run.record.experiment["prices"].keys() == {"simulated/echo", "openai/gpt-4"}


def test_every_row_of_the_table_is_of_the_right_form() -> None:
    """Dates are dates, replacements have no end before the model's own, and names are there once."""
    names = [(row["provider"], row["model"]) for row in TABLE]
    assert len(set(names)) == len(names)
    ends = {name: row.get("shutdown") for name, row in zip(names, TABLE, strict=True)}
    for row in TABLE:
        assert date.fromisoformat(row["shutdown"])
        after = ends.get((row["provider"], row.get("replacement")))
        assert after is None or after > row["shutdown"]


def test_examples_name_models_that_go_on() -> None:
    """In docs, samples, help and the Studio; and today's cheap model has a price."""
    assert price_of(config(EXAMPLE_MODEL)) is not None
    ended = {f"{row['provider']}/{row['model']}" for row in TABLE if "shutdown" in row}
    pattern = re.compile("|".join(rf"{re.escape(name)}(?![\w.]|-\w)" for name in sorted(ended, reverse=True)))
    folders = [ROOT / "docs", ROOT / "samples", ROOT / "promptlab", ROOT / "studio", ROOT / "README.md"]
    texts = [
        path
        for folder in folders
        for path in ([folder] if folder.is_file() else sorted(folder.rglob("*")))
        if path.suffix in (".md", ".py", ".html", ".json", ".yaml", ".yml")
        and "decisions" not in path.parts
        and path.name not in ("model_prices.json", "shutdowns.json")
    ]
    assert len(texts) > 100
    found = {
        str(path): pattern.findall(path.read_text("utf-8"))
        for path in texts
        if "node_modules" not in path.parts
    }
    assert {path: names for path, names in found.items() if names} == {}
