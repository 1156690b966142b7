"""How the API reads the bodies of requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.responses import Response

from promptlab.assets.json_rows import body_fault
from promptlab_studio.access import Needs, declared
from promptlab_studio.preconditions import check_match


class Exact(APIRoute):
    """A route that refuses a body which would not be read as it is written (an object has a key twice, an
    integer more than 64 bits), or which takes too long to read; and a change of what is no longer as its
    sender saw it (If-Match)."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            # Before the body is read: who may not send it is told so, whatever is in it.
            if isinstance(needed := declared(self), Needs):
                await needed(request)
            await check_match(request)
            if self.body_field is not None and (body := await request.body()):
                # In a thread: reading 5 MB once more takes longer than other requests should wait.
                fault = await asyncio.to_thread(body_fault, body)
                if fault is not None:
                    raise RequestValidationError([{"type": "value_error", "loc": ("body",), "msg": fault}])
            return await handle(request)

        return checked
