"""Values stay as they were made: what one part of the program was given, no other part changes under it."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from typing import Any

import pytest

import promptlab

FILLED = {
    "AnswerCache",
    "Asked",
    "Attempts",
    "Bindings",
    "Budget",
    "Distribution",
    "AssetDraft",
    "BundleDraft",
    "Gathered",
    "Batch",
    "Batching",
    "BatchWriter",
    "_File",
    "_Seen",
    "Judged",
    "JudgedBy",
    "Live",
    "Pledges",
    "RowCounts",
    "RowSums",
    "MetricSummary",
    "ModelResponse",
    "OpenCall",
    "Outside",
    "Packed",
    "Pairing",
    "Prepared",
    "Purse",
    "Recorder",
    "Report",
    "Scored",
    "Scoring",
    "SemanticSimilarity",
    "Sources",
    "Stored",
    "Summary",
    "Talks",
    "Tally",
    "Throttle",
    "Tried",
    "Usage",
    "_Batch",
    "_Call",
    "_Item",
    "_Job",
    "_Left",
    "_Measured",
    "_Talk",
    "_Work",
    "promptlab.engine.job.Job",
}
"""What is filled while work goes on, or is a user's own to change."""
HELD = {"Asked", "_Call", "_Item"}
"""What is under way: each is only itself."""
NAMED = {
    "CaseLabel",
    "CaseToLabel",
    "CorrectedDifference",
    "CorrectedMean",
    "Disagreement",
    "Drift",
    "JudgeCheck",
    "MeanInterval",
    "Slice",
    "SliceDifference",
    "SliceMean",
    "Slices",
    "AssetVersion",
    "CheckOutcome",
    "GateOutcome",
    "GatedMetric",
    "GatedScore",
    "GateInputs",
    "Decided",
    "Reach",
    "StopRule",
    "SampledRun",
    "Sweep",
    "Together",
    "SweepCell",
    "SweepEstimate",
    "RankedCell",
    "Ranking",
    "Power",
    "Attempt",
    "BatchState",
    "Batched",
    "CloudConfig",
    "CodeContent",
    "CodeFile",
    "CodeHost",
    "Column",
    "Completion",
    "DatasetContent",
    "Deletion",
    "Entry",
    "Estimate",
    "JudgeEstimate",
    "Judgement",
    "Limits",
    "Media",
    "MetricInfo",
    "PairedData",
    "LongPrompt",
    "Price",
    "Progress",
    "Project",
    "Quotas",
    "RunMetric",
    "RunRecord",
    "RunValue",
    "ScoreSet",
    "ShardSummary",
    "SqlAnswer",
    "StackSize",
    "Submission",
    "Sums",
    "Turn",
    "Units",
    "Work",
}
"""What has so many fields of one kind that two of them would be exchanged without their names."""


def _values() -> list[type[Any]]:
    """Find all dataclasses of the library."""
    found = []
    for module in pkgutil.walk_packages(promptlab.__path__, "promptlab."):
        if not module.name.endswith("__main__"):
            for value in vars(importlib.import_module(module.name)).values():
                if inspect.isclass(value) and value.__module__ == module.name:
                    found.append(value)
    return [value for value in found if "__dataclass_params__" in vars(value)]


def names_of(value: type[Any]) -> set[str]:
    """How the lists may name a class."""
    return {value.__name__, f"{value.__module__}.{value.__qualname__}"}


VALUES = [
    pytest.param(value, id=f"{value.__module__}.{value.__qualname__}")
    for value in _values()
    if not inspect.isabstract(value)  # there is no value of such a class: those below it are looked at
]


def test_the_names_are_of_classes_that_there_are() -> None:
    """Neither list names what is not there."""
    names = {name for value in _values() for name in names_of(value)}
    assert names >= FILLED | NAMED | HELD
    assert len(names) > 100


@pytest.mark.parametrize("value", VALUES)
def test_a_value_does_not_change(value: type[Any]) -> None:
    """A field cannot be set again, but for those of what is filled."""
    blank = object.__new__(value)
    name = dataclasses.fields(value)[0].name
    if names_of(value) & FILLED:
        setattr(blank, name, None)
    else:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(blank, name, None)


@pytest.mark.parametrize("value", VALUES)
def test_values_are_equal_when_their_fields_are(value: type[Any]) -> None:
    """Metrics are not: two with the same parameters are two, and any can be a key."""
    by_identity = value.__name__ in HELD or issubclass(value, promptlab.Evaluator)
    assert (value.__eq__ is object.__eq__) == by_identity


@pytest.mark.parametrize("value", VALUES)
def test_a_value_has_no_other_fields(value: type[Any]) -> None:
    """A field's name that is mistyped is an error, not a field more; a metric may keep what it worked out."""
    blank = object.__new__(value)
    assert hasattr(blank, "__dict__") == issubclass(value, promptlab.Evaluator)


@pytest.mark.parametrize("value", VALUES)
def test_fields_that_could_be_exchanged_are_given_by_name(value: type[Any]) -> None:
    """Metrics, too: their parameters are written with their names in YAML."""
    by_name = value.__name__ in NAMED or issubclass(value, promptlab.Evaluator)
    kinds = {parameter.kind for parameter in inspect.signature(value).parameters.values()}
    assert (kinds <= {inspect.Parameter.KEYWORD_ONLY}) == by_name
