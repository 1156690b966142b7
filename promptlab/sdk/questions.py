"""The SDK's questions about runs: comparisons, slices, SQL, gates, power, estimates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from promptlab.experiments.config import ExperimentConfig
from promptlab.experiments.matrix import SweepConfig
from promptlab.queries.compared import Change, Compared, margins_of, where_of
from promptlab.sdk.records import RunRecords, id_of
from promptlab.sdk.run import Config, Run, SweepChoice
from promptlab.sync import run_sync

if TYPE_CHECKING:
    from promptlab.cloud.estimate import Estimate
    from promptlab.cloud.sweeps import SweepEstimate
    from promptlab.domain.sweeps import Sweep
    from promptlab.planning import Power
    from promptlab.queries.sql import SqlAnswer
    from promptlab.sdk.compare import Comparison
    from promptlab.sdk.slices import RunSlices
    from promptlab.sdk.sweeps import SweepRanking


class RunQuestions(RunRecords):
    """What is asked of runs, before they begin and after they ended."""

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
        least: float | None = None,
        most: float | None = None,
        where: Mapping[str, str] | None = None,
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
            least: only pairs whose difference in the metric, other − base, is this or more; in any metric,
                if none is named.
            most: only pairs whose difference is this or less.
            where: only rows with these values, by dataset column; "" for rows without one. Texts are looked
                at as far as slices do: their first 48 characters, whatever their case.

        Raises:
            RunNotFoundError: there is no such run.
            RunError: a run goes on, or there are not one to three others.
            ConfigError: a margin is no number above 0.
            UnknownNameError: the base does not share this metric with another run, or its dataset has no such
                column.
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
                least=least,
                most=most,
                where=where,
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
        least: float | None = None,
        most: float | None = None,
        where: Mapping[str, str] | None = None,
    ) -> Comparison:
        """Do as `compare`."""
        ids = [run if isinstance(run, str) else run.run_id for run in (base, *others)]
        page = await self._lab.compare(
            ids,
            Compared(
                change,
                metric,
                None,
                text,
                margins_of(margin),
                least,
                most,
                where_of(f"{column}={value}" for column, value in (where or {}).items()),
            ),
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
            RunError: a run goes on, or there are more than three others.
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
            RunError: it goes on.
            SqlError: the question is wrong, or asks for too much.
        """
        return run_sync(self.sql_async(run, sql))

    async def sql_async(self, run: Run | str, sql: str) -> SqlAnswer:
        """Do as `sql`."""
        return await self._lab.sql(run if isinstance(run, str) else run.run_id, sql)

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

        ids = [id_of(run) for run in runs]
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

    def estimate_sweep(
        self, config: SweepChoice, *, tries: int = 0, rows: int | None = None
    ) -> SweepEstimate:
        """Estimate what the runs of a sweep would cost, each and all together; arguments as of `estimate`.

        Raises:
            PromptLabError: a cell is wrong, or no tried row of it was answered.
        """
        return run_sync(self.estimate_sweep_async(SweepConfig.parse(config), tries=tries, rows=rows))

    async def estimate_sweep_async(
        self, config: SweepChoice, *, tries: int = 0, rows: int | None = None
    ) -> SweepEstimate:
        """Do as `estimate_sweep`."""
        from promptlab.cloud.sweeps import estimate_sweep

        return await estimate_sweep(self._lab, SweepConfig.parse(config), tries=tries, rows=rows)

    def rank(
        self,
        sweep: SweepRanking | str,
        *,
        metric: str | None = None,
        margin: float | Mapping[str, float] | None = None,
    ) -> SweepRanking:
        """Rank the runs of a sweep, the best first, as far as they have ended.

        Args:
            sweep: the sweep, or its id.
            metric: what to rank by; by default the headline metric, else the first.
            margin: δ, as in `compare`.

        Raises:
            SweepNotFoundError: there is no such sweep.
            UnknownNameError: its runs have no such metric.
        """
        return run_sync(self.rank_async(sweep, metric=metric, margin=margin))

    async def rank_async(
        self,
        sweep: SweepRanking | str,
        *,
        metric: str | None = None,
        margin: float | Mapping[str, float] | None = None,
    ) -> SweepRanking:
        """Do as `rank`."""
        from promptlab.sdk.sweeps import SweepRanking

        sweep_id = sweep if isinstance(sweep, str) else sweep.sweep_id
        return SweepRanking(await self._lab.rank(sweep_id, metric=metric, margins=margins_of(margin)))

    def sweeps(self, *, limit: int = 50) -> Sequence[Sweep]:
        """List the sweeps, newest first."""
        return run_sync(self.sweeps_async(limit=limit))

    async def sweeps_async(self, *, limit: int = 50) -> Sequence[Sweep]:
        """Do as `sweeps`."""
        return await self._lab.list_sweeps(limit=limit)
