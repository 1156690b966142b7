"""Hostile requests by the thousand: each tries to get in, to read what it may not, or to break something."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

from tests.studio.large_lab import BODIES, FORMS, PATHS, WITHOUT
from tests.studio.live import TOKEN


@dataclass(frozen=True)
class Hostile:
    """One request; `address` is the client's, so that the kinds do not shut each other out."""

    kind: str
    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes | None = None


FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}
INJECTED = (
    "' OR '1'='1",
    "' OR 1=1--",
    "admin'--",
    "') OR ('1'='1",
    "1; DROP TABLE record;--",
    "1 UNION SELECT * FROM record",
    "'; ATTACH '/etc/passwd' AS x;--",
    "x' AND (SELECT COUNT(*) FROM record)>0--",
    "{$ne: null}",
    '{"$gt": ""}',
    "*",
    "%",
    "_",
    "\x00",
    "${jndi:ldap://127.0.0.1/x}",
    "{{7*7}}",
    "{% debug %}",
    "<script>alert(1)</script>",
    "$(id)",
    "`id`",
    "| id",
    "\r\nSet-Cookie: promptlab=x",
    "../../../../etc/passwd",
    "file:///etc/passwd",
    "http://169.254.169.254/latest/meta-data/",
    "read_csv('/etc/passwd')",
    "COPY record TO '/tmp/x'",
)
TOKENS = (
    "",
    " ",
    "null",
    "undefined",
    "true",
    "0",
    "-1",
    "admin",
    "root",
    "token",
    "Bearer",
    "pl_",
    "pl_" + "A" * 43,
    "pl_" + "0" * 10_000,
    TOKEN[:-1],
    TOKEN + "x",
    TOKEN.upper(),
    TOKEN[::-1],
    TOKEN[: len(TOKEN) // 2],
    f"\t{TOKEN}x",
    f"{TOKEN},{TOKEN}",
    f'"{TOKEN}"',
    f"{TOKEN}\x00",
    f"{TOKEN}%00",
    quote(TOKEN[:-1] + "-"),
    "é" * 20,
    "a" * 15,
    "a-token-that-is-long-enougH",
    "eyJhbGciOiJub25lIn0.eyJyb2xlIjoiYWRtaW4ifQ.",
    "eyJhbGciOiJIUzI1NiJ9.e30.x",
)
SCHEMES = (
    "Bearer",
    "bearer",
    "BEARER",
    "Basic",
    "Digest",
    "Token",
    "JWT",
    "Negotiate",
    "AWS4-HMAC-SHA256",
    "",
)
COOKIES = ("promptlab", "__Host-promptlab", "__Secure-promptlab", "session", "promptlab-8000", "token")
WAYS_OUT = (
    "//evil.example",
    "https://evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/%09/evil.example",
    "javascript:alert(1)",
    "data:text/html,x",
    "/\t/evil.example",
    "///evil.example",
    "/\r\nLocation: https://evil.example",
    "http:evil.example",
)
CLIMBS = (
    "../",
    "..%2f",
    "%2e%2e/",
    "%2e%2e%2f",
    "..%252f",
    "..\\",
    "..%5c",
    "%c0%ae%c0%ae/",
    "....//",
    "..;/",
    ".%00./",
    "/./",
)
SECRETS = ("etc/passwd", "lab.db", "proc/self/environ", "studio/promptlab_studio/auth.py", "windows/win.ini")
HOSTS = (
    "evil.example",
    "localhost",
    "127.0.0.1",
    "lab.example.evil.example",
    "lab.example@evil.example",
    "evil.example:80",
    "[::1]",
    "0",
    "lab.example\tx",
    "*",
)
FORWARDED = (
    {"X-Forwarded-For": "127.0.0.1"},
    {"X-Real-IP": "127.0.0.1"},
    {"X-Forwarded-Host": "localhost"},
    {"Forwarded": "for=127.0.0.1;host=localhost"},
    {"X-Original-URL": "/login"},
    {"X-Rewrite-URL": "/api/v1/health"},
    {"X-Forwarded-Prefix": "/static"},
    {"X-User": "admin"},
    {"X-Remote-User": "admin"},
    {"Remote-User": "admin"},
    {"X-Forwarded-User": "admin"},
    {"X-Auth-Token": TOKEN[:-1]},
    {"X-Api-Key": TOKEN},
    {"X-Amzn-Oidc-Data": "e30.e30.x"},
    {"X-Amzn-Oidc-Identity": "admin"},
    {"Via": "1.1 localhost"},
    {"X-Amz-Cf-Id": "x"},
    {"X-Role": "admin"},
    {"X-Project": "default"},
    {"X-Promptlab-Principal": "admin"},
    {"Proxy-Authorization": f"Bearer {TOKEN}"},
    {"X-HTTP-Authorization": f"Bearer {TOKEN}"},
    {"Sec-Fetch-Site": "none"},
    {"HX-Request": "true"},
    {"HX-Request": "true", "HX-Target": "runs"},
    {"Origin": "http://lab.example"},
    {"Origin": "http://["},
    {"Origin": "http://a]b"},
    {"HX-Request": "true", "HX-Current-URL": "http://["},
    {"Referer": "http://lab.example/"},
    {"X-Forwarded-Proto": "https"},
    {"X-Forwarded-Port": "443"},
    {"Upgrade": "websocket", "Connection": "Upgrade"},
    {"Range": "bytes=0-10"},
    {"If-None-Match": "*"},
    {"Accept": "text/html"},
    {"Accept": "../../etc/passwd"},
    {"Expect": "100-continue"},
)
OVERRIDES = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method")
METHODS = ("HEAD", "OPTIONS", "TRACE", "CONNECT", "PUT", "PATCH", "DELETE", "PROPFIND", "DEBUG", "get", "X")
GUARDED = [
    ("GET", "/"),
    ("GET", "/runs/{run}"),
    ("GET", "/tokens"),
    ("GET", "/people"),
    ("GET", "/audit"),
    ("GET", "/api/v1/runs"),
    ("GET", "/api/v1/runs/{run}/export"),
    ("GET", "/api/v1/tokens"),
    ("GET", "/api/v1/audit/export"),
    ("POST", "/api/v1/runs"),
    ("POST", "/api/v1/tokens"),
    ("PUT", "/api/v1/people/evil@example.com"),
    ("PUT", "/api/v1/settings/admin-token"),
    ("DELETE", "/api/v1/runs/{run}"),
    ("POST", "/people"),
    ("POST", "/runs/delete?n=1"),
]


def _token_tries() -> Iterator[Hostile]:
    """As bearer in every scheme, typed, in the address, in cookies, in bodies."""
    for scheme, token in itertools.product(SCHEMES, TOKENS):
        if scheme.lower() == "bearer" and token.strip() == TOKEN:
            continue
        value = f"{scheme} {token}".encode("latin-1", "replace").decode("latin-1").strip("\t ")
        yield Hostile("token", "GET", "/api/v1/runs", {"Authorization": value})
    for token in TOKENS:
        basic = base64.b64encode(f"admin:{token}".encode()).decode()
        yield Hostile("token", "GET", "/api/v1/runs", {"Authorization": f"Basic {basic}"})
        yield Hostile("login", "POST", "/session", FORM, urlencode({"token": token}).encode())
        for name in ("token", "access_token", "key", "api_key", "code", "authorization"):
            yield Hostile("token in the address", "GET", f"/api/v1/runs?{urlencode({name: token})}")
    for name in ("token", "access_token", "authorization", "api_key", "bearer"):
        yield Hostile("token in the address", "GET", f"/api/v1/runs?{urlencode({name: TOKEN})}")
        yield Hostile("token in a body", "POST", "/api/v1/runs", JSON, f'{{"{name}": "{TOKEN}"}}'.encode())


def _logins() -> Iterator[Hostile]:
    """Injections, odd forms, and ways to another site."""
    for text in INJECTED:
        yield Hostile("login", "POST", "/session", FORM, urlencode({"token": text}).encode())
        yield Hostile("login", "POST", "/session", FORM, urlencode({"token": text, "next": text}).encode())
        yield Hostile("link", "GET", f"/shared?{urlencode({'key': text})}")
        yield Hostile("code", "GET", f"/open?{urlencode({'code': text})}")
        yield Hostile("login page", "GET", f"/login?{urlencode({'next': text})}")
    for content in (
        b"",
        b"&",
        b"=",
        b"token",
        b"token=&token=",
        b"token=x&token=" + TOKEN[:-1].encode(),
        b"\xff\xfe",
        b"%",
        b"%zz",
        b"token[]=x",
        b"token[$ne]=x",
        b"{}",
        b'{"token": {"$ne": 1}}',
        b"[1]",
        b"<x/>",
        b"token=" + b"%00" * 1_000,
    ):
        for kind in (
            FORM,
            JSON,
            {"Content-Type": "multipart/form-data; boundary=x"},
            {"Content-Type": "text/plain"},
            {},
        ):
            yield Hostile("login", "POST", "/session", kind, content)
    for way in WAYS_OUT:
        yield Hostile("way out", "POST", "/session", FORM, urlencode({"token": "x", "next": way}).encode())
        yield Hostile("way out", "GET", f"/login?{urlencode({'next': way})}")


def _cookies() -> Iterator[Hostile]:
    """Forged, planted, and with the token itself."""
    values = (
        *TOKENS,
        TOKEN,
        "a" * 43,
        "local",
        "admin-token",
        '{"role":"admin"}',
        "e30.e30.",
        "../SESSION",
        "SESSION#x",
    )
    for name, value in itertools.product(COOKIES, values):
        clean = "".join(c for c in value if c.isprintable() and c.isascii() and c not in ';," ')
        yield Hostile("cookie", "GET", "/api/v1/runs", {"Cookie": f"{name}={clean}"})
    for method, path in GUARDED:
        yield Hostile("cookie", method, path, {"Cookie": f"promptlab={'b' * 43}; promptlab={'c' * 43}"})


def _headers() -> Iterator[Hostile]:
    """Headers that some proxy believes, other hosts, and methods in disguise."""
    for headers, (method, path) in itertools.product(FORWARDED, GUARDED):
        yield Hostile("header", method, path, headers)
    for host, (method, path) in itertools.product(HOSTS, GUARDED[:8]):
        yield Hostile("host", method, path, {"Host": host})
    for name, (method, path) in itertools.product(OVERRIDES, GUARDED):
        yield Hostile("method", "POST", path.partition("?")[0], {name: method})
        yield Hostile("method", "GET", f"{path}{'&' if '?' in path else '?'}_method={method}", {name: "GET"})
    for method, (_, path) in itertools.product(METHODS, GUARDED):
        yield Hostile("method", method, path)


def _paths() -> Iterator[Hostile]:
    """Out of the static files, around the routes, and injections as names."""
    for climb, secret, depth in itertools.product(CLIMBS, SECRETS, (1, 4)):
        yield Hostile("climb", "GET", f"/static/{climb * depth}{secret}")
    for climb in CLIMBS:
        yield Hostile("around", "GET", f"/static/{climb}api/v1/runs")
        yield Hostile("around", "GET", f"/login/{climb}api/v1/runs")
        yield Hostile("around", "GET", f"/api/v1/health/{climb}runs")
    for path in (
        "//api/v1/runs",
        "/api/v1//runs",
        "/API/v1/runs",
        "/api/v1/runs/",
        "/api/v1/runs;x=1",
        "/api/v1/runs%20",
        "/api/v1/runs%00",
        "/api/v1/runs.json",
        "/api/v1/%72uns",
        "/./api/v1/runs",
        "/api/v1/health?x=/runs",
        "/api/v1/runs?login",
        "/api/v1/runs#/api/v1/health",
        "/docs",
        "/redoc",
        "/openapi.json",
        "/metrics",
        "/.env",
        "/.git/config",
        "/admin",
        "/debug",
        "/server-status",
        "/actuator",
        "/api",
        "/api/v1",
        "/api/v2/runs",
    ):
        yield Hostile("around", "GET", path)
    for text in INJECTED:
        name = quote(text, safe="")
        for path in (
            "/api/v1/runs/{}",
            "/api/v1/prompts/{}",
            "/runs/{}",
            "/api/v1/people/{}",
            "/api/v1/runs?cursor={}",
            "/runs/x?q={}",
            "/runs/x?sort={}",
            "/runs/x?range={}",
            "/audit?who={}",
            "/prompt?name={}",
        ):
            yield Hostile("injection", "GET", path.format(name))


def _every_route() -> Iterator[Hostile]:
    """Each route with nothing, with a foreign site, and with a broken body."""
    routes = [("GET", p) for p in PATHS] + [("POST", p) for p in FORMS] + [*BODIES, *WITHOUT]
    for method, path in routes:
        where = path.replace("{run_id}", "{run}")
        yield Hostile("route", method, where)
        yield Hostile(
            "site", method, where, {"Sec-Fetch-Site": "cross-site", "Cookie": f"promptlab={'d' * 43}"}
        )
        yield Hostile("site", method, where, {"Origin": "null", "Cookie": "promptlab=x"})
        if method != "GET":
            yield Hostile("body", method, where, JSON, b"{")
            yield Hostile("body", method, where, {"Content-Length": "99999999999"}, b"x")


def hostile_requests() -> list[Hostile]:
    """Every one of them, each once."""
    sources = (_token_tries(), _logins(), _cookies(), _headers(), _paths(), _every_route())
    found = {repr(one): one for source in sources for one in source}
    return list(found.values())
