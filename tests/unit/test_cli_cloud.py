"""The commands against a hosted Studio and against a stack."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import boto3
import pytest
from click.testing import CliRunner, Result
from promptlab_studio.auth import Auth

from promptlab.cli import commands
from promptlab.cloud.cost import SERVICES
from promptlab.program import program
from tests import aws
from tests.servers import ModelServer, Reply
from tests.studio.live import TOKEN, LiveStudio

Invoke = Callable[..., Result]
STACK = "lab-under-test"
ME = f"{sys.executable} -m promptlab"
"""The command line as it is started here, and so named in hints."""
ADMIN_TOKEN = f"/promptlab/{STACK}/admin-token"
OUTPUTS = {
    "StudioUrl": "https://abc.execute-api.us-east-1.amazonaws.com",
    "SecretsPrefix": f"{STACK}/keys/",
    "AdminTokenParameter": ADMIN_TOKEN,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with ten sums. The Studio has a folder of its own."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "PROMPTLAB_DB",
        "PROMPTLAB_ENDPOINT",
        "PROMPTLAB_API_KEY",
        "PROMPTLAB_STACK",
        "NO_COLOR",
        "FORCE_COLOR",
    ):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "sums.jsonl").write_text(
        "".join(json.dumps({"a": i, "b": 7, "answer": str(i + 7)}) + "\n" for i in range(10))
    )
    return tmp_path


def experiment(folder: Path, model: str = "{name: simulated/calculator, accuracy: 1}", **changes: str) -> str:
    fields = {
        "name": "sums",
        "dataset": "{name: sums, file_path: sums.jsonl}",
        "prompt_template": '{name: math, user_prompt: "What is <a> + <b>?"}',
        "model": model,
        "evaluation": "[{metric: exact_match, column_mapping: {reference: answer}}]",
        **changes,
    }
    (folder / "sums.yaml").write_text("".join(f"{name}: {value}\n" for name, value in fields.items()))
    return "sums.yaml"


@pytest.fixture
def invoke(folder: Path) -> Invoke:
    """Run a command; an exit code other than the expected one shows what was said."""

    def run(*args: str, code: int = 0, stdin: str | None = None) -> Result:
        result = CliRunner().invoke(commands, args, input=stdin, prog_name="promptlab")
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStudio]:
    """A Studio that wants a token."""
    with LiveStudio(tmp_path_factory.mktemp("studio"), auth=Auth(TOKEN, secure=False)) as live:
        yield live


@pytest.fixture
def hosted(studio: LiveStudio, folder: Path, monkeypatch: pytest.MonkeyPatch) -> LiveStudio:
    """The same, named by the environment."""
    monkeypatch.setenv("PROMPTLAB_ENDPOINT", studio.url)
    monkeypatch.setenv("PROMPTLAB_API_KEY", TOKEN)
    return studio


def test_every_command_works_against_a_hosted_studio_as_against_a_store(
    hosted: LiveStudio, invoke: Invoke, folder: Path
) -> None:
    """The same output, but for ids and times; and nothing is stored here."""
    file = experiment(folder)
    there, here = (
        json.loads(invoke("run", file, "--json", *store).stdout) for store in ((), ("--db", "here.db"))
    )
    varying = ("run_id", "wall_s")
    assert {k: v for k, v in there.items() if k not in varying} == {
        k: v for k, v in here.items() if k not in varying
    }
    assert there["succeeded"] == 10 and there["metrics"]["exact_match"]["mean"] == 1
    assert [run["run_id"] for run in json.loads(invoke("runs", "--json").stdout)] == [there["run_id"]]
    shown = json.loads(invoke("show", there["run_id"][:-1], "--json").stdout)
    assert shown["experiment"]["dataset"]["name"] == "sums" and shown["status"] == "completed"
    for args in (("prompts", "math"), ("datasets", "sums"), ("prompts",), ("datasets",)):
        (one,), (other,) = (
            json.loads(invoke(*args, "--json", *store).stdout) for store in ((), ("--db", "here.db"))
        )
        assert (one["hash"], one["content"]) == (other["hash"], other["content"])
    for format_ in ("csv", "jsonl"):
        invoke("export", "latest", "--format", format_, "-o", f"there.{format_}")
        invoke("export", "latest", "--format", format_, "-o", f"here.{format_}", "--db", "here.db")
    assert strip((folder / "there.jsonl").read_text()) == strip((folder / "here.jsonl").read_text())
    assert "is complete: there is nothing to do.\n" in invoke("resume", "latest").stderr
    assert not (folder / "promptlab.db").exists()


def strip(lines: str) -> list[dict[str, Any]]:
    return [{k: v for k, v in json.loads(line).items() if k != "latency_ms"} for line in lines.splitlines()]


def test_progress_of_a_hosted_run_is_streamed(hosted: LiveStudio, invoke: Invoke, folder: Path) -> None:
    """By polling, on standard error."""
    result = invoke("run", experiment(folder))
    assert result.stderr.startswith("sums: run ") and "10 of 10 done, 0 failed" in result.stderr
    assert "10 of 10 cases succeeded" in result.stdout


def test_a_missing_or_wrong_token_says_where_it_is(studio: LiveStudio, invoke: Invoke) -> None:
    """Exit code 2; options do as well as the environment."""
    assert "promptlab cloud token" in invoke("runs", "--endpoint", studio.url, code=2).stderr
    assert (
        "promptlab cloud token"
        in invoke("runs", "--endpoint", studio.url, "--api-key", "pl_another-lab-s", code=2).stderr
    )
    assert "No runs in" in invoke("runs", "--endpoint", studio.url, "--api-key", TOKEN).stderr


def test_a_store_is_a_file_or_a_studio(hosted: LiveStudio, invoke: Invoke) -> None:
    """An option goes before the environment; both options are refused."""
    assert "There is no store lab.db" in invoke("runs", "--db", "lab.db", code=2).stderr
    assert (
        "give the one or the other"
        in invoke("runs", "--db", "lab.db", "--endpoint", hosted.url, code=2).stderr
    )
    assert "is not a Studio's address" in invoke("runs", "--endpoint", "nowhere", code=2).stderr


def test_what_cannot_be_sent_is_refused_before_anything_is(
    hosted: LiveStudio, invoke: Invoke, folder: Path
) -> None:
    """Code of one's own, and keys."""
    (folder / "mine.py").write_text("class Mine:\n    def evaluate(self, data):\n        return 1\n")
    assert (
        "sandbox of a hosted lab only"
        in invoke(
            "run", experiment(folder, evaluation="[{metric: Mine, evaluator: 'mine.py:Mine'}]"), code=2
        ).stderr
    )
    assert (
        "promptlab cloud secrets set NAME"
        in invoke("run", experiment(folder, "{name: openai/gpt-6-luna, api_key: sk-1}"), code=2).stderr
    )
    assert (
        json.loads(invoke("runs", "--json").stdout) == json.loads(invoke("datasets", "--json").stdout) == []
    )


def test_ctrl_c_leaves_a_hosted_run_going_and_says_how_to_come_back(
    studio: LiveStudio, invoke: Invoke, folder: Path
) -> None:
    """Exit code 130. `resume` watches it to its end, and no case is asked twice."""
    with ModelServer(lambda request: Reply(text="7", hang=True)) as server:
        file = experiment(
            folder, f"{{name: openai/m, endpoint: '{server.openai_url}', max_concurrent_tasks: 5}}"
        )
        process = watching(folder, studio, "run", file, "--json")
        try:
            server.wait_for_requests(5)
            assert process.stderr is not None
            assert "sums: run " in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=200)
        finally:
            process.kill()
        value = json.loads(out)
        assert (process.returncode, value["status"]) == (130, "running"), err
        run_id = value["run_id"]
        assert err.splitlines()[-4:] == [
            "The run goes on: 0 of 10 cases are done and kept.",
            f"Look at it with: {ME} show {run_id} --endpoint {studio.url}",
            f"Watch it again with: {ME} resume {run_id} --endpoint {studio.url}",
            f"Stop it with: {ME} cancel {run_id} --endpoint {studio.url}",
        ]
        server.release()
        found = json.loads(
            invoke("resume", run_id, "--json", "--endpoint", studio.url, "--api-key", TOKEN).stdout
        )
        assert (found["run_id"], found["status"], found["succeeded"]) == (run_id, "completed", 10)
        assert len([request for request in server.requests if request.kind == "openai"]) == 10


def watching(folder: Path, studio: LiveStudio, *args: str) -> subprocess.Popen[str]:
    env = {k: v for k, v in os.environ.items() if k != "PROMPTLAB_DB"} | {
        "PROMPTLAB_ENDPOINT": studio.url,
        "PROMPTLAB_API_KEY": TOKEN,
    }
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "promptlab", *args],
            cwd=folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def test_cancel_stops_a_hosted_run_and_resume_goes_on_with_it(
    studio: LiveStudio, invoke: Invoke, folder: Path
) -> None:
    """Answers are kept; a run that has ended stays as it is."""
    there = ("--endpoint", studio.url, "--api-key", TOKEN)
    with ModelServer(lambda request: Reply(text="7", hang=True)) as server:
        file = experiment(
            folder, f"{{name: openai/m, endpoint: '{server.openai_url}', max_concurrent_tasks: 5}}"
        )
        process = watching(folder, studio, "run", file)
        try:
            server.wait_for_requests(5)
            said = invoke("cancel", "latest", "--json", *there)
            assert json.loads(said.stdout)["status"] == "cancelled"
            assert "Cancelled: 0 of 10 cases are done and kept.\n" in said.stderr
            assert f"Go on with: {program()} resume " in said.stderr
            server.release()
            _, err = process.communicate(timeout=200)
        finally:
            process.kill()
        assert process.returncode == 1 and "Cancelled: " in err and f" --endpoint {studio.url}" in err
        assert json.loads(invoke("resume", "latest", "--json", *there).stdout)["succeeded"] == 10
    assert "has ended already: completed" in invoke("cancel", "latest", *there).stderr


def test_cancel_of_a_finished_local_run_changes_nothing(invoke: Invoke, folder: Path) -> None:
    """It says so, and is no error."""
    invoke("run", experiment(folder), "-q")
    assert "has ended already: completed" in invoke("cancel", "latest").stderr
    assert json.loads(invoke("show", "latest", "--json").stdout)["status"] == "completed"


class _CloudFormation(BaseHTTPRequestHandler):
    """Answers DescribeStacks: moto's own wants packages that nothing else here needs."""

    def do_POST(self) -> None:
        asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        assert asked["Action"] == ["DescribeStacks"]
        known = asked["StackName"] == [STACK]
        members = "".join(
            f"<member><OutputKey>{name}</OutputKey><OutputValue>{value}</OutputValue></member>"
            for name, value in OUTPUTS.items()
        )
        stack = (
            f"<StackName>{STACK}</StackName><CreationTime>2026-11-23T00:00:00Z</CreationTime>"
            f"<StackStatus>CREATE_COMPLETE</StackStatus><Outputs>{members}</Outputs>"
        )
        found = f"<Stacks><member>{stack}</member></Stacks>"
        for element in ("DescribeStacksResult", "DescribeStacksResponse"):
            found = f"<{element}>{found}</{element}>"
        missing = (
            "<ErrorResponse><Error><Type>Sender</Type><Code>ValidationError</Code><Message>Stack "
            f"with id {asked['StackName'][0]} does not exist</Message></Error></ErrorResponse>"
        )
        body = (found if known else missing).encode()
        self.send_response_only(200 if known else 400)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Tests say what went wrong."""


@pytest.fixture
def stack(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A deployed stack, on a local AWS."""
    aws.credentials(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.moto_url())
    client = boto3.client("secretsmanager", region_name=aws.REGION, endpoint_url=aws.moto_url())
    parameters = boto3.client("ssm", region_name=aws.REGION, endpoint_url=aws.moto_url())
    (folder / "samconfig.toml").write_text(
        "version = 0.1\n[default.global.parameters]\nstack_name = "
        f'"other"\n[default.deploy.parameters]\nstack_name = "{STACK}"\nregion = "{aws.REGION}"\n'
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), _CloudFormation)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDFORMATION", f"http://127.0.0.1:{server.server_port}")
    yield STACK
    server.shutdown()
    server.server_close()
    thread.join()
    for secret in client.list_secrets()["SecretList"]:
        if secret["Name"].startswith(f"{STACK}/"):
            client.delete_secret(SecretId=secret["Name"], ForceDeleteWithoutRecovery=True)
    parameters.delete_parameters(Names=[ADMIN_TOKEN])


def test_token_and_url_are_those_of_the_deployed_stack(
    stack: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """The stack is the one that samconfig.toml, the environment or an option names; the value is
    alone on standard output, and the same each time."""
    token = invoke("cloud", "token").output
    assert invoke("cloud", "token").output == token and len(token.strip()) >= 43
    assert invoke("cloud", "url").output == "https://abc.execute-api.us-east-1.amazonaws.com\n"
    (folder / "samconfig.toml").unlink()
    monkeypatch.setenv("AWS_REGION", aws.REGION)
    monkeypatch.setenv("PROMPTLAB_STACK", stack)
    assert invoke("cloud", "token").output == token
    monkeypatch.delenv("PROMPTLAB_STACK")
    assert invoke("cloud", "url", "--stack-name", stack, "--region", aws.REGION).output.startswith("https://")


def test_the_first_token_is_made_encrypted_and_a_new_one_takes_its_place(stack: str, invoke: Invoke) -> None:
    """Where the Studio reads it."""
    token = invoke("cloud", "token").output.strip()
    parameters = boto3.client("ssm", region_name=aws.REGION, endpoint_url=aws.moto_url())
    kept = parameters.get_parameter(Name=ADMIN_TOKEN, WithDecryption=True)["Parameter"]
    assert (kept["Type"], kept["Value"]) == ("SecureString", token)
    new = invoke("cloud", "token", "--new").output.strip()
    assert new != token and len(new) >= 43
    assert invoke("cloud", "token").output.strip() == new


def test_the_token_of_an_older_stack_outlives_its_update(
    stack: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, it is in a secret that the update deletes: printing it keeps it where the update looks."""
    secrets = boto3.client("secretsmanager", region_name=aws.REGION, endpoint_url=aws.moto_url())
    secrets.create_secret(Name=f"{STACK}/admin-token", SecretString="the-admin-token-of-the-stack")
    monkeypatch.setitem(OUTPUTS, "AdminTokenSecretArn", "arn:aws:secretsmanager:x")
    assert invoke("cloud", "token").output == "the-admin-token-of-the-stack\n"
    secrets.delete_secret(SecretId=f"{STACK}/admin-token", ForceDeleteWithoutRecovery=True)
    assert invoke("cloud", "token").output == "the-admin-token-of-the-stack\n"


def test_keys_are_set_from_standard_input_listed_by_name_and_removed(stack: str, invoke: Invoke) -> None:
    """Under the stack's prefix; a value is never shown."""
    assert "No keys in" in invoke("cloud", "secrets", "list").stderr
    for value in ("sk-first\n", "sk-second"):
        said = invoke("cloud", "secrets", "set", "openai", stdin=value)
        assert "sk-" not in said.output and "api_key_secret: openai" in said.stderr
    assert json.loads(value_of(f"{stack}/keys/openai"))["key"] == "sk-second"
    invoke("cloud", "secrets", "set", "mistral", stdin="m-1")
    listed = invoke("cloud", "secrets", "list").stdout
    assert listed.splitlines()[0] == "mistral  https://api.mistral.ai" and "https://api.openai.com" in listed
    found = json.loads(invoke("cloud", "secrets", "list", "--json").stdout)
    assert [one["name"] for one in found] == ["mistral", "openai"]
    assert invoke("cloud", "secrets", "delete", "mistral", stdin="n\n", code=1).stderr.startswith(
        "Remove the key mistral"
    )
    invoke("cloud", "secrets", "delete", "mistral", stdin="y\n")
    invoke("cloud", "secrets", "delete", "openai", "--yes")
    assert (
        "There is no key 'openai'" in invoke("cloud", "secrets", "delete", "openai", "--yes", code=2).stderr
    )
    assert json.loads(invoke("cloud", "secrets", "list", "--json").stdout) == []


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("gateway.example.com", "https://gateway.example.com:443"),
        ("https://Gateway.example.com:8443/", "https://gateway.example.com:8443"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://gateway.example.com", None),
        ("*.example.com", None),
        ("gateway.example.com/v1", None),
        ("user:pw@gateway.example.com", None),
        ("gateway.example.com:0", None),
        ("gateway.example.com#", None),
        ("a b", None),
    ],
)
def test_a_key_is_bound_to_hosts(stack: str, invoke: Invoke, host: str, origin: str | None) -> None:
    """By scheme, name and port; what is no host is refused before the key is asked for."""
    said = invoke("cloud", "secrets", "set", "mine", "--host", host, stdin="k-1", code=0 if origin else 2)
    if origin is None:
        assert "--host" in said.stderr
        return
    assert json.loads(value_of(f"{stack}/keys/mine")) == {"key": "k-1", "hosts": [origin]}


def value_of(name: str) -> str:
    client = boto3.client("secretsmanager", region_name=aws.REGION, endpoint_url=aws.moto_url())
    found: str = client.get_secret_value(SecretId=name)["SecretString"]
    return found


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("", "k", "not a secret's name"),
        ("a b", "k", "not a secret's name"),
        ("openai", " \n", "is empty"),
        ("openai", "k\nl", "line breaks"),
        ("a", "k", "Where may the key a be sent?"),
    ],
)
def test_a_key_that_cannot_be_one_is_refused(
    stack: str, invoke: Invoke, name: str, value: str, said: str
) -> None:
    """Nothing is set."""
    assert said in invoke("cloud", "secrets", "set", name, stdin=value, code=2).stderr
    assert json.loads(invoke("cloud", "secrets", "list", "--json").stdout) == []


def test_a_key_is_no_argument(stack: str, invoke: Invoke) -> None:
    """Others on the machine see arguments, and shells keep them."""
    assert "unexpected extra argument" in invoke("cloud", "secrets", "set", "openai", "sk-1", code=2).stderr


def test_what_is_missing_is_said_with_what_to_do(
    stack: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """A stack, a region, credentials, a profile, a readable samconfig.toml."""
    for command in (("token",), ("url",), ("secrets", "list")):
        error = invoke("cloud", *command, "--stack-name", "nope", code=2).stderr
        assert "nope" in error and "sam deploy" in error and "--stack-name" in error
    (folder / "samconfig.toml").write_text("[")
    assert "samconfig.toml" in invoke("cloud", "token", code=2).stderr
    (folder / "samconfig.toml").unlink()
    assert "There is no AWS region" in invoke("cloud", "token", code=2).stderr
    assert (
        "aws configure list-profiles"
        in invoke("cloud", "token", "--region", "us-east-1", "--profile", "nope", code=2).stderr
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    error = invoke("cloud", "url", "--region", "us-east-1", code=2).stderr
    assert "Unable to locate credentials" in error and "aws sso login" in error and "Traceback" not in error


def test_an_estimate_has_every_service_and_grows_with_the_rows(invoke: Invoke, folder: Path) -> None:
    """Nothing is stored, and no endpoint is asked."""
    file = experiment(folder, "{name: openai/gpt-6-luna, max_concurrent_tasks: 5000}")
    before = sorted(folder.iterdir())
    few, many = (
        json.loads(invoke("cloud", "estimate", file, "--rows", rows, "--json").stdout)
        for rows in ("1000", "100000")
    )
    assert (
        list(many["services_usd"]) == list(SERVICES)
        and many["cases"] == 100_000
        and many["sampled_rows"] == 10
    )
    for name in ("model_usd", "cloud_usd", "wall_s"):
        assert few[name]["expected"] < many[name]["expected"]
        assert many[name]["low"] <= many[name]["expected"] <= many[name]["high"]
    assert many["cloud_usd"]["expected"] <= 0.25 and many["throttles"] == []
    # "What is 4 + 7?" and nothing else: about four tokens, and seven around them.
    assert many["prompt_tokens"]["expected"] == pytest.approx(10.5, abs=0.5)
    assert many["model_usd"]["expected"] == pytest.approx(100_000 * (10.5 * 0.1 + 250 * 0.5) / 1e6, rel=0.01)
    assert many["batch_usd"]["expected"] == pytest.approx(many["model_usd"]["expected"] / 2)
    shown = " ".join(
        invoke(
            "cloud", "estimate", file, "--rows", "100000", "--new-account", "--answer-tokens", "10"
        ).stdout.split()
    )
    assert (
        "Lambda: functions at once" in shown
        and "MaxConcurrency 9 stays inside the quotas." in shown
        and "are charged by use only" in shown
    )
    assert sorted(folder.iterdir()) == before


def test_an_estimate_looks_up_references_here_and_at_a_studio(
    hosted: LiveStudio, invoke: Invoke, folder: Path
) -> None:
    """The same as from the file."""
    found = [json.loads(invoke("cloud", "estimate", experiment(folder), "--json").stdout)]
    for store in ((), ("--db", "here.db")):
        invoke("run", experiment(folder), "-q", *store)
        file = experiment(folder, dataset="sums@0", prompt_template="math")
        found.append(json.loads(invoke("cloud", "estimate", file, "--json", *store).stdout))
    assert found[0] == found[1] == found[2]


def test_an_estimate_of_an_unknown_price_says_unknown(invoke: Invoke, folder: Path) -> None:
    """The rest is reckoned all the same; a wrong experiment is refused."""
    file = experiment(folder, "{name: openai/of-my-own, endpoint: 'http://127.0.0.1:1/v1'}")
    assert json.loads(invoke("cloud", "estimate", file, "--json").stdout)["model_usd"] is None
    assert "unknown" in invoke("cloud", "estimate", file).stdout
    assert (
        "no column fills"
        in invoke(
            "cloud", "estimate", experiment(folder, prompt_template="{name: p, user_prompt: <nope>}"), code=2
        ).stderr
    )


def test_tokens_are_made_listed_and_revoked(hosted: LiveStudio, invoke: Invoke) -> None:
    """The token alone is on standard output; what it may do, and its end, beside it."""
    made = invoke("cloud", "tokens", "create", "nightly", "--role", "engineer", "--days", "30")
    token = made.stdout.strip()
    assert token.startswith("pl_") and "shown this once" in made.stderr
    listed = invoke("cloud", "tokens", "list").stdout
    assert "nightly  engineer of default" in listed and "last used never" in listed and token not in listed
    (found,) = json.loads(invoke("cloud", "tokens", "list", "--json").stdout)
    assert json.loads(invoke("runs", "--api-key", token, "--json").stdout) == []
    refused = invoke("cloud", "tokens", "create", "x", "--role", "admin", "--api-key", token, code=2)
    assert "cannot make a token of the role admin" in refused.output
    forever = json.loads(invoke("cloud", "tokens", "create", "y", "--forever", "--json").stdout)
    assert forever["expires_at"] is None and forever["role"] == "viewer"
    assert "is revoked" in invoke("cloud", "tokens", "revoke", found["id"]).stderr
    assert "no token of this id" in invoke("cloud", "tokens", "revoke", found["id"], code=2).output
    assert "did not accept the token" in invoke("runs", "--api-key", token, code=2).output
