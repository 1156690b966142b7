"""The blobs of an AWS account: one S3 bucket."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from promptlab.adapters.aws.session import AwsSession
from promptlab.domain.keys import is_key, parts_of
from promptlab.errors import BlobNotFoundError, StoreBusyError

T = TypeVar("T")
PIECE = 1 << 20
"""Bytes of one piece of a stream at most."""
PART = 8 << 20
"""Bytes of one part of an upload, and the size from which a file is uploaded in parts. S3 takes at least 5
MiB and at most 10,000 parts."""
MAX_PARTS = 10_000
PARTS_AT_ONCE = 4
FILES_AT_ONCE = 32
TRIES = 4
"""How often a body that breaks off is asked for, since the last byte that came."""


class S3Blobs:
    """The Blobs in a bucket, which must be there.

    Needs s3:ListBucket on the bucket: without it S3 does not tell "there is none" from "you may not".
    Every method raises ValueError for a key that breaks the rules, and botocore's errors as they are.
    """

    def __init__(self, bucket: str, *, session: AwsSession | None = None) -> None:
        self.bucket = bucket
        self.folder: Path | None = None
        self._clients = (session or AwsSession()).clients(
            "s3",
            signature_version="s3v4",
            retries={"mode": "standard", "total_max_attempts": 6},
            # TLS protects what travels. Checksums on top would have to be put together by hand for parts,
            # and a browser with a presigned URL sends none.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )

    async def put(self, key: str, data: bytes) -> None:
        parts_of(key)
        await (await self._clients.get()).put_object(Bucket=self.bucket, Key=key, Body=data)

    async def put_file(self, key: str, path: Path) -> None:
        parts_of(key)
        size = (await asyncio.to_thread(path.stat)).st_size
        if size <= PART:
            await self.put(key, await asyncio.to_thread(path.read_bytes))
        else:
            await self._upload(key, path, size, max(PART, -(-size // MAX_PARTS)))

    async def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        if length == 0:
            if not await self.exists(key):
                raise BlobNotFoundError(key)
            return b""
        for attempt in range(1, TRIES + 1):
            found = await self._open(key, offset, length)
            if found is None:
                return b""
            try:
                async with found["Body"]:
                    data: bytes = await found["Body"].read()
                    return data
            except _broken():
                if attempt == TRIES:
                    raise
        raise AssertionError("unreachable")

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        done, tries, version = 0, 0, None
        while found := await self._open(key, done, None, version):
            # The same object to its end: one that is replaced meanwhile is an error, and not a mixture.
            version = found["ETag"]
            try:
                async with found["Body"]:
                    while piece := await found["Body"].read(PIECE):
                        done, tries = done + len(piece), 0
                        yield piece
                    return
            except _broken():
                tries += 1
                if tries == TRIES:
                    raise

    async def exists(self, key: str) -> bool:
        from botocore.exceptions import ClientError

        parts_of(key)
        try:
            await (await self._clients.get()).head_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            if _status(error) == 404:
                return False
            raise
        return True

    async def keys(self, prefix: str) -> list[str]:
        client = await self._clients.get()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        found = [entry["Key"] async for page in pages for entry in page.get("Contents", ())]
        return sorted(key for key in found if is_key(key))

    async def files(self, keys: Sequence[str], folder: Path) -> list[Path]:
        for key in keys:
            parts_of(key)
        paths = {key: folder / hashlib.sha256(key.encode()).hexdigest() for key in keys}
        gate = asyncio.Semaphore(FILES_AT_ONCE)

        async def download(key: str, path: Path) -> None:
            async with gate:
                with await asyncio.to_thread(path.open, "wb") as file:
                    async for piece in self.stream(key):
                        await asyncio.to_thread(file.write, piece)

        await _all_or_none([asyncio.ensure_future(download(key, path)) for key, path in paths.items()])
        return [paths[key] for key in keys]

    async def delete(self, key: str) -> None:
        parts_of(key)
        await (await self._clients.get()).delete_object(Bucket=self.bucket, Key=key)

    async def erase(self, prefix: str, *, limit: int = 1000) -> int:
        client = await self._clients.get()
        left, done = limit, 0
        while left:
            # Delete markers are versions, too. The page is always the first: what was on it is gone.
            page = await client.list_object_versions(
                Bucket=self.bucket, Prefix=prefix, MaxKeys=min(left, 1000)
            )
            found = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
            if not found:
                break
            gone = [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found]
            answer = await client.delete_objects(Bucket=self.bucket, Delete={"Objects": gone, "Quiet": True})
            if errors := answer.get("Errors"):
                raise StoreBusyError(
                    f"S3 left {len(errors):,} of {len(gone):,} objects of the bucket {self.bucket} where "
                    f"they are, as {errors[0].get('Key')!r}: {errors[0].get('Code')}. Deleting again removes "
                    "them."
                )
            done, left = done + len(gone), left - len(gone)
        return done

    async def close(self) -> None:
        """Close the running loop's connections."""
        await self._clients.aclose()

    async def presign_put(self, key: str, *, content_type: str, size_bytes: int, max_age_s: int) -> str:
        """Sign a URL that anybody may PUT the blob to for `max_age_s` seconds, with
        this very type and length.

        It ends earlier with the credentials that sign it: those of a Lambda role last some hours.
        """
        parts_of(key)
        wanted = {"Bucket": self.bucket, "Key": key, "ContentType": content_type, "ContentLength": size_bytes}
        url: str = await (await self._clients.get()).generate_presigned_url(
            "put_object", Params=wanted, ExpiresIn=max_age_s
        )
        return url

    async def presign_get(self, key: str, *, max_age_s: int) -> str:
        """A URL that anybody may GET the blob from for `max_age_s` seconds; it is not
        checked that there is one."""
        parts_of(key)
        url: str = await (await self._clients.get()).generate_presigned_url(
            "get_object", Params={"Bucket": self.bucket, "Key": key}, ExpiresIn=max_age_s
        )
        return url

    def whole_key(self, key: str) -> str:
        """The key itself."""
        return key

    async def origin(self) -> str:
        """The origin of all presigned URLs, as in `https://bucket.s3.eu-central-1.amazonaws.com`."""
        url = urlsplit(await self.presign_get("origin", max_age_s=1))
        return f"{url.scheme}://{url.netloc}"

    async def _open(
        self, key: str, offset: int, length: int | None, version: str | None = None
    ) -> dict[str, Any] | None:
        """S3's answer, whose Body is to be read; None when the range begins at the end
        of the blob or beyond."""
        from botocore.exceptions import ClientError

        parts_of(key)
        wanted = (
            {"Range": f"bytes={offset}-{'' if length is None else offset + length - 1}"}
            if offset or length is not None
            else {}
        )
        held = {"IfMatch": version} if version else {}
        try:
            found: dict[str, Any] = await (await self._clients.get()).get_object(
                Bucket=self.bucket, Key=key, **wanted, **held
            )
        except ClientError as error:
            if _status(error) == 416:
                return None
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                raise BlobNotFoundError(key) from None
            raise
        return found

    async def _upload(self, key: str, path: Path, size: int, part: int) -> None:
        """A file in parts. The blob appears with the last of them, whole."""
        client = await self._clients.get()
        upload = {
            "Bucket": self.bucket,
            "Key": key,
            "UploadId": (await client.create_multipart_upload(Bucket=self.bucket, Key=key))["UploadId"],
        }
        gate = asyncio.Semaphore(PARTS_AT_ONCE)

        async def send(number: int) -> dict[str, Any]:
            async with gate:
                data = await asyncio.to_thread(_read, path, (number - 1) * part, part)
                answer = await client.upload_part(**upload, PartNumber=number, Body=data)
                return {"PartNumber": number, "ETag": answer["ETag"]}

        try:
            parts = await _all_or_none(
                [asyncio.ensure_future(send(number)) for number in range(1, -(-size // part) + 1)]
            )
            await client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        except BaseException:
            # Parts without an end are paid for. A lifecycle rule takes what this cannot.
            await asyncio.shield(client.abort_multipart_upload(**upload))
            raise


def _read(path: Path, offset: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)


def _status(error: Any) -> int:
    status: int = error.response["ResponseMetadata"]["HTTPStatusCode"]
    return status


def _broken() -> tuple[type[Exception], ...]:
    """How a body breaks off."""
    from aiohttp import ClientConnectionError, ClientPayloadError
    from botocore.exceptions import HTTPClientError, IncompleteReadError

    return (HTTPClientError, IncompleteReadError, ClientPayloadError, ClientConnectionError)


async def _all_or_none(tasks: list[asyncio.Future[T]]) -> list[T]:
    """The results of all; the first error ends the others."""
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
