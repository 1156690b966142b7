"""Where in an answer's metadata a metric finds what its column_mapping names."""

from __future__ import annotations

from typing import Any

import pytest

from promptlab.domain.results import Completion
from promptlab.engine.scored import Scored, inputs
from promptlab.errors import TemplateError
from promptlab.results.table import Case

METADATA = {
    "model": "m-1",
    "usage": {"cached.tokens": 7, "list": [10, {"deep": [True]}]},
    "usage.total": 9,
    "null": None,
    "pair": (1, 2),
    "word": "text",
}


def scored(**fields: Any) -> Scored:
    completion = Completion(
        shard=0, case=4, trial=1, response="said", latency_ms=12.5, metadata=METADATA, finish_reason="stop"
    )
    return Scored(Case({"q": "asked", "$x": 1}, completion, None), {}, 0, **fields)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model", "m-1"),
        ("usage.total", 9),
        ("usage.cached.tokens", 7),
        ("usage.list", [10, {"deep": [True]}]),
        ("usage.list.0", 10),
        ("usage.list.1.deep.0", True),
        ("usage.list.2", None),
        ("usage.list.-1", None),
        ("usage.list.x", None),
        ("usage.list.0000000001", None),
        ("usage.list.1.deep.0.further", None),
        ("usage.nobody", None),
        ("null", None),
        ("null.further", None),
        ("pair.1", 2),
        ("word.0", None),
        ("nobody", None),
    ],
)
def test_a_path_leads_to_a_value_or_to_nothing(path: str, value: object) -> None:
    """By a key, which may have dots, or by keys and positions with dots between; a text has no parts."""
    assert inputs(scored(), {"x": f"$metadata.{path}"}) == {"x": value}


def test_every_source_has_its_value() -> None:
    """The answer under both of its names, what the call took, the prompt, and columns of the dataset."""
    sources = ("$inference", "$completion", "$latency_ms", "$finish_reason", "$prompt", "q", "nobody")
    found = inputs(scored(prompt="the prompt"), {name: name for name in sources})
    assert list(found.values()) == ["said", "said", 12.5, "stop", "the prompt", "asked", None]
    assert inputs(scored(), {"all": "$metadata"}) == {"all": METADATA}


def test_a_prompt_that_cannot_be_made_again_is_an_error_of_those_who_ask_for_it() -> None:
    """And of nobody else."""
    case = scored(prompt=TemplateError("no column q"))
    assert inputs(case, {"x": "q"}) == {"x": "asked"}
    with pytest.raises(TemplateError, match="no column q"):
        inputs(case, {"x": "$prompt"})
