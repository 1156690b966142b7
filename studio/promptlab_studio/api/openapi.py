"""The API's OpenAPI document, with what FastAPI cannot say of it: how errors travel, and who may ask."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from promptlab.adapters.http.problems import MEDIA_TYPE
from promptlab_studio.preconditions import METHODS

_ABOUT = """Assets, runs and their results. The same API on a laptop's Studio (one user, this machine only) \
and on a hosted one (a token).

Errors are problem details (RFC 9457). Lists are read page by page: go on with `?cursor=` and the page's \
`next_cursor`, until it is null. Answers to GET have an ETag: with If-None-Match, what has not changed is \
304; with If-Match, PUT, PATCH and DELETE change only what was read, else it is 412."""

_LATER = {
    "429": "Too many wrong tokens came from this address, or too many jobs are under way.",
    "503": "The store is busy.",
}


def _later(said: str) -> dict[str, Any]:
    """A response that says when to ask again."""
    after = {"description": "Seconds after which to ask again.", "schema": {"type": "integer"}}
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {
        "description": f"{said} Retry-After says when to ask again.",
        "headers": {"Retry-After": after},
        "content": {MEDIA_TYPE: problem},
    }


def _add_match(operation: dict[str, Any], *, has_etag: bool) -> None:
    """Say what If-Match does to a change."""
    refused = {"description": "It is no longer what If-Match says." if has_etag else "It has no ETag."}
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    operation["responses"].setdefault("412", refused | {"content": content})
    parameters = operation.setdefault("parameters", [])
    if has_etag and all(each["name"] != "if-match" for each in parameters):
        said = "The ETag of what is to be changed: if it has another, nothing is done."
        schema = {"type": "string", "maxLength": 1_000}
        parameters.append({"name": "if-match", "in": "header", "description": said, "schema": schema})


def describe(app: FastAPI) -> dict[str, Any]:
    """The document; made once."""
    if app.openapi_schema is None:
        found = get_openapi(
            title=app.title, version=app.version, summary=app.summary, description=_ABOUT, routes=app.routes
        )
        for item in found["paths"].values():
            for method, operation in item.items():
                content = operation["responses"]["default"]["content"]
                content[MEDIA_TYPE] = content.pop("application/json")
                if operation["tags"] == ["health"]:
                    operation["security"] = []
                else:
                    operation["responses"] |= {status: _later(said) for status, said in _LATER.items()}
                if method == "get" and "200" in operation["responses"]:
                    operation["responses"]["304"] = {"description": "It is what If-None-Match has."}
                if method.upper() in METHODS:
                    _add_match(operation, has_etag="get" in item)
        found["components"]["securitySchemes"] = {
            "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "`promptlab cloud token` prints it.",
            },
            "session": {
                "type": "apiKey",
                "in": "cookie",
                "name": "__Host-promptlab",
                "description": "What the login form gives a browser.",
            },
        }
        found["security"] = [{"token": []}, {"session": []}]
        app.openapi_schema = found
    return app.openapi_schema
