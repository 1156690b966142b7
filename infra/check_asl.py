"""Checks that neither cfn-lint nor asl-validator makes in infra/experiment.asl.json: the map's reader, writer
and limits, and that nothing waits or fails unseen.

python infra/check_asl.py infra/experiment.asl.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

State = dict[str, Any]

TRANSIENT = {
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
}
"""Faults of the service itself: every task tries again."""
CRASHED = {"Lambda.Unknown", "States.Timeout", "States.TaskFailed"}
"""A function that was killed, hung or raised: every task tries again."""
UNCAUGHT = {"States.DataLimitExceeded", "States.Runtime"}
"""The errors that States.ALL does not catch."""
LAMBDA_MAX_S = 900
PATIENT = 500

_OF_A_SHARD = {"run_id.$", "generation.$", "project.$", "functions.$", "shard.$"}


def problems(machine: dict[str, Any]) -> list[str]:
    """Everything that is wrong, one line each; empty when all is well."""
    found = (
        []
        if machine.get("TimeoutSeconds")
        else ["the machine has no TimeoutSeconds: a stuck run would stay for a year"]
    )
    maps = [(name, state) for name, state in states(machine) if state["Type"] == "Map"]
    found += [] if len(maps) == 1 else [f"expected one Map, found {len(maps)}"]
    for name, state in maps:
        found += [f"{name}: {problem}" for problem in (*_map(state), *_caught(state))]
    for name, state in states(machine):
        if state["Type"] == "Task" and ":lambda:" not in state["Resource"]:
            found += [f"{name}: {problem}" for problem in _beside(state)]
        elif state["Type"] == "Task":
            found += [f"{name}: {problem}" for problem in (*_task(state), *_caught(state))]
        elif state["Type"] == "Wait" and "SecondsPath" not in state:
            found.append(f"{name}: waits a fixed time; the worker says how long (SecondsPath)")
    return found


def states(machine: dict[str, Any]) -> Iterator[tuple[str, State]]:
    """Every state by name, those of a map's children too."""
    for name, state in machine["States"].items():
        yield name, state
        if "ItemProcessor" in state:
            yield from states(state["ItemProcessor"])


def _map(state: State) -> Iterator[str]:
    processor = state.get("ItemProcessor", {}).get("ProcessorConfig", {})
    if processor != {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}:
        yield (
            "its children must be DISTRIBUTED and STANDARD (five minutes are not enough for a shard), "
            f"not {processor}"
        )
    reader, writer = state.get("ItemReader", {}), state.get("ResultWriter", {})
    if not reader.get("Resource", "").endswith(":states:::s3:getObject"):
        yield "the ItemReader must get one object: the manifest"
    if reader.get("ReaderConfig", {}).get("InputType") != "JSONL":
        yield "ReaderConfig.InputType must be JSONL: the manifest has a line a shard"
    if not {"Bucket.$", "Key.$"} <= reader.get("Parameters", {}).keys():
        yield "the ItemReader needs Bucket.$ and Key.$ from Plan"
    if "MaxConcurrency" in state or not str(state.get("MaxConcurrencyPath", "")).startswith("$."):
        yield "MaxConcurrencyPath must take Plan's max_concurrency, and MaxConcurrency must not be there"
    if state.get("ToleratedFailurePercentage") != 100:
        yield (
            "ToleratedFailurePercentage must be 100: a failed shard is recorded and never takes the run "
            "with it"
        )
    if not writer.get("Resource", "").endswith(":states:::s3:putObject"):
        yield "without a ResultWriter, results above 256 KiB fail the run"
    if not {"Bucket.$", "Prefix.$"} <= writer.get("Parameters", {}).keys():
        yield "the ResultWriter needs Bucket.$ and Prefix.$"
    if set(state.get("ItemSelector", {})) != _OF_A_SHARD:
        yield (
            "ItemSelector must give run_id, generation, project, functions and shard: children see nothing "
            "else of the run"
        )
    if "ResultPath" not in state or state["ResultPath"] is not None:
        yield "ResultPath must be null: what the children returned is in S3"
    if not state.get("Label"):
        yield "needs a Label: the map run's ARN, which roles name, is made of it"


def _task(state: State) -> Iterator[str]:
    if not state.get("TimeoutSeconds", 0) > 0:
        yield "has no TimeoutSeconds"
    elif LAMBDA_MAX_S >= state["TimeoutSeconds"] > 120:
        yield (
            f"TimeoutSeconds must be above {LAMBDA_MAX_S}, or Step Functions gives up on a function that "
            "still works"
        )
    retried: set[str] = set()
    for retry in state.get("Retry", []):
        if retry.get("MaxAttempts") == 0:
            continue
        retried |= set(retry["ErrorEquals"])
        if "Lambda.TooManyRequestsException" in retry["ErrorEquals"] and retry["MaxAttempts"] < PATIENT:
            yield (
                f"tries {retry['MaxAttempts']} times where Lambda has no place; a new account has ten, "
                f"and others wait for hours: at least {PATIENT}"
            )
        if retry.get("JitterStrategy") != "FULL" or "MaxDelaySeconds" not in retry:
            yield f"Retry of {retry['ErrorEquals'][0]} needs JitterStrategy FULL and MaxDelaySeconds"
    if missing := sorted((TRANSIENT | CRASHED) - retried):
        yield f"does not retry {', '.join(missing)}"


def _beside(state: State) -> Iterator[str]:
    catch = {error: catch for catch in state.get("Catch", []) for error in catch["ErrorEquals"]}
    if catch.get("States.ALL", {}).get("Next") != state.get("Next") or not state.get("TimeoutSeconds"):
        yield "stands beside the run: its fault must go on as its success does, and it must not hang"
    if state.get("ResultPath", "") is not None:
        yield "ResultPath must be null: the run knows nothing of it"


def _caught(state: State) -> Iterator[str]:
    caught = {error for catch in state.get("Catch", []) for error in catch["ErrorEquals"]}
    if missing := sorted(({"States.ALL"} | UNCAUGHT) - caught):
        yield f"does not catch {', '.join(missing)}"
    for catch in state.get("Catch", []):
        if catch.get("ResultPath") != "$.error":
            yield "a Catch must keep the input and put the error at $.error"


if __name__ == "__main__":
    wrong = problems(json.loads(Path(sys.argv[1]).read_text()))
    print("\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")  # noqa: T201 - a command
    sys.exit(bool(wrong))
