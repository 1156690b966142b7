"""The ports: what the engine needs from the outside. The docstrings are the contract; tests/contract
holds every adapter to it.

Adapters translate "there is none" into the errors and Nones named here, and let everything else
that goes wrong pass through unchanged.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from promptlab.domain.assets import AssetKind, AssetVersion
from promptlab.domain.outline import RunOutline
from promptlab.domain.records import Swap
from promptlab.domain.results import CaseKey, Completion, Progress, RunRecord, ScoreSet, ShardSummary
from promptlab.domain.secrets import Secret
from promptlab.domain.tokens import Needed
from promptlab.domain.turns import Turn
from promptlab.errors import ModelError


class Records(Protocol):
    """Small JSON objects by kind and key, with an expiry."""

    async def put_record(
        self,
        kind: str,
        key: str,
        value: Mapping[str, Any],
        *,
        expires_at: float | None = None,
        only_if_absent: bool = False,
    ) -> bool:
        """Keep a small JSON object (a session, a token, …); with `only_if_absent` False (and no change) when
        there is one already.

        At `expires_at` (seconds since 1970, UTC) it is gone.
        """

    async def get_record(self, kind: str, key: str) -> dict[str, Any] | None:
        """The object, or None when there is none or it has expired."""

    async def delete_record(self, kind: str, key: str) -> None:
        """Remove it; none is fine."""

    async def swap_records(self, swaps: Sequence[Swap]) -> bool:
        """Change some records at once, each from what it was to what it shall be; False (and no change) when
        one of them is no longer what it was. At most 50, of different keys."""

    async def clear_records(self, kind: str) -> None:
        """Remove all records of a kind, where the store can find them by it; else those with an end go at
        that."""

    async def list_records(
        self, kind: str, *, newest: bool = False, after: str = "", limit: int = 100
    ) -> list[tuple[str, dict[str, Any]]]:
        """At most `limit` keys and objects of a kind in `domain.records.LISTED` that have not expired, by key
        (backwards with `newest`); those beyond the key `after`. Fewer than `limit` are all that there are.

        Raises:
            ValueError: records of this kind are not listed.
        """

    async def count_up(self, kind: str, key: str, *, by: int = 1, expires_at: float) -> tuple[int, float]:
        """Add to a counter, atomically, and return what it is then and when it ends.

        A counter begins at 0, ends at the `expires_at` of whoever began it, and then begins anew. It is no
        record: `get_record` does not find it.
        """


class Ledger(Records, Protocol):
    """The transactional record of assets, runs, completions and scores.

    Every write is durable when it returns, idempotent under its key, and safe to repeat.
    A read sees every write that returned before it began.
    """

    async def add_asset(self, asset: AssetVersion) -> None:
        """Record a new version. `asset.labels` is ignored: see `set_label`.

        Raises:
            VersionTakenError: this kind, name and version is recorded already.
        """

    async def get_asset(self, kind: AssetKind, name: str, version: int | None = None) -> AssetVersion | None:
        """One version, the latest by default, with its labels; None when there is none."""

    async def list_assets(self, kind: AssetKind) -> list[AssetVersion]:
        """The latest version of every asset of a kind, with its labels, sorted by name."""

    async def list_versions(self, kind: AssetKind, name: str) -> list[AssetVersion]:
        """Every version of one asset, with labels, oldest first; empty when there is none."""

    async def delete_asset(self, kind: AssetKind, name: str, version: int) -> None:
        """Remove a version, with the labels that point at it and what it alone had in blobs; none is fine."""

    async def set_label(self, kind: AssetKind, name: str, label: str, version: int) -> None:
        """Point a label at a version; it leaves the version that it pointed at before.

        Raises:
            AssetNotFoundError: there is no such version.
        """

    async def delete_label(self, kind: AssetKind, name: str, label: str) -> bool:
        """Remove a label; False when there was none."""

    async def get_label(self, kind: AssetKind, name: str, label: str) -> int | None:
        """The version that a label points at, or None."""

    async def add_run(self, run: RunRecord) -> None:
        """Record a new run.

        Raises:
            RunExistsError: a run with this id is recorded already (and stays as it was).
        """

    async def get_run(self, run_id: str) -> RunRecord | None:
        """One run, or None."""

    async def update_run(
        self,
        run_id: str,
        changes: Mapping[str, Any],
        *,
        if_status: Collection[str] | None = None,
        if_is: Mapping[str, Any] | None = None,
    ) -> bool:
        """Set some fields of a run, atomically; False (and no change) when its status is not in `if_status`,
        or one of its fields has another value than `if_is` says.

        Raises:
            RunNotFoundError: there is no such run.
        """

    async def list_runs(
        self, *, name: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> tuple[list[RunRecord], str | None]:
        """A page of runs, newest first (by `created_at`, then id), of one experiment if `name` is given, and
        the cursor of the next page or None."""

    async def outline_runs(
        self, *, metrics: Collection[str] | None = None, limit: int = 100, cursor: str | None = None
    ) -> tuple[list[RunOutline], str | None]:
        """The same page of all runs as outlines, for lists, which look at many runs and show few: without
        summaries, or, where `metrics` is given, with those metrics of each and all that is no metric."""

    async def delete_run(self, run_id: str) -> bool:
        """Remove a run with its completions, turns, scores and shards, the run itself last;
        False when there was none.

        After a failure in the middle calling it again removes the rest.
        """

    async def shard_numbers(self, run_id: str, *, limit: int) -> list[int]:
        """The lowest numbers of the shards that something of a run is recorded of."""

    async def clear_shards(self, run_id: str, numbers: Collection[int]) -> None:
        """Remove the completions, turns, scores and summaries of some shards; none is fine."""

    async def put_completions(self, run_id: str, completions: Sequence[Completion]) -> None:
        """Record completions, all or, where it fails, any part of them; one with the same
        case and trial is replaced.

        Raises:
            RunNotFoundError: this ledger recorded or changed the run before, and it is gone since.
        """

    async def get_completions(self, run_id: str, shard: int) -> list[Completion]:
        """A shard's completions, by case and trial."""

    async def put_turns(self, run_id: str, turns: Sequence[Turn]) -> None:
        """Record turns of conversations under way, as `put_completions` does; one with the same case, trial
        and number is replaced.

        Raises:
            RunNotFoundError: this ledger recorded or changed the run before, and it is gone since.
        """

    async def get_turns(self, run_id: str, shard: int) -> list[Turn]:
        """A shard's turns, by case, trial and number."""

    async def clear_turns(self, run_id: str, shard: int, cases: Collection[CaseKey]) -> None:
        """Remove the turns of some cases, whose completions have all of them; none is fine."""

    async def put_scores(self, run_id: str, scores: Sequence[ScoreSet]) -> None:
        """Record score sets, all or, where it fails, any part of them; one with the same case
        and trial is replaced."""

    async def get_scores(self, run_id: str, shard: int) -> list[ScoreSet]:
        """A shard's score sets, by case and trial."""

    async def put_shard(self, run_id: str, shard: ShardSummary) -> None:
        """Record a finished shard, replacing an earlier summary of it."""

    def shards(self, run_id: str) -> AsyncIterator[ShardSummary]:
        """The summaries of a run's finished shards, by number."""

    async def progress(self, run_id: str) -> Progress:
        """How far the run is, from what is recorded.

        Raises:
            RunNotFoundError: there is no such run.
        """

    async def check(self) -> None:
        """Look whether what is stored can be read, before more is paid for.

        Raises:
            StoreDamagedError: it cannot.
        """

    async def close(self) -> None:
        """Release what is held. Closing twice is fine."""


class Blobs(Protocol):
    """Immutable objects under keys such as `datasets/<sha256>.jsonl`.

    A key is one or more parts of `[A-Za-z0-9._=-]`, joined by `/`, and never has a part `.` or `..`.
    A blob is there whole or not at all. Writing an existing key replaces it whole.
    """

    folder: Path | None
    """The folder whose files the blobs are, each under its key; None where blobs are no
    files of this machine."""

    async def put(self, key: str, data: bytes) -> None:
        """Store bytes."""

    async def put_file(self, key: str, path: Path) -> None:
        """Store a file's content without reading it into memory whole; the file stays."""

    async def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """The bytes, or a range of them.

        Raises:
            BlobNotFoundError: there is no such blob.
        """

    def stream(self, key: str) -> AsyncIterator[bytes]:
        """The bytes in pieces of at most 1 MiB.

        Raises:
            BlobNotFoundError: there is no such blob.
        """

    async def exists(self, key: str) -> bool:
        """Whether there is such a blob."""

    async def keys(self, prefix: str) -> list[str]:
        """The keys that begin with `prefix`, sorted."""

    async def files(self, keys: Sequence[str], folder: Path) -> list[Path]:
        """A file for each key, in the same order: the blob's own where it is one, else a copy in `folder`.
        Read only.

        Raises:
            BlobNotFoundError: a key has no blob.
        """

    async def delete(self, key: str) -> None:
        """Remove a blob; none is fine. Where older versions of blobs are kept, this one becomes one."""

    async def erase(self, prefix: str, *, limit: int = 1000) -> int:
        """Remove blobs whose keys begin with `prefix` for good, with every older version; at most `limit` of
        them, so that it takes seconds.

        Returns:
            How many were removed; fewer than `limit` where none is left.
        """

    async def close(self) -> None:
        """Release what is held. Closing twice is fine."""


@runtime_checkable
class DirectBlobs(Protocol):
    """Blobs that clients reach by themselves, where what they send or get would not
    fit through the Studio."""

    async def presign_put(self, key: str, *, content_type: str, size_bytes: int, max_age_s: int) -> str:
        """Sign a URL that anybody may PUT the blob to for some seconds, with this very
        Content-Type and length."""

    async def presign_get(self, key: str, *, max_age_s: int) -> str:
        """A URL that anybody may GET the blob from for some seconds; it is not checked that there is one."""

    def whole_key(self, key: str) -> str:
        """The key as others who reach the bucket by themselves know it."""

    async def origin(self) -> str:
        """The origin of all these URLs, as in `https://bucket.s3.eu-central-1.amazonaws.com`."""


class Runner(Protocol):
    """Works on recorded runs, in this process or elsewhere."""

    def claimed(self, run_id: str) -> AbstractAsyncContextManager[None]:
        """Hold a run, so that nobody else begins a pass over it.

        Raises:
            RunBusyError: somebody works on it.
        """

    async def hand_over(self, run: RunRecord) -> bool:
        """Give a recorded run to whoever works elsewhere, and return at once; False where `run` does the
        work, in this process.

        Handing the same pass over twice starts it once.
        """

    async def run(
        self,
        run: RunRecord,
        work: Any,
        on_progress: Callable[[Progress], None] | None = None,
        *,
        leave: bool = False,
    ) -> RunRecord:
        """Work on a claimed run to its end and give it back as it is then; `work` is what `Lab` made for it.

        With `leave`, only until all that is open is in batches at its provider.

        Raises:
            asyncio.CancelledError: the caller stopped waiting. In this process the run is recorded as
                interrupted, with all that was answered; elsewhere it goes on.
        """

    async def is_active(self, run: RunRecord) -> bool:
        """Whether somebody works on a run that says it is running."""

    async def cancel(self, run: RunRecord) -> None:
        """Stop whoever works on a run that is recorded as cancelled. None is fine."""

    async def close(self) -> None:
        """Release what is held. Closing twice is fine."""


class Tidier(Protocol):
    """Removes what was deleted, in another process."""

    async def begin(self) -> None:
        """Have it begin soon, and return at once."""

    async def close(self) -> None:
        """Release what is held. Closing twice is fine."""


class Quotas(Protocol):
    """Says how much of a hosted lab's account there is."""

    async def functions_at_once(self) -> tuple[int, int]:
        """How many functions run at once, and how many of these nothing has reserved.

        Raises:
            StoreBusyError: it cannot be asked now.
        """

    async def close(self) -> None:
        """Release what is held. Closing twice is fine."""


class Secrets(Protocol):
    """The source of provider keys."""

    async def get(self, name: str) -> Secret | None:
        """The secret, with the hosts that it may be sent to; None where there is none.

        Raises:
            ConfigError: what the name stands for is no provider's key.
        """

    async def close(self) -> None:
        """Release what is held. Closing twice is fine."""


class Sandbox(Protocol):
    """Runs code of users apart from everything that they may not reach."""

    async def ask(self, bundle_hash: str, event: Mapping[str, Any]) -> dict[str, Any]:
        """Run one invocation over a bundle, whose content is the blob `code/bundles/<bundle_hash>.json`.

        Args:
            bundle_hash: the SHA-256 (hex) of the bundle's content.
            event: what is asked: `role` (evaluate, infer, check), `ref`, `cases`, `limit_s`, …

        Returns:
            `{"answers": [{"n", "score" | "response" | "error" | "said", "printed"?, "usage"?}, …]}`, of as
            many cases as time and size allowed, or `{"error": {"type", "message"}}` where the code cannot be
            loaded.

        Raises:
            SandboxBusyError: none is free now; ask again later.
            SandboxLostError: it broke down in the middle; it may be asked again.
            SandboxError: it refuses what it is asked, or to start.
        """

    async def close(self) -> None:
        """Release what is held. Closing twice is fine."""


class Seals(Protocol):
    """Tells what this user put into a store from what somebody else did."""

    def seal(self, text: bytes) -> str | None:
        """A code that only this user on this machine can make of a text; None where there is no place for a
        key."""


class OutageWatch(Protocol):
    """Learns from attempts whether the provider is there at all."""

    streak: int
    count: int

    def failed(self, error: ModelError) -> bool:
        """Take note of a failed attempt; whether it is an outage's, and not its case's."""
        ...

    def over(self) -> None:
        """Take note that something answered."""
        ...


class RateLimiter(Protocol):
    """Decides when a model call may start.

    A holder of a slot calls exactly one of `succeeded`, `throttled`, `timed_out` or `failed`, then `release`.
    What `acquire` returned says to the first three which call it was.
    """

    async def acquire(self, needed: Needed | None = None) -> Any:
        """Wait for a slot, for a call of which so many tokens are known."""

    def release(self) -> None:
        """Give the slot back."""

    async def pause(self, seconds: float, clock: Clock) -> None:
        """Wait, but no longer than until no further call may start."""

    def spread_s(self) -> float:
        """The seconds that retries after a 429 should spread over at most."""

    def succeeded(self, start: Any) -> None:
        """The provider answered: the limit may grow."""

    def throttled(self, start: Any, wait_s: float | None = None) -> None:
        """The provider said 429, and perhaps when to ask again: fewer calls start."""

    def hear(self, start: Any, headers: Mapping[str, str]) -> None:
        """Take what the headers of an answer to a call say of the provider's limits."""

    def settle(self, start: Any, used: float, written: float) -> None:
        """Correct the tokens that a call was given by those that it used, some of them written."""

    def timed_out(self, start: Any) -> None:
        """No answer came in time: fewer calls are in flight."""

    def failed(self) -> None:
        """A server error or a lost connection: the limit stops growing for a while."""


class Clock(Protocol):
    """Time, so that tests need not wait for it."""

    def now(self) -> str:
        """The time of day, ISO 8601 with microseconds, UTC, ending in Z."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""
