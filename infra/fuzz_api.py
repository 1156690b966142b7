"""Sends schemathesis against the API of a Studio on this machine, made for it and removed afterwards: `make
fuzz-api`.

Every operation of the document is asked with what it allows and with what it does not. Exit code 0: every
answer is one that the document knows, nothing is a fault.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
START_S = 60
# What the API does on purpose, and schemathesis takes for a mistake: a body of the document's form that is
# refused for what it means (a run over a dataset that is not there); and 429 in place of 401 after five wrong
# tokens, of which schemathesis sends hundreds (tests/studio/test_roles.py asks every route without one).
NOT_HELD = ("positive_data_acceptance", "ignored_auth")
# Addresses and bodies that are too long are refused for that, before anything in them is looked at.
SETTINGS = """
[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "409", "412", "413", "414", "422", "429", "503"]
"""


async def filled(db: Path) -> None:
    """Make a store with something of each kind, so that names lead somewhere."""
    from promptlab.domain.assets import Dataset, PromptTemplate
    from promptlab.store_lab import StoreLab

    lab = StoreLab.open({"type": "sqlite", "db_file": str(db)})
    await lab.assets.create(PromptTemplate(name="qa", user_prompt="Answer: <question>"))
    rows = [{"question": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(20)]
    await lab.assets.create(Dataset(name="questions", rows=rows))
    metric = {"metric": "exact_match", "column_mapping": {"reference": "answer"}}
    await lab.run(
        {
            "name": "sums",
            "prompt_template": "qa",
            "dataset": "questions",
            "model": "simulated/demo",
            "evaluation": [metric],
        }
    )
    await lab.close()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def wait_for(url: str, token: str, server: subprocess.Popen[bytes]) -> None:
    """Wait until the Studio answers, and has made its document: schemathesis waits ten seconds for that."""
    until = time.monotonic() + START_S
    document = urllib.request.Request(
        f"{url}/api/v1/openapi.json", headers={"Authorization": f"Bearer {token}"}
    )
    while time.monotonic() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(document, timeout=START_S):
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"The Studio did not start within {START_S} s.")


def asked(argv: list[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """Read what the command line says, and what it says to schemathesis."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--examples", type=int, default=50, help="requests of each operation and phase")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tool", default=str(ROOT / ".venv/fuzz-api/bin/schemathesis"))
    parser.add_argument("--url", default="", help="that of a stack made for this, in place of one here")
    parser.add_argument("--token", default="", help="its token, of an admin")
    return parser.parse_known_args(argv)


def fuzz(given: argparse.Namespace, more: list[str], url: str, token: str, folder: Path) -> int:
    """Run schemathesis in a folder, and return its exit code."""
    (folder / "schemathesis.toml").write_text(SETTINGS)
    parts = urllib.parse.urlsplit(url)
    if (parts.hostname or "").endswith(".localhost"):  # the local AWS's, which not every resolver knows
        more = [*more, "--header", f"Host: {parts.netloc}"]
        url = f"{parts.scheme}://127.0.0.1:{parts.port or 80}"
    ended = subprocess.run(
        [
            *(given.tool, "run", f"{url}/api/v1/openapi.json", "--url", url),
            *("--header", f"Authorization: Bearer {token}", "--seed", str(given.seed)),
            *("--max-examples", str(given.examples), "--exclude-checks", ",".join(NOT_HELD)),
            *("--request-timeout", "60", "--continue-on-failure", *more),
        ],
        cwd=folder,
        check=False,
    )
    return ended.returncode


def main() -> None:
    """Start a Studio, run schemathesis against it, and end both; or run it against one that is there."""
    given, more = asked()
    with tempfile.TemporaryDirectory(prefix="fuzz-api-") as temporary:
        folder = Path(temporary)
        if given.url:
            raise SystemExit(fuzz(given, more, given.url.rstrip("/"), given.token, folder))
        code, said = here(given, more, folder)
    if "incident" in said:
        sys.stderr.write(said[-20_000:])
        raise SystemExit("The Studio's log has incidents.")
    raise SystemExit(code)


def here(given: argparse.Namespace, more: list[str], folder: Path) -> tuple[int, str]:
    """Ask a Studio of this machine; return the exit code and what the Studio logged."""
    token, port = secrets.token_hex(24), free_port()
    url, db = f"http://127.0.0.1:{port}", folder / "fuzz.db"
    asyncio.run(filled(db))
    command = [sys.executable, "-m", "promptlab", "studio", "--db", str(db), "--port", str(port)]
    with (folder / "studio.log").open("wb") as log:
        server = subprocess.Popen(
            command,
            env={**os.environ, "PROMPTLAB_STUDIO_TOKEN": token},
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
    try:
        wait_for(url, token, server)
        code = fuzz(given, more, url, token, folder)
    finally:
        server.terminate()
        server.wait(30)
    return code, (folder / "studio.log").read_text(errors="replace")


if __name__ == "__main__":
    main()
