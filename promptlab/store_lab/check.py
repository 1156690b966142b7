"""Whether a lab is in order: what can be seen of it without calling a model."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

import orjson

from promptlab.domain.findings import Finding
from promptlab.errors import PromptLabError, SandboxBusyError
from promptlab.store_lab import probe

if TYPE_CHECKING:
    from promptlab.store_lab import StoreLab

KIND, KEY = "DOCTOR", "doctor"
BLOB = "exports/doctor/doctor.txt"
"""Where the bucket is tried: files of results go there, and are removed after a day."""
RESERVED = 2
"""Functions that run beside a run's workers: the Studio, and what looks after a run."""


async def lab_findings(lab: StoreLab, names: Sequence[str] = ()) -> list[Finding]:
    """Check a lab: its store, its sandbox, its account's quotas, and whether it has some secrets.

    Args:
        lab: the lab, of one project.
        names: the secrets that are looked for, as `api_key_secret` names them.
    """
    found = [Finding("version", "ok", f"the lab runs promptlab {version('promptlab-serverless')}")]
    for check in (_store, _code, _quotas):
        found += await check(lab)
    for name in dict.fromkeys(names):
        found.append(await _secret(lab, name))
    return found


async def _store(lab: StoreLab) -> list[Finding]:
    word = secrets.token_hex(8)
    try:
        await lab.ledger.put_record(KIND, KEY, {"word": word}, expires_at=None)
        record = await lab.ledger.get_record(KIND, KEY)
        await lab.ledger.delete_record(KIND, KEY)
        await lab.blobs.put(BLOB, word.encode())
        blob = await lab.blobs.get(BLOB)
    except (PromptLabError, OSError) as error:
        return [Finding("store", "error", f"{lab.where} cannot be written and read: {error}")]
    if (record or {}).get("word") != word or blob != word.encode():
        return [
            Finding(
                "store",
                "warning",
                f"{lab.where} gives back something else than was written: another check may be at work, or "
                "something removes what is there",
            )
        ]
    return [Finding("store", "ok", f"{lab.where} can be written and read")]


async def _code(lab: StoreLab) -> list[Finding]:
    if lab.stack is None:
        return []  # whoever works with a lab on this machine may run code here anyway
    sandbox = lab.sandbox_or_none
    if sandbox is None:
        return [Finding("code", "ok", f"is off: {lab.code_refusal}")]
    event = probe.event()
    del event["bundle"]
    bundle = probe.bundle()
    try:
        await lab.blobs.put(bundle.blob, orjson.dumps(bundle.content()))
        told = await sandbox.ask(bundle.content_hash(), event)
    except SandboxBusyError as error:
        return [Finding("code", "warning", f"{error}: try again, or raise the quota of functions at once")]
    except (PromptLabError, OSError) as error:
        return [Finding("code", "error", f"the sandbox does not run code of users: {error}")]
    said = (told.get("answers") or [{}])[0].get("score") or told
    if said.get("label") != probe.CONTAINED:
        return [
            Finding(
                "code",
                "error",
                f"the sandbox does not hold code of users: {str(said.get('label') or said)[:500]}. Deploy "
                "AllowCode=false",
            )
        ]
    return [Finding("code", "ok", "the sandbox runs code of users, which reaches nothing")]


async def _quotas(lab: StoreLab) -> list[Finding]:
    if lab.quotas is None or lab.stack is None:
        return []
    try:
        limit, free = await lab.quotas.functions_at_once()
    except (PromptLabError, OSError) as error:
        return [Finding("quotas", "warning", f"the account's quotas cannot be asked now: {error}")]
    wanted = lab.stack.max_concurrency
    if wanted + RESERVED > limit:
        return [
            Finding(
                "quotas",
                "warning",
                f"the account runs {limit:,} functions at once, and a run may take {wanted:,} "
                f"(MaxConcurrency): large runs are throttled. Deploy with MaxConcurrency="
                f"{max(1, limit - RESERVED)}, or raise the quota (docs/deploy.md#quotas)",
            )
        ]
    return [
        Finding(
            "quotas",
            "ok",
            f"{limit:,} functions at once, {free:,} of them unreserved; a run takes {wanted:,}",
        )
    ]


async def _secret(lab: StoreLab, name: str) -> Finding:
    try:
        secret = await lab.secrets.get(name)
    except (PromptLabError, OSError) as error:
        return Finding("secrets", "error", f"{name}: {error}")
    if secret is None:
        return Finding(
            "secrets", "error", f"there is no secret {name!r}: set it (promptlab cloud secrets set {name})"
        )
    hosts = ", ".join(secret.hosts or ()) or "the provider's own hosts"
    return Finding("secrets", "ok", f"{name} is there, for {hosts}")
