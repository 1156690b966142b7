"""Rights of the functions on the paths that came with answers of messages: media, turns, caches, budgets,
limits, batches, scoring again."""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Any

import pytest

from functions import jobs, runtime, tidy
from promptlab import Dataset, PromptTemplate
from promptlab.adapters.aws.secrets_manager import SecretsManagerSecrets
from promptlab.domain.secrets import Secret
from promptlab.jobs import Jobs
from tests import aws
from tests.batch_server import BatchServer
from tests.cloud.test_roles import Handed, Watched, allowed, machine  # noqa: F401 - a fixture
from tests.servers import ModelServer

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 40
DATA = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
OTHER = f"data:image/png;base64,{base64.b64encode(PNG + b'1').decode()}"
LOOK = PromptTemplate(
    name="look",
    messages=[
        {"role": "user", "content": [{"type": "text", "text": "<q>"}, {"type": "image", "column": "photo"}]}
    ],
)


def work(machine: Watched, server: ModelServer, batches: BatchServer) -> None:  # noqa: F811
    """Media, judged; a conversation whose worker's time ends; a batch; scoring again; deletion."""
    model: dict[str, Any] = {
        "name": "openai/gpt-4o-mini",
        "endpoint": server.openai_url,
        "api_key_secret": "OPENAI",
    }
    prices = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
    model |= prices
    judge = {
        "metric": "criteria",
        "params": {"criterion": "is it good?"},
        "judge": [{**model, "name": "openai/gpt-4o"}],
    }
    photos = {
        "name": "photos",
        "dataset": Dataset(
            name="photos",
            rows=[{"q": f"What is {n}?", "photo": DATA, "said": ["a", "b", "c"]} for n in range(8)],
            media={"photo": "image"},
        ),
        "prompt_template": LOOK,
        "model": {**model, "requests_per_minute": 6_000, "tokens_per_minute": 900_000},
        "cache": True,
        "max_cost_usd": 5.0,
        "evaluation": [{"metric": "length"}, judge],
    }
    for part in (machine, machine.of("team")):
        run = part.start(photos)
        assert part.execute(run.run_id) == {"status": "completed"}
        again = part.start({**photos, "name": "from the cache"})
        assert part.execute(again.run_id) == {"status": "completed"}
        more = runtime.run(
            part.lab.start_score(
                run.run_id, [{"metric": "exact_match", "column_mapping": {"reference": "q"}}]
            )
        )
        assert part.execute(more.run_id, more.generation) == {"status": "completed"}
    del photos["cache"]
    talk = {**photos, "name": "talk", "conversation": {"user_turns": "$said"}, "max_cost_usd": None}
    run = machine.start(talk)
    times = machine.invocations.count("infer")
    machine.remaining_s = lambda time: 10.5 if time == times + 1 else 900
    assert machine.execute(run.run_id) == {"status": "completed"}
    night = {
        **photos,
        "name": "night",
        "dataset": Dataset(name="numbers", rows=[{"q": str(n)} for n in range(9)]),
        "prompt_template": PromptTemplate(name="ask", user_prompt="<q>"),
        "model": {
            "name": "anthropic/claude-3-haiku-20240307",
            "endpoint": batches.url,
            "batch": True,
            **prices,
        },
        "evaluation": [{"metric": "length"}],
    }
    run = machine.start(night)
    assert machine.execute(run.run_id) == {"status": "completed"}
    night |= {
        "dataset": Dataset(name="many numbers", rows=[{"q": str(n)} for n in range(100)]),
        "model": {"name": "bedrock/amazon.nova-lite-v1:0", "batch": True, "max_tokens": 9},
    }
    for part in (machine, machine.of("team")):
        run = part.start(night)
        assert part.execute(run.run_id) == {"status": "completed"}
    # A zip's or a file's media are made by a job.
    key = f"uploads/{'1' * 32}/rows.jsonl"
    runtime.run(machine.lab.blobs.put(key, b'{"q": 1, "photo": "%s"}\n' % OTHER.encode()))
    handed = Jobs(machine.lab, Handed())
    args = {"name": "uploaded photos", "upload": key, "media": {"photo": "image"}}
    job = runtime.run(handed.submit("ingest", args))
    assert machine._invoke(jobs, {"job_id": job.id})["status"] == "done", runtime.run(handed.get(job.id))
    sha256 = hashlib.sha256(PNG).hexdigest()
    assert runtime.run(machine.lab.blobs.get(f"media/{sha256}")) == PNG  # as the page of a case shows it
    runtime.run(machine.lab.assets.delete("uploaded photos", version=0, kind="dataset"))
    machine._invoke(tidy, {})


@pytest.mark.long
def test_every_request_on_these_paths_is_allowed(
    machine: Watched,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Action, table key and object key."""
    assert machine.watch is not None
    secrets = SecretsManagerSecrets(os.environ["PROMPTLAB_SECRETS_PREFIX"])
    s3 = aws._client("s3")
    with ModelServer(lambda request: "4") as server, BatchServer(lambda _: "it is", s3=s3) as batches:
        for name, value in {
            "PROMPTLAB_BATCH_S3_URI": f"s3://{os.environ['PROMPTLAB_BUCKET']}",
            "PROMPTLAB_BATCH_ROLE_ARN": "arn:aws:iam::123456789012:role/batches",
            "AWS_ENDPOINT_URL_BEDROCK": batches.url,
        }.items():
            monkeypatch.setenv(name, value)
        machine.watch.function = "nobody"
        for keys in (secrets, secrets.for_project("team")):
            runtime.run(keys.put("OPENAI", Secret("sk-0123456789", (server.url,))))
        runtime.run(secrets.close())
        machine.watch.function = "studio"
        work(machine, server, batches)
    asked = {a for a in machine.watch.asked if a.function != "nobody"}
    assert {"media"} <= {a.on.partition("/")[0] for a in asked if a.action.startswith("s3:")}
    refused = "\n".join(sorted(str(a) for a in asked if not allowed(a)))
    assert not refused, refused
