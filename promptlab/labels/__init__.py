"""Labels of people on cases: a record a case and rater, imported from CSV, drawn for labelling."""

from __future__ import annotations

from promptlab.labels.store import CaseLabels

__all__ = ["CaseLabels"]
