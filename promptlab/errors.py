"""Every error that PromptLab raises.

PromptLabError
├── ConfigError                 an experiment, model or evaluator is described wrongly
│   ├── UnknownNameError        a name that is not registered (metric, provider, field), with the nearest ones
│   ├── MissingKeyError         a provider needs an API key and none was found
│   ├── UntrustedCodeError      a store names code that this user did not record in it
│   ├── MissingExtraError       an optional package is not installed
│   ├── SqlError                a question in SQL cannot be answered: it is wrong, or asks for too much
│   ├── MessageError            a conversation is no list of messages
│   └── TemplateError           a prompt template cannot be parsed, or its placeholders cannot be filled
├── DatasetError                a dataset cannot be read or breaks a rule
├── AssetError
│   ├── AssetNotFoundError
│   ├── VersionTakenError       somebody else created this version first
│   └── VersionInUseError       a version that a run uses, or that has a label, is not deleted
├── RunError
│   ├── RunNotFoundError
│   ├── SweepNotFoundError
│   ├── RunExistsError          a run with this id is already in the ledger
│   ├── RunChangedError         somebody else changed the run since it was read
│   ├── RunBusyError            another process is working on the run
│   ├── RunInUseError           a run that a label points at is not deleted
│   ├── LabelNotFoundError      no run of the experiment has this label
│   ├── LabelMovedError         somebody else moved the label since
│   └── RunInterruptedError     the run was stopped before its end; it can be resumed
├── JobNotFoundError
├── ProjectNotFoundError        a lab has no project of this name
├── ProjectExistsError          there is a project of this name already
├── ProjectArchivedError        nothing is started or created in an archived project
├── BlobNotFoundError
├── StoreDamagedError           a record or the file of a store cannot be read
├── DiskFullError               the disk, or what one may use of it, is full
├── StoreBusyError              the store cannot answer now; it can in some seconds
│   └── SandboxBusyError        no sandbox is free for code of users now
├── SandboxError                the sandbox for code of users does not start, or refuses what it is asked
│   └── SandboxLostError        it broke down in the middle; what it was asked may be asked again
├── CursorError                 a list was asked to go on from where no list ended
├── AuthenticationError         a hosted Studio wants a token, or another one
├── ForbiddenError              a hosted Studio knows the caller, whose role does not allow this
├── TooManyTriesError           too many wrong tokens came from this address
├── TooManyJobsError            a lab has as many jobs under way as it may
├── RemoteError                 a hosted Studio answered what has no error of its own here
├── PortInUseError              something else listens on the Studio's port
├── EndpointUnreachableError    nothing answers at a model's endpoint
└── ModelError                  one model call failed (recorded with its case; never ends a run)
    └── HangingCodeError        too many calls of a user's own code hang: it is not called any more
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from promptlab.program import is_deployed, program


class PromptLabError(Exception):
    """The base of every error that PromptLab raises on purpose."""


class ConfigError(PromptLabError):
    """An experiment, a model or an evaluator is described wrongly."""


class UnknownNameError(ConfigError):
    """A name that is not registered; the message lists the nearest names.

    Attributes:
        what: the kind of thing, as in "metric".
        name: the name that was asked for.
        known: every name there is.
    """

    def __init__(self, what: str, name: str, known: Iterable[str], remedy: str = "") -> None:
        self.what, self.name, self.known = what, name, sorted(known)
        name = name if len(name) <= 200 else f"{name[:200]}…"  # comparing takes the square of the length
        near = difflib.get_close_matches(name.lower(), self.known, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"Known: {', '.join(self.known)}."
        super().__init__(f"Unknown {what} {name!r}. {hint}{' ' + remedy if remedy else ''}")


class MissingKeyError(ConfigError):
    """A provider needs an API key and none was found.

    Attributes:
        variable: the environment variable, or the secret, that was looked up.
    """

    def __init__(self, model: str, variable: str, *, secret: bool = False) -> None:
        self.model, self.variable = model, variable
        super().__init__(
            f"Model {model!r} names the secret {variable!r}, which is not there: promptlab cloud secrets "
            f"set {variable}"
            if secret
            else f"Model {model!r} needs an API key, and a hosted lab has no environment of yours: set a "
            "secret (promptlab cloud secrets set NAME) and name it in the model: api_key_secret: NAME."
            if is_deployed()
            else f"Model {model!r} needs an API key: set the environment variable {variable}, or pass "
            "api_key=… (or api_key_env=…) to the model."
        )


class UntrustedCodeError(ConfigError):
    """A run names code that was recorded elsewhere, by somebody else or by an older version: nothing of it
    was run.

    Attributes:
        code: the references, as `path/to/file.py:Name` or `module:Name`.
    """

    def __init__(self, code: list[str]) -> None:
        self.code = code
        super().__init__(
            f"This run names code that was not recorded here by you: {', '.join(code)}. Nothing of it was "
            "run. Look at it first; then go on with promptlab resume RUN --trust-code, or "
            "pl.experiment.resume(run_id, trust_code=True)."
        )


class MissingExtraError(ConfigError):
    """An optional package is not installed; the message is the command that installs it."""

    def __init__(self, what: str, extra: str) -> None:
        self.extra = extra
        super().__init__(
            f"{what} needs a package of promptlab-serverless[{extra}], which this hosted lab does not have: "
            "its functions have no room for it. Choose another, or do this on a machine of your own."
            if is_deployed()
            else f"{what} needs an optional package: pip install 'promptlab-serverless[{extra}]'"
        )


class TemplateError(ConfigError):
    """A prompt template cannot be parsed, or a placeholder cannot be filled."""


class SqlError(ConfigError):
    """A question in SQL cannot be answered: it is wrong, or asks for too much."""


class MessageError(ConfigError):
    """A conversation is no list of messages that can be read."""


class DatasetError(PromptLabError):
    """A dataset cannot be read or breaks a rule (empty, broken line, duplicate ids)."""


class AssetError(PromptLabError):
    """The base of errors about versioned assets."""


class AssetNotFoundError(AssetError):
    """No such asset, version or label."""


class VersionTakenError(AssetError):
    """Somebody else created this version of the asset first. Reading again and retrying is safe."""


class VersionInUseError(AssetError):
    """A version that a run uses, or that has a label, is not deleted."""


class ProjectNotFoundError(PromptLabError):
    """A lab has no project of this name, or the caller may not see it.

    Attributes:
        project: the name that was asked for.
    """

    def __init__(self, project: str) -> None:
        self.project = project
        super().__init__(f"There is no project {project[:100]!r}.")

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.project,))


class ProjectExistsError(PromptLabError):
    """There is a project of this name already, or its deletion has not ended.

    Attributes:
        project: its name.
    """

    def __init__(self, project: str) -> None:
        self.project = project
        super().__init__(f"There is a project {project!r} already, or its deletion has not ended yet.")

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.project,))


class ProjectArchivedError(PromptLabError):
    """A project is archived: what it has can be read, and nothing is started or created in it."""


class RunError(PromptLabError):
    """The base of errors about runs."""


class RunNotFoundError(RunError):
    """No run has this id."""

    def __init__(self, run_id: str, hint: str = "") -> None:
        self.run_id = run_id
        super().__init__(f"No run {run_id!r} in this store. {hint}`{program()} runs` lists them.")


class SweepNotFoundError(RunError):
    """No sweep has this id."""

    def __init__(self, sweep_id: str) -> None:
        self.sweep_id = sweep_id
        super().__init__(f"No sweep {sweep_id[:100]!r} in this store. `{program()} sweep` lists them.")


class JobNotFoundError(PromptLabError):
    """No job has this id, or it is older than a day."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"There is no job {job_id!r}: a job is kept for a day.")


class RunExistsError(RunError):
    """A run with this id is already in the ledger."""


class RunChangedError(RunError):
    """The run is no longer what it was when it was read."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(f"Run {run_id} was changed since: read it again.")


class RunBusyError(RunError):
    """Another process is working on the run right now."""


class RunInUseError(RunError):
    """A label points at the run: it is not deleted."""


class LabelNotFoundError(RunError):
    """No run of the experiment has this label."""


class LabelMovedError(RunError):
    """The label points at another run than it did when it was read."""


class RunInterruptedError(RunError):
    """The run was stopped before its end. What is finished is kept.

    Attributes:
        run_id: the run to resume.
    """

    def __init__(self, run_id: str, message: str) -> None:
        self.run_id = run_id
        super().__init__(message)


class BlobNotFoundError(PromptLabError):
    """No blob has this key."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"No blob {key!r} in this store.")


class StoreBusyError(PromptLabError):
    """The store is throttling: the same again in some seconds may succeed."""


class StoreDamagedError(PromptLabError):
    """A record or the file of a store cannot be read. `promptlab doctor` checks a local store and saves what
    is left."""


class DiskFullError(PromptLabError):
    """The disk is full, or what one may use of it. Nothing half written was left."""


class SandboxBusyError(StoreBusyError):
    """No sandbox is free for code of users now."""


class SandboxError(PromptLabError):
    """The sandbox for code of users does not start, or refuses what it is asked."""


class SandboxLostError(SandboxError):
    """A sandbox broke down in the middle; what it was asked may be asked again."""


class CursorError(PromptLabError):
    """A list was asked to go on from where no list ended."""


class AuthenticationError(PromptLabError):
    """A hosted Studio wants a token, or another one."""


class ForbiddenError(PromptLabError):
    """A hosted Studio knows the caller, whose role does not allow this."""


class TooManyJobsError(PromptLabError):
    """A lab has as many jobs under way as it may have at once."""


class TooManyTriesError(PromptLabError):
    """Too many wrong tokens came from this address.

    Attributes:
        wait_s: seconds after which it may try again.
    """

    def __init__(self, wait_s: float | str) -> None:
        self.wait_s = round(float(wait_s or 0))
        super().__init__(f"Too many wrong tokens. Try again in {self.wait_s} seconds.")


class RemoteError(PromptLabError):
    """A hosted Studio answered what has no error of its own here.

    Attributes:
        status: the HTTP status.
        problem: the problem details (RFC 9457) that it gave, else empty.
    """

    def __init__(self, message: str, *, status: int, problem: Mapping[str, Any] | None = None) -> None:
        self.status, self.problem = status, problem or {}
        super().__init__(message)


class PortInUseError(PromptLabError):
    """Something else listens on the Studio's port."""


class EndpointUnreachableError(PromptLabError):
    """Nothing answers at a model's endpoint."""


_REFUSALS = frozenset(
    {"authentication", "quota", "not_found", "bad_request", "rate_limit", "conflict", "server_error"}
)


class ModelError(PromptLabError):
    """One model call failed.

    Attributes:
        type: a short, stable name: authentication, not_found, bad_request, content_filter,
            rate_limit, quota, server_error, timeout, connection, invalid_response, answer_too_large, or an
            exception's name.
        status: the HTTP status, if there was one.
        retryable: whether the same call may succeed later.
        retry_after_s: seconds that the provider asked to wait, if it did.
        attempts: how many calls were made before it was final.
        sent: whether the request may have reached the provider.
        said: the beginning of what came back, without keys; empty where nothing did.
        request_id: the provider's own name for the call, for its support.
        prompt_tokens, completion_tokens, cost_usd: what the failed call was billed, where its answer says;
            None where nobody knows.
        messages, trace: what code of a user recorded before it failed.
    """

    attempts: int = 1
    said: str = ""
    request_id: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    messages: Any = ()
    trace: Any = None

    def __init__(
        self,
        message: str,
        *,
        type: str,
        status: int | None = None,
        retryable: bool = False,
        retry_after_s: float | None = None,
        sent: bool = True,
    ) -> None:
        self.type, self.status, self.retryable, self.retry_after_s = type, status, retryable, retry_after_s
        self.sent = sent
        super().__init__(message)

    @property
    def refused(self) -> bool:
        """Whether the call surely cost nothing: it was not made, or was answered with an error."""
        return not self.sent or self.type in _REFUSALS or (self.status or 0) >= 400

    @property
    def is_gone(self) -> bool:
        """Whether nothing was there to answer: no connection, or a gateway that says so."""
        lost = self.type == "connection" or (self.type == "timeout" and not self.sent)
        return self.retryable and (lost or self.status in (502, 503))


class HangingCodeError(ModelError):
    """Too many calls of a user's own code were given up and still hang: it is not called any more.

    Attributes:
        calls: how many hang.
    """

    def __init__(self, calls: int) -> None:
        self.calls = calls
        super().__init__(
            f"not called: {calls:,} earlier calls of your own code were given up at their time limit and "
            "still hang. Give the code a time limit of its own, start the program anew, and do the failed "
            "cases again.",
            type="hanging",
            sent=False,
        )
