"""Tags, archives or deletes the runs that are picked in the list, or that match its filter; keeps views of
it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from fastapi import Request, Response

from promptlab.domain.choice import checked_tags
from promptlab.domain.results import RunRecord
from promptlab.errors import ConfigError, RunBusyError, RunChangedError, RunInUseError, RunNotFoundError
from promptlab.store_lab import StoreLab
from promptlab_studio.access import Engineer, lab_of, needs
from promptlab_studio.forms import fields_of
from promptlab_studio.pages.reading import read_runs
from promptlab_studio.pages.rendering import go_to, router
from promptlab_studio.saved_views import forget_view, save_view
from promptlab_studio.views.runs_table import acted_on
from promptlab_studio.views.state import Query

WORK_S = 20.0
"""Seconds that one request works: a hosted Studio's has 30."""

routes = router()


@routes.post("/runs/tags", dependencies=[needs("label")])
async def tag_runs(request: Request, n: int) -> Response:
    """Add a tag to the runs, or remove it. `n` is the number that was said: other runs are left alone."""
    lab, query = lab_of(request), Query.of("/", request.query_params)
    fields = await fields_of(request)
    words, remove = " ".join(fields.get("word", [])).replace(",", " ").split(), "remove" in fields
    try:
        given = checked_tags(words)
        if not given:
            raise ConfigError("Type a tag first.")
        runs = await _meant(lab, query, n)
        done, until = 0, lab.clock.monotonic() + WORK_S
        for run in runs:
            if lab.clock.monotonic() > until:
                break
            await _retag(lab, run.run_id, given, remove=remove)
            done += 1
    except (ConfigError, RunNotFoundError) as error:
        return go_to(query.url(n=None), str(error), "problem")
    what = f"{'Removed' if remove else 'Added'} {' '.join(f'#{tag}' for tag in given)}"
    return go_to(query.url(n=None), f"{what}: {_of(done, len(runs))}.", "done" if done == n else "problem")


async def _retag(lab: StoreLab, run_id: str, given: Sequence[str], *, remove: bool) -> None:
    """Add tags to a run, or take them away, beside whoever else does so now."""
    while True:
        run = await lab.get_run(run_id)
        kept = tuple(tag for tag in run.tags if tag not in given)
        with suppress(RunChangedError):
            await lab.edit_run(run_id, tags=kept if remove else (*run.tags, *given), was=run)
            return


@routes.post("/runs/archive", dependencies=[needs("label")])
async def archive_runs(request: Request, n: int) -> Response:
    """Take the runs out of the list, or put archived ones back. `n` is the number that was said."""
    lab, query = lab_of(request), Query.of("/", request.query_params)
    back = query.get("archived") == "1"
    try:
        runs = await _meant(lab, query, n)
        done, until = 0, lab.clock.monotonic() + WORK_S
        for run in runs:
            if lab.clock.monotonic() > until:
                break
            await lab.edit_run(run.run_id, archived=not back)
            done += 1
    except (ConfigError, RunNotFoundError) as error:
        return go_to(query.url(n=None), str(error), "problem")
    what = "Back in the list" if back else "Archived"
    return go_to(query.url(n=None, run=None), f"{what}: {_of(done, n)}.", "done" if done == n else "problem")


@routes.post("/runs/delete", dependencies=[needs("run")])
async def delete_runs(request: Request, n: int, who: Engineer) -> Response:
    """Delete the runs for good. `n` is the number that was said: other runs are left alone."""
    lab, query = lab_of(request), Query.of("/", request.query_params)
    try:
        runs = await _meant(lab, query, n)
    except ConfigError as error:
        return go_to(query.url(n=None), str(error), "problem")
    busy, labelled, done, until = 0, 0, 0, lab.clock.monotonic() + WORK_S
    for run in runs:
        if lab.clock.monotonic() > until:
            break
        try:
            await lab.delete_run(run.run_id, by=who.id, one_of_many=True)
            done += 1
        except RunNotFoundError:
            done += 1  # somebody else deleted it meanwhile
        except RunBusyError:
            busy += 1
        except RunInUseError:
            labelled += 1
    await lab.begin_to_tidy()
    said = f"Deleted: {_of(done, n)}."
    said += f" {busy:,} still going on: cancel first what is to be deleted." if busy else ""
    said += f" {labelled:,} with a label: take it away first." if labelled else ""
    left = n - done - busy - labelled
    said += f" {left:,} are left: delete once more." if left else ""
    return go_to(query.url(n=None, run=None), said, "done" if done == n else "problem")


@routes.post("/runs/views", dependencies=[needs("label")])
async def save_list(request: Request) -> Response:
    """Keep the list as it is filtered, sorted and laid out under a name."""
    lab, query = lab_of(request), Query.of("/", request.query_params)
    name = " ".join((await fields_of(request)).get("name", []))
    try:
        await save_view(lab.ledger, name, query.url().partition("?")[2])
    except ConfigError as error:
        return go_to(query.url(), str(error), "problem")
    return go_to(query.url(), f"Kept as {name.strip()}.")


@routes.post("/runs/views/remove", dependencies=[needs("label")])
async def remove_list(request: Request) -> Response:
    """Forget a view."""
    lab, query = lab_of(request), Query.of("/", request.query_params)
    name = " ".join((await fields_of(request)).get("name", []))
    try:
        await forget_view(lab.ledger, name)
    except ConfigError as error:
        return go_to(query.url(), str(error), "problem")
    return go_to(query.url(), f"Removed the view {name}.")


async def _meant(lab: StoreLab, query: Query, said: int) -> Sequence[RunRecord]:
    """The runs that the address means.

    Raises:
        ConfigError: they are not as many as was said.
    """
    runs = await read_runs(lab, archived=query.get("archived") == "1")
    found = acted_on(runs, query)
    if len(found) != said:
        raise ConfigError(
            f"The list has changed: it is {len(found):,} runs now, and {said:,} were said. Nothing was done."
        )
    return found


def _of(done: int, runs: int) -> str:
    return (
        f"{done:,} runs" if done == runs != 1 else "1 run" if done == runs else f"{done:,} of {runs:,} runs"
    )
