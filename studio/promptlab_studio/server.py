"""Serves the Studio from this machine."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from promptlab.errors import ConfigError, PortInUseError
from promptlab.jobs import TaskStarter
from promptlab.loading import setting_aside
from promptlab.store_lab import StoreLab
from promptlab_studio.app import create_app
from promptlab_studio.auth import LaptopAuth
from promptlab_studio.pages.rendering import warm

_NEXT_PORTS = 100
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


async def serve(
    lab: StoreLab,
    *,
    port: int = 8000,
    host: str = "127.0.0.1",
    token: str | None = None,
    on_listening: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve the Studio until Ctrl-C, SIGTERM or cancellation; requests under way are answered first.

    Args:
        lab: what to serve.
        port: where to listen.
        host: the address to listen on, one of this machine.
        token: what programs may send as bearer; None: only browsers get in.
        on_listening: called with an address that opens one session, once the Studio answers there, and with
        the next
            one when that was used.

    Raises:
        PortInUseError: something else listens on the port; the message names the next free one.
        ConfigError: the address is not of this machine alone, and nobody has to log in.
    """
    if host not in LOOPBACK:
        raise ConfigError(
            f"Cannot serve on {host}: this Studio speaks plain http and has no accounts, so it serves this "
            "machine only (--host 127.0.0.1). "
            f"From another machine: ssh -L {port}:127.0.0.1:{port} here."
        )
    listener = bind(host, port)
    # A second for open connections: a page that polls must not hold the door open.
    origin = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    auth = LaptopAuth(port, token=token, on_opened=lambda code: on_listening(f"{origin}/open?code={code}"))
    app = create_app(lab, auth=auth)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=1
    )
    server = _Server(config, lambda: on_listening(f"{origin}/open?code={auth.code}"))
    with setting_aside() as set_aside:
        warming = asyncio.create_task(_warm(app, set_aside))
        try:
            await server.serve(sockets=[listener])
        except asyncio.CancelledError:
            server.should_exit = True
            await server.shutdown(sockets=[listener])
            raise
        finally:
            listener.close()
            warming.cancel()
            await asyncio.gather(warming, return_exceptions=True)
            if isinstance(starter := app.state.starter, TaskStarter):
                await starter.close()
            await lab.close()


async def _warm(app: FastAPI, set_aside: Callable[[], None]) -> None:
    await warm(app)
    set_aside()


class _Server(uvicorn.Server):
    """Ends on Ctrl-C and SIGTERM like a function that returns: uvicorn would raise the signal once more."""

    def __init__(self, config: uvicorn.Config, on_listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_listening()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals():
            yield
            self._captured_signals.clear()


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        PortInUseError: something else listens on the port, or it may not be used.
    """
    try:
        return _listen(host, port)
    except OSError as error:
        free = next((p for p in range(port + 1, min(port + _NEXT_PORTS, 65536)) if _is_free(host, p)), None)
        hint = f" Port {free} is free: --port {free}, or pl.studio.start({free})." if free else ""
        raise PortInUseError(f"Cannot serve on {host}:{port}: {error.strerror}.{hint}") from None


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio turns off Nagle's algorithm for its connections; without, the end of
    # each answer waited for the browser's acknowledgement of its beginning: 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def _is_free(host: str, port: int) -> bool:
    try:
        _listen(host, port).close()
    except OSError:
        return False
    return True
