"""The SDK's Studio: `PromptLab().studio`."""

from __future__ import annotations

import os
from contextlib import suppress

from promptlab.lab import Lab
from promptlab.sdk.speaking import say
from promptlab.sync import run_here


class Studio:
    """The web Studio."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def start(self, port: int = 8000, *, host: str = "127.0.0.1") -> None:
        """Serve the Studio until Ctrl-C.

        The address that is printed opens the Studio in one browser; when it was used, the next is printed.
        Programs send the value of PROMPTLAB_STUDIO_TOKEN as bearer, where that is set.

        Raises:
            PortInUseError: something else listens on the port.
            ConfigError: the lab is a hosted Studio already, or the address is not of this machine alone.
        """
        # Not through `run_sync`: the server takes Ctrl-C itself, which Python delivers to the main thread.
        with suppress(KeyboardInterrupt):
            run_here(self.start_async(port, host=host))

    async def start_async(self, port: int = 8000, *, host: str = "127.0.0.1") -> None:
        """As `start`; ends cleanly when cancelled."""
        from promptlab_studio.auth import TOKEN
        from promptlab_studio.server import serve

        lab, told = self._lab.to_serve(), False

        def listening(address: str) -> None:
            # Also where all else is quiet: there is no other way in.
            nonlocal told
            say(
                f"For another browser: {address}"
                if told
                else f"The Studio of {self._lab.where}: {address} (Ctrl-C ends it)"
            )
            told = True

        token = os.environ.get(TOKEN) or None
        await serve(lab, port=port, host=host, token=token, on_listening=listening)
