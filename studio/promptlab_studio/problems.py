"""Every error of the Studio in one shape: problem details (RFC 9457), or a page for a
browser that asked for one."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Match

from promptlab.adapters.http.problems import INVALID, MEDIA_TYPE, URN, members_of, problem_kind
from promptlab.assets.json_rows import clip
from promptlab.domain.masking import hide_text
from promptlab.errors import (
    AuthenticationError,
    DatasetError,
    PromptLabError,
    StoreBusyError,
    TooManyJobsError,
    TooManyTriesError,
)

API = "/api/"
BY_REFERENCE, AS_FIELDS = "by reference", "as fields"
BY_CODE, AS_MODEL = "by code", "as a model"
"""Tags of unions: pydantic puts them into the paths of errors, where they are no fields."""
TAGS = frozenset({BY_REFERENCE, AS_FIELDS, BY_CODE, AS_MODEL})
RETRY_AFTER_S = "5"
"""When it makes sense to ask a busy store again, in seconds."""
MOST_LISTED = 50
"""How many problems one answer lists."""
MOST_SAID = 20_000
"""Characters of one error: some name what was sent, which may be megabytes."""
_LINE = re.compile(r", (?:line|row) ([\d,]+)")
logger = logging.getLogger(__name__)


def problem(
    request: Request,
    status: int,
    detail: str,
    *,
    type: str = "about:blank",
    title: str | None = None,
    headers: Mapping[str, str] | None = None,
    members: Mapping[str, Any] | None = None,
) -> Response:
    """An error as a response: problem details, or a page where a browser wants a page."""
    body = {
        "type": type,
        "title": title or HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": request.url.path,
        **(members or {}),
    }
    if _wants_page(request):
        return page(request, "problem.html", {"problem": body}, status=status, headers=headers)
    return Response(
        orjson.dumps(body, default=str),
        status_code=status,
        headers=dict(headers or {}),
        media_type=MEDIA_TYPE,
    )


def page(
    request: Request,
    template: str,
    values: Mapping[str, Any],
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> HTMLResponse:
    """A whole page, from the templates that all pages share."""
    from promptlab_studio.templating import environment

    return HTMLResponse(
        environment().get_template(template).render(request=request, **values), status, dict(headers or {})
    )


def _wants_page(request: Request) -> bool:
    return (
        not request.url.path.startswith(API)
        and "text/html" in request.headers.get("accept", "")
        and "hx-request" not in request.headers
    )


def add_handlers(app: FastAPI) -> None:
    """Give every exception of the app its response."""
    app.add_exception_handler(PromptLabError, _ours)  # type: ignore[arg-type]
    app.add_exception_handler(AuthenticationError, _unauthenticated)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _invalid)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _http)  # type: ignore[arg-type]


async def _ours(request: Request, error: PromptLabError) -> Response:
    kind, members = problem_kind(error), members_of(error)
    lines = (
        [(text, found) for text in str(error).splitlines() if (found := _LINE.search(text))]
        if isinstance(error, DatasetError)
        else []
    )
    if lines:
        members["errors"] = [
            {"field": "upload", "line": int(found[1].replace(",", "")), "message": text}
            for text, found in lines
        ]
    return problem(
        request,
        kind.status,
        clip(hide_text(str(error)), MOST_SAID),
        type=URN + kind.code,
        title=kind.title,
        members=members,
        headers=_come_back(error),
    )


def _come_back(error: PromptLabError) -> dict[str, str] | None:
    if isinstance(error, TooManyTriesError):
        return {"Retry-After": str(error.wait_s)}
    passes = isinstance(error, StoreBusyError | TooManyJobsError)
    return {"Retry-After": RETRY_AFTER_S} if passes else None


def answer_busy(
    app: FastAPI, kinds: Sequence[type[Exception]], is_busy: Callable[[BaseException], bool]
) -> None:
    """Answer errors of a store's own library that pass by themselves with 503 and Retry-After.

    Args:
        app: the Studio.
        kinds: the classes that such errors have.
        is_busy: whether an error of these classes is one of them.
    """

    async def answer(request: Request, error: Exception) -> Response:
        if not is_busy(error):
            raise error
        logger.warning("the store is busy at %s %s: %s", request.method, request.url.path, error)
        said = StoreBusyError(f"The store is busy. Try again in {RETRY_AFTER_S} seconds.")
        return await _ours(request, said)

    for kind in kinds:
        app.add_exception_handler(kind, answer)


async def _unauthenticated(request: Request, error: AuthenticationError) -> Response:
    """401 for programs; a browser is sent to the login form, and back afterwards."""
    kind, path = problem_kind(error), request.url.path
    if path.startswith(API):
        return problem(
            request,
            401,
            str(error),
            type=URN + kind.code,
            title=kind.title,
            headers={"WWW-Authenticate": "Bearer"},
        )
    if "hx-request" in request.headers:
        return Response(status_code=401, headers={"HX-Redirect": "/login"})
    wanted = path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(
        f"/login?next={quote(wanted, safe='/')}" if request.method == "GET" else "/login", status_code=303
    )


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    listed = field_errors(error.errors())
    detail = "This request is not valid: " + "; ".join(
        f"{item['field']}: {item['message']}" if item["field"] else item["message"] for item in listed[:3]
    )
    return problem(
        request, 422, detail, type=URN + INVALID, title="The request is not valid", members={"errors": listed}
    )


def field_errors(found: Sequence[Any]) -> list[dict[str, str]]:
    """List validation errors by field, without the values that were sent: one may be a key.

    A body can have a hundred thousand unknown fields, with names of megabytes: the first MOST_LISTED errors
    are listed.
    """
    listed: list[dict[str, str]] = []
    for number, item in enumerate(found):
        if len(listed) == MOST_LISTED:
            return [*listed, {"field": "", "message": f"and {len(found) - number:,} more"}]
        path = [clip(str(part), 200) for part in item["loc"] if part not in TAGS]
        if item["type"] == "json_invalid":
            message = f"not valid JSON at character {path[-1]}: {item['ctx']['error']}"
            path = []
        else:
            message = {"extra_forbidden": "unknown field", "missing": "is required"}.get(
                item["type"], str(item["msg"]).removeprefix("Value error, ")
            )
        # The place (body, query, path, header) says nothing where there is one body only.
        field = ".".join(path[1:] if path[:1] == ["body"] else path)
        entry = {"field": field, "message": clip(message, MOST_SAID // MOST_LISTED)}
        if entry not in listed:
            listed.append(entry)
    return listed


async def _http(request: Request, error: HTTPException) -> Response:
    status = HTTPStatus(error.status_code)
    details = {
        404: f"There is nothing at {request.url.path}.",
        405: f"{request.method} is not allowed at {request.url.path}.",
    }
    standard = error.detail == status.phrase
    headers = {"Allow": ", ".join(_methods(request))} if error.status_code == 405 else error.headers
    return problem(
        request,
        error.status_code,
        details.get(error.status_code, status.description) if standard else str(error.detail),
        headers=headers,
    )


def _methods(request: Request) -> list[str]:
    """The methods that a path has, of all of its routes: the router's own answer knows the first one only.

    Of a path that is a route of its own (/datasets/uploads), those; a dataset may have that name, too.
    """
    own = {
        method
        for route in iter_route_contexts(request.app.routes)
        if route.path == request.url.path
        for method in route.methods or ()
    }

    def has(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.router.routes)

    return [
        method
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
        if (method in own if own else has(method))
    ]
