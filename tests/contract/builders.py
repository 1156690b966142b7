"""Valid records to begin from; each takes the fields that a test cares about."""

from __future__ import annotations

from typing import Any

from promptlab.domain.assets import AssetKind, AssetVersion, content_hash
from promptlab.domain.results import Completion, Failure, RunRecord, Score, ScoreSet, ShardSummary
from promptlab.domain.summary import Summary

NOW = "2026-11-23T09:00:00.000000Z"
RUN = "run-20261123-090000-abc123"
CASES_PER_SHARD = 50


def asset(
    name: str = "qa", version: int = 0, *, kind: AssetKind = "prompt_template", **changes: Any
) -> AssetVersion:
    content = {
        "system_prompt": "",
        "user_prompt": f"Answer ({version}): <question>",
        "messages": [],
        "template_format": "simple",
    }
    fields = {
        "description": "Answers.",
        "content": content,
        "hash": content_hash(content),
        "created_at": NOW,
        **changes,
    }
    return AssetVersion(kind=kind, name=name, version=version, **fields)


def run(run_id: str = RUN, **changes: Any) -> RunRecord:
    experiment = {
        "name": "quiz",
        "dataset": {"name": "questions", "version": 0, "hash": "0" * 64},
        "trials": 1,
        "prices": {"usd": 0.15},
    }
    fields = {
        "name": "quiz",
        "status": "running",
        "experiment": experiment,
        "cases": 100,
        "created_at": NOW,
        **changes,
    }
    return RunRecord(run_id=run_id, **fields)


def completion(case: int = 0, trial: int = 0, *, shard: int | None = None, **changes: Any) -> Completion:
    """A good answer; in the shard that a plan would put the case in, unless one is given."""
    fields = {
        "response": f"answer {case}",
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "latency_ms": 203.25,
        "cost_usd": 0.25,
        "finish_reason": "stop",
        "created_at": NOW,
        **changes,
    }
    return Completion(
        shard=case // CASES_PER_SHARD if shard is None else shard, case=case, trial=trial, **fields
    )


def failed_completion(
    case: int = 0, trial: int = 0, *, shard: int | None = None, **changes: Any
) -> Completion:
    """A call that failed, of which nothing but the failure is known."""
    unknown = dict.fromkeys(
        ("response", "prompt_tokens", "completion_tokens", "latency_ms", "cost_usd", "finish_reason")
    )
    return completion(
        case,
        trial,
        shard=shard,
        **{**unknown, "error": Failure("timeout", "no answer within 120 s"), "attempts": 6, **changes},
    )


def score_set(case: int = 0, trial: int = 0, *, shard: int | None = None, **changes: Any) -> ScoreSet:
    fields = {"scores": {"exact_match": Score(passed=True), "length": Score(value=8.0)}, **changes}
    return ScoreSet(
        shard=case // CASES_PER_SHARD if shard is None else shard, case=case, trial=trial, **fields
    )


def shard_summary(number: int = 0, run_id: str = RUN, **changes: Any) -> ShardSummary:
    summary = Summary(cases=CASES_PER_SHARD, succeeded=CASES_PER_SHARD).to_json()
    fields = {
        "generation": 0,
        "summary": summary,
        "part": f"runs/{run_id}/parts/{number:06}.jsonl.gz",
        **changes,
    }
    return ShardSummary(number=number, **fields)
