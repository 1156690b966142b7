"""How errors travel over HTTP: the one table, for the Studio that sends them and the
client that raises them again.

An error goes as RFC 9457 problem details. Its `type` is `urn:promptlab:<code>`, by which the client
knows the class; an error whose class is not here goes as the nearest class above it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from promptlab import errors

MEDIA_TYPE = "application/problem+json"
URN = "urn:promptlab:"
INVALID = "invalid-request"
"""A request that breaks the API's own rules: it has no exception, and is a ConfigError for the client."""


@dataclass(frozen=True, slots=True)
class Kind:
    """The form of an error over HTTP."""

    status: int
    code: str
    title: str
    member: str | None = None
    """The attribute that the error is made of, and that goes along, where that is not its message."""


KINDS: dict[type[errors.PromptLabError], Kind] = {
    errors.PromptLabError: Kind(503, "store-unavailable", "The store cannot be used"),
    errors.StoreBusyError: Kind(503, "store-busy", "The store is busy"),
    errors.DiskFullError: Kind(507, "disk-full", "The disk is full"),
    errors.AuthenticationError: Kind(401, "unauthenticated", "A token is needed"),
    errors.ForbiddenError: Kind(403, "forbidden", "This is not allowed"),
    errors.TooManyJobsError: Kind(429, "too-many-jobs", "Too many jobs"),
    errors.TooManyTriesError: Kind(429, "too-many-tries", "Too many wrong tokens", "wait_s"),
    errors.RunNotFoundError: Kind(404, "run-not-found", "No such run", "run_id"),
    errors.SweepNotFoundError: Kind(404, "sweep-not-found", "No such sweep", "sweep_id"),
    errors.JobNotFoundError: Kind(404, "job-not-found", "No such job", "job_id"),
    errors.AssetNotFoundError: Kind(404, "asset-not-found", "No such asset"),
    errors.BlobNotFoundError: Kind(404, "content-not-found", "The content is not there", "key"),
    errors.RunError: Kind(409, "run-error", "The run does not allow this"),
    errors.RunExistsError: Kind(409, "run-exists", "There is a run with this id"),
    errors.VersionInUseError: Kind(409, "version-in-use", "The version is in use"),
    errors.ProjectNotFoundError: Kind(404, "project-not-found", "There is no such project", "project"),
    errors.ProjectExistsError: Kind(409, "project-exists", "There is a project of this name", "project"),
    errors.ProjectArchivedError: Kind(409, "project-archived", "The project is archived"),
    errors.RunChangedError: Kind(412, "run-changed", "The run was changed since", "run_id"),
    errors.RunInUseError: Kind(409, "run-in-use", "A label points at the run"),
    errors.LabelNotFoundError: Kind(404, "label-not-found", "No run has this label"),
    errors.LabelMovedError: Kind(412, "label-moved", "The label was moved since"),
    errors.RunBusyError: Kind(409, "run-busy", "Somebody works on the run"),
    errors.VersionTakenError: Kind(409, "version-taken", "Somebody else created this version"),
    errors.AssetError: Kind(422, "asset-error", "The asset does not allow this"),
    errors.ConfigError: Kind(422, "config", "The experiment is not valid"),
    errors.SqlError: Kind(422, "sql", "The question cannot be answered"),
    errors.TemplateError: Kind(422, "template", "The prompt template is not valid"),
    errors.DatasetError: Kind(422, "dataset", "The dataset is not valid"),
    errors.CursorError: Kind(422, "cursor", "The cursor is not valid"),
    errors.EndpointUnreachableError: Kind(424, "endpoint-unreachable", "A model's endpoint does not answer"),
}
_BY_CODE = {kind.code: (cls, kind) for cls, kind in KINDS.items()}


def problem_kind(error: errors.PromptLabError) -> Kind:
    """Return the form of an error over HTTP: that of its own class, or of the nearest one above it."""
    return next(KINDS[cls] for cls in type(error).__mro__ if cls in KINDS)


def members_of(error: errors.PromptLabError) -> dict[str, Any]:
    """Return the members that go along with an error besides its message."""
    member = problem_kind(error).member
    return {member: getattr(error, member)} if member else {}


def error_from(status: int, problem: Mapping[str, Any]) -> errors.PromptLabError:
    """The error that problem details speak of."""
    code = str(problem.get("type", "")).removeprefix(URN)
    detail = str(problem.get("detail") or problem.get("title") or f"HTTP status {status}")
    if code == INVALID:
        return errors.ConfigError(_with_fields(detail, problem.get("errors")))
    cls, kind = _BY_CODE.get(code, (None, None))
    if cls is None or kind is None or cls is errors.PromptLabError:
        return errors.RemoteError(detail, status=status, problem=problem)
    return cls(str(problem.get(kind.member, "")) if kind.member else detail)


def _with_fields(detail: str, listed: Any) -> str:
    lines = [
        f"  - {item['field']}: {item['message']}"
        for item in listed or ()
        if isinstance(item, Mapping) and {"field", "message"} <= item.keys()
    ]
    return "\n".join([detail, *lines])
