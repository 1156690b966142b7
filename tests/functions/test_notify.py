"""Notify: what the account, a topic's subscribers and a webhook hear of a run's end."""

from __future__ import annotations

import uuid
from typing import Any

import boto3
import orjson
import pytest

from functions import notify, runtime
from promptlab.webhooks import PAUSES_S, WEBHOOK
from tests import aws
from tests.aws_faults import QuickClock
from tests.functions.conftest import Context, Machine
from tests.functions.test_jobs import CONFIG


def change(run_id: str, generation: int = 0, status: str = "SUCCEEDED") -> dict[str, Any]:
    """As EventBridge tells of an execution."""
    return {"detail": {"name": f"{run_id}-{generation}", "status": status}}


@pytest.fixture
def heard(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Queues that get the events of the bus, and the messages of the topic."""
    clients = {
        name: boto3.client(name, region_name=aws.REGION, endpoint_url=aws.moto_url())
        for name in ("sns", "sqs", "events")
    }
    name = uuid.uuid4().hex
    topic = clients["sns"].create_topic(Name=name)["TopicArn"]
    queues = {}
    for kind in ("sns", "events"):
        url = clients["sqs"].create_queue(QueueName=f"{name}-{kind}")["QueueUrl"]
        found = clients["sqs"].get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        queues[kind] = (url, found["Attributes"]["QueueArn"])
    clients["sns"].subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queues["sns"][1])
    pattern = orjson.dumps({"source": ["promptlab"]}).decode()
    clients["events"].put_rule(Name=name, EventPattern=pattern)
    clients["events"].put_targets(Rule=name, Targets=[{"Id": "q", "Arn": queues["events"][1]}])
    monkeypatch.setenv("PROMPTLAB_RUNS_TOPIC", topic)

    def messages(kind: str) -> list[dict[str, Any]]:
        got = clients["sqs"].receive_message(QueueUrl=queues[kind][0], MaxNumberOfMessages=10)
        return [orjson.loads(message["Body"]) for message in got.get("Messages", [])]

    yield messages
    clients["events"].remove_targets(Rule=name, Ids=["q"])
    clients["events"].delete_rule(Name=name)
    for client in clients.values():
        client.close()


def test_the_end_of_a_run_is_an_event_and_a_message(machine: Machine, heard: Any) -> None:
    """With its numbers, and how it ended."""
    run = machine.start(CONFIG)
    machine.execute(run.run_id)
    assert notify.handler(change(run.run_id), Context()) == {"webhook": True}
    (event,) = heard("events")
    assert (event["source"], event["detail-type"]) == ("promptlab", "Run Ended")
    assert (event["detail"]["run_id"], event["detail"]["status"]) == (run.run_id, "completed")
    assert event["detail"]["cases"] == 7
    (message,) = heard("sns")
    assert orjson.loads(message["Message"])["run_id"] == run.run_id
    assert message["MessageAttributes"]["status"]["Value"] == "completed"


def test_an_end_that_is_not_recorded_yet_is_told_later(machine: Machine, heard: Any) -> None:
    """The event is tried again; news of an earlier pass, and of a deleted run, are nobody's."""
    run = machine.start(CONFIG)
    with pytest.raises(RuntimeError, match="not recorded yet"):
        notify.handler(change(run.run_id), Context())
    runtime.run(machine.lab.ledger.update_run(run.run_id, {"status": "failed", "generation": 1}))
    assert notify.handler(change(run.run_id), Context()) == {"webhook": True}
    assert notify.handler(change("none"), Context()) == {"webhook": True}
    assert notify.handler({"detail": {"name": "by-hand", "status": "FAILED"}}, Context()) == {}
    assert heard("events") == [] and heard("sns") == []


def test_a_webhook_is_told_too(machine: Machine, heard: Any) -> None:
    """What became of it is recorded with the run."""
    runtime.lab().clock = QuickClock()
    run = machine.start(CONFIG)
    machine.execute(run.run_id)
    value = {"url": "https://127.0.0.1:9/x", "secret": "s", "deliveries": []}
    runtime.run(machine.lab.records.put_record(WEBHOOK, run.run_id, value))
    assert notify.handler(change(run.run_id), Context()) == {"webhook": False}
    found = runtime.run(machine.lab.records.get_record(WEBHOOK, run.run_id)) or {}
    tried = [(one["attempt"], one["status"]) for one in found["deliveries"]]
    assert tried == [(n, None) for n in range(1, len(PAUSES_S) + 2)]
    assert "9" in found["deliveries"][0]["error"]
