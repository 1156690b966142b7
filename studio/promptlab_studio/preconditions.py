"""If-Match: a change is made only to what its sender has seen, for everything that GET gives with an ETag."""

from __future__ import annotations

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import Message

from promptlab.errors import RunChangedError
from promptlab_studio.access import part
from promptlab_studio.bounds import Bounded, matches

METHODS = frozenset({"PUT", "PATCH", "DELETE"})
"""Methods that If-Match holds for: those that change what has the address."""
_OF_THE_CHANGE = ("if-match", "if-none-match", "content-type", "content-length", "transfer-encoding", "range")


async def check_match(request: Request) -> None:
    """Hold the ETags of If-Match against that which the caller's GET of the same address would have now.

    Raises:
        RunChangedError: the run has another.
        HTTPException: 412: it has another, or none.
        PromptLabError: it cannot be read, or is not there.
    """
    wanted = ",".join(request.headers.getlist("if-match"))
    if not wanted or request.method not in METHODS:
        return
    now = await _etag(request)
    if now is None:
        raise HTTPException(412, "This has no ETag that If-Match could be held against: leave If-Match out.")
    if matches(wanted, now):
        return
    if "run_id" in request.path_params:
        raise RunChangedError(request.path_params["run_id"])
    raise HTTPException(412, "This is no longer what If-Match says: read it again. Nothing was done.")


async def _etag(request: Request) -> str | None:
    """The ETag of what a request is about, or None where nothing has one.

    The route of GET is asked itself, so that what may be changed has the tag that its readers see.
    """
    scope = {**request.scope, "method": "GET", "headers": [*request.scope["headers"]]}
    scope["state"] = {**scope.get("state", {})}
    part(scope)  # the audit is to have the change, and not the look
    # Errors of reading are this request's own.
    scope["starlette.exception_handlers"] = ({}, {})
    headers = MutableHeaders(scope=scope)
    for name in _OF_THE_CHANGE:
        del headers[name]
    found: list[str] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            found.extend(MutableHeaders(raw=message["headers"]).getlist("etag"))

    try:
        await Bounded(request.app.router, streaming=False)(scope, receive, send)
    except HTTPException as error:
        if error.status_code != 405:
            raise
    return found[0] if found else None
