"""How a new run is judged, as the form has it: rows that belong together, slices, and when it may stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from promptlab.domain.experiment import Experiment
from promptlab.domain.results import RunRecord
from promptlab.domain.stopping import LOOKS, StopRule
from promptlab.errors import ConfigError
from promptlab_studio.views.state import Query, whole

MISSING = ("fail", "exclude", "bound")
"""How cases without a score may count."""


@dataclass(frozen=True, slots=True)
class RuleField:
    """A field that is typed."""

    name: str
    label: str
    placeholder: str
    title: str
    columns: bool = False
    """Whether it names columns of the dataset."""


JUDGED = (
    RuleField(
        "cluster_by",
        "Rows belong together by",
        "independent",
        "The column whose values tell which rows belong together (a conversation, a document).",
        True,
    ),
    RuleField("slices", "Look at it by", "kind, length", "Columns, with commas between."),
)
STOP = (
    RuleField(
        "stop_against",
        "Compare with",
        "production, or a run's id",
        "A completed run over the same rows: a label of the experiment, or its id. Empty: all cases are run.",
    ),
    RuleField("stop_metric", "By the metric", "the first", "The metric that decides."),
    RuleField(
        "stop_margin",
        "The same within δ",
        "never",
        "End also once the two are the same within this difference.",
    ),
    RuleField("stop_looks", "Looks", str(LOOKS), "How many waves the cases are done in, 1 to 100."),
)


def rules_of(query: Query) -> dict[str, Any]:
    """Read the fields, as an experiment has them.

    Raises:
        ConfigError: one of them is not written as it should be.
    """
    found: dict[str, Any] = {"cluster_by": query.get("cluster_by").strip() or None}
    if names := [name.strip() for name in query.get("slices").split(",") if name.strip()]:
        found["slices"] = names
    stop: dict[str, Any] = {"against": query.get("stop_against").strip()}
    if metric := query.get("stop_metric").strip():
        stop["metric"] = metric
    if margin := query.get("stop_margin").strip():
        try:
            stop["margin"] = float(margin)
        except ValueError:
            raise ConfigError(f"The same within δ must be a number (got {margin[:50]!r}).") from None
    if looks := query.get("stop_looks").strip():
        if whole(looks) is None:
            raise ConfigError(f"Looks must be a whole number (got {looks[:50]!r}).")
        stop["looks"] = whole(looks)
    if not stop["against"] and len(stop) > 1:
        raise ConfigError("Stop as soon as it is known: name the run to compare with.")
    return found | ({"stop": stop} if stop["against"] else {})


def rule_pairs(run: RunRecord, experiment: Experiment) -> list[tuple[str, str]]:
    """The form's fields for a run that there is."""
    together = {metric.cluster_by for metric in experiment.evaluation if metric.cluster_by}
    found = [("cluster_by", min(together))] if together else []
    found += [("slices", ", ".join(experiment.slices))] if experiment.slices else []
    if run.stop is not None:
        asked = StopRule.from_json(run.stop).written()
        found += [("stop_against", asked.against), ("stop_metric", str(asked.metric))]
        found += [("stop_margin", f"{asked.margin:g}")] if asked.margin is not None else []
        found += [("stop_looks", str(asked.looks))] if asked.looks != LOOKS else []
    return found
