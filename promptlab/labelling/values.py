"""What is said of judges and people, as values and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from promptlab.domain.corrected import CorrectedDifference, CorrectedMean
from promptlab.domain.records import made
from promptlab.statistics import Rate, Slope, Table

__all__ = ["CaseToLabel", "CorrectedDifference", "CorrectedMean", "Disagreement", "Drift", "JudgeCheck"]


def _tuple(kind: Any, value: Any) -> Any:
    return None if value is None else kind(*(value[name] for name in kind._fields))


def _plain(value: Any) -> Any:
    if hasattr(value, "_asdict"):
        return {name: _plain(one) for name, one in value._asdict().items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseToLabel:
    """A case of a queue."""

    case: int
    trial: int
    id: str
    labelled: bool
    """Whether the rater labelled it already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """A case of which the judge says something else than people."""

    case: int
    trial: int
    id: str
    people: bool
    """Whether people pass it."""
    judge: bool
    """Whether the judge does."""
    value: float
    """The judge's score."""
    tag: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeCheck:
    """How a judge agrees with people, over the cases that they labelled."""

    run_id: str
    metric: str
    fingerprint: str | None
    """The judge whose scores were checked: 16 hex digits; None for a metric that has none."""
    versions: tuple[str, ...] = ()
    """What the models that judged call themselves."""
    threshold: float
    """From where on a score is a pass; of a metric that is better when lower, up to where."""
    table: Table
    agreement: Rate | None
    tpr: Rate | None
    """Of the cases that people pass, the share that the judge passes."""
    tnr: Rate | None
    """Of the cases that people fail, the share that the judge fails."""
    kappa: float | None
    kappa_caveat: str | None
    needed_passed: int | None
    """How many labels of passed cases would certify the judge, were its TPR as it seems; None: none would."""
    needed_failed: int | None
    certified: bool
    """Whether the lower bounds of TPR and TNR reach .80."""
    why: str
    """The same in words."""
    raters: int
    own: bool
    """Whether people labelled this very metric; else the answers as a whole."""
    random: bool
    """Whether the labelled cases are a random sample of the run's."""
    tied: int = 0
    """Labelled cases that are left out because as many raters pass as fail them."""
    unscored: int = 0
    """Labelled cases that are left out because the judge has no score of them, or another fingerprint."""
    disagreements: tuple[Disagreement, ...] = ()
    people_agreement: Rate | None = None
    """How often two raters of the same case agree; None where no case has two."""
    people_alpha: float | None = None
    """Krippendorff's α of the raters."""
    jury_alpha: float | None = None
    """Krippendorff's α of the jury's members, or of a judge's repeats, over all cases of the run."""
    jury: int = 1
    """Votes a case."""
    length_slope: Slope | None = None
    """How the score changes where the answer has twice as many tokens, over all cases of the run."""
    fingerprints: Mapping[str, int] | None = None
    """Every fingerprint among the run's scores, and how many scores have it."""
    at: str = ""

    def to_json(self) -> dict[str, Any]:
        """Write it as the API gives it."""
        found = {name: _plain(getattr(self, name)) for name in self.__slots__}
        return found | {
            "disagreements": [asdict(one) for one in self.disagreements],
            "fingerprints": dict(self.fingerprints or {}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> JudgeCheck:
        """Read what `to_json` wrote."""
        rates = {name: _tuple(Rate, value[name]) for name in ("agreement", "tpr", "tnr", "people_agreement")}
        return made(
            cls,
            value,
            **rates,
            table=_tuple(Table, value["table"]),
            length_slope=_tuple(Slope, value["length_slope"]),
            versions=tuple(value["versions"]),
            disagreements=tuple(made(Disagreement, one) for one in value["disagreements"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """What a judge makes of answers that are the same, byte for byte, in two runs."""

    metric: str
    base_run_id: str
    run_id: str
    fingerprints: tuple[tuple[str, ...], tuple[str, ...]]
    """Those of the base run's scores, and of the other's."""
    pairs: int
    """Rows with the same answer in both runs, and a score in both."""
    difference: float | None
    """other − base, over these."""
    ci_low: float | None
    ci_high: float | None
    method: str | None
    drifted: bool
    """Whether the interval leaves out 0: the judge changed."""
    words: str

    def to_json(self) -> dict[str, Any]:
        """Write it as the API gives it."""
        return asdict(self) | {"fingerprints": [list(one) for one in self.fingerprints]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Drift:
        """Read what `to_json` wrote."""
        base, other = value["fingerprints"]
        return made(cls, value, fingerprints=(tuple(base), tuple(other)))
