"""docs/evaluators.md and the pages of metrics are complete, and their examples run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from promptlab.domain.experiment import SPECIAL
from promptlab.evaluators.registry import build, describe, known
from promptlab.experiments.config import EvaluationConfig

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = (DOCS / "evaluators.md", DOCS / "judges.md", *sorted(DOCS.glob("metrics-*.md")))
TEXT = "\n".join(page.read_text("utf-8") for page in PAGES)
"""The overview, and a page for each family of metrics."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def section(heading: str) -> str:
    """The text under a heading, up to the next."""
    found = re.search(
        rf"^#+ {re.escape(heading)}$(.*?)(?=^#|\Z)",
        re.sub(r"^```.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL),
        re.MULTILINE | re.DOTALL,
    )
    assert found, f"no page of metrics has a heading {heading!r}"
    return found[1]


@pytest.mark.parametrize("metric", known())
def test_docs_tell_what_a_metric_reads_takes_and_gives(metric: str) -> None:
    """Every input, alias and parameter with its default and meaning is in the metric's section; the metric is
    in the table."""
    info, text = describe(metric), section(f"`{metric}`")
    assert re.search(rf"\| \[`{metric}`\]\([\w.-]*#{metric}\) \| {re.escape(info.description)} \|", TEXT)
    assert info.description in text
    assert ("higher" if info.higher_is_better else "lower") in re.search(r"- Score: .*", text)[0]  # type: ignore[index]
    assert "Formula: " in text
    for name in (*info.inputs, *info.aliases):
        assert f"`{name}`" in text
    if "#text-parameters)" in text:
        text += section("Text parameters")
    for name, schema in info.params.items():
        row = re.search(rf"^\| `{name}` \| .*$", text, re.MULTILINE)
        assert row, f"{metric}: no row for the parameter {name}"
        assert (f"| `{json.dumps(schema['default'])}` |" if "default" in schema else "| required |") in row[0]
        assert schema["description"] in row[0]
        for choice in schema.get("enum", ()):
            assert f"`{choice}`" in row[0]
    for name in info.scores:
        assert f"`{name}`" in text


def test_docs_have_no_metric_that_is_not_there() -> None:
    """A section without a metric would be a promise."""
    assert sorted(re.findall(r"^##+ `(\w+)`$", TEXT, re.MULTILINE)) == known()


def test_docs_name_every_value_of_the_answer() -> None:
    """All that a column_mapping may name."""
    text = section("column_mapping")
    assert [name for name in SPECIAL if f"`{name}`" not in text] == []


@pytest.mark.parametrize("code", blocks("python"))
def test_python_examples_run(code: str) -> None:
    """As written, offline; their assertions hold."""
    exec(compile(code, "docs/evaluators.md", "exec"), {"__name__": "example"})


@pytest.mark.parametrize("text", blocks("yaml"))
def test_yaml_examples_are_valid(text: str) -> None:
    """Each metric exists, its parameters are right, and what must be mapped is."""
    for item in yaml.safe_load(text)["evaluation"]:
        config = EvaluationConfig.model_validate(item)
        if config.evaluator is None:
            evaluator = build(config.metric, config.params)
            unmapped = {name for name, default in evaluator.inputs.items() if default is None} - set(
                config.column_mapping
            )
            assert not unmapped
