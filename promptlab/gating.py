"""Judges a run by its gates, over a lab's store, and records the outcome."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from promptlab.domain.decided import decided_json, decided_words
from promptlab.domain.experiment import Experiment
from promptlab.domain.made_of import resting_on
from promptlab.domain.records import GATE
from promptlab.domain.results import FINAL, RunRecord
from promptlab.domain.summary import Summary
from promptlab.errors import ConfigError, RunError
from promptlab.gates.config import Check, Gates, default_gates, gates_of
from promptlab.gates.facts import facts_of, numbers
from promptlab.gates.judging import GateInputs, judged
from promptlab.gates.outcome import CheckOutcome, GateOutcome, overall
from promptlab.ports import Clock, Ledger
from promptlab.run_labels import RunLabels, run_named


class Certifying(Protocol):
    """What knows which judges are certified."""

    async def uncertified(self, run: RunRecord, names: Iterable[str]) -> dict[str, str]:
        """Say why the judges of some metrics are not certified."""


class Measuring(Protocol):
    """What of a lab a gate needs."""

    ledger: Ledger
    clock: Clock

    @property
    def labels(self) -> Certifying:
        """What knows which judges are certified."""

    async def get_run(self, run_id: str) -> RunRecord:
        """Read one run."""

    async def gated(self, run: RunRecord, base: RunRecord | None, gates: Gates) -> GateInputs:
        """Measure what the checks look at."""


async def gate(
    lab: Measuring, run: RunRecord, baseline: str | None = None, gates: Gates | None = None
) -> GateOutcome:
    """Judge a run, and record what came of it.

    Args:
        lab: where runs are.
        run: the run, ended.
        baseline: a label of its experiment, or a run's id; by default the one that the gates name.
        gates: the checks; by default those that the run was started with, else that no metric is worse.

    Raises:
        RunNotFoundError: there is no such baseline.
        LabelNotFoundError: the experiment has no such label.
        RunError: a run has not ended, or has no results.
        ConfigError: a check needs a baseline and none is named, or names what there is not.
    """
    if run.status not in FINAL:
        raise RunError(f"Run {run.run_id} is {run.status}: it can be judged once it has ended.")
    experiment = Experiment.model_validate(run.experiment)
    metrics = [metric.name for metric in experiment.evaluation]
    checks = gates or (gates_of(run.gates) if run.gates else default_gates(metrics) if metrics else None)
    if checks is None:
        raise ConfigError(f"Run {run.run_id} has no metrics and no gates: say what it must keep to.")
    checks.check_names([*metrics, *experiment.scores_of_run])
    base, label = await _baseline(lab, run, baseline or checks.baseline)
    if base is None and checks.compares:
        raise ConfigError(
            f"The gates of {run.name!r} compare with a baseline: name one (--baseline RUN|LABEL, or "
            "baseline: "
            f"in the gates). `promptlab label RUN production` labels a run."
        )
    measured = await lab.gated(run, base, checks)
    outcomes = [
        *_ended(run),
        *await _judges(lab, run, checks, experiment),
        *judged(checks, measured, facts_of(run), facts_of(base) if base else None),
    ]
    found = GateOutcome(
        run_id=run.run_id,
        name=run.name,
        outcome=overall(outcomes),
        checks=tuple(outcomes),
        baseline=base.run_id if base else None,
        baseline_label=label,
        quarantined=measured.quarantined,
        at=lab.clock.now(),
        commit=run.commit,
        facts=numbers(facts_of(run)),
    )
    await lab.ledger.put_record(GATE, run.run_id, found.to_json())
    return found


async def _judges(
    lab: Measuring, run: RunRecord, checks: Gates, experiment: Experiment
) -> list[CheckOutcome]:
    """A check of its own for each judge that a check rests on, also through a metric that is made of its
    scores, and that nobody certified; none where the gates allow that."""
    if checks.uncertified_judges == "allow":
        return []
    metrics = (*experiment.evaluation, *experiment.run_evaluation)
    names = checks.metrics_of([name for metric in metrics for name in metric.result_names])
    found = await lab.labels.uncertified(run, resting_on(names, metrics))
    remedy = (
        f"label cases and run `promptlab judge check METRIC {run.run_id}`, or say uncertified_judges: allow "
        "in the gates"
    )
    return [
        CheckOutcome(
            check=f"the judge of {name} is certified",
            kind="judge",
            outcome="undecided",
            said=f"{why}; {remedy.replace('METRIC', name)}",
            metric=name,
        )
        for name, why in found.items()
    ]


def _ended(run: RunRecord) -> list[CheckOutcome]:
    """A check of its own for a run that did not come to its end, or ended early; none for a whole one."""
    if run.status == "completed":
        return []
    if run.status == "decided":
        facts = decided_json(run, Summary.from_json(run.summary) if run.summary else None)
        check = Check(require="failed == 0", name="the run ended early, decided")
        said = " ".join(decided_words(facts)[:2])
        return [CheckOutcome(check=check.title, kind="run", outcome="passed", said=said)]
    said = f"the run is {run.status.replace('_', ' ')}" + (f": {run.error}" if run.error else "")
    check = Check(require="failed == 0", name="the run is complete")
    outcome = "failed" if run.status == "failed" else "undecided"
    return [CheckOutcome(check=check.title, kind="run", outcome=outcome, said=said)]  # type: ignore[arg-type]


async def _baseline(lab: Measuring, run: RunRecord, named: str | None) -> tuple[RunRecord | None, str | None]:
    """The run that a label or an id names, and the label."""
    if named is None:
        return None, None
    run_id, known = await run_named(RunLabels(lab.ledger), lab.ledger, run.name, named)
    found = await lab.get_run(run_id)
    if found.run_id == run.run_id:
        raise ConfigError(f"Run {run.run_id} is its own baseline ({named}): hold it against another run.")
    return found, known
