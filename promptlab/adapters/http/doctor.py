"""What a hosted Studio says of itself, of its caller, and of whether it is in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from promptlab.adapters.http.client import ApiClient
from promptlab.domain.findings import Finding, Outcome


class RemoteDoctor:
    """Asks one Studio.

    Args:
        api: its API.
    """

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    async def version(self) -> str:
        """Ask for the version that it runs; nobody need be known for that.

        Raises:
            EndpointUnreachableError: it does not answer.
            RemoteError: something else answers.
        """
        return str((await self._api.get("/health"))["version"])

    async def me(self) -> dict[str, Any]:
        """Ask who the caller is: `id`, `name`, `role`, `project`, `may`.

        Raises:
            AuthenticationError: the token is missing or wrong.
        """
        return await self._api.get("/me")

    async def findings(self, secrets: Sequence[str] = ()) -> list[Finding]:
        """Have it check itself, and whether it has some secrets.

        Raises:
            ForbiddenError: the token's role is below engineer.
        """
        answer = await self._api.get("/doctor", secret=list(secrets) or None)
        known = get_args(Outcome)
        return [
            Finding(one["check"], one["outcome"] if one["outcome"] in known else "warning", one["message"])
            for one in answer["findings"]
        ]
