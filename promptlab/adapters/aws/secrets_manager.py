"""Provider keys from AWS Secrets Manager."""

from __future__ import annotations

from promptlab.adapters.aws.session import AwsSession
from promptlab.clock import SystemClock
from promptlab.ports import Clock

CACHE_S = 300.0
"""How long a value is used before it is read again: a key that was replaced works everywhere after this."""


class SecretsManagerSecrets:
    """The Secrets whose names begin with a prefix, which callers never see: `openai`
    is `promptlab/keys/openai`.

    Reading costs money and 10 ms a call, so values are kept for CACHE_S. Powertools' parameters would
    do the same, blocking the event loop. That there is no secret is not kept: somebody is about to add it.
    """

    def __init__(self, prefix: str, *, session: AwsSession | None = None, clock: Clock | None = None) -> None:
        self.prefix = prefix
        self._clock = clock or SystemClock()
        self._clients = (session or AwsSession()).clients(
            "secretsmanager", read_timeout=10, retries={"mode": "standard", "total_max_attempts": 5}
        )
        self._known: dict[str, tuple[float, str]] = {}

    async def get(self, name: str) -> str | None:
        read_at, value = self._known.get(name, (float("-inf"), ""))
        if self._clock.monotonic() - read_at < CACHE_S:
            return value
        client = await self._clients.get()
        try:
            found: str = (await client.get_secret_value(SecretId=self.prefix + name))["SecretString"]
        except client.exceptions.ResourceNotFoundException:
            self._known.pop(name, None)
            return None
        self._known[name] = (self._clock.monotonic(), found)
        return found

    async def close(self) -> None:
        """Close the running loop's connections. Closing twice is fine."""
        await self._clients.aclose()

    async def put(self, name: str, value: str) -> None:
        """Set a secret, new or not. Other processes see it within CACHE_S."""
        client = await self._clients.get()
        try:
            await client.put_secret_value(SecretId=self.prefix + name, SecretString=value)
        except client.exceptions.ResourceNotFoundException:
            await client.create_secret(Name=self.prefix + name, SecretString=value)
        self._known[name] = (self._clock.monotonic(), value)

    async def names(self) -> list[str]:
        """The names there are, without the prefix, sorted. No value is read."""
        client = await self._clients.get()
        pages = client.get_paginator("list_secrets").paginate(
            Filters=[{"Key": "name", "Values": [self.prefix]}]
        )
        found = [secret["Name"] async for page in pages for secret in page["SecretList"]]
        return sorted(name.removeprefix(self.prefix) for name in found if name.startswith(self.prefix))

    async def delete(self, name: str) -> None:
        """Remove a secret at once and for good; none is fine."""
        client = await self._clients.get()
        self._known.pop(name, None)
        try:
            await client.delete_secret(SecretId=self.prefix + name, ForceDeleteWithoutRecovery=True)
        except client.exceptions.ResourceNotFoundException:
            return


class SecretNames(SecretsManagerSecrets):
    """For who may know which secrets there are and not what they hold: the Studio, which faces the internet.

    `get` of a secret gives a stand-in that no provider accepts, so that a run can be checked before it is
    handed over.
    """

    async def get(self, name: str) -> str | None:
        client = await self._clients.get()
        try:
            await client.describe_secret(SecretId=self.prefix + name)
        except client.exceptions.ResourceNotFoundException:
            return None
        return "held-back"
