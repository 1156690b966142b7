"""Labels of people in a hosted Studio: the contract is `promptlab.labelling.contract.LabLabels`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from promptlab.adapters.http.client import ApiClient
from promptlab.domain.labels import CaseLabel
from promptlab.domain.records import made
from promptlab.domain.results import CaseKey
from promptlab.labelling.values import CaseToLabel, CorrectedMean, Drift, JudgeCheck
from promptlab.queries.filters import NO_FILTER, Filter

AT_ONCE = 500
"""Labels of one request."""
_SENT = ("case", "trial", "id", "passed", "score", "tag", "note", "metric", "rater", "blind", "random")


class RemoteLabels:
    """The labels of a hosted Studio."""

    me = ""
    """Who labels: the Studio knows that by itself."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    async def put(
        self, run_id: str, labels: Sequence[CaseLabel], *, rater: str, rater_name: str = "", by: str = ""
    ) -> int:
        """Keep labels on cases of a run; the Studio knows by itself who labels, where a label does not say.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigError: a label says nothing, or is of no case of the run.
            ForbiddenError: a labeller enters labels of others.
        """
        changed = 0
        for start in range(0, len(labels), AT_ONCE):
            some = [{name: getattr(one, name) for name in _SENT} for one in labels[start : start + AT_ONCE]]
            body = {"labels": [{k: v for k, v in one.items() if v not in (None, "")} for one in some]}
            for one in body["labels"]:
                if one["case"] < 0:
                    del one["case"]
            changed += (await self._api.json("POST", f"{_run(run_id)}/case-labels", json=body))["changed"]
        return changed

    async def of(self, run_id: str) -> AsyncIterator[CaseLabel]:
        """Give all labels of a run, by case."""
        cursor = None
        while True:
            page = await self._api.get(f"{_run(run_id)}/case-labels", limit=AT_ONCE, cursor=cursor)
            for one in page["items"]:
                yield CaseLabel.from_json(one)
            cursor = page["next_cursor"]
            if cursor is None:
                return

    async def remove(self, run_id: str, case: CaseKey, *, rater: str, metric: str = "") -> bool:
        """Remove one rater's label of a case; False where there is none."""
        path = f"{_run(run_id)}/case-labels/{case.case}.{case.trial}"
        found = await self._api.json("POST", f"{path}/remove", json={"rater": rater, "metric": metric})
        return bool(found["removed"])

    async def forget_rater(self, rater: str, run_id: str | None = None) -> int:
        """Remove all labels of a rater for good, of one run or of all; and count them."""
        body = {"rater": rater, "run_id": run_id}
        return int((await self._api.json("POST", "/case-labels/remove", json=body))["removed"])

    async def queue(
        self,
        run_id: str,
        *,
        n: int = 100,
        seed: int = 0,
        filter: Filter = NO_FILTER,
        rater: str = "",
        metric: str = "",
        second: bool = False,
    ) -> list[CaseToLabel]:
        """Draw a sample of cases to label, by a seed."""
        found = await self._api.get(
            f"{_run(run_id)}/label-queue",
            n=n,
            seed=seed,
            q=filter.text or None,
            status=filter.status,
            rater=rater or None,
            metric=metric or None,
            second=second,
        )
        return [made(CaseToLabel, one) for one in found["items"]]

    async def check(
        self, run_id: str, metric: str, *, threshold: float | None = None, record: bool = True
    ) -> JudgeCheck:
        """Hold a judge's scores against people's labels, and record whether it is certified."""
        path, asked = f"{_run(run_id)}/judge-check", {"metric": metric, "threshold": threshold}
        if not record:
            return JudgeCheck.from_json(await self._api.get(path, **asked))
        return JudgeCheck.from_json(await self._api.json("POST", path, json=asked))

    async def corrected(self, run_id: str) -> Mapping[str, CorrectedMean]:
        """Correct the means of a run's judges by people's labels."""
        found: dict[str, Any] = (await self._api.get(f"{_run(run_id)}/corrected"))["metrics"]
        return {name: CorrectedMean.from_json(one) for name, one in found.items()}

    async def drift(self, base_id: str, run_id: str, metric: str) -> Drift:
        """Measure what a judge makes of the same answers in two runs."""
        return Drift.from_json(await self._api.get("/judge-drift", run=[base_id, run_id], metric=metric))


def _run(run_id: str) -> str:
    return f"/runs/{quote(run_id, safe='')}"
