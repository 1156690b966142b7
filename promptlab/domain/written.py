"""Fields that take a number take no `true` or `false`: `max_failures: false` is not "none may fail"."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationInfo, field_validator

_SCALARS = frozenset({bool, int, float, str})
_NUMBERS = frozenset({int, float})


class Written(BaseModel):
    """The base of what people write. pydantic reads `true` as 1, which is never what was meant."""

    @field_validator("*", mode="before", check_fields=False)
    @classmethod
    def _flags_are_no_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and info.field_name is not None:
            kinds = scalars_of(cls, info.field_name)
            if kinds & _NUMBERS and bool not in kinds:
                raise ValueError("true and false are no numbers")
        return value


@functools.lru_cache(maxsize=4096)
def scalars_of(model: type[BaseModel], field: str) -> frozenset[type]:
    """Return which of bool, int, float and str a field takes; nothing where it takes anything."""
    return frozenset(_scalars(model.model_fields[field].annotation))


def _scalars(annotation: Any) -> Iterator[type]:
    if annotation in _SCALARS:
        yield annotation
    elif get_origin(annotation) is Literal:
        yield from (type(value) for value in get_args(annotation) if type(value) in _SCALARS)
    elif get_origin(annotation) is Annotated:
        yield from _scalars(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for each in get_args(annotation):
            yield from _scalars(each)
