"""Whether the parts of a run's record that pages read are what they should be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, replace
from datetime import datetime
from typing import Any

import orjson
from pydantic import ValidationError

from promptlab.domain.experiment import Experiment
from promptlab.domain.results import RunRecord
from promptlab.domain.statistics import as_count, as_number, shown
from promptlab.domain.summary import Summary
from promptlab.errors import StoreDamagedError

_PLACEHOLDER: dict[str, Any] = {
    "name": "?",
    "dataset": {"name": "?", "version": 0, "hash": ""},
    "model": {"name": "unknown/unknown"},
    "evaluation": [],
    "trials": 1,
    "prices": {},
    "hash": "",
}
"""An experiment of which nothing is known, which every page can show."""
_MOST_SOUND = 10_000
_sound: set[int] = set()
"""Hashes of parts that were read without a fault: checking 500 summaries again with every list took 60 ms."""


def checked(run: RunRecord) -> RunRecord:
    """The run itself if all that pages read of it can be read; else one that can be shown
    and says what is wrong."""
    key = hash(
        orjson.dumps([getattr(run, name) for name in (*_CHECKS, "experiment", "summary")], default=dict)
    )
    if key in _sound:
        return run
    faults: dict[str, str] = {}
    changes: dict[str, Any] = {}
    checks = {**_CHECKS, "experiment": _experiment_of, "summary": _summary}
    for name, check in checks.items():
        value = getattr(run, name)
        try:
            if (found := check(value)) is not value:
                changes[name] = found
        except (StoreDamagedError, TypeError, ValueError) as error:
            faults[name] = str(error)
            changes[name] = _placeholder(value) if name == "experiment" else _DEFAULTS[name]
    if changes:
        return replace(run, **changes, unreadable=in_words(faults) if faults else run.unreadable)
    if len(_sound) >= _MOST_SOUND:
        _sound.clear()
    _sound.add(key)
    return run


def in_words(faults: Mapping[str, str]) -> str:
    """Faults by the name of their field, as one text for people."""
    return f"This record cannot be read: {'; '.join(f'{n}: {fault}' for n, fault in sorted(faults.items()))}"[
        :500
    ]


def _experiment_of(value: Any) -> Any:
    try:
        Experiment.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise StoreDamagedError(f"{place}: {first['msg']}" if place else first["msg"]) from error
    return value


def _placeholder(value: Any) -> dict[str, Any]:
    """An experiment that a page can show, with as much of the recorded one as can be read."""
    found = dict(_PLACEHOLDER)
    for name, part in value.items() if isinstance(value, Mapping) else ():
        try:
            found = dict(_experiment_of({**found, name: part}))
        except StoreDamagedError:
            continue
    return found


_WHOLE = Summary().to_json().keys()


def _summary(value: Any) -> Mapping[str, Any] | None:
    """The summary, whole: what an older version did not count yet is there with its default."""
    if value is None:
        return None
    summary = Summary.from_json(value)
    for metric in summary.metrics.values():
        metric.brief()
    return value if value.keys() >= _WHOLE else summary.to_json()


def _moment(value: Any) -> Any:
    if datetime.fromisoformat(value).tzinfo is None:
        raise StoreDamagedError(f"it has no time zone: {value!r}")
    return value


def _optional(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else check(value)


def _text(value: Any) -> Any:
    if not isinstance(value, str):
        raise StoreDamagedError(f"it must be a text, not {shown(value)}")
    return value


def _count(value: Any) -> Any:
    return as_count(value, "it")


def _seconds(value: Any) -> Any:
    if as_number(value, "it") < 0:
        raise StoreDamagedError(f"it must be a number, 0 or more, not {value}")
    return value


def _tags(value: Any) -> Any:
    if not isinstance(value, tuple) or not all(isinstance(tag, str) for tag in value):
        raise StoreDamagedError(f"they must be texts, not {shown(value)}")
    return value


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "name": _text,
    "cases": _count,
    "created_at": _moment,
    "started_at": _optional(_moment),
    "finished_at": _optional(_moment),
    "beat_at": _optional(_moment),
    "generation": _count,
    "wall_s": _seconds,
    "error": _optional(_text),
    "tags": _tags,
    "results": _optional(_text),
    "commit": _optional(_text),
    "title": _text,
    "description": _text,
    "started_by": _text,
}
_DEFAULTS = {f.name: None if f.default is MISSING else f.default for f in fields(RunRecord)} | {
    "name": "?",
    "cases": 0,
    "created_at": "1970-01-01T00:00:00.000000Z",
}
"""The value that stands for a field that cannot be read."""
