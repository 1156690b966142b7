"""Bodies of the API hold numbers and flags as JSON has them: `false` is no bound of no dollars."""

from __future__ import annotations

from typing import Any

import pytest
from promptlab_studio.api.access_shapes import SwitchIn
from promptlab_studio.api.projects import ProjectEditIn, ProjectIn
from pydantic import BaseModel, ValidationError

from promptlab.domain.stopping import StopConfig


@pytest.mark.parametrize(
    ("body", "given"),
    [
        (ProjectEditIn, {"max_cost_usd_a_month": False}),
        (ProjectEditIn, {"max_cost_usd_a_month": "5"}),
        (ProjectEditIn, {"retention_days": True}),
        (ProjectEditIn, {"archived": "yes"}),
        (ProjectIn, {"name": "red", "retention_days": True}),
        (SwitchIn, {"on": "off"}),
        (StopConfig, {"against": "production", "seed": False}),
        (StopConfig, {"against": "production", "looks": True}),
        (StopConfig, {"against": "production", "margin": True}),
    ],
)
def test_a_flag_is_no_number_and_a_text_no_flag(body: type[BaseModel], given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        body.model_validate(given)


def test_whole_dollars_are_dollars() -> None:
    assert ProjectEditIn.model_validate({"max_cost_usd_a_month": 5}).max_cost_usd_a_month == 5.0
