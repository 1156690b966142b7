"""What went wrong at a proxy, and not at the provider behind it."""

from __future__ import annotations

import base64
import urllib.parse
from collections.abc import Mapping

import aiohttp

from promptlab.errors import ModelError
from promptlab.models.failures import trim

_OWN = ("proxy-status", "proxy-agent", "x-squid-error", "proxy-authenticate")
"""Headers that a proxy puts on an answer of its own (RFC 9209; Squid; RFC 9110, 11.7.1)."""
_VARIABLES = "http_proxy or https_proxy"


def proxy_shown(proxy: str) -> str:
    """A proxy's address without its user and password."""
    parts = urllib.parse.urlsplit(proxy)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def proxy_headers(proxy: str | None) -> dict[str, str] | None:
    """The headers that a proxy wants of whoever uses it: name and password, where its address has them."""
    parts = urllib.parse.urlsplit(proxy or "")
    if not parts.username:
        return None
    user = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"}


def broken_at_proxy(model: str, endpoint: str, proxy: str, error: Exception) -> ModelError | None:
    """Make the error of a connection that a proxy did not make; None where it was not the proxy."""
    shown = proxy_shown(proxy)
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return ModelError(
            f"{model}: the proxy {shown} before {endpoint} does not answer: {trim(str(error.os_error))} "
            f"({_without(endpoint)})",
            type="connection",
            retryable=True,
            sent=False,
        )
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return refused_by_proxy(model, endpoint, proxy, error.status, error.message)
    return None


def is_of_proxy(status: int, headers: Mapping[str, str]) -> bool:
    """Whether an answer to a request over plain http is the proxy's own and not the provider's."""
    return status == 407 or (status >= 400 and any(name in headers for name in _OWN))


def refused_by_proxy(model: str, endpoint: str, proxy: str, status: int, said: str) -> ModelError:
    """Make the error for an answer that a proxy gave itself."""
    shown, host = proxy_shown(proxy), urllib.parse.urlsplit(endpoint).hostname or endpoint
    if status == 407:
        what = f"wants a user name and a password, or others: {_VARIABLES}=http://USER:PASSWORD@HOST:PORT"
    elif status >= 500:
        what = f"did not get through to {host}: {trim(said)}"
    else:
        what = f"does not let calls through to {host}: {trim(said)} ({_without(endpoint)})"
    return ModelError(
        f"{model}: HTTP {status} of the proxy {shown}, not of the provider: it {what}",
        type="authentication" if status == 407 else "connection",
        status=status,
        retryable=status >= 500,
        sent=False,
    )


def _without(endpoint: str) -> str:
    return f"no_proxy={urllib.parse.urlsplit(endpoint).hostname} goes without it"
