"""The lab: the service behind SDK, CLI and Studio, over a store or over a hosted Studio.

`StoreLab` works over a store (SQLite and files, or DynamoDB and S3), `RemoteLab` over a Studio's API.
The docstrings of the Protocol are the contract; tests/contract/test_lab.py holds both to it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from promptlab.deleting.journal import Deletion
from promptlab.domain.assets import Asset, AssetKind, AssetVersion, Dataset
from promptlab.domain.choice import Chosen
from promptlab.domain.code import CodeBundle
from promptlab.domain.findings import Finding
from promptlab.domain.results import CaseKey, Progress, RunRecord
from promptlab.domain.summary import Summary
from promptlab.domain.sweeps import Sweep
from promptlab.experiments.config import ExperimentConfig
from promptlab.experiments.matrix import SweepConfig
from promptlab.experiments.rescoring import Metrics
from promptlab.gates import Gates
from promptlab.queries.compared import Compared
from promptlab.results.formats import PLAIN_CSV, CsvStyle, ExportFormat
from promptlab.run_labels import ANY
from promptlab.store_lab import StoreLab
from promptlab.wiring import open_remote

if TYPE_CHECKING:
    from promptlab.adapters.http.jobs import OnJob
    from promptlab.gates.outcome import GateOutcome
    from promptlab.labelling import LabLabels
    from promptlab.queries.compare import ComparePage
    from promptlab.queries.ranking import Ranking
    from promptlab.queries.slices import Slices
    from promptlab.queries.sql import SqlAnswer

__all__ = ["Lab", "LabAssets", "OnProgress", "OnStart", "OnSweep", "open_lab"]

OnProgress = Callable[[Progress], None]
OnStart = Callable[[RunRecord], None]
OnSweep = Callable[[Sweep], None]


class LabAssets(Protocol):
    """The prompt templates, datasets and code of a lab, versioned."""

    async def create(self, asset: Asset) -> Asset:
        """Store the asset as a new version; give back the latest one, if that has this content already.

        Raises:
            DatasetError: the dataset cannot be read.
        """

    async def update(self, asset: Asset) -> Asset:
        """Do as `create`, for an asset that exists.

        Raises:
            AssetNotFoundError: there is no asset of this name.
        """

    async def get(
        self,
        name: str,
        *,
        version: int | None = None,
        label: str | None = None,
        kind: AssetKind | None = None,
    ) -> Asset:
        """Read one version: by number, by label, or the latest.

        Raises:
            AssetNotFoundError: no such asset, version or label.
            AssetError: the name is that of a prompt template and a dataset.
        """

    async def list(self, kind: AssetKind | None = None) -> Sequence[Asset]:
        """List the latest version of every asset, prompt templates first, sorted by name."""

    async def latest(self, kind: AssetKind) -> Sequence[AssetVersion]:
        """Do as `list`, for one kind, as records: with their time and content."""

    async def record(self, name: str, *, kind: AssetKind, version: int | None = None) -> AssetVersion | None:
        """Read one version as a record, the latest by default; None if there is none."""

    async def versions(self, name: str, *, kind: AssetKind | None = None) -> Sequence[AssetVersion]:
        """List every version of one asset, oldest first.

        Raises:
            AssetNotFoundError: there is no such asset.
        """

    async def label(
        self, name: str, label: str, *, version: int | None = None, kind: AssetKind | None = None
    ) -> Asset:
        """Point a label at a version (the latest by default).

        Raises:
            AssetNotFoundError: no such asset or version.
            AssetError: the label is not usable.
        """

    async def unlabel(self, name: str, label: str, *, kind: AssetKind | None = None) -> None:
        """Remove a label; the version that it pointed at stays.

        Raises:
            AssetNotFoundError: no such asset or label.
        """

    async def delete(self, name: str, *, version: int, kind: AssetKind | None = None) -> None:
        """Remove one version for good, with what no other version has in the store; its number stays taken.

        After an interruption in the middle the same call removes the rest.

        Raises:
            AssetNotFoundError: there is no such asset or version.
            AssetError: the name is that of a prompt template and a dataset.
            VersionInUseError: a run uses it, or a label points at it.
        """

    async def source(self, bundle: CodeBundle) -> CodeBundle:
        """Read a code version's text.

        Raises:
            AssetNotFoundError: there is no such code or version.
        """

    async def rows(self, dataset: Dataset, offset: int, limit: int) -> Sequence[dict[str, Any]]:
        """Read at most `limit` rows (1 to 500) of a dataset's version, from row `offset` (0-based) on.

        Long rows may make it fewer, but never none where there is one.

        Raises:
            AssetNotFoundError: there is no such dataset or version.
        """


class Lab(Protocol):
    """Assets and runs. Everything is async; `promptlab.PromptLab` is the same for sync code."""

    @property
    def goes_on(self) -> bool:
        """Whether a run goes on when its starter stops waiting."""

    @property
    def where(self) -> str:
        """The place where things are kept, for people: a path, or an address."""

    @property
    def assets(self) -> LabAssets:
        """Its prompt templates and datasets."""

    @property
    def labels(self) -> LabLabels:
        """The labels of people on the cases of its runs."""

    async def run(
        self,
        config: ExperimentConfig | Mapping[str, Any],
        *,
        folder: Path | None = None,
        on_start: OnStart | None = None,
        on_progress: OnProgress | None = None,
        leave: bool = False,
    ) -> RunRecord:
        """Check an experiment, then run it to its end.

        Args:
            config: what to run.
            folder: where relative paths to code start; the working folder by default.
            on_start: called once the run is recorded, before the first call.
            on_progress: called whenever cases are done.
            leave: of a run in batch mode, return once all of it is submitted; `resume` collects it.

        Raises:
            PromptLabError: the experiment is wrong (nothing is stored then).
            asyncio.CancelledError: the caller stopped waiting; the run goes on if
                `goes_on`, else see `resume`.
        """

    async def start(
        self,
        config: ExperimentConfig | Mapping[str, Any],
        *,
        run_id: str | None = None,
        folder: Path | None = None,
    ) -> RunRecord:
        """Do as `run`, but return once the run is recorded and begun.

        Raises:
            PromptLabError: as in `run`.
        """

    async def sweep(
        self,
        config: SweepConfig | Mapping[str, Any],
        *,
        folder: Path | None = None,
        on_sweep: OnSweep | None = None,
        on_start: OnStart | None = None,
        on_progress: OnProgress | None = None,
        leave: bool = False,
    ) -> Sweep:
        """Check all cells of a matrix, then run them to their ends; what is done already is not done again.

        A cell that cannot go on says why in its `error`, and the others go on.

        Args:
            config: an experiment with a `matrix`, or with several models or prompts.
            folder: where relative paths to code start; the working folder by default.
            on_sweep: called once it is recorded, before the first call.
            on_start: called for each run that begins.
            on_progress: called whenever cases are done.
            leave: as in `run`; of a hosted lab, return once all runs are begun.

        Raises:
            PromptLabError: a cell is wrong (nothing is stored then).
            asyncio.CancelledError: the caller stopped waiting; the same call goes on with it.
        """

    async def start_sweep(
        self, config: SweepConfig | Mapping[str, Any], *, folder: Path | None = None
    ) -> Sweep:
        """Do as `sweep`, but return once it is begun.

        Raises:
            PromptLabError: as in `sweep`.
        """

    async def resume_sweep(
        self,
        sweep_id: str,
        *,
        max_cost_usd: float | None = None,
        on_sweep: OnSweep | None = None,
        on_start: OnStart | None = None,
        on_progress: OnProgress | None = None,
        leave: bool = False,
    ) -> Sweep:
        """Go on with a sweep from what is recorded of it, without its experiment: begin the runs that have
        not begun, do what others are missing, and leave complete ones as they are.

        Args:
            sweep_id: the sweep.
            max_cost_usd: another budget for all of its runs together; by default the one that it has.
            on_sweep: called once it goes on.
            on_start: called for each run that begins or goes on.
            on_progress: called whenever cases are done.
            leave: as in `sweep`.

        Raises:
            SweepNotFoundError: there is no such sweep.
            ConfigError: the budget is no sum of dollars above 0.
            asyncio.CancelledError: the caller stopped waiting; the same call goes on with it.
        """

    async def get_sweep(self, sweep_id: str) -> Sweep:
        """Read a sweep.

        Raises:
            SweepNotFoundError: there is no such sweep.
        """

    async def list_sweeps(self, *, limit: int = 50) -> Sequence[Sweep]:
        """Read the sweeps, newest first."""

    async def rank(
        self, sweep_id: str, *, metric: str | None = None, margins: Mapping[str, float] | None = None
    ) -> Ranking:
        """Rank the runs of a sweep, as far as they have ended.

        Args:
            sweep_id: the sweep.
            metric: what to rank by; by default the headline metric, else the first.
            margins: δ by metric; under "" that of all others.

        Raises:
            SweepNotFoundError: there is no such sweep.
            UnknownNameError: its runs have no such metric.
        """

    async def cancel_sweep(self, sweep_id: str) -> Sweep:
        """Stop a sweep: no further run of it begins, and those under way are cancelled. What was answered is
        kept, and the same experiment goes on with it.

        Raises:
            SweepNotFoundError: there is no such sweep.
        """

    async def watch(self, run: RunRecord, on_progress: OnProgress | None = None) -> RunRecord:
        """Wait for the end of a run, whichever process works on it; `on_progress` is
        called with each look at it.

        Raises:
            RunNotFoundError: there is no such run.
            asyncio.CancelledError: the caller stopped waiting; the run goes on.
        """

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

        Args:
            run_id: the run.
            failed: do failed cases again, too.
            errors: do those again that failed with one of these types of error, and no others.
            max_cost_usd: another budget for the run, over all of its passes; by default the one that it has.
            config: the run's configuration, where it has objects that cannot be made from their names.
            folder: as in `run`.
            trust_code: run the code that the run names, also where it was recorded elsewhere; a hosted lab
            runs none. on_start: called once the pass is begun; never where there is nothing to do.
            on_progress: as in `run`.
            leave: as in `run`.

        Raises:
            RunNotFoundError: there is no such run.
            RunBusyError: another process is working on it.
            StoreDamagedError: the store is damaged; no call was made.
            UntrustedCodeError: it names code that was not recorded here by this user.
            ConfigError: one of its objects cannot be made again, or a `config` is given that cannot be used.
        """

    async def start_resume(
        self,
        run_id: str,
        *,
        failed: bool = False,
        errors: Sequence[str] = (),
        max_cost_usd: float | None = None,
    ) -> RunRecord:
        """Do as `resume`, but return once the run is begun.

        Raises:
            PromptLabError: as in `resume`.
        """

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

        Args:
            run_id: the run.
            evaluation: metrics, as an experiment has them. One that is new is added; one of a name that is
                there, but not the same, takes its place, and the scores of before stay under `NAME@PASS`.
            only: the names of those of them that are wanted; all where none is named.
            max_cost_usd: as in `resume`.
            folder: as in `run`.
            on_start: called once the pass is begun; never where there is nothing to do.
            on_progress: as in `run`.
            leave: of a hosted lab, return once the pass is begun.

        Raises:
            RunNotFoundError: there is no such run.
            RunBusyError: it is being worked on.
            ConfigError: a metric is wrong, or the run is not completed.
        """

    async def start_score(
        self,
        run_id: str,
        evaluation: Metrics,
        *,
        only: Sequence[str] = (),
        max_cost_usd: float | None = None,
    ) -> RunRecord:
        """Do as `score`, but return once the pass is begun.

        Raises:
            PromptLabError: as in `score`.
        """

    async def cancel(self, run_id: str) -> RunRecord:
        """Stop a run; what was answered is kept. One that has ended stays as it is.

        Raises:
            RunNotFoundError: there is no such run.
        """

    async def get_run(self, run_id: str) -> RunRecord:
        """Read one run, as it is now.

        Raises:
            RunNotFoundError: there is no such run.
        """

    async def list_runs(
        self,
        *,
        name: str | None = None,
        chosen: Chosen = Chosen(),  # noqa: B008 - frozen
        limit: int = 100,
        cursor: str | None = None,
    ) -> tuple[list[RunRecord], str | None]:
        """Read a page of the runs that match, newest first, and the cursor of the next page or None.

        A page may hold fewer than `limit` while there are more.

        Raises:
            CursorError: no list ended there.
        """

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

        Args:
            run_id: the run.
            tags: its tags from now on.
            archived: whether lists leave it out.
            title: what it is called, up to 200 characters; empty: as its experiment.
            description: what is said of it, up to 2,000 characters.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigError: a tag, the title or the description is too long, or there are more than 50 tags.
        """

    async def label_run(self, run_id: str, label: str, *, was: str | None = ANY) -> RunRecord:
        """Point a label, such as production, of the run's experiment at the run; it leaves the run that it
        pointed at before.

        Args:
            run_id: the run.
            label: the label.
            was: the run that it must point at until now, None for none; without, whichever it does.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigError: the label cannot be used, or the experiment has 50.
            LabelMovedError: it points at another run than `was`; nothing is changed.
        """

    async def unlabel_run(self, run_id: str, label: str) -> RunRecord:
        """Take a label from the run.

        Raises:
            RunNotFoundError: there is no such run.
            LabelNotFoundError: its experiment has no such label.
            LabelMovedError: the label points at another run.
        """

    async def gate(
        self, run_id: str, *, baseline: str | None = None, gates: Gates | None = None
    ) -> GateOutcome:
        """Judge whether a run keeps to its gates, and record what came of it.

        Args:
            run_id: the run, ended.
            baseline: a label of its experiment, `experiment@label`, or a run's id; by default the one that
                the gates name.
            gates: the checks; by default those that the run was started with, else that no metric is worse.

        Raises:
            RunNotFoundError: there is no such run.
            LabelNotFoundError: there is no such baseline.
            RunError: a run has not ended, or has no results.
            ConfigError: a check needs a baseline and none is named, or names what there is not.
        """

    async def gate_of(self, run_id: str) -> GateOutcome | None:
        """Read what came of a run's newest gate; None where it was not judged.

        Raises:
            RunNotFoundError: there is no such run.
        """

    async def run_labels(self, name: str) -> Mapping[str, str]:
        """Read the labels of an experiment's runs, each with the id of its run."""

    async def delete_run(self, run_id: str) -> bool:
        """Remove a run for good, with its answers, scores and results. Assets stay.

        Nobody sees it from then on. After an interruption, the same call removes the rest.

        Returns:
            Whether all of it is gone; else a hosted lab removes the rest by itself.

        Raises:
            RunNotFoundError: there is no such run.
            RunBusyError: somebody works on it: cancel it first.
            RunInUseError: a label points at it.
        """

    async def deletions(
        self, *, limit: int = 100, cursor: str | None = None
    ) -> tuple[Sequence[Deletion], str | None]:
        """Read a page of what was deleted in the last year, newest first, and the cursor of the next or None.

        Those that are under way come before the first page's, and are not counted in its `limit`.

        Raises:
            CursorError: no list ended there.
        """

    def run_ids(self) -> AsyncIterator[str]:
        """Give the ids of all runs, newest first."""

    async def progress(self, run_id: str) -> Progress:
        """Count how far a run is.

        Raises:
            RunNotFoundError: there is no such run.
        """

    async def summary(self, run_id: str) -> Summary:
        """Read the run's summary; of one that goes on or was stopped, that of its finished shards.

        Raises:
            RunNotFoundError: there is no such run.
        """

    async def so_far(self, run: RunRecord) -> tuple[Progress | None, Summary | None]:
        """Read what `report.brief` needs besides a run that is not summarized.

        That is its progress, and the sum of its finished shards; two Nones for a run with a summary.
        """

    def results(self, run_id: str) -> AsyncIterator[dict[str, Any]]:
        """Give a run's results, one row a case (docs/concepts.md), in order; of an
        unfinished run what there is.

        Raises:
            RunNotFoundError: there is no such run.
        """

    async def cases(
        self, run_id: str, *, after: CaseKey | None = None, limit: int = 500
    ) -> tuple[list[dict[str, Any]], CaseKey | None]:
        """Read a page of a run's results, behind a case; and where the next page goes on, or None.

        Raises:
            RunNotFoundError: there is no such run.
        """

    async def export(
        self, run_id: str, path: Path, format: ExportFormat, style: CsvStyle = PLAIN_CSV
    ) -> None:
        """Write a run's results to a file, whole or not at all.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigError: there is no such folder, the file cannot be written, or a style is given
                and the format is not csv.
        """

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

        Arguments are those of `promptlab.queries.compare.compare`.

        Raises:
            RunNotFoundError: there is no such run.
            RunError: a run goes on, or there are not one to three others.
            UnknownNameError: `selected` names a metric that the base does not share with another run.
        """

    async def slices(self, run_ids: Sequence[str], column: str, margins: Mapping[str, float]) -> Slices:
        """A run, the base, and at most three others against it, by the values of a column of the base's
        dataset: means, intervals, differences and verdicts of each.

        Raises:
            RunNotFoundError: there is no such run.
            RunError: a run goes on, or there are none or more than three others.
            UnknownNameError: the dataset has no such column.
        """

    async def sql(self, run_id: str, sql: str) -> SqlAnswer:
        """Answer a question in SQL about a run's results, which are the table `cases`.

        Raises:
            RunNotFoundError: there is no such run.
            RunError: it goes on.
            SqlError: the question is wrong, or asks for too much.
        """

    async def findings(self, secrets: Sequence[str] = ()) -> Sequence[Finding]:
        """Say whether the lab is in order: a finding for each thing that was looked at. No model is called.

        Args:
            secrets: names of providers' keys that are looked for, as `api_key_secret` names them.
        """

    async def clear_cache(self) -> None:
        """Forget all answers that are kept for equal requests."""

    async def cached_answers(self) -> int:
        """Count about how many answers are kept for equal requests."""

    async def month_usd(self) -> float | None:
        """Read what the project's runs may cost in a month, in dollars; None: as much as they do."""

    async def set_month_usd(self, usd: float | None) -> None:
        """Set what the project's runs may cost in a month; None: as much as they do.

        Raises:
            ConfigError: it is no sum that makes sense.
            ForbiddenError: a hosted lab leaves that to its admins.
        """

    async def spent_this_month(self) -> float | None:
        """Read how many dollars of that are spent; None where there is no such budget."""

    def tell(self, on_job: OnJob | None) -> None:
        """Have somebody told how far long work elsewhere is: uploads, datasets made of them, exports.

        A lab over a store does all of that itself, before its calls return, and tells nothing.
        """

    def to_serve(self) -> StoreLab:
        """Give the lab that a Studio on this machine serves.

        Raises:
            ConfigError: the lab is a hosted Studio already.
        """

    async def close(self) -> None:
        """Release what is held. Closing twice is fine."""


def open_lab(config: Mapping[str, Any] | None = None) -> Lab:
    """Open the lab of a store configuration: a local store, or `{"type": "remote", …}` for a hosted Studio.

    Raises:
        ConfigError: the configuration is wrong.
    """
    if config and config.get("type") == "remote":
        return open_remote(config)
    return StoreLab.open(config)
