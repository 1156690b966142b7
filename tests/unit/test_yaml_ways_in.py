"""Parts that an experiment's YAML takes from elsewhere: the environment, prompts from
files, code with arguments."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from promptlab import Dataset, Model, ModelResponse, PromptLab, PromptTemplate
from promptlab.errors import ConfigError
from promptlab.experiments.config import CodeConfig
from promptlab.experiments.file import load_experiment

ROWS = "dataset: {name: d, rows: [{q: '1'}, {q: '22'}]}\n"
PROMPT = "prompt_template: {name: p, user_prompt: <q>}\n"


def written(folder: Path, text: str, name: str = "e.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


# ---- the environment


def test_values_of_the_environment_stand_in_for_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain ones are read as YAML afterwards, quoted ones stay texts; defaults are
    for unset and empty ones."""
    for name, value in {
        "MODEL": "simulated/echo",
        "T": "0.5",
        "EMPTY": "",
        "N": "7",
        "COLON": "a: b",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("UNSET", raising=False)
    config = load_experiment(
        written(
            tmp_path,
            """
            name: ${UNSET:-fallback} ${COLON}
            dataset: {name: d, rows: [{q: "${N} stays ${"}]}
            prompt_template: {name: p, user_prompt: "<q> $${N} ${EMPTY:-none} $5"}
            model:
              name: ${MODEL}
              temperature: ${T}
              seed: ${N}
              stop: "${N}"
            tags: ["n${N}"]
            """,
        )
    ).config
    assert isinstance(config.dataset, Dataset) and isinstance(config.prompt_template, PromptTemplate)
    assert config.name == "fallback a: b" and config.tags == ("n7",)
    assert config.dataset.rows == [{"q": "${N} stays ${"}]
    assert config.prompt_template.user_prompt == "<q> ${N} none $5"
    assert (config.model.name, config.model.temperature, config.model.seed) == ("simulated/echo", 0.5, 7)
    assert config.model.extra_params == {"stop": "7"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("name: ${UNSET_NAME}", r"line 1: name: there is no environment variable "
            r"UNSET_NAME.*\$\$\{UNSET_NAME\}"),
        ("name: ${EMPTY_NAME}x${UNSET_NAME}", "line 1: name: there is no environment variable UNSET_NAME"),
        ("name: ${a b}", r"line 1: name: \$\{a b\} is not"),
        ("name: '${open'", r"line 1: name: \$\{open is not"),
        ("model: {name: openai/x, api_key: '${KEY}'}", "line 1: model.api_key.*api_key_env: KEY"),
        ("model: {name: openai/x, api_key_env: '${KEY}'}", "line 1: model.api_key_env.*recorded with every "
            "run"),
        ("model: {name: openai/x, api_key_secret: '${KEY}'}", "line 1: model.api_key_secret"),
        ("model: {name: openai/x, headers: {authorization: 'Bearer ${KEY}'}}", "model.headers.authorization"),
    ],
)  # fmt: skip
def test_what_cannot_be_put_in_is_refused_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, said: str
) -> None:
    """A name without a value, half a name, and secrets, which are named and not written."""
    monkeypatch.setenv("KEY", "sk-very-secret")
    monkeypatch.setenv("EMPTY_NAME", "")
    monkeypatch.delenv("UNSET_NAME", raising=False)
    with pytest.raises(ConfigError, match=said) as caught:
        load_experiment(written(tmp_path, f"{line}\n"))
    assert "sk-very-secret" not in str(caught.value)


# ---- prompts from files


def test_a_prompts_text_comes_from_files_beside_the_experiment(tmp_path: Path) -> None:
    """It is stored as text: the version does not change with the file. A last line break is left out."""
    written(tmp_path, "Solve <q>.\n\nBriefly, for ${MONEY}.\n", "prompts/solve.md")
    written(tmp_path, "\ufeffBe kind.\n", "prompts/kind.md")
    path = written(
        tmp_path,
        f"{ROWS}prompt_template:\n  name: p\n  system_prompt: file:prompts/kind.md\n"
        "  user_prompt: file:prompts/solve.md\nmodel: simulated/echo\n",
    )
    file = load_experiment(path)
    with PromptLab(tmp_path / "lab.db") as lab:
        lab.experiment.run(file.config)
        written(tmp_path, "Other.", "prompts/solve.md")
        stored = lab.asset.get("p", kind="prompt_template")
    assert (stored.system_prompt, stored.user_prompt) == ("Be kind.", "Solve <q>.\n\nBriefly, for ${MONEY}.")


def test_each_message_may_come_from_a_file(tmp_path: Path) -> None:
    """The others are written out; `file://` is no file."""
    written(tmp_path, "From a file: <q>", "m.txt")
    messages = "[{role: user, content: 'file:m.txt'}, {role: assistant, content: 'file://m.txt'}]"
    config = load_experiment(
        written(
            tmp_path, f"{ROWS}prompt_template: {{name: p, messages: {messages}}}\nmodel: simulated/echo\n"
        )
    ).config
    assert isinstance(config.prompt_template, PromptTemplate)
    assert [m.content for m in config.prompt_template.messages] == ["From a file: <q>", "file://m.txt"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.md", None, "prompt template 'p', user_prompt: no file 'missing.md'"),
        ("binary.md", b"\xff\xfe\x00", "is no text in UTF-8"),
        ("huge.md", b"x" * 16_000_001, "16,000,001 bytes; a prompt's file has at most 16,000,000"),
        (".", None, "cannot be read: Is a directory"),
    ],
)
def test_a_prompts_file_that_cannot_be_used_is_named(
    tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    """With the template, the field and what is wrong."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    prompt = f"prompt_template: {{name: p, user_prompt: 'file:{name}'}}\n"
    with pytest.raises(ConfigError, match=said):
        load_experiment(written(tmp_path, f"{ROWS}{prompt}model: simulated/echo\n"))


# ---- code with arguments

CODE = """
from promptlab import Evaluator, Model, ModelResponse


class LongerThan(Evaluator):
    def __init__(self, least=1, *, what="response"):
        self.least, self.what = least, what

    def evaluate(self, data):
        return len(data[self.what]) > self.least


def longer(data, least=0):
    return len(data["response"]) > least


async def later(data, least=0):
    return len(data["response"]) > least


class Echo(Model):
    def __init__(self, before=""):
        super().__init__({"name": "mine/echo"})
        self.before = before

    def invoke(self, system_prompt, user_prompt):
        return ModelResponse(response=self.before + user_prompt)


def made(before=""):
    return Echo(before)


def agent(row, before=""):
    return before + row["q"]


class Agent:
    def __init__(self, before=""):
        self.before = before

    async def __call__(self, row):
        return self.before + row["q"]


NOTHING = 3
"""
MAPPED = "column_mapping: {response: $inference}"


def run(folder: Path, text: str) -> list[dict[str, Any]]:
    """The rows of an experiment's run; and of the same after it was recorded, made again by name alone."""
    written(folder, CODE, "code/mine.py")
    file = load_experiment(written(folder, ROWS + text))
    with PromptLab(folder / "lab.db") as lab:
        done = lab.experiment.run(file.config)
        assert done.status == "completed", done.record.error
        again = lab._lab.bindings  # what a resume from another process makes
        from promptlab.domain.experiment import Experiment
        from promptlab.sync import run_sync

        bound = run_sync(again(Experiment.model_validate(done.record.experiment)))  # type: ignore[attr-defined]
        assert len(bound.evaluators) == len(done.record.experiment["evaluation"])
        return list(done.results())


@pytest.mark.parametrize(
    ("evaluator", "params", "scores"),
    [
        ("LongerThan", "{least: 1}", [0.0, 1.0]),
        ("LongerThan", "{least: 2, what: response}", [0.0, 0.0]),
        ("LongerThan", "{}", [0.0, 1.0]),
        ("longer", "{least: 1}", [0.0, 1.0]),
        ("longer", "{}", [1.0, 1.0]),
        ("later", "{least: 1}", [0.0, 1.0]),
    ],
)
def test_evaluators_of_ones_own_are_given_their_params(
    tmp_path: Path, evaluator: str, params: str, scores: list[float]
) -> None:
    """A class as constructor arguments, a function as further keywords, sync and async."""
    metric = f"{{metric: m, evaluator: 'code/mine.py:{evaluator}', params: {params}, {MAPPED}}}"
    rows = run(tmp_path, f"{PROMPT}model: simulated/echo\nevaluation: [{metric}]\n")
    assert [row["score.m"] for row in rows] == scores


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        (f"{PROMPT}model: code/mine.py:Echo\n", ["1", "22"]),
        (f"{PROMPT}model: {{code: 'code/mine.py:Echo', params: {{before: '>'}}}}\n", [">1", ">22"]),
        (f"{PROMPT}model: {{code: 'code/mine.py:made', params: {{before: '>'}}}}\n", [">1", ">22"]),
        ("agent_proxy: code/mine.py:agent\n", ["1", "22"]),
        ("agent_proxy: {code: 'code/mine.py:agent', params: {before: '>'}}\n", [">1", ">22"]),
        ("agent_proxy: {code: 'code/mine.py:Agent', params: {before: '>'}}\n", [">1", ">22"]),
    ],
)
def test_models_and_agents_of_ones_own_are_named_in_yaml(
    tmp_path: Path, text: str, answers: list[str]
) -> None:
    """By file and name, with or without arguments; paths count from the experiment's folder."""
    assert [row["response"] for row in run(tmp_path, text)] == answers


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: {code: 'mine.py:Echo', params: {befor: x}}", r"unexpected keyword argument 'befor'"),
        ("model: mine.py:NOTHING", "mine.py:NOTHING"),
        ("model: mine.py:agent", "mine.py:agent"),
        ("model: mine.py:Missing", "there is no 'Missing' in it"),
        ("model: other.py:Echo", "model: no file 'other.py'"),
        ("model: {code: nothing}", "code: String should match pattern"),
        ("model: {code: 'mine.py:Echo', parms: {}}", "parms"),
        ("model: simulated/echo\nevaluation: [{metric: m, evaluator: 'mine.py:longer', params: {most: 1}}]",
         "the function is called with one value and {'most': 1}: got an unexpected keyword argument 'most'"),
        ("model: simulated/echo\nevaluation: [{metric: m, evaluator: 'mine.py:LongerThan', params: {x: 1}}]",
         "unexpected keyword argument 'x'"),
        ("model: simulated/echo\nevaluation: [{metric: m, evaluator: 'mine.py:NOTHING'}]", "got int"),
    ],
)  # fmt: skip
def test_code_that_does_not_fit_is_refused_before_the_run(tmp_path: Path, text: str, said: str) -> None:
    """The message has the file, the name and the argument."""
    written(tmp_path, CODE, "mine.py")
    with PromptLab(tmp_path / "lab.db") as lab:
        with pytest.raises(ConfigError, match=said):
            lab.experiment.run(load_experiment(written(tmp_path, f"{ROWS}{PROMPT}{text}\n")).config)
        assert lab.experiment.list() == []


class Mine(Model):
    def invoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        return ModelResponse(response=user_prompt)


def test_an_object_takes_no_params() -> None:
    """It was made already; a dict names code as YAML does."""
    base = {"dataset": "d", "prompt_template": "p"}
    from promptlab import ExperimentConfig

    config = ExperimentConfig.parse({**base, "model": {"code": "pkg.mod:Name", "params": {"a": 1}}})
    assert config.model == CodeConfig(code="pkg.mod:Name", params={"a": 1})
    assert ExperimentConfig.parse({**base, "model": "ollama/llama3.2:8b"}).model.name == "ollama/llama3.2:8b"
    with pytest.raises(ConfigError, match="provider/model"):
        ExperimentConfig.parse({**base, "model": "llama"})
