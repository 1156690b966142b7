"""A deployed stack, tried out: what was deployed is looked at, ten rows are run, and what differs is told.

A local AWS tolerates what AWS refuses. This asks the real one, once, and leaves nothing but two assets.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from promptlab.adapters.http.client import ApiClient
from promptlab.clock import SystemClock
from promptlab.cloud.inspection import DiffersError, Inspection, UnseenError
from promptlab.cloud.stack import Stack
from promptlab.domain.results import FINAL
from promptlab.errors import AuthenticationError, PromptLabError
from promptlab.ports import Clock
from promptlab.store_lab import probe

NAME = "promptlab-smoke"
"""The name of the run, its prompt and its dataset."""
ROWS = 10
PATIENCE_S, LOOK_S = 600.0, 2.0
"""How long the run may take (a first one starts cold), and how often it is looked at."""
LOGS_S = 20.0
"""How long logs take to be found at most."""
_UNSEEN = ("AccessDenied", "AccessDeniedException", "UnknownOperationException", "InvalidAction")
"""AWS's, or a local one's, answer to whoever may not look, or to what it does not have."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    good: bool | None
    """None: it could not be looked at."""
    said: str


class Smoke:
    """The checks of one stack.

    Args:
        stack: the stack.
        tell: called with each finding as it comes.
        endpoint: the Studio's address; default: that of the stack.
        keep: leave the run where it is.
        clock: the time.
    """

    def __init__(
        self,
        stack: Stack,
        tell: Callable[[Finding], None] = lambda finding: None,
        *,
        endpoint: str | None = None,
        keep: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self._stack, self._tell, self._endpoint, self._keep = stack, tell, endpoint, keep
        self._clock = clock or SystemClock()
        self._run_id: str | None = None

    async def look(self) -> list[Finding]:
        """Make every check, the later ones also where an earlier one failed.

        Raises:
            ConfigError: AWS cannot be asked, there is no such stack, or it is of another version.
        """
        self._see = see = await Inspection.open(self._stack)
        checks: list[tuple[str, Callable[[], Awaitable[str]]]] = [
            ("the stack", see.deployed),
            ("functions", see.functions),
            ("concurrency", see.concurrency),
            ("table", see.table),
            ("bucket", see.bucket),
            ("roles", see.roles),
            ("the door", self._door),
            ("ten rows", self._rows),
            ("the execution", self._execution),
            ("logs", self._logs),
            ("the sandbox", self._sandbox),
            ("dead letters", see.dead_letters),
            ("alarms", see.alarms),
            ("clean-up", self._clean_up),
        ]
        return [await self._finding(what, check) for what, check in checks]

    async def _finding(self, what: str, check: Callable[[], Awaitable[str]]) -> Finding:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            finding = Finding(what, True, await check())
        except (DiffersError, PromptLabError, BotoCoreError) as error:
            finding = Finding(what, False, str(error))
        except UnseenError as error:
            finding = Finding(what, None, str(error))
        except ClientError as error:
            unseen = error.response["Error"]["Code"] in _UNSEEN
            finding = Finding(what, None if unseen else False, str(error))
        self._tell(finding)
        return finding

    def _api(self, token: str | None) -> ApiClient:
        return ApiClient(self._endpoint or self._see.outputs["StudioUrl"], token)

    async def _door(self) -> str:
        """Without the token nobody gets in."""
        api = self._api(None)
        try:
            await api.get("/health")
            try:
                await api.get("/runs")
            except AuthenticationError:
                return "open for health, closed for the rest"
            raise DiffersError("lets everybody in: GET /api/v1/runs answers without a token")
        finally:
            await api.aclose()

    async def _rows(self) -> str:
        api = self._api(await self._stack.token())
        body = {
            "name": NAME,
            "dataset": {"name": NAME, "rows": [{"n": n} for n in range(ROWS)]},
            "prompt_template": {"name": NAME, "user_prompt": "What is <n>?"},
            "model": {"name": "simulated/demo"},
            "evaluation": [{"metric": "length"}],
        }
        try:
            self._run_id = (await api.json("POST", "/runs", json=body, repeatable=False))["run_id"]
            began = self._clock.monotonic()
            while (run := await api.get(f"/runs/{self._run_id}"))["status"] not in FINAL:
                if self._clock.monotonic() - began > PATIENCE_S:
                    raise DiffersError(f"{self._run_id} is still {run['status']} after {PATIENCE_S:.0f} s")
                await self._clock.sleep(LOOK_S)
            if run["status"] != "completed" or run["summary"]["succeeded"] != ROWS:
                raise DiffersError(f"{self._run_id} is {run['status']}: {run.get('error') or run['summary']}")
            return f"{self._run_id} completed in {self._clock.monotonic() - began:.0f} s"
        finally:
            await api.aclose()

    async def _execution(self) -> str:
        """Whether Step Functions says the same, and shards kept to a version of their function."""
        if self._run_id is None:
            raise UnseenError("there is no run")
        machine = self._see.outputs["StateMachineArn"]
        arn = f"{machine.replace(':stateMachine:', ':execution:')}:{self._run_id}-0"
        began = self._clock.monotonic()
        while (found := await self._see.ask("stepfunctions", "describe_execution", executionArn=arn))[
            "status"
        ] == "RUNNING" and self._clock.monotonic() - began < PATIENCE_S:
            await self._clock.sleep(LOOK_S)
        if found["status"] != "SUCCEEDED":
            raise DiffersError(f"{arn} is {found['status']}: {found.get('cause', '')}")
        called = await self._planned(arn)
        if not called or not all(function.rpartition(":")[2].isdecimal() for function in called.values()):
            raise DiffersError(f"kept to no versions: it called {called or 'nobody'}; Plan's log says why")
        if not self._see.is_local:
            listed = await self._see.ask(
                "s3",
                "list_objects_v2",
                Bucket=self._see.outputs["BucketName"],
                Prefix=f"runs/{self._run_id}/map/",
            )
            if not listed.get("KeyCount"):
                raise DiffersError("the map wrote no results: may the machine's role write runs/*/map/*?")
        versions = ", ".join(f"{step} {function.rpartition(':')[2]}" for step, function in called.items())
        return f"succeeded, with the versions {versions}"

    async def _planned(self, arn: str) -> dict[str, str]:
        """The functions that Plan gave the execution, by their step."""
        history = await self._see.ask(
            "stepfunctions", "get_execution_history", executionArn=arn, maxResults=100
        )
        for event in history["events"]:
            left = event.get("stateExitedEventDetails") or {}
            if left.get("name") == "Plan":
                functions: dict[str, str] = json.loads(left["output"]).get("functions", {})
                return functions
        return {}

    async def _logs(self) -> str:
        group = self._see.resources["InferLogs"][1]
        began = self._clock.monotonic()
        while self._clock.monotonic() - began < LOGS_S:
            found = await self._see.ask(
                "logs", "filter_log_events", logGroupName=group, filterPattern=f'"{self._run_id}"', limit=1
            )
            if found.get("events"):
                return f"{group} has the run"
            await self._clock.sleep(LOOK_S)
        if self._see.is_local:
            raise UnseenError("the local AWS keeps none")
        raise DiffersError(f"{group} has no line of the run: may InferRole write it?")

    async def _sandbox(self) -> str:
        """Whether the kernel there confines code of users: one piece of it tries what it may not."""
        if "SandboxFunction" not in self._see.resources:
            raise UnseenError("there is none: AllowCode is false")
        name = self._see.resources["SandboxFunction"][1]
        body = json.dumps(probe.event()).encode()
        answer = await self._see.ask("lambda", "invoke", FunctionName=name, Payload=body)
        told = json.loads(answer["Payload"])
        if answer.get("FunctionError") or "answers" not in told:
            raise DiffersError(f"does not start: {str(told.get('refused') or told)[:500]}")
        said = told["answers"][0]["score"]
        if said.get("label") != probe.CONTAINED:
            raise DiffersError(
                f"does not hold code of users: {said.get('label') or said}. Deploy AllowCode=false"
            )
        return "runs code of users, which reaches nothing"

    async def _clean_up(self) -> str:
        if self._run_id is None or self._keep:
            raise UnseenError("nothing to remove" if self._run_id is None else f"{self._run_id} is kept")
        api = self._api(await self._stack.token())
        try:
            await api.delete(f"/runs/{self._run_id}")
        finally:
            await api.aclose()
        return f"the run is deleted; the prompt and the dataset {NAME!r} stay"
