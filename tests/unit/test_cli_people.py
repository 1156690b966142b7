"""`promptlab cloud people`, `cloud projects` and `deletions`; --project and PROMPTLAB_PROJECT."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from promptlab_studio.access import ADMIN
from promptlab_studio.auth import Auth
from promptlab_studio.tokens import Tokens

from promptlab import PromptLab, PromptTemplate
from promptlab.errors import AssetNotFoundError, ConfigError, ProjectNotFoundError
from tests import aws
from tests.studio.live import TOKEN, LiveStudio
from tests.studio.test_projects import hosted as hosted_lab
from tests.unit.test_cli_cloud import OUTPUTS, Invoke, experiment
from tests.unit.test_cli_cloud import folder as folder
from tests.unit.test_cli_cloud import invoke as invoke
from tests.unit.test_cli_cloud import stack as stack


@pytest.fixture
def lab(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveStudio]:
    """A hosted Studio over a table and a bucket, named by the environment."""
    aws.credentials(monkeypatch)
    monkeypatch.delenv("PROMPTLAB_PROJECT", raising=False)
    with LiveStudio(tmp_path, lab=hosted_lab(tmp_path), auth=Auth(TOKEN, secure=False)) as live:
        monkeypatch.setenv("PROMPTLAB_ENDPOINT", live.url)
        monkeypatch.setenv("PROMPTLAB_API_KEY", TOKEN)
        yield live


def test_people_are_invited_listed_and_deleted(lab: LiveStudio, invoke: Invoke) -> None:
    """What becomes of their tokens is said; the record of it is listed."""
    said = invoke(
        "cloud", "people", "invite", "Max@example.com", "--role", "engineer", "--name", "Max"
    ).stderr
    assert "max@example.com is engineer of the project default now" in said
    listed = invoke("cloud", "people", "list").stdout
    assert "max@example.com  Max  engineer of default" in listed and "last sign-in never" in listed
    person = lab.call(lambda one: lab.app.state.auth.people(one.records).find("max@example.com"))
    lab.call(lambda one: Tokens(one.records).create(person.principal, "nightly", role="viewer", days=1))
    wrong = ("cloud", "people", "delete", "max@example.com", "-y", "--hand-over-to", "no@example.com")
    assert "nobody of the address" in invoke(*wrong, code=2).output
    assert "is deleted" in invoke(*wrong[:-1], "me").stderr
    (token,) = json.loads(invoke("cloud", "tokens", "list", "--json").stdout)
    assert (token["name"], token["creator"]) == ("nightly", "admin token")
    assert invoke("cloud", "people", "list", "--json").stdout.strip() == "[]"
    assert (
        "nobody of this address"
        in invoke("cloud", "people", "delete", "max@example.com", "-y", code=2).output
    )
    (gone,) = json.loads(invoke("deletions", "--json").stdout)
    assert gone["what"] == "person" and gone["id"].startswith("deleted-") and gone["by"] == "admin-token"
    table = invoke("deletions").stdout
    assert "person" in table and gone["id"] in table


def test_projects_are_made_changed_and_deleted(lab: LiveStudio, invoke: Invoke, folder: Path) -> None:
    """One with a run that goes on, or that there is not, is said to be so."""
    made = invoke("cloud", "projects", "create", "red", "--description", "for red", "--keep-days", "30")
    assert "PROMPTLAB_PROJECT=red" in made.stderr
    assert "There is a project" in invoke("cloud", "projects", "create", "red", code=2).output
    lines = invoke("cloud", "projects", "list").stdout.splitlines()
    assert lines == ["default  keeps runs for ever", "red  keeps runs for 30 days  for red"]
    changed = invoke("cloud", "projects", "edit", "red", "--keep-for-ever", "--archive").stdout
    assert changed == "red  keeps runs for ever  archived  for red\n"
    refused = invoke("run", experiment(folder), "-q", "--project", "red", code=2).output
    assert "archived" in refused
    assert (
        json.loads(invoke("cloud", "projects", "edit", "red", "--open", "--json").stdout)["archived"] is False
    )
    assert "What shall change" in invoke("cloud", "projects", "edit", "red", code=2).output
    both = ("cloud", "projects", "edit", "red", "--keep-days", "3", "--keep-for-ever")
    assert "the one or the other" in invoke(*both, code=2).output
    invoke("run", experiment(folder), "-q", "--project", "red")
    done = invoke("cloud", "projects", "delete", "red", "-y").stderr
    assert "is gone" in done and "cloud secrets list --project red" in done
    assert "no project 'red'" in invoke("cloud", "projects", "delete", "red", "-y", code=2).output
    (gone,) = json.loads(invoke("deletions", "--json").stdout)
    assert (gone["what"], gone["id"]) == ("project", "red") and gone["done_at"]


def test_the_keys_of_a_deleted_project_go_with_it(
    lab: LiveStudio, stack: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the stack, and no other project's; after an interruption the same command removes the rest."""
    monkeypatch.delenv("PROMPTLAB_ENDPOINT")
    monkeypatch.setitem(OUTPUTS, "StudioUrl", lab.url)
    for project in ("default", "red"):
        invoke("cloud", "secrets", "set", "openai", "--project", project, stdin="sk-abc")
    invoke("cloud", "secrets", "set", "anthropic", "--project", "red", stdin="sk-ant")
    invoke("cloud", "projects", "create", "red")
    said = invoke("cloud", "projects", "delete", "red", "-y").stderr
    assert "Keys that went with it: anthropic, openai." in said
    assert json.loads(invoke("cloud", "secrets", "list", "--project", "red", "--json").stdout) == []
    assert len(json.loads(invoke("cloud", "secrets", "list", "--json").stdout)) == 1
    invoke("cloud", "secrets", "set", "openai", "--project", "red", stdin="sk-abc")  # as if left behind
    assert "openai" in invoke("cloud", "projects", "delete", "red", "-y").stderr
    assert "no project 'red'" in invoke("cloud", "projects", "delete", "red", "-y", code=2).output


def test_a_project_is_named_by_option_variable_or_key(
    lab: LiveStudio, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In SDK and command line; what is given goes before what is set."""
    for name in ("red", "blue"):
        invoke("cloud", "projects", "create", name)
        with PromptLab({"type": "remote", "endpoint": lab.url, "api_key": TOKEN, "project": name}) as mine:
            mine.asset.create(PromptTemplate(name=f"of-{name}", user_prompt="<q>"))
    assert "of-" not in invoke("prompts").stdout
    assert "of-red" in invoke("prompts", "--project", "red").stdout
    monkeypatch.setenv("PROMPTLAB_PROJECT", "blue")
    assert "of-blue" in invoke("prompts").stdout
    assert "of-blue" not in invoke("prompts", "--project", "red").stdout
    with PromptLab({"type": "remote", "endpoint": lab.url, "api_key": TOKEN}) as mine:
        assert mine.asset.get("of-blue", version=0).name == "of-blue"
        with pytest.raises(AssetNotFoundError):
            mine.asset.get("of-red", version=0)
    assert "is not a usable name" in invoke("prompts", "--project", "No!", code=2).output


def test_nobody_names_a_project_that_is_not_theirs(lab: LiveStudio, invoke: Invoke) -> None:
    """A token of one is in it without naming it, and hears of no other."""
    invoke("cloud", "projects", "create", "red")
    _, secret = lab.call(
        lambda one: Tokens(one.records).create(ADMIN, "x", role="engineer", days=1, project="red")
    )
    for project in (None, "red"):
        config = {"type": "remote", "endpoint": lab.url, "api_key": secret, "project": project}
        with PromptLab(config) as mine:
            mine.asset.create(PromptTemplate(name="mine", user_prompt="<q>"))
            assert [asset.name for asset in mine.asset.list()] == ["mine"]
    for project in ("blue", "default"):
        config = {"type": "remote", "endpoint": lab.url, "api_key": secret, "project": project}
        with PromptLab(config) as mine, pytest.raises(ProjectNotFoundError, match=project):
            mine.asset.list()
    assert "role admin" in invoke("deletions", "--api-key", secret, code=2).output


def test_a_store_here_has_no_projects_and_lists_its_deletions(
    invoke: Invoke, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--project is refused there; the variable is not of it."""
    monkeypatch.setenv("PROMPTLAB_PROJECT", "red")
    assert "in the last year" in invoke("deletions").stderr
    invoke("run", experiment(folder), "-q")
    (run,) = json.loads(invoke("runs", "--json").stdout)
    invoke("delete", run["run_id"], "-y")
    (gone,) = json.loads(invoke("deletions", "--json").stdout)
    assert (gone["what"], gone["id"]) == ("run", run["run_id"])
    assert "has no projects" in invoke("runs", "--project", "red", code=2).output
    with pytest.raises(ConfigError, match="project"):
        PromptLab({"type": "sqlite", "db_file": "x.db", "project": "red"})
