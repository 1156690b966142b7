"""Short texts in the Parameter Store of Systems Manager, encrypted. They cost nothing, read or not."""

from __future__ import annotations

from promptlab.adapters.aws.session import AwsSession


class ParameterStore:
    """Encrypted parameters by their full name, as in `/promptlab/lab/admin-token`."""

    def __init__(self, *, session: AwsSession | None = None) -> None:
        self._clients = (session or AwsSession()).clients(
            "ssm", read_timeout=10, retries={"mode": "standard", "total_max_attempts": 5}
        )

    async def text(self, name: str) -> str | None:
        """Return what is kept under a name now; None where there is nothing."""
        client = await self._clients.get()
        try:
            found: str = (await client.get_parameter(Name=name, WithDecryption=True))["Parameter"]["Value"]
        except client.exceptions.ParameterNotFound:
            return None
        return found

    async def put(
        self, name: str, text: str, *, about: str, key: str | None = None, replace: bool = True
    ) -> str:
        """Keep a text, and give what is kept.

        Args:
            name: where.
            text: the text.
            about: what it is, for whoever looks at the account.
            key: the ARN of the KMS key that encrypts it; default: AWS's own.
            replace: whether one that is there already is replaced; else that one is given.
        """
        client = await self._clients.get()
        encryption = {"KeyId": key} if key else {}
        try:
            await client.put_parameter(
                Name=name, Value=text, Description=about, Type="SecureString", Overwrite=replace, **encryption
            )
        except client.exceptions.ParameterAlreadyExists:
            return await self.text(name) or text
        return text

    async def close(self) -> None:
        """Close the running loop's connections. Closing twice is fine."""
        await self._clients.aclose()
