"""Ledger records as JSON and back, and the cursors of their lists: the same in every ledger."""

from __future__ import annotations

import base64
import binascii
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import orjson

from promptlab.domain.assets import AssetVersion
from promptlab.domain.messages import read_messages
from promptlab.domain.records import LISTED, SWAPS, Swap, made
from promptlab.domain.results import (
    Attempt,
    Completion,
    Failure,
    RunRecord,
    RunStatus,
    Score,
    ScoreSet,
    ShardSummary,
    Usage,
)
from promptlab.domain.trace import trace_from
from promptlab.domain.turns import Turn
from promptlab.errors import CursorError, MessageError, StoreDamagedError

CHANGEABLE = frozenset(f.name for f in dataclasses.fields(RunRecord)) - {"run_id"}
"""The fields that `update_run` may change."""
_TOKENS = ("cached_tokens", "cache_write_tokens", "reasoning_tokens")
_SELDOM = {"messages", "trace", *_TOKENS}
_ALWAYS = tuple(f.name for f in dataclasses.fields(Completion) if f.name not in _SELDOM)


def to_json(value: Any) -> bytes:
    """A record, or what is in one, as JSON.

    Raises:
        TypeError: something in it is not JSON.
    """
    return orjson.dumps(value, default=_plain)


def plain(value: Any) -> Any:
    """A value as it is once it was stored and read again: lists for tuples, objects for mappings."""
    return orjson.loads(to_json(value))


def check_swaps(swaps: Sequence[Swap]) -> None:
    """Hold swaps to what every ledger can do at once.

    Raises:
        ValueError: there are too many, or two of one record.
    """
    if len(swaps) > SWAPS or len({(one.kind, one.key) for one in swaps}) < len(swaps):
        raise ValueError(f"{len(swaps)} records cannot be changed at once: {SWAPS} at most, each once.")


def _plain(value: Any) -> Any:
    """Turn a value that orjson does not know into one that it does: mappings that are not dicts."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


FAULTS = (ValueError, TypeError, AttributeError, KeyError)
"""What reading a body as a record raises when it is none."""


def damaged(error: Exception, remedy: str) -> StoreDamagedError:
    """Make the error for a record that cannot be read."""
    return StoreDamagedError(
        f"A record in the ledger cannot be read ({type(error).__name__}: {error}). {remedy}"
    )


def run_from(body: Mapping[str, Any]) -> RunRecord:
    """Make the run of a JSON object, whichever version wrote it.

    Raises:
        StoreDamagedError: it is no run.
    """
    run = made(
        RunRecord,
        body,
        tags=tuple(body.get("tags") or ()),
        redo_errors=tuple(body.get("redo_errors") or ()),
        labels=(),
    )
    expected = {"run_id": str, "name": str, "created_at": str, "cases": int, "generation": int}
    for name, kind in expected.items():
        if not isinstance(getattr(run, name), kind):
            raise StoreDamagedError(f"a run's {name} is stored as {getattr(run, name)!r:.80}")
    if run.status not in get_args(RunStatus):
        raise StoreDamagedError(f"a run's status is stored as {run.status!r:.80}")
    if not isinstance(run.experiment, Mapping) or not isinstance(run.wall_s, (int, float)):
        raise StoreDamagedError("a run's experiment or time is no object or number")
    return run


def unreadable(run_id: str, name: str, created_at: str, cases: int, why: str) -> RunRecord:
    """Make the stand-in for a run whose record cannot be read: a list shows it in its
    place, and all others."""
    unknown = {"name": "?", "version": 0, "hash": ""}
    return RunRecord(
        run_id=run_id,
        name=name,
        status="failed",
        experiment={"name": name, "dataset": unknown, "model": {"name": "?"}},
        cases=cases,
        created_at=created_at,
        error=why,
        unreadable=why,
    )


def completion_from(body: Mapping[str, Any]) -> Completion:
    """Make the completion of a JSON object, as `run_from` does."""
    changes: dict[str, Any] = {}
    if said := body.get("messages"):
        try:
            changes["messages"] = read_messages(said)
        except MessageError as error:
            raise StoreDamagedError(f"a stored answer cannot be read: {error}") from error
    if traced := body.get("trace"):
        changes["trace"] = trace_from(traced)
    return made(Completion, body, error=_failure(body), tries=attempts_from(body.get("tries")), **changes)


def completion_body(completion: Completion) -> dict[str, Any]:
    """Give a completion as a JSON object. What most have not is left out where there is none, so that an
    answer of one text takes no more room than it ever did."""
    body = {name: getattr(completion, name) for name in _ALWAYS}
    body |= {name: value for name in _TOKENS if (value := getattr(completion, name)) is not None}
    if completion.messages:
        body["messages"] = [message.to_json() for message in completion.messages]
    if completion.trace is not None:
        body["trace"] = completion.trace.to_json()
    return body


def turn_from(body: Mapping[str, Any]) -> Turn:
    """Make the turn of a JSON object, as `run_from` does."""
    answer, used = body.get("answer"), body.get("simulator")
    return made(
        Turn,
        body,
        answer=completion_from(answer) if answer else None,
        simulator=made(Usage, used) if used else None,
    )


def turn_body(turn: Turn) -> dict[str, Any]:
    """Give a turn as a JSON object."""
    body = {f.name: getattr(turn, f.name) for f in dataclasses.fields(turn)}
    if turn.answer is not None:
        body["answer"] = completion_body(turn.answer)
    return body


def score_set_from(body: Mapping[str, Any]) -> ScoreSet:
    """Make the score set of a JSON object, as `run_from` does."""
    return made(
        ScoreSet, body, scores={name: _read_score(score) for name, score in body.get("scores", {}).items()}
    )


def shard_from(body: Mapping[str, Any]) -> ShardSummary:
    """Make the shard summary of a JSON object, as `run_from` does."""
    return made(ShardSummary, body)


def asset_from(body: Mapping[str, Any], labels: Iterable[str]) -> AssetVersion:
    """Make the asset version of a JSON object, with the labels that point at it now.

    Raises:
        StoreDamagedError: it is no asset version.
    """
    asset = made(AssetVersion, body, labels=tuple(sorted(labels)))
    expected = {"name": str, "version": int, "description": str, "hash": str, "created_at": str}
    for name, kind in expected.items():
        if not isinstance(getattr(asset, name), kind):
            raise StoreDamagedError(f"an asset's {name} is stored as {getattr(asset, name)!r:.80}")
    if not isinstance(asset.content, Mapping):
        raise StoreDamagedError(f"the content of {asset.name!r} is stored as {asset.content!r:.80}")
    return asset


def attempts_from(listed: Iterable[Mapping[str, Any]] | None) -> tuple[Attempt, ...]:
    """Make attempts of JSON objects, as `run_from` does."""
    return tuple(made(Attempt, one) for one in listed or ())


def _read_score(body: Mapping[str, Any]) -> Score:
    usage = body.get("usage")
    return made(Score, body, error=_failure(body), usage=made(Usage, usage) if usage else None)


def _failure(body: Mapping[str, Any]) -> Failure | None:
    error = body.get("error")
    return made(Failure, error) if error is not None else None


def check_changes(changes: Mapping[str, Any]) -> None:
    """Hold changes of a run against its fields.

    Raises:
        TypeError: a run has no such field, or it cannot be changed.
    """
    if unknown := changes.keys() - CHANGEABLE:
        raise TypeError(
            f"a run has no field {sorted(unknown)[0]!r} that can be changed; there are "
            f"{', '.join(sorted(CHANGEABLE))}"
        )


def check_listed(kind: str) -> None:
    """Hold a kind of records against those that are listed.

    Raises:
        ValueError: it is none of them.
    """
    if kind not in LISTED:
        raise ValueError(f"records of kind {kind!r} are not listed, only {', '.join(sorted(LISTED))}")


def check_limit(limit: int) -> None:
    """Hold the size of a page against what makes sense.

    Raises:
        ValueError: it is below 1.
    """
    if limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")


def cursor_at(created_at: str, run_id: str) -> str:
    """The cursor of the page that follows a run, where it stands in the list."""
    return base64.urlsafe_b64encode(orjson.dumps([created_at, run_id])).decode()


def after(cursor: str) -> tuple[str, str]:
    """`created_at` and id of the run that a page follows.

    Raises:
        CursorError: it is no cursor of ours.
    """
    try:
        created_at, run_id = orjson.loads(base64.urlsafe_b64decode(cursor))
        if isinstance(created_at, str) and isinstance(run_id, str):
            return created_at, run_id
    except (binascii.Error, ValueError, TypeError):
        pass
    raise CursorError(
        f"{cursor!r} is not a cursor that list_runs gave. Leave it out to start at the newest run."
    )
