"""Webhooks: where they may go, how they are signed, what becomes of one that is not taken."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from promptlab_studio.app import create_app

from promptlab.clock import SystemClock
from promptlab.errors import ConfigError
from promptlab.outbound import Outbound
from promptlab.store_lab import StoreLab
from promptlab.webhooks import PAUSES_S, WEBHOOK, checked_url, deliver, register, shown, signature
from tests.browser import labs
from tests.studio.hosted import Hosted


class Quick(SystemClock):
    """A clock whose pauses take no time, and are noted."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


class Listener:
    """What takes deliveries; answers with these statuses, then with 200."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.got: list[tuple[dict[str, str], bytes]] = []

    async def take(self, request: web.Request) -> web.Response:
        self.got.append((dict(request.headers), await request.read()))
        status = self.statuses.pop(0) if self.statuses else 200
        return web.Response(status=status, headers={"Location": "/elsewhere"} if status == 302 else {})


@pytest.fixture
async def listener() -> AsyncIterator[tuple[Listener, str]]:
    found = Listener()
    app = web.Application()
    app.router.add_post("/{path:.*}", found.take)
    async with TestServer(app) as server:
        yield found, str(server.make_url("/hook"))


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[StoreLab]:
    found = labs.open_lab(tmp_path)
    await labs.add_assets(found, 5)
    yield found
    await found.close()


@pytest.mark.parametrize(
    "url",
    [
        *("", "ftp://a.example", "http://a.example", "//a.example", "https://", "https://a b.example"),
        *("https://user:pw@a.example", "https://a.example/\r\nx", "https://a.example/" + "x" * 2_000),
        *("https://169.254.169.254/latest", "https://[fd00:ec2::254]/", "https://a.example:99999"),
    ],
)
@pytest.mark.parametrize("hosted", [False, True])
def test_addresses_that_deliveries_may_not_go_to(url: str, hosted: bool) -> None:
    with pytest.raises(ConfigError, match="webhook"):
        checked_url(url, Outbound(hosted=hosted))


def test_this_machine_is_reached_from_a_laptop_only() -> None:
    for url in ("http://127.0.0.1:8080/x", "http://localhost/x", "https://10.0.0.7/x"):
        assert checked_url(url, Outbound()) == url
        with pytest.raises(ConfigError):
            checked_url(url, Outbound(hosted=True))
    assert checked_url("https://ci.example.com/x", Outbound(hosted=True))


async def test_a_delivery_is_signed_with_its_time(lab: StoreLab, listener: tuple[Listener, str]) -> None:
    """Whoever has the secret can check who sent it, and when."""
    found, url = listener
    secret = await register(lab.records, lab.outbound, "r", url)
    assert re.fullmatch(r"whsec_[\w-]{43}", secret)
    assert await deliver(lab.records, lab.outbound, Quick(), "r", b'{"a": 1}')
    ((headers, body),) = found.got
    signed = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", headers["PromptLab-Signature"])
    assert signed and abs(int(signed[1]) - time.time()) < 60
    expected = hmac.new(secret.encode(), signed[1].encode() + b"." + body, hashlib.sha256).hexdigest()
    assert signed[2] == expected and signature(secret, body, int(signed[1])).endswith(expected)
    told = await shown(lab.records, "r")
    assert told is not None and "secret" not in told
    assert [(d["attempt"], d["status"], d["error"]) for d in told["deliveries"]] == [(1, 200, None)]


async def test_what_is_not_taken_is_sent_again_with_longer_pauses(
    lab: StoreLab, listener: tuple[Listener, str]
) -> None:
    """The same delivery; a redirect is not followed; in the end it is given up, and said so."""
    found, url = listener
    await register(lab.records, lab.outbound, "r", url)
    found.statuses, clock = [500, 302], Quick()
    assert await deliver(lab.records, lab.outbound, clock, "r", b"{}")
    assert clock.slept == [0.0, *PAUSES_S[:2]]
    assert len({headers["PromptLab-Delivery"] for headers, _ in found.got}) == 1
    found.statuses, clock = [503] * 9, Quick()
    assert not await deliver(lab.records, lab.outbound, clock, "r", b"{}")
    assert clock.slept == [0.0, *PAUSES_S]
    told = await shown(lab.records, "r")
    assert told is not None and len(told["deliveries"]) == 8
    found.statuses, clock = [410], Quick()
    assert not await deliver(lab.records, lab.outbound, clock, "r", b"{}")
    assert clock.slept == [0.0], "gone is gone"


async def test_an_address_is_judged_with_each_delivery(lab: StoreLab, listener: tuple[Listener, str]) -> None:
    """A name that was public may lead inside by then."""
    found, url = listener
    await register(lab.records, lab.outbound, "r", url)
    assert not await deliver(lab.records, Outbound(hosted=True), Quick(), "r", b"{}")
    assert found.got == []
    told = await shown(lab.records, "r")
    assert told is not None and "calls may not go to" in told["deliveries"][0]["error"]


async def test_a_run_tells_of_its_end_and_its_secret_is_shown_once(
    lab: StoreLab, listener: tuple[Listener, str]
) -> None:
    """By the API: the answer that starts it has the secret; the run has what became of it."""
    found, url = listener
    transport = httpx.ASGITransport(create_app(lab))
    body: dict[str, Any] = {
        **{"prompt_template": "sums", "dataset": "arithmetic", "model": "simulated/demo"},
        **{"name": "n", "tags": ["ci"], "webhook": {"url": url}},
    }
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost/api/v1") as api:
        started = await api.post("/runs", json=body, headers={"Idempotency-Key": "k"})
        assert started.status_code == 202
        run_id, webhook = started.json()["run_id"], started.json()["webhook"]
        assert webhook["url"] == url and webhook["secret"].startswith("whsec_")
        again = await api.post("/runs", json=body, headers={"Idempotency-Key": "k"})
        assert (again.json()["run_id"], again.json()["webhook"]["secret"]) == (run_id, None)
        await api.get(f"/runs/{run_id}", params={"wait": 25})
        while not ((await api.get(f"/runs/{run_id}")).json()["webhook"]["deliveries"]):
            await lab.clock.sleep(0.01)
        seen = (await api.get(f"/runs/{run_id}")).json()["webhook"]
        assert seen["secret"] is None and seen["deliveries"][0]["status"] == 200
        ((headers, sent),) = found.got
        told = orjson.loads(sent)
        assert (told["type"], told["run_id"], told["status"]) == ("run.ended", run_id, "completed")
        assert (told["cases"], told["tags"], told["name"]) == (5, ["ci"], "n")
        refused = await api.post("/runs", json={**body, "webhook": {"url": "http://a.example"}})
        assert refused.status_code == 422 and "https://" in refused.json()["detail"]
        wrong = await api.post("/runs", json={**body, "dataset": "none"})
        assert wrong.status_code == 404
    assert headers["Content-Type"] == "application/json"


async def test_who_may_only_look_sees_the_host_of_an_address(lab: StoreLab, tmp_path: Path) -> None:
    """Its path opens a chat or a build to whoever knows it; a labeller changes what they saw all the same."""
    async with Hosted(tmp_path, lab=lab) as studio:
        url = "https://chat.example.com/services/T0/B0/a-path-that-is-a-key"
        body = {"prompt_template": "sums", "dataset": "arithmetic", "model": "simulated/demo", "name": "n"}
        engineer = studio.client(await studio.token("engineer"))
        run_id = (await engineer.post("/api/v1/runs", json={**body, "webhook": {"url": url}})).json()[
            "run_id"
        ]
        assert (await engineer.get(f"/api/v1/runs/{run_id}?wait=25")).json()["webhook"]["url"] == url
        for role in ("viewer", "labeller"):
            client = studio.client(await studio.token(role))
            answer = await client.get(f"/api/v1/runs/{run_id}")
            assert answer.json()["webhook"]["url"] == "https://chat.example.com:443/…"
            assert "a-path" not in (await client.get(f"/runs/{run_id}")).text
        edit = {"json": {"tags": ["seen"]}, "headers": {"If-Match": answer.headers["etag"]}}
        changed = await client.patch(f"/api/v1/runs/{run_id}", **edit)
        assert changed.status_code == 200 and "a-path" not in changed.text


async def test_a_run_whose_webhook_is_not_taken_has_ended_all_the_same(lab: StoreLab) -> None:
    """It is told by a task of its own, which closing the lab ends."""
    await lab.records.put_record(WEBHOOK, "r", {"url": "http://127.0.0.1:9", "secret": "s", "deliveries": []})
    create_app(lab)
    run = await lab.start(labs.config({"name": "simulated/demo"}), run_id="r")
    ended = await lab.watch(run)
    assert ended.status == "completed"
