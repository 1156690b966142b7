"""Connections of a child, where it may have some: the kernel asks the guard about each (seccomp's
notifications), which judges the address and connects the child's socket itself, to what it judged.

So code reaches public addresses and not this machine, where Lambda's runtime API is, nor a private network;
and changing the address while it is looked at gains nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import ipaddress
import os
import select
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

from promptlab.outbound import Outbound

_RECEIVE, _SEND, _STILL = 0xC0502100, 0xC0182101, 0x40082102
"""SECCOMP_IOCTL_NOTIF_RECV, _SEND and _ID_VALID."""
_GET_DESCRIPTOR = 438
_LONGEST = 128
"""Bytes of an address of a socket."""
_UNSPECIFIED, _IPV4, _IPV6 = 0, 2, 10
LOOK_S = 0.5
DNS = 53


class Gate:
    """Makes the connections of one child.

    Args:
        child: its process.
        listener: what the kernel asks by; closed with this object.
        outbound: which addresses are reachable.
    """

    def __init__(self, child: int, listener: int, outbound: Outbound) -> None:
        self._child, self._listener, self._outbound = child, listener, outbound
        self._names = tuple(_nameservers())
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="promptlab-gate", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer no further question; the child is gone."""
        self._closed = True
        self._thread.join()

    def _work(self) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        try:
            while not self._closed:
                for _, event in poll.poll(LOOK_S * 1000):
                    if not event & select.POLLIN:
                        return  # the child is gone
                    self._take()
        finally:
            os.close(self._listener)

    def _take(self) -> None:
        asked = bytearray(80)
        try:
            fcntl.ioctl(self._listener, _RECEIVE, asked)
        except OSError:
            return  # whoever asked is gone
        number, thread = struct.unpack_from("=QI", asked)
        descriptor, pointer, length = struct.unpack_from("=3Q", asked, 32)
        try:
            address = self._address(number, thread, pointer, length)
            if why := self._refusal(address):
                raise PermissionError(errno.EPERM, why)
            mine = self._taken(descriptor)
        except OSError as error:
            self._answer(number, error.errno or errno.EPERM)
            return
        if fcntl.fcntl(mine, fcntl.F_GETFL) & os.O_NONBLOCK:
            self._connect(number, mine, address)
        else:
            arguments = (number, mine, address)
            threading.Thread(target=self._connect, args=arguments, name="promptlab-gate", daemon=True).start()

    def _address(self, number: int, thread: int, pointer: int, length: int) -> bytes:
        """Read the address out of the child's memory; a copy, which the child cannot change any more."""
        memory = os.open(f"/proc/{thread}/mem", os.O_RDONLY)
        try:
            data = os.pread(memory, min(length & 0xFFFFFFFF, _LONGEST), pointer)
        finally:
            os.close(memory)
        # Else the thread is gone, and the memory may be another's.
        fcntl.ioctl(self._listener, _STILL, bytearray(struct.pack("=Q", number)))
        return data

    def _refusal(self, address: bytes) -> str | None:
        if len(address) < 2:
            return "it is no address"
        (family,) = struct.unpack_from("=H", address)
        if family == _UNSPECIFIED:
            return None  # ends a connection
        if (family, len(address) >= 16) == (_IPV4, True):
            found: str = str(ipaddress.IPv4Address(address[4:8]))
        elif (family, len(address) >= 28) == (_IPV6, True):
            found = str(ipaddress.IPv6Address(address[8:24]))
        else:
            return "it is no internet address"
        (port,) = struct.unpack_from("!H", address, 2)
        if port == DNS and found in self._names:
            return None
        return self._outbound.refusal(found, port)

    def _taken(self, descriptor: int) -> int:
        """The child's socket, in this process."""
        process = os.pidfd_open(self._child)
        try:
            found = int(
                self._libc.syscall(_GET_DESCRIPTOR, process, ctypes.c_uint(descriptor & 0xFFFFFFFF), 0)
            )
        finally:
            os.close(process)
        if found < 0:
            raise OSError(ctypes.get_errno(), "its socket cannot be had")
        return found

    def _connect(self, number: int, mine: int, address: bytes) -> None:
        try:
            made = self._libc.connect(mine, address, len(address))
            self._answer(number, 0 if made == 0 else ctypes.get_errno())
        finally:
            os.close(mine)

    def _answer(self, number: int, error: int) -> None:
        with contextlib.suppress(OSError):  # whoever asked is gone
            fcntl.ioctl(self._listener, _SEND, bytearray(struct.pack("=QqiI", number, 0, -error, 0)))


def _nameservers() -> Iterator[str]:
    with contextlib.suppress(OSError):
        for line in Path("/etc/resolv.conf").read_text(encoding="utf-8", errors="replace").splitlines():
            word, _, value = line.partition(" ")
            if word == "nameserver":
                with contextlib.suppress(ValueError):
                    yield str(ipaddress.ip_address(value.strip()))
