"""Provider keys from environment variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptlab import PromptLab
from promptlab.adapters.local.env_secrets import EnvSecrets
from promptlab.domain.secrets import Secret
from promptlab.errors import ConfigError, MissingKeyError


async def test_a_secret_is_the_variable_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read anew each time."""
    secrets = EnvSecrets()
    monkeypatch.setenv("SOME_API_KEY", "one")
    assert await secrets.get("SOME_API_KEY") == Secret("one")
    monkeypatch.setenv("SOME_API_KEY", "two")
    assert await secrets.get("SOME_API_KEY") == Secret("two")


async def test_a_variable_that_is_unset_or_empty_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty key would only be refused by the provider."""
    monkeypatch.delenv("SOME_API_KEY", raising=False)
    assert await EnvSecrets().get("SOME_API_KEY") is None
    monkeypatch.setenv("SOME_API_KEY", "")
    assert await EnvSecrets().get("SOME_API_KEY") is None


async def test_the_name_of_a_secret_in_the_cloud_finds_the_usual_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One experiment runs in both places."""
    monkeypatch.setenv("TEAM_OPENAI_API_KEY", "one")
    assert await EnvSecrets().get("team/openai") == Secret("one")


def test_a_secret_without_its_variable_is_an_error_that_names_the_variable_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And not the secret's own name, which no shell would take for a key."""
    monkeypatch.delenv("TEAM_OPENAI_API_KEY", raising=False)
    experiment = {
        "prompt_template": {"name": "ask", "user_prompt": "<question>"},
        "dataset": {"name": "sums", "rows": [{"question": "1 + 1"}]},
        "model": {"name": "openai/gpt-6-luna", "api_key_secret": "team/openai"},
    }
    with PromptLab(tmp_path / "lab.db") as lab, pytest.raises(MissingKeyError, match="TEAM_OPENAI_API_KEY"):
        lab.experiment.run(experiment)


@pytest.mark.parametrize(
    "name", ["AWS_SECRET_ACCESS_KEY", "PROMPTLAB_API_KEY", "HOME", "GITHUB_TOKEN", "openai"]
)
async def test_a_variable_that_does_not_look_like_a_providers_key_is_not_read(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """An experiment of somebody else's names no variable that was not meant as a key; its owner may list
    more."""
    monkeypatch.setenv(name, "something else")
    with pytest.raises(ConfigError, match="PROMPTLAB_KEY_VARIABLES"):
        await EnvSecrets().get(name)
    monkeypatch.setenv("PROMPTLAB_KEY_VARIABLES", f"OTHER, {name}")
    assert await EnvSecrets().get(name) == Secret("something else")
