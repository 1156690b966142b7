"""The confined process of one answer's code: takes code and tests, and says whether they ran."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson

from promptlab.engine.sandbox.confine import Limits, confine, protect

MOST_WHY = 800


def serve(folder: str, memory_bytes: int, cpu_s: int) -> None:
    """Confine this process, and then run what it is sent."""
    source, sink = os.dup(0), os.dup(1)
    protect()
    try:
        confine(
            Path(folder),
            Limits(memory_bytes=memory_bytes, file_bytes=8 << 20, open_files=32, cpu_s=cpu_s),
            (source, sink),
        )
    except BaseException as error:  # noqa: BLE001 - whatever it is, nothing may run
        os.write(sink, f"{type(error).__name__}: {error}".replace("\n", " ").encode()[:500] + b"\n")
        os._exit(1)
    os.write(sink, b"confined\n")
    data = b""
    while piece := os.read(source, 1 << 16):
        data += piece
    asked = orjson.loads(data)
    os.write(sink, orjson.dumps(ran(asked["code"], asked["tests"])) + b"\n")
    os._exit(0)


def ran(code: str, tests: str) -> dict[str, Any]:
    """Run code and then its tests, in this process; give whether they `passed`, and else `why` not."""
    module, before = ModuleType("__main__"), sys.modules["__main__"]
    sys.modules["__main__"] = module  # where dataclasses and typing look up what the code names
    try:
        for what, text in (("the code", code), ("the tests", tests)):
            try:
                # Without the `from __future__` of this file, which would make texts of annotations.
                exec(compile(text, what.removeprefix("the "), "exec", dont_inherit=True), vars(module))
            except BaseException as error:  # noqa: BLE001 - a model's code may raise anything
                return {"passed": False, "why": _why(what, text, error)}
        return {"passed": True}
    finally:
        sys.modules["__main__"] = before


def _why(what: str, text: str, error: BaseException) -> str:
    try:
        said = f"{what}: {type(error).__name__}: {error}"
    except BaseException:  # noqa: BLE001 - it may be of a class of the code's own
        said = f"{what}: {type(error).__name__}"
    line, at = None, error.__traceback__
    while at is not None:
        if at.tb_frame.f_code.co_filename == what.removeprefix("the "):
            line = at.tb_lineno
        at = at.tb_next
    lines = text.splitlines()
    if line is not None and 0 < line <= len(lines):
        said += f" (line {line}: {lines[line - 1].strip()[:200]})"
    return said[:MOST_WHY].encode("utf-8", "replace").decode()
