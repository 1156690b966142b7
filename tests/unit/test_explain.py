"""Words about a configuration that is wrong are short, however wrong it is."""

from __future__ import annotations

import pytest

from promptlab import ExperimentConfig
from promptlab.errors import ConfigError

FINE = {"dataset": "d", "prompt_template": "p", "model": "simulated/echo"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({f"field{n}": n for n in range(30_000)}, "and 29,980 more"),
        ({"evaluation": [{f"field{n}": n for n in range(30_000)}]}, "more"),
        ({"x" * 1_000_000: 1}, "unknown field"),
        ({"trials": "x" * 1_000_000}, "trials"),
        ({"model": {"name": "openai/x", **{f"field{n}": n for n in range(30_000)}}}, "at most 100"),
    ],
)
def test_thousands_of_problems_are_a_short_message(wrong: dict[str, object], said: str) -> None:
    """The first are told, the others counted; looking for near names takes no time beyond that."""
    with pytest.raises(ConfigError, match=said) as caught:
        ExperimentConfig.parse({**FINE, **wrong})
    assert len(str(caught.value)) < 10_000
