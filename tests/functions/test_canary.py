"""Whole runs against endpoints that send the key back, in answers, errors and headers: it is looked for in
all that the runs leave behind, on a laptop and in the cloud."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner

from functions import runtime
from promptlab import Dataset, Evaluator, PromptLab, PromptTemplate
from promptlab.adapters.aws.secrets_manager import SecretsManagerSecrets
from promptlab.cli import commands
from promptlab.domain.secrets import Secret
from tests import aws
from tests.canary import KEY, NAMES, answer, inflated, looked_at, rows
from tests.functions.conftest import Machine
from tests.servers import ModelServer


class Quoting(Evaluator):
    """Says in its reason what the answer is, and fails with it."""

    def evaluate(self, data: dict[str, Any]) -> Any:
        if len(data["response"]) % 2:
            raise ValueError(f"{'y' * 1980}{data['response']} {KEY}")
        return {"score": 1, "reason": data["response"] + KEY}


def looked_at_files(folder: Path) -> int:
    """Look into every file; how many there were."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        if path.suffix == ".parquet":
            import duckdb

            for row in duckdb.read_parquet(str(path)).fetchall():
                looked_at(str(path), repr(row).encode())
        else:
            looked_at(str(path), path.read_bytes())
    return len(files)


def test_a_run_on_a_laptop_leaves_the_key_nowhere(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not in the ledger, its log, a blob, an export, what is logged or what is printed."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("CANARY_API_KEY", KEY)
    store = tmp_path / "store"
    store.mkdir()
    with ModelServer(answer) as server, PromptLab(str(store / "lab.db"), quiet=False) as lab:
        run = lab.experiment.run(
            {
                "name": "canary",
                "dataset": Dataset(name="asks", rows=rows()),
                "prompt_template": PromptTemplate(name="ask", user_prompt="<ask>"),
                "model": {
                    "name": "openai/m",
                    "endpoint": server.openai_url,
                    "api_key_env": "CANARY_API_KEY",
                    "max_retries": 0,
                },
                "evaluation": [
                    {
                        "metric": "Quoting",
                        "evaluator": Quoting(),
                        "column_mapping": {"response": "$inference"},
                    },
                    {"metric": "length"},
                ],
            }
        )
        assert {f"Bearer {KEY}"} == {request.headers["authorization"] for request in server.requests}
        looked_at_files(store)  # while the store is open: with its log
        for kind in ("csv", "jsonl", "parquet"):
            run.export(tmp_path / f"results.{kind}")
        looked_at("the summary", repr(run.summary).encode())
    for args in (("show", "latest"), ("show", "latest", "--failed"), ("runs", "--json")):
        shown = CliRunner().invoke(commands, [*args, "--db", str(store / "lab.db")])
        assert shown.exit_code == 0, shown.output
        looked_at(" ".join(args), shown.output.encode())
    assert looked_at_files(tmp_path) > 5
    said = capfd.readouterr()
    looked_at("what was printed", (said.out + said.err + caplog.text).encode())
    exported = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert len(exported) == len(rows())
    assert sum("***" in json.dumps(row) for row in exported) >= len(rows()) * 0.7


@pytest.mark.parametrize("form", NAMES)
def test_a_run_that_is_stopped_names_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], form: str
) -> None:
    """The provider's words, which are the run's own then, have it in whichever form."""
    monkeypatch.setenv("CANARY_API_KEY", KEY)
    config: dict[str, Any] = {
        "name": "canary",
        "dataset": Dataset(name="asks", rows=[{"ask": f"html|{form}"}] * 30),
        "prompt_template": PromptTemplate(name="ask", user_prompt="<ask>"),
        "model": {"name": "openai/m", "api_key_env": "CANARY_API_KEY", "max_retries": 0},
    }
    with ModelServer(answer) as server, PromptLab(str(tmp_path / "lab.db"), quiet=False) as lab:
        config["model"]["endpoint"] = server.openai_url
        run = lab.experiment.run(config)
        assert run.status == "stopped" and "***" in (run.record.error or "")
        looked_at_files(tmp_path)
        said = capfd.readouterr()
        looked_at("what was said", (said.out + said.err + repr(run.record)).encode())


def test_a_run_in_the_cloud_leaves_the_key_nowhere(
    machine: Machine, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Not in the table, the bucket, the functions' answers or their logs."""
    caplog.set_level(logging.DEBUG, logger="promptlab")
    secrets = SecretsManagerSecrets(runtime.config().secrets_prefix)
    with ModelServer(answer) as server:
        runtime.run(secrets.put("canary", Secret(KEY, (server.url,))))
        run = machine.start(
            {
                "name": "canary",
                "dataset": Dataset(name="asks", rows=rows()),
                "prompt_template": PromptTemplate(name="ask", user_prompt="<ask>"),
                "model": {
                    "name": "openai/m",
                    "endpoint": server.openai_url,
                    "api_key_secret": "canary",
                    "max_retries": 0,
                },
                "evaluation": [
                    {"metric": "length"},
                    {"metric": "exact_match", "column_mapping": {"reference": "ask"}},
                ],
            }
        )
        assert machine.execute(run.run_id) == {"status": "completed"}
        assert {f"Bearer {KEY}"} == {request.headers["authorization"] for request in server.requests}
    runtime.run(secrets.close())
    for item in aws.bare_table(runtime.config().table).scan()["Items"]:
        looked_at(f"{item['pk']} {item['sk']}", repr(inflated(item)).encode())
    client = boto3.client(
        "s3",
        region_name=aws.REGION,
        endpoint_url=aws.moto_url(),
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    objects = client.list_objects_v2(Bucket=runtime.config().bucket)["Contents"]
    assert len(objects) > 3
    for found in objects:
        data = client.get_object(Bucket=runtime.config().bucket, Key=found["Key"])["Body"].read()
        looked_at(found["Key"], repr(inflated(data)).encode())

    async def results() -> list[dict[str, Any]]:
        return [row async for row in machine.lab.results(run.run_id)]

    found_rows = runtime.run(results())
    assert len(found_rows) == len(rows())
    looked_at("results", repr(found_rows).encode())
    said = capfd.readouterr()
    looked_at("what was printed", (said.out + said.err + caplog.text).encode())
