"""A deployed stack on the local AWS: through its URL, and behind its back with boto3."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import pytest

from promptlab import PromptLab

SHARED = Path(__file__).resolve().parents[3] / "shared"
RESTARTS = "test_restarts.py"
ENDED = ("completed", "failed", "stopped", "budget_reached", "interrupted", "cancelled")


class Loopback(httpx.HTTPTransport):
    """Names under localhost are this machine, also where the C library does not know it."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url.copy_with(host="127.0.0.1")
        return super().handle_request(
            httpx.Request(
                request.method,
                url,
                headers=request.headers,
                stream=request.stream,
                extensions=request.extensions,
            )
        )


@dataclass
class Stack:
    """The stack under test: its address and the names of its parts."""

    endpoint: str
    token: str
    outputs: dict[str, str]
    _clients: dict[str, Any] = field(default_factory=dict)

    def client(self, *, token: bool = True, **headers: str) -> httpx.Client:
        """A client of its URL."""
        bearer = {"Authorization": f"Bearer {self.token}"} if token else {}
        return httpx.Client(
            base_url=self.endpoint,
            headers=bearer | headers,
            timeout=60,
            mounts={"all://*.localhost": Loopback()},
        )

    @cached_property
    def api(self) -> httpx.Client:
        """A client of its API, with the token."""
        client = self.client()
        client.base_url = httpx.URL(f"{self.endpoint}/api/v1")
        return client

    def aws(self, service: str) -> Any:
        """A boto3 client of the AWS that it is on."""
        import boto3

        return self._clients.setdefault(service, boto3.client(service))

    def function(self, state: str) -> str:
        """The name of the function of a state."""
        return self.resource(f"{state}Function")

    def resource(self, logical: str) -> str:
        """The name that a resource of the template has."""
        found = self.aws("cloudformation").describe_stack_resource(
            StackName=self.outputs["StackName"], LogicalResourceId=logical
        )
        name: str = found["StackResourceDetail"]["PhysicalResourceId"]
        return name

    def close(self) -> None:
        """Close the connections."""
        if "api" in self.__dict__:
            self.api.close()
        for client in self._clients.values():
            client.close()

    # ----------------------------------------------------------- what is in the ledger and the bucket

    def items(self, pk: str, prefix: str = "") -> list[dict[str, Any]]:
        """The items of a partition."""
        pages = (
            self.aws("dynamodb")
            .get_paginator("query")
            .paginate(
                TableName=self.outputs["TableName"],
                KeyConditionExpression="pk = :pk AND begins_with(sk, :sk)" if prefix else "pk = :pk",
                ExpressionAttributeValues={":pk": {"S": pk}} | ({":sk": {"S": prefix}} if prefix else {}),
            )
        )
        return [item for page in pages for item in page["Items"]]

    def answered(self, run_id: str, shards: int) -> list[tuple[int, str]]:
        """The cases that the table has, as it has them: shard and sort key."""
        return [
            (shard, item["sk"]["S"])
            for shard in range(shards)
            for item in self.items(f"RUN#{run_id}#{shard}", "C#")
        ]

    def keys(self, prefix: str) -> list[str]:
        """The keys of the bucket's objects."""
        pages = (
            self.aws("s3")
            .get_paginator("list_objects_v2")
            .paginate(Bucket=self.outputs["BucketName"], Prefix=prefix)
        )
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def blob(self, key: str) -> bytes:
        """An object's content."""
        data: bytes = self.aws("s3").get_object(Bucket=self.outputs["BucketName"], Key=key)["Body"].read()
        return data


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what stops and kills the local AWS last."""
    items.sort(key=lambda item: item.path.name == RESTARTS)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The stack that `make test-cloud` deployed."""
    if "PROMPTLAB_CLOUD_OUTPUTS" not in os.environ:
        pytest.skip("no stack is deployed: make test-cloud")
    deployed = Stack(
        os.environ["PROMPTLAB_ENDPOINT"],
        os.environ["PROMPTLAB_API_KEY"],
        json.loads(os.environ["PROMPTLAB_CLOUD_OUTPUTS"]),
    )
    yield deployed
    deployed.close()


@pytest.fixture(scope="session")
def pl(stack: Stack) -> Iterator[PromptLab]:
    """The SDK over it, as one uses it after `source .cloud/env`."""
    with PromptLab({"type": "remote", "endpoint": stack.endpoint, "api_key": stack.token}) as lab:
        yield lab
