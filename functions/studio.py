"""The Studio and the API: FastAPI behind an HTTP API."""

from __future__ import annotations

import asyncio
import os
from base64 import b64encode
from functools import cache
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.exceptions import BotoCoreError, ClientError
from mangum import Mangum
from promptlab_studio.app import create_app
from promptlab_studio.auth import Auth
from promptlab_studio.oidc import Provider, SignIn
from promptlab_studio.problems import answer_busy

from functions.runtime import config, lab, logger, run, runner
from promptlab.adapters.aws.busy import is_busy
from promptlab.adapters.aws.lambda_jobs import LambdaStarter
from promptlab.adapters.aws.parameter_store import ParameterStore
from promptlab.adapters.aws.session import AwsSession
from promptlab.adapters.aws.user_pool import UserPool
from promptlab.errors import ConfigError
from promptlab.ports import DirectBlobs
from promptlab.wiring import STUDIO_PATIENCE_S

LONG_BODY = 1 << 20
"""Characters from which on a body goes as base64. As text each of its quotes is escaped, which can double it:
the Studio's 4 MB would be more than the 6 MB that Lambda sends; base64 makes it 5.6 MB at most."""


def is_local() -> bool:
    """Whether this is the local AWS of `make cloud`."""
    return os.environ.get("PROMPTLAB_LOCAL_CLOUD") == "true"


def auth() -> Auth:
    """The authentication; nothing is read before somebody uses the admin token.

    Raises:
        ConfigError: no parameter is named.
    """
    name = config().admin_token
    if not name:
        raise ConfigError(
            "The Studio has no admin token: PROMPTLAB_ADMIN_TOKEN_PARAMETER must name the parameter that "
            "holds it (template.yaml does)."
        )
    parameters = ParameterStore()

    async def token() -> str | None:
        return await parameters.text(name)

    pool = os.environ.get("PROMPTLAB_USER_POOL")
    return Auth(
        token,
        secure=not is_local(),
        first_admin=os.environ.get("PROMPTLAB_ADMIN_EMAIL") or None,
        sign_in=sign_in(parameters),
        accounts=UserPool(pool) if pool else None,
    )


def sign_in(parameters: ParameterStore) -> SignIn | None:
    """Sign-in with accounts, where the stack has a provider of them."""
    issuer = os.environ.get("PROMPTLAB_OIDC_ISSUER")
    if not issuer:
        return None
    name = os.environ.get("PROMPTLAB_OIDC_CLIENT_SECRET_PARAMETER")
    secret = run(parameters.text(name)) if name else None
    here, pool = os.environ.get("AWS_ENDPOINT_URL"), os.environ.get("PROMPTLAB_USER_POOL")
    described_at = f"{here}/{pool}/.well-known/openid-configuration" if is_local() and here and pool else None
    client = os.environ.get("PROMPTLAB_OIDC_CLIENT_ID", "")
    return SignIn(Provider(issuer, client, secret, described_at=described_at))


@cache
def app() -> Mangum:
    """The app."""
    blobs = lab().blobs
    origin = run(blobs.origin()) if isinstance(blobs, DirectBlobs) else None
    # Nobody waits for longer than a request: Lambda takes the event, or says so at once.
    jobs = config().jobs_function
    starter = LambdaStarter(jobs, session=AwsSession(patience_s=STUDIO_PATIENCE_S)) if jobs else None
    studio = create_app(lab(), auth=auth(), upload_origin=origin, starter=starter)
    answer_busy(studio, (ClientError, BotoCoreError, ExceptionGroup), is_busy)
    # Mangum takes the thread's loop; lifespan would run on every request.
    asyncio.set_event_loop(runner().get_loop())
    return Mangum(studio, lifespan="off")


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer one request."""
    if is_local():
        # It speaks plain http and does not say so; then a session's cookie must not be for https only.
        event["headers"].setdefault("x-forwarded-proto", "http")
    answer: dict[str, Any] = app()(event, context)  # type: ignore[arg-type]  # the two libraries each have a type of their own for it
    body = answer["body"]
    if not answer["isBase64Encoded"] and len(body) > LONG_BODY:
        answer |= {"body": b64encode(body.encode()).decode(), "isBase64Encoded": True}
    return answer
