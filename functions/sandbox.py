"""Sandbox: runs code of users, where it can reach nothing.

Without a table, bucket, secret or network of its own: a bundle and cases come in the payload, numbered
answers go out. This process runs none of that code, and cannot be read by the one that does
(promptlab.engine.sandbox).
"""

from __future__ import annotations

import contextlib
import os
import urllib.request
from functools import cache
from pathlib import Path
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from promptlab.engine.sandbox.child import SandboxUnavailableError
from promptlab.engine.sandbox.confine import MB, Limits
from promptlab.engine.sandbox.guard import Guard
from promptlab.engine.sandbox.request import EventError
from promptlab.outbound import Outbound

RESERVE_S = 3.0
"""What is left of an invocation for ending a child and answering."""
RESERVE_MB = 192
"""Memory of this process, and of the one that children come from."""
THREADS = 64
FETCH_S = 30

logger = Logger()


def fetch(url: str, most: int) -> bytes:
    """Get a package by a presigned address, through the endpoint of the bucket.

    Raises:
        OSError: it cannot be had.
    """
    if not url.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
        raise OSError("packages come by https only")
    with urllib.request.urlopen(url, timeout=FETCH_S) as response:
        data: bytes = response.read(most + 1)
    return data


@cache
def guard() -> Guard:
    """The guard of this sandbox; its children have all of the temporary disk that Lambda gives.

    Raises:
        SandboxUnavailableError: code cannot be confined here, so none is run.
    """
    on_lambda = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1024")
    limits = Limits(
        memory_bytes=max(256, int(on_lambda) - RESERVE_MB) * MB,
        threads=THREADS if _alone() else None,
    )
    reaches = os.environ.get("PROMPTLAB_SANDBOX_NETWORK") == "public"
    outbound = Outbound.from_environment(os.environ, hosted=True) if reaches else None
    return Guard(Path("/tmp") if _alone() else None, limits=limits, fetch=fetch, outbound=outbound)


def _alone() -> bool:
    """Whether this machine is Lambda's, where nobody else's processes and files are."""
    return Path("/var/runtime").is_dir() and os.environ.get("AWS_EXECUTION_ENV", "").startswith("AWS_Lambda_")


if _alone():
    # While the environment starts there is a whole processor. What is wrong is said to who asks first.
    with contextlib.suppress(SandboxUnavailableError):
        guard()


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer an invocation; neither code nor cases are ever logged."""
    if os.environ.get("PROMPTLAB_ALLOW_CODE", "true") != "true":
        return {"refused": "this lab takes no code of its users (AllowCode of its stack is false)"}
    left_s = max(1.0, context.get_remaining_time_in_millis() / 1000 - RESERVE_S)
    try:
        answer = guard().answer(event, left_s=left_s)
    except EventError as error:
        return {"refused": str(error)}
    except SandboxUnavailableError as error:
        # Nothing is run that is not confined; the next invocation tries from the beginning.
        guard.cache_clear()
        logger.error("code cannot be confined here", why=str(error))
        return {"refused": f"code of users cannot be confined here, so none is run: {error}"}
    logger.info(
        "answered", role=event.get("role"), answers=len(answer.get("answers", ())), cpu_s=answer.get("cpu_s")
    )
    return answer
