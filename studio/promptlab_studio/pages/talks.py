"""What was said in one case of several runs, to stand beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import orjson

from promptlab.domain.results import CaseKey, RunRecord
from promptlab.queries.opened import counted
from promptlab.store_lab import StoreLab
from promptlab_studio.pages.case import media_in, media_url
from promptlab_studio.views.cases import case_path
from promptlab_studio.views.chat import Said, Talk, medium_of, talk_of
from promptlab_studio.views.room import Room


async def talks_of(
    lab: StoreLab, cases: Sequence[tuple[str, RunRecord, CaseKey]], room: Room
) -> Sequence[Talk]:
    """Read the cases that stand beside each other, and what was said in each; none where every answer is no
    more than its text.

    Args:
        lab: the runs' lab.
        cases: of each run its letter, the run, and the case in it.
        room: the page's room for texts.
    """
    talks = []
    for letter, run, key in cases:
        row: Mapping[str, Any] = await (await lab.results_of(run)).case(*key) or {}
        path = case_path(run.run_id, *key)

        def media(part: Mapping[str, Any], path: str = path) -> str | None:
            return media_url(path, part)

        talks.append(talk_of(row, counted(row), letter, path, room, media))
    return talks if any(talk.messages for talk in talks) else ()


def media_of_row(run: RunRecord, row: Mapping[str, Any]) -> dict[str, list[Said]]:
    """Find the media in the dataset's columns of a case, by column."""
    url = partial(media_url, case_path(run.run_id, row["case"], row["trial"]))
    found = {
        name.removeprefix("input."): [medium_of(part, url) for part in media_in(_value(value))]
        for name, value in row.items()
        if name.startswith("input.")
    }
    return {name: parts for name, parts in found.items() if parts}


def _value(text: Any) -> Any:
    """A row's value, which the table of results has as JSON where it nests."""
    if not isinstance(text, str) or '"modality"' not in text:
        return text
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
