"""Puts a case into a new version of its dataset, with the answer that was right."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response

from promptlab.assets.rows import row_id
from promptlab.domain.assets import Dataset, DatasetContent
from promptlab.domain.experiment import Experiment
from promptlab.errors import ConfigError, PromptLabError
from promptlab.store_lab import StoreLab
from promptlab_studio.access import lab_of, needs
from promptlab_studio.forms import fields_of
from promptlab_studio.pages.case import case_key
from promptlab_studio.pages.rendering import go_to, router
from promptlab_studio.views.cases import case_path

MOST_ROWS, MOST_BYTES = 20_000, 20_000_000
"""Of a dataset that a page writes anew; a larger one is for a script."""

routes = router()


@routes.post("/runs/{run_id}/cases/{key}/correct", dependencies=[needs("run")])
async def correct(request: Request, run_id: str, key: str) -> Response:
    """Make a version of the dataset in which the case's row has a right answer."""
    lab, fields, (case, trial) = lab_of(request), await fields_of(request), case_key(key)
    column, value = (fields.get(name, [""])[-1] for name in ("column", "value"))
    here = case_path(run_id, case, trial)
    try:
        if not column.strip() or len(column) > 300:
            raise ConfigError("Name the column that has the right answer.")
        if not value.strip():
            raise ConfigError("Give the right answer.")
        experiment = Experiment.model_validate((await lab.get_run(run_id)).experiment)
        made = await _corrected(lab, experiment, case, column.strip(), value.strip())
    except PromptLabError as error:
        return go_to(here, str(error), "problem")
    return go_to(here, f"{made.name}@{made.version} has the row with this {column.strip()}.")


async def _corrected(lab: StoreLab, experiment: Experiment, case: int, column: str, value: str) -> Dataset:
    """The latest version with the row of the run's; where it has no such row any more, it is added.

    Raises:
        ConfigError: the dataset is too large for a page.
    """
    ref = experiment.dataset
    record = await lab.assets.record(ref.name, kind="dataset", version=ref.version)
    latest = await lab.assets.get(ref.name, kind="dataset")
    newest = await lab.assets.record(ref.name, kind="dataset")
    assert record is not None and newest is not None and isinstance(latest, Dataset)
    before, content = (DatasetContent.from_json(one.content) for one in (record, newest))
    if content.rows > MOST_ROWS or content.bytes > MOST_BYTES:
        raise ConfigError(
            f"{ref.name} has {content.rows:,} rows and {content.bytes:,} bytes; a page writes {MOST_ROWS:,} "
            f"and {MOST_BYTES:,} at most. Correct it in a script: pl.asset.create(Dataset(…))."
        )
    if content.media is not None:
        raise ConfigError(f"{ref.name} has media, which a page does not copy: correct it in a script.")
    asset = await lab.assets.get(ref.name, version=ref.version, kind="dataset")
    assert isinstance(asset, Dataset)
    (row,) = await lab.assets.rows(asset, case, 1)
    name, rows = row_id(row, before, case), await _rows(lab, latest, content.rows)
    at = next((n for n, one in enumerate(rows) if row_id(one, content, n) == name), None)
    # Rows without ids are known by their number, which may be another's by now.
    if content.id_column is None and at is not None and rows[at] != row and column not in rows[at]:
        at = None
    typed = _like(row.get(column), value)
    if at is None:
        rows.append({**row, column: typed})
    else:
        rows[at] = {**rows[at], column: typed}
    made = await lab.assets.create(
        Dataset(name=ref.name, description=latest.description, rows=rows, id_column=content.id_column)
    )
    assert isinstance(made, Dataset)
    return made


async def _rows(lab: StoreLab, dataset: Dataset, total: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    while len(rows) < total:
        page = await lab.assets.rows(dataset, len(rows), 500)
        if not page:
            break
        rows += page
    return rows


def _like(before: Any, value: str) -> Any:
    """The value as the column has it: a number stays a number."""
    for kind in (int, float):
        if isinstance(before, kind) and not isinstance(before, bool):
            try:
                return kind(value)
            except ValueError:
                return value
    return value
