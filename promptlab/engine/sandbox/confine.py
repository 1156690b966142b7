"""Takes from a process, for ever, all that code of users has no use for."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import socket
import stat
import struct
import sys
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptlab.engine.sandbox import landlock, seccomp

MB = 1 << 20
_SEEN_WITH_NETWORK = (
    "/etc/ca-certificates",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/pki",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl",
)
"""How names are found, and whose certificates are believed."""
_DEATH_SIGNAL, _SET_DUMPABLE, _DROP_BOUND, _AMBIENT, _CLEAR_AMBIENT = 1, 4, 24, 47, 4
_CAPABILITIES = 41
_CAPABILITIES_3 = 0x20080522
_SEEN = (
    "/dev/null",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
    "/etc/localtime",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/loadavg",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/sys/fs/cgroup",
    "/usr",
    "/lib",
    "/lib64",
)
"""What Python and its libraries read, besides themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a child may have at most."""

    memory_bytes: int = 1024 * MB
    """Address space."""
    file_bytes: int = 64 * MB
    """One file that it writes."""
    folder_bytes: int = 448 * MB
    files: int = 20_000
    """What it may keep in its folder. The guard measures it: the kernel has no such limit."""
    open_files: int = 128
    cpu_s: int = 7200
    """Processor time of all its life; what a case may take is the guard's clock."""
    threads: int | None = None
    """Threads besides those that its user has already; None where that user has other programs."""


def protect() -> None:
    """Let no other process of this user read this one's memory or environment."""
    _prctl(_SET_DUMPABLE, 0)


def die_with_parent(parent: int) -> None:
    """End this process when its parent ends."""
    _prctl(_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def confine(
    folder: Path, limits: Limits, keep: Collection[int], gate: socket.socket | None = None
) -> dict[str, Any]:
    """Confine this process, and make sure that it is.

    Args:
        folder: the only one that it may write to.
        limits: what it may have at most.
        keep: the descriptors that stay open.
        gate: where the guard waits for that by which it is asked about connections; without it there are
            none.

    Returns:
        What holds it, for those who ask.

    Raises:
        NoSeccompError: the kernel does not filter calls, or the filter does not work.
        OSError: something else was refused.
    """
    _close_all_but(keep)
    os.environ.clear()
    tempfile.tempdir = str(folder)
    os.chdir(folder)
    os.umask(0o077)
    sys.argv[:] = [""]
    # Its own files in /proc are its user's again: nobody is above it who would be asked.
    _prctl(_SET_DUMPABLE, 1)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    _limit(limits)
    _drop_capabilities()
    _prctl(38, 1)
    walls = landlock.restrict(_readable(gate is not None), [Path("/dev/null")], [folder])
    listener = seccomp.install(network=gate is not None)
    _check(folder)
    if gate is not None and listener is not None:
        os.environ["RES_OPTIONS"] = "use-vc"  # names are asked for over TCP: there are no datagrams
        socket.send_fds(gate, [b"listener"], [listener])
        os.close(listener)
        gate.close()
    return {"seccomp": True, "landlock": walls, "network": gate is not None}


def _close_all_but(keep: Collection[int]) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    first = 3
    for kept in sorted(keep):
        os.closerange(first, kept)
        first = kept + 1
    os.closerange(first, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _limit(limits: Limits) -> None:
    wanted = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ]
    if limits.threads is not None:
        wanted.append((resource.RLIMIT_NPROC, _threads_of(os.getuid()) + limits.threads))
    for kind, most in wanted:
        hard = resource.getrlimit(kind)[1]
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (bound, bound))
    # A file that is too large is an error that the code sees, and not the end of the process.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def _threads_of(user: int) -> int:
    found = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if entry.stat().st_uid == user or (entry / "task").stat().st_uid == user:
                    found += len(list((entry / "task").iterdir()))
    return found


def _drop_capabilities() -> None:
    """Give up what root may do; others have nothing to give up."""
    libc = ctypes.CDLL(None, use_errno=True)
    for number in range(_CAPABILITIES):
        libc.prctl(_DROP_BOUND, number, 0, 0, 0)
    libc.prctl(_AMBIENT, _CLEAR_AMBIENT, 0, 0, 0)
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITIES_3, 0))
    if libc.capset(header, ctypes.create_string_buffer(24)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"capset: {os.strerror(error)}")


def _readable(network: bool) -> Iterator[Path]:
    yield from map(Path, (*_SEEN, *(_SEEN_WITH_NETWORK if network else ())))
    yield Path("/proc/self").resolve()
    for name in {sys.prefix, sys.base_prefix, *filter(None, sys.path)}:
        if (path := Path(name)) != Path("/"):
            yield path


def _check(folder: Path) -> None:
    """Try what must fail, and what must work.

    Raises:
        NoSeccompError: the filter does not hold.
    """
    for what, attempt in (("a socket", _socket), ("a process", os.fork)):
        try:
            made = attempt()
        except PermissionError:
            continue
        if what == "a process" and made == 0:
            os._exit(0)
        raise seccomp.NoSeccompError(f"the filter of calls is in place, and yet {what} could be made")
    if not stat.S_ISDIR(folder.stat().st_mode):
        raise seccomp.NoSeccompError(f"{folder} is no folder")


def _socket() -> int:
    with socket.socket(socket.AF_UNIX) as made:
        return made.fileno()


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}): {os.strerror(error)}")
