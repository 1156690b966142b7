"""The audit as a file."""

from __future__ import annotations

import csv
import io
from dataclasses import astuple
from typing import Literal

import orjson
from starlette.responses import Response

from promptlab_studio.audit import COLUMNS, Audit, Chosen, Entry

MOST = 10_000
"""Entries of one file."""
MOST_BYTES = 3_500_000
"""Of a file that is sent whole: an answer has 4 MB at most."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


async def exported(audit: Audit, chosen: Chosen, form: Literal["csv", "jsonl"]) -> Response:
    """Answer with the newest entries that match, as many as one answer has room for; the header
    `X-Next-Cursor` says where the rest begins."""
    parts, size, found, cursor = [_head(form)], 0, 0, None
    while True:
        page, following = await audit.page(chosen, before=cursor, limit=500)
        text = "".join(_line(entry, form) for entry in page)
        size, found = size + len(text.encode()), found + len(page)
        if size > MOST_BYTES or found > MOST:
            break
        parts.append(text)
        cursor = following
        if cursor is None:
            break
    headers = {"Content-Disposition": f'attachment; filename="audit.{form}"'}
    if cursor is not None:
        headers["X-Next-Cursor"] = cursor
    kind = "text/csv; charset=utf-8" if form == "csv" else "application/x-ndjson"
    return Response("".join(parts), media_type=kind, headers=headers)


def _head(form: str) -> str:
    return ",".join(COLUMNS) + "\r\n" if form == "csv" else ""


def _line(entry: Entry, form: str) -> str:
    if form == "jsonl":
        return orjson.dumps(entry).decode() + "\n"
    file = io.StringIO()
    # A spreadsheet would work out what begins like a formula, and a path or an agent is anybody's words.
    csv.writer(file).writerow(
        f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
        for value in astuple(entry)
    )
    return file.getvalue()
