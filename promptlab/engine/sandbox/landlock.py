"""Which files a process may see (Landlock), where the kernel has it: a wall beside the filter of calls."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on every processor
_VERSION, _BENEATH = 1, 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 1 << 1, 1 << 2, 1 << 3
_ACTIONS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many actions on files each version knows; a later one as many as the last."""
_CONNECT_AND_BIND = 3
_SCOPES = 3
"""No abstract sockets and no signals outside."""


def version() -> int:
    """The version that the kernel has; 0 where it has none."""
    libc = ctypes.CDLL(None, use_errno=True)
    found = int(libc.syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(_VERSION)))
    return max(found, 0)


def restrict(read: Iterable[Path], write: Iterable[Path], change: Iterable[Path]) -> int:
    """Let this process see no other files from now on; give the version that does that, 0 where none does.
    It must have given up new privileges before.

    Args:
        read: files and folders that may be read, and what of them be mapped to be run.
        write: files that may be written, too.
        change: folders in which everything is allowed.

    Raises:
        OSError: the kernel has it and refuses.
    """
    if not (known := version()):
        return 0
    everything = (1 << _ACTIONS[min(known, 5)]) - 1
    libc = ctypes.CDLL(None, use_errno=True)
    attributes = struct.pack(
        "=QQQ", everything, _CONNECT_AND_BIND if known >= 4 else 0, _SCOPES if known >= 6 else 0
    )
    size = 8 if known < 4 else 16 if known < 6 else 24
    rules = _called(libc, _CREATE, ctypes.c_char_p(attributes), ctypes.c_size_t(size), ctypes.c_uint(0))
    looking = _READ_FILE | _READ_DIR | _EXECUTE
    try:
        for paths, allowed in ((read, looking), (write, looking | _WRITE_FILE), (change, everything)):
            for path in paths:
                _allow(libc, rules, path, allowed)
        _called(libc, _RESTRICT, ctypes.c_int(rules), ctypes.c_uint(0))
    finally:
        os.close(rules)
    return known


def _allow(libc: ctypes.CDLL, rules: int, path: Path, allowed: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there cannot be seen either
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            allowed &= _EXECUTE | _WRITE_FILE | _READ_FILE
        rule = struct.pack("=Qi", allowed, descriptor)
        _called(
            libc, _ADD, ctypes.c_int(rules), ctypes.c_int(_BENEATH), ctypes.c_char_p(rule), ctypes.c_uint(0)
        )
    finally:
        os.close(descriptor)


def _called(libc: ctypes.CDLL, number: int, *arguments: object) -> int:
    found = int(libc.syscall(ctypes.c_long(number), *arguments))
    if found < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"landlock: {os.strerror(error)}")
    return found
