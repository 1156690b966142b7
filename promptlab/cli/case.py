"""`promptlab show RUN --case`: one case, with its attempts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from promptlab.cli.options import find_run, opened

if TYPE_CHECKING:
    from rich.console import RenderableType

    from promptlab.cli.options import Store
    from promptlab.domain.results import CaseKey

_KEY = re.compile(r"(\d{1,15})(?:\.(\d{1,6}))?")
_SHOWN = 2000
"""Characters of a text of which people see the beginning; --json has all of it."""


def case_key(ctx: click.Context, param: click.Parameter, value: str | None) -> CaseKey | None:
    """Read a case as people name it: its row, from 0, and after a dot the trial, from 0.

    Raises:
        click.BadParameter: it is none.
    """
    from promptlab.domain.results import CaseKey

    if value is None:
        return None
    if not (found := _KEY.fullmatch(value)):
        raise click.BadParameter(
            f"{value[:100]!r} is no case: give the row's number, from 0, and after a dot the trial, as in 12 "
            "or 12.1."
        )
    return CaseKey(int(found[1]), int(found[2] or 0))


async def read_case(store: Store, run_id: str, key: CaseKey) -> dict[str, Any]:
    """Read one row of a run's results.

    Raises:
        RunNotFoundError: there is no such run.
        RunError: the run has no such case, or it is not answered yet.
    """
    from promptlab.domain.results import CaseKey
    from promptlab.errors import RunError

    async with opened(store) as lab:
        run = await find_run(lab, run_id)
        rows, _ = await lab.cases(run.run_id, after=CaseKey(key.case, key.trial - 1), limit=1)
        if not rows or (rows[0]["case"], rows[0]["trial"]) != key:
            raise RunError(
                f"Run {run.run_id} has no answer or failure of case {key.case}.{key.trial}: it has "
                f"{run.cases:,} cases, trials included, counted from 0."
            )
        return rows[0]


def case_text(row: Mapping[str, Any]) -> Sequence[RenderableType]:
    """A case for people: what it is, what came of it, its scores, its attempts."""
    from rich.table import Table
    from rich.text import Text

    from promptlab.cli.tables import attempts_table

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    trial = f", trial {row['trial'] + 1}" if row["trial"] else ""
    table.add_row("case", f"{row['case']:,} ({row['id']}){trial}")
    for name, value in row.items():
        if name not in ("case", "trial", "id", "tries") and value is not None:
            table.add_row(name, Text(_begun(_chat(value) if name == "messages" else _plain(value))))
    if not row["tries"]:
        return [table]
    return [table, Text(), attempts_table(row["tries"], row["attempts"])]


def _plain(value: Any) -> str:
    if not isinstance(value, dict | list):
        return str(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _chat(messages: Sequence[Mapping[str, Any]]) -> str:
    """Messages as lines: who says what, what was thought, which tools were called and what they gave."""
    lines = []
    for message in messages:
        for part in message["parts"]:
            match part["type"]:
                case "text":
                    said = str(part["content"])
                case "reasoning":
                    said = f"(thinks) {part['content']}"
                case "tool_call":
                    said = f"calls {part['name']}({_plain(part.get('arguments') or {})})"
                case "tool_call_response":
                    said = f"is given {_plain(part.get('response'))}"
                case kind:
                    said = f"[{part.get('modality') or kind}]"
            lines.append(f"{message['role']}: {said}")
    return "\n".join(lines)


def _begun(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text):,} characters; --json has all)"
