"""What labels of people say of a run: how a judge agrees with them, and what they make of its means."""

from __future__ import annotations

from promptlab.labelling.contract import LabLabels
from promptlab.labelling.values import (
    CaseToLabel,
    CorrectedDifference,
    CorrectedMean,
    Disagreement,
    Drift,
    JudgeCheck,
)

__all__ = [
    "CaseToLabel",
    "CorrectedDifference",
    "CorrectedMean",
    "Disagreement",
    "Drift",
    "JudgeCheck",
    "LabLabels",
]
