"""The filter of calls, on both processors, run by a small interpreter of its instructions."""

from __future__ import annotations

import platform
import struct
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
if sys.platform == "linux":
    from promptlab.engine.sandbox import seccomp
    from promptlab.engine.sandbox.seccomp import ALLOW, EPERM, ERRNO, KILL, THREAD, NoSeccompError
    from promptlab.engine.sandbox.syscalls import ALLOWED, LOOKED_AT, REFUSED

MACHINES = ("x86_64", "aarch64")
PID = 4711
OTHER = {"x86_64": 0x40000003, "aarch64": 0x40000028}
"""The 32-bit sisters of the processors (AUDIT_ARCH_I386, AUDIT_ARCH_ARM)."""


def decision(program: bytes, number: int, arguments: tuple[int, ...] = (), architecture: int = 0) -> int:
    """What the kernel would do with a call."""
    padded = [*arguments, *([0] * (6 - len(arguments)))]
    data = struct.pack("=iIQ6Q", number, architecture, 0, *(value & 0xFFFFFFFFFFFFFFFF for value in padded))
    lines = list(struct.iter_unpack("=HBBI", program))
    at, accumulator = 0, 0
    while True:
        code, if_true, if_false, value = lines[at]
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif code == 0x54:
            accumulator &= value
        elif code == 0x15:
            at += if_true if accumulator == value else if_false
        elif code == 0x06:
            return int(value)
        else:
            raise AssertionError(f"an unknown instruction {code:#x}")


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def asked(machine: str, name: str, *arguments: int) -> int:
    """What becomes of a call by its name."""
    table = {**ALLOWED, **LOOKED_AT, **REFUSED}
    number = getattr(table[name], machine)
    return decision(seccomp.program(machine, PID), number, arguments, seccomp.ARCHITECTURES[machine])


def test_every_call_of_the_tables_is_decided(machine: str) -> None:
    for name, numbers in ALLOWED.items():
        if getattr(numbers, machine) is not None:
            assert asked(machine, name, 2**64 - 1, 2**64 - 1) == ALLOW, name
    for name, numbers in REFUSED.items():
        if getattr(numbers, machine) is not None:
            assert asked(machine, name, 1, 1) == ERRNO | EPERM, name


def test_no_call_that_is_in_no_table_is_allowed(machine: str) -> None:
    """Of 1,000 numbers, and of the second set that x86_64 has, only those of the tables."""
    program, known = seccomp.program(machine, PID), seccomp.ARCHITECTURES[machine]
    allowed = {getattr(numbers, machine) for numbers in ALLOWED.values()} - {None}
    looked = {getattr(numbers, machine) for numbers in LOOKED_AT.values()} - {None}
    for number in (*range(1000), *range(0x40000000, 0x40000400), -1):
        given = decision(program, number, (77, 77, 77, 77, 77, 77), known)
        assert (given == ALLOW) == (number in allowed), number
        if number not in allowed | looked:
            assert given == ERRNO | EPERM


def test_another_set_of_numbers_ends_the_process(machine: str) -> None:
    program = seccomp.program(machine, PID)
    for architecture in (OTHER[machine], 0, seccomp.ARCHITECTURES[next(m for m in MACHINES if m != machine)]):
        assert decision(program, 0, (), architecture) == KILL


def test_a_thread_is_made_and_nothing_else(machine: str) -> None:
    assert asked(machine, "clone", THREAD) == ALLOW
    assert asked(machine, "clone", THREAD | 0x00400000) == ALLOW
    for flags in (0, 17, THREAD | 17, THREAD & ~0x10000, THREAD | 0x10000000, THREAD | 2**40, 0x4111):
        assert asked(machine, "clone", flags) == ERRNO | EPERM, hex(flags)
    assert asked(machine, "clone3", 0, 88) == ERRNO | 38


def test_signals_go_to_the_process_itself_only(machine: str) -> None:
    for name in ("kill", "tgkill"):
        assert asked(machine, name, PID, 9) == ALLOW
        for other in (0, 1, -1, -PID, PID + 1):
            assert asked(machine, name, other, 9) == ERRNO | EPERM


def test_limits_and_processors_are_its_own(machine: str) -> None:
    for name in ("prlimit64", "sched_setaffinity"):
        assert asked(machine, name, 0) == asked(machine, name, PID) == ALLOW
        assert asked(machine, name, 1) == asked(machine, name, PID - 1) == ERRNO | EPERM


def test_arguments_are_looked_at(machine: str) -> None:
    refused = ERRNO | EPERM
    assert asked(machine, "fcntl", 3, 3) == ALLOW
    assert {asked(machine, "fcntl", 3, command) for command in (8, 10, 15, 1031, 1033)} == {refused}
    assert asked(machine, "ioctl", 0, 0x5401) == ALLOW
    assert {asked(machine, "ioctl", 0, request) for request in (0x5412, 0x8901, 0x5452)} == {refused}
    assert asked(machine, "prctl", 15) == ALLOW
    assert {asked(machine, "prctl", option) for option in (1, 4, 22, 38, 0x59616D61)} == {refused}
    assert asked(machine, "socketpair", 1, 1) == ALLOW
    assert {asked(machine, "socketpair", family) for family in (0, 2, 10, 16)} == {refused}
    assert asked(machine, "sendto", 3, 1, 1, 0, 0) == ALLOW
    assert asked(machine, "sendto", 3, 1, 1, 0, 2**33) == asked(machine, "sendto", 3, 1, 1, 0, 8) == refused


def test_an_unknown_processor_is_refused_in_words() -> None:
    with pytest.raises(NoSeccompError, match="'riscv64' is none of x86_64, aarch64"):
        seccomp.program("riscv64", PID)


def test_the_filter_is_for_this_machine_or_says_so() -> None:
    if platform.machine() in MACHINES:
        assert len(seccomp.program(platform.machine(), PID)) % 8 == 0
        assert len(seccomp.program(platform.machine(), PID)) // 8 < 4096  # the kernel's bound
