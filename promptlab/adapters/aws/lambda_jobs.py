"""Has jobs worked on by a function of their own."""

from __future__ import annotations

from typing import Any

import orjson

from promptlab.adapters.aws.session import AwsSession


class LambdaStarter:
    """Invokes the function asynchronously: Lambda keeps the event, and tries again where the function dies.

    Args:
        function: its ARN.
        session: the account and its region.
    """

    def __init__(self, function: str, *, session: AwsSession) -> None:
        self._function = function
        self._clients = session.clients("lambda")

    async def start(self, jobs: Any, job_id: str) -> None:
        """Return once Lambda has the event."""
        client = await self._clients.get()
        event = orjson.dumps({"job_id": job_id, "project": jobs.project})
        await client.invoke(FunctionName=self._function, InvocationType="Event", Payload=event)

    async def close(self) -> None:
        """Close the connections; jobs go on."""
        await self._clients.aclose()
