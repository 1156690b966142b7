"""Endpoints as people write them, and the proxies before them."""

from __future__ import annotations

import ipaddress
import os
import re
import urllib.parse
import urllib.request

from yarl import URL

from promptlab.domain.masking import remember
from promptlab.errors import ConfigError

_SECRET = re.compile(
    r"key|token|secret|passw|^pw|pwd|signature|^sig$|^code$|auth|credential|bearer|jwt|session|^access",
    re.IGNORECASE,
)
_NETLOC = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")
"""A host and a port in the one form that every program reads alike."""
_DIGITS = re.compile(r"\d+\.\d+\.\d+\.\d+")
MAX_URL = 65_536
"""Characters of an endpoint at most."""
_USER = re.compile(r"(?<=//)[^/\s?#]*@")


def shown(url: str) -> str:
    """A URL for a message: on one line, without a user name, a password and what follows the path."""
    url = "".join(char if char.isprintable() else " " for char in url[:1000])
    return _USER.sub("***@", url).partition("?")[0].partition("#")[0][:300]


def clean_endpoint(url: str, model: str, *, source: str = "endpoint", paths: tuple[str, ...] = ()) -> str:
    """Check an endpoint and bring it into one form: a base URL without spaces, a
    fragment or a slash at its end.

    Args:
        url: what the user gave.
        model: the model's name, for the error.
        source: where the URL stands, as in "endpoint" or "OPENAI_BASE_URL".
        paths: ends of whole request URLs, as they stand in a provider's example; they are left out.

    Raises:
        ConfigError: it is no URL, or it holds what may not be stored.
    """
    url = url.strip()
    try:
        parts = urllib.parse.urlsplit(url)
        usable = (
            parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
        )
        named = parts.username is not None or parts.password is not None
    except ValueError:
        usable = named = False
    if usable and named:
        raise ConfigError(
            f"Model {model!r}: the {source} holds a user name or password, and endpoints are stored: pass "
            "api_key_env=… instead"
        )
    # Python's parser drops line breaks and tabs, others do not; a backslash is a slash for some.
    odd = any(char.isspace() or not char.isprintable() or char == "\\" for char in url)
    if not usable or odd or not _NETLOC.fullmatch(parts.netloc) or not _is_known(url):
        raise ConfigError(
            f"Model {model!r}: {source} {shown(url)!r} is not a URL such as https://host/v1 or "
            "http://localhost:8000/v1 (a host in ASCII, no spaces, no backslash)"
        )
    if secret := next(
        (name for name, _ in urllib.parse.parse_qsl(parts.query) if _SECRET.search(name)), None
    ):
        raise ConfigError(
            f"Model {model!r}: the {source}'s query holds {secret!r}, and endpoints are stored: pass "
            "api_key_env=… instead"
        )
    path = parts.path.rstrip("/")
    for end in paths:
        path = path.removesuffix(end).rstrip("/")
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.lower(), path, parts.query, ""))


def _is_known(url: str) -> bool:
    """Whether aiohttp, which makes the request, takes a URL for one, too, and its host can be."""
    try:
        host = URL(url).host or ""
        if ":" in host or _DIGITS.fullmatch(host):
            ipaddress.ip_address(host)
    except ValueError:
        return False
    return len(url) <= MAX_URL


def with_path(base: str, path: str) -> str:
    """Append a path to a base URL, before its query if it has one."""
    base, mark, query = base.partition("?")
    return f"{base.rstrip('/')}{path}{mark}{query}"


def proxy_for(url: str) -> str | None:
    """Find the proxy that this machine's settings put before a URL.

    `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, in either case; `no_proxy` may name hosts,
    domains, addresses, networks (`10.0.0.0/8`) and ports (`localhost:8000`), or all with `*`.

    Raises:
        ConfigError: it is no address, or of a kind that aiohttp does not speak.
    """
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if not proxy or _goes_without(host, port) or urllib.request.proxy_bypass(host):
        return None
    proxy = proxy.strip() if "://" in proxy else f"http://{proxy.strip()}"
    remedy = f"Set no_proxy={host} to go without."
    try:
        found = urllib.parse.urlsplit(proxy)
        usable = found.hostname and (found.port is None or found.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(f"The proxy before {url} is not an address such as http://host:3128. {remedy}")
    if found.scheme not in ("http", "https"):
        raise ConfigError(
            f"The proxy before {url} is {found.scheme!r}: only http and https proxies work. {remedy}"
        )
    remember(urllib.parse.unquote(found.password or ""))
    return proxy


def _goes_without(host: str, port: int) -> bool:
    named = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    return any(
        _covers(entry.strip().lower(), host.lower(), port) for entry in named.split(",") if entry.strip()
    )


def _covers(entry: str, host: str, port: int) -> bool:
    """Whether an entry of no_proxy covers a host and a port."""
    if entry == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        pass  # one of them is a name, or the entry has a port
    only = None
    if match := re.fullmatch(r"(\[[^\]]*\]|[^:]*):(\d{1,5})", entry):
        entry, only = match[1], int(match[2])
    entry = entry.strip("[]").removeprefix("*").removeprefix(".")
    covered = host == entry or host.endswith(f".{entry}")
    return bool(entry) and covered and only in (None, port)
