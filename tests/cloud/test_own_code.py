"""Code of users by each way that it comes: a script, the command line, pasted into the Studio. Each runs on
the deployed stack as it stands, and gives case by case what the same objects give on a laptop: of texts and
of pictures."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from promptlab import PromptLab
from tests.cloud import own_code
from tests.cloud.conftest import Stack
from tests.cloud.runs import ended
from tests.cloud.test_cli import promptlab

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(600)]
PNG_HEAD = b"\x89PNG\r\n\x1a\n"
SOURCE = Path(own_code.__file__).read_text("utf-8")
PICTURES = [f"data:image/png;base64,{base64.b64encode(PNG_HEAD + bytes(size)).decode()}" for size in (30, 40)]
ROWS = [{"question": f"What is {n}?", "product": "lamp", "photo": PICTURES[n % 2]} for n in range(8)]
DATASET = {"name": "own-few", "rows": ROWS, "media": {"photo": "image"}}
ASKED = [{"type": "text", "text": "<question>"}, {"type": "image", "column": "photo"}]
PROMPT = {"name": "own-ask", "messages": [{"role": "user", "content": ASKED}]}
MAPPING = {"text": "$inference", "question": "question", "photo": "photo"}
MODEL, AGENT = "shouted", "replied"
"""One experiment with a model of one's own, one with an agent; three metrics, one of them of the run."""
SCRIPT = """
import json
from own_code import Distinct, Shout, Words, ending, reply
from promptlab import PromptLab

with PromptLab({"type": "remote"}, quiet=True) as pl:
    given = json.load(open("given.json"))
    metrics = {"Words": Words(), "ending": ending, "Distinct": Distinct()}
    mapping = given["mapping"]
    evaluation = [{"metric": m, "evaluator": e, "column_mapping": mapping} for m, e in metrics.items()]
    common = {"dataset": given["dataset"], "evaluation": evaluation}
    shouted = {"prompt_template": given["prompt"], "model": Shout()}
    runs = [pl.experiment.run({**common, "name": "shouted", **shouted}),
            pl.experiment.run({**common, "name": "replied", "agent_proxy": reply})]
    print(json.dumps([run.run_id for run in runs]))
"""
LEFT_OUT = ("latency_ms", "score_error.", "error_message", "tries")
"""Times, and words of errors: the sandbox quotes the user's own line in them."""
Runs = dict[str, tuple[list[dict[str, Any]], Any]]


def told(pl: PromptLab, run_ids: list[str]) -> Runs:
    """Rows and scores of the whole of runs, by their names, without what no two runs have alike."""
    found = {}
    for run_id in run_ids:
        run = pl.experiment.get(run_id)
        assert run.status == "completed", run
        rows = [
            {name: value for name, value in row.items() if not name.startswith(LEFT_OUT)}
            for row in run.results()
        ]
        assert run.summary is not None
        whole = {name: metric.brief() for name, metric in run.summary.run_metrics.items()}
        for brief in whole.values():
            brief.pop("lost_why", None)  # as errors: the sandbox quotes the user's own line
        found[run.record.name] = rows, whole
    return found


def experiments(source: str) -> list[dict[str, Any]]:
    """Both experiments, with code as `source` names it."""
    evaluation = [
        {"metric": name, "evaluator": f"{source}:{name}", "column_mapping": MAPPING}
        for name in ("Words", "ending", "Distinct")
    ]
    common = {"dataset": DATASET, "evaluation": evaluation}
    return [
        {**common, "name": MODEL, "prompt_template": PROMPT, "model": {"code": f"{source}:Shout"}},
        {**common, "name": AGENT, "agent_proxy": {"code": f"{source}:reply"}},
    ]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """What a laptop makes of them."""
    folder = tmp_path_factory.mktemp("laptop")
    (folder / "own_code.py").write_text(SOURCE)
    ids = by_command(folder, PROMPTLAB_ENDPOINT="", PROMPTLAB_API_KEY="")
    with PromptLab({"type": "sqlite", "db_file": str(folder / "promptlab.db")}) as pl:
        found = told(pl, ids)
    whole = found[MODEL][1]["Distinct"]["values"]["Distinct"]
    assert whole["value"] == 1.0 and whole["ci_low"] is not None, whole
    rows = {row["input.question"]: row for row in found[AGENT][0]}
    assert (
        rows["What is 7?"]["response"] == "48 bytes of lamp: What is 7?"
        and rows["What is 7?"]["label.ending"] == "question"
        and rows["What is 7?"]["reason.Words"] == "7 words, 48 bytes"
    )
    assert rows["What is 5?"]["error_type"] == "LookupError"
    return found


def by_command(folder: Path, **environment: str) -> list[str]:
    """Run both by `promptlab run`, from YAML that names the code by its file."""
    ids = []
    for experiment in experiments("own_code.py"):
        (folder / "own.yaml").write_text(json.dumps(experiment))  # which is YAML
        ids.append(json.loads(promptlab("run", "own.yaml", "--json", folder=folder, **environment))["run_id"])
    return ids


def from_the_command_line(stack: Stack, folder: Path) -> list[str]:
    (folder / "own_code.py").write_text(SOURCE)
    return by_command(folder)


def from_a_script(stack: Stack, folder: Path) -> list[str]:
    """With objects of a module beside it."""
    (folder / "own_code.py").write_text(SOURCE)
    (folder / "script.py").write_text(SCRIPT)
    given = {"mapping": MAPPING, "dataset": DATASET, "prompt": PROMPT}
    (folder / "given.json").write_text(json.dumps(given))
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=folder, check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ids: list[str] = json.loads(done.stdout.splitlines()[-1])
    return ids


def from_the_studio(stack: Stack, folder: Path) -> list[str]:
    """Pasted into the form, and chosen in the form of a run. A file that is uploaded is read into that very
    field by the browser."""
    for path, body in (
        ("/prompts", PROMPT),
        ("/datasets", DATASET),
    ):
        assert stack.api.post(path, json=body).status_code in (200, 201)
    ids = []
    with stack.client(token=False, **{"Sec-Fetch-Site": "same-origin"}) as browser:
        assert browser.post("/session", data={"token": stack.token}).status_code == 303
        pasted = {"name": "pasted", "path": "own_code.py", "text": SOURCE}
        assert browser.post("/code/new", data=pasted).status_code == 303
        code = [f"pasted@0/own_code:{name}" for name in ("Words", "ending", "Distinct")]
        mapping = {f"c.{text}": " ".join(f"{k}={v}" for k, v in MAPPING.items()) for text in code}
        common = {"dataset": "own-few@0", "code": code, **mapping}
        for form in (
            {"name": MODEL, "prompt": "own-ask@0", "model": "pasted@0/own_code:Shout"},
            {"name": AGENT, "agent": "pasted@0/own_code:reply"},
        ):
            answer = browser.post("/new", data={**common, **form})
            assert answer.status_code == 303, answer.text
            ids.append(httpx.URL(answer.headers["location"]).path.rpartition("/")[2])
    for run_id in ids:
        ended(stack, run_id)
    return ids


@pytest.mark.parametrize("sent", [from_the_command_line, from_a_script, from_the_studio])
def test_code_scores_and_answers_as_on_a_laptop(
    stack: Stack, pl: PromptLab, here: Runs, tmp_path: Path, sent: Callable[[Stack, Path], list[str]]
) -> None:
    """Evaluators of a case and of the run, a function, a model, an agent."""
    there = told(pl, sent(stack, tmp_path))
    assert there.keys() == here.keys()
    for name, (rows, whole) in here.items():
        assert there[name] == (rows, whole)
