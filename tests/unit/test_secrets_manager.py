"""Provider keys in Secrets Manager."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable

import pytest

from promptlab.adapters.aws.secrets_manager import CACHE_S, SecretsManagerSecrets
from tests import aws
from tests.aws_faults import QuickClock


@pytest.fixture
async def open_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Callable[[QuickClock], SecretsManagerSecrets]]:
    """Opens the same secrets again and again, as several processes do."""
    aws.credentials(monkeypatch)
    prefix, opened = f"stack-{uuid.uuid4().hex}/keys/", list[SecretsManagerSecrets]()

    def opens(clock: QuickClock) -> SecretsManagerSecrets:
        opened.append(SecretsManagerSecrets(prefix, session=aws.session(), clock=clock))
        return opened[-1]

    yield opens
    for secrets in opened:
        await secrets.close()
        await secrets.close()


@pytest.fixture
def secrets(open_secrets: Callable[[QuickClock], SecretsManagerSecrets]) -> SecretsManagerSecrets:
    return open_secrets(QuickClock())


async def test_a_secret_that_was_never_put_is_none(secrets: SecretsManagerSecrets) -> None:
    """There is no error to catch."""
    assert await secrets.get("openai") is None
    assert await secrets.names() == []


async def test_a_secret_is_read_by_everybody(
    open_secrets: Callable[[QuickClock], SecretsManagerSecrets],
) -> None:
    """As soon as it is put, also by who looked for it before."""
    writer, reader = open_secrets(QuickClock()), open_secrets(QuickClock())
    assert await reader.get("openai") is None
    await writer.put("openai", "sk-1 ü")
    assert await reader.get("openai") == "sk-1 ü"
    assert await writer.get("openai") == "sk-1 ü"


async def test_a_value_is_kept_for_some_minutes(
    open_secrets: Callable[[QuickClock], SecretsManagerSecrets],
) -> None:
    """A new one is seen at once where it was put, and elsewhere after CACHE_S."""
    clock = QuickClock()
    writer, reader = open_secrets(QuickClock()), open_secrets(clock)
    await writer.put("openai", "old")
    assert await reader.get("openai") == "old"
    await writer.put("openai", "new")
    assert await writer.get("openai") == "new"
    clock.seconds += CACHE_S - 1
    assert await reader.get("openai") == "old"
    clock.seconds += 1
    assert await reader.get("openai") == "new"


async def test_names_are_listed_without_the_prefix(secrets: SecretsManagerSecrets) -> None:
    """Only those under it, sorted."""
    other = SecretsManagerSecrets(secrets.prefix.replace("keys", "other"), session=aws.session())
    await other.put("foreign", "x")
    await other.close()
    for name in ("openai", "anthropic", "team/groq"):
        await secrets.put(name, "x")
    assert await secrets.names() == ["anthropic", "openai", "team/groq"]


async def test_a_deleted_secret_is_gone_and_can_be_put_again(secrets: SecretsManagerSecrets) -> None:
    """At once; deleting it twice is fine."""
    await secrets.put("openai", "1")
    await secrets.delete("openai")
    await secrets.delete("openai")
    assert await secrets.get("openai") is None
    await secrets.put("openai", "2")
    assert await secrets.get("openai") == "2"
