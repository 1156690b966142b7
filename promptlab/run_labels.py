"""Labels on runs, such as `production`: the baselines of an experiment, one run each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from promptlab.domain.names import checked_label
from promptlab.domain.records import RUN_LABELS, Swap
from promptlab.errors import ConfigError, LabelMovedError, LabelNotFoundError, RunError
from promptlab.ports import Ledger, Records

MOST_LABELS = 50
"""Labels of one experiment: all of them are one record, which every list of its runs reads."""
_TRIES = 20
"""How often a change is tried again that somebody else's was faster than."""
ANY: Final[Any] = object()
"""In place of a run: whichever the label points at."""


class RunLabels:
    """The labels of the experiments of one store. Each record has all of one experiment's, so that a label
    moves at once, and never points at two runs."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def of(self, name: str) -> dict[str, str]:
        """Read the labels of an experiment, each with the id of its run."""
        found = await self._records.get_record(RUN_LABELS, name)
        return _labels(found)

    async def move(self, name: str, label: str, run_id: str, *, was: str | None = ANY) -> None:
        """Point a label at a run; it leaves the one that it pointed at before.

        Args:
            name: the experiment.
            label: the label.
            run_id: the run.
            was: the run that it must point at until now, None for none; without, whichever it does.

        Raises:
            ConfigError: the label cannot be used, or the experiment has too many.
            LabelMovedError: it points at another run than `was`; nothing is changed.
        """
        await self._change(name, checked_label(label), run_id, was)

    async def remove(self, name: str, label: str, *, was: str | None = ANY) -> None:
        """Remove a label; its run stays.

        Raises:
            LabelNotFoundError: there is no such label.
            LabelMovedError: it points at another run than `was`; nothing is changed.
        """
        await self._change(name, label, None, was)

    async def forget(self, name: str, run_id: str) -> None:
        """Remove the labels that point at a run, which is being deleted."""
        for label, found in (await self.of(name)).items():
            if found == run_id:
                await self._change(name, label, None, ANY, missing_is_fine=True)

    async def _change(
        self, name: str, label: str, run_id: str | None, was: str | None, *, missing_is_fine: bool = False
    ) -> None:
        for _ in range(_TRIES):
            record = await self._records.get_record(RUN_LABELS, name)
            labels = _labels(record)
            if run_id is None and label not in labels:
                if missing_is_fine:
                    return
                raise LabelNotFoundError(f"The experiment {name!r} has no label {label!r}.{_others(labels)}")
            if was is not ANY and labels.get(label) != was:
                raise LabelMovedError(f"The label {label!r} of {name!r} {_points_at(labels.get(label))}.")
            if labels.get(label) == run_id:
                return
            now = {k: v for k, v in labels.items() if k != label} | ({label: run_id} if run_id else {})
            if len(now) > MOST_LABELS:
                raise ConfigError(
                    f"The experiment {name!r} has {MOST_LABELS} labels, which is the most: remove one first."
                )
            change = Swap(RUN_LABELS, name, record, {"labels": now} if now else None)
            if await self._records.swap_records([change]):
                return
        raise RunError(f"The labels of {name!r} are changed by others all the time: try again.")


def labels_at(labels: Mapping[str, str], run_id: str) -> tuple[str, ...]:
    """Name the labels that point at a run, sorted."""
    return tuple(sorted(label for label, found in labels.items() if found == run_id))


def _labels(record: Mapping[str, Any] | None) -> dict[str, str]:
    found = (record or {}).get("labels")
    if not isinstance(found, Mapping):
        return {}
    return {label: run_id for label, run_id in found.items() if isinstance(run_id, str)}


def _points_at(run_id: str | None) -> str:
    return f"points at run {run_id} by now" if run_id else "points at no run by now"


def _others(labels: Mapping[str, str]) -> str:
    return f" It has {', '.join(sorted(labels))}." if labels else " It has none."


async def run_named(labels: RunLabels, ledger: Ledger, name: str, named: str) -> tuple[str, str | None]:
    """Find the run that a label of an experiment or an id names.

    Args:
        labels: the labels of the store's runs.
        ledger: where runs are.
        name: the experiment.
        named: a label, one of another experiment (`NAME@LABEL`), or a run's id.

    Returns:
        The run's id, and the label if it is one.

    Raises:
        LabelNotFoundError: there is neither such a label nor such a run.
    """
    of, label = named.rpartition("@")[::2] if "@" in named else (name, named)
    known = await labels.of(of)
    if label in known:
        return known[label], label
    found = await ledger.get_run(named)
    if found is None or found.deleting_since:
        raise no_such_label(of, label, known)
    return named, None


def no_such_label(name: str, label: str, labels: Mapping[str, str]) -> LabelNotFoundError:
    """Make the error for a label that an experiment does not have."""
    return LabelNotFoundError(
        f"The experiment {name!r} has no run labelled {label!r}.{_others(labels)} "
        f"`promptlab label RUN {label}` sets it."
    )
