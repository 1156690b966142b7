"""The app: the same routes on a laptop and on Lambda."""

from __future__ import annotations

from functools import cache, partial
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.staticfiles import StaticFiles
from starlette.routing import BaseRoute

from promptlab.jobs import Starter, TaskStarter
from promptlab.store_lab import StoreLab
from promptlab.webhooks import tell
from promptlab_studio.abandoned import Abandoned
from promptlab_studio.access import check_declared
from promptlab_studio.api import router as api
from promptlab_studio.api.openapi import describe
from promptlab_studio.audit import Audited
from promptlab_studio.auth import Auth
from promptlab_studio.bounds import Bounded
from promptlab_studio.login import router as login
from promptlab_studio.pages import router as pages
from promptlab_studio.problems import add_handlers
from promptlab_studio.security import Faults, RequestChecks, SecurityHeaders
from promptlab_studio.sessions import PLAIN_COOKIE, SECURE_COOKIE
from promptlab_studio.shared import Shared

STATIC = Path(__file__).parent / "static"
MIN_GZIP_BYTES = 1024


def create_app(
    lab: StoreLab,
    *,
    auth: Auth | None = None,
    upload_origin: str | None = None,
    starter: Starter | None = None,
) -> FastAPI:
    """The Studio over a lab.

    Args:
        lab: the lab.
        auth: who may ask; None: this machine only, without login, as in tests.
        upload_origin: the origin (https://host) that pages upload files to, where that
            is not the Studio itself.
        starter: who works on jobs; None: this process.
    """
    app = _empty()
    app.state.lab, app.state.auth = lab, auth
    app.state.starter = starter or TaskStarter()
    if starter is None:  # in the cloud a function of its own tells of ends
        lab.on_ended = partial(tell, lab)
    app.openapi = partial(describe, app)  # type: ignore[method-assign]
    app.router.routes.extend(_routes())
    add_handlers(app)
    # The last is the outermost: every response, whatever made it, has the headers.
    local = auth is None or auth.local
    app.add_middleware(Abandoned)
    app.add_middleware(Bounded, streaming=local)
    app.add_middleware(GZipMiddleware, minimum_size=MIN_GZIP_BYTES, compresslevel=5)
    if local:  # a function on Lambda has one request at a time
        app.add_middleware(Shared)
    cookies = (SECURE_COOKIE, auth.cookie if auth else PLAIN_COOKIE)
    app.add_middleware(RequestChecks, loopback_only=local, cookies=cookies)
    app.add_middleware(Faults)
    if not local:
        app.add_middleware(Audited)
    app.add_middleware(SecurityHeaders, upload_origin=upload_origin)
    return app


def _empty() -> FastAPI:
    return FastAPI(
        title="PromptLab",
        version=version("promptlab-serverless"),
        summary="Assets, runs and their results.",
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        redirect_slashes=False,  # to an address with whatever the Host header says
        openapi_url=None,  # the document is a route of the API, for those who may see it
    )


@cache
def _routes() -> tuple[BaseRoute, ...]:
    """Make the routes, which know nothing of a lab, once for all Studios of this process: 175 of them take
    FastAPI 0.1 to 0.2 s, half of what a Studio takes to begin.

    Raises:
        AssertionError: one does not declare who may call it.
    """
    app = _empty()
    for router in (login, api, pages):
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    check_declared(app)
    return tuple(app.router.routes)
