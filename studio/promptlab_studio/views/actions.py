"""Actions on the cases that a page shows, with the number of cases of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from promptlab.domain.results import RunRecord
from promptlab_studio.views.format import run_url
from promptlab_studio.views.runs_table import RUN_FILTERS
from promptlab_studio.views.state import FILTER_PARAMS, Query


@dataclass(frozen=True, slots=True)
class Retry:
    """A further pass over failed cases."""

    url: str
    text: str
    confirm: str


def retry_of(run_id: str, query: Query, errors: Mapping[str, int], unscored: int) -> Retry | None:
    """Describe what asking again would do, under the address's filter by error; None if nothing failed, or
    where the filter says more: a pass is over all cases that failed so, and would be over others than these.

    Args:
        run_id: the run.
        query: the page's address.
        errors: the run's failed cases by type.
        unscored: failed scores of answered cases.
    """
    kind = query.get("error")
    others = [name for name in FILTER_PARAMS if name not in ("status", "error") and query.get(name)]
    one = kind in errors
    if others or query.get("status") == "ok" or (kind and not one):
        return None
    asked, scored = (errors[kind], 0) if one else (sum(errors.values()), unscored)
    if not asked and not scored:
        return None
    said = [f"Ask again for {asked:,} cases? Their calls are paid for again."] if asked else []
    if scored:
        said.append(f"{scored:,} failed scores are made again, without asking the model.")
    pairs = [("failed", "1"), *([("error", kind)] if one else [])]
    text = (
        f"Retry {asked:,} {kind}"
        if one
        else f"Retry all {asked:,} failed"
        if asked
        else f"Score {scored:,} again"
    )
    return Retry(run_url(run_id, f"/resume?{urlencode(pairs)}"), text, " ".join(said))


@dataclass(frozen=True, slots=True)
class RunActions:
    """What can be done with several runs of the list."""

    what: str
    """How many, in words."""
    tag_url: str
    archive_url: str
    archive: str
    """What archiving them, or putting them back, is called."""
    delete_url: str
    confirm: str
    """What a deletion is asked with."""


def run_actions(runs: Sequence[RunRecord], query: Query) -> RunActions | None:
    """Offer what can be done with the picked or filtered runs; None where there are none."""
    if not runs:
        return None
    what = f"{len(runs):,} runs" if len(runs) != 1 else "1 run"
    cases = sum(run.cases for run in runs)
    end = _search([*query.only(*RUN_FILTERS, "run"), ("n", str(len(runs)))])
    confirm = (
        f"Delete {what} with {cases:,} cases for good? Their answers, scores and results go; prompts and "
        "datasets stay."
    )
    archive = "Put back" if query.get("archived") == "1" else "Archive"
    return RunActions(
        what, f"/runs/tags{end}", f"/runs/archive{end}", f"{archive} {what}", f"/runs/delete{end}", confirm
    )


def actions_on(run: RunRecord) -> RunActions | None:
    """Offer what can be done with one run, on its own page."""
    archived = (("archived", "1"),) if run.archived else ()
    return run_actions([run], Query("/", (("run", run.run_id), *archived)))


def baselines_of(run_id: str, labels: Mapping[str, str]) -> list[tuple[str, str]]:
    """Offer comparisons of a run with the labelled runs of its experiment: labels with addresses."""
    return [
        (label, f"/compare?{urlencode([('run', base), ('run', run_id)])}")
        for label, base in sorted(labels.items())
        if base != run_id
    ]


@dataclass(frozen=True, slots=True)
class Again:
    """A new run of the same experiment over the rows that a page shows."""

    url: str
    text: str
    confirm: str


def again_of(run_id: str, query: Query, rows: int, trials: int) -> Again:
    """Describe a new run over the rows of the filtered cases.

    Args:
        run_id: the run.
        query: the page's address.
        rows: the dataset rows of the cases that match.
        trials: how often each is asked.
    """
    what = f"{rows:,} rows" if rows != 1 else "1 row"
    calls = f"{rows * trials:,} calls" if rows * trials != 1 else "1 call"
    pairs = [*query.only(*FILTER_PARAMS), ("rows", str(rows))]
    return Again(
        run_url(run_id, f"/again?{urlencode(pairs)}"),
        f"Run {what} again",
        f"Start a new run of this experiment over these {what} alone? It makes {calls}, which are paid for.",
    )


CSV_STYLES: tuple[tuple[str, Mapping[str, str]], ...] = (
    ("CSV", {}),
    ("CSV for Excel", {"bom": "true"}),
    ("CSV for Excel, with ;", {"bom": "true", "delimiter": ";"}),
)
"""CSV as programs read it and as Excel does; with `;` where the comma is the decimal sign."""


def export_links(run_id: str, query: Query) -> list[tuple[str, str]]:
    """List the files of the cases that match the filter: name and address."""
    pairs = [*query.only(*FILTER_PARAMS, "sort", "desc")]
    wished = [("csv", name, style) for name, style in CSV_STYLES] + [("jsonl", "JSONL", {})]
    return [
        (name, run_url(run_id, f"/cases.{form}") + _search([*pairs, *style.items()]))
        for form, name, style in wished
    ]


MOST_AT_ONCE = 20_000
"""Cases of a run whose files are written while the browser waits; of more, a job writes them."""


def whole_exports(run: RunRecord) -> list[tuple[str, str, Mapping[str, str]]]:
    """List the files of all results of a run: name, and address, or the fields of the job that writes it."""
    wished: list[tuple[str, str, Mapping[str, str]]] = [("csv", name, style) for name, style in CSV_STYLES]
    wished += [("jsonl", "JSONL", {}), ("parquet", "Parquet", {})]
    url = f"/api/v1{run_url(run.run_id, '/export')}"
    return [
        (name, "", {"format": form, **style})
        if run.cases > MOST_AT_ONCE and form != "parquet"
        else (name, url + _search([("format", form), *style.items()]), {})
        for form, name, style in wished
    ]


def _search(pairs: Sequence[tuple[str, str]]) -> str:
    return f"?{urlencode(pairs)}" if pairs else ""
