"""A hosted Studio in this process: clients by the address that they have and by what they send."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
from promptlab_studio.access import ADMIN, Principal, Role
from promptlab_studio.app import create_app
from promptlab_studio.auth import Auth

from promptlab.store_lab import StoreLab
from tests.browser import labs
from tests.studio.live import TOKEN
from tests.studio.told import Told

OWN = {"Sec-Fetch-Site": "same-origin"}


class Hosted:
    """`async with Hosted(tmp_path) as studio:`; `studio.client(token)` is somebody."""

    def __init__(self, folder: Path, *, auth: Auth | None = None, lab: StoreLab | None = None) -> None:
        self.lab = lab or labs.open_lab(folder, Told())
        self.auth = auth or Auth(TOKEN, secure=False)
        self.app = create_app(self.lab, auth=self.auth)
        self.records = self.lab.records
        self._clients: list[httpx.AsyncClient] = []

    async def __aenter__(self) -> Hosted:
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            await client.aclose()
        await self.lab.close()

    def client(
        self, token: str | None = None, *, address: str = "192.0.2.1", **options: Any
    ) -> httpx.AsyncClient:
        """A client with a token as bearer, or without one."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        made = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app, client=(address, 1)),
            base_url="http://lab.example",
            headers=headers,
            timeout=60,
            **options,
        )
        self._clients.append(made)
        return made

    async def token(self, role: Role, *, by: Principal = ADMIN, days: float | None = 1, **more: Any) -> str:
        """A token of a role."""
        _, secret = await self.auth.tokens(self.records).create(by, role, role=role, days=days, **more)
        return secret

    async def browser(self, token: str = TOKEN, address: str = "192.0.2.1") -> httpx.AsyncClient:
        """A client with the cookie of a session."""
        client = self.client(address=address)
        answer = await client.post("/session", data={"token": token}, headers=OWN)
        assert answer.status_code == 303, answer.text
        client.headers.update(OWN)
        return client
