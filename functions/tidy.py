"""Tidy: removes what was deleted, and runs that are older than their project keeps them. The Studio calls it
after a deletion, a schedule every hour."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from functions.runtime import lab, logger, run

RESERVE_S = 30.0
"""With less than this left, no further step begins: one takes a few seconds."""


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Do as much as time allows; the next invocation goes on."""
    marked = run(lab().apply_retention(_left_s(context) / 2))
    done = run(lab().go_on_deleting(_left_s(context)))
    logger.info("tidied", deletions=done, too_old=marked)
    return {"deletions": done}


def _left_s(context: LambdaContext) -> float:
    return max(0.0, context.get_remaining_time_in_millis() / 1000 - RESERVE_S)
