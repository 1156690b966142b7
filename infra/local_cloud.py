"""The local AWS: MiniStack on loopback, with the real template on it, built and deployed by the real SAM CLI.

    python infra/local_cloud.py up       start it, or what is there already again; deploy; print its address
    python infra/local_cloud.py down     stop it; its state stays in .cloud/state
    python infra/local_cloud.py test …   `pytest … -m cloud` on a fresh one in a temporary folder; stop it
    python infra/local_cloud.py tools    only make the environments of the tools, and of those of lint-cloud

Only the standard library here: MiniStack and SAM have environments of their own under .cloud/.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud_tools import HOME, ROOT, CloudError, find_python, make_tools, make_venv, run, say

PORT = 4566
REGION = "us-east-1"
START_S = 60
FIRST_ADMIN = "first@example.com"
"""Who the template invites on a local AWS for tests."""
STOP_S = 120
"""Seconds to save its state on SIGTERM."""


@dataclass(frozen=True)
class Cloud:
    """A local AWS: where it listens, where it keeps what it has, and what is deployed on it."""

    folder: Path
    port: int
    stack: str = "promptlab"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid_file(self) -> Path:
        return self.folder / "ministack.pid"

    @property
    def log(self) -> Path:
        return self.folder / "ministack.log"


# --------------------------------------------------------------------------- the server


def start(cloud: Cloud, venv: Path) -> None:
    """Start MiniStack in a process group of its own, on loopback only, and wait until it answers.

    Raises:
        CloudError: the port is taken, or it did not come up.
    """
    if running(cloud):
        return
    _end_workers(cloud)
    # Workers unpack their code there and do not always tidy up: 150 MB each.
    shutil.rmtree(cloud.folder / "tmp", ignore_errors=True)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", cloud.port))
        except OSError as error:
            raise CloudError(
                f"Port {cloud.port} of 127.0.0.1 is taken by something else: end that, or set CLOUD_PORT."
            ) from error
    for name in ("state", "s3", "tmp"):
        (cloud.folder / name).mkdir(parents=True, exist_ok=True)
    with cloud.log.open("ab") as log:
        process = subprocess.Popen(
            [str(venv / "bin" / "python"), str(ROOT / "infra" / "kept_aws.py")],
            cwd=cloud.folder,
            env=_server_env(cloud),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    cloud.pid_file.write_text(f"{process.pid} {cloud.port}\n")
    deadline = time.monotonic() + START_S
    while not healthy(cloud):
        if process.poll() is not None or time.monotonic() > deadline:
            stop(cloud)
            raise CloudError(f"MiniStack did not come up within {START_S} s: see {cloud.log}")
        time.sleep(0.2)


def _end_workers(cloud: Cloud) -> None:
    """End the workers that outlived a MiniStack that was killed: they would call models, and could not record
    the answers."""
    mine = f"TMPDIR={cloud.folder / 'tmp'}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes().split(b"\0")
            if mine in environment and any(
                one.startswith(b"AWS_LAMBDA_FUNCTION_NAME=") for one in environment
            ):
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:
            continue  # not ours, or gone


def _server_env(cloud: Cloud) -> dict[str, str]:
    """Its settings. Nothing of the caller's AWS settings goes in: a function must
    never reach a real account."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith("AWS_") and k not in ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")
    }
    return kept | {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(cloud.port),
        # Every role is enforced, as on AWS: what a function may not do there fails here.
        "AUTH": "true",
        "PERSIST_STATE": "1",
        "STATE_DIR": str(cloud.folder / "state"),
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(cloud.folder / "s3"),
        "TMPDIR": str(cloud.folder / "tmp"),
        "MINISTACK_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "LAMBDA_EXECUTOR": "local",
        # These two listen on every address, whatever BIND_HOST says.
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
    }


def healthy(cloud: Cloud) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", cloud.port, timeout=5)
    try:
        connection.request("GET", "/_ministack/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def running(cloud: Cloud) -> int | None:
    """The process that serves this folder, if there is one."""
    try:
        pid = int(cloud.pid_file.read_text().split()[0])
        os.kill(pid, 0)
        command = Path(f"/proc/{pid}/cmdline")
        # After a restart of the machine the number may be somebody else's (where there is no /proc, trust
        # it).
        return pid if not command.exists() or b"ministack" in command.read_bytes() else None
    except (OSError, ValueError, IndexError):
        return None


def stop(cloud: Cloud) -> bool:
    """Stop MiniStack with SIGTERM, on which it saves its state, and wait for its end; whether there was one.

    Raises:
        CloudError: it is still there after `STOP_S`.
    """
    pid = running(cloud)
    if pid is None:
        cloud.pid_file.unlink(missing_ok=True)
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    while _alive(pid):
        if time.monotonic() > deadline:
            raise CloudError(
                f"MiniStack (process {pid}) did not end within {STOP_S} s of SIGTERM: see {cloud.log}"
            )
        time.sleep(0.1)
    cloud.pid_file.unlink(missing_ok=True)
    shutil.rmtree(cloud.folder / "tmp", ignore_errors=True)
    return True


def _alive(pid: int) -> bool:
    try:
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return False
    except ChildProcessError:
        pass  # started by an earlier command
    try:
        os.kill(pid, 0)
        # One that has ended is there until its parent asks, which may be busy: with tests, say.
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:1]
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not Path("/proc/self").exists()  # no /proc here, or it has gone this moment


# --------------------------------------------------------------------------- the deployment


def sam_env(cloud: Cloud, ministack: Path, sam: Path) -> dict[str, str]:
    """SAM's settings: the local endpoint and no real credentials; MiniStack's Python first, whose pip builds
    the bundle."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    return kept | {
        "PATH": os.pathsep.join([str(ministack / "bin"), str(sam / "bin"), os.environ.get("PATH", "")]),
        "AWS_ENDPOINT_URL": cloud.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "SAM_CLI_TELEMETRY": "0",
    }


def deploy(cloud: Cloud, parameters: dict[str, str], *, built: Path | None = None) -> dict[str, str]:
    """Build the template, unless it is `built` in a folder, and deploy it; its outputs, and the token as
    `AdminToken`."""
    ministack, sam, python = make_tools()
    env, build = sam_env(cloud, ministack, sam), built or cloud.folder / "build"
    machine = "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"
    values = {
        "Stage": "local",
        "PythonRuntime": f"python{python}",
        "Architecture": machine,
        "LocalCloud": "true",
        # The models of its tests and samples are on this machine.
        "AllowedAddresses": "127.0.0.0/8",
    } | parameters
    overrides = ["--parameter-overrides", *(f"{key}={value}" for key, value in values.items())]
    started = time.monotonic()
    if built is None:
        say(f"Building for Python {python}, {machine} …")
        run(
            [str(sam / "bin" / "sam"), "build", "--build-dir", str(build), *overrides],
            env=env,
            log=cloud.folder / "build.log",
        )
        run([str(ministack / "bin" / "python"), str(ROOT / "infra" / "finish_bundle.py"), str(build)])
        say(f"Built in {time.monotonic() - started:.0f} s.")
    started = time.monotonic()
    say(f"Deploying to {cloud.url} …")
    command = [
        str(sam / "bin" / "sam"),
        "deploy",
        "--template-file",
        str(build / "template.yaml"),
        "--stack-name",
        cloud.stack,
        "--region",
        REGION,
    ]
    # A built template lies elsewhere than samconfig.toml, which SAM looks for beside it.
    run(
        [*command, "--config-file", str(ROOT / "samconfig.toml"), "--no-confirm-changeset", *overrides],
        env=env,
        log=cloud.folder / "deploy.log",
    )
    say(f"Deployed in {time.monotonic() - started:.0f} s.")
    workers = os.environ.get("CLOUD_WORKERS") or str(max(2, os.cpu_count() or 2))
    facts: dict[str, str] = json.loads(
        run(
            [str(sam / "bin" / "python"), str(ROOT / "infra" / "local_stack.py"), cloud.stack, workers],
            env=env,
        )
    )
    facts["StudioUrl"] = studio_url(facts["StudioUrl"], cloud)
    return facts


def studio_url(endpoint: str, cloud: Cloud) -> str:
    """The HTTP API's address on the local AWS, from the one that it would have on AWS. Names under localhost
    resolve to loopback by themselves."""
    found = re.search(r"//([a-z0-9]+)\.execute-api\.", endpoint)
    if not found:
        raise CloudError(f"The stack's StudioUrl {endpoint!r} is not an HTTP API's address.")
    return f"http://{found[1]}.execute-api.localhost:{cloud.port}"


def write_env(path: Path, cloud: Cloud, facts: dict[str, str]) -> None:
    """A file to `source`, for this user's eyes only: it holds the token."""
    lines = {"PROMPTLAB_ENDPOINT": facts["StudioUrl"], "PROMPTLAB_API_KEY": facts["AdminToken"]}
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(f"export {name}={shlex.quote(value)}\n" for name, value in lines.items())


def test_env(cloud: Cloud, facts: dict[str, str]) -> dict[str, str]:
    """Return the environment of the tests in tests/cloud."""
    return {k: v for k, v in os.environ.items() if not k.startswith("AWS_")} | {
        "PROMPTLAB_ENDPOINT": facts["StudioUrl"],
        "PROMPTLAB_API_KEY": facts["AdminToken"],
        "PROMPTLAB_CLOUD_OUTPUTS": json.dumps(facts),
        "PROMPTLAB_CLOUD_BUILD": str(cloud.folder / "build"),
        "PROMPTLAB_CLOUD_FOLDER": str(cloud.folder),
        "AWS_ENDPOINT_URL": cloud.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


# --------------------------------------------------------------------------- commands


@contextmanager
def fresh() -> Iterator[Cloud]:
    """A local AWS in a temporary folder on a free port, gone afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="promptlab-cloud-"))
    cloud = Cloud(folder=folder, port=port)
    try:
        yield cloud
    finally:
        try:
            stop(cloud)
        except CloudError as error:  # it still saves its state, which nobody needs
            say(str(error))
            if (pid := running(cloud)) is not None:
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def home() -> Cloud:
    """The local AWS of `make cloud`: on the port where it runs already, else on CLOUD_PORT."""
    HOME.mkdir(mode=0o700, exist_ok=True)
    HOME.chmod(0o700)  # the token, the state and the logs of a lab are in it
    cloud = Cloud(folder=HOME, port=int(os.environ.get("CLOUD_PORT", PORT)))
    return Cloud(folder=HOME, port=int(cloud.pid_file.read_text().split()[1])) if running(cloud) else cloud


def up(parameters: dict[str, str]) -> int:
    cloud = home()
    ministack, _, _ = make_tools()
    start(cloud, ministack)
    facts = deploy(cloud, parameters)
    write_env(HOME / "env", cloud, facts)
    say(
        f"\nStudio  {facts['StudioUrl']}\nToken   {facts['AdminToken']}\n\nSDK and CLI:  source "
        ".cloud/env\nStop it:      make cloud-down   (its runs stay in .cloud/)"
    )
    return 0


def down() -> int:
    say("Stopped; its runs stay in .cloud/." if stop(home()) else "Nothing to stop.")
    return 0


BEDROCK = f"arn:aws:bedrock:{REGION}::foundation-model/amazon.nova-lite-v1:0"
"""The model that the tests' stack may call: the local AWS has no Bedrock, and a test plays it."""


def test(arguments: list[str], parameters: dict[str, str]) -> int:
    with fresh() as cloud:
        ministack, _, _ = make_tools()
        start(cloud, ministack)
        facts = deploy(cloud, {"AdminEmail": FIRST_ADMIN, "BedrockModels": BEDROCK} | parameters)
        command = [sys.executable, "-m", "pytest", "tests/cloud", "-m", "cloud", *arguments]
        code = subprocess.run(command, check=False, cwd=ROOT, env=test_env(cloud, facts)).returncode
        if code:
            shutil.copy(cloud.log, HOME / "test-cloud.log")
            say(f"MiniStack's log: {HOME / 'test-cloud.log'}")
        return code


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The local AWS of `make cloud`.")
    parser.add_argument("command", choices=["up", "down", "test", "tools"])
    parser.add_argument(
        "--parameter", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the template"
    )
    options, rest = parser.parse_known_args(argv)
    parameters: dict[str, Any] = dict(item.split("=", 1) for item in options.parameter)
    try:
        if options.command == "up":
            return up(parameters)
        if options.command == "down":
            return down()
        if options.command == "tools":
            make_tools()
            make_venv("checkov", "requirements-checkov.txt", find_python()[0])
            return 0
        return test(rest, parameters)
    except CloudError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command
        return 1


if __name__ == "__main__":
    # SIGTERM ends a test run as Ctrl-C does: its MiniStack must not stay behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
