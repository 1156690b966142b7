"""The admin token: the one that a stack is deployed with, for the first hour and for emergencies."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Awaitable, Callable

from promptlab.clock import SystemClock
from promptlab.errors import ConfigError
from promptlab.ports import Clock

MAX_AGE_S = 60.0
"""How long a token that was read is believed: one that is replaced is dead after this, and its sessions."""
ABSENT_S = 2.0
"""The same where there is none: somebody is about to make one."""
MIN_CHARS = 16
logger = logging.getLogger(__name__)


def sha(text: str) -> str:
    """The SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class AdminToken:
    """The token, or where it is read; only its hash is kept.

    Args:
        token: the token itself, or a function that reads it (None: there is none), which is called at most
            every MAX_AGE_S, and only while somebody uses the token or a session that it opened.
        clock: the time.

    Raises:
        ConfigError: the token is too short to keep anybody out.
    """

    def __init__(
        self, token: str | Callable[[], Awaitable[str | None]], *, clock: Clock | None = None
    ) -> None:
        self._clock = clock or SystemClock()
        self._read_at, self._digest = float("-inf"), None
        self._read: Callable[[], Awaitable[str | None]] | None = None
        if isinstance(token, str):
            if len(token) < MIN_CHARS:
                raise ConfigError(
                    f"The Studio's token has {len(token)} characters: at least {MIN_CHARS} are needed, as "
                    "secrets.token_urlsafe() makes them."
                )
            self._digest = sha(token)
        else:
            self._read = token

    async def digest(self) -> str | None:
        """The hash of the token that is valid; None where there is none.

        What goes wrong with reading it is raised: an old one is not believed any longer for that.
        """
        max_age_s = MAX_AGE_S if self._digest else ABSENT_S
        if self._read is not None and self._clock.monotonic() - self._read_at >= max_age_s:
            began = self._clock.monotonic()
            token = await self._read()
            if token is not None and len(token) < MIN_CHARS:
                logger.error("the admin token has fewer than %s characters: it opens nothing", MIN_CHARS)
                token = None
            self._digest, self._read_at = (None if token is None else sha(token)), began
        return self._digest

    async def accepts(self, digest: str) -> bool:
        """Whether it is the token's hash; takes the same time for every wrong one."""
        mine = await self.digest()
        return mine is not None and hmac.compare_digest(digest, mine)
