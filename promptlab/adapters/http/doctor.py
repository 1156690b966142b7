"""What a hosted Studio says of itself, of its caller, and of whether it is in order."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, get_args

from promptlab.adapters.http.client import ApiClient
from promptlab.domain.findings import Finding, Outcome
from promptlab.errors import PromptLabError


class RemoteDoctor:
    """Asks one Studio.

    Args:
        api: its API.
        where: its address.
    """

    def __init__(self, api: ApiClient, where: str) -> None:
        self._api, self._where = api, where

    async def look(self, secrets: Sequence[str] = ()) -> list[Finding]:
        """Look whether it answers, whether its version is this one, who the caller is, and whether it is in
        order; what is wrong is a finding, too."""
        try:
            there = await self.version()
        except PromptLabError as error:
            return [Finding("address", "error", str(error))]
        found = [Finding("address", "ok", f"{self._where} answers"), _versions(there)]
        try:
            who = await self.me()
            said = f"{who['name']}, {who['role']} of the project {who['project']}"
            found.append(Finding("token", "ok", said))
            found += await self.findings(secrets)
        except PromptLabError as error:
            found.append(Finding("token", "error", str(error)))
        return found

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


def _versions(there: str) -> Finding:
    here = version("promptlab-serverless")
    if here == there:
        return Finding("version", "ok", f"the lab and this machine have promptlab {here}")
    return Finding(
        "version",
        "warning",
        f"the lab has promptlab {there}, and this machine {here}: what one of them does not know is "
        f"refused or not shown. Install promptlab-serverless=={there}, or deploy {here} (docs/deploy.md)",
    )
