"""How well a run sorts: the confusion matrix and what is made of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from promptlab.evaluators.of_runs import DETAIL, Additive, RunCase
from promptlab.evaluators.overlap import f_measure
from promptlab.evaluators.text import STRICT, nfc, references_of, text_of

MOST_CLASSES = 100
LABEL_CHARS = 100
OTHER, NONE = "(other)", "(none)"
"""What answers count as that are no label, and that are none at all."""
_SCORES = (
    "accuracy",
    "balanced_accuracy",
    "precision_macro",
    "recall_macro",
    "f1_macro",
    "precision_micro",
    "recall_micro",
    "f1_micro",
    "kappa",
    "mcc",
)
_OF_POSITIVE = ("precision", "recall", "f1")


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class Classification(Additive):
    """The confusion matrix of a run, with accuracy, precision, recall, F1, kappa and MCC."""

    inputs = {"response": "$inference", "reference": None}
    value_range: ClassVar = (-1.0, 1.0)
    bounds = {"kappa": (-1.0, 1.0), "mcc": (-1.0, 1.0)}

    labels: list[str] | None = Field(
        None,
        max_length=MOST_CLASSES,
        description="The labels; by default those among the references. An answer that is none of them "
        "counts as (other).",
    )
    positive: str | None = Field(
        None, description="The label whose precision, recall and F1 are scores of their own."
    )
    case_sensitive: bool = Field(False, description="Whether upper and lower case differ.")

    @property
    def scores(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*(_OF_POSITIVE if self.positive is not None else ()), *_SCORES)

    def _label(self, value: Any) -> str:
        text = " ".join(nfc(text_of(value, "label")).split())[:LABEL_CHARS]
        return text if self.case_sensitive else text.casefold()

    def fitted(self, cases: Iterable[RunCase]) -> Classification:
        """Take the labels from the references.

        Raises:
            ValueError: there are more than MOST_CLASSES.
        """
        if self.labels:
            return self
        found: set[str] = set()
        for case in cases:
            found.add(self._reference(case))
            if len(found) > MOST_CLASSES:
                raise ValueError(
                    f"the references have more than {MOST_CLASSES} different labels: give `labels`, or take "
                    "the label out of the reference with extract_reference"
                )
        return replace(self, labels=sorted(found))

    def _reference(self, case: RunCase) -> str:
        found = references_of(case)
        if len(found) != 1:
            raise ValueError(f"a case has one label, and this reference has {len(found)}")
        return self._label(found[0])

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(map(self._label, self.labels or ()))

    def counts(self, case: RunCase) -> Mapping[str, float]:
        """Count one case: its label, the predicted one, and whether they are the same."""
        known, truth = self._known, self._reference(case)
        if truth not in known:
            raise ValueError(f"the reference {truth!r} is none of the labels")
        given = case.get("response")
        said = self._label(given) if given is not None else ""
        answer = said if said in known else OTHER if said else NONE
        same = {f"tp {truth}": 1.0} if answer == truth else {}
        return {f"t {truth}": 1.0, f"p {answer}": 1.0, **same, f"{DETAIL}{truth}\x1f{answer}": 1.0}

    def values(self, sums: Mapping[str, float]) -> dict[str, float | None]:
        """Compute the scores.

        Formulas: macro values are means over the labels that are there (as scikit-learn's with `labels`), the
        balanced accuracy the mean recall (Brodersen et al. 2010), κ = (pₒ − pₑ) / (1 − pₑ) (Cohen 1960), MCC
        that of Gorodkin 2004 for any number of labels.
        """
        classes = sorted({name.split(" ", 1)[1] for name in sums if name[:2] in ("t ", "p ")})
        truth = {c: sums.get(f"t {c}", 0.0) for c in classes}
        said = {c: sums.get(f"p {c}", 0.0) for c in classes}
        right = {c: sums.get(f"tp {c}", 0.0) for c in classes}
        n, hits = sum(truth.values()), sum(right.values())
        if not n:
            return dict.fromkeys(self.scores)
        known = [c for c in classes if c not in (OTHER, NONE)]
        precision = {c: right[c] / said[c] if said[c] else 0.0 for c in known}
        recall = {c: right[c] / truth[c] if truth[c] else 0.0 for c in known}
        f1 = {c: f_measure(precision[c], recall[c]) for c in known}
        there = [c for c in known if truth[c]]
        in_classes = sum(said[c] for c in known)
        micro = hits / in_classes if in_classes else 0.0
        found: dict[str, float | None] = {
            "accuracy": hits / n,
            "balanced_accuracy": _mean(recall[c] for c in there),
            "precision_macro": _mean(precision.values()),
            "recall_macro": _mean(recall.values()),
            "f1_macro": _mean(f1.values()),
            "precision_micro": micro,
            "recall_micro": hits / n,
            "f1_micro": f_measure(micro, hits / n),
            "kappa": _kappa(truth, said, hits, n),
            "mcc": _mcc(truth, said, hits, n),
        }
        if self.positive is not None:
            one = self._label(self.positive)
            of = {"precision": precision, "recall": recall, "f1": f1}
            found |= {name: of[name].get(one, 0.0 if truth.get(one) else None) for name in _OF_POSITIVE}
        return found

    def detail(self, sums: Mapping[str, float]) -> dict[str, Any]:
        """Give the confusion matrix, `{labels, answers, matrix}`: cases by label (rows) and answer."""
        cells = {tuple(k[1:].split("\x1f")): n for k, n in sums.items() if k.startswith(DETAIL)}
        labels = sorted({truth for truth, _ in cells} | {said for _, said in cells} - {OTHER, NONE})
        answers = [*labels, *(extra for extra in (OTHER, NONE) if any(said == extra for _, said in cells))]
        return {
            "kind": "confusion",
            "labels": labels,
            "answers": answers,
            "matrix": [[int(cells.get((truth, said), 0)) for said in answers] for truth in labels],
        }


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return math.fsum(found) / len(found) if found else None


def _kappa(truth: Mapping[str, float], said: Mapping[str, float], hits: float, n: float) -> float | None:
    chance = sum(truth[c] * said[c] for c in truth) / n**2
    return None if chance >= 1 else (hits / n - chance) / (1 - chance)


def _mcc(truth: Mapping[str, float], said: Mapping[str, float], hits: float, n: float) -> float | None:
    spread = (n**2 - sum(v * v for v in said.values())) * (n**2 - sum(v * v for v in truth.values()))
    return None if spread <= 0 else (hits * n - sum(truth[c] * said[c] for c in truth)) / math.sqrt(spread)
