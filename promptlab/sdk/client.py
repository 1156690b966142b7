"""The SDK: a lab for scripts and notebooks. Each sync call runs its async twin, in scripts and in running
loops alike."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from promptlab.deprecated import warn_old
from promptlab.domain.assets import Asset, AssetKind, AssetVersion, Dataset, PromptTemplate
from promptlab.domain.choice import Chosen
from promptlab.domain.code import CodeBundle
from promptlab.domain.results import RunRecord, RunStatus
from promptlab.experiments.config import ExperimentConfig
from promptlab.experiments.rescoring import Metrics
from promptlab.gates import Gates, gates_of
from promptlab.lab import Lab, open_lab
from promptlab.queries.compared import Change, Compared, margins_of
from promptlab.run_labels import ANY, no_such_label
from promptlab.sdk.gate import Gate
from promptlab.sdk.jobs import JobLine
from promptlab.sdk.run import Config, OnProgress, Run, resume, run, score
from promptlab.sdk.speaking import is_quiet, say
from promptlab.sync import run_here, run_sync

if TYPE_CHECKING:
    from promptlab.cloud.estimate import Estimate
    from promptlab.planning import Power
    from promptlab.queries.sql import SqlAnswer
    from promptlab.sdk.compare import Comparison
    from promptlab.sdk.slices import RunSlices

AnyAsset = TypeVar("AnyAsset", PromptTemplate, Dataset)


class PromptLab:
    """A lab: assets, experiments and the Studio over one store.

    Args:
        store: `{"type": "sqlite", "db_file": "./promptlab.db"}` ("local" means the same); without it,
            ./promptlab.db. A path means a file of SQLite. For a hosted Studio
            `{"type": "remote", "endpoint": "https://…", "api_key": …}`; PROMPTLAB_ENDPOINT and
            PROMPTLAB_API_KEY stand in for what is left out.
        quiet: say nothing on standard error: no progress, no hints. By default as the variable
            PROMPTLAB_QUIET says.

    Raises:
        ConfigError: the store is described wrongly.
    """

    def __init__(
        self,
        store: Mapping[str, Any] | str | Path | None = None,
        *,
        quiet: bool | None = None,
        tracer_config: Mapping[str, Any] | None = None,
    ) -> None:
        if tracer_config is not None:
            warn_old("PromptLab(tracer_config=…)", "PromptLab(…)")
            store = tracer_config
        quiet = is_quiet(quiet)
        self._lab = open_lab({"type": "sqlite", "db_file": store} if isinstance(store, str | Path) else store)
        if not quiet:
            self._lab.tell(JobLine())
        self.asset = Assets(self._lab)
        self.experiment = Experiments(self._lab, quiet)
        self.studio = Studio(self._lab)

    async def run_experiment_async(
        self, config: Config, *, on_progress: OnProgress | None = None, quiet: bool | None = None
    ) -> Run:
        """Do as `experiment.run_async`."""
        return await self.experiment.run_async(config, on_progress=on_progress, quiet=quiet)

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


def _asked_name(name: str, asset_name: str | None) -> str:
    """Give the name, which promptlab 0.1 called asset_name."""
    if asset_name is not None:
        if name:
            raise TypeError("get() takes the name of the asset once: leave asset_name=… out")
        warn_old(f"asset_name={asset_name!r}", f"name={asset_name!r}")
        return asset_name
    if not name:
        raise TypeError("get() needs the name of the asset")
    return name


class Assets:
    """Prompt templates and datasets, versioned."""

    def __init__(self, lab: Lab) -> None:
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

    @overload
    def get(
        self,
        name: str,
        version: int | None = None,
        *,
        label: str | None = None,
        kind: Literal["prompt_template"],
    ) -> PromptTemplate: ...

    @overload
    def get(
        self, name: str, version: int | None = None, *, label: str | None = None, kind: Literal["dataset"]
    ) -> Dataset: ...

    @overload
    def get(
        self,
        name: str,
        version: int | None = None,
        *,
        label: str | None = None,
        kind: AssetKind | None = None,
    ) -> Any: ...

    def get(
        self,
        name: str = "",
        version: int | None = None,
        *,
        label: str | None = None,
        kind: AssetKind | None = None,
        asset_name: str | None = None,
    ) -> Any:
        """A `PromptTemplate`, `Dataset` or `CodeBundle`: one version by number or label, or the latest.

        `kind` ("prompt_template" or "dataset") is needed only where both have the name; they go before code.

        Raises:
            AssetNotFoundError: no such asset, version or label.
        """
        name = _asked_name(name, asset_name)
        return run_sync(self.get_async(name, version, label=label, kind=kind))

    @overload
    async def get_async(
        self,
        name: str,
        version: int | None = None,
        *,
        label: str | None = None,
        kind: Literal["prompt_template"],
    ) -> PromptTemplate: ...

    @overload
    async def get_async(
        self, name: str, version: int | None = None, *, label: str | None = None, kind: Literal["dataset"]
    ) -> Dataset: ...

    @overload
    async def get_async(
        self,
        name: str,
        version: int | None = None,
        *,
        label: str | None = None,
        kind: AssetKind | None = None,
    ) -> Any: ...

    async def get_async(
        self,
        name: str = "",
        version: int | None = None,
        *,
        label: str | None = None,
        kind: AssetKind | None = None,
        asset_name: str | None = None,
    ) -> Any:
        """As `get`."""
        name = _asked_name(name, asset_name)
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

    def source(self, bundle: CodeBundle) -> CodeBundle:
        """The code of a version with its text: `files` by path.

        Raises:
            AssetNotFoundError: there is no such code or version.
        """
        return run_sync(self.source_async(bundle))

    async def source_async(self, bundle: CodeBundle) -> CodeBundle:
        """As `source`."""
        return await self._store.source(bundle)

    def label(
        self, name: str, label: str, *, version: int | None = None, kind: AssetKind | None = None
    ) -> Asset:
        """Point a label such as `production` at a version (the latest by default).

        Raises:
            AssetNotFoundError: no such asset or version.
        """
        return run_sync(self.label_async(name, label, version=version, kind=kind))

    def unlabel(self, name: str, label: str, *, kind: AssetKind | None = None) -> None:
        """Remove a label; the version that it pointed at stays.

        Raises:
            AssetNotFoundError: no such asset or label.
        """
        run_sync(self.unlabel_async(name, label, kind=kind))

    async def unlabel_async(self, name: str, label: str, *, kind: AssetKind | None = None) -> None:
        """Do as `unlabel`."""
        await self._store.unlabel(name, label, kind=kind)

    def delete(self, name: str, *, version: int, kind: AssetKind | None = None) -> None:
        """Remove one version for good, with its rows or text; its number is not given again.

        Rows that another version has too stay with that one.

        Raises:
            AssetNotFoundError: there is no such asset or version.
            VersionInUseError: a run uses it, or a label points at it.
        """
        run_sync(self.delete_async(name, version=version, kind=kind))

    async def delete_async(self, name: str, *, version: int, kind: AssetKind | None = None) -> None:
        """Do as `delete`."""
        await self._store.delete(name, version=version, kind=kind)

    async def label_async(
        self, name: str, label: str, *, version: int | None = None, kind: AssetKind | None = None
    ) -> Asset:
        """As `label`."""
        return await self._store.label(name, label, version=version, kind=kind)


class Experiments:
    """Runs."""

    def __init__(self, lab: Lab, quiet: bool) -> None:
        self._lab, self._quiet = lab, quiet

    def run(
        self,
        config: Config,
        *,
        requirements: Sequence[str] = (),
        max_cost_usd: float | None = None,
        on_progress: OnProgress | None = None,
        quiet: bool | None = None,
    ) -> Run:
        """Run an experiment to its end. Cases that fail are recorded; the run goes on.

        Args:
            config: an `ExperimentConfig`, or a dict of its fields.
            requirements: packages that code of yours needs and a hosted lab lacks, as name==version.
            max_cost_usd: the dollars that its calls may cost, in place of what the experiment says.
            on_progress: called with a `Progress` whenever cases are done, in place of showing it.
            quiet: say nothing; by default as the lab was opened.

        Raises:
            PromptLabError: the experiment is wrong; nothing was stored or called.
            KeyboardInterrupt: Ctrl-C; a note says how to go on. All that was answered is kept.
        """
        # Here and not on the loop's thread, where a warning could not say which line it is about.
        config = ExperimentConfig.parse(config).requiring(requirements).within(max_cost_usd)
        return run_sync(self.run_async(config, on_progress=on_progress, quiet=quiet))

    async def run_async(
        self,
        config: Config,
        *,
        requirements: Sequence[str] = (),
        max_cost_usd: float | None = None,
        on_progress: OnProgress | None = None,
        quiet: bool | None = None,
    ) -> Run:
        """Do as `run`."""
        # Here and not in a task of the run's own, for the same reason as in `run`.
        config = ExperimentConfig.parse(config).requiring(requirements).within(max_cost_usd)
        return await run(self._lab, config, on_progress=on_progress, quiet=self._is_quiet(quiet))

    def _is_quiet(self, quiet: bool | None) -> bool:
        return self._quiet if quiet is None else quiet

    def resume(
        self,
        run_id: str,
        config: Config | None = None,
        *,
        failed: bool = False,
        errors: Sequence[str] = (),
        max_cost_usd: float | None = None,
        trust_code: bool = False,
        on_progress: OnProgress | None = None,
        quiet: bool | None = None,
    ) -> Run:
        """Do only what a run is missing; with `failed`, its failed cases again, too.

        Args:
            run_id: the run.
            config: its configuration, where it has objects that cannot be made again from their names.
            failed: do failed cases again, too.
            errors: do those again that failed with one of these types of error, and no others.
            max_cost_usd: another budget for the run, over all of its passes.
            trust_code: run the code that the run names, also where it was recorded elsewhere.
            on_progress: as in `run`.
            quiet: as in `run`.

        Raises:
            RunNotFoundError: there is no such run.
            RunBusyError: another process is working on it.
            UntrustedCodeError: it names code that was not recorded in this store by this user.
            ConfigError: `config` differs from the run's in more than keys and code; each difference is named.
        """
        return run_sync(
            self.resume_async(
                run_id,
                config,
                failed=failed,
                errors=errors,
                max_cost_usd=max_cost_usd,
                trust_code=trust_code,
                on_progress=on_progress,
                quiet=quiet,
            )
        )

    def score(
        self,
        run_id: str,
        evaluation: Metrics | Config | str | Path,
        *,
        only: Sequence[str] = (),
        max_cost_usd: float | None = None,
        on_progress: OnProgress | None = None,
        quiet: bool | None = None,
    ) -> Run:
        """Score a completed run by further or other metrics, without asking its model again.

        Args:
            run_id: the run.
            evaluation: metrics, as an experiment has them; or an experiment, or a YAML file, with
                some. One that is new is added; one of a name that is there takes its place, and the
                scores of before stay under `NAME@PASS`.
            only: the names of those of them that are wanted; all where none is named.
            max_cost_usd: as in `resume`.
            on_progress: as in `run`.
            quiet: as in `run`.

        Raises:
            RunNotFoundError: there is no such run.
            RunBusyError: another process is working on it.
            ConfigError: a metric is wrong, or the run is not completed.
        """
        return run_sync(
            self.score_async(
                run_id,
                evaluation,
                only=only,
                max_cost_usd=max_cost_usd,
                on_progress=on_progress,
                quiet=quiet,
            )
        )

    async def score_async(
        self,
        run_id: str,
        evaluation: Metrics | Config | str | Path,
        *,
        only: Sequence[str] = (),
        max_cost_usd: float | None = None,
        on_progress: OnProgress | None = None,
        quiet: bool | None = None,
    ) -> Run:
        """As `score`."""
        return await score(
            self._lab,
            run_id,
            evaluation,
            only=only,
            max_cost_usd=max_cost_usd,
            on_progress=on_progress,
            quiet=self._is_quiet(quiet),
        )

    async def resume_async(
        self,
        run_id: str,
        config: Config | None = None,
        *,
        failed: bool = False,
        errors: Sequence[str] = (),
        max_cost_usd: float | None = None,
        trust_code: bool = False,
        on_progress: OnProgress | None = None,
        quiet: bool | None = None,
    ) -> Run:
        """As `resume`."""
        return await resume(
            self._lab,
            run_id,
            config,
            failed=failed,
            errors=errors,
            max_cost_usd=max_cost_usd,
            trust_code=trust_code,
            on_progress=on_progress,
            quiet=self._is_quiet(quiet),
        )

    def cancel(self, run_id: str) -> Run:
        """Stop a run, whichever process works on it; what was answered is kept, and `resume` goes on with it.

        Raises:
            RunNotFoundError: there is no such run.
        """
        return run_sync(self.cancel_async(run_id))

    async def cancel_async(self, run_id: str) -> Run:
        """As `cancel`."""
        return Run(self._lab, await self._lab.cancel(run_id))

    def get(self, run_id: str) -> Run:
        """One run.

        Raises:
            RunNotFoundError: there is no such run.
        """
        return run_sync(self.get_async(run_id))

    async def get_async(self, run_id: str) -> Run:
        """As `get`."""
        return Run(self._lab, await self._lab.get_run(run_id))

    def list(
        self,
        name: str | None = None,
        *,
        tag: str | None = None,
        model: str | None = None,
        prompt: str | None = None,
        dataset: str | None = None,
        since: str | None = None,
        until: str | None = None,
        status: RunStatus | None = None,
        archived: bool | None = False,
        limit: int = 100,
    ) -> Sequence[Run]:
        """List the newest runs.

        Args:
            name: only runs of the experiment of this name.
            tag: only runs with this tag.
            model: only runs of this model, with or without its provider.
            prompt: only runs of this prompt template, `qa` or `qa@3`.
            dataset: only runs over this dataset, `questions` or `questions@3`.
            since: only runs that were started on this day (`2026-11-23`, UTC) or later.
            until: only runs that were started on this day or before.
            status: only runs with this status.
            archived: archived runs only, or the others; None: both.
            limit: runs at most.
        """
        return run_sync(
            self.list_async(
                name,
                tag=tag,
                model=model,
                prompt=prompt,
                dataset=dataset,
                since=since,
                until=until,
                status=status,
                archived=archived,
                limit=limit,
            )
        )

    async def list_async(
        self,
        name: str | None = None,
        *,
        tag: str | None = None,
        model: str | None = None,
        prompt: str | None = None,
        dataset: str | None = None,
        since: str | None = None,
        until: str | None = None,
        status: RunStatus | None = None,
        archived: bool | None = False,
        limit: int = 100,
    ) -> Sequence[Run]:
        """Do as `list`."""
        chosen = Chosen(status, tag, model, prompt, archived, dataset, since, until)
        found: list[RunRecord] = []
        cursor: str | None = None
        while len(found) < limit:
            page, cursor = await self._lab.list_runs(
                name=name, chosen=chosen, limit=limit - len(found), cursor=cursor
            )
            found += page
            if cursor is None:
                break
        return [Run(self._lab, run) for run in found]

    def compare(
        self,
        base: Run | str,
        *others: Run | str,
        change: Change = "all",
        metric: str | None = None,
        text: str = "",
        sort: Literal["case", "difference"] = "case",
        descending: bool = False,
        offset: int = 0,
        limit: int = 25,
        margin: float | Mapping[str, float] | None = None,
    ) -> Comparison:
        """Compare a run, the base, with one to three others over the same rows.

        Args:
            base: the run, or its id.
            others: the other runs, or their ids.
            change: which pairs of cases `rows` has: all, different, regressed, improved or same.
            metric: the metric that `change` is about; any by default.
            text: only pairs in which a search of any of the runs finds it.
            sort: by case, or the greatest loss first.
            descending: the other way round.
            offset: pairs to skip.
            limit: pairs at most.
            margin: δ, a difference that does not matter, of every metric or by its name; .02 of pass/fail
                metrics where nothing is said.

        Raises:
            RunNotFoundError: there is no such run.
            RunError: a run has no results yet, or there are not one to three others.
            ConfigError: a margin is no number above 0.
            UnknownNameError: the base does not share this metric with another run.
        """
        return run_sync(
            self.compare_async(
                base,
                *others,
                change=change,
                metric=metric,
                text=text,
                sort=sort,
                descending=descending,
                offset=offset,
                limit=limit,
                margin=margin,
            )
        )

    async def compare_async(
        self,
        base: Run | str,
        *others: Run | str,
        change: Change = "all",
        metric: str | None = None,
        text: str = "",
        sort: Literal["case", "difference"] = "case",
        descending: bool = False,
        offset: int = 0,
        limit: int = 25,
        margin: float | Mapping[str, float] | None = None,
    ) -> Comparison:
        """Do as `compare`."""
        ids = [run if isinstance(run, str) else run.run_id for run in (base, *others)]
        page = await self._lab.compare(
            ids,
            Compared(change, metric, None, text, margins_of(margin)),
            sort=sort,
            descending=descending,
            offset=offset,
            limit=limit,
        )
        from promptlab.sdk.compare import Comparison

        return Comparison(ids, page)

    def slices(
        self,
        run: Run | str,
        column: str,
        *others: Run | str,
        margin: float | Mapping[str, float] | None = None,
    ) -> RunSlices:
        """Slice a run, and others against it, by the values of a column of its dataset.

        Args:
            run: the run, or its id.
            column: of the run's dataset; a column of many numbers is cut into five bins.
            others: at most three runs that are compared with it.
            margin: δ, as in `compare`.

        Raises:
            RunNotFoundError: there is no such run.
            RunError: a run has no results yet, or there are more than three others.
            ConfigError: a margin is no number above 0.
            UnknownNameError: the dataset has no such column.
        """
        return run_sync(self.slices_async(run, column, *others, margin=margin))

    async def slices_async(
        self,
        run: Run | str,
        column: str,
        *others: Run | str,
        margin: float | Mapping[str, float] | None = None,
    ) -> RunSlices:
        """Do as `slices`."""
        from promptlab.sdk.slices import sliced

        ids = [one if isinstance(one, str) else one.run_id for one in (run, *others)]
        return await sliced(self._lab, ids, column, margin)

    def sql(self, run: Run | str, sql: str) -> SqlAnswer:
        """Ask a run's results in SQL: one SELECT over the table `cases`, which has the columns of an export.

            pl.experiment.sql(run, 'SELECT "input.kind", avg("score.f1") FROM cases GROUP BY ALL')

        Args:
            run: the run, or its id.
            sql: the question, in DuckDB's SQL. 1,000 rows are given at most.

        Raises:
            RunNotFoundError: there is no such run.
            RunError: it has no results yet.
            SqlError: the question is wrong, or asks for too much.
        """
        return run_sync(self.sql_async(run, sql))

    async def sql_async(self, run: Run | str, sql: str) -> SqlAnswer:
        """Do as `sql`."""
        return await self._lab.sql(run if isinstance(run, str) else run.run_id, sql)

    def gate(
        self,
        run: Run | str | Config,
        *,
        baseline: Run | str | None = None,
        gates: Gates | Mapping[str, Any] | Sequence[Any] | None = None,
        quiet: bool | None = None,
    ) -> Gate:
        """Judge whether a run keeps to its gates; an experiment is run first. The outcome is recorded.

        Args:
            run: the run, ended, or its id; or an experiment's configuration.
            baseline: a run, its id, or a label of the experiment; by default the one that the gates name.
            gates: the checks, or `{baseline, quarantine, checks}`; by default those that the run was started
                with, else that no metric is worse than the baseline's.
            quiet: as in `run`.

        Returns:
            The outcome: `passed`, `failed` or `undecided`, with a reason for every check.

        Raises:
            RunNotFoundError: there is no such run.
            LabelNotFoundError: there is no such baseline.
            RunError: a run has not ended, or has no results.
            ConfigError: the gates are not well written, or a check needs a baseline and none is named.
        """
        return run_sync(self.gate_async(run, baseline=baseline, gates=gates, quiet=quiet))

    async def gate_async(
        self,
        run: Run | str | Config,
        *,
        baseline: Run | str | None = None,
        gates: Gates | Mapping[str, Any] | Sequence[Any] | None = None,
        quiet: bool | None = None,
    ) -> Gate:
        """Do as `gate`."""
        checks = None if gates is None else gates_of(gates)
        if not isinstance(run, Run | str):
            run = await self.run_async(run, quiet=quiet)
        against = None if baseline is None else _id_of(baseline)
        return Gate(await self._lab.gate(_id_of(run), baseline=against, gates=checks))

    def power(
        self,
        difference: float,
        *runs: Run | str,
        metric: str | None = None,
        discordance: float | None = None,
        deviation: float | None = None,
    ) -> Power:
        """Say how many rows show a difference with 80% power, and what they cost.

        Args:
            difference: in the metric's units, above 0: 0.05 of pass/fail is 5 in 100 rows.
            runs: two runs, the base first, that say how often they differ and what a case costs; or none.
            metric: the metric of these runs; the first one by default.
            discordance: without runs: the share of rows in which two runs differ, .2 where nothing is said.
            deviation: without runs, of numbers: the standard deviation of the paired differences.

        Raises:
            RunNotFoundError: there is no such run.
            UnknownNameError: the runs share no such metric.
            ConfigError: a number is none that makes sense, or there are neither two runs nor none.
        """
        asked = {"metric": metric, "discordance": discordance, "deviation": deviation}
        return run_sync(self.power_async(difference, *runs, **asked))  # type: ignore[arg-type]

    async def power_async(
        self,
        difference: float,
        *runs: Run | str,
        metric: str | None = None,
        discordance: float | None = None,
        deviation: float | None = None,
    ) -> Power:
        """Do as `power`."""
        from promptlab.planning import planned

        ids = [_id_of(run) for run in runs]
        return await planned(
            self._lab, ids, difference, metric=metric, discordance=discordance, deviation=deviation
        )

    def estimate(self, config: Config, *, tries: int = 0, rows: int | None = None) -> Estimate:
        """Estimate what a run would cost, in usual calls, in batches and in the flex tier, and how long it
        would take, here and in the cloud.

        Args:
            config: the experiment.
            tries: rows that are really run and paid for, a random sample; what they took replaces guesses.
            rows: how many rows to estimate for; those of the dataset by default.

        Raises:
            PromptLabError: the experiment is wrong, or no tried row was answered.
        """
        return run_sync(self.estimate_async(ExperimentConfig.parse(config), tries=tries, rows=rows))

    async def estimate_async(self, config: Config, *, tries: int = 0, rows: int | None = None) -> Estimate:
        """Do as `estimate`."""
        from promptlab.cloud.estimate import estimate

        return await estimate(self._lab, ExperimentConfig.parse(config), tries=tries, rows=rows)

    def tag(self, run_id: str, *tags: str, remove: Sequence[str] = ()) -> Run:
        """Give a run tags, and take those of `remove` away.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigError: a tag cannot be used.
        """
        return run_sync(self.tag_async(run_id, *tags, remove=remove))

    async def tag_async(self, run_id: str, *tags: str, remove: Sequence[str] = ()) -> Run:
        """Do as `tag`."""
        run = await self._lab.get_run(run_id)
        kept = [tag for tag in dict.fromkeys((*run.tags, *tags)) if tag not in remove]
        return Run(self._lab, await self._lab.edit_run(run_id, tags=kept))

    def label(self, run: Run | str, label: str, *, was: str | None = ANY) -> Run:
        """Point a label, such as production, of the run's experiment at a run.

        It leaves the run that it pointed at before, at once; `compare` and gates take it as a baseline.

        Args:
            run: the run, or its id.
            label: the label.
            was: the id of the run that it must point at until now, None for none; without, whichever it does.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigError: the label cannot be used.
            LabelMovedError: it points at another run than `was`; nothing is changed.
        """
        return run_sync(self.label_async(run, label, was=was))

    async def label_async(self, run: Run | str, label: str, *, was: str | None = ANY) -> Run:
        """Do as `label`."""
        return Run(self._lab, await self._lab.label_run(_id_of(run), label, was=was))

    def unlabel(self, run: Run | str, label: str) -> Run:
        """Take a label from a run.

        Raises:
            RunNotFoundError: there is no such run.
            LabelNotFoundError: its experiment has no such label.
            LabelMovedError: the label points at another run.
        """
        return run_sync(self.unlabel_async(run, label))

    async def unlabel_async(self, run: Run | str, label: str) -> Run:
        """Do as `unlabel`."""
        return Run(self._lab, await self._lab.unlabel_run(_id_of(run), label))

    def labelled(self, name: str, label: str) -> Run:
        """Give the run of an experiment that a label points at.

        Raises:
            LabelNotFoundError: there is none.
        """
        return run_sync(self.labelled_async(name, label))

    async def labelled_async(self, name: str, label: str) -> Run:
        """Do as `labelled`."""
        labels = await self._lab.run_labels(name)
        if label not in labels:
            raise no_such_label(name, label, labels)
        return await self.get_async(labels[label])

    def archive(self, run_id: str, archived: bool = True) -> Run:
        """Leave a run out of lists, or put it back.

        Raises:
            RunNotFoundError: there is no such run.
        """
        return run_sync(self.archive_async(run_id, archived))

    async def archive_async(self, run_id: str, archived: bool = True) -> Run:
        """Do as `archive`."""
        return Run(self._lab, await self._lab.edit_run(run_id, archived=archived))

    def delete(self, run_id: str) -> bool:
        """Remove a run for good, with its answers, scores and results. Assets stay.

        After an interruption in the middle the same call removes the rest.

        Returns:
            Whether all of it is gone; a hosted lab removes what it had within minutes. Nobody sees it either
            way.

        Raises:
            RunNotFoundError: there is no such run.
            RunBusyError: somebody works on it.
        """
        return run_sync(self.delete_async(run_id))

    async def delete_async(self, run_id: str) -> bool:
        """Do as `delete`."""
        return await self._lab.delete_run(run_id)


def _id_of(run: Run | str) -> str:
    return run if isinstance(run, str) else run.run_id


class Studio:
    """The web Studio."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def start(self, port: int = 8000, *, host: str = "127.0.0.1") -> None:
        """Serve the Studio until Ctrl-C.

        The address that is printed opens the Studio in one browser; when it was used, the next is printed.
        Programs send the value of PROMPTLAB_STUDIO_TOKEN as bearer, where that is set.

        Raises:
            PortInUseError: something else listens on the port.
            ConfigError: the lab is a hosted Studio already, or the address is not of this machine alone.
        """
        # Not through `run_sync`: the server takes Ctrl-C itself, which Python delivers to the main thread.
        with suppress(KeyboardInterrupt):
            run_here(self.start_async(port, host=host))

    async def start_async(self, port: int = 8000, *, host: str = "127.0.0.1") -> None:
        """As `start`; ends cleanly when cancelled."""
        from promptlab_studio.auth import TOKEN
        from promptlab_studio.server import serve

        lab, told = self._lab.to_serve(), False

        def listening(address: str) -> None:
            # Also where all else is quiet: there is no other way in.
            nonlocal told
            say(
                f"For another browser: {address}"
                if told
                else f"The Studio of {self._lab.where}: {address} (Ctrl-C ends it)"
            )
            told = True

        token = os.environ.get(TOKEN) or None
        await serve(lab, port=port, host=host, token=token, on_listening=listening)
