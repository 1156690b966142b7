"""What of a user's project goes to a hosted lab: an evaluator's module, what it imports, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from promptlab.domain.code import CodeHost
from promptlab.domain.masking import remember
from promptlab.errors import AssetError, ConfigError
from promptlab.experiments.bundles import Gathered, gather
from promptlab.experiments.config import ExperimentConfig

HOST = CodeHost(python="3.13", machine="x86_64", modules={"numpy": "2.3.0"}, packages={"numpy": "2.3.0"})
LENGTH = """
class Length:
    def evaluate(self, data):
        return len(data["response"])
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that modules are imported from."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), "utf-8")


def experiment(*evaluators: Any, **fields: Any) -> ExperimentConfig:
    return ExperimentConfig.parse(
        {
            "prompt_template": {"name": "p", "user_prompt": "<q>"},
            "dataset": {"name": "d", "rows": [{"q": "a"}]},
            "model": "simulated/demo",
            "evaluation": [{"metric": f"m{n}", "evaluator": e} for n, e in enumerate(evaluators)],
            **fields,
        }
    )


def files_of(folder: Path, *evaluators: Any) -> list[str]:
    (draft,) = gather(experiment(*evaluators), folder).drafts
    return sorted(draft.sources.files)


def test_a_module_brings_what_it_imports_and_so_on(project: Path) -> None:
    """Relative and absolute imports, packages with their own modules, and none of the rest of the project."""
    write(
        project,
        {
            "sc_pkg/__init__.py": "from .names import NAMES\n",
            "sc_pkg/names.py": "NAMES = 1\n",
            "sc_pkg/rules.py": "from . import words\nfrom .deep.er import x\nimport sc_top, json\n" + LENGTH,
            "sc_pkg/words.py": "import sc_pkg.rules\n",
            "sc_pkg/deep/__init__.py": "",
            "sc_pkg/deep/er.py": "from ..names import NAMES as x\n",
            "sc_pkg/unrelated.py": "import nowhere_at_all\n",
            "sc_top.py": "import collections.abc\n",
        },
    )
    assert files_of(project, "sc_pkg.rules:Length") == [
        "sc_pkg/__init__.py",
        "sc_pkg/deep/__init__.py",
        "sc_pkg/deep/er.py",
        "sc_pkg/names.py",
        "sc_pkg/rules.py",
        "sc_pkg/words.py",
        "sc_top.py",
    ]


def test_a_namespace_package_needs_no_init(project: Path) -> None:
    """A folder without __init__.py is a package, too."""
    write(project, {"ns_a/b/rules.py": "from ns_a.c import other\n" + LENGTH, "ns_a/c/other.py": ""})
    assert files_of(project, "ns_a.b.rules:Length") == ["ns_a/b/rules.py", "ns_a/c/other.py"]


def test_a_package_that_gives_a_class_on_brings_the_module_that_defines_it(project: Path) -> None:
    """The class is imported from the package, and defined elsewhere in it; `*` takes what __all__ lists."""
    write(
        project,
        {
            "re_pkg/__init__.py": "from re_pkg.inner import *\n",
            "re_pkg/inner/__init__.py": "__all__ = ['one']\n",
            "re_pkg/inner/one.py": LENGTH,
            "re_pkg/inner/two.py": "",
        },
    )
    assert files_of(project, "re_pkg:one") == [
        "re_pkg/__init__.py",
        "re_pkg/inner/__init__.py",
        "re_pkg/inner/one.py",
    ]


def test_two_evaluators_of_a_package_are_one_bundle(project: Path) -> None:
    """And two packages are two."""
    write(project, {"tw_a/x.py": LENGTH, "tw_a/y.py": LENGTH, "tw_b.py": LENGTH})
    drafts = gather(experiment("tw_a.x:Length", "tw_a.y:Length", "tw_b:Length"), project).drafts
    assert [(d.name, sorted(d.sources.files)) for d in drafts] == [
        ("tw_a", ["tw_a/x.py", "tw_a/y.py"]),
        ("tw_b", ["tw_b.py"]),
    ]


def test_a_file_is_a_module_of_its_own(project: Path) -> None:
    """`path/to/file.py:Name` is at the bundle's root, and is named by its module there."""
    write(project, {"eval/my-rules.py": "import fi_other\n" + LENGTH, "fi_other.py": ""})
    found = gather(experiment("eval/my-rules.py:Length"), project)
    assert sorted(found.drafts[0].sources.files) == ["fi_other.py", "my_rules.py"]
    assert found.pieces[0].stored(3) == "my-rules@3/my_rules:Length"


@pytest.mark.parametrize(
    ("files", "evaluator", "words"),
    [
        ({"br.py": "def f(:\n"}, "br.py:f", ["br.py, line 1", "def f(:"]),
        (
            {"a.py": "import br_inner\n" + LENGTH, "br_inner.py": "\n\nx = = 1\n"},
            "a.py:Length",
            ["br_inner.py, line 3"],
        ),
        ({"a.py": LENGTH}, "a.py:Width", ["there is no 'Width'"]),
        ({}, "none.py:Width", ["there is no file"]),
        ({}, "no_such_module_x:Width", ["There is no module 'no_such_module_x'"]),
        ({"a.py": "x = '" + "a" * (1 << 20) + "'\n" + LENGTH}, "a.py:Length", ["1.0 MB", "at most 1 MB"]),
        ({"a.py": "#\0\n" + LENGTH}, "a.py:Length", ["zero byte"]),
    ],
)
def test_what_cannot_be_sent_is_said(
    project: Path, files: dict[str, str], evaluator: str, words: list[str]
) -> None:
    """With the file, the line and the remedy; nothing is sent."""
    write(project, files)
    with pytest.raises(ConfigError) as caught:
        gather(experiment(evaluator), project)
    for word in words:
        assert word in str(caught.value)


def test_other_encodings_become_utf_8(project: Path) -> None:
    """A file may say that it is Latin-1; one that lies is refused."""
    (project / "latin.py").write_bytes(
        "# coding: latin-1\nNAME = 'Zoë'\n".encode("latin-1") + LENGTH.encode()
    )
    (draft,) = gather(experiment("latin.py:Length"), project).drafts
    assert draft.sources.files["latin.py"].startswith("# -*- coding: utf-8 -*-\nNAME = 'Zoë'")
    (project / "liar.py").write_bytes(b"NAME = '\xff'\n" + LENGTH.encode())
    with pytest.raises(ConfigError, match=r"liar\.py is not text in the encoding"):
        gather(experiment("liar.py:Length"), project)


def test_a_key_in_the_source_is_refused_and_not_repeated(project: Path) -> None:
    """The line is named."""
    key = "sk-test-Zx81kQ0pLm4Rt7Wc2Bn6"
    remember(key)
    write(project, {"ke.py": f"\nKEY = '{key}'\n{LENGTH}"})
    with pytest.raises(ConfigError) as caught:
        gather(experiment("ke.py:Length"), project)
    assert "ke.py, line 2" in str(caught.value) and key not in str(caught.value)


def test_only_what_loading_needs_is_missing(project: Path) -> None:
    """What the lab has passes; what is caught, in a function, or for type checkers, is not needed to load."""
    write(
        project,
        {
            "out.py": """
                from typing import TYPE_CHECKING
                import numpy
                import absent_one
                if TYPE_CHECKING:
                    import absent_types
                try:
                    import absent_two
                except ImportError:
                    absent_two = None
                def plot():
                    import absent_three
            """
            + textwrap.indent(LENGTH, " " * 16),
        },
    )
    (draft,) = gather(experiment("out.py:Length"), project).drafts
    assert draft.missing(HOST, []) == ["absent_one (out.py, line 4)"]


def test_computed_imports_bring_what_is_loaded(project: Path) -> None:
    """A package that imports by computed names brings those of its modules that this process has."""
    write(
        project,
        {
            "co_pkg/__init__.py": "import importlib\ndef load(n): return importlib.import_module('co_pkg.' "
            "+ n)\n",
            "co_pkg/one.py": LENGTH,
            "co_pkg/two.py": LENGTH,
        },
    )
    import importlib

    importlib.import_module("co_pkg").load("one")
    assert files_of(project, "co_pkg:load") == ["co_pkg/__init__.py", "co_pkg/one.py"]


def test_a_compiled_module_is_refused(project: Path) -> None:
    """There is no source text to send."""
    import importlib.machinery

    (project / f"comp_x{importlib.machinery.EXTENSION_SUFFIXES[0]}").write_bytes(b"\x7fELF")
    write(project, {"cm.py": "import comp_x\n" + LENGTH})
    with pytest.raises(ConfigError, match="compiled: only source text is sent"):
        gather(experiment("cm.py:Length"), project)


def test_named_files_go_along_at_their_place(project: Path) -> None:
    """Beside the module that reads them; files that hold keys by their name never do."""
    write(project, {"fp/__init__.py": "", "fp/rules.py": LENGTH, "fp/words.txt": "a b", ".env": "A=1"})
    config = experiment("fp.rules:Length", code={"files": ["fp/words.txt"]})
    (draft,) = gather(config, project).drafts
    assert draft.sources.files["fp/words.txt"] == "a b"
    config = experiment("fp.rules:Length", code={"files": [".env"]})
    with pytest.raises(AssetError, match=r"'\.env' is not sent"):
        gather(config, project).drafts[0].bundle(HOST, (), ())


SCRIPT = """
import os, sys
from pathlib import Path
from promptlab import Evaluator, PromptLab, Score, get_model
import so_helper

pl = PromptLab({"type": "remote", "endpoint": "https://x", "api_key": "pl-secret-0123456789abcdef"})
LIMIT = int(os.environ.get("NOTHING", "3"))
answers = so_helper.work()
run = "a word"


def clip(text: str) -> str:
    run = text[:LIMIT]
    return run


class Base(Evaluator):
    higher_is_better = False


@so_helper.mark
class Length(Base):
    def evaluate(self, data):
        answers = clip(data["response"])
        return Score(value=len(answers))


class Uses:
    def evaluate(self, data):
        return answers[0]


class Threshold:
    def __init__(self, least):
        self.least = least
    def evaluate(self, data):
        return len(data["response"]) > self.least


def tell(thing):
    import json
    from promptlab.experiments.bundles import gather
    from promptlab.experiments.config import ExperimentConfig
    from promptlab.errors import ConfigError
    config = ExperimentConfig.parse({
        "prompt_template": {"name": "p", "user_prompt": "<q>"}, "dataset": {"name": "d", "rows": [{"q": 1}]},
        "model": "simulated/demo", "evaluation": [{"metric": "mine", "evaluator": thing}]})
    try:
        found = gather(config, Path())
        draft = found.drafts[0]
        print(json.dumps({
            "name": draft.name, "files": draft.sources.files,
            "pickled": draft.packed and draft.packed.pickled,
            "bytecode": draft.packed and draft.packed.has_bytecode, "text": found.pieces[0].stored(0)}))
    except ConfigError as error:
        print(json.dumps({"error": str(error)}))

#THING#
"""


def ran(project: Path, *arguments: str) -> dict[str, Any]:
    """What a process of its own prints."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def told(project: Path, thing: str, *, guarded: bool) -> dict[str, Any]:
    """What a script would send of a thing that it gives as an evaluator."""
    call = f"tell({thing})"
    end = f'if __name__ == "__main__":\n    {call}' if guarded else call
    write(project, {"so_helper.py": "def work(): return ['x']\ndef mark(c): return c\n"})
    (project / "study.py").write_text(SCRIPT.replace("#THING#", end), "utf-8")
    return ran(project, "study.py")


@pytest.mark.parametrize("guarded", [True, False])
def test_of_a_script_only_what_the_evaluator_needs_is_sent(project: Path, guarded: bool) -> None:
    """Its class with what that uses, on the user's own lines; neither the run nor the line with the key."""
    found = told(project, "Length()", guarded=guarded)
    assert (found["name"], found["text"], found["pickled"]) == ("study", "study@0/study:Length", None)
    assert sorted(found["files"]) == ["so_helper.py", "study.py"]
    sent = found["files"]["study.py"]
    for part in (
        "class Length(Base):",
        "class Base(Evaluator):",
        "def clip(text",
        "LIMIT = int(",
        "@so_helper.mark",
    ):
        assert part in sent
    for part in ("pl-secret", "PromptLab(", "tell", "class Uses", "so_helper.work()"):
        assert part not in sent.replace("Evaluator, PromptLab, Score", "")
    lines = SCRIPT.split("\n")
    number = lines.index("class Length(Base):")
    assert sent.split("\n")[number] == lines[number]
    names: dict[str, Any] = {"__name__": "study"}
    sys.modules.pop("so_helper", None)
    exec(compile(sent, "study.py", "exec"), names)
    assert names["Length"]().evaluate({"response": "abcdef"}).value == 3.0


def test_what_only_running_the_script_makes_is_named(project: Path) -> None:
    """With the line, and the remedy."""
    found = told(project, "Uses()", guarded=True)
    assert "study.py, line 9" in found["error"] and "so_helper.work()" in found["error"]
    assert "into a module of its own" in found["error"]


def test_a_class_made_in_the_guard_is_named(project: Path) -> None:
    """What is under `if __name__` is not sent."""
    write(project, {"gu.py": LENGTH})
    script = (
        "\nif __name__ == '__main__':\n    class In:\n        def evaluate(self, d): return 1\n    tell(In)\n"
    )
    (project / "study.py").write_text(SCRIPT.replace("#THING#", script), "utf-8")
    write(project, {"so_helper.py": "def work(): return ['x']\ndef mark(c): return c\n"})
    assert "'In'" in ran(project, "study.py")["error"]


def test_an_object_with_state_goes_with_its_class_as_source(project: Path) -> None:
    """The object is pickled, its class is text: so it is not bound to one version of Python."""
    found = told(project, "Threshold(4)", guarded=True)
    assert (found["name"], found["text"], found["bytecode"]) == ("mine", "mine@0", False)
    assert "class Threshold" in found["files"]["study.py"] and "pl-secret" not in found["files"]["study.py"]
    (project / "out").mkdir()
    for name, text in found["files"].items():
        (project / "out" / name).write_text(text, "utf-8")
    code = (
        "import base64, cloudpickle, sys\n"
        f"made = cloudpickle.loads(base64.b64decode({found['pickled']!r}))\n"
        "print(made.evaluate({'response': 'abcd'}), made.evaluate({'response': 'abcde'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project / "out", capture_output=True, text=True, check=True
    )
    assert done.stdout == "False True\n"


def test_a_function_within_a_function_is_for_this_python_only(project: Path) -> None:
    """Its code is in the pickle; another Python is an error before anything is sent."""
    found = told(project, "(lambda n: lambda data: n)(3)", guarded=True)
    assert found["bytecode"] is True and found["text"] == "mine@0"
    config = experiment(lambda data: 1)
    (draft,) = gather(config, project).drafts
    other = CodeHost(python="3.99")
    with pytest.raises(ConfigError, match=r"the hosted lab's is 3\.99.*top of a \.py file"):
        draft.bundle(other, (), ())


def test_a_notebooks_class_goes_by_value(project: Path) -> None:
    """There is no file: all of it is in the pickle."""
    code = SCRIPT.replace("#THING#", "tell(Threshold)")
    write(project, {"so_helper.py": "def work(): return ['x']\ndef mark(c): return c\n"})
    found = ran(project, "-c", code)
    assert (found["files"], found["bytecode"], found["text"]) == ({}, True, "mine@0")


class _Locked:
    def __init__(self) -> None:
        import threading

        self.lock = threading.Lock()

    def evaluate(self, data: dict[str, Any]) -> int:
        return 1


class _Large:
    def __init__(self) -> None:
        self.table = bytes(4 << 20)

    def evaluate(self, data: dict[str, Any]) -> int:
        return 1


class _WithKey:
    def __init__(self) -> None:
        self.key = "sk-test-Qm93LpX7tRv20NcZ5Ka8"

    def evaluate(self, data: dict[str, Any]) -> int:
        return 1


def test_objects_that_cannot_go_are_refused_with_a_remedy(project: Path) -> None:
    """A lock, four megabytes, a key."""
    remember("sk-test-Qm93LpX7tRv20NcZ5Ka8")
    for thing, words in ((_Locked(), "lock"), (_Large(), "more than 3 MB"), (_WithKey(), "holds a key")):
        with pytest.raises(ConfigError, match=words) as caught:
            gather(experiment(thing), project)
        assert "metric 'm0'" in str(caught.value) and "Qm93" not in str(caught.value)


def test_what_the_lab_keeps_already_is_left_alone(project: Path) -> None:
    """A text that names stored code brings nothing along."""
    found: Gathered = gather(experiment("scoring@3/rules:Length", "scoring@production"), project)
    assert (found.drafts, found.pieces) == ([], [])
