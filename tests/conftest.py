"""What all tests share."""

from __future__ import annotations

from typing import Any

import httpx


def pytest_configure() -> None:
    """Let requests wait a minute: httpx's 5 s were too little for a page while 25 others worked. And let
    clients share the certificates that they trust: each read the file anew, 18 ms of a test."""
    trusted = httpx.create_ssl_context()
    calls: tuple[Any, ...] = (
        httpx.Client.__init__,
        httpx.AsyncClient.__init__,
        *(getattr(httpx, name) for name in ("delete", "get", "patch", "post", "put", "request")),
    )
    for call in calls:
        call.__kwdefaults__ |= {"timeout": httpx.Timeout(60), "verify": trusted}
