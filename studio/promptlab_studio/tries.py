"""Counts wrong tokens by the address that they come from, whether typed or sent, one at a time or at once."""

from __future__ import annotations

import ipaddress
import time
from typing import TypeVar

from fastapi import Request

from promptlab.errors import TooManyTriesError
from promptlab.ports import Records

LOGIN = "LOGIN"
"""The kind of the counters: tries that were not right, by address."""
TRIES, PAUSE_S = 5, 300.0
"""After so many wrong tokens from one address, it may try again after so many seconds."""
KNOWN_S = 300.0
"""How long a token that was right from an address is not counted from there."""
_MOST_KEPT = 2_000
K = TypeVar("K")


def address_of(request: Request) -> str:
    """The address that a request comes from; of IPv6 the network, of which everybody has 2^64 addresses."""
    host = request.client.host if request.client else "unknown"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host[:100]
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(getattr(address, "ipv4_mapped", None) or address)


class Tries:
    """The tries of all addresses. The counters are in the ledger; what is kept here only saves asking it.

    A try is counted before it is looked at: of any number at once, TRIES are looked at.
    """

    def __init__(self) -> None:
        self._closed: dict[str, float] = {}
        self._right: dict[tuple[str, str], float] = {}

    def is_known(self, address: str, digest: str) -> bool:
        """Whether a token was right from this address a while ago: then it is no try."""
        return self._right.get((address, digest), 0.0) > time.monotonic()

    async def begin(self, records: Records, address: str) -> None:
        """Count a try.

        Raises:
            TooManyTriesError: there were too many before it.
        """
        now = time.time()
        until = self._closed.get(address, 0.0)
        if until <= now:
            count, until = await records.count_up(LOGIN, address, expires_at=now + PAUSE_S)
            if count <= TRIES:
                return
            _keep(self._closed, address, until)
        raise TooManyTriesError(max(1, round(until - now)))

    async def was_right(self, records: Records, address: str, digest: str, *, forget: bool) -> None:
        """Take a try back; with `forget` those before it, too."""
        _keep(self._right, (address, digest), time.monotonic() + KNOWN_S)
        ends = time.time() + PAUSE_S
        left, _ = await records.count_up(LOGIN, address, by=-1, expires_at=ends)
        if forget and left > 0:
            await records.count_up(LOGIN, address, by=-left, expires_at=ends)


def _keep(kept: dict[K, float], key: K, until: float) -> None:
    kept.pop(key, None)
    kept[key] = until
    if len(kept) > _MOST_KEPT:
        del kept[next(iter(kept))]
