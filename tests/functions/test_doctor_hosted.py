"""`promptlab doctor` of a hosted lab: whether it is in order, and whether an experiment could run there."""

from __future__ import annotations

import html
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from promptlab_studio.auth import Auth

from functions import runtime
from promptlab import PromptLab
from promptlab.adapters.aws.secrets_manager import SecretsManagerSecrets
from promptlab.domain.results import FINAL, RunRecord
from promptlab.domain.secrets import Secret
from promptlab.store_lab import StoreLab
from promptlab.wiring import open_cloud
from tests.functions.conftest import Machine
from tests.functions.test_samples_hosted import Handed, worked_on
from tests.functions.test_sandbox import Invoked, _with_sandbox, invoked  # noqa: F401 - a fixture
from tests.samples import environment
from tests.servers import ModelServer, Reply
from tests.studio.live import BEARER, TOKEN, LiveStudio

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's"),
    pytest.mark.timeout(120),
]


@dataclass
class Account:
    """An account of some size."""

    limit: int = 1_000

    async def functions_at_once(self) -> tuple[int, int]:
        return self.limit, self.limit - 10

    async def close(self) -> None:
        """Nothing is open."""


class Told(Handed):
    """Knows that an execution is over when its run is."""

    async def is_active(self, run: RunRecord) -> bool:
        return run.status not in FINAL


@pytest.fixture
def account() -> Account:
    return Account()


@pytest.fixture
def hosted(
    tmp_path: Path,
    machine: Machine,
    invoked: Invoked,  # noqa: F811
    account: Account,
) -> Iterator[tuple[LiveStudio, Handed]]:
    """A Studio over the stack, which hands its runs over."""
    handed = Told()
    parts = replace(open_cloud(runtime.config()), runner=handed, sandbox=_with_sandbox(machine).sandbox)
    lab = StoreLab(replace(parts, quotas=account))
    with LiveStudio(tmp_path, lab=lab, auth=Auth(TOKEN, secure=False)) as studio:
        yield studio, handed


def found_by(studio: LiveStudio, machine: Machine, handed: Handed, folder: Path, *args: str) -> Any:
    """What `promptlab doctor --json` says, by the check; and its exit code."""
    said = folder / "said.json"
    command = f'"{sys.executable}" -m promptlab doctor --json "$@" > "{said}"'
    env = environment(PROMPTLAB_ENDPOINT=studio.url, PROMPTLAB_API_KEY=TOKEN)
    code = worked_on(["sh", "-c", command, "-", *args], folder, env, machine, handed)
    answer = json.loads(said.read_text())
    assert answer["ok"] is (code == 0)
    found: dict[str, list[tuple[str, str]]] = {}
    for one in answer["findings"]:
        found.setdefault(one["check"], []).append((one["outcome"], one["message"]))
    return found, code


def test_a_lab_that_is_in_order(
    hosted: tuple[LiveStudio, Handed], machine: Machine, tmp_path: Path, account: Account
) -> None:
    """Its versions, the token, store, sandbox and quotas; too small an account is said with the remedy."""
    found, code = found_by(*hosted[:1], machine, hosted[1], tmp_path)
    assert code == 0 and {outcome for said in found.values() for outcome, _ in said} == {"ok"}
    assert list(found) == ["address", "version", "token", "store", "code", "quotas"]
    assert "admin of the project default" in found["token"][0][1]
    assert found["code"][0][1] == "the sandbox runs code of users, which reaches nothing"
    assert "1,000 functions at once" in found["quotas"][0][1]
    account.limit = 8
    found, code = found_by(*hosted[:1], machine, hosted[1], tmp_path)
    ((outcome, said),) = found["quotas"]
    assert (code, outcome) == (0, "warning") and "MaxConcurrency=6" in said


@pytest.mark.long
def test_the_sdk_and_the_studio_say_the_same(hosted: tuple[LiveStudio, Handed], account: Account) -> None:
    """`pl.doctor()` and the page `/doctor`; a key that is not there is said, and nothing is raised."""
    account.limit = 8
    studio, _ = hosted
    with PromptLab({"type": "remote", "endpoint": studio.url, "api_key": TOKEN}, quiet=True) as pl:
        found = {finding.check: finding for finding in pl.doctor(["KEY"])}
    assert (found["quotas"].outcome, found["secrets"].outcome) == ("warning", "error")
    with studio.client(headers=BEARER) as api:
        page = html.unescape(api.get(f"{studio.url}/doctor?secrets=KEY").text)
    assert "Something is wrong." in page
    for check in ("store", "code", "quotas", "secrets"):
        assert found[check].message in page
    with PromptLab({"type": "remote", "endpoint": studio.url, "api_key": "pl_wrong"}, quiet=True) as pl:
        assert [finding.check for finding in pl.doctor() if finding.outcome == "error"] == ["token"]


EXPERIMENT = """
name: quiz
prompt_template: {{name: ask, user_prompt: "<question>"}}
dataset: {{name: questions, file_path: rows.jsonl}}
model: {{name: openai/mini, endpoint: "{endpoint}", api_key_secret: KEY, max_retries: 0}}
evaluation:
  - {{metric: length}}
  - {{metric: own, evaluator: "mine.py:own", column_mapping: {{response: $inference}}}}
"""


@pytest.mark.long
def test_an_experiment_against_a_hosted_lab(
    hosted: tuple[LiveStudio, Handed], machine: Machine, tmp_path: Path
) -> None:
    """A secret that is not there; a key that the provider does not take; then all is well: one call, and no
    run is left."""
    studio, handed = hosted
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"question": "What is {n}?"}}\n' for n in range(300)))
    (tmp_path / "mine.py").write_text("def own(data):\n    return len(data['response']) > 1\n")
    secrets = SecretsManagerSecrets(runtime.config().secrets_prefix)
    with ModelServer() as server:
        (tmp_path / "e.yaml").write_text(EXPERIMENT.format(endpoint=server.openai_url))

        def looked(*args: str) -> Any:
            return found_by(studio, machine, handed, tmp_path, "e.yaml", *args)

        found, code = looked()
        assert code == 1 and found["secrets"][0][0] == "error"
        assert "promptlab cloud secrets set KEY" in found["secrets"][0][1]
        assert "experiment" not in found and server.requests == []
        runtime.run(secrets.put("KEY", Secret("sk-of-the-doctor", (server.url,))))
        found, code = looked("--no-calls")
        assert code == 0 and server.requests == [] and "was not run" in found["experiment"][0][1]
        server.script(Reply(status=401, body={"error": {"message": "Incorrect API key"}}))
        found, code = looked()
        assert code == 1 and "Incorrect API key" in str(found["experiment"])
        found, code = looked()
        assert (code, found["experiment"][0][0]) == (0, "ok"), found
        assert [request.prompt for request in server.requests] == ["What is 0?"] * 2
        with studio.client(headers=BEARER) as api:
            assert api.get("/runs").json()["items"] == []
    runtime.run(secrets.close())


@pytest.mark.long
def test_a_wrong_token_and_a_wrong_address_are_named(
    hosted: tuple[LiveStudio, Handed], tmp_path: Path
) -> None:
    """In words, with exit code 1."""
    command = [sys.executable, "-m", "promptlab", "doctor"]
    for more, said in (
        (["--endpoint", hosted[0].url, "--api-key", "pl_wrong"], "✕ token: "),
        (["--endpoint", "http://127.0.0.1:9"], "✕ address: "),
    ):
        done = subprocess.run(
            [*command, *more], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 1 and said in done.stdout, done.stdout + done.stderr
