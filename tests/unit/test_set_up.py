"""`promptlab doctor EXPERIMENT.yaml`: what would keep a run from beginning, said before it."""

from __future__ import annotations

import json
import socket
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from promptlab.cli import commands
from tests.servers import ModelServer, Reply, Request


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "PROMPTLAB_DB"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


def listing(request: Request) -> Reply:
    """Two models, for one key; other requests are answered as ever."""
    if request.headers.get("authorization") != "Bearer right-key":
        return Reply(status=401, body={"error": {"message": "wrong key"}})
    if request.path.endswith("/models"):
        return Reply(body={"data": [{"id": "mini"}, {"id": "maxi"}]})
    return Reply()


def doctor(
    server: ModelServer | str, *options: str, name: str = "mini", key: str = "right-key", code: int = 0
) -> Any:
    endpoint = server if isinstance(server, str) else server.openai_url
    Path("e.yaml").write_text(
        f"name: e\ndataset: {{name: d, rows: [{{q: a}}]}}\nprompt_template: {{name: p, user_prompt: '<q>'}}\n"
        f"model: {{name: openai/{name}, endpoint: '{endpoint}', api_key: {key}}}\n"
    )
    result = CliRunner().invoke(commands, ["doctor", "e.yaml", "--json", *options])
    assert result.exit_code == code, result.output
    found = json.loads(result.stdout)
    assert found["ok"] is (code == 0)
    return [(one["check"], one["outcome"], one["message"]) for one in found["findings"]]


def test_a_sound_set_up_is_said_to_be_one() -> None:
    """With the address, the proxy and the call that was made; no prompt is sent."""
    with ModelServer(listing) as server:
        found = doctor(server)
        assert [request.method for request in server.requests] == ["GET"]
    assert {outcome for _, outcome, _ in found} == {"ok"}
    said = " ".join(message for *_, message in found)
    assert f"calls go to {server.openai_url}, without a proxy" in said
    assert f"GET {server.openai_url}/models: the address answers and the key is accepted" in said


@pytest.mark.parametrize(
    ("changes", "outcome", "said"),
    [
        ({"key": "wrong-key", "code": 1}, "error", "the key was refused: wrong key"),
        ({"name": "mimi"}, "warning", "mimi is not among the 2 models that are listed there (maxi, mini, …)"),
    ],
)
def test_what_is_wrong_with_a_model_is_said(changes: dict[str, Any], outcome: str, said: str) -> None:
    """A wrong key keeps a run from succeeding; a name that is not listed may be right all the same."""
    with ModelServer(listing) as server:
        found = doctor(server, **changes)
    assert any(one[1] == outcome and said in one[2] for one in found), found


def test_an_endpoint_without_a_list_gets_a_call_of_one_token() -> None:
    """As gateways have it that serve chat alone."""

    def chat(request: Request) -> Reply:
        return Reply(status=404) if request.method == "GET" else Reply()

    with ModelServer(chat) as server:
        found = doctor(server)
        assert server.requests[-1].json["max_tokens"] == 1
    assert any("a call with max_tokens 1" in message for *_, message in found)


def test_without_calls_nothing_is_asked() -> None:
    """The address alone is tried."""
    with ModelServer(listing) as server:
        found = doctor(server, "--no-calls", key="wrong-key")
        assert server.requests == []
    assert any("it was not called" in message for *_, message in found)


def test_a_clock_that_is_wrong_is_found() -> None:
    """By the provider's Date header."""

    def early(request: Request) -> Reply:
        return Reply(body={"data": []}, headers={"Date": formatdate(1e9, usegmt=True)})

    with ModelServer(early) as server:
        (clock,) = [one for one in doctor(server) if one[0] == "clock"]
    assert clock[1] == "warning" and "ahead of the provider's" in clock[2]


def test_an_address_where_nothing_answers_and_a_store_without_folder_are_errors() -> None:
    """Both are said at once."""
    with socket.socket() as taken:  # and nobody listens
        taken.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        found = doctor(dead, "--db", "nowhere/lab.db", code=1)
    errors = [(check, message) for check, outcome, message in found if outcome == "error"]
    assert [check for check, _ in errors] == ["store", "openai/mini"]
    assert "there is no folder" in errors[0][1] and "Nothing answers at" in errors[1][1]


def test_words_for_people_and_wrong_usage() -> None:
    """What is called is said before; options for a store are refused."""
    with ModelServer(listing) as server:
        doctor(server)
        shown = CliRunner().invoke(commands, ["doctor", "e.yaml"])
    assert shown.exit_code == 0 and "gets GET " in shown.stderr
    assert "✓ store: " in shown.stdout and "Nothing keeps the experiment from running." in shown.stdout
    assert CliRunner().invoke(commands, ["doctor", "e.yaml", "--repair"]).exit_code == 2
    assert CliRunner().invoke(commands, ["doctor", "lab.db", "--json"]).exit_code == 2
    assert CliRunner().invoke(commands, ["doctor", "gone.yaml"]).exit_code == 2
