"""The real clock."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime


class SystemClock:
    """The `Clock` port over this machine's time."""

    def now(self) -> str:
        """The time of day, ISO 8601 with microseconds, UTC, ending in Z."""
        return datetime.now(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"

    def monotonic(self) -> float:
        """Seconds from an arbitrary start."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
