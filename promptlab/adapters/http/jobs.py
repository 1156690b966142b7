"""Jobs of a hosted Studio: have one done, wait for it, tell how far it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from promptlab.adapters.http.client import ApiClient
from promptlab.adapters.http.problems import error_from
from promptlab.errors import RunError

OnJob = Callable[[Mapping[str, Any]], None]
"""Told of a job with each look at it: `kind`, `stage`, `done`, `total`, as the API has them; of uploads,
too, in bytes."""
WAIT_S = 20
"""How long the Studio keeps a question about a job."""
TRIES = 3
"""How often a job is begun that was interrupted."""


class RemoteJobs:
    """Has jobs done.

    Args:
        api: the Studio.
    """

    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self.on_job: OnJob | None = None
        """Told of each look at a job."""

    def sending(self, total: int) -> Callable[[int], None] | None:
        """Give what is told how many bytes of a file are sent; None where nobody wants to know."""
        if (told := self.on_job) is None:
            return None
        return lambda sent: told({"kind": "upload", "stage": "uploading", "done": sent, "total": total})

    async def done(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Begin a job and wait for its end; one whose worker dies is tried again.

        Raises:
            PromptLabError: it failed, for this reason.
            RunError: it was cancelled, or interrupted again and again.
        """
        job: Mapping[str, Any] = await self._api.json("POST", path, json=dict(body))
        for attempt in range(1, TRIES + 1):
            job = await self._over(job)
            if job["status"] == "done":
                return job
            if job["status"] == "failed":
                raise error_from(int(job["error"]["status"]), job["error"])
            if job["status"] == "cancelled" or attempt == TRIES:
                break
            job = await self._api.json("POST", f"/jobs/{job['id']}/retry")
        raise RunError(f"Job {job['id']} at {self._api.endpoint} was {job['status']}.")

    async def _over(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        while True:
            if self.on_job:
                self.on_job(job)
            if job["status"] not in ("queued", "running"):
                return job
            # Short looks where somebody watches; else the Studio keeps the question.
            if self.on_job:
                await self._api.sleep(1.0)
            job = await self._api.get(f"/jobs/{job['id']}", wait=0 if self.on_job else WAIT_S)
