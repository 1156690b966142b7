"""Providers that speak JSON over HTTP, through aiohttp.

httpx's own pool collapses above some 65 connections, and aiohttp behind httpx's interface costs a call
two thirds more: nothing of what httpx adds (cookies, redirects, authentication flows) is wanted here.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import time
import urllib.parse
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import aiohttp
import orjson
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from promptlab import awake
from promptlab.domain.masking import STAND_INS, Mask
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.secrets import Secret, is_loopback_name, origin_of, words_for
from promptlab.errors import ConfigError, EndpointUnreachableError, ModelError
from promptlab.loops import PerLoop
from promptlab.models.answers import json_text, mapping
from promptlab.models.bodies import (
    ENCODINGS,
    MAX_ANSWER_BYTES,
    MAX_ERROR_BYTES,
    BodyEncodingError,
    BodyTooLargeError,
    read_body,
    read_json,
)
from promptlab.models.certificates import tls_remedy, trusted
from promptlab.models.endpoints import clean_endpoint, proxy_for, with_path
from promptlab.models.failures import provider_message, request_id, status_error, status_in, text_said, trim
from promptlab.models.provider import Key, Probe, ProviderModel
from promptlab.models.proxies import (
    broken_at_proxy,
    is_of_proxy,
    proxy_headers,
    proxy_shown,
    refused_by_proxy,
)
from promptlab.models.retry import HEARS
from promptlab.models.wire.events import StreamError, gathered, is_stream
from promptlab.outbound import AddressRefusedError, Outbound
from promptlab.ports import Clock

CHUNK_BYTES = 16 * 1024
"""The largest piece in which a body is read."""
CONNECT_S = 10.0
"""Seconds for a connection, within the call's own timeout_s."""
SLOWEST_BYTES_PER_S = 50_000
"""The slowest line over which a file of requests is uploaded."""
KEEPALIVE_S = 15.0
"""Seconds that an idle connection is kept: less than providers and load balancers keep it."""


class Answer(NamedTuple):
    """The answer of an endpoint to one request."""

    body: dict[str, Any]
    latency_ms: float
    """Milliseconds from the request to the answer's end."""
    headers: Mapping[str, str]
    """Its headers, whatever the case of their names; of one that came twice the first."""


class HttpModel(ProviderModel):
    """A provider's HTTP API. A subclass says where it is and what its bodies look like."""

    default_endpoint: ClassVar[str | None] = None
    endpoint_variables: ClassVar[tuple[str, ...]] = ()
    """Environment variables that name another endpoint, as the provider's own client reads them."""
    request_paths: ClassVar[tuple[str, ...]] = ()
    """Ends of whole request URLs, which people give for an endpoint."""
    probe_path: ClassVar[str | None] = None
    """A path below the endpoint that lists models, or tells of the key, and wants the key for that."""
    start_hint: ClassVar[str] = ""
    """What to do when nothing answers at a default endpoint on this machine."""

    def __init__(self, config: ModelConfig | dict[str, Any], *, clock: Clock | None = None) -> None:
        super().__init__(config, clock=clock)
        self.endpoint = self._endpoint()
        self._proxy = proxy_for(self.endpoint)
        self._to_proxy = proxy_headers(self._proxy)
        self._headers: CIMultiDict[str] | None = None
        self._origin: tuple[str, str | None, int | None] = ("", "", None)
        self._withheld: Key | None = None
        self._mask = Mask(None)
        self._sessions = self._new_sessions()

    def _new_sessions(self) -> PerLoop[aiohttp.ClientSession]:
        open_session = functools.partial(
            _open_session,
            self.endpoint,
            self._proxy,
            max(100, 2 * self.config.max_concurrent_tasks),
            self.outbound,
        )
        return PerLoop(open_session, aiohttp.ClientSession.close)

    def guard(self, outbound: Outbound) -> None:
        """Set which addresses calls may reach.

        Raises:
            ConfigError: a proxy stands before the endpoint of a deployed lab.
        """
        if outbound.hosted and self._proxy is not None:
            raise ConfigError(
                f"Model {self.name!r}: a proxy stands before {self.endpoint}, and it would resolve names "
                "itself: which addresses are reached could not be checked. Set no_proxy=* for the "
                "functions."
            )
        if outbound != self.outbound:
            super().guard(outbound)
            self._headers = None
            self._sessions = self._new_sessions()

    def formed(self, response_format: Mapping[str, Any]) -> ProviderModel:
        """Make a model whose answers have a form, with this one's key and over its connections."""
        made = super().formed(response_format)
        if isinstance(made, HttpModel):
            made._sessions = self._sessions
        return made

    def _endpoint(self) -> str:
        """The base URL, without a slash at its end: the configuration's, else the
        environment's, else the provider's."""
        url, source = self.config.endpoint, "endpoint"
        if url is None:
            source = next((name for name in self.endpoint_variables if os.environ.get(name, "").strip()), "")
            url = os.environ[source] if source else self.default_endpoint
        if url is None:
            raise ConfigError(f"Model {self.name!r} needs an endpoint: pass endpoint=…")
        found = clean_endpoint(url, self.name, source=source or "endpoint", paths=self.request_paths)
        if source and source != "endpoint":
            # The run records where its calls went; and a gateway's prices are its own.
            self.config = self.config.model_copy(update={"endpoint": found})
        return found

    @property
    def _key_is_required(self) -> bool:
        if self.key_variable is None or self.config.endpoint is None:
            return self.key_variable is not None
        own = urllib.parse.urlsplit(self.default_endpoint or "").hostname
        return own is not None and urllib.parse.urlsplit(self.config.endpoint).hostname == own

    def url(self, path: str) -> str:
        """The endpoint with a path, before the endpoint's own query if it has one."""
        return with_path(self.endpoint, path)

    def use_secret(self, secret: Secret) -> None:
        """Set the key that a secret store gave; it goes before every other source."""
        super().use_secret(secret)
        self._headers = None

    @property
    def own_hosts(self) -> tuple[str, ...]:
        """Origins that belong to the provider itself; of a server on this machine, by each of its names."""
        own, default = super().own_hosts, self.default_endpoint
        if default is None or self.outbound.hosted or not default.startswith("http://localhost:"):
            return own
        names = ("localhost", "127.0.0.1", "[::1]")
        return (*own, *(origin_of(default.replace("localhost", name, 1)) for name in names))

    @property
    def _environment_hosts(self) -> tuple[str, ...]:
        named = (os.environ.get(variable, "").strip() for variable in self.endpoint_variables)
        return tuple(origin_of(clean_endpoint(url, self.name)) for url in named if url)

    def _key_for(self, url: str) -> str | None:
        """The key that goes to a URL, compared by scheme, host and port; None where none does.

        Raises:
            MissingKeyError: a key is needed, or a variable was named, and there is none.
            ConfigError: the key must not go there.
        """
        key, origin = self._find_key(), origin_of(url)
        self._withheld = None
        if key is None or key.value.lower() in STAND_INS:
            return key and key.value
        where = words_for([origin])
        if key.hosts is not None and origin not in key.hosts:
            if key.default and not self._key_is_required:
                self._withheld = key  # a variable that happens to be set, and a server that may want no key
                return None
            bound = f"is for {words_for(key.hosts)} only" if key.hosts else "is bound to no host"
            raise ConfigError(
                f"Model {self.name!r}: {key.source} {bound}, and is not sent to {where}. {key.remedy}"
            )
        if origin.startswith("http://"):
            host = urllib.parse.urlsplit(url).hostname or ""
            if not (is_loopback_name(host) and self.outbound.reaches_loopback and self._proxy is None):
                raise ConfigError(
                    f"Model {self.name!r}: {key.source} is not sent to {where}, where others could read it "
                    "on its way: use https, or bring the server to this machine (ssh -L "
                    "8000:127.0.0.1:8000 HOST, then endpoint: http://127.0.0.1:8000/v1, without a proxy)."
                )
        return key.value

    def _auth_headers(self, key: str | None) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"} if key else {}

    async def post(self, url: URL, payload: Mapping[str, Any]) -> Answer:
        """Make one request for a JSON object.

        Raises:
            ModelError: no such object came back.
            ConfigError: the key must not go there.
        """
        origin = (url.scheme, url.host, url.port)
        if self._headers is None or origin != self._origin:
            fixed = {
                "Content-Type": "application/json",
                "Accept": "application/json",
                "Accept-Encoding": ENCODINGS,
            }
            key = self._key_for(str(url))
            self._mask = Mask(key)
            to_proxy = self._to_proxy or {} if url.scheme == "http" else {}
            self._headers = CIMultiDict({**fixed, **self._auth_headers(key), **to_proxy})
            self._origin = origin
        content = self._encode(payload)
        started = time.perf_counter()
        try:
            async with awake.timeout(self.config.timeout_s):
                status, headers, body = await self._exchange("POST", url, self._headers, content)
        except aiohttp.ServerTimeoutError as error:  # a TimeoutError, too: no connection in time
            raise self._connection_error(error) from error
        except TimeoutError:
            message = f"{self.name}: no whole answer within {self.config.timeout_s:g} s (timeout_s)"
            raise ModelError(message, type="timeout", retryable=True) from None
        except (BodyTooLargeError, BodyEncodingError) as error:
            raise self._unreadable(error) from error
        except (aiohttp.ClientError, OSError, ValueError) as broken:
            raise self._connection_error(broken) from broken
        latency_ms = (time.perf_counter() - started) * 1000
        body = self._mask.hide(body)
        if status != 200:
            if self._proxy is not None and url.scheme == "http" and is_of_proxy(status, headers):
                raise refused_by_proxy(
                    self.name, self.endpoint, self._proxy, status, provider_message(body)[0]
                )
            raise self._explained(status_error(self.name, status, headers, body, url=str(url)))
        if (hear := HEARS.get()) is not None:
            hear(headers)
        try:
            return Answer(self._decode(body), latency_ms, headers)
        except ModelError as error:
            error.said, error.request_id = text_said(body), request_id(headers)
            raise

    def key_for(self, url: str) -> str | None:
        """The key for a URL of the provider's other services; None where none is to be sent.

        Raises:
            MissingKeyError: a key is needed, or a variable was named, and there is none.
            ConfigError: the key must not go there.
        """
        key = self._key_for(url)
        self._mask = Mask(key)
        return key

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] = MappingProxyType({}),
        content: bytes | AsyncIterator[bytes] = b"",
        size_bytes: int = 0,
    ) -> Answer:
        """Make one request to another of the provider's services than calls go to: files, batches.

        Args:
            method: GET or POST.
            url: where to.
            headers: headers besides those of the key, or in their place; an empty one is left out.
            content: the body, whole or in pieces.
            size_bytes: the size of a body in pieces: a large one may take longer than `timeout_s`.

        Raises:
            ModelError: no JSON object came back.
            ConfigError: the key must not go there.
        """
        asked = self._service_headers(url, headers, has_body=bool(content))
        body_of: Any = content  # aiohttp takes it whole or in pieces
        timeout_s = self.config.timeout_s + size_bytes / SLOWEST_BYTES_PER_S
        started = time.perf_counter()
        try:
            async with awake.timeout(timeout_s):
                status, found, body = await self._exchange(method, URL(url, encoded=True), asked, body_of)
        except TimeoutError as error:
            if isinstance(error, aiohttp.ServerTimeoutError):
                raise self._connection_error(error) from error
            message = f"{self.name}: no whole answer within {timeout_s:g} s"
            raise ModelError(message, type="timeout", retryable=True) from None
        except (BodyTooLargeError, BodyEncodingError) as error:
            raise self._unreadable(error) from error
        except (aiohttp.ClientError, OSError, ValueError) as broken:
            raise self._connection_error(broken) from broken
        body = self._mask.hide(body)
        if status not in (200, 201):
            raise self._explained(status_error(self.name, status, found, body, url=url))
        latency_ms = (time.perf_counter() - started) * 1000
        return Answer(self._decode(body) if body.strip() else {}, latency_ms, found)

    async def download(
        self, url: str, *, headers: Mapping[str, str] = MappingProxyType({})
    ) -> AsyncIterator[bytes]:
        """Stream what a GET gives, in pieces; no piece may take longer than `timeout_s`.

        Raises:
            ModelError: it is refused, or breaks off.
            ConfigError: the key must not go there.
        """
        plain = {"Accept": "*/*", "Accept-Encoding": "identity"}
        asked = self._service_headers(url, {**plain, **headers})
        session = await self._sessions.get()
        try:
            async with awake.timeout(self.config.timeout_s):
                response = await session.get(URL(url, encoded=True), headers=asked, allow_redirects=False)
            async with response:
                chunks = response.content.iter_chunked(2**18)
                if response.status != 200:
                    async with awake.timeout(self.config.timeout_s):
                        refused = await read_body(chunks, most=MAX_ERROR_BYTES, cut=True)
                    said, found = self._mask.hide(refused), _text_of(response.headers)
                    raise self._explained(status_error(self.name, response.status, found, said, url=url))
                while True:
                    async with awake.timeout(self.config.timeout_s):
                        chunk = await anext(chunks, None)
                    if chunk is None:
                        return
                    yield self._mask.hide(chunk)
        except TimeoutError as error:
            if isinstance(error, aiohttp.ServerTimeoutError):
                raise self._connection_error(error) from error
            message = f"{self.name}: nothing came for {self.config.timeout_s:g} s (timeout_s)"
            raise ModelError(message, type="timeout", retryable=True) from None
        except (aiohttp.ClientError, OSError, ValueError) as broken:
            raise self._connection_error(broken) from broken

    def _service_headers(
        self, url: str, headers: Mapping[str, str], *, has_body: bool = False
    ) -> CIMultiDict[str]:
        fixed = {"Accept": "application/json", "Accept-Encoding": ENCODINGS}
        if has_body:
            fixed["Content-Type"] = "application/json"
        found = CIMultiDict({**fixed, **self._auth_headers(self.key_for(url))})
        for name, value in headers.items():
            found[name] = value
        return CIMultiDict((name, value) for name, value in found.items() if value)

    def _explained(self, error: ModelError) -> ModelError:
        """Say why no key was sent, where one is there and the endpoint wanted one."""
        if error.type == "authentication" and self._withheld is not None:
            key = self._withheld
            error.args = (
                f"{error} (no key was sent: {key.source} is for {words_for(key.hosts or ())} only. "
                f"{key.remedy})",
            )
        return error

    async def _exchange(
        self, method: str, url: URL, headers: CIMultiDict[str], content: bytes | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Send a request and read as much of the answer as it may have."""
        session = await self._sessions.get()
        async with session.request(
            method,
            url,
            headers=headers,
            data=content,
            allow_redirects=False,
            proxy_headers=self._to_proxy if url.scheme == "https" else None,  # those of CONNECT
        ) as response:
            status, found = response.status, _text_of(response.headers)
            streamed = found.get("content-type", "").startswith("text/event-stream")
            if status == 200 and streamed and not self.reads_streams:
                raise BodyEncodingError("it is a stream of events, which was not asked for")
            refused = status != 200
            body = await read_body(
                response.content.iter_chunked(CHUNK_BYTES),
                ", ".join(found.getall("content-encoding", ())),
                most=MAX_ERROR_BYTES if refused else MAX_ANSWER_BYTES,
                cut=refused,
            )
        return status, found, body

    def _unreadable(self, error: BodyTooLargeError | BodyEncodingError) -> ModelError:
        if isinstance(error, BodyTooLargeError):
            return ModelError(f"{self.name}: the answer is {error}", type="answer_too_large", status=200)
        return ModelError(
            f"{self.name}: the answer cannot be read: {self._mask.hide_text(str(error))}",
            type="invalid_response",
            status=200,
            retryable=True,
        )

    def _encode(self, payload: Mapping[str, Any]) -> bytes:
        try:
            return orjson.dumps(payload, option=orjson.OPT_NON_STR_KEYS)
        except TypeError as error:  # a lone surrogate, which a JSON dataset may hold and UTF-8 may not
            raise ModelError(
                f"{self.name}: the prompt cannot be sent as JSON: {error}", type="bad_request"
            ) from None

    def _decode(self, body: bytes) -> dict[str, Any]:
        try:
            value = self._gathered(body) or read_json(body)
        except StreamError as error:
            raise self.invalid(f"a stream of events that cannot be read ({error})") from None
        except BodyTooLargeError as error:
            raise self._unreadable(error) from error
        except orjson.JSONDecodeError:
            value = self._decode_loosely(body)
        if not isinstance(value, dict):
            raise self.invalid("not a JSON object", value)
        return value

    def _gathered(self, body: bytes) -> dict[str, Any] | None:
        """Give the answer that a stream is the pieces of; None where a body is no stream."""
        return gathered(body) if self.reads_streams and is_stream(body) else None

    def _decode_loosely(self, body: bytes) -> Any:
        """Read what is not quite JSON and was paid for all the same: with a byte order mark, NaN, or half of
        a surrogate pair."""
        if body.startswith((b"data:", b"event:")):
            raise self.invalid("a stream of events, which was not asked for", _beginning(body))
        try:
            return json.loads(body.decode("utf-8-sig"))
        except (ValueError, RecursionError):
            raise self.invalid("not JSON", _beginning(body)) from None

    def refusal(self, answer: Answer, why: str, about: Any = None) -> ModelError:
        """Tell an answer 200 that holds an error, in any form that providers send, from
        one that holds nothing."""
        body = answer.body if about is None else about
        status = status_in(body)
        if status is not None:
            said = json_text(body).encode("utf-8", "replace")
            return status_error(self.name, status, answer.headers, said)
        return self.invalid(why, body)

    def _connection_error(self, error: Exception) -> ModelError:
        where, said = f"{self.name}: {self.endpoint}", self._mask.hide_text(str(error))
        refused = getattr(error, "os_error", error)
        if isinstance(refused, AddressRefusedError):
            return ModelError(f"{self.name}: {refused}", type="connection", sent=False)
        if self._proxy is not None:
            at_proxy = broken_at_proxy(self.name, self.endpoint, self._proxy, error)
            if at_proxy is not None:
                return at_proxy
        if isinstance(error, aiohttp.ServerTimeoutError):
            return ModelError(
                f"{where}: no connection within {CONNECT_S:g} s", type="timeout", retryable=True, sent=False
            )
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
            return ModelError(
                f"{where}: no trusted TLS connection: {trim(said)} ({tls_remedy()})",
                type="connection",
                sent=False,
            )
        if isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | OSError):
            what = trim(said) or type(error).__name__
            return ModelError(
                f"{where}: the connection failed: {what}",
                type="connection",
                retryable=True,
                sent=not isinstance(error, aiohttp.ClientConnectorError),
            )
        return ModelError(
            f"{where}: the answer is not HTTP as it should be: {trim(said)[:200]}",
            type="invalid_response",
            retryable=True,
        )

    @property
    def probe_words(self) -> str:
        return f"GET {self.url(self.probe_path)}" if self.probe_path else super().probe_words

    async def probe(self) -> Probe:
        if self.probe_path is None:
            return await super().probe()
        url = URL(self.url(self.probe_path))
        key = self._key_for(str(url))
        self._mask = Mask(key)
        headers = CIMultiDict({"Accept": "application/json", **self._auth_headers(key)})
        try:
            async with awake.timeout(self.config.timeout_s):
                status, found, body = await self._exchange("GET", url, headers, None)
        except TimeoutError:
            raise ModelError(f"{self.name}: no answer in time", type="timeout", retryable=True) from None
        except (BodyTooLargeError, BodyEncodingError) as error:
            raise self._unreadable(error) from error
        except (aiohttp.ClientError, OSError, ValueError) as broken:
            raise self._connection_error(broken) from broken
        if status in (404, 405):  # a gateway that serves chat only
            return await super().probe()
        body = self._mask.hide(body)
        if status != 200:
            raise self._explained(status_error(self.name, status, found, body, url=str(url)))
        return Probe(self.probe_words, found, _listed(self._decode(body)))

    def ways(self) -> list[str]:
        """Say where calls go, and through which proxy."""
        through = f"through the proxy {proxy_shown(self._proxy)}" if self._proxy else "without a proxy"
        return [f"calls go to {self.endpoint}, {through}"]

    async def check(self) -> None:
        """Find out, without a paid call, whether calls can succeed: the key is there, and a TCP connection
        can be made.

        Raises:
            MissingKeyError: a key is needed and there is none.
            ConfigError: the key must not go there, or calls may not.
            ConfigError: SSL_CERT_FILE names no certificates.
            EndpointUnreachableError: nothing answers at the endpoint, or at the proxy before it.
        """
        self._key_for(self.endpoint)
        if self.endpoint.startswith("https"):
            await asyncio.to_thread(trusted)  # it takes 20 ms
        parts = urllib.parse.urlsplit(self._proxy or self.endpoint)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            async with awake.timeout(min(CONNECT_S, self.config.timeout_s)):
                await self.outbound.reach(parts.hostname or "", port)
        except AddressRefusedError as error:
            raise ConfigError(f"Model {self.name!r}: {error}.") from error
        except (OSError, TimeoutError) as error:
            # asyncio's own words for a refused connection are "Connect call failed".
            known = error.errno if error.errno is not None and error.errno > 0 else None
            why = (
                "no connection in time"
                if isinstance(error, TimeoutError)
                else os.strerror(known)
                if known
                else str(error)
            )
            if self._proxy is not None:
                raise EndpointUnreachableError(
                    f"Nothing answers at {proxy_shown(self._proxy)}, the proxy before {self.endpoint} of "
                    f"model {self.name!r}: {why}. Check http_proxy and https_proxy, or set no_proxy="
                    f"{urllib.parse.urlsplit(self.endpoint).hostname} to go without."
                ) from error
            hint = (
                self.start_hint
                if self.config.endpoint is None and self.start_hint
                else "Check the endpoint and that the server is running."
            )
            raise EndpointUnreachableError(
                f"Nothing answers at {self.endpoint}, the endpoint of model {self.name!r}: {why}. {hint}"
            ) from error

    async def aclose(self) -> None:
        """Close the connections of the running event loop. The model can be used again."""
        await self._sessions.aclose()


def _listed(body: dict[str, Any]) -> tuple[str, ...] | None:
    """The names of the models in a list of them, as OpenAI, Anthropic and Ollama have it; of a page of one
    that goes on, None."""
    found = body.get("data") or body.get("models")
    if not isinstance(found, list) or body.get("has_more"):
        return None
    names = (mapping(one).get("id") or mapping(one).get("name") for one in found[:100_000])
    return tuple(str(name) for name in names if name)


def _beginning(body: bytes) -> str:
    return body[:300].decode("utf-8", "replace")


def _text_of(headers: CIMultiDictProxy[str]) -> CIMultiDictProxy[str]:
    """The headers of an answer as text that can be stored: bytes that are no UTF-8 stand for Latin-1."""
    if all(map(str.isascii, headers.values())):
        return headers
    named = ((name, _storable(value)) for name, value in headers.items())
    return CIMultiDictProxy(CIMultiDict(named))


def _storable(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:  # aiohttp keeps such bytes as lone surrogates
        return value.encode("utf-8", "surrogateescape").decode("latin-1")
    return value


async def _open_session(
    endpoint: str, proxy: str | None, connections: int, outbound: Outbound
) -> aiohttp.ClientSession:
    secure = endpoint.startswith("https") or (proxy or "").startswith("https")
    # Loading the certificates takes 20 ms; a plain-text endpoint has no use for them.
    verified = trusted() if secure else False
    before = URL(proxy).with_user(None) if proxy else None  # it may refuse: then nothing is open yet
    return aiohttp.ClientSession(
        connector=outbound.connector(limit=connections, keepalive_timeout=KEEPALIVE_S, ssl=verified),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
        auto_decompress=False,  # that is done within a bound, by read_body
        proxy=before,
    )
