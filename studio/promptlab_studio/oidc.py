"""Sign-in with an account of an OpenID Connect provider: authorization code flow with PKCE.

What must hold at the end, and is checked here: the answer belongs to a sign-in that began in this browser
minutes ago, and is used once; the ID token is signed by the provider's key, made by it, for this Studio, for
this sign-in, and has not expired; the provider has verified the e-mail address.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import orjson

from promptlab.errors import AuthenticationError, ConfigError, EndpointUnreachableError
from promptlab.ports import Records
from promptlab_studio.admin_token import sha

SIGN_IN = "SIGN_IN"
"""The kind of records of sign-ins that have begun, by the hash of their state."""
SIGN_IN_S = 600.0
"""How long somebody may take at the provider's pages."""
KEYS_S, NEW_KEYS_S = 3600.0, 60.0
"""How long the provider's keys are used; how soon they are read again for one that is not among them."""
LEEWAY_S = 60
"""How far the provider's clock may be off."""
ALGORITHMS = ["RS256", "PS256", "ES256", "RS384", "RS512", "ES384"]
"""Signatures with a key that only the provider has: neither none nor HMAC."""
_TIMEOUT_S, _MOST_BYTES, _MOST_ANSWER = 10.0, 1 << 20, 4_000
_FAILED = "The sign-in failed: {}. Try again."


@dataclass(frozen=True, slots=True)
class Provider:
    """An OpenID Connect provider, and this Studio as its client.

    Raises:
        ConfigError: the issuer is not https (or this machine's).
    """

    issuer: str
    client_id: str
    client_secret: str | None = None
    """None for a client without one: PKCE stands in for it."""
    scope: str = "openid email profile"
    described_at: str | None = None
    """Where the provider describes itself, if not below its issuer: on a local AWS, whose tokens name AWS
    itself as issuer."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.issuer)
        here = parts.hostname in ("127.0.0.1", "localhost") or (parts.hostname or "").endswith(".localhost")
        if not (parts.scheme == "https" or (parts.scheme == "http" and here)) or not parts.hostname:
            raise ConfigError(f"The issuer of accounts must be an https address, not {self.issuer!r}.")


@dataclass(frozen=True, slots=True)
class Account:
    """Who the provider says is here."""

    email: str
    subject: str
    """The issuer and its id of the account."""
    name: str


class SignIn:
    """Sign-ins with a provider."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self._known: dict[str, Any] | None = None
        self._keys: tuple[float, Any] = (float("-inf"), None)
        self._lock = asyncio.Lock()

    async def begin(self, records: Records, *, back: str, path: str) -> tuple[str, str]:
        """Begin a sign-in; return the provider's address, and the secret that the browser keeps in a cookie.

        Args:
            records: where what has begun is kept.
            back: the address that the provider sends the browser back to.
            path: the page to go on to afterwards.

        Raises:
            EndpointUnreachableError: the provider does not answer, or not as one does.
        """
        from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
        from authlib.oauth2.rfc7636 import create_s256_code_challenge

        known = await self._discovered()
        state, nonce, verifier, browser = (secrets.token_urlsafe(32) for _ in range(4))
        begun = {"nonce": nonce, "verifier": verifier, "browser": sha(browser), "back": back, "path": path}
        await records.put_record(SIGN_IN, sha(state), begun, expires_at=time.time() + SIGN_IN_S)
        address: str = prepare_grant_uri(
            known["authorization_endpoint"],
            client_id=self.provider.client_id,
            response_type="code",
            redirect_uri=back,
            scope=self.provider.scope,
            state=state,
            nonce=nonce,
            code_challenge=create_s256_code_challenge(verifier),
            code_challenge_method="S256",
        )
        return address, browser

    async def finish(self, records: Records, answer: dict[str, str], browser: str) -> tuple[Account, str]:
        """The account that signed in, and the page to go on to.

        Args:
            records: where what has begun is kept.
            answer: the parameters that the provider sent the browser back with.
            browser: the secret in the browser's cookie.

        Raises:
            AuthenticationError: something that must hold does not.
            EndpointUnreachableError: the provider does not answer, or not as one does.
        """
        begun = await records.get_record(SIGN_IN, sha(answer.get("state", "")[:_MOST_ANSWER]))
        if begun is None:
            raise AuthenticationError(_FAILED.format("it took too long, or was finished already"))
        if not hmac.compare_digest(begun["browser"], sha(browser)):
            raise AuthenticationError(_FAILED.format("it began in another browser"))
        # Before the code is used: an answer counts once, whatever comes of it.
        await records.delete_record(SIGN_IN, sha(answer["state"][:_MOST_ANSWER]))
        if answer.get("iss", self.provider.issuer) != self.provider.issuer:
            raise AuthenticationError(_FAILED.format("another provider answered"))
        code = answer.get("code", "")
        if not code or len(code) > _MOST_ANSWER:
            said = answer.get("error_description") or answer.get("error") or "the provider sent no code"
            raise AuthenticationError(_FAILED.format(said[:200]))
        token = await self._redeemed(code, begun)
        claims = await self._verified(token, begun["nonce"])
        return _account(claims, self.provider.issuer), begun["path"]

    async def end_session_url(self, back: str) -> str | None:
        """Where one signs out at the provider, too; None where it has no such page."""
        try:
            page = (await self._discovered()).get("end_session_endpoint")
        except EndpointUnreachableError:
            return None
        # Cognito's name for the way back, and the standard's.
        ways = {"logout_uri": back, "post_logout_redirect_uri": back}
        return f"{page}?{urlencode({'client_id': self.provider.client_id, **ways})}" if page else None

    async def _redeemed(self, code: str, begun: dict[str, Any]) -> str:
        from authlib.oauth2.rfc6749.parameters import prepare_token_request

        known = await self._discovered()
        body = prepare_token_request(
            "authorization_code",
            code=code,
            redirect_uri=begun["back"],
            client_id=self.provider.client_id,
            code_verifier=begun["verifier"],
        )
        secret = self.provider.client_secret
        found = await self._asked(
            "POST",
            known["token_endpoint"],
            content=body,
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            **({"auth": (self.provider.client_id, secret)} if secret else {}),
        )
        token = found.get("id_token")
        if not isinstance(token, str):
            raise AuthenticationError(_FAILED.format("the provider refused the code"))
        return token

    async def _verified(self, token: str, nonce: str) -> dict[str, Any]:
        from joserfc import errors, jwt

        registry = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_S,
            iss={"essential": True, "value": self.provider.issuer},
            aud={"essential": True, "value": self.provider.client_id},
            nonce={"essential": True, "value": nonce},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
        )
        try:
            claims = (await self._decoded(token)).claims
            registry.validate(claims)
        except (errors.JoseError, ValueError, KeyError) as error:
            said = getattr(error, "description", "") or str(error)
            raise AuthenticationError(_FAILED.format(f"the ID token is not valid ({said[:100]})")) from error
        audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        if claims.get("azp", self.provider.client_id) != self.provider.client_id or (
            len(audience) > 1 and "azp" not in claims
        ):
            raise AuthenticationError(_FAILED.format("the ID token is for another client"))
        return dict(claims)

    async def _decoded(self, token: str) -> Any:
        from joserfc import errors, jwt

        try:
            return jwt.decode(token, await self._key_set(KEYS_S), algorithms=ALGORITHMS)
        except (errors.InvalidKeyIdError, errors.BadSignatureError, ValueError):
            # The provider may have a new key: it is looked for, and not with every forged token.
            return jwt.decode(token, await self._key_set(NEW_KEYS_S), algorithms=ALGORITHMS)

    async def _key_set(self, max_age_s: float) -> Any:
        from joserfc.jwk import KeySet

        async with self._lock:
            read_at, keys = self._keys
            if time.monotonic() - read_at >= max_age_s:
                found = await self._asked("GET", (await self._discovered())["jwks_uri"])
                listed = found.get("keys", ())
                signing = [k for k in listed if k.get("use", "sig") == "sig" and k.get("kty") != "oct"]
                keys = KeySet.import_key_set({"keys": signing})
                self._keys = (time.monotonic(), keys)
            return keys

    async def _discovered(self) -> dict[str, Any]:
        if self._known is None:
            issuer, local = self.provider.issuer, self.provider.described_at
            found = await self._asked(
                "GET", local or f"{issuer.rstrip('/')}/.well-known/openid-configuration"
            )
            needed = ("authorization_endpoint", "token_endpoint", "jwks_uri")
            if found.get("issuer") != issuer or not all(isinstance(found.get(n), str) for n in needed):
                raise EndpointUnreachableError(f"{issuer} does not describe itself as an OpenID provider.")
            for name in needed:
                if not local and urlsplit(issuer).scheme == "https" != urlsplit(found[name]).scheme:
                    raise EndpointUnreachableError(f"{issuer} names an address that is not https.")
            self._known = found
        return self._known

    async def _asked(self, method: str, url: str, **request: Any) -> dict[str, Any]:
        """The JSON object of an answer; an empty one where the provider refused."""
        import httpx  # a fifth of a second, which a start without a sign-in need not wait for

        try:
            async with (
                httpx.AsyncClient(timeout=_TIMEOUT_S, follow_redirects=False, trust_env=False) as client,
                client.stream(method, url, **request) as answer,
            ):
                data = b""
                async for piece in answer.aiter_bytes():
                    data += piece
                    if len(data) > _MOST_BYTES:
                        raise EndpointUnreachableError(f"{urlsplit(url).netloc} answers too much.")
            found = orjson.loads(data) if answer.status_code == 200 else {}
        except (httpx.HTTPError, orjson.JSONDecodeError) as error:
            raise EndpointUnreachableError(
                f"The provider of accounts, {urlsplit(url).netloc}, does not answer as one does "
                f"({type(error).__name__}). Try again later."
            ) from error
        return found if isinstance(found, dict) else {}


def _account(claims: dict[str, Any], issuer: str) -> Account:
    email = claims.get("email")
    # Cognito sends a word where a federated provider does.
    if claims.get("email_verified") not in (True, "true") or not isinstance(email, str):
        raise AuthenticationError(
            _FAILED.format("the provider does not say that it has verified an e-mail address of this account")
        )
    return Account(email.strip().lower(), f"{issuer}#{claims['sub']}", str(claims.get("name") or ""))
