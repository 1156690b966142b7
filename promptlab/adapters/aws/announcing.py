"""Announces the end of a run to whoever in the account listens: on the default bus, and on a topic of SNS."""

from __future__ import annotations

from promptlab.adapters.aws.session import AwsSession

SOURCE, DETAIL_TYPE = "promptlab", "Run Ended"
MOST_BYTES = 200_000
"""An event, and a message, have at most 256 KB."""


async def announce(
    body: bytes, *, topic: str | None, run_id: str, status: str, session: AwsSession | None = None
) -> None:
    """Put the event, and publish the message where there is a topic.

    Args:
        body: the news, as JSON.
        topic: the topic's ARN.
        run_id: the run.
        status: how it ended; subscriptions filter by it.
        session: the account and its region.
    """
    text = body.decode()
    if len(body) > MOST_BYTES:
        text = f'{{"type":"run.ended","run_id":"{run_id}","status":"{status}","cut":true}}'
    session = session or AwsSession()
    events = session.clients("events")
    try:
        client = await events.get()
        answer = await client.put_events(
            Entries=[{"Source": SOURCE, "DetailType": DETAIL_TYPE, "Detail": text, "Resources": []}]
        )
        if answer.get("FailedEntryCount"):
            raise RuntimeError(f"EventBridge did not take the event: {answer['Entries']}")
    finally:
        await events.aclose()
    if topic is None:
        return
    topics = session.clients("sns")
    try:
        client = await topics.get()
        attribute = {"status": {"DataType": "String", "StringValue": status}}
        await client.publish(
            TopicArn=topic, Subject=f"Run {run_id}: {status}"[:100], Message=text, MessageAttributes=attribute
        )
    finally:
        await topics.aclose()
