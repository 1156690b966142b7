"""What was deleted in the cloud is removed by a function of its own, with every older version of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from functions import runtime, tidy
from promptlab import Dataset
from promptlab.domain.results import RunRecord
from promptlab.errors import RunNotFoundError
from promptlab.store_lab import StoreLab
from promptlab.wiring import open_cloud
from tests import aws
from tests.functions.conftest import Context, Elsewhere, Machine
from tests.functions.test_steps import experiment, right
from tests.servers import ModelServer


class Calls:
    """A Tidier that counts how often it is asked to begin."""

    def __init__(self) -> None:
        self.begun = 0

    async def begin(self) -> None:
        self.begun += 1

    async def close(self) -> None:
        """There is nothing to close."""


class Idle(Elsewhere):
    """A Runner whose runs nobody works on."""

    async def is_active(self, run: RunRecord) -> bool:
        return False


@pytest.fixture
def studio(machine: Machine) -> tuple[StoreLab, Calls]:
    """The Studio's lab, which marks and does not remove."""
    calls = Calls()
    client = aws._client("s3")
    bucket = runtime.config().bucket
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return StoreLab(replace(open_cloud(runtime.config()), runner=Idle(), tidier=calls)), calls


def objects(prefix: str) -> list[str]:
    """The keys of all versions of all objects."""
    found: dict[str, Any] = aws._client("s3").list_object_versions(
        Bucket=runtime.config().bucket, Prefix=prefix
    )
    return [one["Key"] for one in (*found.get("Versions", ()), *found.get("DeleteMarkers", ()))]


def items(run_id: str) -> list[str]:
    """The partition keys of the table that have a run's id in them."""
    table = aws.bare_table(runtime.config().table)
    found, page = list[str](), table.scan()
    while True:
        found += [item["pk"] for item in page["Items"] if run_id in f"{item['pk']} {item['sk']}"]
        if "LastEvaluatedKey" not in page:
            return found
        page = table.scan(ExclusiveStartKey=page["LastEvaluatedKey"])


def test_the_studio_marks_and_tidy_removes(machine: Machine, studio: tuple[StoreLab, Calls]) -> None:
    """Nobody sees the run from then on; afterwards no item and no version of an object is left but the
    record of it."""
    lab, calls = studio
    with ModelServer(right) as server:
        run = machine.start(experiment(server))
        assert machine.execute(run.run_id) == {"status": "completed"}
    assert len(items(run.run_id)) > 120 and len(objects(f"runs/{run.run_id}/")) > 5
    assert runtime.run(lab.delete_run(run.run_id, by="person:7")) is False
    assert calls.begun == 1
    with pytest.raises(RunNotFoundError):
        runtime.run(lab.get_run(run.run_id))
    assert len(objects(f"runs/{run.run_id}/")) > 5
    assert tidy.handler({}, Context(remaining_s=10)) == {"deletions": 0}
    assert tidy.handler({}, Context()) == {"deletions": 1}
    assert objects(f"runs/{run.run_id}/") == []
    assert items(run.run_id) == ["RECORDS#DELETED"]
    assert tidy.handler({}, Context()) == {"deletions": 0}
    runtime.run(lab.close())


def test_rows_of_a_deleted_version_go_with_their_older_versions(
    machine: Machine, studio: tuple[StoreLab, Calls]
) -> None:
    """The version is gone at once, its rows with the next call of Tidy."""
    lab, calls = studio
    for text in ("a", "b"):
        runtime.run(lab.assets.create(Dataset(name="birds", rows=[{"q": text}])))
    (key,) = {key for key in objects("datasets/") if "index" not in key} - {
        runtime.run(lab.assets.get("birds")).content.blob  # type: ignore[union-attr]
    }
    runtime.run(lab.blobs.put(key, b"written again"))
    runtime.run(lab.assets.delete("birds", version=0))
    assert [v.version for v in runtime.run(lab.assets.versions("birds"))] == [1]
    assert calls.begun == 1 and objects(key) == [key, key]
    assert tidy.handler({}, Context()) == {"deletions": 1}
    assert objects(key) == [] and len(objects("datasets/")) == 2
    runtime.run(lab.close())


def test_a_worker_of_a_run_that_is_deleted_records_nothing_more(
    machine: Machine, studio: tuple[StoreLab, Calls]
) -> None:
    """Its invocation fails as for a run that is not there, and nothing of it comes back."""
    lab, _ = studio
    with ModelServer(right) as server:
        run = machine.start(experiment(server))
        runtime.run(lab.cancel(run.run_id))
        runtime.run(lab.delete_run(run.run_id))
        with pytest.raises(RunNotFoundError):
            machine.execute(run.run_id)
        assert tidy.handler({}, Context()) == {"deletions": 1}
        assert server.requests == []
    assert items(run.run_id) == ["RECORDS#DELETED"]
    runtime.run(lab.close())
