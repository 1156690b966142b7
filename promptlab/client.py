"""The SDK: a lab for scripts and notebooks. Each sync call runs its async twin, in scripts and in running loops alike."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from promptlab.domain.assets import Asset, AssetKind, AssetVersion, Dataset, PromptTemplate
from promptlab.domain.experiment import ExperimentConfig
from promptlab.domain.results import Progress, RunRecord, RunStatus
from promptlab.domain.summary import Summary
from promptlab.engine.results import ExportFormat, export_format
from promptlab.errors import ConfigError, MissingExtraError
from promptlab.lab import AnyLab, Lab, open_lab
from promptlab.report import resume_command, show_command, table
from promptlab.sync import run_here, run_sync

if TYPE_CHECKING:
    import pandas

Config = ExperimentConfig | Mapping[str, Any]
OnProgress = Callable[[Progress], None]
AnyAsset = TypeVar("AnyAsset", PromptTemplate, Dataset)

logger = logging.getLogger(__name__)


class PromptLab:
    """A lab: assets, experiments and the Studio over one store.

    Args:
        store: `{"type": "sqlite", "db_file": "./promptlab.db"}` ("local" means the same); without it, ./promptlab.db.
            For a hosted Studio `{"type": "remote", "endpoint": "https://…", "api_key": …}`; PROMPTLAB_ENDPOINT and
            PROMPTLAB_API_KEY stand in for what is left out.

    Raises:
        ConfigError: the store is described wrongly.
    """

    def __init__(self, store: Mapping[str, Any] | None = None) -> None:
        self._lab = open_lab(store)
        self.asset = Assets(self._lab)
        self.experiment = Experiments(self._lab)
        self.studio = Studio(self._lab)

    async def run_experiment_async(self, config: Config, *, on_progress: OnProgress | None = None) -> Run:
        """As `experiment.run_async`."""
        return await self.experiment.run_async(config, on_progress=on_progress)

    async def start_studio_async(self, port: int = 8000, *, host: str = "127.0.0.1") -> None:
        """As `studio.start_async`."""
        await self.studio.start_async(port, host=host)

    def close(self) -> None:
        """Close the store; also done by `with PromptLab() as pl:`."""
        run_sync(self.aclose())

    async def aclose(self) -> None:
        """Close the store; also done by `async with PromptLab() as pl:`."""
        await self._lab.close()

    def __enter__(self) -> PromptLab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> PromptLab:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<PromptLab {self._lab.where}>"


class Assets:
    """Prompt templates and datasets, versioned."""

    def __init__(self, lab: AnyLab) -> None:
        self._store = lab.assets

    def create(self, asset: AnyAsset) -> AnyAsset:
        """The asset's new version; the latest one, if that has this content already.

        Raises:
            DatasetError: the dataset cannot be read.
        """
        return run_sync(self.create_async(asset))

    async def create_async(self, asset: AnyAsset) -> AnyAsset:
        """As `create`."""
        return await self._store.create(asset)  # type: ignore[return-value]

    def update(self, asset: AnyAsset) -> AnyAsset:
        """As `create`, for an asset that exists.

        Raises:
            AssetNotFoundError: there is no asset of this name.
        """
        return run_sync(self.update_async(asset))

    async def update_async(self, asset: AnyAsset) -> AnyAsset:
        """As `update`."""
        return await self._store.update(asset)  # type: ignore[return-value]

    def get(self, name: str, version: int | None = None, *, label: str | None = None, kind: AssetKind | None = None) -> Any:
        """A `PromptTemplate` or `Dataset`: one version by number or label, or the latest.

        `kind` ("prompt_template" or "dataset") is needed only where both have the name.

        Raises:
            AssetNotFoundError: no such asset, version or label.
        """
        return run_sync(self.get_async(name, version, label=label, kind=kind))

    async def get_async(self, name: str, version: int | None = None, *, label: str | None = None, kind: AssetKind | None = None) -> Any:
        """As `get`."""
        return await self._store.get(name, version=version, label=label, kind=kind)

    def list(self, kind: AssetKind | None = None) -> Sequence[Asset]:
        """The latest version of every asset."""
        return run_sync(self.list_async(kind))

    async def list_async(self, kind: AssetKind | None = None) -> Sequence[Asset]:
        """As `list`."""
        return await self._store.list(kind)

    def versions(self, name: str, *, kind: AssetKind | None = None) -> Sequence[AssetVersion]:
        """Every version of one asset, oldest first.

        Raises:
            AssetNotFoundError: there is no such asset.
        """
        return run_sync(self.versions_async(name, kind=kind))

    async def versions_async(self, name: str, *, kind: AssetKind | None = None) -> Sequence[AssetVersion]:
        """As `versions`."""
        return await self._store.versions(name, kind=kind)

    def label(self, name: str, label: str, *, version: int | None = None, kind: AssetKind | None = None) -> Asset:
        """Point a label such as `production` at a version (the latest by default).

        Raises:
            AssetNotFoundError: no such asset or version.
        """
        return run_sync(self.label_async(name, label, version=version, kind=kind))

    async def label_async(self, name: str, label: str, *, version: int | None = None, kind: AssetKind | None = None) -> Asset:
        """As `label`."""
        return await self._store.label(name, label, version=version, kind=kind)


class Experiments:
    """Runs."""

    def __init__(self, lab: AnyLab) -> None:
        self._lab = lab

    def run(self, config: Config, *, on_progress: OnProgress | None = None) -> Run:
        """Run an experiment to its end. Cases that fail are recorded; the run goes on.

        Args:
            config: an `ExperimentConfig`, or a dict of its fields.
            on_progress: called with a `Progress` whenever cases are done.

        Raises:
            PromptLabError: the experiment is wrong; nothing was stored or called.
            KeyboardInterrupt: Ctrl-C; a note says how to go on. All that was answered is kept.
        """
        return run_sync(self.run_async(config, on_progress=on_progress))

    async def run_async(self, config: Config, *, on_progress: OnProgress | None = None) -> Run:
        """As `run`."""
        async with _telling_how_to_resume(self._lab) as started:
            return Run(self._lab, await self._lab.run(config, on_start=started.append, on_progress=on_progress))

    def resume(self, run_id: str, config: Config | None = None, *, failed: bool = False, on_progress: OnProgress | None = None) -> Run:
        """Do only what a run is missing; with `failed`, its failed cases again, too.

        Args:
            run_id: the run.
            config: its configuration, where it has objects that cannot be made again from their names.
            failed: do failed cases again, too.
            on_progress: as in `run`.

        Raises:
            RunNotFoundError: there is no such run.
            RunBusyError: another process is working on it.
        """
        return run_sync(self.resume_async(run_id, config, failed=failed, on_progress=on_progress))

    async def resume_async(self, run_id: str, config: Config | None = None, *, failed: bool = False, on_progress: OnProgress | None = None) -> Run:
        """As `resume`."""
        async with _telling_how_to_resume(self._lab) as started:
            return Run(self._lab, await self._lab.resume(run_id, failed=failed, config=config, on_start=started.append, on_progress=on_progress))

    def get(self, run_id: str) -> Run:
        """One run.

        Raises:
            RunNotFoundError: there is no such run.
        """
        return run_sync(self.get_async(run_id))

    async def get_async(self, run_id: str) -> Run:
        """As `get`."""
        return Run(self._lab, await self._lab.get_run(run_id))

    def list(self, name: str | None = None, *, limit: int = 100) -> Sequence[Run]:
        """The newest runs, of one experiment if `name` is given."""
        return run_sync(self.list_async(name, limit=limit))

    async def list_async(self, name: str | None = None, *, limit: int = 100) -> Sequence[Run]:
        """As `list`."""
        runs, _ = await self._lab.list_runs(name=name, limit=limit)
        return [Run(self._lab, run) for run in runs]


@asynccontextmanager
async def _telling_how_to_resume(lab: AnyLab) -> AsyncIterator[list[RunRecord]]:
    """Adds to an interruption how to go on with the run that was put into the list."""
    started: list[RunRecord] = []
    try:
        yield started
    except asyncio.CancelledError as stop:
        for run in started:
            if lab.goes_on:
                note = f"Run {run.run_id} goes on at {lab.where}.\nCome back to it with: {show_command(run.run_id, lab.where)}"
            else:
                progress = await lab.progress(run.run_id)
                note = f"Run {run.run_id} was interrupted: {progress.done:,} of {progress.total:,} cases are done and kept.\nGo on with: {resume_command(run.run_id, lab.where)}"
            stop.add_note(note)
            logger.warning(note)
        raise


class Studio:
    """The web Studio."""

    def __init__(self, lab: AnyLab) -> None:
        self._lab = lab

    def start(self, port: int = 8000, *, host: str = "127.0.0.1") -> None:
        """Serve the Studio until Ctrl-C.

        Raises:
            PortInUseError: something else listens on the port.
            ConfigError: the lab is a hosted Studio already, or the address is not of this machine alone.
        """
        # Not through `run_sync`: the server takes Ctrl-C itself, which Python delivers to the main thread.
        with suppress(KeyboardInterrupt):
            run_here(self.start_async(port, host=host))

    async def start_async(self, port: int = 8000, *, host: str = "127.0.0.1") -> None:
        """As `start`; ends cleanly when cancelled."""
        from studio.server import serve

        if not isinstance(self._lab, Lab):
            raise ConfigError(f"This lab is a hosted Studio: open {self._lab.where} in a browser.")
        await serve(self._lab, port=port, host=host)


class Run:
    """One execution of an experiment, as it was when it was read."""

    def __init__(self, lab: AnyLab, record: RunRecord) -> None:
        self._lab, self.record = lab, record

    @property
    def run_id(self) -> str:
        """Its id."""
        return self.record.run_id

    id = run_id

    @property
    def status(self) -> RunStatus:
        """completed, failed, interrupted, cancelled, running or pending. Failed cases do not make a run failed."""
        return self.record.status

    @property
    def summary(self) -> Summary | None:
        """The aggregate; None before the run is summarized."""
        return Summary.from_json(self.record.summary) if self.record.summary else None

    def results(self) -> Results:
        """The rows, one a case; of an unfinished run those that are there."""
        return run_sync(self.results_async())

    async def results_async(self) -> Results:
        """As `results`."""
        return Results([row async for row in self._lab.results(self.run_id)])

    def refresh(self) -> Run:
        """The run as it is now."""
        return run_sync(self.refresh_async())

    async def refresh_async(self) -> Run:
        """As `refresh`."""
        return Run(self._lab, await self._lab.get_run(self.run_id))

    def resume(self, config: Config | None = None, *, failed: bool = False) -> Run:
        """As `pl.experiment.resume(run.run_id, …)`."""
        return run_sync(self.resume_async(config, failed=failed))

    async def resume_async(self, config: Config | None = None, *, failed: bool = False) -> Run:
        """As `resume`."""
        return await Experiments(self._lab).resume_async(self.run_id, config, failed=failed)

    def export(self, path: str | Path, format: ExportFormat | None = None) -> Path:
        """Write the rows to a file; the format is that of the path's suffix by default.

        Raises:
            ConfigError: the format or the folder is not there.
        """
        return run_sync(self.export_async(path, format))

    async def export_async(self, path: str | Path, format: ExportFormat | None = None) -> Path:
        """As `export`."""
        target = Path(path)
        await self._lab.export(self.run_id, target, format or export_format(target))
        return target

    def __repr__(self) -> str:
        return _rendered(self.record)

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(_rendered(self.record))}</pre>"


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
        """The rows as a DataFrame.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise MissingExtraError("Results.to_pandas()", "pandas") from None
        return pandas.DataFrame(list(self._rows))

    def __repr__(self) -> str:
        return f"<Results: {len(self):,} rows; columns {', '.join(self._rows[0]) if self._rows else 'none'}>"

    def _repr_html_(self) -> str | None:
        try:
            html: str = self.to_pandas().to_html(max_rows=20)
        except MissingExtraError:
            return None
        return html


def _rendered(run: RunRecord) -> str:
    from rich.console import Console

    console = Console(width=120, no_color=True, force_terminal=False, markup=False, emoji=False, highlight=False, record=True, file=StringIO())
    console.print(table(run))
    return console.export_text().rstrip()
