"""Provider keys from environment variables."""

from __future__ import annotations

import pytest

from promptlab.adapters.local.env_secrets import EnvSecrets


async def test_a_secret_is_the_variable_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read anew each time."""
    secrets = EnvSecrets()
    monkeypatch.setenv("SOME_API_KEY", "one")
    assert await secrets.get("SOME_API_KEY") == "one"
    monkeypatch.setenv("SOME_API_KEY", "two")
    assert await secrets.get("SOME_API_KEY") == "two"


async def test_a_variable_that_is_unset_or_empty_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty key would only be refused by the provider."""
    monkeypatch.delenv("SOME_API_KEY", raising=False)
    assert await EnvSecrets().get("SOME_API_KEY") is None
    monkeypatch.setenv("SOME_API_KEY", "")
    assert await EnvSecrets().get("SOME_API_KEY") is None
