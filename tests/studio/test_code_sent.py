"""Code of one's own on its way to a hosted lab: what the SDK sends, what the API takes, keeps and shows."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from promptlab import Evaluator, PromptLab
from promptlab.domain.code import CodeBundle
from promptlab.domain.masking import remember
from promptlab.errors import AssetError, ConfigError
from tests.studio.live import LiveStudio
from tests.studio.told import Told

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def sandbox() -> Told:
    return Told()


@pytest.fixture
def studio(tmp_path: Path, sandbox: Told) -> Iterator[LiveStudio]:
    with LiveStudio(tmp_path, sandbox=sandbox) as found:
        yield found


@pytest.fixture
def pl(studio: LiveStudio) -> Iterator[PromptLab]:
    with PromptLab({"type": "remote", "endpoint": studio.url}) as found:
        yield found


@pytest.fixture
def api(studio: LiveStudio) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=studio.api, timeout=60) as client:
        yield client


def experiment(**changes: Any) -> dict[str, Any]:
    return {
        "name": "mine",
        "prompt_template": {"name": "ask", "user_prompt": "<q>"},
        "dataset": {"name": "one", "rows": [{"q": "a"}]},
        "model": "simulated/demo",
        **changes,
    }


class Length(Evaluator):
    """How long an answer is."""

    def evaluate(self, data: dict[str, Any]) -> int:
        return len(data["response"])


class Least:
    """Passes from a length on."""

    def __init__(self, least: int) -> None:
        self.least = least

    def evaluate(self, data: dict[str, Any]) -> bool:
        return len(data["response"]) >= self.least


def test_objects_of_a_run_become_code_that_the_run_names(
    pl: PromptLab, sandbox: Told, studio: LiveStudio
) -> None:
    """Their source is an asset; run again, it is the same version; the run records name, version and hash."""
    metrics = [
        {"metric": "length", "name": "mine", "evaluator": Length()},
        {"metric": "least", "evaluator": Least(3)},
        {"metric": "exact_match", "column_mapping": {"reference": "q"}},
    ]
    for _ in range(2):
        run = pl.experiment.run(experiment(evaluation=metrics))
    code, least, built_in = (metric.get("code") for metric in run.record.experiment["evaluation"])
    assert built_in is None
    assert (code["bundle"], code["module"], code["qualname"]) == ("tests@0", __name__, "Length")
    assert (least["bundle"], least.get("module"), least["qualname"]) == ("least@0", None, "")
    bundle = pl.asset.get("tests", kind="code")
    assert isinstance(bundle, CodeBundle) and bundle.contents is not None
    assert bundle.hash == code["bundle_hash"]
    paths = [file.path for file in bundle.contents.files]
    assert "tests/studio/test_code_sent.py" in paths and "tests/__init__.py" in paths
    assert [
        entry.name
        for entry in bundle.contents.entries
        if entry.module == __name__ and entry.kind == "evaluator"
    ] == [
        "Length",
        "Least",
    ]
    assert {event["role"] for _, event in sandbox.asked} == {"check"}
    assert [len(pl.asset.versions(name, kind="code")) for name in ("tests", "least")] == [1, 1]


def test_a_models_class_and_an_agents_function_go_along(pl: PromptLab, tmp_path: Path) -> None:
    """By file and name; the model's configuration is what the sandbox says."""
    (tmp_path / "own.py").write_text(
        "from promptlab import Model, ModelResponse\n"
        "class OwnModel(Model):\n    def invoke(self, s, u): return ModelResponse('x')\n"
        "def agent(row): return 'x'\n"
    )
    code = str(tmp_path / "own.py")
    run = pl.experiment.run(experiment(model={"code": f"{code}:OwnModel", "params": {"size": 2}}))
    found = run.record.experiment
    assert found["model"]["name"] == "custom/Own" and found["model_code"]["params"] == {"size": 2}
    assert (found["model_code"]["bundle"], found["model_code"]["module"]) == ("own@0", "own")
    config = experiment(agent_proxy=f"{code}:agent", model=None, prompt_template=None)
    agent = pl.experiment.run({k: v for k, v in config.items() if v is not None}).record.experiment
    assert (agent["model"]["name"], agent["agent"]["bundle"], agent["agent"]["qualname"]) == (
        "agent/agent",
        "own@0",
        "agent",
    )


def test_a_key_of_the_lab_in_the_code_is_refused_before_anything_is_sent(
    pl: PromptLab, tmp_path: Path
) -> None:
    """The asset does not exist afterwards."""
    key = "-".join(("sk-live", "Tg5Kp0Zx73QmWv1LbN8c"))  # not as it is: this file is sent by other tests
    remember(key)
    (tmp_path / "leak.py").write_text(f"KEY = '{key}'\ndef f(data): return 1\n")
    with pytest.raises(ConfigError, match=r"leak\.py, line 1 holds a key"):
        pl.experiment.run(experiment(evaluation=[{"metric": "f", "evaluator": f"{tmp_path}/leak.py:f"}]))
    assert pl.asset.list("code") == []


def test_a_key_of_the_environment_is_not_sent(
    pl: PromptLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor in an object's state."""
    monkeypatch.setenv("WEATHER_API_KEY", "w9Kz72LmQp04RtXv81Bn")
    (tmp_path / "far.py").write_text("def f(data): return 'w9Kz72LmQp04RtXv81Bn'\n")
    evaluators = (f"{tmp_path}/far.py:f", Least("w9Kz72LmQp04RtXv81Bn"))  # type: ignore[arg-type]
    for evaluator in evaluators:
        with pytest.raises(ConfigError, match="holds a key"):
            pl.experiment.run(experiment(evaluation=[{"metric": "f", "evaluator": evaluator}]))
    assert pl.asset.list("code") == []


def test_a_piece_of_code_that_cannot_be_loaded_is_said_with_its_line(pl: PromptLab, tmp_path: Path) -> None:
    """Before the run is recorded."""
    (tmp_path / "rules.py").write_text("class Broken: pass\n")
    with pytest.raises(ConfigError, match=r"m.*rules@0/rules:Broken cannot be used.*rules\.py, line 3"):
        pl.experiment.run(
            experiment(evaluation=[{"metric": "m", "evaluator": f"{tmp_path}/rules.py:Broken"}])
        )
    assert list(pl.experiment.list()) == []


def test_a_package_that_the_lab_lacks_is_named_with_its_remedy(pl: PromptLab, tmp_path: Path) -> None:
    """The line that imports it, and how it gets there."""
    (tmp_path / "far.py").write_text("import quite_absent\ndef f(data): return 1\n")
    with pytest.raises(ConfigError, match=r"quite_absent \(far\.py, line 1\).*code\.requirements"):
        pl.experiment.run(experiment(evaluation=[{"metric": "f", "evaluator": f"{tmp_path}/far.py:f"}]))


def wheel(
    folder: Path, name: str = "tinylib", version: str = "1.0", tag: str = "py3-none-any", **more: str
) -> Path:
    """A wheel, as an index has it."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": "def one(): return 1\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: "
        f"{version}\n{more.get('needs', '')}",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for place, text in files.items():
            archive.writestr(place, text)
        archive.writestr(f"{name}/data.bin", more.get("data", ""))
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes its packages from, and no network."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    (tmp_path / "index").mkdir()
    (tmp_path / "uses.py").write_text("import tinylib\ndef f(data): return tinylib.one()\n")
    return tmp_path / "index"


def with_requirements(tmp_path: Path, *requirements: str) -> dict[str, Any]:
    metric = {"metric": "f", "evaluator": f"{tmp_path}/uses.py:f"}
    return experiment(evaluation=[metric], code={"requirements": list(requirements)})


def test_packages_go_along_as_wheels(pl: PromptLab, tmp_path: Path, index: Path, studio: LiveStudio) -> None:
    """With what they need, by hash; sent once."""
    paths = [wheel(index, needs="Requires-Dist: tinierlib\n"), wheel(index, "tinierlib", "2.1")]
    pl.experiment.run(with_requirements(tmp_path, "tinylib==1.0"))
    bundle = pl.asset.get("uses", kind="code")
    assert isinstance(bundle, CodeBundle) and bundle.contents is not None
    assert bundle.requirements == ("tinylib==1.0",)
    expected = {(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths}
    assert {(one.file_name, one.sha256) for one in bundle.wheels} == expected
    assert studio.lab.blobs.folder is not None
    kept = [path.name for path in (studio.lab.blobs.folder / "code" / "wheels").iterdir()]
    assert sorted(kept) == sorted(f"{digest}.whl" for _, digest in expected)
    pl.experiment.run(with_requirements(tmp_path, "tinylib==1.0"))
    assert len(pl.asset.versions("uses", kind="code")) == 1


@pytest.mark.parametrize(
    ("tag", "requirement", "words"),
    [
        ("py3-none-any", "tinylib", r"requirement 'tinylib' is not pinned: write name==version"),
        ("py3-none-any", "tinylib==9.9", r"cannot be had as wheels for the hosted lab \(Python"),
        ("cp27-cp27m-macosx_10_9_x86_64", "tinylib==1.0", r"source: build one yourself"),
        ("py3-none-any", "pydantic==0.1", r"the hosted lab has pydantic \S+ itself"),
    ],
)
def test_packages_that_do_not_fit_are_said(
    pl: PromptLab, tmp_path: Path, index: Path, tag: str, requirement: str, words: str
) -> None:
    """Not pinned, no such version, another platform, another version than the lab's own."""
    wheel(index, tag=tag)
    with pytest.raises(ConfigError, match=words):
        pl.experiment.run(with_requirements(tmp_path, requirement))
    assert pl.asset.list("code") == []


def test_a_source_distribution_is_not_built(pl: PromptLab, tmp_path: Path, index: Path) -> None:
    """Its setup would run on this machine: only wheels are taken."""
    import io
    import tarfile

    with tarfile.open(index / "tinylib-1.0.tar.gz", "w:gz") as archive:
        for name, text in (
            ("PKG-INFO", "Metadata-Version: 2.1\nName: tinylib\nVersion: 1.0\n"),
            ("setup.py", "raise SystemExit('ran')\n"),
        ):
            entry = tarfile.TarInfo(f"tinylib-1.0/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    with pytest.raises(ConfigError, match="wheel and not only source"):
        pl.experiment.run(with_requirements(tmp_path, "tinylib==1.0"))


def test_the_api_keeps_code_and_shows_its_source(api: httpx.Client) -> None:
    """201, then 200 for the same content; an older content is its older version again."""
    first = {"name": "rules", "files": {"rules.py": "def f(data):\n    return 1\n"}}
    second = {**first, "files": {"rules.py": "def f(data):\n    return 2\n"}}
    answers = [api.post("/code", json=body) for body in (first, first, second, first)]
    assert [(a.status_code, a.json()["version"]) for a in answers] == [(201, 0), (200, 0), (201, 1), (200, 0)]
    assert answers[0].headers["Location"] == "/api/v1/code/rules/versions/0"
    content = answers[0].json()["content"]
    assert content["entries"] == [{"module": "rules", "name": "f", "kind": "function", "line": 1}]
    source = api.get("/code/rules/versions/1/source").json()
    assert source["files"] == second["files"]
    assert [item["version"] for item in api.get("/code").json()["items"]] == [1]
    assert api.put("/code/rules/labels/production", json={"version": 0}).json()["labels"] == ["production"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"files": {"a.py": "x = = 1\n"}}, "a.py, line 1: invalid syntax: x = = 1"),
        ({"files": {"../a.py": ""}}, "is no path of a file in a bundle"),
        ({"files": {".env": "A=1"}}, "'.env' is not sent"),
        ({"files": {"deploy/id_rsa": "x"}}, "'deploy/id_rsa' is not sent"),
        ({"files": {"a.py": "x\0"}}, "zero byte"),
        ({"files": {}}, "neither files nor an object"),
        ({"files": {"a.py": ""}, "pickled": "@@"}, "pickled is not base64"),
        ({"files": {"a.py": ""}, "requirements": ["x>=1"]}, "'x>=1' is not pinned"),
        ({"files": {"a.py": ""}, "pickled": "gAVLAS4=", "python": "3.2"}, f"this lab runs {HERE}"),
        ({"files": {f"f{n}.py": "" for n in range(501)}}, "may be 500"),
        ({"files": {"a.py": "#" * (1 << 20) + "\n"}}, "at most 1 MB"),
    ],
)
def test_the_api_refuses_code_that_cannot_be_kept(
    api: httpx.Client, body: dict[str, Any], words: str
) -> None:
    """With what is wrong, and where."""
    answer = api.post("/code", json={"name": "rules", **body})
    assert answer.status_code == 422, answer.text
    assert words in answer.text
    assert api.get("/code").json()["items"] == []


def test_more_than_a_bundle_may_have_is_refused_before_it_is_sent() -> None:
    """With the size, the bound and the largest part."""
    with pytest.raises(AssetError, match=r"5\.0 MB; at most 4 MB.*largest part is 0\.txt"):
        CodeBundle(name="big", files={f"{n}.txt": "a" * 1_000_000 for n in range(5)})


def test_a_wheel_that_is_not_what_it_says_is_refused(api: httpx.Client, tmp_path: Path) -> None:
    """Its content decides: nobody can put other code under a hash."""
    path = wheel(tmp_path / "w")
    size = path.stat().st_size
    place = api.post("/code/uploads", json={"file_name": path.name, "size_bytes": size}).json()
    assert httpx.put(place["upload_url"], content=path.read_bytes()).status_code == 204
    body = {"file_name": path.name, "sha256": "0" * 64, "size_bytes": size, "upload": place["key"]}
    answer = api.post("/code/wheels", json=body)
    assert answer.status_code == 422 and "upload it again" in answer.json()["detail"]
    code = {
        "name": "r",
        "files": {"r.py": ""},
        "wheels": [{k: body[k] for k in ("file_name", "sha256", "size_bytes")}],
    }
    assert "was not uploaded" in api.post("/code", json={**code, "python": HERE}).json()["detail"]


def test_a_wheel_has_the_name_of_one(api: httpx.Client) -> None:
    """Whether it is there or not."""
    answer = api.post("/code/wheels", json={"file_name": "0.whl", "sha256": "0" * 64, "size_bytes": 1})
    assert answer.status_code == 422
    assert answer.json()["detail"] == "'0.whl' is no wheel's file name, as in rouge-0.1-py3-none-any.whl"


def test_large_code_is_uploaded(pl: PromptLab) -> None:
    """More than 1 MB goes as a file, and comes back as it was."""
    text = "# " + "a" * 700_000 + "\n"
    made = pl.asset.create(CodeBundle(name="big", files={"a.py": text, "b.py": text}))
    assert isinstance(made, CodeBundle) and made.version == 0
    assert dict(pl.asset.source(made).files) == {"a.py": text, "b.py": text}


def test_a_run_names_only_code_that_is_there(api: httpx.Client) -> None:
    """A version that is not, a name that is no class, and code that is something else."""
    assert (
        api.post("/code", json={"name": "rules", "files": {"rules.py": "def f(d): pass\n"}}).status_code
        == 201
    )
    for evaluator, status, words in (
        ("rules@7/rules:f", 404, "no version 7"),
        ("nothing@0/rules:f", 404, "There is no code 'nothing'"),
        ("rules@0/rules:AModel", 422, "is a model, not an evaluator or a function"),
        ("rules.py:f", 422, "code that the lab keeps"),
    ):
        answer = api.post("/runs", json=experiment(evaluation=[{"metric": "m", "evaluator": evaluator}]))
        assert answer.status_code == status, answer.text
        assert words in answer.text


def test_several_scores_and_the_direction_are_what_the_code_says(api: httpx.Client) -> None:
    """As on a laptop, where the class itself is asked."""
    assert api.post("/code", json={"name": "r", "files": {"r.py": ""}}).status_code == 201
    metrics = [
        {"metric": "two", "evaluator": "r@0/r:Two"},
        {"metric": "less", "evaluator": "r@latest/r:Less"},
    ]
    run = api.post("/runs", json=experiment(evaluation=metrics)).json()
    found = [(m["name"], m.get("part"), m["higher_is_better"]) for m in run["configuration"]["evaluation"]]
    assert found == [("two.a", "a", True), ("two.b", "b", True), ("less", None, False)]
    assert run["configuration"]["evaluation"][2]["code"]["bundle"] == "r@0"


def test_a_lab_without_a_sandbox_takes_no_code(tmp_path: Path) -> None:
    """403, with what to do; what it says of itself, too."""
    with LiveStudio(tmp_path) as studio, httpx.Client(base_url=studio.api) as api:
        answer = api.post("/code", json={"name": "r", "files": {"r.py": ""}})
        assert answer.status_code == 403 and "hosted lab only" in answer.json()["detail"]
        assert "hosted lab only" in api.get("/sandbox").json()["refusal"]
        for path in ("/code/uploads", "/code/wheels"):
            body = {"file_name": "a-1-py3-none-any.whl", "sha256": "0" * 64, "size_bytes": 1}
            fields = body if path.endswith("wheels") else {k: v for k, v in body.items() if k != "sha256"}
            assert api.post(path, json=fields).status_code == 403
