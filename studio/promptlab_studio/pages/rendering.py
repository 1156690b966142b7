"""Renders pages: the whole page for a browser, only the asked-for part of it for htmx."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from promptlab_studio.security import MAX_FORM_ADDRESS_BYTES
from promptlab_studio.templating import environment

TOAST_COOKIE = "pl_toast"
_MOST_SAID = 600


def router() -> APIRouter:
    """A router for pages; the app asks who it is before any of them."""
    return APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


async def warm(app: FastAPI) -> None:
    """Load what the first page would wait for (some 500 ms): DuckDB and the compiled templates."""
    await asyncio.gather(app.state.lab.warm(), asyncio.to_thread(_compile_templates))


def _compile_templates() -> None:
    for name in environment().list_templates(extensions=["html"]):
        environment().get_template(name)


def target_of(request: Request) -> str:
    """The id of the element that htmx will replace; empty where the whole page is asked for."""
    return request.headers.get("HX-Target", "") if is_part(request) else ""


def is_part(request: Request) -> bool:
    """Whether htmx asks for a part of the page; going back in history it asks for the whole."""
    return "HX-Request" in request.headers and "HX-History-Restore-Request" not in request.headers


def render(
    request: Request,
    template: str,
    context: Mapping[str, Any],
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> HTMLResponse:
    """A page, or that block of it whose name is the id of the element that htmx will replace."""
    page = environment().get_template(template)
    block = target_of(request)
    part = block in page.blocks
    values = {"request": request, "part": part, **context}
    text = "".join(page.blocks[block](page.new_context(values))) if part else page.render(values)
    return HTMLResponse(text, status, {"Vary": "HX-Request, HX-Target", **(headers or {})})


def go_to(url: str, said: str = "", kind: Literal["done", "problem"] = "done") -> Response:
    """Send the browser to another page after a change, with a message that it shows there; to the first page,
    where the other's name is longer than an address."""
    answer = RedirectResponse(url if len(url) <= MAX_FORM_ADDRESS_BYTES else "/", 303)
    if said:
        # A slash is none of the characters of a cookie: the value came in quotes, and they were shown.
        told = quote(f"{kind}|{said[:_MOST_SAID]}", safe="")
        answer.set_cookie(TOAST_COOKIE, told, max_age=30, samesite="lax")
    return answer
