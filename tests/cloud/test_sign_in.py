"""Sign-in with accounts of a Cognito user pool: the pool's own pages, in a real browser."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page
from promptlab_studio.access import ADMIN, ROLES
from promptlab_studio.auth import Auth
from promptlab_studio.oidc import Provider, SignIn
from promptlab_studio.people import People

from promptlab.adapters.aws.user_pool import UserPool
from tests.browser.chromium import launched
from tests.cloud.conftest import Stack
from tests.studio.live import TOKEN, LiveStudio

pytestmark = [
    pytest.mark.cloud,
    pytest.mark.skipif("AWS_ENDPOINT_URL" not in os.environ, reason="needs the local AWS of make test-cloud"),
]
PASSWORD = "A-long-Password-1!"


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with launched() as browser:
        opened = browser.new_context().new_page()
        opened.set_default_timeout(60_000)  # some of it waits for a function's cold start
        yield opened


def signed_in(page: Page, studio: str, email: str) -> None:
    """Sign in through the pool's pages, to the page that was asked for."""
    page.goto(f"{studio}/prompts")
    page.get_by_role("link", name="Sign in with your account").click()
    page.get_by_label("Username").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{studio}/prompts")


def pool_for(cognito: Any, back: str) -> Provider:
    """A pool as template.yaml has it, and its client."""
    pool = cognito.create_user_pool(
        PoolName="sign-in",
        UsernameAttributes=["email"],
        AutoVerifiedAttributes=["email"],
        AdminCreateUserConfig={"AllowAdminCreateUserOnly": True},
    )["UserPool"]["Id"]
    client = cognito.create_user_pool_client(
        UserPoolId=pool,
        ClientName="studio",
        AllowedOAuthFlowsUserPoolClient=True,
        AllowedOAuthFlows=["code"],
        AllowedOAuthScopes=["openid", "email", "profile"],
        SupportedIdentityProviders=["COGNITO"],
        CallbackURLs=[f"{back}/sign-in/back"],
        LogoutURLs=[f"{back}/login"],
    )["UserPoolClient"]["ClientId"]
    region = os.environ.get("AWS_REGION", "us-east-1")
    return Provider(
        f"https://cognito-idp.{region}.amazonaws.com/{pool}",
        client,
        described_at=f"{os.environ['AWS_ENDPOINT_URL']}/{pool}/.well-known/openid-configuration",
    )


def test_who_the_template_names_is_invited_and_signs_in_as_an_admin(stack: Stack, page: Page) -> None:
    """AdminEmail: an account that waits for its first password; with that, through the pool's pages into the
    deployed Studio."""
    cognito, pool = stack.aws("cognito-idp"), stack.resource("UserPool")
    (invited,) = cognito.list_users(UserPoolId=pool)["Users"]
    email = next(one["Value"] for one in invited["Attributes"] if one["Name"] == "email")
    assert (email, invited["UserStatus"]) == ("first@example.com", "FORCE_CHANGE_PASSWORD")
    cognito.admin_set_user_password(UserPoolId=pool, Username=email, Password=PASSWORD, Permanent=True)
    signed_in(page, stack.endpoint, email)
    me = page.evaluate("fetch('/api/v1/me').then(r => r.json())")
    assert (me["id"], me["role"]) == (f"person:{email}", "admin")
    people = stack.api.get("/people").json()["items"]
    assert [(one["email"], one["invited_by"]) for one in people] == [(email, "AdminEmail")]


def test_each_role_signs_in_through_the_pools_pages(page: Page, tmp_path: Path) -> None:
    """With an account that the invitation made; and leaves again. Who is removed does not come back."""
    import boto3

    cognito = boto3.client("cognito-idp")
    auth = Auth(TOKEN, secure=False)
    with LiveStudio(tmp_path, auth=auth) as studio:
        provider = pool_for(cognito, studio.url)
        pool = provider.issuer.rpartition("/")[2]
        auth.sign_in, accounts = SignIn(provider), UserPool(pool)
        people = People(studio.lab.records, accounts=accounts)

        def run(coroutine: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(coroutine, studio._loop).result(60)

        for role in ROLES:
            email = f"{role}@example.com"
            run(people.put(ADMIN, email, role=role))
            cognito.admin_set_user_password(
                UserPoolId=pool, Username=email, Password=PASSWORD, Permanent=True
            )
            page.context.clear_cookies()
            signed_in(page, studio.url, email)
            me = page.evaluate("fetch('/api/v1/me').then(r => r.json())")
            assert (me["id"], me["role"]) == (f"person:{email}", role)
            page.goto(f"{studio.url}/people")
            assert ("Invite somebody" in page.content()) is (role == "admin")
            page.goto(f"{studio.url}/new")
            assert ("needs the role engineer" in page.content()) is (role in ("viewer", "labeller"))
            page.get_by_role("button", name="Log out").click()
            page.wait_for_url("**/login?left=1")
        run(people.remove("viewer@example.com"))
        left = [user["Username"] for user in cognito.list_users(UserPoolId=pool)["Users"]]
        assert len(left) == len(ROLES) - 1
        run(accounts.close())
    cognito.close()
