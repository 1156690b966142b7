"""Actions on the cases that a page shows, with the number of cases of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from promptlab_studio.views.format import run_url
from promptlab_studio.views.state import FILTER_PARAMS, Query


@dataclass(frozen=True, slots=True)
class Retry:
    """A further pass over failed cases."""

    url: str
    text: str
    confirm: str


def retry_of(run_id: str, query: Query, errors: Mapping[str, int], unscored: int) -> Retry | None:
    """Describe what asking again would do, under the address's filter by error; None if nothing failed.

    Args:
        run_id: the run.
        query: the page's address.
        errors: the run's failed cases by type.
        unscored: failed scores of answered cases.
    """
    kind = query.get("error")
    one = kind in errors
    asked, scored = (errors[kind], 0) if one else (sum(errors.values()), unscored)
    if not asked and not scored:
        return None
    said = [f"Ask again for {asked:,} cases? Their calls are paid for again."] if asked else []
    if scored:
        said.append(f"{scored:,} failed scores are made again, without asking the model.")
    others = [name for name in FILTER_PARAMS if name not in ("status", "error") and query.get(name)]
    if others or query.get("status") == "ok":
        said.append("The other conditions of the filter do not count: every case that failed so is meant.")
    pairs = [("failed", "1"), *([("error", kind)] if one else [])]
    text = (
        f"Retry {asked:,} {kind}"
        if one
        else f"Retry all {asked:,} failed"
        if asked
        else f"Score {scored:,} again"
    )
    return Retry(run_url(run_id, f"/resume?{urlencode(pairs)}"), text, " ".join(said))


def export_links(run_id: str, query: Query) -> list[tuple[str, str]]:
    """List the files of the cases that match the filter: format and address."""
    pairs = [*query.only(*FILTER_PARAMS, "sort", "desc")]
    return [
        (form, run_url(run_id, f"/cases.{form}") + (f"?{urlencode(pairs)}" if pairs else ""))
        for form in ("csv", "jsonl")
    ]
