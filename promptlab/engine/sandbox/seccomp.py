"""A filter of the kernel's calls (seccomp), written as its few instructions.

A library for this needs libseccomp.so, which neither Lambda's image nor a wheel has. What is allowed is a
table (`syscalls`); everything else gives EPERM, so that code of users gets an error that it can show, and the
run goes on.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from promptlab.engine.sandbox.syscalls import ALLOWED, LOOKED_AT, REFUSED

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""What the kernel calls the processors that this has the numbers for (AUDIT_ARCH_…)."""
ALLOW, KILL, ERRNO, ASK = 0x7FFF0000, 0x80000000, 0x00050000, 0x7FC00000
EPERM, ENOSYS = 1, 38
THREAD = 0x3D0F00
"""The flags with which the C library makes a thread: all of VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, SETTLS,
PARENT_SETTID and CHILD_CLEARTID, and nothing that would make a process or a namespace."""
DETACHED = 0x00400000
"""A flag without a meaning that some C libraries add."""
PRCTL = (15, 16, 0x53564D41)
"""Naming a thread, reading its name, naming memory."""
FCNTL = (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1032)
"""Duplicates, flags and locks; not F_SETOWN, by which a file would send any signal to any process."""
IOCTL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""Whether it is a terminal, how large, how much there is to read; the close-on-exec and blocking flags."""
AF_UNIX, AF_INET, AF_INET6, SOCK_STREAM, SOCK_TYPES = 1, 2, 10, 1, 0xF
MSG_FASTOPEN = 0x20000000
"""Sends with the first packet of a connection, which nobody was asked about."""

_LOAD, _AND, _EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_SET_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2
_SET_MODE_FILTER, _NEW_LISTENER = 1, 1 << 3
_FULL = 0xFFFFFFFF


class NoSeccompError(Exception):
    """The kernel does not filter calls here; the message says why."""


@dataclass(frozen=True, slots=True)
class Is:
    """What an argument must be."""

    argument: int
    values: tuple[int, ...]
    wide: bool = False
    """Whether all of its 64 bits count: the kernel looks at 32 of an int."""
    ignored: int = 0
    """Bits that do not count."""


def looked_at(pid: int) -> dict[str, tuple[Is, ...]]:
    """Return what arguments of the calls must be that are allowed with some only, in the process `pid`."""
    return {
        "clone": (Is(0, (THREAD,), wide=True, ignored=DETACHED),),
        "kill": (Is(0, (pid,)),),
        "tgkill": (Is(0, (pid,)),),
        "prlimit64": (Is(0, (0, pid)),),
        "sched_setaffinity": (Is(0, (0, pid)),),
        "prctl": (Is(0, PRCTL),),
        "ioctl": (Is(1, IOCTL),),
        "fcntl": (Is(1, FCNTL),),
        "socketpair": (Is(0, (AF_UNIX,)),),  # an event loop wakes itself with one
        "sendto": (Is(4, (0,), wide=True),),  # to whom it is connected
    }


NETWORK: dict[str, tuple[Is, ...]] = {
    # TCP only: where a datagram goes, each call may say anew.
    "socket": (Is(0, (AF_INET, AF_INET6)), Is(1, (SOCK_STREAM,), ignored=_FULL & ~SOCK_TYPES)),
    "sendmsg": (Is(2, (0,), ignored=_FULL & ~MSG_FASTOPEN),),
}
"""What is allowed besides where code may have a network; each `connect` is asked about."""


def program(machine: str, pid: int, *, network: bool = False) -> bytes:
    """Write the filter of a process.

    Args:
        machine: the processor.
        pid: the process.
        network: whether it may make connections of which the guard is asked.

    Raises:
        NoSeccompError: the numbers of the calls of this processor are not known.
    """
    if machine not in ARCHITECTURES:
        raise NoSeccompError(
            f"the processor {machine!r} is none of {', '.join(ARCHITECTURES)}, whose calls are known"
        )
    lines = [*_architecture(ARCHITECTURES[machine]), _instruction(_LOAD, _NUMBER)]
    for numbers in ALLOWED.values():
        if (number := getattr(numbers, machine)) is not None:
            lines += [_instruction(_EQUAL, number, 0, 1), _instruction(_RETURN, ALLOW)]
    rules = looked_at(pid) | (NETWORK if network else {})
    for name, conditions in rules.items():
        if (number := getattr((LOOKED_AT | REFUSED)[name], machine)) is not None:
            body = list(_checked(conditions))
            lines += [_instruction(_EQUAL, number, 0, len(body)), *body]
    # Unknown, so that the C library makes its threads by the older call, whose flags are seen here.
    lines += [_instruction(_EQUAL, getattr(LOOKED_AT["clone3"], machine), 0, 1), _refuse(ENOSYS)]
    if network:
        lines += [
            _instruction(_EQUAL, getattr(REFUSED["connect"], machine), 0, 1),
            _instruction(_RETURN, ASK),
        ]
    return b"".join([*lines, _refuse(EPERM)])


def _architecture(expected: int) -> Iterator[bytes]:
    """A call by another processor's numbers (32 bit) ends the process."""
    yield _instruction(_LOAD, _ARCHITECTURE)
    yield _instruction(_EQUAL, expected, 1, 0)
    yield _instruction(_RETURN, KILL)


def _checked(conditions: tuple[Is, ...]) -> Iterator[bytes]:
    """Allow a call whose arguments are as they must be, all of them."""
    for rule in conditions:
        low, high = _ARGUMENTS + 8 * rule.argument, _ARGUMENTS + 8 * rule.argument + 4
        if rule.wide:
            yield _instruction(_LOAD, high)
            yield _instruction(_EQUAL, 0, 1, 0)
            yield _refuse(EPERM)
        yield _instruction(_LOAD, low)
        if rule.ignored:
            yield _instruction(_AND, _FULL & ~rule.ignored)
        for at, value in enumerate(rule.values):
            yield _instruction(_EQUAL, value, len(rule.values) - at, 0)
        yield _refuse(EPERM)
    yield _instruction(_RETURN, ALLOW)


def _refuse(error: int) -> bytes:
    return _instruction(_RETURN, ERRNO | error)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


class _Program(ctypes.Structure):
    _fields_: ClassVar = [("length", ctypes.c_ushort), ("lines", ctypes.c_char_p)]


def install(*, network: bool = False) -> int | None:
    """Filter the calls of this process from now on, for ever.

    Returns:
        With a network, the descriptor by which whoever has it is asked about connections.

    Raises:
        NoSeccompError: this kernel does not.
    """
    machine = platform.machine()
    data = program(machine, os.getpid(), network=network)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise NoSeccompError(f"no_new_privs: {os.strerror(ctypes.get_errno())}")
    filter_ = ctypes.byref(_Program(len(data) // 8, data))
    if network:
        number = getattr(REFUSED["seccomp"], machine)
        made = int(libc.syscall(number, _SET_MODE_FILTER, _NEW_LISTENER, filter_))
    else:
        made = int(libc.prctl(_SET_SECCOMP, _FILTER, filter_, 0, 0))
    if made < 0:
        raise NoSeccompError(f"the kernel refuses a filter: {os.strerror(ctypes.get_errno())}")
    return made if network else None
