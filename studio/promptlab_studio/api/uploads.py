"""Files on their way to becoming datasets: straight into the bucket in the cloud,
through the app on a laptop."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Request
from fastapi import Path as InPath
from starlette.exceptions import HTTPException
from starlette.responses import Response

from promptlab.errors import DatasetError
from promptlab.jobs import KEPT_S, upload_in
from promptlab.ports import Blobs, DirectBlobs, Records
from promptlab.scratch import ScratchFolder
from promptlab.store_lab import StoreLab
from promptlab_studio.access import Engineer, TheLab
from promptlab_studio.api.answers import UploadOut
from promptlab_studio.api.bodies import Exact
from promptlab_studio.api.shapes import UploadIn

CONTENT_TYPE = "application/octet-stream"
UPLOAD = "UPLOAD"
"""The kind of record that a prepared upload has."""
MOST_WAITED_BYTES = 100_000_000
"""The largest file that a request waits for: Lambda has 30 s and 512 MB of disk for it."""
UPLOAD_S = 3600
"""Seconds that an upload URL is valid."""
router = APIRouter(prefix="/datasets/uploads", tags=["datasets"], route_class=Exact)


@router.post("", status_code=201, summary="Prepare the upload of a dataset's file", response_model=UploadOut)
async def prepare_upload(lab: TheLab, who: Engineer, request: Request, body: UploadIn) -> Any:
    """Then send the file to upload_url, and POST /datasets with the key."""
    return await prepared(lab, request, body.file_name, body.size_bytes)


async def prepared(lab: StoreLab, request: Request, file_name: str, size_bytes: int) -> dict[str, Any]:
    """Say where a file is to be sent, and its key once it is there."""
    token, name = secrets.token_hex(16), _usable(file_name)
    known = {"size_bytes": size_bytes}
    await lab.records.put_record(UPLOAD, token, known, expires_at=time.time() + KEPT_S)
    key = f"uploads/{token}/{name}"
    if isinstance(lab.blobs, DirectBlobs):
        url = await lab.blobs.presign_put(
            key, content_type=CONTENT_TYPE, size_bytes=size_bytes, max_age_s=UPLOAD_S
        )
    else:
        url = str(request.url_for("receive_upload", token=token, file_name=name))
    return {"upload_url": url, "method": "PUT", "headers": {"Content-Type": CONTENT_TYPE}, "key": key}


def _usable(file_name: str) -> str:
    """The name as a part of a blob's key; its end says what kind of file it is."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", file_name)[-100:].lstrip(".")


@router.put(
    "/{token}/{file_name}", status_code=204, summary="Upload a dataset's file", response_class=Response
)
async def receive_upload(
    lab: TheLab,
    who: Engineer,
    request: Request,
    token: Annotated[str, InPath(pattern="^[0-9a-f]{32}$", description="From upload_url.")],
    file_name: Annotated[str, InPath(pattern="^[A-Za-z0-9._-]{1,120}$", description="From upload_url.")],
) -> Response:
    """The body is the file. In the cloud files go to the bucket, not here."""
    if isinstance(lab.blobs, DirectBlobs):
        raise HTTPException(404)
    with ScratchFolder() as folder:
        path = folder / "upload"
        async with await anyio.open_file(path, "wb") as file:
            async for piece in request.stream():
                await file.write(piece)
        await lab.blobs.put_file(f"uploads/{token}/{file_name}", path)
    return Response(status_code=204)


async def check_waitable(records: Records, key: str) -> None:
    """Refuse a file that is too large to be read while a request waits.

    Raises:
        DatasetError: it is.
    """
    known = await records.get_record(UPLOAD, key.split("/")[1]) or {}
    if (size := int(known.get("size_bytes", 0))) > MOST_WAITED_BYTES:
        raise DatasetError(
            f"The file has {size:,} bytes; a request reads {MOST_WAITED_BYTES:,} at most. POST "
            "/api/v1/datasets/ingests reads larger ones in a job."
        )


@asynccontextmanager
async def uploaded(blobs: Blobs, key: str) -> AsyncIterator[Path]:
    """An uploaded file, under the name that it was given; whatever comes of it, it is gone afterwards.

    Raises:
        DatasetError: it is not there, or the block could not read it.
    """
    with ScratchFolder() as folder:
        try:
            named = await upload_in(blobs, key, folder)
            yield named
        except DatasetError as error:
            raise DatasetError(str(error).replace(f"{folder}/named/", "")) from error
        finally:
            await blobs.delete(key)
