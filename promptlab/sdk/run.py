"""A run, as scripts and notebooks see it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import orjson

from promptlab.domain.decided import decided_json
from promptlab.domain.messages import read_messages
from promptlab.domain.results import Progress, RunRecord, RunStatus
from promptlab.domain.summary import Summary
from promptlab.domain.trace import trace_from
from promptlab.errors import MissingExtraError
from promptlab.experiments.config import ExperimentConfig
from promptlab.experiments.matrix import SweepConfig
from promptlab.experiments.rescoring import Metrics
from promptlab.lab import Lab
from promptlab.report import number, resume_command, show_command, table
from promptlab.results.formats import CsvStyle, ExportFormat, export_format
from promptlab.sdk.frames import to_frame
from promptlab.sdk.progress import ProgressView
from promptlab.sdk.rendered import rendered
from promptlab.sdk.speaking import is_quiet, say_next, shown
from promptlab.sync import ending_as_cancellation, run_sync

if TYPE_CHECKING:
    import pandas

Config = ExperimentConfig | Mapping[str, Any]
SweepChoice = SweepConfig | Mapping[str, Any]
OnProgress = Callable[[Progress], None]

logger = logging.getLogger(__name__)


@asynccontextmanager
async def telling_how_to_resume(lab: Lab) -> AsyncIterator[list[RunRecord]]:
    """Adds to an interruption how to go on with the run that was put into the list."""
    started: list[RunRecord] = []
    try:
        with ending_as_cancellation():
            yield started
    except asyncio.CancelledError as stop:
        for run in started:
            if lab.goes_on:
                note = (
                    f"Run {run.run_id} goes on at {lab.where}.\nCome back to it with: "
                    f"{show_command(run.run_id, lab.where)}"
                )
            else:
                progress = await lab.progress(run.run_id)
                note = (
                    f"Run {run.run_id} was interrupted: {progress.done:,} of {progress.total:,} cases "
                    f"are done and kept.\nGo on with: {resume_command(run.run_id, lab.where)}"
                )
            stop.add_note(note)
            logger.warning(note)
        raise


def said(started: list[RunRecord], view: ProgressView) -> Callable[[RunRecord], None]:
    """Make what is called when a run begins: the run is put into the list and shown, and what is odd about it
    is logged."""

    def begun(run: RunRecord) -> None:
        started.append(run)
        view.started(run)
        for warning in run.warnings:
            logger.warning("%s", warning)

    return begun


async def run(lab: Lab, config: Config, *, on_progress: OnProgress | None, quiet: bool) -> Run:
    """Do as `Experiments.run`."""
    async with telling_how_to_resume(lab) as started:
        with shown(quiet=quiet or on_progress is not None) as view:
            record = await lab.run(config, on_start=said(started, view), on_progress=on_progress or view)
    if not quiet and on_progress is None:
        say_next(record, lab.where)
    return Run(lab, record, config)


async def resume(
    lab: Lab,
    run_id: str,
    config: Config | None,
    *,
    failed: bool,
    errors: Sequence[str] = (),
    max_cost_usd: float | None = None,
    trust_code: bool = False,
    on_progress: OnProgress | None = None,
    quiet: bool = True,
) -> Run:
    """Do as `Experiments.resume`."""
    async with telling_how_to_resume(lab) as started:
        with shown(quiet=quiet or on_progress is not None) as view:
            record = await lab.resume(
                run_id,
                failed=failed,
                errors=errors,
                max_cost_usd=max_cost_usd,
                config=config,
                trust_code=trust_code,
                on_start=said(started, view),
                on_progress=on_progress or view,
            )
    if not quiet and on_progress is None:
        say_next(record, lab.where)
    return Run(lab, record, config)


async def score(
    lab: Lab,
    run_id: str,
    evaluation: Metrics | Config | str | Path,
    *,
    only: Sequence[str] = (),
    max_cost_usd: float | None = None,
    on_progress: OnProgress | None = None,
    quiet: bool = True,
) -> Run:
    """Do as `Experiments.score`."""
    from promptlab.experiments.file import load_evaluation

    metrics, folder = evaluation, None
    if isinstance(metrics, str | Path):
        metrics, folder = load_evaluation(Path(metrics))
    elif isinstance(metrics, ExperimentConfig):
        metrics = metrics.evaluation
    elif isinstance(metrics, Mapping):
        metrics = metrics.get("evaluation", ())
    async with telling_how_to_resume(lab) as started:
        with shown(quiet=quiet or on_progress is not None) as view:
            record = await lab.score(
                run_id,
                metrics,
                only=only,
                max_cost_usd=max_cost_usd,
                folder=folder,
                on_start=said(started, view),
                on_progress=on_progress or view,
            )
    if not quiet and on_progress is None:
        say_next(record, lab.where)
    return Run(lab, record)


class Run:
    """One execution of an experiment, as it was when it was read."""

    def __init__(self, lab: Lab, record: RunRecord, config: Config | None = None) -> None:
        # The configuration holds the objects (evaluators, a model) that a later pass needs again.
        self._lab, self.record, self._config = lab, record, config

    @property
    def run_id(self) -> str:
        """Its id."""
        return self.record.run_id

    id = run_id

    @property
    def status(self) -> RunStatus:
        """completed, decided, failed, stopped, budget_reached, interrupted, cancelled or running.
        Failed cases alone do not make a run failed."""
        return self.record.status

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about what was probably not meant in the experiment, as logged before the first call."""
        return self.record.warnings

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of its experiment that point at it, such as production."""
        return self.record.labels

    @property
    def title(self) -> str:
        """What people call it; empty: as its experiment."""
        return self.record.title

    @property
    def description(self) -> str:
        """What people say of it."""
        return self.record.description

    @property
    def started_by(self) -> str:
        """Who started it, such as user:ada or person:ada@example.com; empty: nobody knows."""
        return self.record.started_by

    @property
    def commit(self) -> str | None:
        """The commit that it was made at, where it was said."""
        return self.record.commit

    @property
    def decided(self) -> dict[str, Any] | None:
        """What was decided before all cases were done, of a run with `stop`: verdict, by, rows, of_rows,
        metric, against, estimate, low, high, cases_saved, usd_saved, went_on, …; None while nothing is."""
        return decided_json(self.record, self.summary)

    @property
    def summary(self) -> Summary | None:
        """The aggregate; None before the run is summarized."""
        return Summary.from_json(self.record.summary) if self.record.summary else None

    def results(self) -> Results:
        """The rows, one a case; of an unfinished run those that are there.

        `messages`, where an answer is more than a text, is a list of `Message`, and `trace` a `Trace`.
        """
        return run_sync(self.results_async())

    async def results_async(self) -> Results:
        """As `results`."""
        return Results([with_objects(row) async for row in self._lab.results(self.run_id)])

    def refresh(self) -> Run:
        """The run as it is now."""
        return run_sync(self.refresh_async())

    async def refresh_async(self) -> Run:
        """As `refresh`."""
        return Run(self._lab, await self._lab.get_run(self.run_id), self._config)

    def resume(
        self,
        config: Config | None = None,
        *,
        failed: bool = False,
        errors: Sequence[str] = (),
        max_cost_usd: float | None = None,
        trust_code: bool = False,
        quiet: bool | None = None,
    ) -> Run:
        """Do as `pl.experiment.resume(run.run_id, …)`."""
        return run_sync(
            self.resume_async(
                config,
                failed=failed,
                errors=errors,
                max_cost_usd=max_cost_usd,
                trust_code=trust_code,
                quiet=quiet,
            )
        )

    async def resume_async(
        self,
        config: Config | None = None,
        *,
        failed: bool = False,
        errors: Sequence[str] = (),
        max_cost_usd: float | None = None,
        trust_code: bool = False,
        quiet: bool | None = None,
    ) -> Run:
        """Do as `resume`."""
        config = config or self._remembered()
        return await resume(
            self._lab,
            self.run_id,
            config,
            failed=failed,
            errors=errors,
            max_cost_usd=max_cost_usd,
            trust_code=trust_code,
            quiet=is_quiet(quiet),
        )

    def _remembered(self) -> Config | None:
        """The configuration with the assets that the run used: its own may name the latest
        ones, or rows read once."""
        if self._config is None:
            return None
        refs = {name: self.record.experiment.get(name) for name in ("prompt_template", "dataset")}
        pinned = {name: f"{ref['name']}@{ref['version']}" for name, ref in refs.items() if ref}
        return ExperimentConfig.parse(self._config).model_copy(update=pinned)

    def export(
        self,
        path: str | Path,
        format: ExportFormat | None = None,
        *,
        delimiter: str = ",",
        bom: bool = False,
    ) -> Path:
        """Write the rows to a file.

        Args:
            path: the file.
            format: its format; that of the path's suffix by default.
            delimiter: what stands between the values of a CSV file.
            bom: whether a CSV file begins with a byte order mark, by which Excel knows UTF-8.

        Raises:
            ConfigError: the format or the folder is not there, or the delimiter cannot be one.
        """
        return run_sync(self.export_async(path, format, delimiter=delimiter, bom=bom))

    async def export_async(
        self,
        path: str | Path,
        format: ExportFormat | None = None,
        *,
        delimiter: str = ",",
        bom: bool = False,
    ) -> Path:
        """As `export`."""
        target = Path(path)
        style = CsvStyle(delimiter, bom)
        await self._lab.export(self.run_id, target, format or export_format(target), style)
        return target

    def __repr__(self) -> str:
        summary = self.summary
        if summary is None:
            return f"<Run {self.run_id} {self.record.name}: {self.status}>"
        metrics = "".join(f", {name} {number(metric.mean)}" for name, metric in summary.metrics.items())
        return (
            f"<Run {self.run_id} {self.record.name}: {self.status}, {summary.succeeded:,} of "
            f"{self.record.cases:,} cases succeeded{metrics}>"
        )

    def __str__(self) -> str:
        return rendered(table(self.record))

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))  # what a notebook shows where it cannot show HTML

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(rendered(table(self.record)))}</pre>"


def with_objects(row: dict[str, Any]) -> dict[str, Any]:
    """Give a row of results with its messages and its trace as the objects that these are."""
    if row.get("messages"):
        row = {**row, "messages": list(read_messages(row["messages"]))}
    if row.get("trace"):
        row = {**row, "trace": trace_from(orjson.loads(row["trace"]))}
    return row


class Results(Sequence[dict[str, Any]]):
    """The rows of a run: a sequence of dicts, and a DataFrame where pandas is installed."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self._rows = rows

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | Sequence[dict[str, Any]]:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._rows)

    def to_pandas(self) -> pandas.DataFrame:
        """Make a DataFrame of the rows: whole numbers are `Int64`, pass and fail
        `boolean`, other numbers `float64`.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return to_frame(self._rows)

    def __repr__(self) -> str:
        return f"<Results: {len(self):,} rows; columns {', '.join(self._rows[0]) if self._rows else 'none'}>"

    def _repr_html_(self) -> str | None:
        try:
            html: str = self.to_pandas().to_html(max_rows=20)
        except MissingExtraError:
            return None
        return html
