"""A plain case, one text asked and one answered, takes what it took before answers were messages: what a row
costs in the table is what most of a run's infrastructure costs."""

from __future__ import annotations

import base64
import json
from collections import Counter
from typing import Any

from functions import runtime
from promptlab import Dataset, PromptTemplate
from tests import aws
from tests.functions.conftest import Machine
from tests.meter import item_bytes
from tests.servers import ModelServer

ITEMS = {"C": 60, "S": 2, "P": 2, "SHARD": 2, "META": 1}
"""Items of a run of 60 rows in two shards, as counted with this very run before answers were messages."""
CASE_BYTES, SCORES_BYTES = 179, 246


def test_a_plain_case_is_one_small_item(machine: Machine) -> None:
    """The same items, the same attributes, and not a byte more but for the digits of a time."""
    with ModelServer(lambda request: "it is 4") as server:
        run = machine.start(
            {
                "name": "quiz",
                "dataset": Dataset(
                    name="d", rows=[{"question": f"What is {n:04}?", "answer": "it is 4"} for n in range(60)]
                ),
                "prompt_template": PromptTemplate(name="ask", user_prompt="<question>"),
                "model": {"name": "openai/mini", "endpoint": server.openai_url},
                "evaluation": [
                    {"metric": "exact_match", "column_mapping": {"reference": "answer"}},
                    {"metric": "length"},
                ],
            }
        )
        assert machine.execute(run.run_id) == {"status": "completed"}
    items = [
        item
        for item in aws.bare_table(runtime.config().table).scan()["Items"]
        if item["pk"].startswith(f"RUN#{run.run_id}")
    ]
    assert Counter(item["sk"].partition("#")[0] for item in items) == ITEMS
    for item in items:
        if item["sk"].startswith("C#"):
            assert item.keys() == {"pk", "sk", "n", "b"}
            body = json.loads(item["b"])
            assert body.keys() == {"response", "latency_ms", "finish_reason", "created_at"}
            assert size(item) - len(str(body["latency_ms"])) <= CASE_BYTES - len("53.78681999991386") + 1
        if item["sk"].startswith("S#"):
            assert size(item) <= 1.1 * SCORES_BYTES


def size(item: dict[str, Any]) -> int:
    """Its bytes, as DynamoDB counts them."""
    wire = {}
    for name, value in item.items():
        data = getattr(value, "value", value)
        kinds = {str: "S", bytes: "B"}
        kind = kinds.get(type(data), "N")
        wire[name] = {kind: base64.b64encode(data).decode() if kind == "B" else str(data)}
    return item_bytes(wire)
