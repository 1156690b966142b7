"""How much of Lambda the account has."""

from __future__ import annotations

from promptlab.adapters.aws.busy import is_busy
from promptlab.adapters.aws.session import AwsSession
from promptlab.errors import ConfigError, StoreBusyError


class LambdaQuotas:
    """Asks Lambda for the account's settings, which name no resource: `lambda:GetAccountSettings` on `*`."""

    def __init__(self, *, session: AwsSession | None = None) -> None:
        self._clients = (session or AwsSession()).clients(
            "lambda", retries={"mode": "standard", "total_max_attempts": 3}
        )

    async def functions_at_once(self) -> tuple[int, int]:
        """How many invocations run at once in the account and region, and how many of these no function has
        reserved.

        Raises:
            StoreBusyError: Lambda throttles, or cannot be reached.
            ConfigError: it refuses to say.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        client = await self._clients.get()
        try:
            found = (await client.get_account_settings())["AccountLimit"]
        except (BotoCoreError, ClientError) as error:
            if is_busy(error):
                raise StoreBusyError(f"Lambda does not say its quotas now: {error}") from error
            raise ConfigError(f"Lambda refuses to say its quotas: {str(error)[:300]}") from error
        limit = int(found["ConcurrentExecutions"])
        return limit, int(found.get("UnreservedConcurrentExecutions", limit))

    async def close(self) -> None:
        """Close the connections of the running loop."""
        await self._clients.aclose()
