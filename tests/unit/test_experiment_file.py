"""Reading an experiment from YAML, and its JSON Schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from promptlab.domain.assets import Dataset, PromptTemplate
from promptlab.errors import ConfigError, DatasetError
from promptlab.evaluators.registry import describe, known
from promptlab.experiments.file import experiment_schema, load_experiment

DOCS = Path(__file__).parents[2] / "docs"
WHOLE = """\
name: gsm8k
dataset: {name: gsm8k, file_path: gsm8k_test.jsonl}
prompt_template: {name: math, user_prompt: "Question: <question>"}
model:
  name: openai/175b_verification
  endpoint: "http://127.0.0.1:9200/v1"
  api_key_env: SOME_API_KEY
  max_concurrent_tasks: 50
evaluation:
  - metric: numeric_match
    column_mapping: {response: $inference, reference: answer}
    params: {response_pattern: 'A: *(-?[\\d.,]+)', reference_pattern: '#### *(-?[\\d.,]+)'}
"""
REFERENCES = "dataset: questions@0\nprompt_template: qa@production\nmodel: simulated/echo\n"


def written(folder: Path, text: str | bytes, name: str = "e.yaml") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_whole_experiment_is_read_with_its_patterns_as_written(tmp_path: Path) -> None:
    """Dataset, prompt, model and metric become the typed configuration."""
    written(tmp_path, '{"question": "1+1?", "answer": "2"}\n', "gsm8k_test.jsonl")
    file = load_experiment(written(tmp_path, WHOLE))
    config = file.config
    assert config.name == "gsm8k" and file.folder == tmp_path
    assert isinstance(config.dataset, Dataset) and config.dataset.file_path == str(
        tmp_path / "gsm8k_test.jsonl"
    )
    assert (
        isinstance(config.prompt_template, PromptTemplate)
        and config.prompt_template.user_prompt == "Question: <question>"
    )
    assert config.model.name == "openai/175b_verification" and config.model.max_concurrent_tasks == 50
    assert config.evaluation[0].params["response_pattern"] == r"A: *(-?[\d.,]+)"


def test_words_and_codes_of_rows_stay_texts(tmp_path: Path) -> None:
    """As YAML 1.2 has it: what YAML 1.1 would silently make a truth value, an octal number or minutes of is
    what was written."""
    rows = "[{a: yes, b: no, c: 012, d: 1:30, e: 2026-11-25, f: 12, g: 1.5, h: true, i: null, j: -3, k: 1e3}]"
    config = load_experiment(
        written(
            tmp_path,
            f"dataset: {{name: d, rows: {rows}}}\nprompt_template: {{name: p, user_prompt: <a>}}\nmodel: "
            "simulated/echo\n",
        )
    ).config
    assert isinstance(config.dataset, Dataset) and config.dataset.rows is not None
    assert list(config.dataset.rows[0].values()) == [
        "yes",
        "no",
        "012",
        "1:30",
        "2026-11-25",
        12,
        1.5,
        True,
        None,
        -3,
        1000.0,
    ]


def test_references_and_a_models_name_are_enough(tmp_path: Path) -> None:
    """Assets may be named by `name@version` and a model by its name."""
    config = load_experiment(written(tmp_path, REFERENCES)).config
    assert (config.dataset, config.prompt_template, config.model.name) == (
        "questions@0",
        "qa@production",
        "simulated/echo",
    )


def test_paths_count_from_the_yamls_folder_before_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dataset beside the experiment wins over one of the same name in the working folder."""
    beside, here = tmp_path / "beside", tmp_path / "here"
    for folder in (beside, here):
        folder.mkdir()
        written(folder, "{}", "rows.jsonl")
    written(here, "{}", "only_here.jsonl")
    monkeypatch.chdir(here)
    for name, expected in (("rows.jsonl", beside), ("only_here.jsonl", here)):
        path = written(
            beside, f"dataset: {{name: d, file_path: {name}}}\nprompt_template: p\nmodel: simulated/echo\n"
        )
        dataset = load_experiment(path).config.dataset
        assert isinstance(dataset, Dataset) and dataset.file_path == str(expected / name)


def test_a_missing_dataset_names_both_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says where the file was looked for."""
    (tmp_path / "beside").mkdir()
    monkeypatch.chdir(tmp_path)
    path = written(
        tmp_path / "beside",
        "dataset: {name: d, file_path: no.jsonl}\nprompt_template: p\nmodel: simulated/echo\n",
    )
    with pytest.raises(DatasetError) as caught:
        load_experiment(path)
    assert str(tmp_path / "beside" / "no.jsonl") in str(
        caught.value
    ) and f"{tmp_path / 'no.jsonl'} (in the working folder)" in str(caught.value)


def test_an_evaluators_file_counts_from_the_yamls_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`metrics.py:Mine` becomes an absolute path; a module stays as it is."""
    (tmp_path / "exp").mkdir()
    written(tmp_path / "exp", "", "metrics.py")
    monkeypatch.chdir(tmp_path)
    text = (
        REFERENCES + "evaluation: [{metric: a, evaluator: 'metrics.py:Mine'}, {metric: b, evaluator: "
        "'package.module:Theirs'}]\n"
    )
    config = load_experiment(written(tmp_path / "exp", text)).config
    assert [e.evaluator for e in config.evaluation] == [
        f"{tmp_path / 'exp' / 'metrics.py'}:Mine",
        "package.module:Theirs",
    ]
    with pytest.raises(ConfigError, match=r"metric 'a': no file 'gone\.py'"):
        load_experiment(
            written(tmp_path, REFERENCES + "evaluation: [{metric: a, evaluator: 'gone.py:Mine'}]\n")
        )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\n\tmodel: y\n", "line 2, column 1: .*Indent with spaces"),
        ("name: Question: what\n", "line 1, column 15: .*colon in it in quotes"),
        ('name: "a\\d"\n', "line 1, column 10: .*single quotes"),
        ("name: @x\n", "line 1, column 7: .*begins with %, @"),
        ("name: *x\n", r"line 1, column 7: .*begins with \*"),
        ("name: {a: 1\nmodel: 2\n", "line 2, column 6: .*Close each {"),
        ("name: [1\nmodel: 2\n", r"line 2, column 6: .*Close each \["),
        ('name: "x\n', "line 2, column 1: .*Close the quotes"),
        ("name: !!python/object:os.system x\n", "line 1, column 7: .*begins with !"),
        ("name: x\n---\nname: y\n", "line 2, column 1: .*one experiment in a file"),
        ("name: x\nname: y\n", "line 2: the key 'name' is there twice, first in line 1"),
        (
            "model:\n  name: a/b\n  seed: 1\n  'seed': 2\n",
            "line 4: the key 'seed' is there twice, first in line 3",
        ),
        ("evaluation:\n- params: {a: 1, a: 2}\n", "line 2: the key 'a' is there twice"),
        ("", "is empty"),
        ("- a\n", "is no mapping"),
        (b"name: \xff\n", "character 7 is not text: .*UTF-8"),
        ("nam: x\n", "line 1: an experiment has no field 'nam'. Did you mean 'name'"),
        ("zzz: x\n", "line 1: an experiment has no field 'zzz'. Its fields: name, "),
        ("? [a]\n: 1\n", "line 1: a field's name is a text"),
        (
            "dataset:\n  name: d\n  file_pth: x\n",
            "line 3: a dataset has no field 'file_pth'. Did you mean 'file_path'",
        ),
        (
            "prompt_template: {name: p, user: x}\n",
            "line 1: a prompt template has no field 'user'. Did you mean 'user_prompt'",
        ),
        (
            "prompt_template: {name: p, messages: [{rol: user, content: x}]}\n",
            "line 1: a message has no field 'rol'. Did you mean 'role'",
        ),
        (
            "evaluation:\n- metrics: x\n",
            "line 2: an evaluation has no field 'metrics'. Did you mean 'metric'",
        ),
        ("dataset: d\nagent_proxy: x\n", "agent_proxy: expected a function of the row"),
        (REFERENCES + "trials: 0\n", "trials: .*greater than or equal to 1"),
        (REFERENCES.replace("simulated/", ""), "model.name: 'echo' is not provider/model"),
        ("dataset: d\n", "needs prompt_template and model"),
    ],
)
def test_what_is_wrong_is_said_with_its_place_and_a_remedy(
    tmp_path: Path, text: str | bytes, said: str
) -> None:
    """Every error begins with the file's name."""
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=said) as caught:
        load_experiment(path)
    assert str(caught.value).startswith(str(path))


def test_a_file_that_cannot_be_read_is_named_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is shown as given and as it was looked for."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load_experiment(Path("gone.yaml"))
    assert (
        str(caught.value)
        == f"Cannot read the experiment gone.yaml ({tmp_path / 'gone.yaml'}): there is no such file."
    )
    with pytest.raises(ConfigError, match="directory"):
        load_experiment(tmp_path)


def test_anchors_and_merges_work(tmp_path: Path) -> None:
    """An alias repeats a value, and << takes over the keys of another mapping, which are not keys that are
    there twice."""
    text = REFERENCES + (
        "evaluation:\n"
        "- &first {metric: exact_match, column_mapping: &both {response: $inference, reference: answer}}\n"
        "- {<<: *first, name: again}\n"
        "- {metric: token_f1, column_mapping: *both}\n"
    )
    evaluation = load_experiment(written(tmp_path, text)).config.evaluation
    assert [e.result_name for e in evaluation] == ["exact_match", "again", "token_f1"]
    assert evaluation[0].column_mapping == evaluation[1].column_mapping == evaluation[2].column_mapping


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    metrics = {name: describe(name) for name in known()}
    return experiment_schema(
        {
            name: {"description": m.description, "params": m.params, "required": m.required}
            for name, m in metrics.items()
        }
    )


def complaints(schema: dict[str, Any], text: str) -> list[str]:
    return [
        error.json_path for error in jsonschema.Draft202012Validator(schema).iter_errors(yaml.safe_load(text))
    ]


def test_the_schema_is_one_and_every_field_has_a_description(schema: dict[str, Any]) -> None:
    """Editors show the description beside each field."""
    jsonschema.Draft202012Validator.check_schema(schema)
    fields = {
        **schema["properties"],
        **{f"{d}.{n}": f for d, v in schema["$defs"].items() for n, f in v["properties"].items()},
    }
    assert len(fields) > 30
    assert [name for name, field in fields.items() if not field.get("description")] == []


@pytest.mark.parametrize(
    "text", [WHOLE, REFERENCES, REFERENCES + "evaluation: [{metric: Mine, evaluator: 'm.py:Mine'}]\n"]
)
def test_the_schema_takes_good_experiments(schema: dict[str, Any], text: str) -> None:
    """All forms of the YAML are valid."""
    assert complaints(schema, text) == []


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (REFERENCES + "nam: x\n", "$"),
        ("name: x\n", "$"),
        (REFERENCES + "trials: 0\n", "$.trials"),
        (REFERENCES.replace("simulated/", ""), "$.model"),
        (REFERENCES.replace("questions@0", "{name: d, file_pth: x}"), "$.dataset"),
        (WHOLE.replace("response_pattern", "response_patern"), "$.evaluation[0].params"),
        (REFERENCES + "evaluation: [{metric: json_schema}]\n", "$.evaluation[0]"),
    ],
)
def test_the_schema_refuses_bad_experiments(schema: dict[str, Any], text: str, where: str) -> None:
    """A complaint is about the place where the error is."""
    assert where in complaints(schema, text)


def test_the_schema_names_every_metric_and_its_parameters(schema: dict[str, Any]) -> None:
    """So that an editor can complete them."""
    evaluation = schema["$defs"]["EvaluationConfig"]
    assert {option.get("const") for option in evaluation["properties"]["metric"]["anyOf"]} >= set(known())
    offered = {
        rule["if"]["properties"]["metric"]["const"]: set(rule["then"]["properties"]["params"]["properties"])
        for rule in evaluation["allOf"]
    }
    assert offered == {name: set(describe(name).params) for name in known()}


def test_the_committed_schema_is_the_current_one(schema: dict[str, Any]) -> None:
    """After a change: `promptlab schema > docs/experiment.schema.json`."""
    assert json.loads((DOCS / "experiment.schema.json").read_text(encoding="utf-8")) == json.loads(
        json.dumps(schema)
    )
