"""The function that removes what was deleted, called without waiting for its answer."""

from __future__ import annotations

import logging

from promptlab.adapters.aws.busy import is_busy
from promptlab.adapters.aws.session import AwsSession

logger = logging.getLogger(__name__)


class TidyFunction:
    """Calls functions/tidy.py. It comes by itself every hour, too: a call that is lost delays, and loses
    nothing."""

    def __init__(self, name: str, *, session: AwsSession | None = None) -> None:
        self._name = name
        self._clients = (session or AwsSession()).clients(
            "lambda", retries={"mode": "standard", "total_max_attempts": 3}
        )

    async def begin(self) -> None:
        """Have it begin now."""
        client = await self._clients.get()
        try:
            await client.invoke(FunctionName=self._name, InvocationType="Event", Payload=b"{}")
        except Exception as error:
            if not is_busy(error):
                raise
            logger.warning("what was deleted is removed within the hour, and not now: %s", error)

    async def close(self) -> None:
        """Close the connections of the running loop."""
        await self._clients.aclose()
