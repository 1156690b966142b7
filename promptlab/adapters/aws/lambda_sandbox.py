"""The sandbox as a function of its own (functions/sandbox.py)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

import orjson

from promptlab.adapters.aws.busy import codes, is_busy
from promptlab.adapters.aws.session import AwsSession
from promptlab.adapters.bundles import BundleSender
from promptlab.domain.projects import DEFAULT_PROJECT
from promptlab.errors import ConfigError, SandboxBusyError, SandboxError, SandboxLostError
from promptlab.ports import Blobs, DirectBlobs

READ_S = 910.0
"""A function answers within 900 s, or never."""
URL_S = 900
"""How long an address of a package is good."""
_BUSY = frozenset(
    {"ENILimitReached", "EC2Throttled", "ResourceNotReady", "ResourceConflict", "EFSMountTimeout"}
)
_TOO_LARGE = frozenset({"RequestTooLarge", "RequestEntityTooLarge"})


_TENANT: ContextVar[str] = ContextVar("promptlab_tenant")
"""The project of the invocation that is being sent."""


class _Target:
    """What all projects' sandboxes of a process call: a function, or a version of it."""

    def __init__(self, deployed: str) -> None:
        self.deployed = self.now = deployed


def _say_tenant(params: dict[str, Any], **_: Any) -> None:
    """Say whose an invocation is. As a header: the pinned botocore is older than the parameter TenantId."""
    params["headers"]["X-Amz-Tenant-Id"] = _TENANT.get()


class LambdaSandbox:
    """Invokes the function.

    Args:
        function: its name or ARN.
        blobs: where bundles and packages are.
        session: the account.
        read_s: how long an answer is waited for.
        by_tenant: the function has an environment for each project (Lambda's tenant isolation).
    """

    def __init__(
        self,
        function: str,
        blobs: Blobs,
        *,
        session: AwsSession | None = None,
        read_s: float = READ_S,
        by_tenant: bool = False,
    ) -> None:
        self._target, self._blobs = _Target(function), blobs
        self._project, self._by_tenant = DEFAULT_PROJECT, by_tenant
        # One attempt: who asks knows how long it may wait, and that an answer that is late was paid for.
        self._clients = (session or AwsSession()).clients(
            "lambda", read_timeout=read_s, retries={"mode": "standard", "total_max_attempts": 1}
        )
        self._sender = BundleSender(blobs, self._url)

    def call(self, function: str | None) -> None:
        """Call another version from now on, also for all projects: that of the execution which the process
        works for; None: as it is deployed."""
        self._target.now = function or self._target.deployed

    def for_project(self, project: str, blobs: Blobs) -> LambdaSandbox:
        """The sandbox for the code of one project, over the same connections."""
        part = copy.copy(self)
        part._project = project
        part._blobs, part._sender = blobs, BundleSender(blobs, part._url)
        return part

    async def ask(self, bundle_hash: str, event: Mapping[str, Any]) -> dict[str, Any]:
        """Run one invocation.

        Raises:
            SandboxBusyError: Lambda throttles, or cannot be reached.
            SandboxLostError: the function broke down or ran out of time.
            SandboxError: it refuses.
        """
        return await self._sender.ask(bundle_hash, {**event, "tenant": self._project}, self._invoke)

    async def close(self) -> None:
        """Close the connections."""
        await self._clients.aclose()

    async def _url(self, key: str) -> str:
        if not isinstance(self._blobs, DirectBlobs):
            raise ConfigError("packages of code need a bucket")
        return await self._blobs.presign_get(key, max_age_s=URL_S)

    async def _invoke(self, payload: bytes) -> dict[str, Any]:
        client = await self._clients.get()
        if self._by_tenant:
            _TENANT.set(self._project)
            client.meta.events.register("before-call.lambda.Invoke", _say_tenant, unique_id="tenant")
        try:
            response = await client.invoke(FunctionName=self._target.now, Payload=payload)
            body = await response["Payload"].read()
        except Exception as error:
            raise _told(error, len(payload)) from error
        if response.get("FunctionError"):
            raise SandboxLostError(f"the sandbox broke down: {_message(body)}")
        answer: dict[str, Any] = orjson.loads(body)
        return answer


def _told(error: Exception, size: int) -> Exception:
    """The error as the port's contract has it."""
    found = codes(error)
    if found & _TOO_LARGE:
        return SandboxError(
            f"A case and its code are {size / 2**20:.1f} MB together; the sandbox takes 6 MB. Give the "
            "evaluator less of the row, or send less code."
        )
    if type(error).__name__ in ("ReadTimeoutError", "ResponseStreamingError", "IncompleteReadError"):
        return SandboxLostError(f"the sandbox does not answer: {error}")
    if found & _BUSY or is_busy(error):
        return SandboxBusyError(f"No sandbox is free for code of users now: {error}")
    return error


def _message(body: bytes) -> str:
    try:
        told = orjson.loads(body)
        return f"{told.get('errorType', 'error')}: {told.get('errorMessage', '')}"[:500]
    except (ValueError, AttributeError):
        return body[:500].decode("utf-8", "replace")
