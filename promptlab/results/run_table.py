"""The source of one run's results table, and the one place that reads its rows from the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from promptlab.assets.rows import read_rows
from promptlab.domain.assets import DatasetContent, Shard
from promptlab.domain.experiment import Experiment, Metric, RunMetricSpec
from promptlab.domain.results import CaseKey, RunRecord
from promptlab.errors import AssetNotFoundError
from promptlab.ports import Blobs, Ledger
from promptlab.results.table import Case, Columns, columns, input_row, table_row


@dataclass(frozen=True, slots=True)
class RunTable:
    """A run with what its table is made from: its dataset, its metrics, and the stores that hold both."""

    ledger: Ledger
    blobs: Blobs
    run: RunRecord
    content: DatasetContent
    metrics: Sequence[Metric]
    of_run: Sequence[RunMetricSpec] = ()
    """Those of the run as a whole."""

    @classmethod
    async def open(cls, ledger: Ledger, blobs: Blobs, run: RunRecord) -> RunTable:
        """Find the dataset and the metrics of a run.

        Raises:
            AssetNotFoundError: the store has the run's dataset no more.
        """
        experiment = Experiment.model_validate(run.experiment)
        ref = experiment.dataset
        found = await ledger.get_asset("dataset", ref.name, ref.version)
        if found is None:
            raise AssetNotFoundError(
                f"Run {run.run_id} is over the dataset {ref.name!r}, version {ref.version}, which the store "
                "does not have any more."
            )
        content = DatasetContent.from_json(found.content)
        return cls(ledger, blobs, run, content, experiment.evaluation, experiment.run_evaluation)

    @property
    def columns(self) -> Columns:
        """The table's columns."""
        return columns(self.content, self.metrics, self.of_run)

    @property
    def trials(self) -> int:
        """How often each dataset row is asked."""
        return int(self.run.experiment.get("trials", 1))

    async def answered(self, shard: Shard, inputs: Sequence[dict[str, Any]] | None = None) -> list[Case]:
        """Read a shard's cases that have a completion from the ledger, by case and trial.

        Args:
            shard: the shard.
            inputs: its dataset rows, where the caller has them; else they are read.

        Raises:
            BlobNotFoundError: the dataset's rows are gone.
        """
        completions = await self.ledger.get_completions(self.run.run_id, shard.number)
        if not completions:
            return []
        rows = inputs if inputs is not None else await read_rows(self.blobs, self.content, shard)
        scores = {s.key: s for s in await self.ledger.get_scores(self.run.run_id, shard.number)}
        return [Case(rows[c.case - shard.first], c, scores.get(c.key)) for c in completions]

    def row(self, case: Case) -> dict[str, Any]:
        """Make a row of the table; a column without a value is left out."""
        return table_row(self.content, self.metrics, case)

    def input_row(self, source: Mapping[str, Any], key: CaseKey) -> dict[str, Any]:
        """Make what is known of a row before its case is answered."""
        return input_row(self.content, self.metrics, source, key)
