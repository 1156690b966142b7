"""Requests to a hosted Studio, sent again where the network or the server stumbles."""

from __future__ import annotations

import asyncio
import functools
import random
import urllib.parse
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptlab.adapters.http.problems import error_from
from promptlab.clock import SystemClock
from promptlab.domain.masking import remember
from promptlab.domain.projects import checked_project
from promptlab.domain.secrets import is_loopback_name
from promptlab.errors import (
    AuthenticationError,
    ConfigError,
    EndpointUnreachableError,
    PromptLabError,
    RemoteError,
    TooManyTriesError,
)
from promptlab.loops import PerLoop
from promptlab.models.bodies import ENCODINGS, BodyEncodingError, BodyTooLargeError, read_body
from promptlab.models.endpoints import proxy_for
from promptlab.ports import Clock
from promptlab.program import program

if TYPE_CHECKING:
    import httpx

API = "/api/v1"
PATIENCE_S = 60.0
"""How long a Studio that has answered before may be away."""
FIRST_PATIENCE_S = 3.0
"""The same for one that has never answered: its address may be wrong."""
FAULTS = 3
"""How often a request is sent that the Studio itself answers with 500."""
TIMEOUT_S = 60.0
WHOLE_S = 300.0
"""How long a whole answer may take: one that comes byte by byte never times out."""
MAX_ANSWER_BYTES = 64 << 20
"""The largest answer, decoded: pages have some 5 MB, all versions of a long prompt may have more."""
MAX_REFUSAL_BYTES = 1 << 20
_OF_THE_WIRE = frozenset({"content-encoding", "content-length", "transfer-encoding"})
_PASSING = frozenset({429, 502, 503, 504})
_PIECE = 1 << 20


def checked_endpoint(url: str) -> str:
    """The address of a Studio, without a path.

    Raises:
        ConfigError: it is none.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        usable = (
            parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(
            f"endpoint {url!r} is not a Studio's address, such as "
            "https://abc123.execute-api.eu-west-1.amazonaws.com or http://127.0.0.1:8000"
        )
    return url.partition("?")[0].rstrip("/").removesuffix(API)


class ApiClient:
    """Speaks to one Studio, from any event loop."""

    def __init__(
        self, endpoint: str, api_key: str | None, clock: Clock | None = None, project: str | None = None
    ) -> None:
        self.endpoint = checked_endpoint(endpoint)
        host = urllib.parse.urlsplit(self.endpoint).hostname or ""
        if api_key and self.endpoint.startswith("http://") and not is_loopback_name(host):
            raise ConfigError(
                f"The token is not sent to {self.endpoint}, where others could read it on its way: use https."
            )
        remember(api_key)
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.project = project
        if project:
            self._headers["Promptlab-Project"] = checked_project(project)
        self._clock = clock or SystemClock()
        self._clients: PerLoop[httpx.AsyncClient] = PerLoop(_open, _close)
        self._answered = False

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._clock.sleep(seconds)

    async def get(self, path: str, **params: Any) -> dict[str, Any]:
        """Get what a path of the API answers; parameters that are None are left out."""
        return await self.json("GET", path, params={k: v for k, v in params.items() if v is not None})

    async def json(
        self, method: str, path: str, *, repeatable: bool = True, **request: Any
    ) -> dict[str, Any]:
        """A request, and the JSON object that answers it.

        Args:
            method: the HTTP method.
            path: below /api/v1.
            repeatable: whether sending it twice does no harm.
            request: `json`, `params`, `headers` as httpx takes them.

        Raises:
            AuthenticationError: the token is missing or wrong.
            EndpointUnreachableError: the Studio does not answer.
            RemoteError: it answers something else than a Studio does, or broke down.
            PromptLabError: the error that the Studio tells of.
        """
        own = {**self._headers, **request.pop("headers", {})}
        send = functools.partial(self._send, method, self.endpoint + API + path, headers=own, **request)
        response = await self._patiently(send, repeatable=repeatable)
        if method == "GET" and response.has_redirect_location:
            # A long answer is a file of its own. Not with our token: it is another server's.
            where = urllib.parse.urljoin(self.endpoint, response.headers["location"])
            response = await self._patiently(functools.partial(self._send, "GET", where))
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise RemoteError(
                f"{self.endpoint} answers, but not as a PromptLab Studio does: is the endpoint right?",
                status=response.status_code,
            )
        return answer

    async def whole(self, page: dict[str, Any], name: str) -> list[dict[str, Any]]:
        """Give the items of a page, with those whose texts it cuts as they are whole."""
        items: list[dict[str, Any]] = page[name]
        # A Studio of an older version does not cut, nor say so.
        for place, url in {entry["item"]: entry["url"] for entry in page.get("cut") or ()}.items():
            items[place] = await self.get(url.removeprefix(API))
        return items

    async def delete(self, path: str, **params: Any) -> int:
        """Remove what there is at a path of the API.

        Returns:
            The status of the answer.

        Raises:
            PromptLabError: as of `json`.
        """
        answer = await self._patiently(
            functools.partial(
                self._send, "DELETE", self.endpoint + API + path, headers=self._headers, params=params
            )
        )
        return answer.status_code

    async def download(self, path: str, target: Path, **params: Any) -> None:
        """Write what there is at a path of the API to a file, wherever the Studio says that it is."""
        send = functools.partial(
            self._save, self.endpoint + API + path, target, params=params, headers=self._headers
        )
        response = await self._patiently(send)
        if response.has_redirect_location:
            # Not with our token: it is another server's.
            where = urllib.parse.urljoin(self.endpoint, response.headers["location"])
            await self._patiently(functools.partial(self._save, where, target))

    async def upload(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        path: Path,
        on_sent: Callable[[int], None] | None = None,
    ) -> None:
        """Send a file where the Studio said that it is to go; `on_sent` is told how many bytes are sent.

        Raises:
            RemoteError: it was not taken; a redirection counts as that, for it stored nothing.
        """
        own = self._headers if _origin(url) == _origin(self.endpoint) else {}
        size = str((await asyncio.to_thread(path.stat)).st_size)
        send = functools.partial(
            self._send_file, method, url, {**headers, **own, "Content-Length": size}, path, on_sent
        )
        response = await self._patiently(send)
        if not response.is_success:
            raise self._failure(response)

    async def aclose(self) -> None:
        """Close the running loop's connections."""
        await self._clients.aclose()

    async def _patiently(self, send: Callable[[], Any], *, repeatable: bool = True) -> httpx.Response:
        import httpx

        waited, pause, faults = 0.0, 0.5, 0
        while True:
            failure: PromptLabError
            try:
                response: httpx.Response = await send()
            except httpx.TransportError as error:
                patience = PATIENCE_S if self._answered else FIRST_PATIENCE_S
                again = repeatable or isinstance(error, httpx.ConnectError)
                failure = EndpointUnreachableError(
                    f"The Studio at {self.endpoint} does not answer: {error or type(error).__name__}."
                )
            else:
                self._answered = True
                if response.status_code < 400:
                    return response
                patience, faults = PATIENCE_S, faults + (response.status_code == 500)
                again = response.status_code in _PASSING or (repeatable and 0 < faults < FAULTS)
                failure = self._failure(response)
                again = again and not isinstance(failure, TooManyTriesError)  # it is the token that is wrong
            if not again or waited >= patience:
                raise failure
            # Full jitter on the upper half: clients that were cut off together do not come back together.
            seconds = random.uniform(pause / 2, pause)
            await self._clock.sleep(seconds)
            waited, pause = waited + seconds, min(5.0, 2 * pause)

    async def _send(self, method: str, url: str, **request: Any) -> httpx.Response:
        import httpx

        try:
            async with (
                asyncio.timeout(WHOLE_S),
                (await self._clients.get()).stream(method, url, **request) as response,
            ):
                return await _read(response)
        except TimeoutError:
            raise httpx.ReadTimeout(f"no whole answer within {WHOLE_S:g} s") from None

    async def _save(self, url: str, target: Path, **request: Any) -> httpx.Response:
        # As it is: a few kilobytes of gzip in gzip decode to more than any memory, at once.
        headers = {**request.pop("headers", {}), "Accept-Encoding": "identity"}
        async with (await self._clients.get()).stream("GET", url, headers=headers, **request) as response:
            if response.status_code != 200:
                return await _read(response)
            if (encoding := response.headers.get("content-encoding", "identity")) != "identity":
                raise RemoteError(
                    f"{_origin(url)} sends a file in the encoding {encoding[:40]!r}, which was not asked "
                    "for. Is the endpoint right?",
                    status=response.status_code,
                )
            with await asyncio.to_thread(target.open, "wb") as file:
                async for piece in response.aiter_raw(_PIECE):
                    await asyncio.to_thread(file.write, piece)
            return response

    async def _send_file(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        path: Path,
        on_sent: Callable[[int], None] | None,
    ) -> httpx.Response:
        async with (await self._clients.get()).stream(
            method, url, headers=headers, content=_pieces(path, on_sent)
        ) as response:
            return await _read(response)

    def _failure(self, response: httpx.Response) -> PromptLabError:
        if response.status_code == 401:
            said = "did not accept the token" if "Authorization" in self._headers else "wants a token"
            return AuthenticationError(
                f"The Studio at {self.endpoint} {said}. `{program()} cloud token` prints it: pass it as "
                "api_key, or set PROMPTLAB_API_KEY."
            )
        try:
            problem = response.json()
        except ValueError:
            problem = None
        if response.status_code == 413 and not (isinstance(problem, dict) and "title" in problem):
            return RemoteError(
                f"This request is larger than {self.endpoint} takes. Put rows into a file, and create a "
                "dataset from it: files of up to 5 GB are uploaded.",
                status=413,
            )
        if isinstance(problem, dict) and "title" in problem:
            return error_from(response.status_code, problem)
        return RemoteError(
            f"{_origin(str(response.url))} answered with status {response.status_code}: "
            f"{response.text[:200]}",
            status=response.status_code,
        )


async def _read(response: httpx.Response) -> httpx.Response:
    """Read an answer whole, with a bound; of a refusal the beginning.

    Raises:
        RemoteError: it is larger than any answer of a Studio, or encoded in another way than was asked for.
    """
    import httpx

    refused = response.status_code >= 400
    try:
        body = await read_body(
            response.aiter_raw(),
            response.headers.get("content-encoding", ""),
            most=MAX_REFUSAL_BYTES if refused else MAX_ANSWER_BYTES,
            cut=refused,
        )
    except (BodyTooLargeError, BodyEncodingError) as error:
        raise RemoteError(
            f"{_origin(str(response.url))} answers with a body that cannot be read: {error}. "
            "Is the endpoint right?",
            status=response.status_code,
        ) from None
    headers = [(k, v) for k, v in response.headers.multi_items() if k not in _OF_THE_WIRE]
    return httpx.Response(response.status_code, headers=headers, content=body, request=response.request)


async def _pieces(path: Path, on_sent: Callable[[int], None] | None) -> AsyncIterator[bytes]:
    sent = 0
    with await asyncio.to_thread(path.open, "rb") as file:
        while piece := await asyncio.to_thread(file.read, _PIECE):
            yield piece
            sent += len(piece)
            if on_sent:
                on_sent(sent)


def _origin(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


async def _open() -> httpx.AsyncClient:
    import httpx

    class Ways(httpx.AsyncBaseTransport):
        """Sends each request through the proxy that this machine's settings put before its address.

        httpx's own reading of no_proxy knows no networks (10.0.0.0/8), and models follow the same settings.
        """

        def __init__(self) -> None:
            self._proxies: dict[str, str | None] = {}
            self._ways: dict[str | None, httpx.AsyncHTTPTransport] = {}

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            proxy = None
            if request.url.host.endswith(".localhost"):
                request = _at_loopback(request)
            else:
                proxy = await self._before(f"{request.url.scheme}://{request.url.netloc.decode('ascii')}")
            if proxy not in self._ways:
                self._ways[proxy] = httpx.AsyncHTTPTransport(proxy=proxy)
            return await self._ways[proxy].handle_async_request(request)

        async def _before(self, origin: str) -> str | None:
            if origin not in self._proxies:
                self._proxies[origin] = await asyncio.to_thread(proxy_for, origin)
            return self._proxies[origin]

        async def aclose(self) -> None:
            for way in self._ways.values():
                await way.aclose()

    timeout = httpx.Timeout(TIMEOUT_S, connect=10)
    return httpx.AsyncClient(
        timeout=timeout,
        follow_redirects=False,
        transport=Ways(),
        headers={"Accept-Encoding": ENCODINGS},
    )


def _at_loopback(request: httpx.Request) -> httpx.Request:
    """Send a request for a name under localhost to this machine (RFC 6761, 6.3). Browsers know; the C library
    mostly does not, and resolves only `localhost`."""
    import httpx

    return httpx.Request(  # the Host header stands already, and says which name was meant
        request.method,
        request.url.copy_with(host="127.0.0.1"),
        headers=request.headers,
        stream=request.stream,
        extensions=request.extensions,
    )


async def _close(client: httpx.AsyncClient) -> None:
    await client.aclose()
