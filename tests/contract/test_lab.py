"""The behaviour of every lab, over a store and over a hosted Studio (promptlab/lab.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from promptlab import Dataset, PromptTemplate
from promptlab.domain.choice import Chosen
from promptlab.domain.results import CaseKey, Progress, RunRecord
from promptlab.domain.sweeps import Sweep
from promptlab.errors import (
    AssetNotFoundError,
    ConfigError,
    LabelMovedError,
    LabelNotFoundError,
    RunBusyError,
    RunError,
    RunInUseError,
    RunNotFoundError,
    SqlError,
    SweepNotFoundError,
    VersionInUseError,
)
from promptlab.gates import gates_of
from promptlab.lab import Lab
from promptlab.queries.compared import Compared
from promptlab.queries.filters import Filter
from promptlab.report import brief
from promptlab.results.formats import CsvStyle
from tests.servers import ModelServer, Reply, Request
from tests.studio.builders import ROWS, experiment, right

TEN = {"dataset": {"name": "questions", "rows": ROWS[:10]}}


@pytest.fixture
def model() -> Iterator[ModelServer]:
    """A provider that answers right."""
    with ModelServer(right) as server:
        yield server


def wrong_on(*numbers: int) -> Any:
    """A provider that is wrong about some rows."""

    def answer(request: Request) -> str:
        said = right(request)
        return f"{said}?" if int(said.split()[-1]) in numbers else said

    return answer


async def test_a_run_is_run_watched_read_and_exported(lab: Lab, model: ModelServer, tmp_path: Path) -> None:
    """Start, progress, summary, rows, pages of rows, a file."""
    started: list[RunRecord] = []
    told: list[Progress] = []
    run = await lab.run({**experiment(model), **TEN}, on_start=started.append, on_progress=told.append)
    assert (run.status, run.cases, [r.run_id for r in started]) == ("completed", 10, [run.run_id])
    assert (told[-1].done, told[-1].total, told[-1].failed) == (10, 10, 0)
    assert await lab.progress(run.run_id) == replace(told[-1], scored=None)
    summary = await lab.summary(run.run_id)
    assert (summary.succeeded, summary.metrics["exact_match"].mean) == (10, 1.0)
    assert await lab.so_far(run) == (None, None)
    assert brief(await lab.get_run(run.run_id))["metrics"] == brief(run)["metrics"]
    rows = [row async for row in lab.results(run.run_id)]
    assert [row["case"] for row in rows] == list(range(10))
    page, following = await lab.cases(run.run_id, after=CaseKey(3, 0), limit=4)
    assert ([row["case"] for row in page], following) == ([4, 5, 6, 7], CaseKey(7, 0))
    await lab.export(run.run_id, tmp_path / "excel.csv", "csv", CsvStyle(";", bom=True))
    excel = (tmp_path / "excel.csv").read_text("utf-8")
    assert excel.startswith("\ufeffcase;trial;id;")
    with pytest.raises(ConfigError, match="the format is jsonl"):
        await lab.export(run.run_id, tmp_path / "out.jsonl", "jsonl", CsvStyle(bom=True))
    await lab.export(run.run_id, tmp_path / "out.csv", "csv")
    assert (tmp_path / "out.csv").read_text().count("\n") == 11
    with pytest.raises(ConfigError, match="no folder"):
        await lab.export(run.run_id, tmp_path / "none" / "out.csv", "csv")
    assert await lab.watch(run, told.append) == await lab.get_run(run.run_id)


async def test_runs_are_listed_newest_first_and_in_pages(lab: Lab, model: ModelServer) -> None:
    """By name, with a cursor, and as ids."""
    assert await lab.list_runs() == ([], None)
    made = [(await lab.run({**experiment(model), **TEN, "name": name})).run_id for name in ("a", "b", "a")]
    first, cursor = await lab.list_runs(limit=2)
    rest, end = await lab.list_runs(limit=2, cursor=cursor)
    assert [run.run_id for run in first + rest] == made[::-1] and end is None
    assert [run.run_id for run in (await lab.list_runs(name="a"))[0]] == [made[2], made[0]]
    assert [run_id async for run_id in lab.run_ids()] == made[::-1]


async def test_what_is_not_there_is_the_same_error_everywhere(lab: Lab, model: ModelServer) -> None:
    """By class, and with the id."""
    for call in (
        lab.get_run("none"),
        lab.progress("none"),
        lab.summary("none"),
        lab.cancel("none"),
        lab.resume("none"),
        lab.start_resume("none"),
        lab.cases("none"),
        lab.compare(["none", "nor this"]),
        anext(lab.results("none")),
    ):
        with pytest.raises(RunNotFoundError) as missing:
            await call
        assert missing.value.run_id == "none"
    with pytest.raises(ConfigError, match="exact_match"):
        await lab.run({**experiment(model), "evaluation": [{"metric": "exact_mach"}]})
    assert await lab.list_runs() == ([], None)


async def test_only_failures_of_the_named_types_are_asked_again(lab: Lab) -> None:
    """The others stay; with a type that no case has, nothing is done."""
    healthy = False

    def answer(request: Request) -> Reply | str:
        number = int(right(request).split()[-1])
        if healthy or number not in (2, 3, 5):
            return right(request)
        return Reply(status=404 if number == 5 else 400, body={"error": {"message": "no", "type": "x"}})

    with ModelServer(answer) as server:
        run = await lab.run({**experiment(server), **TEN})
        assert (await lab.summary(run.run_id)).errors == {"bad_request": 2, "not_found": 1}
        healthy = True
        before = len(server.requests)
        assert (await lab.resume(run.run_id, errors=["timeout"])).generation == 0
        run = await lab.resume(run.run_id, errors=["not_found"])
        assert len(server.requests) == before + 1
    assert (await lab.summary(run.run_id)).errors == {"bad_request": 2}


async def test_a_completed_run_is_scored_again_without_its_model(lab: Lab, model: ModelServer) -> None:
    """A metric is added, a judge with it; one that is replaced is kept; what is there is not done again."""
    run = await lab.run({**experiment(model), **TEN})
    calls = len(model.requests)
    plain = model.answer
    model.answer = lambda request: (
        '{"reasoning": "so", "label": "yes"}' if request.json["model"] == "judge" else plain(request)
    )
    judge = {"metric": "rubric", "params": {"criterion": "It is right."}}
    judge["judge"] = {"name": "openai/judge", "endpoint": model.openai_url}
    again = await lab.score(run.run_id, [judge, {"metric": "length"}])
    assert (again.generation, again.status) == (1, "completed")
    assert {request.json["model"] for request in model.requests[calls:]} == {"judge"}
    assert (await lab.summary(run.run_id)).metrics["rubric"].mean == 1.0
    bounded = {"metric": "length", "params": {"max": 1}}
    await lab.score(run.run_id, [bounded, judge], only=["length"])
    metrics = (await lab.summary(run.run_id)).metrics
    assert {"length", "length@1", "rubric"} <= set(metrics) and len(model.requests) == calls + 10
    assert (await lab.score(run.run_id, [bounded])).generation == 2
    with pytest.raises(RunNotFoundError):
        await lab.score("none", [bounded])


async def test_a_run_is_cancelled_and_resumed(lab: Lab, model: ModelServer) -> None:
    """Answers are kept; the rest is done, and failed cases on request; a complete run is left as it is."""
    model.answer = lambda request: Reply(status=400) if "What is 3?" in request.prompt else right(request)
    run = await lab.run({**experiment(model), **TEN})
    assert (run.status, (await lab.progress(run.run_id)).failed) == ("completed", 1)
    assert (await lab.resume(run.run_id)).generation == 0
    assert (await lab.cancel(run.run_id)).status == "completed"
    model.answer, calls = right, len(model.requests)
    run = await lab.resume(run.run_id, failed=True)
    assert (run.generation, (await lab.progress(run.run_id)).failed, len(model.requests)) == (1, 0, calls + 1)
    model.answer = lambda request: Reply(text=right(request), hang=True)
    begun = await lab.start(experiment(model))
    while len(model.requests) == calls + 1:
        await asyncio.sleep(0.01)
    assert (await lab.cancel(begun.run_id)).status == "cancelled"
    assert (await lab.watch(begun)).status == "cancelled"
    model.release()


async def test_assets_are_versioned_labelled_and_read(lab: Lab) -> None:
    """Create, update, label, list; rows of a dataset from any row on."""
    await lab.assets.create(PromptTemplate(name="ask", user_prompt="<question>"))
    second = await lab.assets.update(PromptTemplate(name="ask", user_prompt="Now: <question>"))
    await lab.assets.label("ask", "production", version=0)
    dataset = await lab.assets.create(Dataset(name="questions", rows=ROWS[:10]))
    assert isinstance(dataset, Dataset) and (second.version, dataset.version) == (1, 0)
    assert (await lab.assets.get("ask", label="production")).version == 0
    assert [version.labels for version in await lab.assets.versions("ask")] == [("production",), ()]
    assert [asset.name for asset in await lab.assets.list()] == ["ask", "questions"]
    assert [asset.version for asset in await lab.assets.latest("prompt_template")] == [1]
    assert list(await lab.assets.rows(dataset, 7, 5)) == ROWS[7:10]
    for missing in (lab.assets.get("nothing"), lab.assets.update(PromptTemplate(name="x", user_prompt="x"))):
        with pytest.raises(AssetNotFoundError):
            await missing


async def test_runs_are_compared_case_by_case(lab: Lab, model: ModelServer) -> None:
    """Means, interval, wins and losses over all cases; pairs of one page, filtered and sorted."""
    runs = []
    for numbers in ((1, 2, 3), (3, 4), ()):
        model.answer = wrong_on(*numbers)
        runs.append((await lab.run({**experiment(model), **TEN})).run_id)
    page = await lab.compare(runs, Compared("different", "exact_match", 0), limit=2)
    assert [(m.metric, m.other, m.improved, m.regressed, m.same) for m in page.metrics] == [
        ("exact_match", 0, 2, 1, 7),
        ("exact_match", 1, 3, 0, 7),
    ]
    first = page.metrics[0]
    assert (first.n, first.base_mean, first.other_mean) == (10, pytest.approx(0.7), pytest.approx(0.8))
    assert first.low is not None and first.high is not None and first.low < 0.1 < first.high
    assert (page.total, page.total_matching, page.joined_on) == (10, 3, "case")
    assert page.unmatched == ((0, 0), (0, 0))
    assert [(row.case, row.deltas[0]["exact_match"].verdict) for row in page.rows] == [
        (1, "improved"),
        (2, "improved"),
    ]
    assert (page.rows[0].base.response, page.rows[0].others[0].response) == ("it is 1?", "it is 1")
    worst = await lab.compare(runs[:2], sort="difference", limit=1)
    assert [row.case for row in worst.rows] == [4] and worst.counts["regressed"] == 1
    lost = await lab.compare(runs[:2], Compared(metric="exact_match", least=-1, most=-0.5))
    assert [row.case for row in lost.rows] == [4]
    one = await lab.compare(runs[:2], Compared(rows=Filter(values=(("question", ROWS[2]["question"]),))))
    assert [row.case for row in one.rows] == [2] and one.counts["all"] == 1
    with pytest.raises(ConfigError, match="no such metric"):
        await lab.compare(runs, Compared("same", "no such metric"))
    for ids in (runs[:1], [*runs, *runs[:2]]):
        with pytest.raises(RunError, match="2 to 4 runs"):
            await lab.compare(ids)


async def test_runs_are_sliced_by_a_column(lab: Lab, model: ModelServer) -> None:
    """Each value with its mean, and against another run; an unknown column is named."""
    runs = []
    for numbers in ((1, 2, 3), (3, 4)):
        model.answer = wrong_on(*numbers)
        runs.append((await lab.run({**experiment(model), **TEN})).run_id)
    row = (await lab.cases(runs[0], limit=1))[0][0]
    column = next(name.removeprefix("input.") for name in row if name.startswith("input."))
    found = await lab.slices(runs, column, {"": 0.1})
    assert sum(one.rows for one in found.slices) == 10
    means = [one.means["exact_match"] for one in found.slices]
    assert sum(mean.n * (mean.mean or 0.0) for mean in means) == pytest.approx(7)
    assert sum(one.differences[0]["exact_match"].judgement.wins for one in found.slices) == 2
    with pytest.raises(ConfigError, match="no such column"):
        await lab.slices(runs, "no such column", {})
    for ids in ([], [*runs, *runs, *runs]):
        with pytest.raises(RunError, match="1 to 4 runs"):
            await lab.slices(ids, column, {})


async def test_a_run_without_results_is_not_compared(lab: Lab, model: ModelServer) -> None:
    """The message names the run and what it waits for."""
    model.answer = lambda request: Reply(text=right(request), hang=True)
    run = await lab.start({**experiment(model), **TEN})
    with pytest.raises(RunError, match=f"Run {run.run_id} is .* has no results yet"):
        await lab.compare([run.run_id, run.run_id])
    await lab.cancel(run.run_id)
    model.release()
    await lab.watch(run)


async def test_runs_are_tagged_archived_found_and_deleted(lab: Lab, model: ModelServer) -> None:
    """Tags and the archive can be changed afterwards; a deleted run is gone with its
    rows, and its assets stay."""
    one, two = [(await lab.run({**experiment(model), **TEN, "tags": ["night"]})).run_id for _ in "ab"]
    assert (await lab.edit_run(one, tags=["day", "day", "x"])).tags == ("day", "x")
    assert (await lab.edit_run(two, archived=True)).archived
    assert (await lab.get_run(two)).tags == ("night",)

    async def found(**chosen: Any) -> list[str]:
        return [run.run_id for run in (await lab.list_runs(chosen=Chosen(**chosen)))[0]]

    assert await found() == [one]
    assert await found(archived=True) == await found(tag="night", archived=None) == [two]
    assert await found(tag="day", model="mini", prompt="ask@0", status="completed") == [one]
    assert await found(model="openai/mini", prompt="ask") == [one]
    for nothing in ({"tag": "night"}, {"model": "min"}, {"prompt": "ask@1"}, {"status": "failed"}):
        assert await found(**nothing) == []
    for tags in ([""], ["x" * 101], [str(n) for n in range(51)]):
        with pytest.raises(ConfigError, match="tag"):
            await lab.edit_run(one, tags=tags)
    await lab.delete_run(one)
    with pytest.raises(RunNotFoundError):
        await anext(lab.results(one))
    with pytest.raises(RunNotFoundError):
        await lab.delete_run(one)
    assert await found(archived=None) == [two]
    assert len([row async for row in lab.results(two)]) == 10


async def test_a_run_has_a_title_a_description_and_who_started_it(lab: Lab, model: ModelServer) -> None:
    """What is left out stays; what is too long changes nothing."""
    run = await lab.run({**experiment(model), **TEN})
    assert (run.title, run.description, run.called) == ("", "", run.name) and run.started_by
    edited = await lab.edit_run(run.run_id, title="  the one for the board ", description="a\nb")
    assert (edited.title, edited.called, edited.description) == (*["the one for the board"] * 2, "a\nb")
    assert (await lab.edit_run(run.run_id, tags=["x"])).title == "the one for the board"
    for wrong in ({"title": "x" * 201}, {"description": "x" * 2_001}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            await lab.edit_run(run.run_id, **wrong)
    found = await lab.edit_run(run.run_id, title="")
    assert (found.called, found.description, found.started_by) == (run.name, "a\nb", run.started_by)
    for by in (run.started_by, run.started_by.partition(":")[2] or run.started_by):
        assert len((await lab.list_runs(chosen=Chosen(by=by)))[0]) == 1
    assert (await lab.list_runs(chosen=Chosen(by="nobody")))[0] == []


async def test_a_label_points_at_one_run_of_an_experiment(lab: Lab, model: ModelServer) -> None:
    """It moves from the run that is named and from no other, and keeps its run from being deleted."""
    one, two = [(await lab.run({**experiment(model), **TEN, "commit": "abc1234"})).run_id for _ in "ab"]
    assert (await lab.label_run(one, "production", was=None)).labels == ("production",)
    with pytest.raises(LabelMovedError, match=f"points at run {one}"):
        await lab.label_run(two, "production", was=None)
    assert (await lab.label_run(two, "production", was=one)).labels == ("production",)
    found = await lab.get_run(two)
    assert (found.commit, brief(found)["labels"]) == ("abc1234", ["production"])
    assert await lab.run_labels(found.name) == {"production": two} and await lab.run_labels("none") == {}
    with pytest.raises(RunInUseError, match="is production of"):
        await lab.delete_run(two)
    with pytest.raises(LabelMovedError):
        await lab.unlabel_run(one, "production")
    with pytest.raises(LabelNotFoundError, match="no label 'staging'"):
        await lab.unlabel_run(two, "staging")
    with pytest.raises(ConfigError, match="not a usable label"):
        await lab.label_run(two, "7")
    assert (await lab.unlabel_run(two, "production")).labels == ()
    assert await lab.delete_run(two)


async def test_a_run_is_judged_by_its_gates(lab: Lab, model: ModelServer) -> None:
    """The outcome is kept with the run; the baseline is a label, and gates may come with the experiment."""
    gates = gates_of({"baseline": "production", "checks": [{"metric": "exact_match", "no_regression": 0.4}]})
    base = await lab.run({**experiment(model), "gates": gates})
    with pytest.raises(LabelNotFoundError, match="production"):
        await lab.gate(base.run_id)
    await lab.label_run(base.run_id, "production")
    same = await lab.run({**experiment(model), "gates": gates})
    found = await lab.gate(same.run_id)
    assert (found.outcome, found.baseline, found.baseline_label) == ("passed", base.run_id, "production")
    assert found.checks[0].verdict == "the same within 0.4" and await lab.gate_of(same.run_id) == found
    assert await lab.gate_of(base.run_id) is None
    bound = await lab.gate(same.run_id, gates=gates_of([{"metric": "exact_match", "max": 0.2}]))
    assert (bound.outcome, (await lab.gate_of(same.run_id) or bound).checks) == ("failed", bound.checks)
    with pytest.raises(ConfigError, match="no metric 'wrong'"):
        await lab.gate(same.run_id, gates=gates_of([{"metric": "wrong", "min": 1}]))
    with pytest.raises(RunNotFoundError):
        await lab.gate("none")


async def test_a_run_that_goes_on_is_not_deleted(lab: Lab, model: ModelServer) -> None:
    """Whoever works on it would write into nothing."""
    model.answer = lambda request: Reply(text=right(request), hang=True)
    run = await lab.start({**experiment(model), **TEN})
    with pytest.raises(RunBusyError, match="cancel it first"):
        await lab.delete_run(run.run_id)
    await lab.cancel(run.run_id)
    model.release()


async def test_a_label_is_removed(lab: Lab) -> None:
    """Its version stays; a label that is not there is an error."""
    await lab.assets.create(PromptTemplate(name="ask", user_prompt="<question>"))
    await lab.assets.label("ask", "production")
    await lab.assets.unlabel("ask", "production")
    assert [version.labels for version in await lab.assets.versions("ask")] == [()]
    for missing in (lab.assets.unlabel("ask", "production"), lab.assets.get("ask", label="production")):
        with pytest.raises(AssetNotFoundError, match="production"):
            await missing


async def test_results_of_an_older_version_have_the_columns_that_came_since(
    lab: Lab, model: ModelServer, tmp_path: Path
) -> None:
    """In their place and empty: in rows, in exports and in Parquet."""
    run = await lab.run({**experiment(model), **TEN})
    (file,) = (path for path in tmp_path.rglob("*.parquet") if "index" not in path.name)

    async def seen(name: str) -> dict[str, Any]:
        rows = [row async for row in lab.results(run.run_id)]
        found: dict[str, Any] = {"rows": rows, "names": list(rows[0])}
        for format in ("parquet", "csv", "jsonl"):
            path = tmp_path / f"{name}.{format}"
            await lab.export(run.run_id, path, format)  # type: ignore[arg-type]
            found[format] = duckdb.sql(f"SELECT * FROM '{path}'").fetchall()
            found[f"{format} names"] = duckdb.sql(f"DESCRIBE SELECT * FROM '{path}'").fetchall()
        return found

    before = await seen("before")
    older = tmp_path / "older"
    duckdb.sql(f"COPY (SELECT * EXCLUDE (metadata) FROM '{file}') TO '{older}' (FORMAT parquet)")
    older.replace(file)
    assert await seen("after") == before
    assert "metadata" in before["names"]


async def test_a_version_is_read_as_a_record(lab: Lab) -> None:
    """The latest or one by its number; none where there is none."""
    for text in ("one", "two"):
        await lab.assets.create(PromptTemplate(name="p", user_prompt=text))
    found = [await lab.assets.record("p", kind="prompt_template", version=v) for v in (None, 0, 7)]
    assert [record and (record.version, record.content["user_prompt"]) for record in found] == [
        (1, "two"),
        (0, "one"),
        None,
    ]
    assert await lab.assets.record("p", kind="dataset") is None


async def test_a_version_is_deleted_unless_a_run_uses_it(lab: Lab, model: ModelServer) -> None:
    """The error names the run; afterwards the version is gone, and its number stays taken."""
    run = await lab.run({**experiment(model), **TEN})
    with pytest.raises(VersionInUseError, match=run.run_id):
        await lab.assets.delete("questions", version=0)
    assert await lab.delete_run(run.run_id) is True
    await lab.assets.delete("questions", version=0)
    with pytest.raises(AssetNotFoundError):
        await lab.assets.delete("questions", version=0)
    created = await lab.assets.create(Dataset(name="questions", rows=ROWS[:3]))
    assert created.version == 1


async def test_a_run_is_asked_in_sql(lab: Lab, model: ModelServer) -> None:
    """The table has the columns of an export; what is no question, and a run without results, is an error."""
    run = await lab.run({**experiment(model), **TEN})
    found = await lab.sql(run.run_id, 'SELECT count(*) AS n, avg("score.exact_match") AS mean FROM cases')
    assert (found.columns, found.rows, found.more) == (("n", "mean"), ((10, 1.0),), False)
    with pytest.raises(SqlError, match="Only SELECT"):
        await lab.sql(run.run_id, "DROP VIEW cases")
    with pytest.raises(RunNotFoundError):
        await lab.sql("nothing", "SELECT 1")


async def test_a_sweep_is_run_once_and_ranked(lab: Lab, model: ModelServer) -> None:
    """A run for each cell; the same cells again are the same sweep, and nothing is asked twice; the better
    prompt leads, with its verdict; where a cell is wrong nothing is begun."""
    wrong = {"name": "wrong", "user_prompt": "<question> none"}
    base = {**experiment(model), "dataset": {"name": "questions", "rows": ROWS[:60]}}
    config = {**base, "prompt_template": [base["prompt_template"], wrong], "tags": ["nightly"]}
    begun: list[RunRecord] = []
    sweep = await lab.sweep(config, on_start=begun.append)
    assert [run.run_id for run in begun] == list(sweep.run_ids) and len(begun) == 2
    asked = len(model.requests)
    assert await lab.sweep(config) == sweep == await lab.get_sweep(sweep.sweep_id)
    assert (len(model.requests), list(await lab.list_sweeps())) == (asked, [sweep])
    run = await lab.get_run(sweep.run_ids[0])
    assert (run.sweep, run.tags) == (sweep.sweep_id, ("nightly", sweep.sweep_id))
    found = await lab.rank(sweep.sweep_id, metric="exact_match", margins={"": 0.05})
    best, worst = found.cells
    assert (best.choices, best.place, best.p_best, best.rank_high) == ({"prompt_template": "ask"}, 1, 1.0, 1)
    assert (worst.mean, worst.rank_low, found.rows, found.ended) == (0.0, 2, 60, True)
    assert worst.against_leader is not None and worst.against_leader.verdict == "worse"
    assert worst.against_leader.difference == -1.0
    with pytest.raises(ConfigError, match="metric of this sweep"):
        await lab.rank(sweep.sweep_id, metric="nothing")
    again: list[RunRecord] = []
    seen: list[Sweep] = []
    await lab.cancel_sweep(sweep.sweep_id)
    gone_on = await lab.resume_sweep(sweep.sweep_id, on_sweep=seen.append, on_start=again.append)
    assert (gone_on, seen, again, len(model.requests)) == (sweep, [sweep], [], asked)
    for call in (lab.get_sweep, lab.rank, lab.cancel_sweep, lab.resume_sweep):
        with pytest.raises(SweepNotFoundError, match="No sweep 'sweep-0'"):
            await call("sweep-0")
    with pytest.raises(ConfigError, match=r"prompt_template=b: .*nobody"):
        await lab.sweep({**base, "prompt_template": ["ask@0", {"name": "b", "user_prompt": "<nobody>"}]})
    assert len(await lab.list_sweeps()) == 1


async def test_a_lab_says_whether_it_is_in_order(lab: Lab) -> None:
    """Its store is; a provider's key that is asked for and is not there is told by its name."""
    assert {finding.outcome for finding in await lab.findings()} == {"ok"}
    found = {finding.check: finding for finding in await lab.findings(["OF_NOBODY"])}
    assert found["store"].outcome == "ok"
    assert found["secrets"].outcome == "error" and "OF_NOBODY" in str(found["secrets"])
