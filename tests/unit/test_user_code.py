"""Code of users: found again without being run again, and what it raises said in words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from promptlab import Dataset, Evaluator, Model, ModelError, ModelResponse, PromptLab, PromptTemplate, Run
from promptlab.domain.experiment import CodeRef
from promptlab.errors import ConfigError
from promptlab.experiments.code import load_code

DEFINES = "import os\nfrom pathlib import Path\nclass Mine:\n    pass\n"


@pytest.mark.parametrize(
    "work",
    [
        "run = pl.experiment.run({})",
        "run: object = pl.experiment.run({})",
        "if os.environ:\n    main()",
        "try:\n    main()\nfinally:\n    pass",
        "for name in ():\n    main()",
        "x = [main() for _ in range(3)]",
        "print(1)",
        "PromptLab().experiment.run({})",
    ],
)
def test_a_script_that_works_when_it_is_loaded_is_not_loaded(tmp_path: Path, work: str) -> None:
    """Its experiment would run a second time, and be paid for."""
    script = tmp_path / "script.py"
    script.write_text(f"{DEFINES}{work}\nraise SystemExit('it was run')\n")
    with pytest.raises(ConfigError, match="would run it"):
        load_code(CodeRef(qualname="Mine", file=str(script)))


def test_a_script_that_only_defines_things_is_loaded(tmp_path: Path) -> None:
    """Settings, paths and objects at its top are no work; what is guarded is left out."""
    top = (
        'MODEL = os.environ.get("X", "simulated/demo")\nHERE = Path(__file__).parent / "x"\nif '
        'MODEL:\n    N = int("3")\nmine = Mine()\n'
    )
    script = tmp_path / "script.py"
    script.write_text(
        f'"""A script."""\n{DEFINES}{top}if __name__ == "__main__":\n    raise SystemExit("it was run")\n'
    )
    assert load_code(CodeRef(qualname="Mine", file=str(script))).__name__ == "Mine"


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("class X(:\n", "X", "SyntaxError"),
        ("import nothing_like_it\n", "X", "nothing_like_it"),
        ("\n1 / 0\n", "X", r"ZeroDivisionError: division by zero \(mine.py, line 2\)"),
        ("import sys\nsys.exit(3)\n", "X", "SystemExit: 3"),
        ("class Y: pass\n", "X", "there is no 'X' in it"),
        ("class X:\n    def __init__(self, value): ...\n", "X", "missing 1 required positional argument"),
    ],
)
def test_an_evaluators_file_that_is_broken_is_a_message(
    tmp_path: Path, text: str, name: str, said: str
) -> None:
    """With the place in it; nothing is stored."""
    (tmp_path / "mine.py").write_text(text)
    pl = PromptLab({"db_file": str(tmp_path / "lab.db")})
    with pytest.raises(ConfigError, match=said):
        run(pl, "simulated/echo", evaluation=[{"metric": "x", "evaluator": f"{tmp_path}/mine.py:{name}"}])
    assert not (tmp_path / "lab.db").exists()


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Strange(Model):
    """Says too much, gives up in its own way, or cannot say why."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    async def ainvoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        self.calls += 1
        if user_prompt == "0":
            raise Mute
        if user_prompt == "1":
            raise TimeoutError("the user's own")
        return ModelResponse(
            response="ok", prompt_tokens=10**30 if user_prompt == "2" else -3, completion_tokens=4
        )


class Wordless(Evaluator):
    def evaluate(self, data: dict[str, Any]) -> bool:
        raise Mute


def run(pl: PromptLab, model: Any, **changes: Any) -> Run:
    rows = Dataset(name="rows", rows=[{"q": str(n)} for n in range(4)])
    return pl.experiment.run(
        {
            "name": "x",
            "dataset": rows,
            "prompt_template": PromptTemplate(name="p", user_prompt="<q>"),
            "model": model,
            **changes,
        }
    )


def test_what_cannot_be_said_or_stored_costs_its_own_case_only(tmp_path: Path) -> None:
    """An error without words, a timeout that is not ours, counts of tokens that no store has room for."""
    with PromptLab({"db_file": str(tmp_path / "lab.db")}) as pl:
        model = Strange()
        done = run(
            pl,
            model,
            evaluation=[
                {"metric": "w", "column_mapping": {"response": "$inference"}, "evaluator": Wordless()}
            ],
        )
        rows = done.results()
    assert (done.status, model.calls) == ("completed", 4)
    assert [row["error_type"] for row in rows] == ["Mute", "TimeoutError", None, None]
    assert (
        "cannot be shown: RuntimeError" in rows[0]["error_message"]
        and "the user's own" in rows[1]["error_message"]
    )
    assert [(row["prompt_tokens"], row["completion_tokens"]) for row in rows[2:]] == [(None, 4), (None, 4)]
    assert "w: Mute" in rows[2]["score_error.w"]


def test_an_agent_is_called_once_whatever_it_raises(tmp_path: Path) -> None:
    """It makes several calls, and has retries of its own."""
    calls: list[Any] = []

    def agent(row: dict[str, Any]) -> str:
        calls.append(row)
        raise ModelError("too many", type="rate_limit", retryable=True)

    with PromptLab({"db_file": str(tmp_path / "lab.db")}) as pl:
        done = pl.experiment.run(
            {"name": "a", "dataset": Dataset(name="rows", rows=[{"q": "1"}]), "agent_proxy": agent}
        )
    assert done.summary is not None and done.summary.errors == {"rate_limit": 1} and len(calls) == 1


def test_an_experiment_that_is_no_dict_is_named(tmp_path: Path) -> None:
    """With what to do with a file."""
    with pytest.raises(ConfigError, match="promptlab run FILE"):
        PromptLab({"db_file": str(tmp_path / "lab.db")}).experiment.run("exp.yaml")  # type: ignore[arg-type]


def test_a_forked_child_can_call_though_its_parent_has(tmp_path: Path) -> None:
    """As multiprocessing does it on Linux: the parent's loop has no thread in the child."""
    code = (
        "import os, sys\nfrom promptlab import get_model\nm = "
        "get_model('simulated/echo')\nm.invoke('', 'parent')\n"
        "child = os.fork()\nif not child:\n    print(m.invoke('', 'child').response, flush=True)\n   "
        " os._exit(0)\nos.waitpid(child, 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=200, check=True
    )
    assert done.stdout == "child\n"


class Fails(Model):
    """Raises what it is made with, for the answers and as a judge."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def invoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        raise self.error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TypeError("no such thing"), "no such thing"),
        (KeyError("a"), "'a'"),
        (SystemExit(3), "3"),
        (StopIteration("over"), "over"),
        (TypeError(), "(no message)"),
    ],
    ids=repr,
)
def test_what_code_raises_is_named_once(tmp_path: Path, error: BaseException, said: str) -> None:
    """The class is the case's type of error and stands before its message wherever both are shown; a judge's
    message has it once, too."""
    judged = {"metric": "rubric", "judge": Fails(error), "params": {"criterion": "polite"}}
    kind = type(error).__name__
    with PromptLab({"db_file": str(tmp_path / "lab.db")}) as pl:
        row = run(pl, Fails(error)).results()[0]
        assert (row["error_type"], row["error_message"]) == (kind, said)
        scored = run(pl, "simulated/echo", evaluation=[judged])
        assert scored.results()[0]["score_error.rubric"] == (
            f"rubric: {kind}: {said}" if str(error) else f"rubric: {kind}"
        )
        assert str(scored).count(kind) == 1
