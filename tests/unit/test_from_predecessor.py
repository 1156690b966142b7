"""Programs written for promptlab 0.1 show their users the new line, and are ported by the
table of the docs alone."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from promptlab_studio.auth import Auth

from promptlab import Dataset, Evaluator, Model, ModelConfig, PromptLab, PromptTemplate, Run
from promptlab.errors import ConfigError, PromptLabError
from promptlab.evaluators.registry import canonical
from tests.servers import ModelServer
from tests.studio.live import TOKEN, LiveStudio

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "from-promptlab-0.1.md"

ASSETS = """
prompt = pl.asset.create(PromptTemplate(name="reply", description="Answers a ticket.",
    system_prompt="Answer customers of a bicycle shop.", user_prompt="A customer writes: <ticket>"))
dataset = pl.asset.create(Dataset(name="tickets", description="Tickets.", file_path="tickets.jsonl"))
"""
READ = """
prompt = pl.asset.get(asset_name="reply", version=0)
dataset = pl.asset.get(asset_name="tickets", version=0)
"""
LOCAL = """
import asyncio
from promptlab import PromptLab
from promptlab.types import Dataset, ModelConfig, ModelResponse, PromptTemplate
pl = PromptLab(tracer_config={"type": "local", "db_file": "./lab.db"})
"""
MODELS = """
    "completion_model_config": {"name": "ollama/llama3.2", "type": "completion"},
    "embedding_model_config": {"name": "ollama/nomic-embed-text:latest", "type": "embedding"},
"""
SIMILAR = (
    '{"metric": "semantic_similarity", "column_mapping": {"response": "$completion", "reference": "reply"}},'
)
RELEVANT = '{"metric": "relevance", "column_mapping": {"response": "$completion", "query": "ticket"}},'

QUICKSTART = f"""{LOCAL}{ASSETS}{READ}
asyncio.run(pl.experiment.run_async({{
    "name": "quickstart", "prompt_template": prompt, "dataset": dataset, {MODELS}
    "evaluation": [
        {SIMILAR}
        {RELEVANT}
    ],
}}))
"""
VERSIONS = f"""{LOCAL}{ASSETS}
pl.asset.update(PromptTemplate(name="reply", description="Shorter.", system_prompt="Two sentences.",
    user_prompt="<ticket>"))
pl.asset.update(Dataset(name="tickets", description="With one more.", file_path="more.jsonl"))
first = pl.asset.get(asset_name="reply", version=0)
second = pl.asset.get(asset_name="reply", version=1)
longer = pl.asset.get(asset_name="tickets", version=1)
"""
AGENT = f"""{LOCAL}{ASSETS}{READ}
async def agent(inputs: dict) -> ModelResponse:
    return ModelResponse(response=inputs["reply"], prompt_tokens=0, completion_tokens=0, latency_ms=0)
asyncio.run(pl.experiment.run_async({{
    "name": "agent", "agent_proxy": agent, "dataset": {{"id": dataset.id, "version": dataset.version}},
    "evaluation": [{{
        "metric": "exact_match", "column_mapping": {{"response": "$completion", "reference": "reply"}},
    }}],
}}))
"""
METRIC = f"""{LOCAL}
from promptlab.evaluator.evaluator import Evaluator

class Words(Evaluator):
    def evaluate(self, data: dict):
        return len(data["response"].split())

class Polite(Evaluator):
    def evaluate(self, data: dict):
        model = self.completion.model_config.name
        mark = self.completion("You mark how polite a text is, from 1 to 5.", data["response"])
        return mark.response
{ASSETS}{READ}
pl.experiment.run({{
    "name": "metric", {MODELS}
    "prompt_template": {{"id": prompt.id, "version": prompt.version}}, "dataset": dataset,
    "evaluation": [
        {{"metric": "words", "column_mapping": {{"response": "$completion"}}, "evaluator": Words()}},
        {{"metric": "polite", "column_mapping": {{"response": "$completion"}}, "evaluator": Polite()}},
    ],
}})
"""
MODEL = f"""{LOCAL}
from promptlab.model.model import EmbeddingModel, Model, ModelConfig, ModelResponse

class Echo(Model):
    def __init__(self, model_config: ModelConfig):
        super().__init__(model_config)
        self.short = self.model_config.name.split("/")[1]

    def invoke(self, system_prompt, user_prompt):
        answer = f"{{self.short}}: {{user_prompt}}"
        return ModelResponse(response=answer, prompt_tokens=1, completion_tokens=2, latency_ms=3)

    async def ainvoke(self, system_prompt, user_prompt):
        return await asyncio.to_thread(self.invoke, system_prompt, user_prompt)

class Letters(EmbeddingModel):
    def __init__(self, model_config: ModelConfig):
        super().__init__(model_config)
        self.letters = self.model_config.name.split("/")[1]

    def __call__(self, text):
        return [[text.count(letter) + 1 for letter in self.letters]]
{ASSETS}{READ}
echo = Echo(ModelConfig(name="own/echo", type="completion", max_concurrent_tasks=2))
letters = Letters(ModelConfig(name="own/aeiou", type="embedding"))
asyncio.run(pl.experiment.run_async({{
    "name": "model", "prompt_template": prompt, "dataset": dataset,
    "completion_model_config": {{"name": "own/echo", "type": "completion", "model": echo}},
    "embedding_model_config": {{"name": "own/aeiou", "type": "embedding", "model": letters}},
    "evaluation": [
        {SIMILAR}
        {RELEVANT}
    ],
}}))
"""
HOSTED = f"""
import asyncio
from promptlab import PromptLab
from promptlab.types import Dataset, PromptTemplate
pl = PromptLab({{"type": "remote", "endpoint": ENDPOINT, "jwt_token": TOKEN}})
{ASSETS}{READ}
asyncio.run(pl.experiment.run_async({{
    "name": "hosted", "prompt_template": prompt, "dataset": dataset, {MODELS}
    "evaluation": [
        {SIMILAR}
        {RELEVANT}
    ],
}}))
"""


@pytest.fixture
def server() -> Iterator[ModelServer]:
    item = {"text": "It is ready on Monday.", "reasoning": "It says when.", "verdict": "relevant"}
    judged = json.dumps({"items": [item]})
    with ModelServer(
        lambda request: judged if "<<<QUESTION>>>" in request.prompt else "It will be ready on Monday"
    ) as it:
        yield it


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"id": i, "ticket": f"Is my bicycle {i} ready?", "reply": f"Bicycle {i} is ready."} for i in range(3)
    ]
    for name, count in (("tickets", 2), ("more", 3)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:count]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OLLAMA_HOST", server.url)


def run_program(source: str, **names: Any) -> tuple[dict[str, Any], list[str]]:
    """Run a program as a module of its own; give its names, and the DeprecationWarnings at its lines."""
    names |= {"__name__": "program"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            exec(compile(source, "program.py", "exec"), names)
        finally:
            if isinstance(names.get("pl"), PromptLab):
                names["newest"] = next(iter(names["pl"].experiment.list()), None)
                names["shown"] = list(names["newest"].results()) if names["newest"] else []
                names["pl"].close()
    old = [warning for warning in caught if issubclass(warning.category, DeprecationWarning)]
    assert {Path(warning.filename).name for warning in old} <= {"program.py"}, [
        str(w) for w in old if "program.py" not in w.filename
    ]
    return names, [str(warning.message) for warning in old]


def rows_of(heading: str) -> list[tuple[str, str]]:
    """The old and the new text of each row of the first table below a heading."""
    section = PAGE.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    table = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert table
    found = []
    for line in table[0].splitlines()[2:]:
        old, new = (re.findall(r"`([^`]+)`", cell) for cell in line.strip("|").split(" |"))
        found.append((old[0], "\n".join(new)))
    return found


def ported(source: str, *headings: str) -> str:
    """A program with each row of the tables applied, and the page's evaluator before it."""
    for heading in headings:
        for old, new in rows_of(heading):
            pattern = re.escape(old)
            for free in ("NAME", "OBJECT"):
                pattern = pattern.replace(free, rf"(?P<{free}>[^\n]*?)")
                new = new.replace(free, rf"\g<{free}>")
            pattern = "(?P<indent>(?m:^ *)?)" + pattern.replace("…", r"(?P<rest>[^\n]*?)")
            new = rf"\g<indent>{new}".replace("\n", r"\n\g<indent>").replace("…", r"\g<rest>")
            source = re.sub(pattern, new, source)
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return f"{block}\n{source}"


def run_ported(source: str, *headings: str, **names: Any) -> dict[str, Any]:
    found, warned = run_program(ported(source, *headings), **names)
    assert warned == []
    return found


def means(run: Run | None) -> dict[str, tuple[int, float | None]]:
    assert run is not None and run.summary is not None
    return {name: (metric.n, metric.mean) for name, metric in run.summary.metrics.items()}


def test_the_quickstart_is_ported() -> None:
    """As it is, its metric is an error with the new line; by the table it runs without a warning."""
    with pytest.raises(ConfigError, match="asks a model of its own"):
        run_program(QUICKSTART)
    found = means(run_ported(QUICKSTART, "Line by line")["newest"])
    assert found["relevance"] == (2, 1)
    assert found["semantic_similarity"][0] == 2


def test_versions_of_assets_are_ported() -> None:
    """As it is it works, with a warning for each old line that shows the new one."""
    names, warned = run_program(VERSIONS)
    assert (names["first"].version, names["second"].user_prompt, len(names["longer"])) == (0, "<ticket>", 3)
    assert [
        message.partition("; write ")[2].removesuffix(" (docs/from-promptlab-0.1.md)") for message in warned
    ] == [
        *(
            f"from promptlab import {name}"
            for name in ("Dataset", "ModelConfig", "ModelResponse", "PromptTemplate")
        ),
        "PromptLab(…)",
        *(f"name={name!r}" for name in ("reply", "reply", "tickets")),
    ]
    Path("lab.db").unlink()
    assert len(run_ported(VERSIONS, "Line by line")["longer"]) == 3


def test_an_agent_is_ported() -> None:
    """`{"id", "version"}` finds the dataset by its name, with a warning that shows the reference."""
    names, warned = run_program(AGENT)
    assert means(names["newest"])["exact_match"] == (2, 1)
    assert any('"dataset": "tickets@0"' in message for message in warned)
    assert any("asset.name" in message for message in warned)
    assert means(run_ported(AGENT, "Line by line")["newest"])["exact_match"] == (2, 1)


def test_custom_metrics_are_ported() -> None:
    """A metric that asks the completion model fails with the new line; the others count as before."""
    names, warned = run_program(METRIC)
    assert means(names["newest"])["words"] == (2, 6)
    assert "self.model = get_model(" in names["shown"][0]["score_error.polite"]
    assert any("from promptlab import Evaluator" in message for message in warned)
    assert means(run_ported(METRIC, "Line by line")["newest"])["words"] == (2, 6)


def test_own_models_are_ported() -> None:
    """Objects in configurations, `EmbeddingModel` and `self.model_config` work, each with the new line."""
    names, warned = run_program(MODEL.replace(RELEVANT, ""))
    before = means(names["newest"])["semantic_similarity"]
    assert before[0] == 2
    text = "\n".join(warned)
    for line in (
        '"model": Echo(…)',
        '"embedding_model": Letters(…)',
        "self.config",
        "async def aembed(self, texts)",
    ):
        assert line in text
    found = means(run_ported(MODEL, "Line by line")["newest"])
    assert found["semantic_similarity"] == before
    assert found["relevance"] == (2, 1)


def test_a_hosted_studio_is_ported(tmp_path: Path) -> None:
    """The old token is an error with the new key; what cannot be sent goes by the page's second table."""
    (tmp_path / "hosted").mkdir()
    with LiveStudio(tmp_path / "hosted", auth=Auth(TOKEN, secure=False)) as studio:
        names = {"ENDPOINT": studio.url, "TOKEN": TOKEN}
        with pytest.raises(ConfigError, match=r"'api_key': '…'"):
            run_program(HOSTED, **names)
        found = run_ported(HOSTED, "At a hosted Studio", "Line by line", **names)
        assert means(found["newest"])["semantic_similarity"][0] == 2


def test_a_script_shows_the_new_line_without_any_setting(tmp_path: Path) -> None:
    """Python shows a DeprecationWarning at a line of the script itself, also where the SDK
    works on another thread."""
    script = tmp_path / "program.py"
    script.write_text(AGENT.replace("asyncio.run(pl.experiment.run_async({", "pl.experiment.run(({"))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    done = subprocess.run(
        [sys.executable, script.name],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "studio")))},
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )
    assert re.search(r'program\.py:\d+: DeprecationWarning: .*"dataset": "tickets@0"', done.stderr)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataset": {"id": "1b4e28ba-2fa1-11d2-883f-0016d3cca427", "version": 3}}, r'"dataset": "NAME@3"'),
        ({"model": {"name": "own/x", "model": lambda text: text}}, r"of a subclass of promptlab\.Model"),
        (
            {"model": {"name": "own/x", "model": Model.__new__(Model), "temperature": 1}},
            r'temperature beside an object.*"model": Model\(…\)',
        ),
    ],
)
def test_what_cannot_work_is_an_error_with_the_new_line(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    """Ids of the old store, objects that are no models, and parameters that would change nothing."""
    experiment: dict[str, Any] = {
        "dataset": Dataset(name="d", rows=[{"q": "1"}]),
        "prompt_template": PromptTemplate(name="p", user_prompt="<q>"),
        "model": "simulated/demo",
    }
    with PromptLab(tmp_path / "other.db") as pl, pytest.raises(ConfigError, match=words):
        pl.experiment.run({**experiment, **changes})


def test_a_configuration_holds_no_model() -> None:
    """`ModelConfig(model=object)` would be sent to the provider."""
    with pytest.raises(ValueError, match=r'"model": function\(…\)'):
        ModelConfig(name="own/x", model=lambda text: text)
    assert ModelConfig(name="openai/x", model="y").extra_params == {"model": "y"}


def test_an_import_without_a_successor_says_what_to_write() -> None:
    """And a name that never was is an ordinary error."""
    with pytest.raises(ImportError, match=r"PromptLab\(\{"):
        from promptlab.types import TracerConfig  # noqa: F401
    with pytest.raises(ImportError, match="cannot import name 'Nothing'"):
        from promptlab.types import Nothing  # noqa: F401


def test_metrics_that_asked_a_model_are_named_with_their_successor() -> None:
    """However the name is written."""
    for name, now in (("relevance", "answer_relevance"), ("HarmfulContent", "harmful_content")):
        assert canonical(name) == now


def test_an_evaluator_without_the_old_attributes_is_as_before() -> None:
    """Any other missing attribute is Python's own error."""

    class Mine(Evaluator):
        def evaluate(self, data: dict[str, Any]) -> bool:
            return True

    with pytest.raises(AttributeError, match=r"self\.embedding_model\.aembed"):
        _ = Mine().embedding  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="'Mine' object has no attribute 'other'"):
        _ = Mine().other  # type: ignore[attr-defined]


def test_an_asset_is_asked_for_by_one_name(tmp_path: Path) -> None:
    """Both names, or none, are an error."""
    with PromptLab(tmp_path / "names.db") as pl:
        for given in ({"name": "a", "asset_name": "a"}, {}):
            with pytest.raises(TypeError, match="name"):
                pl.asset.get(**given)


def test_a_store_of_the_predecessor_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    """Its default path was ./promptlab.db, too."""
    path = tmp_path / "promptlab.db"
    with sqlite3.connect(path) as old:
        old.executescript(
            textwrap.dedent("""
            CREATE TABLE assets (asset_name TEXT, asset_version INTEGER, asset_binary TEXT);
            CREATE TABLE experiment_result (id INTEGER PRIMARY KEY, completion TEXT);
            """)
        )
    old.close()
    before = path.read_bytes()
    with (
        PromptLab(path) as pl,
        pytest.raises(PromptLabError, match=r"a store of promptlab 0\.1.*promptlab-2\.db"),
    ):
        pl.asset.list()
    assert path.read_bytes() == before
