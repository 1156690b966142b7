"""A hosted run with code of its user: the key of its provider, and one in the functions' own environment, are
looked for in all that it leaves, in plain, escaped, encoded and split forms."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import boto3
import pytest
from promptlab_studio.auth import Auth

from functions import runtime
from promptlab.adapters.aws.secrets_manager import SecretsManagerSecrets
from promptlab.domain.secrets import Secret
from promptlab.store_lab import StoreLab
from promptlab.wiring import open_cloud
from tests import aws
from tests.canary import FORMS, KEY, answer, inflated, looked_at
from tests.functions.conftest import Machine
from tests.functions.test_canary import looked_at_files
from tests.functions.test_samples_hosted import Handed, started
from tests.functions.test_sandbox import Invoked, _with_sandbox, invoked  # noqa: F401 - a fixture
from tests.servers import ModelServer
from tests.studio.live import BEARER, TOKEN, LiveStudio

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's"),
    pytest.mark.timeout(180),
]
CODE = '''
import base64, os, traceback
from pathlib import Path
from promptlab import Evaluator, Score

def told(text):
    """The text in forms of its own."""
    return [text, base64.b64encode(text.encode()).decode(), text.encode().hex(), text[::-1], " ".join(text)]

class Quotes(Evaluator):
    """Prints what it is given in every form, says it, and fails with it."""

    def evaluate(self, data):
        forms = told(data["response"])
        print(*forms)
        if len(data["response"]) % 3 == 0:
            raise ValueError("y" * 1900 + "|".join(forms))
        half = len(forms[0]) // 2
        return Score(value=1, label=forms[0][:half][:90], reason=forms[0][half:] + "|".join(forms))

class Searches(Evaluator):
    """Says whatever it finds around it: environments, arguments, and the frames that called it."""

    def evaluate(self, data):
        found = [repr(dict(os.environ))]
        for path in ("environ", "cmdline", "maps"):
            for process in ("self", str(os.getppid()), "1"):
                try:
                    found.append(Path("/proc", process, path).read_text())
                except OSError as error:
                    found.append(str(error))
        found += [repr(frame.f_locals) for frame, _ in traceback.walk_stack(None)]
        text = "".join(found)
        print(text[:9000])
        return Score(value=len(text), reason="|".join(told(text[:20_000])))
'''
PLACES = (
    "",
    "/progress",
    "/cases?limit=500",
    "/cases/0.0",
    "/cases/1.0",
    "/export?format=csv",
    "/export?format=jsonl",
)
PAGES = ("", "?tab=summary", "?tab=configuration", "/cases/0", "/cases/1", "/cases/2", "/cases.jsonl")


@pytest.fixture
def hosted(tmp_path: Path, machine: Machine, invoked: Invoked) -> Iterator[tuple[LiveStudio, Handed]]:  # noqa: F811
    """A Studio over the stack, which hands its runs over."""
    handed = Handed()
    parts = replace(open_cloud(runtime.config()), runner=handed, sandbox=_with_sandbox(machine).sandbox)
    with LiveStudio(tmp_path / "studio", lab=StoreLab(parts), auth=Auth(TOKEN, secure=False)) as studio:
        yield studio, handed


@pytest.mark.long
def test_a_hosted_run_with_code_leaves_keys_nowhere(
    tmp_path: Path,
    machine: Machine,
    hosted: tuple[LiveStudio, Handed],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not in the table, the bucket, what is logged, what the API and the pages answer, or an export."""
    caplog.set_level(logging.DEBUG, logger="promptlab")
    monkeypatch.setenv("PROMPTLAB_OF_THE_FUNCTION", KEY)
    studio, handed = hosted
    (tmp_path / "quoting.py").write_text(CODE)
    rows = [{"ask": f"{kind}|{name}"} for name in FORMS for kind in ("answer", "error")]
    secrets = SecretsManagerSecrets(runtime.config().secrets_prefix)
    with ModelServer(answer) as server:
        runtime.run(secrets.put("canary", Secret(KEY, (server.url,))))
        config = {
            "name": "canary",
            "dataset": {"name": "asks", "rows": rows},
            "prompt_template": {"name": "ask", "user_prompt": "<ask>"},
            "model": {
                "name": "openai/m",
                "endpoint": server.openai_url,
                "api_key_secret": "canary",
                "max_retries": 0,
            },
            "evaluation": [
                {"metric": name, "evaluator": f"{tmp_path / 'quoting.py'}:{name}"}
                for name in ("Quotes", "Searches")
            ],
        }
        run_id = started(studio, config)
        assert machine.execute(*handed.runs.get(timeout=60)) == {"status": "completed"}
        assert {f"Bearer {KEY}"} == {request.headers["authorization"] for request in server.requests}
    runtime.run(secrets.close())
    for item in aws.bare_table(runtime.config().table).scan()["Items"]:
        looked_at(f"{item['pk']} {item['sk']}", repr(inflated(item)).encode())
    bucket = boto3.client("s3", endpoint_url=aws.moto_url())
    for entry in bucket.list_objects_v2(Bucket=runtime.config().bucket)["Contents"]:
        data = bucket.get_object(Bucket=runtime.config().bucket, Key=entry["Key"])["Body"].read()
        if entry["Key"].endswith(".parquet"):
            (tmp_path / "left").mkdir(exist_ok=True)
            (tmp_path / "left" / entry["Key"].replace("/", "-")).write_bytes(data)
        looked_at(entry["Key"], repr(inflated(data)).encode())
    assert looked_at_files(tmp_path / "left") >= 1
    with studio.client(headers=BEARER, follow_redirects=True) as api:
        addresses = [f"/api/v1/runs/{run_id}{place}" for place in PLACES]
        for address in (*addresses, *(f"/runs/{run_id}{page}" for page in PAGES), "/", "/api/v1/runs"):
            found = api.get(studio.url + address)
            assert found.status_code == 200, (address, found.text)
            looked_at(address, found.content)
        cases = api.get(f"/runs/{run_id}/cases?limit=500").json()["items"]
    assert len(cases) == len(rows) and any("***" in str(case) for case in cases)
    assert any(case.get("score_error.Quotes") for case in cases)
    assert all(case["reason.Searches"] for case in cases if case["response"])
    said = capfd.readouterr()
    looked_at("what was logged", (said.out + said.err + caplog.text).encode())
