"""What held a run back where many workers did it, in words."""

from __future__ import annotations

from typing import Any

import pytest

from functions import runtime
from promptlab import Dataset, PromptTemplate
from promptlab.engine.limited import AMinute
from promptlab.engine.limited_cloud import Together, limited_together
from tests.functions.conftest import Machine
from tests.servers import ModelServer, Reply

PLAIN = {
    **{"calls": 10_000, "cases": 10_000, "answer_s": 19_000.0, "wall_s": 100.0},
    **{"workers": 4, "in_flight": 50, "maximum": 200},
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "max_concurrent_tasks: 190 of 200 calls were in flight on average"),
        ({"maximum": 5_000}, "MaxConcurrency of the stack: 190 of the 200 calls that its 4 workers make"),
        ({"answer_s": 4_000.0}, "nothing: 40 of 200 calls were in flight on average"),
        ({"calls": 10_500}, "the provider: 500 of 10,500 calls were made again"),
        ({"a_minute": AMinute(0, 6_000)}, "requests_per_minute: 6,000 of 6,000 were made a minute"),
        ({"a_minute": AMinute(10**6, None, 7e5)}, "tokens_per_minute: 600,000 of 700,000 were made a minute"),
        ({"calls": 60, "cases": 60, "answer_s": 5_900.0}, "nothing: all calls were in flight at once"),
        ({"calls": 19, "cases": 19}, None),
    ],
)
def test_the_limit_is_named(changes: dict[str, Any], words: str | None) -> None:
    """The provider, the user's bounds, the stack's, or none of them."""
    found = limited_together(Together(**{**PLAIN, **changes}))
    assert found is None if words is None else (found or "").startswith(words), found


@pytest.mark.long
def test_a_run_in_the_cloud_says_what_was_the_limit(machine: Machine) -> None:
    """In its record, which CLI, API and Studio show."""
    with ModelServer(lambda request: Reply(text="x", delay_s=0.02)) as server:
        server.script(*[Reply(status=500, text="ill")] * 3, prompt="7")
        run = machine.start(
            {
                "name": "quiz",
                "dataset": Dataset(name="d", rows=[{"q": str(n)} for n in range(120)]),
                "prompt_template": PromptTemplate(name="ask", user_prompt="<q>"),
                "model": {"name": "openai/mini", "endpoint": server.openai_url, "max_concurrent_tasks": 5},
                "evaluation": [{"metric": "length"}],
            }
        )
        assert machine.execute(run.run_id) == {"status": "completed"}
    said = runtime.run(machine.lab.get_run(run.run_id)).limited_by
    assert said and said.startswith("the provider: 3 of 123 calls were made again"), said
