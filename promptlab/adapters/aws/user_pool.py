"""Accounts in a Cognito user pool: made for who is invited, deleted for who is removed."""

from __future__ import annotations

from promptlab.adapters.aws.session import AwsSession


class UserPool:
    """The accounts of one pool, by e-mail address."""

    def __init__(self, pool_id: str, *, session: AwsSession | None = None) -> None:
        self._pool_id = pool_id
        self._clients = (session or AwsSession()).clients(
            "cognito-idp", read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3}
        )

    async def invite(self, email: str) -> bool:
        """Make an account; the pool mails the invitation with a first password. False where there is one."""
        client = await self._clients.get()
        try:
            await client.admin_create_user(
                UserPoolId=self._pool_id,
                Username=email,
                DesiredDeliveryMediums=["EMAIL"],
                UserAttributes=[
                    {"Name": "email", "Value": email},
                    {"Name": "email_verified", "Value": "true"},
                ],
            )
        except client.exceptions.UsernameExistsException:
            return False
        return True

    async def remove(self, email: str) -> None:
        """Delete an account; none is fine."""
        client = await self._clients.get()
        try:
            await client.admin_delete_user(UserPoolId=self._pool_id, Username=email)
        except client.exceptions.UserNotFoundException:
            return

    async def close(self) -> None:
        """Close the running loop's connections. Closing twice is fine."""
        await self._clients.aclose()
