"""Answers that tell of a running run are given to all who ask the same at that moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from promptlab_studio.shared import SHARED_S, Shared, moves
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

Handler = Callable[[Request], Awaitable[Response]]


class Counted:
    """A page that says how often it was made; it may take until it is let go."""

    def __init__(self, *, moving: bool = True, cookie: bool = False, status: int = 200) -> None:
        self.made, self.moving, self.cookie, self.status = 0, moving, cookie, status
        self.go = asyncio.Event()
        self.go.set()

    async def answer(self, request: Request) -> Response:
        self.made += 1
        made = self.made
        await self.go.wait()
        if self.moving:
            moves(request)
        answer = PlainTextResponse(f"{made}{request.url.query}", self.status)
        if self.cookie:
            answer.set_cookie("a", "b")
        return answer


class Time:
    """A clock that stands still until it is set: no slow machine lets an answer expire."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@asynccontextmanager
async def asking(page: Counted, time: Time | None = None, **bounds: int) -> AsyncIterator[httpx.AsyncClient]:
    async def change(request: Request) -> Response:
        return PlainTextResponse("changed")

    app = Starlette(routes=[Route("/", page.answer), Route("/change", change, methods=["POST"])])
    transport = httpx.ASGITransport(app=Shared(app, clock=time or Time(), **bounds))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


async def asked(client: httpx.AsyncClient, path: str = "/", **headers: str) -> str:
    return (await client.get(path, headers=headers)).text


async def test_the_same_question_is_answered_once() -> None:
    """Address and headers make it the same."""
    page = Counted()
    async with asking(page) as client:
        assert [await asked(client) for _ in range(5)] == ["1"] * 5
        assert await asked(client, "/?page=2") == "2page=2"
        assert await asked(client, cookie="session=1") == "3"
        assert await asked(client, cookie="session=2") == "4"


@pytest.mark.parametrize("page", [{"moving": False}, {"cookie": True}, {"status": 404}])
async def test_what_does_not_move_is_made_each_time(page: dict[str, bool]) -> None:
    """Also answers that set a cookie, and errors."""
    async with asking(Counted(**page)) as client:  # type: ignore[arg-type]
        assert [await asked(client) for _ in range(3)] == ["1", "2", "3"]


async def test_after_a_change_everybody_sees_it() -> None:
    """Also those who asked while an answer from before was being made."""
    page = Counted()
    async with asking(page) as client:
        assert await asked(client) == "1"
        await client.post("/change")
        assert await asked(client) == "2"
        await client.post("/change")
        page.go.clear()
        early = asyncio.create_task(asked(client))
        while page.made < 3:
            await asyncio.sleep(0)
        await client.post("/change")
        page.go.set()
        assert await early == "3"
        assert await asked(client) == "4"


async def test_those_who_ask_while_it_is_made_anew_wait_for_one_answer() -> None:
    """Two hundred tabs cost as much as one."""
    page, time = Counted(), Time()
    async with asking(page, time) as client:
        assert await asked(client) == "1"
        time.now_s = SHARED_S
        page.go.clear()
        tabs = [asyncio.create_task(asked(client)) for _ in range(200)]
        for _ in range(20):
            await asyncio.sleep(0)
        page.go.set()
        assert set(await asyncio.gather(*tabs)) == {"2"} and page.made == 2


async def test_when_the_first_hangs_up_the_others_are_answered() -> None:
    """Nobody waits for an answer that nobody makes."""
    page, time = Counted(), Time()
    async with asking(page, time) as client:
        assert await asked(client) == "1"
        time.now_s = SHARED_S
        page.go.clear()
        tabs = [asyncio.create_task(asked(client)) for _ in range(3)]
        while page.made < 2:
            await asyncio.sleep(0)
        tabs[0].cancel()
        await asyncio.wait([tabs[0]])
        page.go.set()
        async with asyncio.timeout(30):
            assert set(await asyncio.gather(*tabs[1:])) <= {"3", "4"}


async def test_few_answers_are_kept_and_no_long_ones() -> None:
    """However many addresses there are."""
    async with asking(Counted(), kept=2) as client:
        for n in (1, 2, 3):
            await asked(client, f"/?{n}")
        assert await asked(client, "/?3") == "33" and await asked(client, "/?1") == "41"
    async with asking(Counted(), most_bytes=1) as client:
        assert [await asked(client, "/?long") for _ in range(2)] == ["1long", "2long"]
