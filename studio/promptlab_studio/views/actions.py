"""What can be done with the cases that a page shows, and how many it is done to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from promptlab.results.index import EVALUATOR_ERROR
from promptlab_studio.views.format import run_url
from promptlab_studio.views.state import FILTER_PARAMS, Query


@dataclass(frozen=True, slots=True)
class Retry:
    """A further pass over failed cases."""

    url: str
    text: str
    confirm: str


def retry_of(run_id: str, query: Query, errors: Mapping[str, int]) -> Retry | None:
    """What asking again would do, under the address's filter by error; None if nothing failed.

    Args:
        run_id: the run.
        query: the page's address.
        errors: the run's failed cases by type.
    """
    kind = query.get("error")
    meant = {kind: errors[kind]} if kind in errors else dict(errors)
    total, scored = sum(meant.values()), meant.get(EVALUATOR_ERROR, 0)
    if not total:
        return None
    said = (
        [f"Ask again for {total - scored:,} cases? Their calls are paid for again."] if total > scored else []
    )
    if scored:
        said.append(f"{scored:,} answered cases are scored again and not asked again.")
    others = [name for name in FILTER_PARAMS if name not in ("status", "error") and query.get(name)]
    if others or query.get("status") == "ok":
        said.append("The other conditions of the filter do not count: every case that failed so is meant.")
    pairs = [("failed", "1"), *([("error", kind)] if kind in errors else [])]
    what = f"{total:,} {kind}" if kind in errors else f"all {total:,} failed"
    return Retry(run_url(run_id, f"/resume?{urlencode(pairs)}"), f"Retry {what}", " ".join(said))


def export_links(run_id: str, query: Query) -> list[tuple[str, str]]:
    """Where the cases that match the filter can be had as a file: format and address."""
    pairs = [*query.only(*FILTER_PARAMS, "sort", "desc")]
    return [
        (form, run_url(run_id, f"/cases.{form}") + (f"?{urlencode(pairs)}" if pairs else ""))
        for form in ("csv", "jsonl")
    ]
