"""A stand-in for AWS on 127.0.0.1, for tests: moto's server, with tables and buckets of one's own."""

from __future__ import annotations

import functools
import io
import logging
import re
import threading
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from promptlab.adapters.aws.session import AwsSession
from promptlab.loops import PerLoop

REGION = "us-east-1"


_NAMES = {
    "AWSStepFunctions": "stepfunctions",
    "AmazonSSM": "ssm",
    "AmazonSQS": "sqs",
    "AWSEvents": "events",
}
_SCOPE = re.compile(r"Credential=[^/]+/\d+/[^/]+/(\w+)/")


class _Services:
    """moto's application of each service, one request at a time.

    One at a time, since moto undoes a transaction by putting back a copy of the whole table, and with it
    whatever others wrote meanwhile. Its own dispatcher reads a directory for each request: 2 ms of 5.
    """

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import create_backend_app

        self._app = functools.cache(create_backend_app)
        # A thread, and not a lock: those who wait get their turn in order, before they time out.
        self._turn = ThreadPoolExecutor(1, "moto")

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        signed = _SCOPE.search(environ.get("HTTP_AUTHORIZATION", ""))
        name = target.partition(".")[0] or (signed[1] if signed else "s3")
        service = "dynamodb" if name.startswith("DynamoDB") else _NAMES.get(name, name)
        # Before its turn: a client that breaks off in the middle of a body would keep all others waiting.
        length, source = environ.get("CONTENT_LENGTH"), environ["wsgi.input"]
        if length or environ.get("wsgi.input_terminated"):
            body = source.read(int(length)) if length else source.read()
            environ |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        return self._turn.submit(lambda: list(self._app(service)(environ, start_response))).result()


def _hurry_moto() -> None:
    """Spare moto two things that change no answer and took most of the contract suite's time.

    It sorts and searches the whole table for the partition of a query, and for each action of a
    transaction it copies every value of the table, though only an item's own dict is ever changed.
    """
    from moto.dynamodb.models.dynamo_type import Item, LimitedSizeDict
    from moto.dynamodb.models.table import Table

    query_all = Table.query

    def query(table: Any, hash_key: Any, *args: Any, **kwargs: Any) -> Any:
        whole = table.items
        table.items = {hash_key: whole[hash_key]} if hash_key in whole else {}
        try:
            return query_all(table, hash_key, *args, **kwargs)
        finally:
            table.items = whole

    def copied(item: Any, memo: object) -> Any:
        other = Item.__new__(Item)
        other.hash_key, other.range_key, other.attrs = (
            item.hash_key,
            item.range_key,
            LimitedSizeDict.__new__(LimitedSizeDict),
        )
        dict.update(other.attrs, item.attrs)
        return other

    Table.query = query
    Item.__deepcopy__ = copied


@functools.cache
def moto_url() -> str:
    """The URL of the server, which the first caller starts and which ends with the process."""
    from moto.server import MotoRequestHandler
    from werkzeug.serving import make_server

    _hurry_moto()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, _Services(), threaded=True, request_handler=MotoRequestHandler)
    threading.Thread(target=server.serve_forever, name="moto", daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing of this machine's AWS settings into a test."""
    for name in (
        "AWS_PROFILE",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@functools.cache
class PatientSession(AwsSession):
    """Waits longer than AWS would ever take: the server answers one request at a time, on a busy machine."""

    def clients(self, service: str, **config: Any) -> PerLoop[Any]:
        return super().clients(service, **{**config, **_PATIENCE})


_PATIENCE = {"connect_timeout": 240, "read_timeout": 240}


def session(url: str | None = None) -> AwsSession:
    """A session of the server, or of whatever stands before it."""
    return PatientSession(region=REGION, endpoint_url=url or moto_url())


def new_table() -> str:
    """The name of a new, empty table like that of template.yaml."""
    name = f"table-{uuid.uuid4().hex}"
    keys = [("pk", "HASH"), ("sk", "RANGE")]
    _client("dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key, _ in keys],
        KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys],
    )
    return name


def new_bucket() -> str:
    """The name of a new, empty bucket."""
    name = f"bucket-{uuid.uuid4().hex}"
    _client("s3").create_bucket(Bucket=name)
    return name


@functools.cache
def _client(service: str) -> Any:
    import boto3

    return boto3.client(
        service,
        region_name=REGION,
        endpoint_url=moto_url(),
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )


def bare_table(name: str) -> Any:
    """A table as boto3 shows it, past everything of ours."""
    import boto3

    return boto3.resource(
        "dynamodb",
        region_name=REGION,
        endpoint_url=moto_url(),
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    ).Table(name)
