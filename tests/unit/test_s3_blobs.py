"""The S3 blobs beyond the contract: parts, broken bodies, presigned URLs."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import boto3
import pytest

from promptlab.adapters.aws.s3_blobs import PART, S3Blobs
from promptlab.adapters.aws.session import AwsSession
from tests import aws
from tests.aws_faults import FaultyAws

MIB = 1 << 20


@pytest.fixture
async def faulty(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FaultyAws]:
    aws.credentials(monkeypatch)
    async with FaultyAws() as proxy:
        yield proxy


@pytest.fixture
async def blobs(faulty: FaultyAws) -> AsyncIterator[S3Blobs]:
    opened = S3Blobs(aws.new_bucket(), session=AwsSession(region=aws.REGION, endpoint_url=faulty.url))
    yield opened
    await opened.close()


def big_file(folder: Path, size: int) -> tuple[Path, bytes]:
    data = random.Random(5).randbytes(size)
    path = folder / "big"
    path.write_bytes(data)
    return path, data


async def test_a_big_file_goes_up_in_parts(blobs: S3Blobs, faulty: FaultyAws, tmp_path: Path) -> None:
    """And comes back as it was."""
    path, data = big_file(tmp_path, 2 * PART + 17)
    await blobs.put_file("datasets/big", path)
    assert sum("partNumber=" in asked.path for asked in faulty.asked) == 3
    assert b"".join([piece async for piece in blobs.stream("datasets/big")]) == data


async def test_an_upload_that_fails_leaves_no_parts_to_pay_for(
    blobs: S3Blobs, faulty: FaultyAws, tmp_path: Path
) -> None:
    """And no blob."""
    path, _ = big_file(tmp_path, 2 * PART)
    faulty.fault = lambda asked: "refused" if "partNumber=2" in asked.path else None
    with pytest.raises(Exception, match="403"):
        await blobs.put_file("datasets/big", path)
    client = boto3.client("s3", region_name=aws.REGION, endpoint_url=aws.moto_url())
    assert client.list_multipart_uploads(Bucket=blobs.bucket).get("Uploads", []) == []
    client.close()
    assert await blobs.keys("") == []


async def test_a_body_that_breaks_off_is_read_to_its_end(
    blobs: S3Blobs, faulty: FaultyAws, tmp_path: Path
) -> None:
    """By everything that reads, without a byte twice."""
    data = random.Random(6).randbytes(3 * MIB)
    await blobs.put("a", data)
    for read in (
        lambda: blobs.get("a"),
        lambda: _streamed(blobs, "a"),
        lambda: _downloaded(blobs, "a", tmp_path),
    ):
        start = faulty.count("GET")
        faulty.fault = lambda asked, start=start: (
            "cut" if asked.operation == "GET" and asked.number < start + 2 else None
        )  # type: ignore[misc]
        assert await read() == data
        assert faulty.count("GET") == start + 3


async def test_a_body_that_always_breaks_off_is_an_error(blobs: S3Blobs, faulty: FaultyAws) -> None:
    """And not a part of a blob."""
    await blobs.put("a", b"0123456789" * 100_000)
    faulty.fault = lambda asked: "cut" if asked.operation == "GET" else None
    with pytest.raises(aiohttp.ClientPayloadError):
        await blobs.get("a")


async def _streamed(blobs: S3Blobs, key: str) -> bytes:
    return b"".join([piece async for piece in blobs.stream(key)])


async def _downloaded(blobs: S3Blobs, key: str, folder: Path) -> bytes:
    (path,) = await blobs.files([key], folder)
    return path.read_bytes()


async def test_a_stream_of_a_blob_that_is_replaced_meanwhile_is_no_mixture(
    blobs: S3Blobs, faulty: FaultyAws
) -> None:
    """The object that is read after a break must be the same as before."""
    await blobs.put("a", b"old" * MIB)
    faulty.fault = lambda asked: "cut" if asked.operation == "GET" and asked.number == 0 else None
    stream = blobs.stream("a")
    await anext(stream)
    await blobs.put("a", b"new" * MIB)
    with pytest.raises(Exception, match=r"412|PreconditionFailed"):
        async for _ in stream:
            pass


async def test_server_errors_are_tried_again(blobs: S3Blobs, faulty: FaultyAws) -> None:
    """S3 asks for that with its 500s and 503s."""
    faulty.fault = lambda asked: "broken" if asked.number == 0 else None
    await blobs.put("a", b"1")
    assert await blobs.get("a") == b"1"
    assert (faulty.count("PUT"), faulty.count("GET")) == (2, 2)


async def test_keys_come_from_every_page_and_follow_the_rules(
    blobs: S3Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects that others put into the bucket under names of their own are no blobs."""
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")
    for i in range(10):
        await blobs.put(f"runs/{i}", b"")
    client = boto3.client("s3", region_name=aws.REGION, endpoint_url=aws.moto_url())
    client.put_object(Bucket=blobs.bucket, Key="runs/a folder/", Body=b"")
    client.close()
    assert await blobs.keys("runs/") == [f"runs/{i}" for i in range(10)]


async def test_anybody_can_use_a_presigned_url(blobs: S3Blobs) -> None:
    """It is signed for one key, one type, one length and some seconds, and holds no secret."""
    put = await blobs.presign_put(
        "uploads/rows.jsonl", content_type="application/x-ndjson", size_bytes=9, max_age_s=600
    )
    query = parse_qs(urlsplit(put).query)
    assert (
        query["X-Amz-Expires"] == ["600"]
        and query["X-Amz-SignedHeaders"] == ["content-length;content-type;host"]
        and query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    )
    get = await blobs.presign_get("uploads/rows.jsonl", max_age_s=60)
    async with aiohttp.ClientSession() as client:
        async with client.put(
            put, data=b'{"a": 1}\n', headers={"Content-Type": "application/x-ndjson"}
        ) as answer:
            assert answer.status == 200
        async with client.get(get) as answer:
            assert await answer.read() == b'{"a": 1}\n'
    assert await blobs.get("uploads/rows.jsonl") == b'{"a": 1}\n'


@pytest.mark.parametrize(
    ("region", "bucket", "origin"),
    [
        ("us-east-1", "lab-1", "https://lab-1.s3.us-east-1.amazonaws.com"),
        ("eu-central-1", "lab-1", "https://lab-1.s3.eu-central-1.amazonaws.com"),
        ("eu-central-1", "lab.1", "https://s3.eu-central-1.amazonaws.com"),
        ("us-gov-west-1", "lab-1", "https://lab-1.s3.us-gov-west-1.amazonaws.com"),
        ("cn-north-1", "lab-1", "https://lab-1.s3.cn-north-1.amazonaws.com.cn"),
    ],
)
async def test_on_aws_uploads_go_to_the_address_of_the_region(
    monkeypatch: pytest.MonkeyPatch, region: str, bucket: str, origin: str
) -> None:
    """Without an endpoint of one's own; by the global address no browser could upload: it redirects."""
    aws.credentials(monkeypatch)
    blobs = S3Blobs(bucket, session=AwsSession(region=region))
    url = await blobs.presign_put("uploads/a", content_type="text/plain", size_bytes=1, max_age_s=60)
    assert url.startswith(f"{origin}/")
    assert await blobs.origin() == origin
    await blobs.close()


async def test_a_presigned_url_needs_a_key_that_follows_the_rules(blobs: S3Blobs) -> None:
    """No way around them."""
    with pytest.raises(ValueError, match="key"):
        await blobs.presign_put("../a", content_type="text/plain", size_bytes=1, max_age_s=60)
    with pytest.raises(ValueError, match="key"):
        await blobs.presign_get("a b", max_age_s=60)


async def test_an_erased_blob_has_no_older_version_either(blobs: S3Blobs) -> None:
    """In a bucket that keeps versions: also of blobs that were replaced, and of those deleted before."""
    client = boto3.client("s3", region_name=aws.REGION, endpoint_url=aws.moto_url())
    client.put_bucket_versioning(Bucket=blobs.bucket, VersioningConfiguration={"Status": "Enabled"})
    for data in (b"1", b"2", b"3"):
        await blobs.put("runs/a/x", data)
    await blobs.put("runs/a/y", b"1")
    await blobs.delete("runs/a/y")
    await blobs.put("runs/ab/x", b"1")
    assert await blobs.erase("runs/a/", limit=4) == 4
    assert await blobs.erase("runs/a/", limit=4) == 1
    there = client.list_object_versions(Bucket=blobs.bucket)
    assert [one["Key"] for one in there["Versions"]] == ["runs/ab/x"] and "DeleteMarkers" not in there
