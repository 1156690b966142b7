"""The steps on Lambda: the same answers as on a laptop, through any fault."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from functions import evaluate, infer, plan, runtime
from promptlab import Dataset, PromptLab, PromptTemplate
from promptlab.clock import SystemClock
from promptlab.domain.results import Completion
from promptlab.domain.secrets import Secret
from promptlab.domain.summary import Summary
from promptlab.engine.job import Outcome
from promptlab.engine.plan import read_manifest
from promptlab.store_lab import StoreLab
from promptlab.wiring import open_cloud
from promptlab.worker import LEASE, LEASE_S, Worker
from tests import aws
from tests.functions.conftest import Context, Elsewhere, Machine
from tests.servers import PATIENCE_S, ModelServer, Reply, Request

ROWS = [{"question": f"What is {n}?", "answer": f"it is {n}" if n % 4 else "unknown"} for n in range(120)]


def right(request: Request) -> str:
    """The answer to a question."""
    return f"it is {request.prompt.split()[-1].rstrip('?')}"


def experiment(server: ModelServer, **changes: Any) -> dict[str, Any]:
    return {
        "name": "quiz",
        "dataset": Dataset(name="questions", rows=ROWS),
        "prompt_template": PromptTemplate(name="ask", user_prompt="<question>"),
        "model": {"name": "openai/mini", "endpoint": server.openai_url, "max_concurrent_tasks": 100},
        "evaluation": [
            {"metric": "exact_match", "column_mapping": {"reference": "answer"}},
            {"metric": "length"},
        ],
        **changes,
    }


def table(lab: Any, run_id: str) -> list[dict[str, Any]]:
    """A run's rows, without what differs between any two runs."""

    async def rows() -> list[dict[str, Any]]:
        return [alike(row) async for row in lab.results(run_id)]

    return runtime.run(rows())


def alike(row: dict[str, Any]) -> dict[str, Any]:
    """A row without what differs between any two runs."""
    tries = [
        {k: v for k, v in one.items() if k not in ("started_at", "duration_ms")} for one in row["tries"] or ()
    ]
    return {k: v for k, v in row.items() if k != "latency_ms"} | {"tries": tries}


def test_a_run_in_the_cloud_is_the_run_on_the_laptop(machine: Machine, tmp_path: Path) -> None:
    """Case by case, and in its summary; parts and results are in the bucket."""
    with ModelServer(right) as server:
        server.script(Reply(status=400, text="no"), prompt="What is 7?")
        run = machine.start(experiment(server))
        assert machine.execute(run.run_id) == {"status": "completed"}
        assert len(server.requests) == len(ROWS)
        there = runtime.run(machine.lab.get_run(run.run_id))
        assert there.beat_at is not None
        with PromptLab({"type": "sqlite", "db_file": str(tmp_path / "lab.db")}) as pl:
            server.script(Reply(status=400, text="no"), prompt="What is 7?")
            here = pl.experiment.run(experiment(server))
            rows = [alike(row) for row in here.results()]
    assert machine.invocations == ["plan", *["infer", "evaluate"] * 3, "summarize"]
    assert table(machine.lab, run.run_id) == rows
    cloud, local = dict(there.summary or {}), dict(here.record.summary or {})
    assert {k: v for k, v in cloud.items() if k != "latency_ms"} == {
        k: v for k, v in local.items() if k != "latency_ms"
    }
    keys = runtime.run(machine.lab.blobs.keys(f"runs/{run.run_id}/"))
    assert [k for k in keys if "/parts/" in k] == [
        f"runs/{run.run_id}/parts/{n:06}.jsonl.gz" for n in range(3)
    ]
    assert f"runs/{run.run_id}/results.parquet" in keys


def test_the_map_is_as_wide_as_the_model_allows(machine: Machine) -> None:
    """Workers times calls in a worker keep to max_concurrent_tasks, and to the stack's bound."""
    with ModelServer(right) as server:
        widths = []
        for tasks in (10, 50, 200, 5000):
            config = experiment(
                server,
                model={"name": "openai/mini", "endpoint": server.openai_url, "max_concurrent_tasks": tasks},
            )
            run = machine.start(config)
            widths.append(plan.handler({"run_id": run.run_id, "generation": 0}, Context())["max_concurrency"])
    assert widths == [1, 1, 4, 7]


def test_no_more_workers_begin_than_a_known_rate_keeps_busy(machine: Machine) -> None:
    """A worker that waits for permits is paid for: at 600 requests a minute and 30 s an answer six of 50
    calls are busy."""
    with ModelServer(right) as server:
        widths = []
        for a_minute in (30, 600, 100_000):
            model = {"name": "openai/mini", "endpoint": server.openai_url, "max_concurrent_tasks": 5000}
            run = machine.start(experiment(server, model={**model, "requests_per_minute": a_minute}))
            widths.append(plan.handler({"run_id": run.run_id, "generation": 0}, Context())["max_concurrency"])
    assert widths == [1, 6, 7]


def test_a_worker_that_runs_out_of_time_comes_back_for_the_rest(machine: Machine) -> None:
    """Nothing is asked twice, and no call starts when time is short."""
    machine.remaining_s = lambda time: 5 if time == 1 else 900
    with ModelServer(right) as server:
        run = machine.start(experiment(server))
        assert machine.execute(run.run_id) == {"status": "completed"}
        assert machine.invocations[:3] == ["plan", "infer", "infer"]
        assert len(server.requests) == len(ROWS)


def test_a_long_pause_is_left_to_the_state_machine(machine: Machine) -> None:
    """A provider that asks for 30 s is waited for by a Wait state; the answered cases stay answered."""
    with ModelServer(right) as server:
        server.script(Reply(status=429, headers={"Retry-After": "30"}), prompt="What is 7?")
        run = machine.start(experiment(server))
        assert machine.execute(run.run_id) == {"status": "completed"}
        assert len(server.requests) == len(ROWS) + 1
    assert len(machine.waits) == 1
    assert machine.waits[0] in (31, 30)


@pytest.mark.parametrize(("status", "calls"), [(500, 6), (429, 31)])
@pytest.mark.long
def test_a_provider_that_stays_ill_is_asked_as_often_as_from_a_laptop(
    machine: Machine, status: int, calls: int
) -> None:
    """However many invocations share the tries of a case: they are counted on, in the record too."""
    config = {"timeout_s": 5, "max_retries": 5, "max_concurrent_tasks": 100}
    with ModelServer(right) as server:
        ill = Reply(status=status, headers={"Retry-After": "30"})
        server.script(*[ill] * 100, prompt="What is 7?")
        server.script(*[ill] * 3, Reply(text="it is 8"), prompt="What is 8?")
        model = {"name": "openai/mini", "endpoint": server.openai_url, **config}
        run = machine.start(experiment(server, model=model))
        assert machine.execute(run.run_id) == {"status": "completed"}
        asked = Counter(request.prompt for request in server.requests)
    rows = {row["case"]: row for row in table(machine.lab, run.run_id)}
    assert (asked["What is 7?"], rows[7]["attempts"], rows[7]["response"]) == (calls, calls, None)
    assert (asked["What is 8?"], rows[8]["attempts"], rows[8]["response"]) == (4, 4, "it is 8")
    kept = [*range(1, 11), *range(calls - 9, calls + 1)] if calls > 20 else [*range(1, calls + 1)]
    assert [one["number"] for one in rows[7]["tries"]] == kept
    assert [one["status"] for one in rows[8]["tries"]] == [status] * 3 + [None]
    assert rows[9]["tries"] == []
    assert len(server.requests) == len(ROWS) - 2 + calls + 4


@pytest.mark.long
def test_waits_of_all_invocations_together_are_bounded(machine: Machine) -> None:
    """Half an hour a case, as on a laptop: here 300 s are asked for each time."""
    with ModelServer(right) as server:
        server.script(*[Reply(status=429, headers={"Retry-After": "299"})] * 100, prompt="What is 7?")
        run = machine.start(experiment(server))
        machine.execute(run.run_id)
        asked = Counter(request.prompt for request in server.requests)
    (row,) = [row for row in table(machine.lab, run.run_id) if row["case"] == 7]
    assert 6 <= asked["What is 7?"] <= 8
    assert "1800 s in all" in row["error_message"]
    assert sum(machine.waits) <= 1800


def test_an_invocation_delivered_twice_pays_for_nothing_twice(machine: Machine) -> None:
    """The second Infer and Evaluate of a shard find everything done."""
    with ModelServer(right) as server:
        run = machine.start(experiment(server))
        machine.execute(run.run_id)
        (line, *_) = machine.manifest(f"runs/{run.run_id}/manifest-0.jsonl")
        event = {"run_id": run.run_id, "generation": 0, "shard": line}
        assert infer.handler(event, Context()) == {"remaining": 0, "wait_s": 0}
        assert len(server.requests) == len(ROWS)


def test_two_invocations_at_once_share_no_shard(machine: Machine) -> None:
    """The one that comes second, while the first works, asks nothing and says when to come again."""
    with ModelServer(lambda request: Reply(hang=True)) as server:
        run = machine.start(
            experiment(
                server,
                model={"name": "openai/mini", "endpoint": server.openai_url, "max_concurrent_tasks": 10},
            )
        )
        planned = plan.handler({"run_id": run.run_id, "generation": 0}, Context())
        shard = runtime.ManifestLine.model_validate(machine.manifest(planned["manifest"])[0]).shards()[0]

        async def twice() -> tuple[Outcome, Outcome]:
            first, second = Worker(runtime.lab()), Worker(runtime.lab())
            working = asyncio.create_task(first.infer(run.run_id, 0, shard, 900))
            await asyncio.to_thread(server.wait_for_requests, 10)
            came_late, _ = await second.infer(run.run_id, 0, shard, 900)
            assert len(server.requests) == 10
            server.release()
            done, _ = await working
            for worker in (first, second):
                for _, bindings in worker._bound.values():
                    await bindings.aclose()
            return done, came_late

        assert runtime.run(twice()) == (Outcome(), Outcome(remaining=50, wait_s=LEASE_S))
        assert len(server.requests) == 50


def test_a_shard_whose_worker_was_killed_is_free_again_once_its_lease_is_over(machine: Machine) -> None:
    """Until then others wait; nothing of it is lost."""
    with ModelServer(right) as server:
        run = machine.start(experiment(server))
        planned = plan.handler({"run_id": run.run_id, "generation": 0}, Context())
        event = {"run_id": run.run_id, "generation": 0, "shard": machine.manifest(planned["manifest"])[0]}
        lease = {"owner": "the one that was killed"}
        runtime.run(
            machine.lab.ledger.put_record(LEASE, f"{run.run_id}#0", lease, expires_at=time.time() + 3600)
        )
        assert infer.handler(event, Context()) == {"remaining": 50, "wait_s": LEASE_S}
        runtime.run(
            machine.lab.ledger.put_record(LEASE, f"{run.run_id}#0", lease, expires_at=time.time() - 1)
        )
        assert infer.handler(event, Context()) == {"remaining": 0, "wait_s": 0}
        assert len(server.requests) == 50


@pytest.mark.long
def test_a_shard_that_cannot_be_finished_fails_the_run_and_only_that(machine: Machine) -> None:
    """Its fault is in the ledger, the other shards are kept, and a resume does only what is missing."""
    with ModelServer(right) as server:
        run = machine.start(experiment(server))
        blob = run.experiment["dataset"]["hash"]
        key = f"datasets/{blob}.jsonl"
        data = runtime.run(machine.lab.blobs.get(key))
        runtime.run(machine.lab.blobs.put(key, data[: len(data) // 2]))
        assert machine.execute(run.run_id) == {"status": "failed"}
        failed = runtime.run(machine.lab.get_run(run.run_id))
        assert failed.status == "failed"
        assert "of 120 cases are in shards that could not be finished" in str(failed.error)
        asked = len(server.requests)
        assert 0 < asked < len(ROWS)

        runtime.run(machine.lab.blobs.put(key, data))
        again = runtime.run(machine.lab.start_resume(run.run_id))
        assert machine.execute(run.run_id, again.generation) == {"status": "completed"}
        assert len(server.requests) == len(ROWS)
    assert len(table(machine.lab, run.run_id)) == len(ROWS)


def test_failed_cases_done_again_leave_a_good_run_and_one_index(machine: Machine) -> None:
    """The index of the pass before is forgotten, at the end; that it cannot be is no fault of the run."""
    with ModelServer(right) as server:
        server.script(Reply(status=400, text="no"), Reply(status=400, text="no"), prompt="What is 7?")
        run = machine.start(experiment(server))
        machine.execute(run.run_id)
        for generation, index in ((1, {1}), (2, {1, 2})):
            again = runtime.run(machine.lab.start_resume(run.run_id, failed=True))
            assert again.generation == generation
            if generation == 2:
                worker = runtime.worker()._lab.blobs
                worker.delete = _denied  # type: ignore[method-assign]
            assert machine.execute(run.run_id, generation) == {"status": "completed"}
            keys = runtime.run(machine.lab.blobs.keys(f"runs/{run.run_id}/index-"))
            assert {int(key.rpartition("/")[2].split("-")[1]) for key in keys} == index
        assert not Summary.from_json(
            (runtime.run(machine.lab.get_run(run.run_id)).summary) or {}
        ).has_failures


async def _denied(key: str) -> None:
    raise PermissionError(f"AccessDenied: s3:DeleteObject on {key}")


def test_a_key_comes_from_its_secret_and_is_stored_nowhere(machine: Machine) -> None:
    """A model names its secret; the key is sent, and is not in the ledger's record."""
    from promptlab.adapters.aws.secrets_manager import SecretsManagerSecrets

    secrets = SecretsManagerSecrets(runtime.config().secrets_prefix)
    with ModelServer(right) as server:
        runtime.run(secrets.put("OPENAI", Secret("sk-very-secret-0123456789", (server.url,))))
        run = machine.start(
            experiment(
                server,
                model={"name": "openai/mini", "endpoint": server.openai_url, "api_key_secret": "OPENAI"},
            )
        )
        assert machine.execute(run.run_id) == {"status": "completed"}
        assert {r.headers["authorization"] for r in server.requests} == {"Bearer sk-very-secret-0123456789"}
    assert "sk-very" not in str(runtime.run(machine.lab.get_run(run.run_id)))
    runtime.run(secrets.close())


@pytest.mark.parametrize(
    ("status", "recorded", "words"),
    [("ABORTED", "cancelled", "was stopped"), ("TIMED_OUT", "failed", "longer than it may")],
)
def test_an_execution_that_ends_by_itself_is_recorded(
    machine: Machine, status: str, recorded: str, words: str
) -> None:
    """As EventBridge tells it; a run that has ended already keeps its status."""
    from functions import ended

    with ModelServer(right) as server:
        run = machine.start(experiment(server))
        ended.handler({"detail": {"name": f"{run.run_id}-0", "status": status}}, Context())
        seen = runtime.run(machine.lab.get_run(run.run_id))
        assert (seen.status, words in str(seen.error)) == (recorded, True)
        ended.handler({"detail": {"name": f"{run.run_id}-0", "status": "FAILED"}}, Context())
        assert runtime.run(machine.lab.get_run(run.run_id)).status == recorded


def test_a_cancelled_run_is_worked_on_no_more(machine: Machine) -> None:
    """A shard that still comes after the cancellation asks nothing."""
    with ModelServer(right) as server:
        run = machine.start(experiment(server))
        runtime.run(machine.lab.cancel(run.run_id))
        machine.execute(run.run_id)
        assert server.requests == []
    assert runtime.run(machine.lab.get_run(run.run_id)).status == "cancelled"


class Impatient(SystemClock):
    """A clock on which waits are short."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0.01)


async def test_a_cancellation_reaches_a_worker_that_is_under_way(machine: Machine) -> None:
    """Stopping the state machine does not stop a function: the worker looks by itself, and
    starts no further call."""
    lab = StoreLab(replace(open_cloud(runtime.config()), runner=Elsewhere(), clock=Impatient()))
    with ModelServer(lambda request: Reply(hang=True)) as server:
        run = await lab.start(
            experiment(
                server,
                model={"name": "openai/mini", "endpoint": server.openai_url, "max_concurrent_tasks": 4},
            )
        )
        worker = Worker(lab)
        await worker.plan(run.run_id, 0)
        shard = await anext(read_manifest(lab.blobs, f"runs/{run.run_id}/manifest-0.jsonl"))
        step = asyncio.create_task(worker.infer(run.run_id, 0, shard, 900))
        await asyncio.to_thread(server.wait_for_requests, 4)
        await lab.cancel(run.run_id)
        while any(task.get_name() == f"watch {run.run_id}#0" for task in asyncio.all_tasks()):
            await asyncio.sleep(0.01)
        server.release()
        outcome, tally = await step
        assert (outcome.remaining, tally.cases, len(server.requests)) == (46, 4, 4)
        assert (await worker.infer(run.run_id, 0, shard, 900))[0].remaining == 0
        assert len(server.requests) == 4
        await worker.close()


def test_an_execution_that_comes_late_leaves_the_resumed_run_alone(machine: Machine) -> None:
    """Its steps find nothing to do, and its end is not the run's."""
    from functions import ended

    with ModelServer(right) as server:
        run = machine.start(experiment(server))
        runtime.run(machine.lab.cancel(run.run_id))
        runtime.run(machine.lab.ledger.update_run(run.run_id, {"status": "running", "generation": 1}))
        machine.execute(run.run_id, 0)
        ended.handler({"detail": {"name": f"{run.run_id}-0", "status": "ABORTED"}}, Context())
        assert server.requests == []
        assert runtime.run(machine.lab.get_run(run.run_id)).status == "running"
        assert machine.execute(run.run_id, 1) == {"status": "completed"}


async def test_a_worker_whose_lease_was_taken_over_starts_no_further_call(machine: Machine) -> None:
    """It was slow to renew it, and the shard is another's: two would pay for the same answers."""
    lab = StoreLab(replace(open_cloud(runtime.config()), runner=Elsewhere(), clock=Impatient()))
    with ModelServer(lambda request: Reply(hang=True)) as server:
        run = await lab.start(
            experiment(
                server,
                model={"name": "openai/mini", "endpoint": server.openai_url, "max_concurrent_tasks": 4},
            )
        )
        worker, name = Worker(lab), f"{run.run_id}#0"
        await worker.plan(run.run_id, 0)
        shard = await anext(read_manifest(lab.blobs, f"runs/{run.run_id}/manifest-0.jsonl"))
        step = asyncio.create_task(worker.infer(run.run_id, 0, shard, 900))
        await asyncio.to_thread(server.wait_for_requests, 4)
        while any(task.get_name() == f"watch {name}" for task in asyncio.all_tasks()):
            # It may renew its own in the same moment.
            await lab.ledger.put_record(LEASE, name, {"owner": "another"}, expires_at=time.time() + 3600)
            await asyncio.sleep(0.01)
        server.release()
        outcome, tally = await step
        assert (outcome.remaining, tally.cases, len(server.requests)) == (46, 4, 4)
        lease = await lab.ledger.get_record(LEASE, name)
        assert lease == {"owner": "another"}, "it is not ours to give back"
        await worker.close()


async def test_a_worker_renews_its_lease_while_it_waits_for_answers(machine: Machine) -> None:
    """A slow provider is no reason for a second worker to begin with the same shard."""
    lab = StoreLab(replace(open_cloud(runtime.config()), runner=Elsewhere(), clock=Impatient()))
    with ModelServer(lambda request: Reply(hang=True)) as server:
        run = await lab.start(experiment(server))
        worker, name = Worker(lab), f"{run.run_id}#0"
        await worker.plan(run.run_id, 0)
        shard = await anext(read_manifest(lab.blobs, f"runs/{run.run_id}/manifest-0.jsonl"))
        step = asyncio.create_task(worker.infer(run.run_id, 0, shard, 900))
        await asyncio.to_thread(server.wait_for_requests, 50)
        mine = await lab.ledger.get_record(LEASE, name)
        assert mine is not None
        # As it is shortly before its end: a moment later it would be anybody's.
        await lab.ledger.put_record(LEASE, name, mine, expires_at=time.time() + 2)
        table, key = aws.bare_table(runtime.config().table), {"pk": f"{LEASE}#{name}", "sk": "META"}
        async with asyncio.timeout(60):
            while True:
                item = (await asyncio.to_thread(table.get_item, Key=key)).get("Item", {})
                if float(item.get("ends_at", 0)) > time.time() + 3:
                    break
                await asyncio.sleep(0.05)
        server.release()
        outcome, tally = await step
        assert (outcome.remaining, tally.cases) == (0, 50)
        await worker.close()


def test_a_worker_whose_time_is_over_scores_no_further_and_another_goes_on(machine: Machine) -> None:
    """The embeddings that were paid for are kept; a shard is summed up once all of it is scored."""
    with ModelServer(right) as server:
        url = server.openai_url
        metric = {"metric": "semantic_similarity", "column_mapping": {"reference": "answer"}}
        run = machine.start(
            experiment(server, evaluation=[metric], embedding_model={"name": "openai/embed", "endpoint": url})
        )
        planned = plan.handler({"run_id": run.run_id, "generation": 0}, Context())
        event = {"run_id": run.run_id, "generation": 0, "shard": machine.manifest(planned["manifest"])[0]}
        infer.handler(event, Context())
        calls = len(server.requests)
        assert evaluate.handler(event, Context(remaining_s=5)) == {"remaining": 50, "wait_s": 0}
        assert len(server.requests) == calls
        assert evaluate.handler(event, Context()) == {"remaining": 0, "wait_s": 0}
        assert len(server.requests) == calls + 50
        assert evaluate.handler(event, Context()) == {"remaining": 0, "wait_s": 0}
        assert len(server.requests) == calls + 50


def test_the_numbers_of_an_invocation_are_counted(
    machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    """As CloudWatch reads them from the log: cases, failures, how often the provider said to slow down."""
    with ModelServer(right) as server:
        for prompt in ("What is 3?", "What is 5?"):
            server.script(Reply(status=429, headers={"retry-after": "0"}), prompt=prompt)
        server.script(Reply(status=400, text="no"), prompt="What is 7?")
        run = machine.start(experiment(server))
        assert machine.execute(run.run_id) == {"status": "completed"}
    logged = [json.loads(line) for line in capfd.readouterr().out.splitlines() if '"_aws"' in line]
    sums = Counter[str]()
    for line in logged:
        sums.update({name: sum(line[name]) for name in ("Cases", "Failures", "Throttles") if name in line})
    assert sums == {"Cases": len(ROWS), "Failures": 1, "Throttles": 2}


def test_a_shard_is_not_summed_up_before_all_of_it_is_answered(machine: Machine) -> None:
    """The step says how many are left, and scores none."""
    with ModelServer(right) as server:
        run = machine.start(experiment(server))
        planned = plan.handler({"run_id": run.run_id, "generation": 0}, Context())
        event = {"run_id": run.run_id, "generation": 0, "shard": machine.manifest(planned["manifest"])[0]}
        assert evaluate.handler(event, Context()) == {"remaining": 50, "wait_s": 0}
        answered = [Completion(shard=0, case=case, trial=0, response="x") for case in range(20)]
        runtime.run(machine.lab.ledger.put_completions(run.run_id, answered))
        assert evaluate.handler(event, Context()) == {"remaining": 30, "wait_s": 0}
        assert runtime.run(machine.lab.ledger.get_scores(run.run_id, 0)) == []


WRONG_KEY = Reply(status=401, body={"error": {"message": "Incorrect API key provided"}})


def test_a_wrong_key_costs_the_calls_of_the_first_worker_and_stops_the_run(machine: Machine) -> None:
    """With the provider's words; a resume does all of it, the refused cases too."""
    with ModelServer(lambda request: WRONG_KEY) as server:
        run = machine.start(experiment(server))
        assert machine.execute(run.run_id) == {"status": "stopped"}
        assert 20 <= len(server.requests) <= 50
        stopped = runtime.run(machine.lab.get_run(run.run_id))
        assert "Incorrect API key provided" in (stopped.error or "")
        assert (stopped.summary, stopped.finished_at is not None) == (None, True)
        server.answer, asked = right, len(server.requests)
        again = runtime.run(machine.lab.start_resume(run.run_id))
        assert machine.execute(run.run_id, again.generation) == {"status": "completed"}
        assert len(server.requests) == asked + len(ROWS)


@pytest.mark.parametrize("is_wrong", [True, False])
def test_of_the_workers_that_a_run_begins_with_one_goes_first(machine: Machine, is_wrong: bool) -> None:
    """The others wait for the first answer: of a wrong key nobody else learns by a call of its own."""
    with ModelServer(lambda request: WRONG_KEY if is_wrong else right(request)) as server:
        model = {"name": "openai/mini", "endpoint": server.openai_url, "max_concurrent_tasks": 500}
        run = machine.start(experiment(server, model=model))
        plan.handler({"run_id": run.run_id, "generation": 0}, Context())

        async def together() -> list[Outcome]:
            manifest = f"runs/{run.run_id}/manifest-0.jsonl"
            shards = [shard async for shard in read_manifest(machine.lab.blobs, manifest)]
            # However busy the machine is.
            workers = [Worker(machine.lab, probe_wait_s=PATIENCE_S) for _ in shards]
            steps = [w.infer(run.run_id, 0, s, 900) for w, s in zip(workers, shards, strict=True)]
            found = await asyncio.gather(*steps)
            for worker in workers:
                for _, bindings in worker._bound.values():
                    await bindings.aclose()
            return [outcome for outcome, _ in found]

        assert runtime.run(together()) == [Outcome()] * 3
        now = runtime.run(machine.lab.get_run(run.run_id))
        assert (now.status, now.proven) == (("stopped", -1) if is_wrong else ("running", 0))
        assert len(server.requests) <= 50 if is_wrong else len(server.requests) == len(ROWS)


@pytest.mark.parametrize("is_wrong", [True, False])
def test_of_the_workers_that_begin_to_judge_one_goes_first(machine: Machine, is_wrong: bool) -> None:
    """A judge's wrong key costs the calls of that one; the run is stopped, with the judge's words."""

    def answer(request: Request) -> Reply | str:
        if request.json["model"] == "mini":
            return right(request)
        return WRONG_KEY if is_wrong else json.dumps({"reasoning": "so", "label": "yes"})

    with ModelServer(answer) as server:
        at = {"endpoint": server.openai_url, "max_concurrent_tasks": 500}
        judge = {"name": "openai/judge", **at}
        metric = {"metric": "rubric", "params": {"criterion": "It is right."}, "judge": judge}
        config = experiment(server, model={"name": "openai/mini", **at}, evaluation=[metric])
        run = machine.start(config)
        plan.handler({"run_id": run.run_id, "generation": 0}, Context())

        async def together() -> list[Outcome]:
            manifest = f"runs/{run.run_id}/manifest-0.jsonl"
            shards = [shard async for shard in read_manifest(machine.lab.blobs, manifest)]
            workers = [Worker(machine.lab, probe_wait_s=PATIENCE_S) for _ in shards]
            pairs = list(zip(workers, shards, strict=True))
            await asyncio.gather(*(w.infer(run.run_id, 0, s, 900) for w, s in pairs))
            found = await asyncio.gather(*(w.evaluate(run.run_id, 0, s, 900) for w, s in pairs))
            for worker in workers:
                for _, bindings in worker._bound.values():
                    await bindings.aclose()
            return found

        assert runtime.run(together()) == [Outcome()] * 3
        now = runtime.run(machine.lab.get_run(run.run_id))
        judged = sum(request.json["model"] == "judge" for request in server.requests)
        assert now.status == ("stopped" if is_wrong else "running")
        assert ("Incorrect API key provided" in (now.error or "")) is is_wrong
        assert judged <= 50 if is_wrong else judged == len(ROWS)


def test_failures_of_all_workers_together_count_for_max_failures(machine: Machine) -> None:
    """Each alone has fewer than the bound."""
    with ModelServer(right) as server:
        for n in range(0, 120, 10):
            server.script(Reply(status=400, text="no"), prompt=f"What is {n}?")
        run = machine.start(experiment(server, max_failures=7))
        assert machine.execute(run.run_id) == {"status": "stopped"}
        assert len(server.requests) == 100
        stopped = runtime.run(machine.lab.get_run(run.run_id))
        assert "10 of 120 cases failed, and max_failures allows 7" in (stopped.error or "")


def test_an_outage_is_waited_out_by_the_state_machine_and_asked_about_by_one_worker(
    machine: Machine,
) -> None:
    """The first worker finds it; the next one makes no call before its time, and then goes on."""
    with ModelServer(lambda request: Reply(status=503)) as server:
        model = {"name": "openai/mini", "endpoint": server.openai_url, "max_concurrent_tasks": 10}
        run = machine.start(experiment(server, model=model))
        plan.handler({"run_id": run.run_id, "generation": 0}, Context())

        async def steps() -> tuple[list[Outcome], list[int]]:
            manifest = f"runs/{run.run_id}/manifest-0.jsonl"
            shards = [shard async for shard in read_manifest(machine.lab.blobs, manifest)]
            worker = Worker(machine.lab, first_pause_s=500)  # however busy the machine is
            found, asked = list[Outcome](), list[int]()
            for number in (0, 1, 0):
                if number == len(found) - 2:  # the last time: the provider is back, and the wait is over
                    server.answer = right
                    now = await machine.lab.get_run(run.run_id)
                    assert now.outage is not None
                    past = {**now.outage, "ask_at": 0}
                    await machine.lab.ledger.update_run(run.run_id, {"outage": past})
                found.append((await worker.infer(run.run_id, 0, shards[number], 900))[0])
                asked.append(len(server.requests))
            for _, bindings in worker._bound.values():
                await bindings.aclose()
            return found, asked

        (first, second, third), asked = runtime.run(steps())
        assert (first.remaining, second.remaining, third) == (50, 50, Outcome())
        assert first.wait_s > 200 and 0 < second.wait_s <= 500
        assert asked[0] == asked[1] <= 25 and asked[2] == asked[0] + 50
        now = runtime.run(machine.lab.get_run(run.run_id))
        assert (now.status, now.outage) == ("running", None)
