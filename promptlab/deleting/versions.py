"""Removes one version of an asset: its record, its labels, and the blobs that no other version shares."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from promptlab.deleting.journal import Deletion, Journal
from promptlab.domain.keys import media_key
from promptlab.domain.results import RunRecord
from promptlab.domain.versioned import AssetKind, AssetVersion
from promptlab.errors import BlobNotFoundError, VersionInUseError
from promptlab.ports import Blobs, Clock, Ledger

GONE = "GONE"
"""The kind of record that keeps a deleted version's number from being given again."""
ERASING = "ERASING"
"""The kind of record that tells who creates a version that blobs of its hash are just being removed."""
ERASING_S = 60.0
ERASING_LOOK_S = 0.25
_WORDS: Mapping[AssetKind, str] = {"prompt_template": "prompt template", "dataset": "dataset", "code": "code"}
_SAID = 5
MEDIA_LIST = ".media.txt"
"""What the key of a list of media ends with: the media that it names go with it."""


class VersionDeleting:
    """Removes versions of assets of one store."""

    def __init__(self, ledger: Ledger, blobs: Blobs, clock: Clock, journal: Journal) -> None:
        self._ledger, self._blobs, self._clock, self._journal = ledger, blobs, clock, journal

    async def delete(self, version: AssetVersion, by: str, *, later: bool = False) -> None:
        """Remove a version for good; with `later`, its record now, and its blobs whenever `finish` is called.

        Raises:
            VersionInUseError: a run uses it, or a label points at it.
        """
        what = f"Version {version.version} of the {_WORDS[version.kind]} {version.name!r}"
        if version.labels:
            raise VersionInUseError(
                f"{what} is labelled {', '.join(version.labels)}: remove the label, or point it at another "
                "version, first."
            )
        users = [run_id async for run_id in self._users(version)]
        if users:
            some = ", ".join(users[:_SAID]) + (", …" if len(users) > _SAID else "")
            runs = f"{len(users):,} runs" if len(users) > 1 else "a run"
            raise VersionInUseError(
                f"{what} is used by {runs} ({some}), which cannot be read or resumed without it: delete "
                "what uses it first, or keep it."
            )
        shared = tuple(blobs_of(version))
        deletion = await self._journal.begin(version.kind, _id(version), by, hash=version.hash, blobs=shared)
        await self._forget(deletion)
        if not later:
            await self.finish(deletion)

    async def finish(self, deletion: Deletion) -> None:
        """Remove what is left of a version whose deletion was begun; blobs that another version has stay."""
        kind = await self._forget(deletion)
        if deletion.blobs:
            await self._erase(kind, deletion)
        await self._journal.end(deletion)

    async def _forget(self, deletion: Deletion) -> AssetKind:
        """Remove the record of a version, whose number stays taken."""
        kind: AssetKind = deletion.what  # type: ignore[assignment]  # one of assets, here
        name, _, number = deletion.id.rpartition("@")
        await self._ledger.put_record(GONE, deletion.key, {"at": deletion.at})
        await self._ledger.delete_asset(kind, name, int(number))
        return kind

    async def _erase(self, kind: AssetKind, deletion: Deletion) -> None:
        # Who creates a version of the same content while this goes on puts its blobs back: see `to_be_kept`.
        ends = time.time() + ERASING_S
        await self._ledger.put_record(ERASING, str(deletion.hash), {}, expires_at=ends)
        try:
            others = {key async for one in self._versions(kind) for key in blobs_of(one)}
            gone = [key for key in deletion.blobs if key not in others]
            await self._erase_media([key for key in gone if key.endswith(MEDIA_LIST)], others)
            for key in gone:
                await self._blobs.erase(key)
        finally:
            await self._ledger.delete_record(ERASING, str(deletion.hash))

    async def _erase_media(self, lists: list[str], others: set[str]) -> None:
        """Remove the media that lists name, and that no list of another version does."""
        if not lists:
            return
        kept = {one for key in others if key.endswith(MEDIA_LIST) for one in await self._listed(key)}
        for key in lists:
            for sha256 in await self._listed(key):
                if sha256 not in kept:
                    await self._blobs.erase(media_key(sha256))

    async def _listed(self, key: str) -> list[str]:
        try:
            return (await self._blobs.get(key)).decode().split()
        except BlobNotFoundError:  # removed by an attempt of before
            return []

    async def _versions(self, kind: AssetKind) -> AsyncIterator[AssetVersion]:
        for latest in await self._ledger.list_assets(kind):
            for version in await self._ledger.list_versions(kind, latest.name):
                yield version

    async def _users(self, version: AssetVersion) -> AsyncIterator[str]:
        cursor = None
        while True:
            runs, cursor = await self._ledger.list_runs(limit=500, cursor=cursor)
            for run in runs:
                if not run.deleting_since and uses(run, version):
                    yield run.run_id
            if cursor is None:
                return


def blobs_of(version: AssetVersion) -> Iterator[str]:
    """The blobs that a version's content names; those of a prompt's long text are the ledger's own."""
    for name in ("blob", "index", "media"):
        if isinstance(key := version.content.get(name), str) and key:
            yield key
    for wheel in version.content.get("wheels") or ():
        if isinstance(wheel, Mapping) and wheel.get("sha256"):
            yield f"code/wheels/{wheel['sha256']}.whl"


def uses(run: RunRecord, version: AssetVersion) -> bool:
    """Whether a run's experiment names a version."""
    if version.kind == "code":
        return _id(version) in _values(run.experiment, "bundle")
    named = run.experiment.get(version.kind)
    return isinstance(named, Mapping) and (named.get("name"), named.get("version")) == (
        version.name,
        version.version,
    )


def _values(value: Any, name: str) -> Iterator[Any]:
    """Every value under a name, however deep."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == name:
                yield inner
            yield from _values(inner, name)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _values(inner, name)


async def deleted_at(ledger: Ledger, kind: AssetKind, name: str, number: int) -> str | None:
    """When a version was deleted; None for one that was not."""
    found = await ledger.get_record(GONE, f"{kind}/{name}@{number}")
    return str(found["at"]) if found else None


async def next_number(ledger: Ledger, kind: AssetKind, name: str, latest: AssetVersion | None) -> int:
    """The number of an asset's next version: none that was given before, also to one that is deleted."""
    number = latest.version + 1 if latest else 0
    while await deleted_at(ledger, kind, name, number):
        number += 1
    return number


async def to_be_kept(ledger: Ledger, clock: Clock, hash: str) -> None:
    """Wait while blobs of this hash are being removed: whoever recorded a version of it stores them again."""
    while await ledger.get_record(ERASING, hash) is not None:
        await clock.sleep(ERASING_LOOK_S)


def _id(version: AssetVersion) -> str:
    return f"{version.name}@{version.version}"
