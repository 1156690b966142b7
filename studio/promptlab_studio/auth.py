"""Authentication: who sent a request. What each may do, `access.py` says; the pages of it are `login.py`.

On a laptop the address that is printed opens a session, once: other users of the machine reach its port, too.
In the cloud a request brings a token as a bearer header, or the cookie of a session that was opened by a
token in the login form, by an account, or by a link. A session lives as long as what opened it: the token,
the person and the link are looked up with every request.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable
from typing import ClassVar

from fastapi import Request

from promptlab.errors import AuthenticationError
from promptlab.ports import Records
from promptlab.store_lab import StoreLab
from promptlab_studio.access import ADMIN, LOCAL, Principal
from promptlab_studio.admin_token import AdminToken, sha
from promptlab_studio.memory_records import MemoryRecords
from promptlab_studio.oidc import SignIn
from promptlab_studio.people import Accounts, People
from promptlab_studio.sessions import IDLE_S, PLAIN_COOKIE, SESSION_S, Opener, Sessions
from promptlab_studio.tokens import PREFIX, Token, Tokens, within
from promptlab_studio.tries import Tries, address_of

TOKEN = "PROMPTLAB_STUDIO_TOKEN"
"""The environment variable with the token of a laptop's Studio, for programs."""
_MOST_TOKEN = 1_000
"""Characters of a token: what is longer is none."""


class Auth:
    """The authentication of a hosted Studio.

    Args:
        token: the admin token itself, or a function that reads it.
        secure: the Studio is served over https only. False for plain http on a local AWS: then the cookie is
            `Secure` where the request came by https.
        session_s: seconds after which a session ends.
        idle_s: seconds without a request after which it ends; None: it does not.
        first_admin: the e-mail address that may sign in as admin before anybody is invited.
        sign_in: sign-in with accounts of a provider.
        accounts: where accounts are made for who is invited; None: the provider has them.

    Raises:
        ConfigError: the token is too short to keep anybody out.
    """

    local: ClassVar[bool] = False
    """The Studio serves one machine only."""
    _how: ClassVar[str] = (
        "`promptlab cloud tokens create` makes one, `promptlab cloud token` prints the admin's."
    )
    cookie: str = PLAIN_COOKIE
    """The session's cookie over plain http."""

    def __init__(
        self,
        token: str | Callable[[], Awaitable[str | None]],
        *,
        secure: bool = True,
        session_s: float = SESSION_S,
        idle_s: float | None = IDLE_S,
        first_admin: str | None = None,
        sign_in: SignIn | None = None,
        accounts: Accounts | None = None,
    ) -> None:
        self.admin_token, self.tries, self.first_admin = AdminToken(token), Tries(), first_admin
        self.sessions = Sessions(cookie=self.cookie, secure=secure, session_s=session_s, idle_s=idle_s)
        self._tokens: Tokens | None = None
        self.sign_in, self._accounts = sign_in, accounts

    def records(self, lab: StoreLab) -> Records:
        """Where sessions, tokens, people and tries are kept."""
        return lab.records

    def tokens(self, records: Records) -> Tokens:
        """The tokens there are."""
        self._tokens = self._tokens or Tokens(records)
        return self._tokens

    def people(self, records: Records) -> People:
        """The people there are."""
        return People(records, self.first_admin, accounts=self._accounts)

    async def principal(self, request: Request, records: Records) -> Principal:
        """Return the sender of a request.

        Raises:
            AuthenticationError: it has neither a valid token nor a session.
            TooManyTriesError: too many wrong tokens came from its address.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme:
            if scheme.lower() != "bearer":
                raise AuthenticationError(
                    f"Send a token as the header `Authorization: Bearer …`. {self._how}"
                )
            return (await self.verified(request, records, token))[0]
        opener = await self.sessions.opener(request, records)
        found = await self._who(records, opener) if opener else None
        if found is None:
            raise AuthenticationError(
                f"This needs a token: send it as the header `Authorization: Bearer …`. {self._how}"
            )
        return found

    async def verified(
        self, request: Request, records: Records, token: str, *, link: bool = False
    ) -> tuple[Principal, Opener]:
        """Whom a token stands for; with `link` whom a link does, which is of use nowhere else.

        Every token is a try, counted before it is looked at, but for one that was right from the same address
        minutes ago.

        Raises:
            AuthenticationError: nobody.
            TooManyTriesError: too many wrong ones came from this address.
        """
        token, address = token.strip(), address_of(request)
        digest = sha(token[:_MOST_TOKEN])
        counted = await self.tries.begin(records, address, digest)
        opener = Opener("token" if token.startswith(PREFIX) else "admin", digest)
        found = await self._who(records, opener) if token else None
        if found is None and opener.by == "token" and not link:
            opener = Opener("admin", digest)  # whoever sets that by hand may begin it so
            found = await self._who(records, opener)
        if found is None or bool(found.only) is not link:
            raise AuthenticationError(
                "This link is not valid: it has expired or was revoked."
                if link
                else f"This token is not valid here. {self._how}"
            )
        if counted:
            await self.tries.was_right(records, address, digest, forget=found.may("administer"))
        return found, opener

    async def _who(self, records: Records, opener: Opener) -> Principal | None:
        """Whom something stands for now; None once it does for nobody."""
        if opener.by == "admin":
            if not await self.admin_token.accepts(opener.ref):
                return None
            return ADMIN if await self.people(records).admin_token_works() else None
        if opener.by == "token":
            token = await self.tokens(records).find(opener.ref)
            found = await self._as_its_maker(records, token) if token else None
            if found is not None:
                await self.tokens(records).used(opener.ref)
            return found
        if opener.by == "person":
            person = await self.people(records).of_session(opener.ref)
            return person.principal if person else None
        return None

    async def _as_its_maker(self, records: Records, token: Token) -> Principal | None:
        """Whom a token stands for: it may do no more than the person whom it is from may now."""
        if token.person is None:
            return token.principal
        person = await self.people(records).find(token.person)
        return within(token.principal, person.principal) if person else None


class LaptopAuth(Auth):
    """The login of a Studio on a laptop: the printed address holds a code that opens one session.

    Sessions live in this process, not in the store: they end with it, and whoever copies the store has none.

    Args:
        port: where the Studio listens; browsers send cookies to every port of a host.
        token: what programs send as bearer, and the login form takes; default: a random one that nobody
        knows. on_opened: called with the next code when one was used.
    """

    local = True
    _how = (
        f"In a browser, open the address that the Studio printed when it began. For programs, set {TOKEN} "
        "(16 characters or more) where it is started, and send that."
    )

    def __init__(
        self, port: int, *, token: str | None = None, on_opened: Callable[[str], None] = lambda code: None
    ) -> None:
        self.cookie = f"{PLAIN_COOKIE}-{port}"
        super().__init__(token or secrets.token_urlsafe(32), secure=False, idle_s=None)
        self._records, self._code, self._on_opened = MemoryRecords(), secrets.token_urlsafe(32), on_opened

    @property
    def code(self) -> str:
        """The code that opens the next session."""
        return self._code

    def records(self, lab: StoreLab) -> Records:
        return self._records

    def take(self, code: str) -> bool:
        """Whether a code opens a session; it does so once."""
        if not hmac.compare_digest(sha(code), sha(self._code)):
            return False
        self._code = secrets.token_urlsafe(32)
        self._on_opened(self._code)
        return True

    async def _who(self, records: Records, opener: Opener) -> Principal | None:
        return LOCAL if opener.by == "local" else await super()._who(records, opener)
