"""An OpenID Connect provider on 127.0.0.1, with keys of its own, that can be made to answer wrongly."""

from __future__ import annotations

import base64
import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Self
from urllib.parse import parse_qs, urlencode

import uvicorn
from fastapi import FastAPI, Form, Request
from joserfc import jwt
from joserfc.jwk import RSAKey
from promptlab_studio.server import bind
from starlette.responses import JSONResponse, RedirectResponse, Response

CLIENT = "the-studio"


@dataclass
class OidcServer:
    """`with OidcServer() as provider:`; who signs in is `claims`; `twist` changes an ID token's claims."""

    claims: dict[str, Any] = field(
        default_factory=lambda: {
            "sub": "1",
            "email": "zoe@example.com",
            "email_verified": True,
            "name": "Zoe",
        }
    )
    twist: Callable[[dict[str, Any]], dict[str, Any]] = lambda claims: claims
    header: dict[str, Any] = field(default_factory=dict)
    """Changes of an ID token's header."""
    published: list[RSAKey] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self.key = RSAKey.generate_key(2048, {"kid": "first", "use": "sig"})
        self.published = [self.key]
        self._socket = bind("127.0.0.1", 0)
        self.issuer = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            self._app(), log_level="critical", lifespan="off", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(200)
        self._socket.close()

    def rotate(self) -> None:
        """Sign with a new key, and publish that one only."""
        self.key = RSAKey.generate_key(2048, {"kid": secrets.token_hex(4), "use": "sig"})
        self.published = [self.key]

    def _app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/.well-known/openid-configuration")
        async def discovery() -> dict[str, str]:
            self.asked.append("discovery")
            return {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                "end_session_endpoint": f"{self.issuer}/logout",
            }

        @app.get("/keys")
        async def keys() -> dict[str, Any]:
            self.asked.append("keys")
            return {"keys": [key.as_dict(private=False) for key in self.published]}

        @app.get("/authorize")
        async def authorize(request: Request) -> Response:
            asked = dict(request.query_params)
            if asked.get("code_challenge_method") != "S256" or asked.get("client_id") != CLIENT:
                return JSONResponse({"error": "invalid_request"}, 400)
            code = secrets.token_urlsafe(16)
            self.codes[code] = asked
            return RedirectResponse(
                f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"
            )

        @app.post("/token")
        async def token(
            code: Annotated[str, Form()],
            code_verifier: Annotated[str, Form()],
            redirect_uri: Annotated[str, Form()],
        ) -> Response:
            self.asked.append("token")
            asked = self.codes.pop(code, None)  # a code is good once
            digest = base64.urlsafe_b64encode(hashlib.sha256(code_verifier.encode()).digest()).rstrip(b"=")
            if (
                asked is None
                or asked["redirect_uri"] != redirect_uri
                or asked["code_challenge"] != digest.decode()
            ):
                return JSONResponse({"error": "invalid_grant"}, 400)
            return JSONResponse(
                {"id_token": self.id_token(asked["nonce"]), "access_token": "x", "token_type": "Bearer"}
            )

        return app

    def id_token(self, nonce: str) -> str:
        """A token for whoever signs in."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "iat": now,
            "exp": now + 300,
            "nonce": nonce,
            **self.claims,
        }
        header = {"alg": "RS256", "kid": self.key.kid, **self.header}
        return jwt.encode(header, self.twist(claims), self.key, algorithms=["RS256", "HS256", "PS256"])


def parameters(address: str) -> dict[str, str]:
    """The parameters of an address."""
    return {name: values[0] for name, values in parse_qs(address.partition("?")[2]).items()}
