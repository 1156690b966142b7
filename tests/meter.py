"""Counts what AWS would charge for: a proxy before moto's server, which knows nothing of units."""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from promptlab.cloud.cost import read_units, write_units

Item = Mapping[str, Mapping[str, Any]]
_HOP = {"connection", "transfer-encoding", "content-length", "host", "keep-alive"}


def item_bytes(item: Item) -> int:
    """Count an item's bytes: the names and the values of its attributes.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
    """
    return sum(len(name.encode()) + _value_bytes(value) for name, value in item.items())


def _value_bytes(value: Mapping[str, Any]) -> int:
    ((kind, content),) = value.items()
    match kind:
        case "S":
            return len(content.encode())
        case "B":
            return len(content) * 3 // 4 - content[-2:].count("=")  # base64
        case "N":
            return len(content) // 2 + 2
        case "M":
            return 3 + sum(1 + len(name.encode()) + _value_bytes(inner) for name, inner in content.items())
    return 1


class Meter:
    """`with meter(moto_url()) as m:` and let clients use `m.url`; `m.counts` has write_units, read_units,
    s3_put, s3_get and DynamoDB's requests."""

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target)
        self.counts: Counter[str] = Counter()
        self.written: Counter[str] = Counter()
        """Write units by what an item is: C, S, P, SHARD, META, …"""
        self.url = ""
        self._lock = threading.Lock()

    def forward(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Moto's answer, counted."""
        status, kept, data = self._ask(method, path, headers, body)
        if status < 300:
            with self._lock:
                self._count(method, path, headers, body, data)
        return status, kept, data

    def _ask(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.target.hostname or "", self.target.port, timeout=60)
        try:
            connection.request(
                method,
                path,
                body,
                {k: v for k, v in headers.items() if k.lower() not in _HOP} | {"Host": self.target.netloc},
            )
            answer = connection.getresponse()
            data = answer.read()
            return answer.status, [(k, v) for k, v in answer.getheaders() if k.lower() not in _HOP], data
        finally:
            connection.close()

    def _count(self, method: str, path: str, headers: Mapping[str, str], body: bytes, data: bytes) -> None:
        target = headers.get("X-Amz-Target", "")
        if not target:  # S3
            lists = (
                method == "GET"
                and {"list-type", "uploads"} & parse_qs(urlsplit(path).query, keep_blank_values=True).keys()
            )
            self.counts[
                "s3_put"
                if method in ("PUT", "POST") or lists
                else "s3_get"
                if method in ("GET", "HEAD")
                else "s3_free"
            ] += 1
            return
        operation, request, reply = target.rpartition(".")[2], json.loads(body), json.loads(data)
        if not target.startswith("DynamoDB"):
            self.counts[operation] += 1
            return
        self.counts["dynamodb_requests"] += 1
        self._count_items(operation, headers, request, reply)

    def _count_items(self, operation: str, headers: Mapping[str, str], request: Any, reply: Any) -> None:
        match operation:
            case "BatchWriteItem":
                for puts in request["RequestItems"].values():
                    for put in puts:
                        self._write(put["PutRequest"]["Item"])
            case "PutItem":
                self._write(request["Item"])
            case "DeleteItem":
                self._write(request["Key"])
            case "TransactWriteItems":
                for action in request["TransactItems"]:
                    self._transacted(headers, *action.items())
            case "GetItem":
                self.counts["read_units"] += read_units(item_bytes(reply.get("Item", {})))
            case "Query":
                self.counts["read_units"] += read_units(sum(map(item_bytes, reply["Items"])))
            case "BatchGetItem":
                self.counts["read_units"] += sum(
                    read_units(item_bytes(item)) for items in reply["Responses"].values() for item in items
                )
            case _:
                raise AssertionError(f"{operation} is not counted")

    def _write(self, item: Item, times: int = 1) -> None:
        units = times * write_units(item_bytes(item))
        self.counts["write_units"] += units
        self.written[
            item["sk"]["S"].partition("#")[0]
            if item["pk"]["S"].startswith("RUN#")
            else item["pk"]["S"].partition("#")[0]
        ] += units

    def _transacted(self, headers: Mapping[str, str], *actions: tuple[str, dict[str, Any]]) -> None:
        """In a transaction each unit counts twice; a change counts as the whole item."""
        for kind, action in actions:
            item = action.get("Item")
            if item is None:
                body = json.dumps({"TableName": action["TableName"], "Key": action["Key"]}).encode()
                again = {**headers, "X-Amz-Target": "DynamoDB_20120810.GetItem"}
                item = json.loads(self._ask("POST", "/", again, body)[2]).get("Item") or action["Key"]
            assert kind in ("Put", "Update", "Delete", "ConditionCheck")
            self._write(item, 2)


Counted = TypeVar("Counted", bound=Meter)


@contextmanager
def meter(target: str, made: Callable[[str], Counted] = Meter) -> Iterator[Counted]:  # type: ignore[assignment]
    """A meter before a server, until the end of the block."""
    counted = made(target)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, data = counted.forward(self.command, self.path, dict(self.headers.items()), body)
            self.send_response_only(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any

        def log_message(self, *_: Any) -> None:
            """Tests say what went wrong."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    counted.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, name="meter", daemon=True)
    thread.start()
    try:
        yield counted
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
