"""Accounts in a Cognito user pool, over the protocol that Cognito speaks."""

from __future__ import annotations

import json

import pytest
from aiohttp import web

from promptlab.adapters.aws.session import AwsSession
from promptlab.adapters.aws.user_pool import UserPool
from tests import aws


async def test_an_invited_person_has_an_account_until_it_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known by the address, which counts as verified; inviting and removing again is fine."""
    aws.credentials(monkeypatch)
    users: dict[str, dict[str, str]] = {}

    async def answer(request: web.Request) -> web.Response:
        operation, asked = (
            request.headers["X-Amz-Target"].rpartition(".")[2],
            json.loads(await request.read()),
        )
        assert asked.pop("UserPoolId") == "eu-west-1_x"
        name = asked["Username"]
        if operation == "AdminCreateUser":
            if name in users:
                return web.json_response({"__type": "UsernameExistsException"}, status=400)
            users[name] = {one["Name"]: one["Value"] for one in asked["UserAttributes"]}
            assert asked["DesiredDeliveryMediums"] == ["EMAIL"]
            return web.json_response({"User": {"Username": name}})
        assert operation == "AdminDeleteUser"
        if users.pop(name, None) is None:
            return web.json_response({"__type": "UserNotFoundException"}, status=400)
        return web.json_response({})

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    pool = UserPool("eu-west-1_x", session=AwsSession(region=aws.REGION, endpoint_url=url))
    assert await pool.invite("zoe@example.com") is True
    assert await pool.invite("zoe@example.com") is False
    assert users == {"zoe@example.com": {"email": "zoe@example.com", "email_verified": "true"}}
    await pool.remove("zoe@example.com")
    await pool.remove("zoe@example.com")
    assert users == {}
    await pool.close()
    await pool.close()
    await runner.cleanup()
