"""A hosted Studio with people, tokens, links and an audit, for a browser."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from playwright.sync_api import BrowserContext
from promptlab_studio.access import ADMIN, Principal
from promptlab_studio.audit import Audit, Entry
from promptlab_studio.auth import Auth
from promptlab_studio.oidc import Provider, SignIn
from promptlab_studio.people import People
from promptlab_studio.tokens import Tokens

from promptlab.store_lab import StoreLab
from tests.studio.live import TOKEN, LiveStudio

PEOPLE = (
    ("zoe.brandt@example.com", "Zoë Brandt", "admin"),
    ("max@example.com", "Max Ortega", "engineer"),
    ("li.wei@example.com", "李 伟", "labeller"),
    (
        "a.person.with.a.rather.long.address@research.example.com",
        "Anna-Katharina von Hohenlohe-Langenburg",
        "viewer",
    ),
)
DONE = (
    (
        "POST /api/v1/runs",
        "token:8f2c",
        "nightly pipeline",
        "engineer",
        "done",
        202,
        "/api/v1/runs/20261126-020004-9a1c3e",
    ),
    ("POST /prompt/edit", "person:max@example.com", "Max Ortega", "engineer", "done", 303, "/prompt"),
    (
        "DELETE /api/v1/runs/20261121-101500-aa01bc",
        "person:max@example.com",
        "Max Ortega",
        "engineer",
        "done",
        204,
        "",
    ),
    ("POST /people", "person:zoe.brandt@example.com", "Zoë Brandt", "admin", "done", 303, "/people"),
    (
        "PUT /api/v1/prompts/solve/labels/production",
        "token:1b7e",
        "review board",
        "viewer",
        "denied",
        403,
        "",
    ),
    ("POST /session", "", "", "", "denied", 401, ""),
    ("POST /api/v1/datasets", "token:8f2c", "nightly pipeline", "engineer", "refused", 422, ""),
    ("POST /tokens/revoke", "person:zoe.brandt@example.com", "Zoë Brandt", "admin", "done", 303, "/tokens"),
)


async def add_access(lab: StoreLab, run: str = "20261126-020004-9a1c3e") -> None:
    """Fill a lab."""
    people, tokens, audit = People(lab.records), Tokens(lab.records), Audit(lab.records)
    for email, name, role in PEOPLE:
        await people.put(ADMIN, email, role=role, name=name)  # type: ignore[arg-type]
    for email, name, _ in PEOPLE[:2]:
        await people.signed_in(email, f"x#{email}", name)
    max_ = Principal("person:max@example.com", "Max Ortega", "engineer")
    await tokens.create(ADMIN, "nightly pipeline", role="engineer", days=90)
    await tokens.create(max_, "notebook on the laptop", role="engineer", days=None)
    _, secret = await tokens.create(ADMIN, "dashboard in the hall", role="viewer", days=365)
    await tokens.create(max_, "the review on Friday", role="viewer", days=7, only=[run])
    await tokens.create(ADMIN, "word problems", role="viewer", days=30, only=[run, "20261125-020004-77ab01"])
    from promptlab_studio.admin_token import sha

    await tokens.used(sha(secret))
    for n, (action, who, name, role, outcome, status, made) in enumerate(DONE * 4):
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - 3_700 * n)) + ".123456Z"
        agent = "Mozilla/5.0" if who.startswith("person") else "python-httpx/0.28.1"
        address = "2001:db8:12::/64" if n % 3 else "203.0.113.9"
        await audit.add(
            Entry(at, who, name, role, "default", action, outcome, status, address, agent, made)  # type: ignore[arg-type]
        )


async def add_projects(lab: StoreLab) -> None:
    """Some projects, one of them archived, and what was deleted in the default one."""
    words = "Answers to customers: tone, facts, and what is sent to a colleague instead."
    await lab.projects.create("support-bot", description=words, retention_days=90, by="admin-token")
    await lab.projects.create("a-project-with-a-rather-long-nam", description="", by="admin-token")
    await lab.projects.create("archive-2025", description="last year's", by="admin-token")
    await lab.projects.edit("archive-2025", archived=True)
    for what, id, by in (
        ("run", "20261121-101500-aa01bc", "person:max@example.com"),
        ("prompt_template", "answer-with-a-rather-long-name-of-its-own@12", "token:8f2c417d05b6e83f"),
        ("dataset", "شكاوى العملاء@3", "retention"),
        ("person", "deleted-3f9a2c41", "admin-token"),
    ):
        await lab.journal.end(await lab.journal.begin(what, id, by))  # type: ignore[arg-type]
    await lab.journal.begin("project", "old-experiments", "admin-token")


@contextmanager
def hosted(folder: Path, *, sign_in: bool = True) -> Iterator[LiveStudio]:
    """The Studio."""
    provider = SignIn(Provider("http://127.0.0.1:9", "x")) if sign_in else None
    folder.mkdir(parents=True, exist_ok=True)
    auth = Auth(TOKEN, secure=False, sign_in=provider, first_admin="zoe.brandt@example.com")
    with LiveStudio(folder, auth=auth) as live:
        live.call(add_access)
        live.call(add_projects)
        yield live


def log_in(context: BrowserContext, studio: LiveStudio, token: str = TOKEN) -> None:
    """Give a browser the cookie of a session."""
    answer = httpx.post(f"{studio.url}/session", data={"token": token})
    (cookie,) = answer.cookies.jar
    context.add_cookies([{"name": cookie.name, "value": str(cookie.value), "url": studio.url}])
