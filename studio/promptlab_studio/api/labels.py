"""Labels of people on cases: entered, listed, drawn; and what they say of judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from promptlab.deleting.journal import user_name
from promptlab.domain.labels import CaseLabel
from promptlab.domain.results import CaseKey
from promptlab.errors import ForbiddenError
from promptlab.labelling.queue import MOST_QUEUED
from promptlab.queries.filters import Filter
from promptlab_studio.access import LOCAL, Engineer, Labeller, LinkViewer, Principal, TheLab, Viewer
from promptlab_studio.api.bodies import Exact
from promptlab_studio.api.runs import Cursor, RunId
from promptlab_studio.api.shapes import Body

router = APIRouter(tags=["labels"], route_class=Exact)
Metric = Annotated[str, Query(min_length=1, max_length=300, description="The metric.")]
Threshold = Annotated[
    float | None,
    Query(allow_inf_nan=False, description="From where on a score is a pass; the middle of its range."),
]


class CaseLabelIn(Body):
    """One label. It says at least one of passed, score, tag and note."""

    case: int | None = Field(default=None, ge=0, lt=10**9, description="The dataset row, from 0.")
    trial: int = Field(default=0, ge=0, lt=10**6, description="The trial, from 0.")
    id: str | None = Field(
        default=None, max_length=10_000, description="The row's id, where that names the case."
    )
    passed: bool | None = Field(default=None, description="Whether the answer is good enough.")
    score: float | None = Field(default=None, allow_inf_nan=False, description="A number.")
    tag: str | None = Field(default=None, max_length=100, description="A category, as in wrong unit.")
    note: str | None = Field(default=None, max_length=10_000)
    metric: str | None = Field(
        default=None, max_length=300, description="The metric that it is about; left out, the whole answer."
    )
    rater: str | None = Field(
        default=None,
        max_length=200,
        description="Who says so, if not the caller; entering labels of others needs the role engineer.",
    )
    blind: bool = Field(default=False, description="Whether the rater did not see the scores.")
    random: bool = Field(
        default=False, description="Whether the case is of a random sample of all cases of the run."
    )

    def label(self) -> CaseLabel:
        """The label as it is kept."""
        given = self.model_dump(exclude_none=True)
        return CaseLabel(**{"case": -1, **given})


class CaseLabelsIn(Body):
    """Labels on cases of one run."""

    labels: Annotated[list[CaseLabelIn], Field(min_length=1, max_length=1_000)]


class ChangedOut(BaseModel):
    """What came of it."""

    changed: int = Field(description="Labels that say something else than before.")


class RemovedOut(BaseModel):
    """What came of it."""

    removed: int


class CaseLabelOut(BaseModel):
    """One rater's label of one case."""

    case: int
    trial: int
    id: str
    passed: bool | None
    score: float | None
    tag: str | None
    note: str | None
    metric: str
    rater: str
    rater_name: str
    by: str = Field(description="Who entered it, where that is somebody else.")
    at: str = Field(description="ISO 8601, UTC.")
    blind: bool
    random: bool
    history: list[dict[str, Any]] = Field(description="What it said before, oldest first, 20 at most.")


class CaseLabelPage(BaseModel):
    """A page of labels, by case."""

    items: list[CaseLabelOut]
    next_cursor: str | None


class CaseToLabelOut(BaseModel):
    """A case of a queue."""

    case: int
    trial: int
    id: str
    labelled: bool = Field(description="Whether the rater labelled it already.")


class QueueOut(BaseModel):
    """Cases to label, in their order."""

    items: list[CaseToLabelOut]


class RateOut(BaseModel):
    """A share with Wilson's 95% interval."""

    successes: int
    n: int
    share: float
    low: float
    high: float


class TableOut(BaseModel):
    """Cases by what people and the judge say."""

    both_pass: int
    missed: int = Field(description="People pass, the judge fails.")
    waved_through: int = Field(description="People fail, the judge passes.")
    both_fail: int


class SlopeOut(BaseModel):
    """How the score changes with the length of the answer."""

    per_doubling: float = Field(description="The change where the answer has twice as many tokens.")
    low: float
    high: float
    n: int


class DisagreementOut(BaseModel):
    """A case of which the judge says something else than people."""

    case: int
    trial: int
    id: str
    people: bool
    judge: bool
    value: float
    tag: str | None
    note: str | None


class JudgeCheckOut(BaseModel):
    """How a judge agrees with people."""

    run_id: str
    metric: str
    fingerprint: str | None
    versions: list[str]
    threshold: float
    table: TableOut
    agreement: RateOut | None
    tpr: RateOut | None = Field(description="Of what people pass, the share that the judge passes.")
    tnr: RateOut | None = Field(description="Of what people fail, the share that the judge fails.")
    kappa: float | None
    kappa_caveat: str | None
    needed_passed: int | None = Field(description="Labels of passed cases that would certify it.")
    needed_failed: int | None
    certified: bool = Field(description="Whether the lower bounds of TPR and TNR reach .80.")
    why: str
    raters: int
    own: bool = Field(description="Whether the labels are about this metric; else about whole answers.")
    random: bool
    tied: int
    unscored: int
    disagreements: list[DisagreementOut] = Field(description="500 at most.")
    people_agreement: RateOut | None
    people_alpha: float | None = Field(description="Krippendorff's α of the raters.")
    jury_alpha: float | None = Field(description="Krippendorff's α of the jury.")
    jury: int
    length_slope: SlopeOut | None
    fingerprints: dict[str, int] = Field(description="Every fingerprint of the run's scores.")
    at: str


class CorrectedMeanOut(BaseModel):
    """A judge's mean, corrected by labels (PPI++)."""

    metric: str
    mean: float
    ci_low: float
    ci_high: float
    stderr: float
    judge_mean: float
    labels: int
    weight: float
    own: bool
    random: bool
    caveat: str | None


class CorrectedOut(BaseModel):
    """The corrected means of a run."""

    metrics: dict[str, CorrectedMeanOut]


class DriftOut(BaseModel):
    """What a judge makes of the same answers in two runs."""

    metric: str
    base_run_id: str
    run_id: str
    fingerprints: list[list[str]]
    pairs: int
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    method: str | None
    drifted: bool
    words: str


class RaterIn(Body):
    """Whose label."""

    rater: str = Field(default="", max_length=200, description="The caller, where nothing is said.")
    metric: str = Field(default="", max_length=300)


class ForgetIn(Body):
    """Whose labels are removed."""

    rater: str = Field(default="", max_length=200, description="The caller, where nothing is said.")
    run_id: str | None = Field(default=None, max_length=200, description="Of one run only.")


class CheckIn(Body):
    """Which judge is checked."""

    metric: str = Field(min_length=1, max_length=300)
    threshold: float | None = Field(default=None, allow_inf_nan=False)


def rater_of(who: Principal) -> str:
    """What the caller's labels are known by: on a laptop by the user's name, as those of a script are."""
    return user_name() if who.id == LOCAL.id else who.id


def name_of(who: Principal) -> str:
    """What the caller is called."""
    return user_name() if who.id == LOCAL.id else who.name


def check_own(who: Principal, raters: Sequence[str]) -> None:
    """Refuse labels of others to those who may enter their own only.

    Raises:
        ForbiddenError: the caller is a labeller, and one is of somebody else.
    """
    other = next((rater for rater in raters if rater != rater_of(who)), None)
    if other is not None and not who.may("run"):
        raise ForbiddenError(
            f"Labels of {other[:100]!r} are not {who.name}'s: this needs the role engineer or above."
        )


@router.get("/runs/{run_id}/case-labels", summary="List the labels of a run", response_model=CaseLabelPage)
async def list_case_labels(
    lab: TheLab,
    who: LinkViewer,
    run_id: RunId,
    limit: Annotated[int, Query(ge=1, le=1_000, description="About so many labels.")] = 500,
    cursor: Cursor = None,
) -> Any:
    """By case and trial. A link does not say who the raters are."""
    labels, following = await lab.labels.page(run_id, after=_key(cursor) if cursor else None, limit=limit)
    if who.only:
        labels = [replace(label, rater="", rater_name="", by="") for label in labels]
    return {
        "items": [label.to_json() for label in labels],
        "next_cursor": f"{following.case}.{following.trial}" if following else None,
    }


@router.post("/runs/{run_id}/case-labels", summary="Label cases of a run", response_model=ChangedOut)
async def label_cases(lab: TheLab, who: Labeller, run_id: RunId, body: CaseLabelsIn) -> Any:
    """A label by the same rater on the same case and metric is replaced, and kept as history."""
    labels = [one.label() for one in body.labels]
    check_own(who, [label.rater for label in labels if label.rater])
    me = rater_of(who)
    changed = await lab.labels.put(run_id, labels, rater=me, rater_name=name_of(who), by=me)
    return {"changed": changed}


@router.post("/runs/{run_id}/case-labels/{key}/remove", summary="Remove a label", response_model=RemovedOut)
async def remove_case_label(
    lab: TheLab,
    who: Labeller,
    run_id: RunId,
    key: Annotated[str, Path(max_length=30, description="The row, and after a dot the trial: 12.1")],
    body: RaterIn,
) -> Any:
    """With its history; none is fine."""
    rater = body.rater or rater_of(who)
    check_own(who, [rater])
    removed = await lab.labels.remove(run_id, _key(key), rater=rater, metric=body.metric)
    return {"removed": int(removed)}


@router.post("/case-labels/remove", summary="Remove all labels of a rater", response_model=RemovedOut)
async def forget_rater(lab: TheLab, who: Labeller, body: ForgetIn) -> Any:
    """For good, with their history."""
    rater = body.rater or rater_of(who)
    check_own(who, [rater])
    return {"removed": await lab.labels.forget_rater(rater, body.run_id)}


@router.get("/runs/{run_id}/label-queue", summary="Draw cases to label", response_model=QueueOut)
async def label_queue(
    lab: TheLab,
    who: LinkViewer,
    run_id: RunId,
    n: Annotated[int, Query(ge=1, le=MOST_QUEUED, description="Cases.")] = 100,
    seed: Annotated[int, Query(ge=0, le=2**53, description="Which sample.")] = 0,
    q: Annotated[str, Query(max_length=1_000, description="Only cases in which a search finds it.")] = "",
    status: Annotated[Literal["ok", "failed"] | None, Query(description="Only such cases.")] = None,
    rater: Annotated[str | None, Query(max_length=200, description="Whose labels count as done.")] = None,
    metric: Annotated[str, Query(max_length=300, description="What the labels are about.")] = "",
    second: Annotated[bool, Query(description="Only cases that somebody else labelled.")] = False,
) -> Any:
    """The same seed draws the same rows of every run over a dataset."""
    found = await lab.labels.queue(
        run_id,
        n=n,
        seed=seed,
        filter=Filter(text=q.strip(), status=status),
        rater=rater or rater_of(who),
        metric=metric,
        second=second,
    )
    return {"items": [{name: getattr(one, name) for name in one.__slots__} for one in found]}


@router.get("/runs/{run_id}/judge-check", summary="Hold a judge against labels", response_model=JudgeCheckOut)
async def look_at_judge(
    lab: TheLab, who: LinkViewer, run_id: RunId, metric: Metric, threshold: Threshold = None
) -> Any:
    """Nothing is recorded."""
    return (await lab.labels.check(run_id, metric, threshold=threshold, record=False)).to_json()


@router.post("/runs/{run_id}/judge-check", summary="Certify a judge", response_model=JudgeCheckOut)
async def check_judge(lab: TheLab, who: Engineer, run_id: RunId, body: CheckIn) -> Any:
    """Whether it is certified is recorded under its fingerprint: gates ask for that."""
    return (await lab.labels.check(run_id, body.metric, threshold=body.threshold)).to_json()


@router.get("/runs/{run_id}/corrected", summary="Read the corrected means", response_model=CorrectedOut)
async def corrected_means(lab: TheLab, who: LinkViewer, run_id: RunId) -> Any:
    """Those of judges, and of metrics that people labelled; none where fewer than 20 rows are labelled."""
    found = await lab.labels.corrected(run_id)
    return {"metrics": {name: one.to_json() for name, one in found.items()}}


@router.get("/judge-drift", summary="Measure the drift of a judge", response_model=DriftOut)
async def judge_drift(
    lab: TheLab,
    who: Viewer,
    run: Annotated[
        list[Annotated[str, Query(min_length=1, max_length=200)]],
        Query(min_length=2, max_length=2, description="The base run, and the other."),
    ],
    metric: Metric,
) -> Any:
    """By the answers that are the same, byte for byte, in both."""
    return (await lab.labels.drift(run[0], run[1], metric)).to_json()


def _key(text: str) -> CaseKey:
    row, _, trial = text.partition(".")
    if not row.isdecimal() or not (trial or "0").isdecimal() or len(text) > 20:
        raise HTTPException(422, f"{text[:50]!r} is no case: a row, from 0, as in 12 or 12.1.")
    return CaseKey(int(row), int(trial or 0))
