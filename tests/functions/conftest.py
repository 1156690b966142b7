"""The functions' handlers against moto's server, driven by a state machine of this file's own."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import pytest

from functions import evaluate, fail, infer, plan, runtime, summarize
from promptlab.adapters.aws.s3_blobs import S3Blobs
from promptlab.domain.results import RunRecord
from promptlab.store_lab import StoreLab
from promptlab.wiring import open_cloud
from tests import aws


@dataclass
class Context:
    """As Lambda gives it to a handler."""

    remaining_s: float = 900
    function_name: str = "test"
    memory_limit_in_mb: int = 512
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:000000000000:function:test"
    aws_request_id: str = "00000000-0000-0000-0000-000000000000"

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda ends the invocation."""
        return int(self.remaining_s * 1000)


class Elsewhere:
    """A Runner whose executions this file's machine does by hand."""

    @asynccontextmanager
    async def claimed(self, run_id: str) -> AsyncIterator[None]:
        yield

    async def hand_over(self, run: RunRecord) -> bool:
        return True

    async def run(
        self, run: RunRecord, work: Any, on_progress: Any = None, *, leave: bool = False
    ) -> RunRecord:
        raise AssertionError("the run was handed over")

    async def is_active(self, run: RunRecord) -> bool:
        return True

    async def cancel(self, run: RunRecord) -> None:
        """There is nothing to stop."""

    async def close(self) -> None:
        """There is nothing to close."""


@dataclass
class Machine:
    """Calls the handlers as infra/experiment.asl.json does, one shard after another."""

    lab: StoreLab
    waits: list[float] = field(default_factory=list)
    invocations: list[str] = field(default_factory=list)
    remaining_s: Callable[[int], float] = lambda _: 900
    on_wait: Callable[[float], None] = lambda _: None
    """Called in place of each wait, which takes no time here."""
    project: str | None = None
    """What executions name; None: nothing, as an older version's."""

    def of(self, project: str) -> Machine:
        """The machine at work for a project."""
        return replace(self, lab=self.lab.for_project(project), project=project)

    def start(self, config: dict[str, Any]) -> RunRecord:
        """Record a run, as the API does."""
        return runtime.run(self.lab.start(config))

    def _invoke(self, module: Any, event: dict[str, Any]) -> dict[str, Any]:
        name = module.__name__.rpartition(".")[2]
        self.invocations.append(name)
        # Events and answers travel as JSON.
        answer = module.handler(
            orjson.loads(orjson.dumps(event)), Context(self.remaining_s(self.invocations.count(name)))
        )
        found: dict[str, Any] = orjson.loads(orjson.dumps(answer))
        return found

    def execute(self, run_id: str, generation: int = 0) -> dict[str, Any]:
        """One execution, from Plan to Summarize."""
        base: dict[str, Any] = {"run_id": run_id, "generation": generation}
        base |= {"project": self.project} if self.project else {}
        planned = self._invoke(plan, base)
        while planned["shards"]:
            while planned["batch"]:
                if self._finished(self._invoke(infer, base)):
                    break
            for line in self.manifest(planned["manifest"]):
                self._shard({**base, "functions": planned["functions"], "shard": line})
            if not planned["more"]:
                break
            further = {"done": planned["rows"], "functions": planned["functions"]}
            planned = self._invoke(plan, {**base, **further})
        return self._invoke(summarize, base)

    def manifest(self, key: str) -> list[dict[str, Any]]:
        """The lines of a manifest, whose key is the bucket's."""
        whole = S3Blobs(runtime.config().bucket)
        lines = runtime.run(whole.get(key)).splitlines()
        runtime.run(whole.close())
        return [orjson.loads(line) for line in lines]

    def _shard(self, event: dict[str, Any]) -> None:
        try:
            while True:
                if not self._finished(self._invoke(infer, event)):
                    continue
                if self._finished(self._invoke(evaluate, event)):
                    return
        except Exception as error:  # noqa: BLE001 - as the machine's Catch
            self._invoke(fail, {**event, "error": {"Error": type(error).__name__, "Cause": str(error)}})

    def _finished(self, outcome: dict[str, Any]) -> bool:
        if outcome["remaining"]:
            self.waits.append(outcome["wait_s"])
            self.on_wait(outcome["wait_s"])
        return not outcome["remaining"]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A stack: a table, a bucket and the functions' environment."""
    aws.credentials(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.moto_url())
    for name, value in {
        "TABLE": aws.new_table(),
        "BUCKET": aws.new_bucket(),
        "SECRETS_PREFIX": f"{uuid.uuid4().hex}/keys/",
        "MAX_CONCURRENCY": "7",
        "ALLOWED_ADDRESSES": "127.0.0.0/8",
    }.items():
        monkeypatch.setenv(f"PROMPTLAB_{name}", value)
    monkeypatch.setenv("AWS_REGION", aws.REGION)
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "PromptLab")
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "test")
    for kept in (runtime.config, runtime.lab, runtime.worker, plan.versions):
        kept.cache_clear()
    lab = StoreLab(replace(open_cloud(runtime.config()), runner=Elsewhere()))
    yield Machine(lab)
    runtime.run(lab.close())
    runtime.run(runtime.worker().close())
