"""A run whose record is broken, odd or of another version stands in its place and breaks no
list, page or command."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from promptlab_studio.app import create_app

from promptlab import Dataset, PromptLab, PromptTemplate
from promptlab.adapters.local.sqlite_ledger import SqliteLedger
from promptlab.cli import commands as cli
from promptlab.domain.results import Score
from promptlab.domain.run_checks import checked, in_words
from promptlab.domain.summary import MetricSummary, Summary
from promptlab.errors import RunBusyError, StoreDamagedError
from promptlab.store_lab import StoreLab
from tests.contract.builders import run

EXPERIMENT = {
    "name": "quiz",
    "dataset": {"name": "questions", "version": 0, "hash": "0" * 64},
    "model": {"name": "simulated/echo"},
    "evaluation": [{"name": "f1", "metric": "token_f1", "column_mapping": {}}],
}


def summary_of(score: float, cases: int) -> dict[str, Any]:
    """The summary of a run that scored the same in every case."""
    summary = Summary(cases=cases, succeeded=cases)
    summary.metrics["f1"] = MetricSummary()
    for _ in range(cases):
        summary.metrics["f1"].add_row([Score(value=score)])
        summary.latency_ms.add(12.5)
    return summary.to_json()


def broken(summary: Any = None, **changes: Any) -> Any:
    """Return a change of a stored body into a broken one."""
    return lambda body: {**body, **({"summary": summary} if summary is not None else {}), **changes}


def without(*names: str) -> Any:
    return lambda body: {name: value for name, value in body.items() if name not in names}


WORDS = re.compile("cannot be read|is stored as|is no object|a stored \\w+ lacks|the content of")
NEGATIVE = summary_of(0.95, 60)
NEGATIVE["metrics"]["f1"]["values"] |= {"m2": -1.4e-14}
SUMMARY = summary_of(0.5, 3)
READABLE = {
    "equal scores": broken(summary_of(0.95, 60)),
    "m2 that rounding made negative": broken(NEGATIVE),
    "fields of a newer version": broken({**SUMMARY, "judged": 3}, colour="red"),
    "an older summary": broken({name: SUMMARY[name] for name in ("cases", "succeeded", "metrics")}),
}
UNREADABLE = {
    "not JSON": lambda body: b"{",
    "NaN": lambda body: json.dumps({**body, "wall_s": float("nan")}).encode(),
    "a list": lambda body: b"[]",
    "text in place of the summary": broken("0.95"),
    "half a summary": broken({"metrics": {"f1": {"values": {"n": 3}}}}),
    "words for counts": broken({**SUMMARY, "failed": "none"}),
    "a strange status": broken(status="sleeping"),
    "a strange time": broken(created_at="yesterday"),
    "a strange end": broken(started_at="soon", finished_at=3),
    "no experiment": without("experiment"),
    "an experiment without a model": broken(experiment={"name": "quiz", "dataset": EXPERIMENT["dataset"]}),
    "an experiment of numbers": broken(experiment=[1, 2]),
    "metrics of another shape": broken(experiment={**EXPERIMENT, "evaluation": 5}),
    "tags of another shape": broken(tags=[{"a": 1}]),
    "negative cases": broken(cases=-3, wall_s=-1.0),
    "nothing": lambda body: b"{}",
    "a metric's name that is no UTF-8": lambda body: (
        json.dumps(body).encode().replace(b'"f1": {', b'"\xff": {')
    ),
}


async def store_with(folder: Path, change: Any) -> Path:
    """A store with a good run and, newer, one whose record is changed."""
    path = folder / "promptlab.db"
    ledger = SqliteLedger(path)
    good = {"status": "completed", "experiment": EXPERIMENT, "summary": SUMMARY, "cases": 3}
    await ledger.add_run(run("run-good", created_at="2026-11-22T09:00:00.000000Z", **good))
    await ledger.add_run(run("run-odd", created_at="2026-11-23T09:00:00.000000Z", **good))
    await ledger.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        (body,) = connection.execute("SELECT body FROM run WHERE run_id = 'run-odd'").fetchone()
        changed = change(json.loads(body))
        data = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
        connection.execute("UPDATE run SET body = ? WHERE run_id = 'run-odd'", (data,))
    return path


async def pages(path: Path, *addresses: str) -> dict[str, httpx.Response]:
    """Return what the Studio answers at addresses."""
    lab = StoreLab.open({"type": "sqlite", "db_file": str(path)})
    transport = httpx.ASGITransport(app=create_app(lab))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://127.0.0.1", headers={"accept": "text/html"}
    ) as client:
        found = {address: await client.get(address) for address in addresses}
    await lab.close()
    return found


@pytest.mark.parametrize("name", [*READABLE, *UNREADABLE])
def test_one_record_never_breaks_the_lists(tmp_path: Path, name: str) -> None:
    """`promptlab runs`, the Studio's first page and the API answer, with both runs in them."""
    path = asyncio.run(store_with(tmp_path, {**READABLE, **UNREADABLE}[name]))
    for options in ([], ["--json"]):
        listed = CliRunner().invoke(cli, ["runs", "--db", str(path), *options], env={"COLUMNS": "200"})
        assert listed.exit_code == 0, listed.output
        assert "run-good" in listed.output
        assert "run-odd" in listed.output
        assert ("unreadable" in listed.output) == (name in UNREADABLE)
    addresses = (
        "/",
        "/?sort=m:f1",
        "/?sort=latency",
        "/?sort=duration",
        "/?charts=1",
        "/?q=quiz",
        "/api/v1/runs",
        "/api/v1/runs?details=true",
        "/datasets",
        "/new",
    )
    for address, answer in asyncio.run(pages(path, *addresses)).items():
        assert answer.status_code == 200, (address, answer.text)
        if not address.startswith(("/datasets", "/new", "/?q")):
            assert "run-good" in answer.text
            assert "run-odd" in answer.text
    items = asyncio.run(pages(path, "/api/v1/runs"))["/api/v1/runs"].json()["items"]
    assert [bool(item["unreadable"]) for item in items if item["run_id"] == "run-odd"] == [name in UNREADABLE]


@pytest.mark.parametrize("name", UNREADABLE)
def test_the_command_shows_what_can_be_read_and_says_what_cannot(tmp_path: Path, name: str) -> None:
    """`promptlab show` of an unreadable record is no traceback."""
    path = asyncio.run(store_with(tmp_path, UNREADABLE[name]))
    shown = CliRunner().invoke(cli, ["show", "run-odd", "--db", str(path)], env={"COLUMNS": "200"})
    assert not isinstance(shown.exception, Exception) or isinstance(shown.exception, SystemExit), (
        shown.exception
    )
    assert WORDS.search(shown.output)


async def test_an_unreadable_run_does_not_go_on(tmp_path: Path) -> None:
    """Nothing is paid for by guess, and the record stays as it is."""
    path = await store_with(tmp_path, broken(experiment={"name": "quiz"}))
    lab = StoreLab.open({"type": "sqlite", "db_file": str(path)})
    try:
        with pytest.raises((StoreDamagedError, RunBusyError), match="cannot go on"):
            await lab.resume("run-odd")
    finally:
        await lab.close()
    with closing(sqlite3.connect(path)) as connection:
        (body,) = connection.execute("SELECT body FROM run WHERE run_id = 'run-odd'").fetchone()
    assert json.loads(body)["experiment"] == {"name": "quiz"}


def test_what_can_be_read_of_a_record_is() -> None:
    """One bad field costs that field."""
    found = checked(run("r", tags=("a", 3), wall_s=2.0, experiment={**EXPERIMENT, "trials": "many"}))
    assert (found.name, found.cases, found.tags, found.wall_s) == ("quiz", 100, (), 2.0)
    assert found.experiment["dataset"] == EXPERIMENT["dataset"]
    assert found.unreadable is not None
    assert "tags" in found.unreadable
    assert "experiment: trials" in found.unreadable


def test_an_experiment_that_cannot_be_read_is_one_of_which_nothing_is_known() -> None:
    """Every page can show it, with its one trial."""
    found = checked(run("r", experiment=["quiz"])).experiment
    assert (found["name"], found["trials"], found["evaluation"]) == ("?", 1, [])
    assert found["dataset"] == {"name": "?", "version": 0, "hash": ""}


@pytest.mark.parametrize(
    ("field", "value", "words", "instead"),
    [
        ("name", 7, "name: it must be a text, not '7'", "?"),
        ("cases", -1, "cases: it must be a whole number, 0 or more, not '-1'", 0),
        (
            "created_at",
            "2026-01-01T00:00:00",
            "created_at: it has no time zone",
            "1970-01-01T00:00:00.000000Z",
        ),
        ("started_at", "soon", "started_at: Invalid isoformat string: 'soon'", None),
        ("finished_at", 5, "finished_at: ", None),
        ("generation", 0.5, "generation: it must be a whole number", 0),
        ("wall_s", -0.5, "wall_s: it must be a number, 0 or more, not -0.5", 0.0),
        ("error", 1, "error: it must be a text, not '1'", None),
        ("tags", ["a"], "tags: they must be texts, not", ()),
        ("results", True, "results: it must be a text, not 'True'", None),
        ("summary", {"cases": "x"}, "summary: cases must be a whole number", None),
        (
            "summary",
            {"metrics": {"f1": {"values": {"n": 1}}}},
            "summary: f1: bins hold 0 values of n 1",
            None,
        ),
    ],
)
def test_a_field_that_cannot_be_read_has_its_default(
    field: str, value: Any, words: str, instead: Any
) -> None:
    """And the record says which one, and why."""
    found = checked(run("r", **{"experiment": EXPERIMENT, field: value}))
    assert getattr(found, field) == instead
    assert found.unreadable is not None
    assert found.unreadable.startswith("This record cannot be read: ") and words in found.unreadable


def test_a_sound_record_is_itself_and_faults_have_a_greatest_length() -> None:
    """Also where it was looked at before; of faults 500 characters are kept."""
    sound = run("r", experiment=EXPERIMENT, summary=summary_of(0.5, 3), wall_s=0, tags=(), error=None)
    for _ in range(2):
        assert checked(sound) is sound
    assert len(in_words({"a": "x" * 1_000})) == 500
    assert in_words({"b": "2", "a": "1"}) == "This record cannot be read: a: 1; b: 2"


def test_a_summary_of_an_older_version_is_whole() -> None:
    """What it did not count is there with its default, and the record has no fault."""
    found = checked(run("r", experiment=EXPERIMENT, summary={"cases": 3, "metrics": {"f1": {}}}))
    assert (found.unreadable, found.summary) == (
        None,
        Summary.from_json({"cases": 3, "metrics": {"f1": {}}}).to_json(),
    )


@pytest.mark.parametrize("name", UNREADABLE)
def test_the_page_of_an_unreadable_run_says_why(tmp_path: Path, name: str) -> None:
    """Its tabs answer, with the words of the record; what there is of it is shown."""
    path = asyncio.run(store_with(tmp_path, UNREADABLE[name]))
    addresses = ("/runs/run-odd", "/runs/run-odd?tab=summary", "/runs/run-odd?tab=configuration")
    for address, answer in asyncio.run(pages(path, *addresses)).items():
        assert WORDS.search(answer.text), address


ASSETS = {
    "not JSON": b"{",
    "a list": b"[]",
    "nothing": b"{}",
    "content of another shape": b'{"kind":"dataset","name":"b","version":0,"description":"","content":5,'
    b'"hash":"","created_at":"2026-11-22T09:00:00.000000Z"}',
}


@pytest.mark.parametrize("name", ASSETS)
def test_an_asset_that_cannot_be_read_stands_in_its_place(tmp_path: Path, name: str) -> None:
    """Lists, the form for a new run and the commands answer, with all others in them; the asset's own page
    says why."""
    path = tmp_path / "lab.db"
    with PromptLab({"db_file": str(path)}, quiet=True) as pl:
        for asset in "abc":
            pl.asset.create(Dataset(name=asset, rows=[{"x": asset}]))
            pl.asset.create(PromptTemplate(name=f"p{asset}", user_prompt="<x>"))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE asset SET body = ? WHERE name IN ('b', 'pb')", (ASSETS[name],))
    with PromptLab({"db_file": str(path)}, quiet=True) as pl:
        assert [asset.name for asset in pl.asset.list()] == ["pa", "pb", "pc", "a", "b", "c"]
        with pytest.raises(StoreDamagedError):
            pl.asset.get("b")
    for command in ("datasets", "prompts"):
        listed = CliRunner().invoke(cli, [command, "--db", str(path)], env={"COLUMNS": "200"})
        assert listed.exit_code == 0, listed.output
        assert listed.output.count("\n") >= 4 and WORDS.search(listed.output), listed.output
    found = asyncio.run(
        pages(path, "/datasets", "/prompts", "/new", "/api/v1/datasets", "/api/v1/prompts", "/dataset?name=b")
    )
    own = found.pop("/dataset?name=b")
    assert own.status_code == 503 and WORDS.search(own.text)
    for address, answer in found.items():
        assert answer.status_code == 200, (address, answer.text)
