"""Provider keys in Secrets Manager."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable

import pytest

from promptlab.adapters.aws.secrets_manager import CACHE_S, SecretNames, SecretsManagerSecrets
from promptlab.domain.secrets import Secret
from tests import aws
from tests.aws_faults import QuickClock

HOSTS = ("https://gateway.example.com:443",)


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
    await writer.put("openai", Secret("sk-1 ü", HOSTS))
    assert await reader.get("openai") == Secret("sk-1 ü", HOSTS)
    assert await writer.get("openai") == Secret("sk-1 ü", HOSTS)


async def test_a_value_is_kept_for_some_minutes(
    open_secrets: Callable[[QuickClock], SecretsManagerSecrets],
) -> None:
    """A new one is seen at once where it was put, and elsewhere after CACHE_S."""
    clock = QuickClock()
    writer, reader = open_secrets(QuickClock()), open_secrets(clock)
    await writer.put("openai", Secret("old", HOSTS))
    assert await reader.get("openai") == Secret("old", HOSTS)
    await writer.put("openai", Secret("new", HOSTS))
    assert await writer.get("openai") == Secret("new", HOSTS)
    clock.seconds += CACHE_S - 1
    assert await reader.get("openai") == Secret("old", HOSTS)
    clock.seconds += 1
    assert await reader.get("openai") == Secret("new", HOSTS)


async def test_names_are_listed_without_the_prefix(secrets: SecretsManagerSecrets) -> None:
    """Only those under it, sorted."""
    other = SecretsManagerSecrets(secrets.prefix.replace("keys", "other"), session=aws.session())
    await other.put("foreign", Secret("x", HOSTS))
    await other.close()
    for name in ("openai", "anthropic", "team/groq"):
        await secrets.put(name, Secret("x", HOSTS))
    assert await secrets.names() == ["anthropic", "openai", "team/groq"]


async def test_a_deleted_secret_is_gone_and_can_be_put_again(secrets: SecretsManagerSecrets) -> None:
    """At once; deleting it twice is fine."""
    await secrets.put("openai", Secret("1", HOSTS))
    await secrets.delete("openai")
    await secrets.delete("openai")
    assert await secrets.get("openai") is None
    await secrets.put("openai", Secret("2", HOSTS))
    assert await secrets.get("openai") == Secret("2", HOSTS)


async def test_a_key_that_was_kept_alone_goes_to_the_hosts_of_the_provider_in_its_name(
    secrets: SecretsManagerSecrets,
) -> None:
    """As older versions and AWS's console keep it; a name without a provider leaves it to the model's."""
    client = await secrets._clients.get()
    openai = tuple(f"https://{host}api.openai.com:443" for host in ("", "eu.", "us."))
    for name, value, hosts in [
        ("OPENAI_API_KEY", "sk-1", openai),
        ("team/groq", '{"key": 1}', ("https://api.groq.com:443",)),
        ("prod", "sk-2", ()),
        ("openai-or-groq", "sk-3", ()),
    ]:
        await client.create_secret(Name=secrets.prefix + name, SecretString=value)
        assert await secrets.get(name) == Secret(value, hosts)


async def test_who_may_not_read_a_key_knows_its_hosts(secrets: SecretsManagerSecrets) -> None:
    """The Studio refuses a run that would send a key elsewhere, without having the key."""
    await secrets.put("openai", Secret("sk-1", HOSTS))
    names = SecretNames(secrets.prefix, session=aws.session())
    found = await names.get("openai")
    await names.close()
    assert found is not None and found.hosts == HOSTS and "sk-1" not in found.value
    assert await secrets.hosts() == {"openai": HOSTS}
    await secrets.put("openai", Secret("sk-1", ("https://other.example.com:443",)))
    assert (await secrets.hosts())["openai"] == ("https://other.example.com:443",)
