"""The SDK against a hosted Studio."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from promptlab_studio.auth import Auth
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from promptlab import Dataset, Evaluator, Model, ModelResponse, PromptLab, PromptTemplate, get_model
from promptlab.adapters.http.client import MAX_ANSWER_BYTES
from promptlab.adapters.http.lab import RemoteLab
from promptlab.clock import SystemClock
from promptlab.domain.results import Progress, RunRecord
from promptlab.errors import (
    AssetNotFoundError,
    AuthenticationError,
    ConfigError,
    DatasetError,
    EndpointUnreachableError,
    PromptLabError,
    RemoteError,
    RunBusyError,
    RunNotFoundError,
    TemplateError,
)
from promptlab.program import program
from promptlab.report import brief
from promptlab.wiring import open_remote, store_from
from tests.servers import ModelServer, Reply
from tests.studio.builders import ROWS, experiment, right
from tests.studio.live import TOKEN, LiveStudio


class QuickClock(SystemClock):
    """Time that does not make one wait; notes what was asked for."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0.01)


@pytest.fixture
def pl(guarded: LiveStudio) -> Iterator[PromptLab]:
    """The SDK of a Studio that wants a token."""
    with PromptLab({"type": "remote", "endpoint": guarded.url, "api_key": TOKEN}) as opened:
        yield opened


def lab_of(studio: LiveStudio) -> RemoteLab:
    return RemoteLab(studio.url, TOKEN, clock=QuickClock())


async def test_a_name_under_localhost_is_this_machine(guarded: LiveStudio) -> None:
    """Such an address, as the local AWS has, is reached where nothing resolves it. The Studio sees
    the name that was meant."""
    lab = RemoteLab(f"http://lab.somewhere.localhost:{guarded.port}", TOKEN, clock=QuickClock())
    assert await lab.list_runs() == ([], None)
    await lab.close()


def test_a_whole_experiment_runs_as_it_does_locally(
    pl: PromptLab, guarded: LiveStudio, model: ModelServer, tmp_path: Path
) -> None:
    """Assets, run, summary, rows, export and list: the script is the same, and so are the numbers."""
    prompt = pl.asset.create(PromptTemplate(name="ask", user_prompt="<question>", description="d"))
    dataset = pl.asset.create(Dataset(name="questions", rows=ROWS))
    assert (prompt.version, prompt.description, len(dataset), dataset.columns) == (
        0,
        "d",
        120,
        ("question", "answer"),
    )
    seen: list[Progress] = []
    config = {
        **experiment(model),
        "prompt_template": prompt,
        "dataset": dataset,
        "model": get_model("openai/mini", endpoint=model.openai_url),
    }
    run = pl.experiment.run(config, on_progress=seen.append)
    assert (run.status, seen[-1].done, seen[-1].total) == ("completed", 120, 120)
    assert run.summary is not None
    local = PromptLab({"type": "sqlite", "db_file": str(tmp_path / "local.db")})
    same = local.experiment.run(
        {
            **experiment(model),
            "prompt_template": PromptTemplate(name="ask", user_prompt="<question>"),
            "dataset": Dataset(name="questions", rows=ROWS),
        }
    )
    assert same.record.experiment == run.record.experiment
    untimed = [
        [{k: v for k, v in row.items() if k != "latency_ms"} for row in each.results()]
        for each in (run, same)
    ]
    assert untimed[0] == untimed[1]
    assert len(untimed[0]) == 120
    assert run.export(tmp_path / "out.csv").read_text().count("\n") == 121
    assert [found.run_id for found in pl.experiment.list("quiz")] == [run.run_id]
    assert pl.experiment.get(run.run_id).summary == run.summary
    local.close()


def test_assets_are_versioned_labelled_and_found(pl: PromptLab) -> None:
    """By version, label and kind, as in a local store."""
    first = pl.asset.create(PromptTemplate(name="q/a".replace("/", " "), user_prompt="1"))
    assert pl.asset.create(first.model_copy(update={"version": None})).version == 0
    second = pl.asset.update(PromptTemplate(name="q a", user_prompt="2"))
    pl.asset.label("q a", "production", version=0)
    assert (second.version, pl.asset.get("q a").version, pl.asset.get("q a", label="production").version) == (
        1,
        1,
        0,
    )
    assert pl.asset.get("q a", version=0).user_prompt == "1"
    assert pl.asset.get("q a", version=0).labels == ("production",)
    pl.asset.create(Dataset(name="q a", rows=[{"x": 1}]))
    with pytest.raises(PromptLabError, match="both a prompt template and a dataset"):
        pl.asset.get("q a")
    assert len(pl.asset.get("q a", kind="dataset")) == 1
    assert [version.version for version in pl.asset.versions("q a", kind="prompt_template")] == [0, 1]
    assert [(type(asset).__name__, asset.version) for asset in pl.asset.list()] == [
        ("PromptTemplate", 1),
        ("Dataset", 0),
    ]
    assert pl.asset.label("q a", "new", kind="prompt_template").version == 1
    for missing in (
        lambda: pl.asset.get("nothing"),
        lambda: pl.asset.get("q a", version=9, kind="dataset"),
        lambda: pl.asset.update(PromptTemplate(name="x", user_prompt="x")),
    ):
        with pytest.raises(AssetNotFoundError):
            missing()


def test_a_file_is_uploaded(pl: PromptLab, tmp_path: Path) -> None:
    """Its content, under its name; a broken one is told by its line."""
    path = tmp_path / "my rows.csv"
    path.write_text("q,a\n" + "".join(f"{n},{'x' * 1000}\n" for n in range(3000)))
    assert len(pl.asset.create(Dataset(name="file", file_path=path))) == 3000
    path.write_text("q,a\n1\n")
    with pytest.raises(DatasetError, match=r"my_rows\.csv, line 2"):
        pl.asset.create(Dataset(name="file", file_path=path))
    with pytest.raises(DatasetError, match="no file"):
        pl.asset.create(Dataset(name="file", file_path=tmp_path / "gone.csv"))
    long = [{"n": n, "text": "x" * 10_000} for n in range(300)]
    assert len(pl.asset.create(Dataset(name="long", rows=long))) == 300


class Own(Model):
    async def ainvoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        return ModelResponse(response="x")


class Mine(Evaluator):
    def evaluate(self, data: dict[str, Any]) -> float:
        return 1.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"model": {"name": "openai/mini", "api_key": "sk-secret"}},
            r"openai/mini.*cloud secrets set NAME.*api_key_secret",
        ),
        (
            {"embedding_model": get_model("openai/mini", api_key="sk-secret")},
            "embedding_model.*api_key_secret",
        ),
        ({"embedding_model": Own()}, "embedding_model: Own is a model of your own"),
        (
            {"model": Own({"name": "openai/mini", "api_key": "sk-secret"})},
            "model: the api_key of 'openai/mini'",
        ),
    ],
)
def test_what_only_exists_here_is_refused_before_any_request(
    changes: dict[str, Any], words: str, model: ModelServer
) -> None:
    """The message names it and what to do; nothing listens at this endpoint."""
    pl = PromptLab({"type": "remote", "endpoint": model.url, "api_key": TOKEN})
    with pytest.raises(ConfigError, match=words) as error:
        pl.experiment.run({**experiment(model), **changes})
    assert "sk-secret" not in str(error.value)
    assert model.requests == []


@pytest.mark.parametrize(
    "changes",
    [
        {"evaluation": [{"metric": "mine", "evaluator": Mine()}]},
        {"evaluation": [{"metric": "mine", "evaluator": "metrics.py:Mine"}]},
        {"model": Own()},
        {"model": None, "prompt_template": None, "agent_proxy": lambda row: "x"},
    ],
)
def test_a_studio_that_runs_no_code_says_so(
    pl: PromptLab, changes: dict[str, Any], model: ModelServer
) -> None:
    """A laptop's Studio has no sandbox: nothing is sent to it, and the words say what to do."""
    with pytest.raises(ConfigError, match="sandbox of a hosted lab only"):
        pl.experiment.run({**experiment(model), **changes})
    assert pl.asset.list("code") == [] and model.requests == []


def test_errors_are_those_of_a_local_lab(pl: PromptLab, model: ModelServer) -> None:
    """By class, with the message of where they were found."""
    with pytest.raises(RunNotFoundError) as missing:
        pl.experiment.get("none")
    assert missing.value.run_id == "none"
    with pytest.raises(TemplateError, match="<nothing>"):
        pl.experiment.run({**experiment(model), "prompt_template": {"name": "x", "user_prompt": "<nothing>"}})
    with pytest.raises(ConfigError, match="exact_match"):
        pl.experiment.run({**experiment(model), "evaluation": [{"metric": "exact_mach"}]})
    with ModelServer() as gone:
        pass
    with pytest.raises(EndpointUnreachableError, match=gone.url):
        pl.experiment.run(experiment(gone))


@pytest.mark.parametrize("api_key", [None, "a-wrong-token-of-some-length"])
def test_a_missing_or_wrong_token_says_how_to_get_one(guarded: LiveStudio, api_key: str | None) -> None:
    """And where to put it."""
    with (
        PromptLab({"type": "remote", "endpoint": guarded.url, "api_key": api_key}) as pl,
        pytest.raises(AuthenticationError, match=r"promptlab cloud token.*PROMPTLAB_API_KEY"),
    ):
        pl.asset.list()


async def test_an_endpoint_that_is_no_studio_is_told_so(model: ModelServer) -> None:
    """Neither hanging nor a stack trace."""
    lab = RemoteLab(model.url)
    model.answer = lambda r: Reply(status=404, body=b"<html>")
    with pytest.raises(RemoteError, match="answered with status 404: <html>"):
        await lab.get_run("x")
    model.answer = lambda r: Reply(body=b"<html>hello")
    with pytest.raises(RemoteError, match="is the endpoint right"):
        await lab.get_run("x")
    await lab.close()


@pytest.mark.parametrize("status", [200, 422])
async def test_an_answer_that_unpacks_to_too_much_is_refused(model: ModelServer, status: int) -> None:
    """Of a refusal only the beginning is read."""
    bomb = gzip.compress(b" " * (MAX_ANSWER_BYTES + 1))
    encoded = {"Content-Encoding": "gzip"}
    model.script(Reply(status=status, body=bomb, headers=encoded))
    lab = RemoteLab(model.url)
    with pytest.raises(RemoteError, match="larger than 64 MB" if status == 200 else "status 422"):
        await lab.get_run("r")
    model.script(Reply(status=200, body=b"x", headers={"Content-Encoding": "br"}))
    with pytest.raises(RemoteError, match="gzip, deflate was asked for"):
        await lab.get_run("r")
    await lab.close()


async def test_a_file_is_taken_as_it_is(model: ModelServer, tmp_path: Path) -> None:
    """One that is compressed once more could unpack to more than the disk has; nothing of it is left."""
    bomb = gzip.compress(gzip.compress(b" " * 1_000_000))
    model.script(Reply(status=200, body=bomb, headers={"Content-Encoding": "gzip, gzip"}))
    lab = RemoteLab(model.url)
    with pytest.raises(RemoteError, match="in the encoding 'gzip, gzip'"):
        await lab.export("r", tmp_path / "r.parquet", "parquet")
    assert list(tmp_path.iterdir()) == []
    await lab.close()


async def test_nothing_at_the_endpoint_is_told_soon() -> None:
    """An address that never answered is not waited for as one that did."""
    with ModelServer() as gone:
        pass
    clock = QuickClock()
    lab = RemoteLab(gone.url, clock=clock)
    with pytest.raises(EndpointUnreachableError, match=gone.url):
        await lab.get_run("x")
    assert sum(clock.slept) < 10
    await lab.close()


class Stumbling:
    """A gateway that answers some requests with an error, after they were worked on."""

    def __init__(self, app: ASGIApp, faults: dict[tuple[str, str], list[int]]) -> None:
        self._app, self._faults = app, faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        left = next(
            (
                statuses
                for (method, end), statuses in self._faults.items()
                if scope.get("method") == method and scope["path"].endswith(end)
            ),
            [],
        )
        status = left.pop(0) if left else None

        async def broken(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(
                    {"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]}
                )
            elif not message.get("more_body"):
                await send({"type": "http.response.body", "body": b""})

        await self._app(scope, receive, broken if status else send)


async def test_a_server_that_stumbles_costs_no_run_and_starts_none_twice(
    tmp_path: Path, model: ModelServer
) -> None:
    """Lost answers to the start, to polls and to the result are asked for again."""
    faults = {
        ("POST", "/runs"): [502, 503],
        ("GET", "/progress"): [503, 500, 502, 504],
        ("GET", "/export"): [502],
        ("POST", "/datasets"): [500],
    }
    with LiveStudio(
        tmp_path, auth=Auth(TOKEN, secure=False), wrap=lambda app: Stumbling(app, faults)
    ) as studio:
        lab = lab_of(studio)
        run = await lab.run(experiment(model))
        rows = [row async for row in lab.results(run.run_id)]
        assert not any(faults.values())
        assert len([run_id async for run_id in lab.run_ids()]) == 1
        await lab.close()
    assert (run.status, len(rows), len(model.requests)) == ("completed", 120, 120)


async def test_leaving_a_run_lets_it_go_on_and_says_how_to_come_back(
    guarded: LiveStudio, model: ModelServer
) -> None:
    """Ctrl-C cancels the task; the Studio works on."""
    model.answer = lambda r: Reply(text=right(r), hang=True)
    pl = PromptLab({"type": "remote", "endpoint": guarded.url, "api_key": TOKEN})
    watching = asyncio.Event()
    task = asyncio.create_task(
        pl.run_experiment_async(experiment(model), on_progress=lambda _: watching.set())
    )
    await watching.wait()
    lab = lab_of(guarded)
    (run_id,) = [run_id async for run_id in lab.run_ids()]
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as stop:
        await task
    model.release()
    (note,) = stop.value.__notes__
    assert (
        note == f"Run {run_id} goes on at {guarded.url}.\nCome back to it with: {program()} show {run_id} "
        f"--endpoint {guarded.url}"
    )
    while (run := await lab.get_run(run_id)).status == "running":
        pass
    assert (run.status, run.summary and run.summary["succeeded"]) == ("completed", 120)
    await lab.close()
    await pl.aclose()


async def test_a_run_is_watched_while_it_goes_on(guarded: LiveStudio, model: ModelServer) -> None:
    """Polls begin at once and grow rarer, from one second to five; rows so far can be read; the numbers are
    those of the ledger."""
    model.answer = lambda r: Reply(text=right(r), hang=len(model.requests) > 60)
    clock = QuickClock()
    lab = RemoteLab(guarded.url, TOKEN, clock=clock)
    started: list[RunRecord] = []
    told: list[Progress] = []
    task = asyncio.create_task(lab.run(experiment(model), on_start=started.append, on_progress=told.append))
    while len(clock.slept) < 12 or told[-1].done < 60:
        await asyncio.sleep(0.01)
    run_id = started[0].run_id
    assert clock.slept[:2] == [1.0, pytest.approx(4 / 3)]
    assert max(clock.slept) == 5.0
    assert [row["response"] for row in [row async for row in lab.results(run_id)]].count(None) == 0
    assert len([row async for row in lab.results(run_id)]) == 60
    run = await lab.get_run(run_id)
    facts = brief(run, *await lab.so_far(run))
    assert (facts["status"], facts["succeeded"], facts["cases"]) == ("running", 60, 120)
    assert await lab.summary(run_id) == await guarded.lab.summary(run_id)
    assert (await lab.cancel(run_id)).status == "cancelled"
    assert (await task).status == "cancelled"
    model.answer = right
    model.release()
    while True:
        try:
            run = await lab.resume(run_id)
            break
        except RunBusyError:  # until the work has stopped
            pass
    assert (run.status, run.generation) == ("completed", 1)
    again = await lab.resume(run_id)
    assert again.generation == 1
    with pytest.raises(ConfigError, match="leave the configuration out"):
        await lab.resume(run_id, config=experiment(model))
    await lab.close()


async def test_runs_are_listed_beyond_one_page(guarded: LiveStudio, model: ModelServer) -> None:
    """As many as are asked for, with their summaries."""
    lab = lab_of(guarded)
    for _ in range(3):
        await lab.run({**experiment(model), "dataset": {"name": "two", "rows": ROWS[:2]}})
    first, cursor = await lab.list_runs(limit=2)
    rest, end = await lab.list_runs(limit=2, cursor=cursor)
    assert (len(first), len(rest), end) == (2, 1, None)
    assert all(run.summary for run in first + rest)
    await lab.close()


async def test_exports_are_written_whole_or_not_at_all(
    guarded: LiveStudio, model: ModelServer, tmp_path: Path
) -> None:
    """A missing folder, a missing run: nothing is left."""
    lab = lab_of(guarded)
    with pytest.raises(ConfigError, match="no folder"):
        await lab.export("x", tmp_path / "none" / "out.csv", "csv")
    with pytest.raises(RunNotFoundError):
        await lab.export("x", tmp_path / "out.csv", "csv")
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]
    await lab.close()


def test_a_store_is_chosen_by_what_is_given_and_what_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file goes before the environment's Studio; two at once are refused."""
    for name in ("PROMPTLAB_ENDPOINT", "PROMPTLAB_API_KEY", "PROMPTLAB_DB"):
        monkeypatch.delenv(name, raising=False)
    assert store_from() == {"type": "sqlite", "db_file": "promptlab.db"}
    assert store_from(endpoint="https://a.example")["endpoint"] == "https://a.example"
    with pytest.raises(ConfigError, match="one or the other"):
        store_from(db="x.db", endpoint="https://a.example")
    monkeypatch.setenv("PROMPTLAB_DB", "y.db")
    assert store_from() == {"type": "sqlite", "db_file": "y.db"}
    monkeypatch.setenv("PROMPTLAB_ENDPOINT", "https://b.example/api/v1/")
    assert store_from(db="x.db") == {"type": "sqlite", "db_file": "x.db"}
    assert open_remote(store_from()).where == "https://b.example"
    assert open_remote({"type": "remote"}).where == "https://b.example"


def test_a_remote_store_is_described_rightly_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address is needed, and has to be one."""
    monkeypatch.delenv("PROMPTLAB_ENDPOINT", raising=False)
    for config, words in (
        ({}, "needs the Studio's address"),
        ({"endpoint": "b.example"}, "not a Studio's address"),
        ({"endpoint": "https://b", "key": 1}, "'key'"),
    ):
        with pytest.raises(ConfigError, match=words):
            PromptLab({"type": "remote", **config})


def test_a_hosted_studio_is_not_served_once_more(pl: PromptLab, guarded: LiveStudio) -> None:
    """It is there already."""
    with pytest.raises(ConfigError, match=f"open {guarded.url} in a browser"):
        pl.studio.start()
