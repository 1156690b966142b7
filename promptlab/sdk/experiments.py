"""The SDK's experiments: `PromptLab().experiment`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptlab.experiments.config import ExperimentConfig
from promptlab.experiments.matrix import SweepConfig
from promptlab.experiments.rescoring import Metrics
from promptlab.gates import Gates, gates_of
from promptlab.sdk.questions import RunQuestions
from promptlab.sdk.records import id_of
from promptlab.sdk.run import Config, OnProgress, Run, SweepChoice, resume, run, score
from promptlab.sync import run_sync

if TYPE_CHECKING:
    from promptlab.sdk.gate import Gate
    from promptlab.sdk.sweeps import SweepRanking


class Experiments(RunQuestions):
    """Runs."""

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

    def sweep(
        self, config: SweepChoice, *, max_cost_usd: float | None = None, quiet: bool | None = None
    ) -> SweepRanking:
        """Run every cell of a matrix to its end, then rank the runs. What is done already is not done again.

        Args:
            config: an experiment with a `matrix`, as in `{"model.temperature": [0, 0.7]}`, or with lists of
                models or prompt templates.
            max_cost_usd: the dollars that all runs may cost together.
            quiet: as in `run`.

        Raises:
            PromptLabError: a cell is wrong; nothing was stored or called.
            KeyboardInterrupt: Ctrl-C; the same call goes on with it, and so does `resume_sweep`.
        """
        parsed = _sweep_within(config, max_cost_usd)
        return run_sync(self.sweep_async(parsed, quiet=quiet))

    async def sweep_async(
        self, config: SweepChoice, *, max_cost_usd: float | None = None, quiet: bool | None = None
    ) -> SweepRanking:
        """Do as `sweep`."""
        from promptlab.sdk.sweeps import SweepRanking, run_sweep

        parsed = _sweep_within(config, max_cost_usd)
        return SweepRanking(await run_sweep(self._lab, parsed, quiet=self._is_quiet(quiet)))

    def resume_sweep(
        self, sweep_id: str, *, max_cost_usd: float | None = None, quiet: bool | None = None
    ) -> SweepRanking:
        """Go on with a sweep from what is recorded of it, to its end, then rank its runs: those that have not
        begun, and what others are missing. Complete ones are left as they are.

        Args:
            sweep_id: the sweep.
            max_cost_usd: other dollars that all runs may cost together.
            quiet: as in `run`.

        Raises:
            SweepNotFoundError: there is no such sweep.
            ConfigError: the budget is no sum of dollars above 0.
            KeyboardInterrupt: Ctrl-C; the same call goes on with it.
        """
        return run_sync(self.resume_sweep_async(sweep_id, max_cost_usd=max_cost_usd, quiet=quiet))

    async def resume_sweep_async(
        self, sweep_id: str, *, max_cost_usd: float | None = None, quiet: bool | None = None
    ) -> SweepRanking:
        """Do as `resume_sweep`."""
        from promptlab.sdk.sweeps import SweepRanking, go_on_with

        ranking = await go_on_with(
            self._lab, sweep_id, max_cost_usd=max_cost_usd, quiet=self._is_quiet(quiet)
        )
        return SweepRanking(ranking)

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
        from promptlab.sdk.gate import Gate

        checks = None if gates is None else gates_of(gates)
        if not isinstance(run, Run | str):
            run = await self.run_async(run, quiet=quiet)
        against = None if baseline is None else id_of(baseline)
        return Gate(await self._lab.gate(id_of(run), baseline=against, gates=checks))


def _sweep_within(config: SweepChoice, max_cost_usd: float | None) -> SweepConfig:
    parsed = SweepConfig.parse(config)
    return parsed.over([cell.config.within(max_cost_usd) for cell in parsed.cells])
