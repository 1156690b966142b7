"""Providers and evaluators that installed packages register by entry point."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from promptlab import PromptLab, get_model, plugins
from promptlab.domain.experiment import Experiment
from promptlab.errors import ConfigError, UnknownNameError
from promptlab.evaluators.registry import build, describe, offered
from promptlab.experiments.binding import Live, bind
from promptlab.sync import run_sync

CODE = """
from promptlab import Evaluator, Model, ModelResponse

class AcmeModel(Model):
    def invoke(self, system_prompt, user_prompt):
        return ModelResponse(response=f"{self.config.model_id}: {user_prompt}")

class Politeness(Evaluator):
    '''Whether a word of thanks is in the answer.'''
    inputs = {"response": "$inference"}

    def __init__(self, word="thanks", *, whole: bool = False):
        self.word = word

    def evaluate(self, data):
        return self.word in data["response"]

def nothing(*args, **params):
    return 3
"""
REGISTERED = """
[promptlab.providers]
acme = acme_promptlab:AcmeModel
broken = acme_broken:Model
nothing = acme_promptlab:nothing

[promptlab.evaluators]
acme_politeness = acme_promptlab:Politeness
broken_metric = acme_broken:Metric
missing_metric = acme_promptlab:Missing
"""


def install(folder: Path, name: str, registered: str, **modules: str) -> None:
    """Put a package where an installer puts it."""
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(textwrap.dedent(text))
    info = folder / f"{name}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(registered)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages with one that works in parts."""
    folder = tmp_path / "site"
    folder.mkdir()
    install(folder, "acme", REGISTERED, acme_promptlab=CODE, acme_broken="import nothing_like_it\n")
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    plugins._loaded.clear()
    for module in ("acme_promptlab", "acme_broken"):
        sys.modules.pop(module, None)


def test_a_registered_provider_and_evaluator_are_used_by_name(installed: Path, tmp_path: Path) -> None:
    """In an experiment, with params; a run is bound again from its record alone."""
    with PromptLab(tmp_path / "lab.db") as lab:
        run = lab.experiment.run(
            {
                "dataset": {"name": "d", "rows": [{"q": "thanks"}, {"q": "no"}]},
                "prompt_template": {"name": "p", "user_prompt": "<q>"},
                "model": {"name": "acme/large", "max_concurrent_tasks": 3},
                "evaluation": [
                    {"metric": "acme_politeness"},
                    {"metric": "Acme-Politeness", "name": "no", "params": {"word": "no"}},
                ],
            }
        )
        rows = list(run.results())
        assert [row["response"] for row in rows] == ["large: thanks", "large: no"]
        assert [row["score.acme_politeness"] for row in rows] == [1.0, 0.0]
        assert [row["score.no"] for row in rows] == [0.0, 1.0]
        experiment = Experiment.model_validate(run.record.experiment)
        assert experiment.model_code is None and experiment.evaluation[0].code is None
        dataset = lab.asset.get("d", kind="dataset")
        bound = run_sync(bind(experiment, None, dataset, Live()))
        assert bound.model.config.max_concurrent_tasks == 3
    assert describe("acme_politeness").description == "Whether a word of thanks is in the answer."


def test_plug_ins_are_offered_after_the_built_in_metrics(installed: Path) -> None:
    """With their parameters by annotation or default; those that cannot be loaded are said to be so."""
    metrics, problems = offered()
    assert (metrics[0].name, metrics[-1].name) == ("answer_relevance", "acme_politeness")
    assert metrics[-1].params == {
        "word": {"type": "string", "default": "thanks"},
        "whole": {"type": "boolean", "default": False},
    }
    assert len(problems) == 2 and all("of the package acme 1.2" in problem for problem in problems)


def test_nothing_is_loaded_before_it_is_used(installed: Path) -> None:
    """A broken plug-in of the same package costs nobody anything."""
    script = (
        f"import sys; sys.path.insert(0, {str(installed)!r})\n"
        "from promptlab import get_model\nfrom promptlab.evaluators.registry import build\n"
        "get_model('simulated/echo'); build('exact_match')\n"
        "assert 'acme_promptlab' not in sys.modules and 'acme_broken' not in sys.modules\n"
        "get_model('acme/x')\nassert 'acme_promptlab' in sys.modules and 'acme_broken' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_broken_plug_in_is_named(installed: Path) -> None:
    """Its name, its package and version, and what it raised."""
    with pytest.raises(ConfigError, match=r"'broken' of the package acme 1\.2 .*nothing_like_it.*uninstall"):
        get_model("broken/x")
    with pytest.raises(ConfigError, match=r"'broken_metric' of the package acme 1\.2 .*ModuleNotFoundError"):
        build("broken_metric")
    with pytest.raises(ConfigError, match=r"'missing_metric' of the package acme 1\.2 .*Missing"):
        build("missing_metric")
    with pytest.raises(ConfigError, match=r"'acme_politeness' of the package acme 1\.2.*'least'"):
        build("acme_politeness", {"least": 2})
    with pytest.raises(ConfigError, match=r"provider 'nothing' .*gives no promptlab\.Model but a int"):
        get_model("nothing/x")


def test_two_packages_with_one_name_are_both_named(installed: Path) -> None:
    """Neither wins by chance."""
    install(installed, "other", "[promptlab.providers]\nacme = other:Model\n", other="")
    with pytest.raises(ConfigError, match=r"'acme' is registered by the package .* and by the package"):
        get_model("acme/x")


def test_an_unknown_name_is_answered_with_the_registered_ones(installed: Path) -> None:
    """The nearest may be a plug-in's; a built-in one is never replaced."""
    with pytest.raises(UnknownNameError, match="Did you mean 'acme'"):
        get_model("acmee/x")
    with pytest.raises(UnknownNameError, match="'acme_politeness'"):
        build("acme_politenes")
    install(
        installed, "thief", "[promptlab.providers]\nsimulated = thief:Model\n", thief="raise SystemExit\n"
    )
    assert type(get_model("simulated/echo")).__module__ == "promptlab.models.simulated"
