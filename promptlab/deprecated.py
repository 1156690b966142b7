"""Warns of what a newer line has replaced, at the user's own line."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

PAGE = "docs/from-promptlab-0.1.md"
"""The page that shows the new line for each old one."""
_PASSED_OVER = (
    "promptlab",
    "promptlab_studio",
    "pydantic",
    "asyncio",
    "importlib",
    "concurrent",
    "threading",
)


def warn_old(old: str, new: str) -> None:
    """Warn with a DeprecationWarning that `old` is written `new` now, at the innermost
    line of the user's code."""
    message = f"{old} is of promptlab 0.1; write {new} ({PAGE})"
    frame = _users_frame()
    if frame is None:
        warnings.warn(message, DeprecationWarning, stacklevel=3)
        return
    names = frame.f_globals
    warnings.warn_explicit(
        message,
        DeprecationWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=str(names.get("__name__", "__main__")),
        registry=names.setdefault("__warningregistry__", {}),
    )


def _users_frame() -> FrameType | None:
    """Give the innermost frame that is neither PromptLab's nor of what calls it."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package not in _PASSED_OVER and not frame.f_code.co_filename.startswith("<frozen"):
            return frame
        frame = frame.f_back
    return None
