"""Provider keys from AWS Secrets Manager."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Self

from promptlab.adapters.aws.session import AwsSession
from promptlab.clock import SystemClock
from promptlab.domain.secrets import Secret, description_of, hosts_described
from promptlab.errors import ConfigError
from promptlab.ports import Clock

OF_PROJECTS = "projects/"
"""The beginning of the names of projects' secrets: `promptlab/keys/projects/team/openai`."""
CACHE_S = 300.0
"""How long a value is used before it is read again: a key that was replaced works everywhere after this."""


class SecretsManagerSecrets:
    """The Secrets whose names begin with a prefix, which callers never see: `openai`
    is `promptlab/keys/openai`.

    A secret's value holds its hosts beside the key (`Secret.to_text`), so that one write replaces both and
    who runs experiments can change neither. Its description repeats the hosts for those who may not read
    values.

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

    def for_project(self, project: str) -> Self:
        """The secrets of one project, over the same connections."""
        part = copy.copy(self)
        part.prefix, part._known = f"{self.prefix}{OF_PROJECTS}{project}/", {}
        return part

    async def get(self, name: str) -> Secret | None:
        if name.startswith(OF_PROJECTS):  # a project's, which nobody else's experiment gets by such a name
            return None
        text = await self.text(name)
        return None if text is None else Secret.from_text(name, text)

    async def text(self, name: str) -> str | None:
        """Return what is kept under a name, as it is; None where there is no such secret."""
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

    async def put(
        self, name: str, secret: Secret, *, key: str | None = None, tags: Mapping[str, str] | None = None
    ) -> None:
        """Set a secret, new or not. Other processes see it within CACHE_S.

        Args:
            name: its name, without the prefix.
            secret: what is kept.
            key: the ARN of the KMS key that encrypts it; default: AWS's own for a new one, else as it is.
            tags: the tags of a new one.

        Raises:
            ConfigError: its name is that of a project's secret.
        """
        if name.startswith(OF_PROJECTS):
            raise ConfigError(
                f"The name {name!r} begins with {OF_PROJECTS!r}, where projects have theirs: say which with "
                "--project."
            )
        client = await self._clients.get()
        text, description = secret.to_text(), description_of(secret.hosts or ())
        kept = {"SecretString": text, "Description": description, **({"KmsKeyId": key} if key else {})}
        try:
            await client.update_secret(SecretId=self.prefix + name, **kept)
        except client.exceptions.ResourceNotFoundException:
            listed = [{"Key": tag, "Value": value} for tag, value in (tags or {}).items()]
            await client.create_secret(Name=self.prefix + name, Tags=listed, **kept)
        self._known[name] = (self._clock.monotonic(), text)

    async def names(self) -> list[str]:
        """The names there are, without the prefix, sorted. No value is read."""
        return list(await self.hosts())

    async def hosts(self) -> dict[str, tuple[str, ...]]:
        """The hosts that each secret is bound to, by its name without the prefix, sorted. No value is
        read."""
        client = await self._clients.get()
        pages = client.get_paginator("list_secrets").paginate(
            Filters=[{"Key": "name", "Values": [self.prefix]}]
        )
        found = {
            secret["Name"].removeprefix(self.prefix): secret.get("Description")
            async for page in pages
            for secret in page["SecretList"]
            if secret["Name"].startswith(self.prefix)
            and not secret["Name"].removeprefix(self.prefix).startswith(OF_PROJECTS)
        }
        return {name: hosts_described(name, found[name]) for name in sorted(found)}

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

    async def get(self, name: str) -> Secret | None:
        if name.startswith(OF_PROJECTS):
            return None
        client = await self._clients.get()
        try:
            found = await client.describe_secret(SecretId=self.prefix + name)
        except client.exceptions.ResourceNotFoundException:
            return None
        return Secret("held-back", hosts_described(name, found.get("Description")))
