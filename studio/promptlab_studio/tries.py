"""Counts wrong tokens by the address that they come from, whether typed or sent, one at a time or at once."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Sequence
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
LOOK_AGAIN_S = (0.05, 0.1, 0.2, 0.4)
"""Three quarters of a second in all: a token is looked up in some milliseconds."""
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

    A try is counted before it is looked at: of any number at once, TRIES wrong ones are looked at.

    Args:
        look_again_s: pauses before a try that is one too many is refused.
    """

    def __init__(self, look_again_s: Sequence[float] = LOOK_AGAIN_S) -> None:
        self._look_again_s = look_again_s
        self._closed: dict[str, float] = {}
        self._right: dict[tuple[str, str], float] = {}

    def _is_known(self, address: str, digest: str) -> bool:
        """Whether a token was right from this address a while ago: then it is no try."""
        return self._right.get((address, digest), 0.0) > time.monotonic()

    async def begin(self, records: Records, address: str, digest: str) -> bool:
        """Count a try, but for one with what was right from there minutes ago; whether it was counted.

        Where there are too many it looks again for some moments: those before it may be right ones, which are
        looked at just now and taken back (a pipeline begins with ten requests at once). What is looked at
        are TRIES wrong ones all the same, for those stay counted.

        Raises:
            TooManyTriesError: there were too many before it.
        """
        if self._is_known(address, digest):
            return False
        now = time.time()
        until = self._closed.get(address, 0.0)
        if until <= now:
            for pause_s in (*self._look_again_s, None):
                count, until = await records.count_up(LOGIN, address, expires_at=now + PAUSE_S)
                if count <= TRIES:
                    return True
                if pause_s is None:
                    break
                await self._take_back(records, address)
                await asyncio.sleep(pause_s)
                if self._is_known(address, digest):
                    return False
            _keep(self._closed, address, until)
        raise TooManyTriesError(max(1, round(until - now)))

    async def was_right(self, records: Records, address: str, digest: str, *, forget: bool) -> None:
        """Take a try back; with `forget` those before it, too."""
        _keep(self._right, (address, digest), time.monotonic() + KNOWN_S)
        await self._take_back(records, address, forget=forget)

    @staticmethod
    async def _take_back(records: Records, address: str, *, forget: bool = False) -> None:
        ends = time.time() + PAUSE_S
        left, _ = await records.count_up(LOGIN, address, by=-1, expires_at=ends)
        if left < 0:  # an admin's right token forgot this one, too
            await records.count_up(LOGIN, address, expires_at=ends)
        elif forget and left > 0:
            await records.count_up(LOGIN, address, by=-left, expires_at=ends)


def _keep(kept: dict[K, float], key: K, until: float) -> None:
    kept.pop(key, None)
    kept[key] = until
    if len(kept) > _MOST_KEPT:
        del kept[next(iter(kept))]
