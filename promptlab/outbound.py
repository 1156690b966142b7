"""Where calls may go: the one place that decides which addresses this process connects to on behalf of an
experiment.

The address itself is judged, at the moment of the connection: a name is resolved once, what may not be
reached is dropped, and the socket is made for an address that was judged, while TLS and the Host header keep
the name. So it does not matter how an address is written (2130706433, 0x7f.1, ::ffff:127.0.0.1), what a name
resolves to, or whether it resolves to something else a moment later (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from promptlab.domain.secrets import is_loopback_name
from promptlab.errors import ConfigError

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.abc import AbstractResolver

VARIABLE = "PROMPTLAB_ALLOWED_ADDRESSES"
"""The environment variable with addresses and networks that may be reached besides; in the cloud the
template's parameter AllowedAddresses sets it."""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
# Written out, for ipaddress.is_global differs between Python's versions (192.0.0.0/24, 64:ff9b:1::/48).
# IANA's registries of special-purpose addresses, which RFC 6890 sets up, have them.
_SPECIAL = tuple(
    map(
        ipaddress.ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
            *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
            *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
        ),
    )
)
_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        (
            *("169.254.169.254", "fd00:ec2::254", "fd00:ec2::23"),
            *("fd20:ce::254", "100.100.100.200", "168.63.129.16"),
        ),
    )
)
"""Where clouds tell a machine its credentials: AWS (both families, most others too; pods of EKS), Google's
IPv6, Alibaba, Azure. What is link-local is refused as such (169.254.170.2, 169.254.170.23)."""


class AddressRefusedError(OSError):
    """An address that calls may not go to. An OSError, for so the HTTP stack takes it for a failed
    connection."""


@dataclass(frozen=True, slots=True)
class Outbound:
    """Which addresses calls may reach.

    On a machine of one's own, loopback and private networks are reachable: that is where Ollama, vLLM and a
    company's gateway are, who writes an experiment there has a shell there too, and a Studio there serves
    that machine only. In a deployed lab, experiments come from whoever may start runs, and behind the worker
    are the account's network and Lambda's own addresses: only what is public is reachable, and what the owner
    of the stack lists. Link-local addresses (metadata services) are reachable nowhere unless listed.
    """

    hosted: bool = False
    """This is a deployed lab."""
    allowed: tuple[Network, ...] = ()
    """Networks that are reachable although they are not public."""
    runtime: tuple[str, int] | None = None
    """Where Lambda's runtime API answers; nothing makes it reachable."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], *, hosted: bool = False) -> Outbound:
        """The rules of this process.

        Raises:
            ConfigError: PROMPTLAB_ALLOWED_ADDRESSES lists what is no address and no network.
        """
        listed = [item.strip() for item in environment.get(VARIABLE, "").split(",") if item.strip()]
        try:
            allowed = tuple(ipaddress.ip_network(item, strict=False) for item in listed)
        except ValueError as error:
            raise ConfigError(
                f"{VARIABLE}: {error}. List addresses and networks, as in 10.0.3.0/24,192.168.1.5 (in the "
                "cloud: the template's parameter AllowedAddresses)."
            ) from None
        host, _, port = environment.get("AWS_LAMBDA_RUNTIME_API", "").rpartition(":")
        return cls(hosted, allowed, (host, int(port)) if host and port.isdecimal() else None)

    def refusal(self, address: str, port: int, name: str = "") -> str | None:
        """Say what is wrong with an address, as text; None where calls may go there. With the name that was
        resolved to it: one under localhost is this machine, whatever a resolver says that asks the network
        for it, and keys go there without https."""
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return "it is no IP address"
        forms = [found, *_embedded(found)]
        if is_loopback_name(name) and not any(form.is_loopback or form.is_unspecified for form in forms):
            return "names under localhost are this machine, and this is another"
        if self.runtime and port == self.runtime[1] and any(str(form) == self.runtime[0] for form in forms):
            return "it is the runtime API of Lambda"
        for form in forms:
            if any(form.version == network.version and form in network for network in self.allowed):
                continue
            if why := self._kind(form):
                return why
        return None

    def _kind(self, address: Address) -> str | None:
        """Why an address is not reachable without being listed."""
        if address in _METADATA:
            return "it is where a cloud keeps the credentials of its machines"
        if address.is_link_local:
            return "it is link-local"
        if address.is_multicast:
            return "it is multicast"
        if not self.hosted:
            # 0.0.0.0 is this machine for whoever connects to it; vLLM prints its address so.
            return None
        if address.is_unspecified or address.is_loopback:
            return "it is the worker itself"
        public = isinstance(address, ipaddress.IPv4Address) or address in _GLOBAL_IPV6 or address in _NAT64
        if not public or any(address.version == one.version and address in one for one in _SPECIAL):
            return "it is in a private or reserved network"
        return None

    @property
    def reaches_loopback(self) -> bool:
        """Whether calls may go to this machine itself."""
        return self.refusal("127.0.0.1", 0) is None

    def check(self, host: str, address: str, port: int) -> None:
        """Refuse an address that a host turned out to be.

        Raises:
            AddressRefusedError: calls may not go there; the message says why, and who could allow it.
        """
        if why := self.refusal(address, port, host):
            shown = host if host == address else f"{host} ({address})"
            how = (
                "the stack's parameter AllowedAddresses lists what may be reached besides"
                if self.hosted
                else f"{VARIABLE} lists what may be reached besides"
            )
            raise AddressRefusedError(f"calls may not go to {shown}: {why}; {how}")

    def connector(self, **settings: Any) -> aiohttp.TCPConnector:
        """aiohttp's connector, with these rules; every HTTP request of an experiment goes through one."""
        import aiohttp

        def made(info: tuple[Any, ...]) -> socket.socket:
            # Of a literal address the connector asks no resolver, so that here is the last and only look.
            family, kind, proto, _, where = info
            self.check(str(where[0]), str(where[0]), int(where[1]))
            return socket.socket(family=family, type=kind, proto=proto)

        return aiohttp.TCPConnector(resolver=_resolver(self), socket_factory=made, **settings)

    async def reach(self, host: str, port: int) -> None:
        """Open and close a TCP connection, by the same rules.

        Raises:
            AddressRefusedError: the host is at no address that calls may go to.
            OSError: nothing answers, or there is no such host.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        failure: OSError | None = None
        for family, kind, proto, _, where in found:
            try:
                self.check(host, str(where[0]), port)
                with _closing(socket.socket(family, kind, proto)) as plain:
                    await loop.sock_connect(plain, where)
            except OSError as error:
                failure = failure or error
            else:
                return
        raise failure or OSError(f"{host} has no address")


@contextlib.contextmanager
def _closing(plain: socket.socket) -> Iterator[socket.socket]:
    plain.setblocking(False)
    with plain:
        yield plain


def _embedded(address: Address) -> Iterator[Address]:
    """The IPv4 addresses that an IPv6 address stands for: mapped, compatible, NAT64, 6to4, Teredo."""
    if not isinstance(address, ipaddress.IPv6Address):
        return
    if address.ipv4_mapped:
        yield address.ipv4_mapped
    if address.sixtofour:
        yield address.sixtofour
    if address.teredo:
        yield from address.teredo
    last = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _NAT64 or address in _LOCAL_NAT64 or (address in _COMPATIBLE and int(address) > 1):
        yield last


def _resolver(rules: Outbound) -> AbstractResolver:
    from aiohttp.abc import AbstractResolver, ResolveResult
    from aiohttp.resolver import ThreadedResolver

    class Judging(AbstractResolver):
        """Leaves out the addresses of a name that calls may not go to."""

        def __init__(self) -> None:
            self._inner = ThreadedResolver()

        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            found = await self._inner.resolve(host, port, family)
            good = [one for one in found if rules.refusal(one["host"], port, host) is None]
            if not good and found:
                rules.check(host, found[0]["host"], port)
            return good

        async def close(self) -> None:
            await self._inner.close()

    return Judging()
