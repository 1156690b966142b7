"""A store that an older version made opens, shows its runs, goes on with them and exports them."""

from __future__ import annotations

import base64
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from promptlab import PromptLab
from promptlab.adapters.aws.dynamodb_ledger import DynamoDBLedger
from promptlab.adapters.local.file_blobs import FileBlobs
from promptlab.domain.assets import content_hash
from promptlab.domain.experiment import Experiment
from promptlab.domain.summary import Summary
from promptlab.store_lab import StoreLab as Lab
from tests import aws

STORES = sorted(Path(__file__).parents[1].joinpath("data").glob("store-*.tar.xz"))
FINISHED, STOPPED = "20261125-221634-f5e407", "20261125-221636-131ea3"


@pytest.fixture(params=STORES, ids=lambda path: path.name.partition(".")[0])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The folder of an old store."""
    with tarfile.open(request.param) as packed:
        packed.extractall(tmp_path, filter="data")
    return tmp_path


async def test_an_old_store_shows_its_runs_and_assets(old: Path) -> None:
    """With their summaries, failed cases, labels and tags."""
    lab = Lab.open({"db_file": str(old / "lab.db")})
    runs, _ = await lab.list_runs()
    assert [(r.run_id, r.status, r.tags) for r in runs] == [
        (STOPPED, "interrupted", ()),
        (FINISHED, "completed", ("old", "small")),
    ]
    summary = await lab.summary(FINISHED)
    assert (summary.cases, summary.failed, summary.errors) == (120, 30, {"server_error": 30})
    assert summary.metrics["exact_match"].mean == 0.8
    assert (await lab.progress(STOPPED)).done == 55
    for recorded in (run.experiment for run in runs):
        # Else it would not be known any more as the experiment that it is.
        again = Experiment.model_validate(recorded).model_copy(update={"hash": ""})
        assert content_hash(again.to_json()) == recorded["hash"]
    versions = await lab.ledger.list_versions("prompt_template", "solve")
    assert [(v.version, v.labels) for v in versions] == [(0, ("production",)), (1, ())]
    rows = [row async for row in lab.results(FINISHED)]
    assert len(rows) == 120 and sum(row["error_type"] == "server_error" for row in rows) == 30
    assert rows[0]["input.note"] == "säuberlich"
    await lab.close()


def test_an_old_run_goes_on_and_is_exported(old: Path, tmp_path: Path) -> None:
    """Its answers are kept; its failed cases can be done again."""
    with PromptLab({"db_file": str(old / "lab.db")}) as pl:
        run = pl.experiment.resume(STOPPED)
        assert (run.status, run.summary.cases, run.summary.attempts) == ("completed", 60, 60)
        run.export(tmp_path / "out.jsonl")
        lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        assert [line["case"] for line in lines] == list(range(60))
        again = pl.experiment.resume(FINISHED, failed=True)
        assert again.status == "completed" and again.summary.cases == 120


def unpacked(value: dict[str, Any]) -> Any:
    """An attribute's value as boto3's resource takes it."""
    ((kind, content),) = value.items()
    return base64.b64decode(content) if kind == "B" else int(content) if kind == "N" else content


async def test_an_old_table_shows_its_runs(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The items of an older DynamoDB table; the table's version is recorded with the next run."""
    aws.credentials(monkeypatch)
    name = aws.new_table()
    with aws.bare_table(name).batch_writer() as batch:
        for item in json.loads((old / "dynamodb.json").read_text()):
            batch.put_item(Item={key: unpacked(value) for key, value in item.items()})
    ledger = DynamoDBLedger(name, FileBlobs(old / "no.blobs"), session=aws.session())
    runs, _ = await ledger.list_runs()
    assert [(r.run_id, r.status) for r in runs] == [(STOPPED, "interrupted"), (FINISHED, "completed")]
    assert Summary.from_json(runs[1].summary or {}).failed == 30
    failed = [c for shard in (0, 1) for c in await ledger.get_completions(FINISHED, shard) if c.error]
    assert len(failed) == (await ledger.progress(FINISHED)).failed == 30
    scores = [s for shard in (0, 1) for s in await ledger.get_scores(FINISHED, shard)]
    assert len(scores) == 90 and all(set(s.scores) == {"exact_match", "length"} for s in scores)
    shards = [shard.number async for shard in ledger.shards(FINISHED)]
    assert shards == [0, 1]
    [solve] = [a for a in await ledger.list_assets("prompt_template") if a.name == "solve"]
    assert solve.version == 1 and await ledger.get_label("prompt_template", "solve", "production") == 0
    assert await ledger.update_run(STOPPED, {"status": "running"}, if_status={"interrupted"})
    await ledger.close()
