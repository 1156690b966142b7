"""Published versions of Lambda functions: what an execution keeps to while others are deployed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from promptlab.adapters.aws.session import AwsSession
from promptlab.clock import SystemClock
from promptlab.ports import Clock

PATIENCE_S = 60.0
"""How long a new version may take until it can be called."""
LOOK_S = 1.0
_UNPUBLISHED = ("AccessDeniedException", "CodeStorageExceededException")
"""AWS's words for an account in which nothing can be published: then the run takes what is deployed."""

logger = logging.getLogger(__name__)


class FunctionVersions:
    """Publishes functions as they are deployed now.

    CloudFormation could publish as well. SAM does so for new code only, and never for a parameter that
    changed: then the parameter would have no effect. Lambda itself compares all, and gives the version that
    it has where nothing changed.
    """

    def __init__(self, *, session: AwsSession | None = None, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._clients = (session or AwsSession()).clients(
            "lambda", retries={"mode": "standard", "total_max_attempts": 5}
        )

    async def pinned(self, functions: Mapping[str, str]) -> dict[str, str]:
        """Give the ARN of the newest version of each function, by the function's name here.

        A function that cannot be published, because rights or room for code are missing, is given as it is: a
        run is worth more than its protection from a deployment.
        """
        client = await self._clients.get()
        found = await asyncio.gather(*(self._publish(client, arn) for arn in functions.values()))
        return dict(zip(functions, found, strict=True))

    async def _publish(self, client: Any, arn: str) -> str:
        from botocore.exceptions import ClientError

        try:
            version = await client.publish_version(FunctionName=arn)
        except ClientError as error:
            if error.response["Error"]["Code"] not in _UNPUBLISHED:
                raise
            logger.warning("%s is called as it is deployed, and not pinned to a version: %s", arn, error)
            return arn
        pinned, until = f"{arn}:{version['Version']}", self._clock.monotonic() + PATIENCE_S
        while version.get("State") == "Pending" and self._clock.monotonic() < until:
            await self._clock.sleep(LOOK_S)
            version = await client.get_function_configuration(FunctionName=pinned)
        return pinned

    async def close(self) -> None:
        """Close the connections of the running loop."""
        await self._clients.aclose()
