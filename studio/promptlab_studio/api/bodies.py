"""How the API reads the bodies of requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.responses import Response

from promptlab.assets.json_rows import clip, repeated_key


class EachKeyOnce(APIRoute):
    """A route that refuses a body in which an object has a key twice: JSON's reader would
    drop one of the values."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            if self.body_field is not None and (body := await request.body()):
                # In a thread: reading 5 MB once more takes longer than other requests should wait.
                key = await asyncio.to_thread(repeated_key, body)
                if key is not None:
                    message = (
                        f"the key {clip(repr(key))} is there twice in one object. Rename one, or "
                        "leave it out."
                    )
                    raise RequestValidationError([{"type": "value_error", "loc": ("body",), "msg": message}])
            return await handle(request)

        return checked
