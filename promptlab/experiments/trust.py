"""Which code a recorded experiment would run, and whether this user recorded it.

A store is a file, and may come from anybody: a colleague, a bug report, the internet. It names code by module
or by path, and to resume its run is to run that. So a reference to code is sealed when a run is recorded,
with a key that lies in no store, and what is not sealed is run only when the user says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import orjson

from promptlab.domain.experiment import CodeRef, Experiment
from promptlab.errors import UntrustedCodeError
from promptlab.experiments.binding import Live
from promptlab.ports import Records, Seals

KIND = "CODE"
"""The kind of record that holds a seal, by the SHA-256 of the reference."""


def code_of(experiment: Experiment, live: Live | None = None) -> list[CodeRef]:
    """The references that making an experiment's objects again would load; not those that `live` brings
    along."""
    live = live or Live()
    found = [m.code for m in experiment.evaluation if m.name not in live.evaluators and m.kept is None]
    found += [m.code for m in experiment.run_evaluation if m.name not in live.evaluators]
    found += [] if live.model else [experiment.agent, experiment.model_code]
    found += [
        code for m in experiment.evaluation if m.name not in live.evaluators for code in m.judge_code or ()
    ]
    found += [] if live.embedding_model else [experiment.embedding_model_code]
    # What the lab keeps runs in its sandbox, by its hash: nobody needs to vouch for it.
    return [code for code in found if code is not None and code.bundle is None]


async def vouch(codes: Sequence[CodeRef], records: Records, seals: Seals | None) -> None:
    """Seal references that this user has recorded, or trusts."""
    for code in codes:
        name, text = _of(code)
        if seals is not None and (seal := seals.seal(text)):
            await records.put_record(KIND, name, {"seal": seal})


async def check_trusted(codes: Sequence[CodeRef], records: Records, seals: Seals | None) -> None:
    """Refuse references that this user has not recorded on this machine.

    Raises:
        UntrustedCodeError: one of them comes from elsewhere; it names all that do.
    """
    foreign = []
    for code in codes:
        name, text = _of(code)
        record = await records.get_record(KIND, name)
        seal = seals.seal(text) if seals is not None else None
        if seal is None or record is None or record.get("seal") != seal:
            foreign.append(f"{code.file or code.module}:{code.qualname}")
    if foreign:
        raise UntrustedCodeError(list(dict.fromkeys(foreign)))


def _of(code: CodeRef) -> tuple[str, bytes]:
    # What it does may change: whoever may run it here may edit it here.
    named = code.model_dump(mode="json", exclude={"source_hash"})
    text = orjson.dumps(named, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    return hashlib.sha256(text).hexdigest(), text
