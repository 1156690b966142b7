"""Bodies and forms as large and as odd as a request may bring them, at the routes that only a hosted Studio
has: each is answered without a fault, whoever sends it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from promptlab_studio.security import MAX_BODY_BYTES

from tests.studio.hosted import Hosted
from tests.studio.live import TOKEN
from tests.studio.test_every_body import JSON, JSON_BODIES
from tests.studio.test_every_route import FORM_FIELDS

pytestmark = [pytest.mark.long, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

FORMS = (
    "/tokens",
    "/tokens/revoke",
    "/links",
    "/people",
    "/people/remove",
    "/people/admin-token",
    "/session",
)
BODIES = (
    ("POST", "/api/v1/tokens"),
    ("POST", "/api/v1/links"),
    ("PUT", "/api/v1/people/a@example.com"),
    ("PUT", "/api/v1/settings/admin-token"),
)
ODD = ("%00", "%FF" * 20, "a" * 7_000, "..%2F" * 50, "%ED%A0%80", "1e999", "' OR 1=1--", "%F0%9F%A6%8A")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def studio(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hosted]:
    async with Hosted(tmp_path_factory.mktemp("lab")) as hosted:
        yield hosted


@pytest.mark.parametrize(("method", "path"), BODIES)
async def test_a_body_may_be_anything(studio: Hosted, method: str, path: str) -> None:
    """What is refused is refused in few words; nothing of it is kept."""
    admin = studio.client(TOKEN)
    for name, body in JSON_BODIES.items():
        answer = await admin.request(method, path, content=body(), headers=JSON)
        assert 400 <= answer.status_code < 500 and len(answer.content) < 50_000, (name, answer.text[:300])
    assert (await admin.get("/api/v1/people")).json()["items"] == []


@pytest.mark.parametrize("path", FORMS)
async def test_a_form_may_be_anything(studio: Hosted, path: str) -> None:
    """A million fields, or one of megabytes."""
    admin = studio.client(TOKEN)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for name, body in FORM_FIELDS.items():
        answer = await admin.post(path, content=body()[:MAX_BODY_BYTES], headers=form)
        assert answer.status_code < 500, (name, answer.status_code)


@pytest.mark.parametrize("odd", ODD)
async def test_an_address_may_be_anything(studio: Hosted, odd: str) -> None:
    """As a name in the path, and as every parameter that the pages know."""
    admin = studio.client(TOKEN)
    names = ("who", "action", "address", "outcome", "since", "until", "before", "cursor", "limit", "format")
    query = "&".join(f"{name}={odd[:600]}" for name in names)
    for path in ("/audit", "/api/v1/audit", "/api/v1/audit/export", "/deletions", "/api/v1/deletions"):
        for address in (f"{path}?{query}", *(f"{path}?{name}={odd}" for name in names)):
            assert (await admin.get(address)).status_code < 500, address
    for method, path in (
        ("DELETE", "/api/v1/tokens/"),
        ("DELETE", "/api/v1/people/"),
        ("PUT", "/api/v1/people/"),
    ):
        answer = await admin.request(method, path + odd, json={"role": "viewer"})
        assert answer.status_code < 500, (method, path, odd)
