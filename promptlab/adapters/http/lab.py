"""A hosted Studio as a lab: the contract is `promptlab.lab.Lab`, the way there the Studio's API."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

from promptlab.adapters.http.assets import RemoteAssets
from promptlab.adapters.http.bodies import evaluation_body, experiment_body, progress_from, run_from
from promptlab.adapters.http.client import ApiClient
from promptlab.adapters.http.doctor import RemoteDoctor
from promptlab.adapters.http.jobs import OnJob, RemoteJobs
from promptlab.adapters.http.labels import RemoteLabels
from promptlab.adapters.http.sending import send_code
from promptlab.adapters.http.sweeps import RemoteSweeping
from promptlab.deleting.journal import Deletion
from promptlab.domain.choice import Chosen
from promptlab.domain.findings import Finding
from promptlab.domain.names import checked_label
from promptlab.domain.projects import DEFAULT_PROJECT
from promptlab.domain.records import made
from promptlab.domain.results import FINAL, CaseKey, Progress, RunRecord
from promptlab.domain.summary import Summary
from promptlab.errors import ConfigError, RemoteError, RunError, StoreDamagedError
from promptlab.experiments.config import EvaluationConfig, ExperimentConfig
from promptlab.experiments.portable import check_portable, check_portable_metrics
from promptlab.experiments.rescoring import Metrics
from promptlab.gates import Gates
from promptlab.gates.outcome import GateOutcome
from promptlab.named_files import working_folder
from promptlab.ports import Clock
from promptlab.queries.compare import ComparePage
from promptlab.queries.compared import MAX_COMPARED, Compared, margin_texts, where_texts
from promptlab.queries.comparison_json import comparison_from
from promptlab.queries.slices import Slices
from promptlab.queries.slices_json import slices_from
from promptlab.queries.sql import SqlAnswer
from promptlab.results.files import copy_whole, read_file
from promptlab.results.formats import PLAIN_CSV, CsvStyle, ExportFormat
from promptlab.run_labels import ANY
from promptlab.scratch import ScratchFolder

FIRST_POLL_S, LAST_POLL_S = 1.0, 5.0
"""Seconds between two looks at a run, growing by a third each time."""
PAGE = 50
"""Whole runs in one page."""

OnProgress = Callable[[Progress], None]
OnStart = Callable[[RunRecord], None]


class RemoteLab(RemoteSweeping):
    """Assets and runs of a hosted Studio.

    Args:
        endpoint: its address.
        api_key: its token; that of a Studio on a laptop is its PROMPTLAB_STUDIO_TOKEN.
        clock: for tests.

    Raises:
        ConfigError: the endpoint is no address.
    """

    goes_on = True
    """Whether a run goes on when its starter stops waiting."""

    def __init__(
        self,
        endpoint: str,
        api_key: str | None = None,
        *,
        clock: Clock | None = None,
        project: str | None = None,
    ) -> None:
        self._api = ApiClient(endpoint, api_key, clock, project)
        self.jobs = RemoteJobs(self._api)
        self.assets = RemoteAssets(self._api, self.jobs)
        self.labels = RemoteLabels(self._api)
        self.where = self._api.endpoint

    async def findings(self, secrets: Sequence[str] = ()) -> Sequence[Finding]:
        """Say whether it answers, who the caller is, and whether it is in order."""
        return await RemoteDoctor(self._api, self.where).look(secrets)

    async def run(
        self,
        config: ExperimentConfig | Mapping[str, Any],
        *,
        folder: Path | None = None,
        on_start: OnStart | None = None,
        on_progress: OnProgress | None = None,
        leave: bool = False,
    ) -> RunRecord:
        """Start an experiment there, and watch it to its end.

        Args:
            config: what to run; a dataset's file or rows are uploaded.
            folder: what relative paths to code count from; the working folder by default.
            on_start: called once the run is recorded.
            on_progress: called with each look at the run.
            leave: return once it is started.

        Raises:
            PromptLabError: the experiment is wrong, or cannot be sent (nothing is sent then).
            asyncio.CancelledError: the caller stopped waiting; the run goes on.
        """
        run = await self.start(config, folder=folder)
        if on_start:
            on_start(run)
        return run if leave else await self.watch(run, on_progress)

    async def start(
        self,
        config: ExperimentConfig | Mapping[str, Any],
        *,
        run_id: str | None = None,
        folder: Path | None = None,
    ) -> RunRecord:
        """As `run`, but returns once the run is recorded.

        Raises:
            PromptLabError: as in `run`; also where a `run_id` is given, for the Studio names its runs.
        """
        if run_id is not None:
            raise ConfigError(
                f"run_id {run_id!r}: a hosted Studio gives its runs their ids itself: leave it out"
            )
        experiment = ExperimentConfig.parse(config)
        check_portable(experiment, where="a hosted Studio", variables=True, code=True)
        experiment = await send_code(experiment, self.assets, folder or working_folder() or Path())
        body = experiment_body(experiment, await self.assets.reference(experiment.dataset))
        # Whatever happens to the answer, the request that is sent again starts no second run.
        return run_from(
            await self._api.json("POST", "/runs", json=body, headers={"Idempotency-Key": uuid.uuid4().hex})
        )

    async def watch(self, run: RunRecord, on_progress: OnProgress | None = None) -> RunRecord:
        """The run once it has ended; `on_progress` is called with each look at it.

        Raises:
            RunNotFoundError: there is no such run.
            asyncio.CancelledError: the caller stopped waiting; the run goes on.
        """
        pause = FIRST_POLL_S
        while True:
            answer = await self._api.get(f"{_run(run.run_id)}/progress")
            if on_progress:
                on_progress(progress_from(answer))
            if answer["status"] in FINAL:
                return await self.get_run(run.run_id)
            await self._api.sleep(pause)
            pause = min(LAST_POLL_S, pause * 4 / 3)

    async def resume(
        self,
        run_id: str,
        *,
        failed: bool = False,
        errors: Sequence[str] = (),
        max_cost_usd: float | None = None,
        config: ExperimentConfig | Mapping[str, Any] | None = None,
        folder: Path | None = None,
        trust_code: bool = False,
        on_start: OnStart | None = None,
        on_progress: OnProgress | None = None,
        leave: bool = False,
    ) -> RunRecord:
        """Do what a run is missing; with `failed`, its failed cases again too. A whole run is left as it is.

        Raises:
            RunNotFoundError: there is no such run.
            RunBusyError: it is being worked on.
            ConfigError: a `config` is given: the Studio has its own.
        """
        if config is not None:
            raise ConfigError(
                f"run {run_id}: a hosted Studio goes on with the run's own configuration: leave the "
                "configuration out"
            )
        run = await self.start_resume(run_id, failed=failed, errors=errors, max_cost_usd=max_cost_usd)
        if run.status in FINAL:
            return run
        if on_start:
            on_start(run)
        return run if leave else await self.watch(run, on_progress)

    async def start_resume(
        self,
        run_id: str,
        *,
        failed: bool = False,
        errors: Sequence[str] = (),
        max_cost_usd: float | None = None,
    ) -> RunRecord:
        """As `resume`, but returns once the run is begun."""
        # A Studio of an older version does not know `errors`, and must not take it for all of them.
        body: dict[str, Any] = {"failed": failed, **({"errors": list(errors)} if errors else {})}
        body |= {} if max_cost_usd is None else {"max_cost_usd": max_cost_usd}
        return run_from(await self._api.json("POST", f"{_run(run_id)}/resume", json=body, repeatable=False))

    async def score(
        self,
        run_id: str,
        evaluation: Metrics,
        *,
        only: Sequence[str] = (),
        max_cost_usd: float | None = None,
        folder: Path | None = None,
        on_start: OnStart | None = None,
        on_progress: OnProgress | None = None,
        leave: bool = False,
    ) -> RunRecord:
        """Score a completed run by further or other metrics, without asking its model again.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigError: a metric is wrong, or cannot be sent; or the run is not completed.
        """
        before = await self.get_run(run_id)
        run = await self.start_score(run_id, evaluation, only=only, max_cost_usd=max_cost_usd)
        if run.generation == before.generation:
            return run
        if on_start:
            on_start(run)
        return run if leave else await self.watch(run, on_progress)

    async def start_score(
        self,
        run_id: str,
        evaluation: Metrics,
        *,
        only: Sequence[str] = (),
        max_cost_usd: float | None = None,
    ) -> RunRecord:
        """As `score`, but returns once the pass is begun."""
        items = [EvaluationConfig.model_validate(item) for item in evaluation]
        check_portable_metrics(items)
        body: dict[str, Any] = {"evaluation": [evaluation_body(item) for item in items], "only": list(only)}
        body |= {} if max_cost_usd is None else {"max_cost_usd": max_cost_usd}
        return run_from(await self._api.json("POST", f"{_run(run_id)}/score", json=body, repeatable=False))

    async def month_usd(self) -> float | None:
        """Return what the project's runs may cost in a month."""
        return self._dollars(await self._api.get(await self._project_path()), "max_cost_usd_a_month")

    async def set_month_usd(self, usd: float | None) -> None:
        """Set what the project's runs may cost in a month."""
        body = {"max_cost_usd_a_month": usd}
        await self._api.json("PATCH", await self._project_path(), json=body, repeatable=True)

    async def spent_this_month(self) -> float | None:
        """How many dollars of that are spent."""
        return self._dollars(await self._api.get(await self._project_path()), "spent_usd_this_month")

    async def clear_cache(self) -> None:
        """Forget all answers that are kept for equal requests."""
        await self._api.json("DELETE", f"{await self._project_path()}/cache", repeatable=True)

    async def cached_answers(self) -> int:
        """About how many answers are kept for equal requests."""
        return int((await self._api.get(await self._project_path())).get("cached_answers") or 0)

    async def _project_path(self) -> str:
        """The path of the project that calls go to: the one that was named, or the caller's own."""
        if self._api.project:
            return f"/projects/{self._api.project}"
        items = (await self._api.get("/projects"))["items"]
        return f"/projects/{items[0]['name'] if len(items) == 1 else DEFAULT_PROJECT}"

    @staticmethod
    def _dollars(answer: Mapping[str, Any], field: str) -> float | None:
        found = answer.get(field)
        return None if found is None else float(found)

    async def cancel(self, run_id: str) -> RunRecord:
        """Stop a run; what was answered is kept. One that has ended stays as it is.

        Raises:
            RunNotFoundError: there is no such run.
        """
        return run_from(await self._api.json("POST", f"{_run(run_id)}/cancel"))

    async def get_run(self, run_id: str) -> RunRecord:
        """One run, as it is now.

        Raises:
            RunNotFoundError: there is no such run.
        """
        return run_from(await self._api.get(_run(run_id)))

    async def list_runs(
        self,
        *,
        name: str | None = None,
        chosen: Chosen = Chosen(),  # noqa: B008 - frozen
        limit: int = 100,
        cursor: str | None = None,
    ) -> tuple[list[RunRecord], str | None]:
        """Read a page of the runs that match, newest first, and the cursor of the next page or None."""
        found: list[RunRecord] = []
        asked = {"name": name, "details": "true", **chosen.to_json()}
        while True:
            page = await self._api.get("/runs", limit=min(limit - len(found), PAGE), cursor=cursor, **asked)
            found += map(run_from, page["items"])
            cursor = page["next_cursor"]
            if cursor is None or len(found) >= limit:
                return found, cursor

    async def edit_run(
        self,
        run_id: str,
        *,
        tags: Sequence[str] | None = None,
        archived: bool | None = None,
        title: str | None = None,
        description: str | None = None,
    ) -> RunRecord:
        """Replace what people say of a run, or take it out of the lists and back; None leaves it as it is.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigError: a tag, the title or the description is too long, or there are more than 50 tags.
        """
        asked = {
            "tags": None if tags is None else list(tags),
            "archived": archived,
            "title": title,
            "description": description,
        }
        changes = {name: value for name, value in asked.items() if value is not None}
        return run_from(await self._api.json("PATCH", _run(run_id), json=changes))

    async def label_run(self, run_id: str, label: str, *, was: str | None = ANY) -> RunRecord:
        """Point a label of the run's experiment at the run; it leaves the run that it pointed at before.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigError: the label cannot be used.
            LabelMovedError: it points at another run than `was`.
        """
        path = f"{_run(run_id)}/labels/{quote(checked_label(label), safe='')}"
        body = {} if was is ANY else {"was": was}
        return run_from(await self._api.json("PUT", path, json=body, repeatable=was is ANY))

    async def unlabel_run(self, run_id: str, label: str) -> RunRecord:
        """Take a label from the run.

        Raises:
            RunNotFoundError: there is no such run.
            LabelNotFoundError: its experiment has no such label.
            LabelMovedError: the label points at another run.
        """
        await self._api.delete(f"{_run(run_id)}/labels/{quote(label, safe='')}")
        return await self.get_run(run_id)

    async def gate(
        self, run_id: str, *, baseline: str | None = None, gates: Gates | None = None
    ) -> GateOutcome:
        """Judge whether a run keeps to its gates, and record what came of it.

        Raises:
            RunNotFoundError: there is no such run.
            LabelNotFoundError: there is no such baseline.
            RunError: a run has not ended, or has no results.
            ConfigError: a check needs a baseline and none is named, or names what there is not.
        """
        body = {"baseline": baseline, "gates": gates.to_json() if gates else None}
        return GateOutcome.from_json(await self._api.json("POST", f"{_run(run_id)}/gate", json=body))

    async def gate_of(self, run_id: str) -> GateOutcome | None:
        """Read what came of a run's newest gate; None where it was not judged.

        Raises:
            RunNotFoundError: there is no such run.
        """
        found = (await self._api.get(f"{_run(run_id)}/gate"))["gate"]
        return GateOutcome.from_json(found) if found else None

    async def run_labels(self, name: str) -> Mapping[str, str]:
        """Read the labels of an experiment's runs, each with the id of its run."""
        found: Mapping[str, str] = (await self._api.get("/run-labels", name=name))["labels"]
        return found

    async def delete_run(self, run_id: str) -> bool:
        """Remove a run for good, with its answers, scores and results. Assets stay.

        Returns:
            Whether all of it is gone; else the hosted lab removes the rest by itself.

        Raises:
            RunNotFoundError: there is no such run.
            RunBusyError: somebody works on it: cancel it first.
        """
        return await self._api.delete(_run(run_id)) != 202

    async def deletions(
        self, *, limit: int = 100, cursor: str | None = None
    ) -> tuple[Sequence[Deletion], str | None]:
        """Read a page of what was deleted in the last year, newest first, and the cursor of the next or None.

        Raises:
            ForbiddenError: the token is no admin's.
        """
        page = await self._api.get("/deletions", limit=min(limit, 500), cursor=cursor)
        return [made(Deletion, item) for item in page["items"]], page["next_cursor"]

    async def run_ids(self) -> AsyncIterator[str]:
        """The ids of all runs, newest first."""
        cursor = None
        while True:
            page = await self._api.get("/runs", limit=500, cursor=cursor)
            for item in page["items"]:
                yield item["run_id"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    async def progress(self, run_id: str) -> Progress:
        """How far a run is.

        Raises:
            RunNotFoundError: there is no such run.
        """
        return progress_from(await self._api.get(f"{_run(run_id)}/progress"))

    async def summary(self, run_id: str) -> Summary:
        """The run's summary; of one that goes on or was stopped, that of its finished shards.

        Raises:
            RunNotFoundError: there is no such run.
            StoreDamagedError: the Studio cannot read the run's shards.
        """
        found = (await self._api.get(_run(run_id)))["summary"]
        if found is None:
            raise StoreDamagedError(f"The store of {self.where} is damaged: run {run_id} cannot be summed.")
        return Summary.from_json(found)

    async def so_far(self, run: RunRecord) -> tuple[Progress | None, Summary | None]:
        """Return what `report.brief` needs besides a run that is not summarized: its progress, and the sum
        of its finished shards."""
        if run.summary:
            return None, None
        answer = await self._api.get(_run(run.run_id))
        summary = answer["summary"]
        return progress_from(answer, total="cases"), None if summary is None else Summary.from_json(summary)

    async def results(self, run_id: str) -> AsyncIterator[dict[str, Any]]:
        """A run's results, one row a case, in order; of an unfinished run what there is.

        Raises:
            RunNotFoundError: there is no such run.
        """
        if (await self.get_run(run_id)).summary:
            # One file in place of hundreds of pages.
            with ScratchFolder() as folder:
                path = folder / "results.parquet"
                await self._api.download(f"{_run(run_id)}/export", path, format="parquet")
                async for row in read_file(path):
                    # An export has what people say, too, which is no part of what a run came to.
                    yield {name: value for name, value in row.items() if not name.startswith("people.")}
            return
        after: CaseKey | None = None
        while True:
            rows, after = await self.cases(run_id, after=after)
            for row in rows:
                yield row
            if after is None:
                return

    async def cases(
        self, run_id: str, *, after: CaseKey | None = None, limit: int = 500
    ) -> tuple[list[dict[str, Any]], CaseKey | None]:
        """A page of a run's results, behind a case; and where the next page goes on, or None.

        Raises:
            RunNotFoundError: there is no such run.
        """
        page = await self._api.get(
            f"{_run(run_id)}/cases", limit=limit, cursor=f"{after.case}.{after.trial}" if after else None
        )
        following = page["next_cursor"]
        rows = await self._api.whole(page, "items")
        return rows, CaseKey(*map(int, following.split("."))) if following else None

    async def export(
        self, run_id: str, path: Path, format: ExportFormat, style: CsvStyle = PLAIN_CSV
    ) -> None:
        """Write a run's results to a file, whole or not at all.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigError: there is no such folder, the file cannot be written, or a style is given
                and the format is not csv.
        """
        style.check(format)
        # A Studio of an older version knows neither, and need not for a plain file.
        wished = {} if style == PLAIN_CSV else {"delimiter": style.delimiter, "bom": style.bom}
        draft = _draft_of(path)
        try:
            if format == "parquet":
                with ScratchFolder() as folder:
                    await self._api.download(f"{_run(run_id)}/export", folder / "sent", format=format)
                    await asyncio.to_thread(copy_whole, folder / "sent", draft)
            else:
                await self._written(run_id, draft, format, wished)
            await asyncio.to_thread(draft.replace, path)
        except OSError as error:
            raise ConfigError(f"Cannot write {path}: {error.strerror or error}.") from error
        finally:
            draft.unlink(missing_ok=True)

    async def _written(self, run_id: str, draft: Path, format: ExportFormat, wished: dict[str, Any]) -> None:
        try:
            job = await self.jobs.done(f"{_run(run_id)}/exports", {"format": format, **wished})
        except RemoteError as error:
            if error.status not in (404, 405):
                raise
            # A Studio of an older version has no jobs.
            await self._api.download(f"{_run(run_id)}/export", draft, format=format, **wished)
            return
        await self._api.download(f"/jobs/{job['id']}/file", draft)

    async def compare(
        self,
        run_ids: Sequence[str],
        selected: Compared = Compared(),  # noqa: B008 - frozen
        *,
        sort: str = "case",
        descending: bool = False,
        offset: int = 0,
        limit: int = 25,
        text_chars: int = 600,
    ) -> ComparePage:
        """Compare a run, the base, with one to three others, case by case; one page of the pairs.

        Raises:
            RunNotFoundError: there is no such run.
            RunError: a run goes on, or there are not one to three others.
            UnknownNameError: `selected` names a metric that the base does not share with another run.
        """
        if not 2 <= len(run_ids) <= MAX_COMPARED:
            raise RunError(f"A comparison is of 2 to {MAX_COMPARED} runs, not of {len(run_ids)}.")
        answer = await self._api.get(
            "/compare",
            run=list(run_ids),
            change=selected.change,
            metric=selected.metric,
            other=selected.other,
            text=selected.text,
            margin=margin_texts(selected.margins) or None,
            least=selected.least,
            most=selected.most,
            where=where_texts(selected.rows) or None,
            sort=sort,
            descending=descending,
            offset=offset,
            limit=limit,
            text_chars=text_chars,
        )
        return comparison_from(answer)

    async def slices(self, run_ids: Sequence[str], column: str, margins: Mapping[str, float]) -> Slices:
        """A run, and others against it, by a dataset column.

        Raises:
            RunNotFoundError: there is no such run.
            RunError: a run goes on, or there are none or more than three others.
            UnknownNameError: the base's dataset has no such column.
        """
        if not 1 <= len(run_ids) <= MAX_COMPARED:
            raise RunError(f"Slices are of 1 to {MAX_COMPARED} runs, not of {len(run_ids)}.")
        answer = await self._api.get(
            "/slices", run=list(run_ids), column=column, margin=margin_texts(margins) or None
        )
        return slices_from(answer)

    async def sql(self, run_id: str, sql: str) -> SqlAnswer:
        """Answer a question in SQL about a run's results, which are the table `cases`.

        Raises:
            RunNotFoundError: there is no such run.
            RunError: it goes on.
            SqlError: the question is wrong, or asks for too much.
        """
        return SqlAnswer.from_json(await self._api.json("POST", f"{_run(run_id)}/sql", json={"sql": sql}))

    def tell(self, on_job: OnJob | None) -> None:
        """Have somebody told how far uploads, and jobs there, are."""
        self.jobs.on_job = on_job

    def to_serve(self) -> NoReturn:
        """Refuse: a hosted Studio is served already.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"This lab is a hosted Studio: open {self.where} in a browser.")

    async def close(self) -> None:
        """Close the connections. Runs that were started go on."""
        await self._api.aclose()


def _draft_of(path: Path) -> Path:
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"Cannot write {path}: there is no folder {path.absolute().parent}.")
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _run(run_id: str) -> str:
    return f"/runs/{quote(run_id, safe='')}"
