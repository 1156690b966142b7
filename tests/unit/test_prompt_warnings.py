"""Warnings about a prompt, said before the first call."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from promptlab import Dataset, Evaluator, PromptLab, PromptTemplate
from promptlab.cli import commands
from promptlab.domain.assets import Column, DatasetContent
from promptlab.domain.experiment import Experiment
from promptlab.domain.prompt_warnings import prompt_warnings
from promptlab.domain.templates import compile_template
from promptlab.errors import ConfigError

ROWS = [{"question": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(3)]
LEAK = "<question> Put the final number in <answer></answer> tags."
NUMERIC = {"metric": "numeric_match", "column_mapping": {"reference": "answer"}}


def warned(text: str, *, rows: int = 3, form: str = "simple", **mapping: str) -> str:
    """The warnings for a prompt over the columns question, answer and order, as one text."""
    names = ("question", "answer", "order")
    columns = tuple(Column(name=n, type="string", rows=rows) for n in names)
    content = DatasetContent(
        blob="b", index="i", rows=rows, bytes=1, shards=1, columns=columns, id_column=None
    )
    template = PromptTemplate(name="p", user_prompt=text, template_format=form)  # type: ignore[arg-type]
    found = prompt_warnings(template, compile_template(template), content, [("m", mapping)])
    return "\n".join(found)


@pytest.mark.parametrize(
    ("text", "form", "mapping", "said"),
    [
        (LEAK, "simple", {"reference": "answer"}, r"<answer> is filled by the column 'answer', which 'm' "
            r"compares"),
        (LEAK, "simple", {"expected_output": "answer"}, r"Write \\<answer> if a literal tag is meant"),
        ("{{ question }} {{ answer }}", "jinja2", {"reference": "answer"}, r"{{ answer }} is filled by the "
            r"column"),
        ("{{question}} Only the number.", "simple", {}, r"{{question}} is not filled.*are written "
            r"<question>"),
        ("{{ question | upper }}", "simple", {}, r"{{ question \| upper }} is not filled"),
        ("{{ Question }} <order>", "simple", {}, r"{{ Question }} is not filled"),
        ("{{ order.id }} <question>", "simple", {}, r"{{ order.id }} is not filled"),
        ("{{ quesion }}", "simple", {}, r"{{ quesion }} is not filled"),
        ("{question} <order>", "simple", {}, r"{question} is not filled"),
        ("{question:>10}", "simple", {}, r"{question:>10} is not filled"),
        ("$question", "simple", {}, r"\$question is not filled"),
        ("${question} <order>", "simple", {}, r"\${question} is not filled"),
        ("%(question)s", "simple", {}, r"%\(question\)s is not filled"),
        ("{% for x in order %}-{% endfor %}", "simple", {}, r"{% for … %} is not filled"),
        ("<question>", "jinja2", {}, r"<question> is not filled.*are written {{ question }}"),
        ("{question} {{ order }}", "jinja2", {}, r"{question} is not filled"),
        ("file://prompts/solve.txt", "simple", {}, r"is the name of a file.*write file:prompts/solve.md"),
        ("prompts/solve.md", "simple", {}, r"is the name of a file"),
        ("Say something.", "simple", {}, r"has no placeholder: all 3 rows.*Write <question>"),
        ("Say something.", "jinja2", {}, r"has no placeholder: all 3 rows.*Write {{ question }}"),
    ],
)  # fmt: skip
def test_what_is_probably_not_meant_is_said_with_the_way_out(
    text: str, form: str, mapping: dict[str, str], said: str
) -> None:
    """The expected answer in the prompt, a placeholder of another syntax, the name of
    a file, no placeholder."""
    import re

    assert re.search(said, warned(text, form=form, **mapping)), warned(text, form=form, **mapping)


@pytest.mark.parametrize(
    ("text", "form", "mapping"),
    [
        (r"<question> Put it in \<answer></answer> tags.", "simple", {"reference": "answer"}),
        ("<question> <answer>", "simple", {"response": "$inference", "input": "answer"}),
        ('<question> Reply as {"answer": 1}, with {braces} and $5.', "simple", {"reference": "answer"}),
        (r"<question> \frac{question}{answer}", "simple", {}),
        ("<question>{{ question }}</question>", "jinja2", {"reference": "answer"}),
        ("{{ question }} {{ q }}", "jinja2", {}),
        ("<question> file://x.txt", "simple", {}),
    ],
)
def test_what_is_meant_is_not_warned_of(text: str, form: str, mapping: dict[str, str]) -> None:
    """An escaped tag, JSON, LaTeX, money, tags around a placeholder."""
    assert warned(text, form=form, **mapping) == ""


def test_one_row_needs_no_placeholder() -> None:
    """A single prompt is a fine experiment."""
    assert warned("Say something.", rows=1) == ""


def test_a_large_prompt_is_looked_through_at_once() -> None:
    """A megabyte of brackets, spaces and names takes no time beyond its length."""
    for piece in ("{{ a ", "{{ " + " " * 500, "$" * 100, "{a{", "%(a", "<a", "{% ", "file:"):
        warned((piece * (1_000_000 // len(piece)))[:1_000_000])


# ---- where people see it


def experiment(**fields: Any) -> dict[str, Any]:
    prompt = PromptTemplate(name="xml", user_prompt=LEAK)
    return {
        "dataset": Dataset(name="sums", rows=ROWS),
        "prompt_template": prompt,
        "model": "simulated/echo",
        "evaluation": [NUMERIC],
        **fields,
    }


def test_a_warning_is_logged_and_kept_with_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Before the first call; the run's identity is the same as without."""
    seen: list[int] = []
    with PromptLab(tmp_path / "lab.db") as lab, caplog.at_level(logging.WARNING, logger="promptlab"):
        run = lab.experiment.run(experiment(), on_progress=lambda _: seen.append(len(caplog.records)))
        assert "shows the expected answer" in run.warnings[0] and len(run.warnings) == 1
        assert run.warnings[0] in caplog.messages and seen[0] == 1
        assert lab.experiment.get(run.run_id).warnings == run.warnings
        recorded = Experiment.model_validate(run.record.experiment)
        assert recorded.warnings == run.warnings
        fine = lab.experiment.run(experiment(prompt_template={"name": "xml", "user_prompt": "<question>"}))
        assert fine.warnings == () and "warnings" not in fine.record.experiment


def test_strict_makes_a_warning_an_error(tmp_path: Path) -> None:
    """Nothing is stored or called."""
    with PromptLab(tmp_path / "lab.db") as lab:
        with pytest.raises(ConfigError, match=r"is strict.*\n.*shows the expected answer"):
            lab.experiment.run(experiment(strict=True))
        assert lab.experiment.list() == [] and lab.asset.list() == []


class Judge(Evaluator):
    """Is given the question too."""

    def evaluate(self, data: dict[str, Any]) -> bool:
        return bool(data)


def test_an_evaluator_of_ones_own_may_read_what_the_prompt_shows(tmp_path: Path) -> None:
    """Only what it calls a reference is the expected answer."""
    with PromptLab(tmp_path / "lab.db") as lab:
        judge = {"metric": "judge", "evaluator": Judge(), "column_mapping": {"question": "question"}}
        prompt = {"name": "p", "user_prompt": "<question>"}
        run = lab.experiment.run(experiment(evaluation=[judge], prompt_template=prompt))
        assert run.warnings == ()


@pytest.mark.parametrize(("prompt", "said"), [(LEAK, "expected answer"), ("{{question}}", "is not filled")])
def test_the_command_prints_warnings_before_the_run(tmp_path: Path, prompt: str, said: str) -> None:
    """On standard error, also with --quiet; `strict: true` in the file ends with 2."""
    text = (
        "dataset: {name: d, rows: [{question: a, answer: '1'}, {question: b, answer: '2'}]}\n"
        f"prompt_template: {{name: p, user_prompt: '{prompt}'}}\nmodel: simulated/echo\n"
        "evaluation: [{metric: numeric_match, column_mapping: {reference: answer}}]\n"
    )
    path = tmp_path / "e.yaml"
    path.write_text(text)
    command = ["run", str(path), "--db", str(tmp_path / "lab.db"), "--quiet"]
    done = CliRunner().invoke(commands, command, prog_name="promptlab")
    assert done.exit_code in (0, 1) and "Warning: Prompt template 'p'" in done.stderr and said in done.stderr
    path.write_text(f"{text}strict: true\n")
    refused = CliRunner().invoke(commands, command, prog_name="promptlab")
    assert refused.exit_code == 2 and said in refused.stderr
