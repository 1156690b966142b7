"""Bodies of the API, and what people write in Python and YAML, hold numbers and flags as such: `false` is no
bound of no dollars."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from promptlab_studio.api.access_shapes import SwitchIn
from promptlab_studio.api.labels import CaseLabelIn
from promptlab_studio.api.projects import ProjectEditIn, ProjectIn
from promptlab_studio.api.shapes import Body, ResumeIn, RunIn
from pydantic import BaseModel, ValidationError

from promptlab.domain.stopping import StopConfig
from promptlab.domain.written import Written, scalars_of
from promptlab.experiments.config import ExperimentConfig

RUN = {"dataset": "rows@0"}


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
        (RunIn, {**RUN, "max_failures": False}),
        (RunIn, {**RUN, "max_failures": "3"}),
        (RunIn, {**RUN, "model": {"name": "openai/x", "temperature": False}}),
        (ResumeIn, {"max_cost_usd": True}),
        (CaseLabelIn, {"case": 0, "metric": "m", "passed": 1}),
        (ExperimentConfig, {**RUN, "max_failures": False}),
    ],
)
def test_a_flag_is_no_number_and_a_text_no_flag(body: type[BaseModel], given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"no number|no flag|valid (number|integer|boolean)"):
        body.model_validate(given)


def test_whole_dollars_are_dollars() -> None:
    assert ProjectEditIn.model_validate({"max_cost_usd_a_month": 5}).max_cost_usd_a_month == 5.0


def written(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A model and all that are made from it."""
    yield model
    for each in model.__subclasses__():
        yield from written(each)


def refused(model: type[BaseModel], field: str, value: Any) -> bool:
    """Whether a field takes no such value, by what is said of this field."""
    name = model.model_fields[field].validation_alias
    # An alias may be a list of names.
    alias = name if isinstance(name, str) else getattr(name, "choices", [field])[0]
    with pytest.raises(ValidationError) as found:
        model.model_validate({alias: value, "no such field": 1})
    return any(error["loc"][:1] in ((field,), (alias,)) for error in found.value.errors())


def test_no_field_that_takes_a_number_takes_a_flag() -> None:
    """In any body, experiment, model, gate or rule: by their types, so that no new one is left out."""
    looked_at = 0
    for model in {*written(Written)}:
        for field in model.model_fields:
            kinds = scalars_of(model, field)
            if kinds and kinds <= {int, float}:
                looked_at += 1
                assert refused(model, field, True), (model, field)
                if issubclass(model, Body):
                    assert refused(model, field, "1"), (model, field)
            if kinds == {bool} and issubclass(model, Body):
                assert refused(model, field, 1) and refused(model, field, "true"), (model, field)
    assert looked_at > 50


def test_bodies_are_made_of_what_checks_them() -> None:
    """A body of a route is a Body, or of models that take no flags for numbers."""
    from fastapi.routing import APIRoute, iter_route_contexts
    from promptlab_studio.api import router

    bodies: set[Any] = set()
    for context in iter_route_contexts(router.routes):
        if isinstance(context.original_route, APIRoute) and (field := context.original_route.body_field):
            bodies |= {field.field_info.annotation, *get_args(field.field_info.annotation)} - {type(None)}
    models = {body for body in bodies if isinstance(body, type) and issubclass(body, BaseModel)}
    assert len(models) > 15 and all(issubclass(model, Written) for model in models), models
