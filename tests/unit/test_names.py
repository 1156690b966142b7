"""Names that people give: shown on pages, in terminals and in headers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from promptlab import PromptLab, PromptLabError, PromptTemplate

HIDDEN = ["a\r", "a\nb", "a\x00", "\x1b[31mred", "a\x7f", "a\x85", "a\u2028b", "a\u202egnp.exe", "a\ud800"]
FINE = ["данные", "a?b", "50%25", "می\u200cخواهم", "a b", "日本語", "👩\u200d🔬", "a:b;c=d&e"]


@pytest.fixture
def pl(tmp_path: Path) -> Iterator[PromptLab]:
    with PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")}, quiet=True) as lab:
        yield lab


def experiment(**changes: Any) -> dict[str, Any]:
    return {
        "dataset": {"name": "rows", "rows": [{"q": "1"}]},
        "prompt_template": {"name": "ask", "user_prompt": "<q>"},
        "model": "simulated/demo",
        "evaluation": [{"metric": "length"}],
        **changes,
    }


@pytest.mark.parametrize("name", HIDDEN, ids=ascii)
def test_hidden_characters_are_in_no_name(pl: PromptLab, name: str) -> None:
    """Of an asset, a label, an experiment, a metric or a tag: each says which, and nothing is stored."""
    kept = pl.asset.create(PromptTemplate(name="kept", user_prompt="<q>"))
    for change in (
        {"name": name},
        {"tags": [name]},
        {"evaluation": [{"metric": "length", "name": name}]},
        {"dataset": {"name": name, "rows": [{"q": "1"}]}},
        {"prompt_template": {"name": name, "user_prompt": "<q>"}},
    ):
        with pytest.raises(PromptLabError, match=r"U\+[0-9A-F]{4}|not a usable name|unicode"):
            pl.experiment.run(experiment(**change))
    with pytest.raises(PromptLabError, match=r"U\+[0-9A-F]{4}|not a usable label"):
        pl.asset.label(kept.name, name)
    assert [asset.name for asset in pl.asset.list()] == ["kept"]
    assert pl.experiment.list() == []


@pytest.mark.parametrize("name", FINE, ids=ascii)
def test_every_script_and_sign_may_be_in_a_name(pl: PromptLab, name: str) -> None:
    """And is given back as it was."""
    run = pl.experiment.run(
        experiment(name=name, tags=[name], dataset={"name": name, "rows": [{"q": "1"}]}), quiet=True
    )
    assert (run.record.name, list(run.record.tags)) == (name, [name])
    assert pl.asset.get(name, kind="dataset").name == name
