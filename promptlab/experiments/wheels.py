"""Fetches the packages that code needs beyond the sandbox's own: wheels for its Python and processor."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from promptlab.domain.code import MAX_WHEEL_BYTES, CodeHost, Wheel
from promptlab.errors import ConfigError
from promptlab.scratch import ScratchFolder

PINNED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(\[[A-Za-z0-9._, -]+\])?==([A-Za-z0-9.!+_-]+)")
WITHIN_S = 300.0
"""How long fetching may take."""
_LOOK_S = 0.25
_ROOM = 3 * MAX_WHEEL_BYTES
"""What lies on the disk while pip works: a download, its copy, and what it tries."""
_GLIBC = (34, 31, 28, 27, 26, 24, 17, 12, 5)
"""Versions of manylinux that run on Amazon Linux 2023, whose C library is 2.34; newest first."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A wheel on this machine."""

    wheel: Wheel
    path: Path
    modules: tuple[str, ...]
    """The names that can be imported from it."""


def normalized(name: str) -> str:
    """A package's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def checked_pins(requirements: Sequence[str]) -> tuple[str, ...]:
    """The requirements without spaces.

    Raises:
        ConfigError: one names no exact version.
    """
    found = []
    for given in requirements:
        text = re.sub(r"\s+", "", given)
        if not PINNED.fullmatch(text):
            raise ConfigError(
                f"requirement {given[:200]!r} is not pinned: write name==version, as in textstat==0.7.4, "
                "so "
                "that the run is the same tomorrow."
            )
        found.append(text)
    return tuple(dict.fromkeys(found))


async def fetch(requirements: Sequence[str], host: CodeHost, folder: Path) -> list[Fetched]:
    """Fetch wheels of packages, and of what these need, into a folder; what the sandbox has is left out.

    It is pip of this Python that fetches, from wherever it is set up to.

    Raises:
        ConfigError: there is no wheel for the sandbox, a version conflicts with what it has, or all together
            are too large.
    """
    pins = checked_pins(requirements)
    for pin in pins:
        _check_host(pin, host)
    wanted = [
        pin for pin in pins if normalized(pin.partition("==")[0].partition("[")[0]) not in host.packages
    ]
    if not wanted:
        return []
    with ScratchFolder() as work:
        constraints = work / "constraints.txt"
        lines = [f"{name}=={version}\n" for name, version in sorted(host.packages.items())]
        await asyncio.to_thread(constraints.write_text, "".join(lines), "utf-8")
        await _pip(_arguments(wanted, host, constraints, folder), work, folder, wanted, host)
    found = await asyncio.to_thread(lambda: [_described(path) for path in sorted(folder.iterdir())])
    kept = [one for one in found if normalized(one.wheel.file_name.split("-")[0]) not in host.packages]
    total = sum(one.wheel.size_bytes for one in kept)
    if total > MAX_WHEEL_BYTES:
        raise ConfigError(_too_large(wanted, f"{total / 2**20:.0f} MB"))
    return kept


def _check_host(pin: str, host: CodeHost) -> None:
    name, _, version = pin.partition("==")
    has = host.packages.get(normalized(name.partition("[")[0]))
    if has is not None and has != version:
        raise ConfigError(
            f"requirement {pin}: the hosted lab has {name} {has} itself, and cannot have both. Write "
            f"{name}=={has}, "
            "or leave it out."
        )


def _arguments(wanted: Sequence[str], host: CodeHost, constraints: Path, folder: Path) -> list[str]:
    machine = "aarch64" if host.machine in ("arm64", "aarch64") else "x86_64"
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in _GLIBC if minor >= 17 or machine == "x86_64"]
    platforms += [f"manylinux2014_{machine}", f"linux_{machine}"]
    return [
        *("download", "--quiet", "--disable-pip-version-check", "--no-input", "--only-binary=:all:"),
        *(part for platform in platforms for part in ("--platform", platform)),
        *("--python-version", host.python, "--implementation", "cp"),
        *("--constraint", str(constraints), "--dest", str(folder), *wanted),
    ]


async def _pip(
    arguments: Sequence[str], work: Path, folder: Path, wanted: Sequence[str], host: CodeHost
) -> None:
    """Run pip until it ends, takes too long or has fetched too much.

    Raises:
        ConfigError: it failed, or was ended.
    """
    environment = {**os.environ, "TMPDIR": str(work), "TMP": str(work), "TEMP": str(work)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pip", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
    )
    assert process.stdout is not None
    reading = asyncio.create_task(_last_lines(process.stdout))
    try:
        async with asyncio.timeout(WITHIN_S):
            while not reading.done():
                await asyncio.wait([reading], timeout=_LOOK_S)
                if await asyncio.to_thread(_size, work, folder) > _ROOM:
                    raise ConfigError(_too_large(wanted, f"more than {_ROOM >> 20} MB"))
            code = await process.wait()
    except TimeoutError:
        raise ConfigError(
            f"Fetching {', '.join(wanted)} took longer than {WITHIN_S:.0f} s: look at the network, or have "
            "the "
            "wheels in a folder and set PIP_FIND_LINKS to it."
        ) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        reading.cancel()
    if code:
        raise ConfigError(_failed(wanted, host, reading.result()))


async def _last_lines(stream: asyncio.StreamReader) -> str:
    """The end of what a process says; the rest is read, too, or it would wait."""
    kept = b""
    while part := await stream.read(1 << 16):
        kept = (kept + part)[-8_000:]
    return kept.decode("utf-8", "replace")


def _failed(wanted: Sequence[str], host: CodeHost, said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR") or "conflict" in line]
    shown = " ".join(dict.fromkeys(errors or lines[-3:]))[:600]
    if "No module named pip" in said:
        return (
            f"Fetching {', '.join(wanted)} needs pip in this environment: {Path(sys.executable).name} -m "
            "ensurepip, "
            "or `uv pip install pip`."
        )
    where = f"Python {host.python} on {host.machine}"
    if "conflict" in said or "ResolutionImpossible" in said:
        remedy = "Choose versions that go with what the hosted lab has."
    elif "No matching distribution" in said:
        remedy = (
            "Look whether this version exists, and has a wheel and not only source: build one yourself (pip "
            "wheel) "
            "and set PIP_FIND_LINKS to its folder, or choose another version."
        )
    else:
        remedy = "pip says why."
    return f"{', '.join(wanted)} cannot be had as wheels for the hosted lab ({where}). {remedy} {shown}"


def _too_large(wanted: Sequence[str], size: str) -> str:
    return (
        f"The packages {', '.join(wanted)}, with what they need, are {size}; at most "
        f"{MAX_WHEEL_BYTES >> 20} MB "
        "can be sent. Name smaller ones, or run the experiment here with a local store."
    )


def _size(*folders: Path) -> int:
    total = 0
    for folder in folders:
        for place, _, names in os.walk(folder):
            for name in names:
                try:
                    total += (Path(place) / name).stat().st_size
                except OSError:  # pip has moved it
                    continue
    return total


def _described(path: Path) -> Fetched:
    from zipfile import BadZipFile, ZipFile

    if path.suffix != ".whl":
        raise ConfigError(f"{path.name} is no wheel: only wheels are sent. Build one with pip wheel.")
    try:
        with ZipFile(path) as archive:
            names = archive.namelist()
    except BadZipFile:
        raise ConfigError(f"{path.name} is damaged: remove it from pip's cache (pip cache purge).") from None
    tops = {name.split("/")[0] for name in names}
    modules = {re.sub(r"(\.[\w-]+)?\.(py|so)$", "", top) for top in tops}
    data = path.read_bytes()
    wheel = Wheel(file_name=path.name, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
    return Fetched(wheel, path, tuple(sorted(m for m in modules if m.isidentifier())))
