"""Processes that are forked from one that uses PromptLab, and what they leave alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ModelServer

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are of Unix")

TOP = """
import multiprocessing, os, sys, time
from promptlab import Model, ModelResponse, PromptLab, get_model
def experiment(model, rows=40, **more):
    return {"name": "x", "model": model, "prompt_template": {"name": "p", "user_prompt": "<n>"},
            "dataset": {"name": "d", "rows": [{"n": n} for n in range(rows)]}, **more}
"""


def ran(tmp_path: Path, code: str, *args: str) -> str:
    """Run a script in a process of its own, and give what it printed."""
    script = tmp_path / "script.py"
    script.write_text(TOP + code)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), *args],
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_forked_child_uses_the_lab_and_the_model_that_its_parent_has_used(tmp_path: Path) -> None:
    """Loops, sessions, threads and connections are not its own: it makes new ones."""
    code = """
if __name__ == "__main__":
    pl = PromptLab({"db_file": "lab.db"})
    model = get_model({"name": "openai/mini", "endpoint": sys.argv[1]})
    pl.experiment.run(experiment(model))
    child = os.fork()
    if not child:
        run = pl.experiment.run(experiment(model))
        print("child", run.status, run.summary.succeeded, len(pl.experiment.list()), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    run = pl.experiment.run(experiment(model))
    print("parent", run.status, run.summary.succeeded, len(pl.experiment.list()))
"""
    with ModelServer() as server:
        out = ran(tmp_path, code, server.openai_url)
    assert out.split("\n")[:2] == ["child completed 40 2", "parent completed 40 3"]


WAYS = {
    "exits": "sys.exit(0)",
    "raises": "raise ValueError('in the child')",
    "comes back": "pass",
}


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize("way", WAYS)
def test_a_child_that_a_model_forks_does_not_go_on_with_the_run(tmp_path: Path, kind: str, way: str) -> None:
    """However its code ends there: it would answer, pay and record beside its parent."""
    method = "ainvoke" if kind == "async def" else "invoke"
    code = f"""
class Forks(Model):
    {kind} {method}(self, system_prompt, user_prompt):
        child = os.fork()
        if not child:
            {WAYS[way]}
        else:
            os.waitpid(child, 0)
        with open("calls", "a") as file:
            file.write("x")
        return ModelResponse(response="ok")
if __name__ == "__main__":
    run = PromptLab({{"db_file": "lab.db"}}).experiment.run(experiment(Forks(), rows=5))
    print(run.status, run.summary.succeeded)
"""
    assert ran(tmp_path, code) == "completed 5\n"
    both = 10 if way == "comes back" else 5
    assert len((tmp_path / "calls").read_text()) == both


@pytest.mark.parametrize("signals", ["sdk", "cli"])
def test_a_pool_of_processes_inside_of_an_agent_does_not_stop_the_run(tmp_path: Path, signals: str) -> None:
    """Its workers end by SIGTERM, which the command line takes for itself in the parent."""
    (tmp_path / "mine.py").write_text(
        """
import multiprocessing
def double(n):
    return 2 * n
def agent(row):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return str(sum(pool.map(double, [row["n"]])))
"""
    )
    code = """
import sys
sys.path.insert(0, ".")
from mine import agent
rows = {"name": "d", "rows": [{"n": n} for n in range(6)]}
config = {"name": "x", "agent_proxy": agent, "dataset": rows}
if __name__ == "__main__":
    pl = PromptLab({"db_file": "lab.db"})
    if sys.argv[1] == "sdk":
        run = pl.experiment.run(config)
    else:
        import asyncio
        from promptlab.cli.interruption import Interruption
        from promptlab.sync import run_here
        async def main():
            with Interruption(lambda: None):
                return await pl.experiment.run_async(config)
        run = run_here(main())
    print(run.status, run.summary.succeeded)
"""
    assert ran(tmp_path, code, signals) == "completed 6\n"


def test_a_forked_child_ends_by_sigterm_where_its_parent_takes_it(tmp_path: Path) -> None:
    """The parent hears nothing of it."""
    code = """
import asyncio, signal
from promptlab.cli.interruption import Interruption
async def main():
    with Interruption(lambda: print("stopped")) as stop:
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
        os.kill(child, signal.SIGTERM)
        status = os.waitpid(child, 0)[1]
        await asyncio.sleep(0.1)
        print(os.WTERMSIG(status), stop.signal)
asyncio.run(main())
"""
    assert ran(tmp_path, code) == f"{signal.SIGTERM.value} None\n"


def test_a_child_that_a_model_forks_ends_by_sigterm(tmp_path: Path) -> None:
    """In a script, where the run takes SIGTERM as an interruption: also a child that lets nothing out."""
    code = """
import signal
class Forks(Model):
    def invoke(self, system_prompt, user_prompt):
        child = os.fork()
        while not child:
            try:
                time.sleep(60)
            except BaseException:
                pass
        os.kill(child, signal.SIGTERM)
        return ModelResponse(response=str(os.WTERMSIG(os.waitpid(child, 0)[1])))
if __name__ == "__main__":
    run = PromptLab({"db_file": "lab.db"}).experiment.run(experiment(Forks(), rows=5))
    print(run.status, {row["response"] for row in run.results()})
"""
    assert ran(tmp_path, code) == f"completed {{'{signal.SIGTERM.value}'}}\n"


@pytest.mark.parametrize("raised", ["SystemExit", "KeyboardInterrupt"])
def test_a_task_of_a_users_own_that_ends_the_program_does_not_stop_the_loop(
    tmp_path: Path, raised: str
) -> None:
    """asyncio lets both out of the event loop: whoever waits for a call there would wait for ever."""
    code = f"""
import asyncio
class Careless(Model):
    async def ainvoke(self, system_prompt, user_prompt):
        async def quits():
            raise {raised}
        await asyncio.wait([asyncio.ensure_future(quits())])
        return ModelResponse(response="ok")
if __name__ == "__main__":
    run = PromptLab({{"db_file": "lab.db"}}).experiment.run(experiment(Careless(), rows=5))
    print(run.status, run.summary.succeeded)
"""
    assert ran(tmp_path, code) == "completed 5\n"
