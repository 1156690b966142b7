"""The local AWS itself ends during a run: stopped as by `make cloud-down`, and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.cloud.conftest import Stack
from tests.cloud.older import ROOT
from tests.cloud.runs import cases, each_once, ended, experiment, right, started, until
from tests.servers import ModelServer, Reply, Request

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(1200)]
ROWS, AT_ONCE = 120, 5
_COMMAND = """
import sys
from pathlib import Path
sys.path.insert(0, "infra")
import local_cloud
cloud = local_cloud.Cloud(folder=Path(sys.argv[2]), port=int(sys.argv[3]))
if sys.argv[1] == "up":
    local_cloud.start(cloud, local_cloud.HOME / "ministack")
elif sys.argv[1] == "down":
    assert local_cloud.stop(cloud)
else:
    print(local_cloud.running(cloud))
"""


def local_aws(command: str) -> str:
    """Start the local AWS of these tests, stop it, or say its process."""
    place = [os.environ["PROMPTLAB_CLOUD_FOLDER"], os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2]]
    done = subprocess.run(
        [sys.executable, "-c", _COMMAND, command, *place],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def slowly(request: Request) -> Reply:
    """The right answer, after a second."""
    return Reply(text=right(request), delay_s=1)


def test_a_local_aws_that_is_stopped_and_killed_loses_nothing(stack: Stack) -> None:
    """A run is stopped in the middle with its AWS, goes on with a resume, is killed with it, and goes on
    again: every case once, and only those paid for again that were in flight."""
    with ModelServer(right) as server:
        before = started(stack, experiment(server, 12))
        ended(stack, before)
    with ModelServer(slowly) as server:
        body = experiment(server, ROWS, model={"max_concurrent_tasks": AT_ONCE})
        run_id = started(stack, body)
        server.wait_for_requests(20, 240)
        local_aws("down")
        until(lambda: server.in_flight == 0, "no worker goes on")
        asked = len(server.requests)
        local_aws("up")
        assert stack.api.get(f"/runs/{before}").json()["status"] == "completed"
        assert len(cases(stack, before)) == 12
        kept = sum(case["response"] is not None for case in cases(stack, run_id))
        assert asked - kept <= 2 * AT_ONCE
        # Whoever does not want to wait until the lack of a sign of life shows:
        assert stack.api.post(f"/runs/{run_id}/cancel").json()["status"] == "cancelled"
        assert stack.api.post(f"/runs/{run_id}/resume").status_code == 202
        server.wait_for_requests(asked + 20, 240)
        os.kill(int(local_aws("pid")), signal.SIGKILL)
        local_aws("up")
        asked = len(server.requests)
        until(
            lambda: stack.api.get(f"/runs/{run_id}").json()["status"] == "interrupted",
            "nobody works on the run, and it says so",
        )
        kept = sum(case["response"] is not None for case in cases(stack, run_id))
        assert asked - kept <= 4 * AT_ONCE
        assert stack.api.post(f"/runs/{run_id}/resume").status_code == 202
        ended(stack, run_id)
        assert ROWS <= len(server.requests) <= ROWS + 4 * AT_ONCE
    each_once(stack, run_id, ROWS)
    each_once(stack, before, 12)
