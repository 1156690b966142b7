"""The protocol of a provider's batches, and what its four implementations share."""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import orjson

from promptlab.domain.chat import Prompt
from promptlab.domain.results import ModelResponse
from promptlab.errors import ModelError
from promptlab.models.wire.parts import NOTHING, Loaded

MOST_REQUEST_BYTES = 32 << 20
"""The longest request: a medium of 20 MB has 27 MB in base64."""
MOST_LINE_BYTES = MOST_REQUEST_BYTES + (16 << 20)
"""The longest line of a file of results: an answer has 16 MB at most, and its request may stand beside it."""
LIST_PAGES = 100
"""Pages of a provider's list of batches that are looked through for one of ours."""
CLOCK_SKEW_S = 3600.0
"""How far a provider's clock may be behind ours: older batches are not looked at."""

Ended = Literal["", "expired", "cancelled", "failed", "busy"]
"""Why requests of a batch that has ended have no answer: the batch took too long, was cancelled, was refused
as a whole, or found no room in the account's queue. Empty: the batch came to its end."""


class Limits(NamedTuple):
    """The bounds of one batch, as the provider documents them."""

    requests: int
    """Requests at most."""
    size_bytes: int
    """Bytes of its file at most."""
    least: int = 1
    """Requests at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A batch as it is submitted: all that finds it again is known before."""

    token: str
    """Our name for it, the same whenever it is submitted again."""
    requests: int
    size_bytes: int
    prefix: str
    """What the custom ids of its requests, and of no others, begin with."""
    since: float
    """When it was first about to be submitted, in seconds since 1970."""
    content: Callable[[], AsyncIterator[bytes]]
    """The file's bytes, in pieces: a line for each request."""
    folder: str = ""
    """The key of the folder of its run's batches in the bucket of a deployed lab, which is the place of a
    provider that reads S3. Empty on a laptop."""
    known: frozenset[str] = frozenset()
    """The provider's ids of other batches of ours, which this one is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchState:
    """The state of a batch at its provider."""

    ended: bool
    done: int = 0
    """Requests with an answer or an error, so far."""
    failed: int = 0
    """Those with an error among them."""
    reason: Ended = ""
    message: str = ""
    """The provider's words for the reason."""
    files: tuple[str, ...] = field(default=())
    """Where the results are, as the provider names its files."""


class UndecidedError(Exception):
    """Whether a batch was submitted cannot be told yet: ask again later."""


Result = tuple[str, ModelResponse | ModelError]
"""A request's custom id, and its answer or why there is none."""


class Batches(ABC):
    """One provider's batches for one model.

    `submit`, `find`, `look` and `results` raise `ModelError` for what the provider refuses, as calls do; one
    that is `retryable` may be tried again, and a `submit` that ended with such a one may have arrived.
    """

    limits: Limits
    """The bounds of one batch: the provider's, unless whoever made this gave others."""
    keeps_days: ClassVar[int] = 29
    """For how many days the provider keeps results."""

    @abstractmethod
    def line(self, custom_id: str, messages: Prompt, data: Loaded = NOTHING) -> bytes:
        """Write a request as a line of the file, without its end.

        Args:
            custom_id: what its answer is found by.
            messages: what is asked: plain messages, or a request with parts and tools.
            data: the bytes of its media.

        Raises:
            ModelError: it cannot be written.
        """

    @abstractmethod
    async def submit(self, batch: Submission) -> str:
        """Submit a batch and return the provider's id of it."""

    @abstractmethod
    async def find(self, batch: Submission) -> str | None:
        """Find a batch that may have been submitted before, by our name; None where there is none.

        Raises:
            UndecidedError: it cannot be told yet.
        """

    @abstractmethod
    async def look(self, batch_id: str, batch: Submission) -> BatchState:
        """Look how far a batch is."""

    @abstractmethod
    def results(self, batch_id: str, state: BatchState) -> AsyncIterator[Result]:
        """Stream the results of a batch that has ended, in any order."""

    async def aclose(self) -> None:  # noqa: B027 - most hold nothing
        """Release what is held beside the model's own connections. Closing twice is fine."""


async def lines_of(chunks: AsyncIterable[bytes], model: str) -> AsyncIterator[bytes]:
    """Split a stream into lines, in memory for one line.

    Raises:
        ModelError: a line is longer than MOST_LINE_BYTES.
    """
    rest: list[bytes] = []
    size = 0
    async for chunk in chunks:
        first, *others = chunk.split(b"\n")
        rest.append(first)
        size += len(first)
        if size > MOST_LINE_BYTES:
            raise ModelError(
                f"{model}: a line of the batch's results is longer than {MOST_LINE_BYTES >> 20} MB",
                type="answer_too_large",
            )
        for other in others:
            if line := b"".join(rest).strip():
                yield line
            rest, size = [other], len(other)
    if line := b"".join(rest).strip():
        yield line


def object_of(line: bytes) -> dict[str, Any]:
    """Read a line of results; an empty object for what is none."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def encoded(value: Any, model: str) -> bytes:
    """Write a request as JSON on one line.

    Raises:
        ModelError: it holds half of a surrogate pair, which JSON allows and UTF-8 does not.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS, default=_coded)
    except TypeError as error:
        raise ModelError(
            f"{model}: the prompt cannot be sent as JSON: {error}", type="bad_request", sent=False
        ) from None


def _coded(value: Any) -> str:
    """Bytes as JSON has them, which botocore takes as they are."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} is no JSON")


def count(value: Any) -> int:
    """Read a count that a provider gives as a number or a text; 0 for what is none."""
    try:
        return max(0, int(value))
    except (TypeError, ValueError, OverflowError):
        return 0
