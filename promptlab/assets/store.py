"""Versioned assets over the ledger and the blobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson

from promptlab.assets.ingest import StagedDataset, commit, stage
from promptlab.assets.rows import rows_page
from promptlab.deleting.journal import Journal, user_name
from promptlab.deleting.versions import VersionDeleting, deleted_at, next_number, to_be_kept
from promptlab.domain.asset_checks import checked_asset, read_asset
from promptlab.domain.assets import (
    KINDS,
    Asset,
    AssetKind,
    AssetVersion,
    Dataset,
    DatasetContent,
    PromptTemplate,
    asset_from,
    content_hash,
    kind_of,
    which_version,
)
from promptlab.domain.code import CodeBundle
from promptlab.domain.code_entries import entries_of
from promptlab.domain.names import checked_label
from promptlab.errors import AssetError, AssetNotFoundError, ConfigError, VersionTakenError
from promptlab.ports import Blobs, Clock, Ledger, Tidier

if TYPE_CHECKING:
    from promptlab.assets.column_statistics import Statistics

WORDS = {"prompt_template": "prompt template", "dataset": "dataset", "code": "code"}
_TRIES = 20
MOST_VERSIONS = 10**10


def one_kind(name: str, found: Sequence[AssetKind]) -> list[AssetKind]:
    """Choose the kind that a name alone means. Code that was sent with a run may be called like the prompt
    or the dataset, which nobody chose: it gives way.

    Raises:
        AssetError: the name is that of a prompt template and a dataset.
    """
    chosen: list[AssetKind] = [kind for kind in found if kind != "code"] or list(found)
    if len(chosen) > 1:
        raise AssetError(
            f"{name!r} is both a prompt template and a dataset: say kind='prompt_template' or kind='dataset'"
        )
    return chosen


@dataclass(slots=True)
class AssetDraft:
    """An asset that is in the store already, or could be put there as it is."""

    asset: Asset
    staged: StagedDataset | None = None
    stored: bool = False

    @property
    def content(self) -> DatasetContent | None:
        """A dataset's content."""
        if self.staged:
            return self.staged.content
        return self.asset.content if isinstance(self.asset, Dataset) else None

    @property
    def hash(self) -> str:
        """The hash that the version has or would get."""
        if self.staged:
            return self.staged.hash
        if isinstance(self.asset, CodeBundle):
            return self.asset.content_hash()
        return (
            content_hash(self.asset.content())
            if isinstance(self.asset, PromptTemplate)
            else str(self.asset.hash)
        )


class AssetStore:
    """Create, read and label versions of assets."""

    def __init__(self, ledger: Ledger, blobs: Blobs, clock: Clock, tidier: Tidier | None = None) -> None:
        self._ledger, self._blobs, self._clock, self._tidier = ledger, blobs, clock, tidier

    async def create(self, asset: Asset, *, on_rows: Callable[[int], None] | None = None) -> Asset:
        """The asset's new version; the latest one, if that has this content already.

        Args:
            asset: the asset.
            on_rows: told, in another thread, how many rows of a dataset were read so far.

        Raises:
            DatasetError: the dataset cannot be read.
        """
        async with self._new(asset, on_rows) as draft:
            return await self.commit(draft)

    async def update(self, asset: Asset) -> Asset:
        """As `create`, for an asset that exists.

        Raises:
            AssetNotFoundError: there is no asset of this name.
        """
        kind = kind_of(asset)
        if await self._ledger.get_asset(kind, asset.name) is None:
            raise AssetNotFoundError(f"There is no {WORDS[kind]} {asset.name!r} to update: create it first.")
        return await self.create(asset)

    async def get(
        self,
        name: str,
        *,
        version: int | None = None,
        label: str | None = None,
        kind: AssetKind | None = None,
    ) -> Asset:
        """One version: by number, by label, or the latest. `kind` is needed only where assets of several
        kinds share the name; code gives way to the others.

        Raises:
            AssetNotFoundError: no such asset, version or label.
            AssetError: the name is that of a prompt template and a dataset.
        """
        if version is not None and label is not None:
            raise AssetError(f"{name!r}: give a version or a label, not both")
        found = [k for k in ([kind] if kind else KINDS) if await self._ledger.get_asset(k, name)]
        if not found:
            raise AssetNotFoundError(await self._missing(name, kind))
        found = one_kind(name, found)
        if label is not None:
            version = await self._ledger.get_label(found[0], name, label)
            if version is None:
                raise AssetNotFoundError(f"The {WORDS[found[0]]} {name!r} has no label {label!r}.")
        # No store counts further, and SQLite cannot.
        record = (
            await self._ledger.get_asset(found[0], name, version)
            if version is None or 0 <= version < MOST_VERSIONS
            else None
        )
        if record is None:
            raise AssetNotFoundError(await self._no_version(found[0], name, version))
        return read_asset(record)

    async def _no_version(self, kind: AssetKind, name: str, version: int | None) -> str:
        what = f"The {WORDS[kind]} {name!r} has no version {version}"
        possible = version is not None and 0 <= version < MOST_VERSIONS
        if possible and (gone := await deleted_at(self._ledger, kind, name, int(version or 0))):
            return f"{what} any more: it was deleted on {gone[:10]}."
        latest = await self._ledger.get_asset(kind, name)
        return f"{what}; its versions are 0 to {latest.version if latest else 0}."

    async def _missing(self, name: str, kind: AssetKind | None) -> str:
        known = [a.name for k in ([kind] if kind else KINDS) for a in await self._ledger.list_assets(k)]
        there = f"There are {', '.join(sorted(set(known))[:10])}." if known else "The store has none yet."
        return f"There is no {WORDS[kind] if kind else 'asset'} {name!r}. {there}"

    async def list(self, kind: AssetKind | None = None) -> Sequence[Asset]:
        """The latest version of every asset, prompt templates first, sorted by name."""
        return [asset_from(record) for k in ([kind] if kind else KINDS) for record in await self.latest(k)]

    async def latest(self, kind: AssetKind) -> Sequence[AssetVersion]:
        """As `list`, for one kind, as records: with their time and content."""
        return [checked_asset(record) for record in await self._ledger.list_assets(kind)]

    async def record(self, name: str, *, kind: AssetKind, version: int | None = None) -> AssetVersion | None:
        """One version as a record, the latest by default; None if there is none."""
        found = await self._ledger.get_asset(kind, name, version)
        return found and checked_asset(found)

    async def versions(self, name: str, *, kind: AssetKind | None = None) -> Sequence[AssetVersion]:
        """Every version of one asset, oldest first.

        Raises:
            AssetNotFoundError: there is no such asset.
        """
        if kind is None:
            kind = kind_of(await self.get(name))
        found = await self._ledger.list_versions(kind, name)
        if not found:
            raise AssetNotFoundError(await self._missing(name, kind))
        return [checked_asset(record) for record in found]

    async def statistics(self, content: DatasetContent) -> Statistics:
        """Read what a dataset's columns hold: different values, lowest and highest.

        Raises:
            BlobNotFoundError: the dataset's rows are gone.
        """
        from promptlab.assets.column_statistics import statistics  # pages of datasets need it

        return await statistics(self._blobs, content)

    async def label(
        self, name: str, label: str, *, version: int | None = None, kind: AssetKind | None = None
    ) -> Asset:
        """Point a label at a version (the latest by default).

        Raises:
            AssetNotFoundError: no such asset or version.
            AssetError: the label is not usable.
        """
        try:
            checked_label(label)
        except ConfigError as error:
            raise AssetError(str(error)) from None
        asset = await self.get(name, version=version, kind=kind)
        assert asset.version is not None
        await self._ledger.set_label(kind_of(asset), name, label, asset.version)
        return await self.get(name, version=asset.version, kind=kind_of(asset))

    async def unlabel(self, name: str, label: str, *, kind: AssetKind | None = None) -> None:
        """Remove a label; the version that it pointed at stays.

        Raises:
            AssetNotFoundError: no such asset or label.
        """
        found = kind_of(await self.get(name, kind=kind))
        if not await self._ledger.delete_label(found, name, label):
            raise AssetNotFoundError(f"The {WORDS[found]} {name!r} has no label {label!r}.")

    async def delete(
        self, name: str, *, version: int, kind: AssetKind | None = None, by: str | None = None
    ) -> None:
        """Remove one version for good, with what no other version has in the store; its number stays taken.

        After an interruption in the middle the same call removes the rest.

        Raises:
            AssetNotFoundError: there is no such asset or version.
            AssetError: the name is that of a prompt template and a dataset.
            VersionInUseError: a run uses it, or a label points at it.
        """
        journal = Journal(self._ledger, self._clock)
        work = VersionDeleting(self._ledger, self._blobs, self._clock, journal)
        for one in KINDS if kind is None else (kind,):
            if begun := await journal.pending(one, f"{name}@{version}"):
                await (self._tidier.begin() if self._tidier else work.finish(begun))
                return
        found = kind_of(await self.get(name, kind=kind))
        record = await self._ledger.get_asset(found, name, version) if version < MOST_VERSIONS else None
        if record is None:
            raise AssetNotFoundError(await self._no_version(found, name, version))
        await work.delete(record, by or user_name(), later=self._tidier is not None)
        if self._tidier:
            await self._tidier.begin()

    async def rows(self, dataset: Dataset, offset: int, limit: int) -> Sequence[dict[str, Any]]:
        """Read at most `limit` rows of a dataset's version, from row `offset` (0-based) on.

        Raises:
            AssetNotFoundError: there is no such dataset or version.
        """
        found = (
            dataset
            if dataset.content
            else await self.get(dataset.name, version=dataset.version, kind="dataset")
        )
        assert isinstance(found, Dataset) and found.content is not None
        return await rows_page(self._blobs, found.content, offset, limit)

    async def source(self, bundle: CodeBundle) -> CodeBundle:
        """Read a code version's text.

        Raises:
            AssetNotFoundError: there is no such code or version.
            BlobNotFoundError: its text is gone.
            AssetError: its text is not what was stored.
        """
        if bundle.contents is None:
            if bundle.version is None:
                return bundle
            found = await self.get(bundle.name, version=bundle.version, kind="code")
            assert isinstance(found, CodeBundle)
            bundle = found
        return bundle.with_text(orjson.loads(await self._blobs.get(bundle.blob)))

    async def _same_code(self, name: str, found: str) -> Asset | None:
        """The version of a piece of code that has this content already, whichever it is: a script that is run
        on two branches in turn makes no versions without end."""
        versions = await self._ledger.list_versions("code", name)
        return next((asset_from(one) for one in reversed(versions) if one.hash == found), None)

    async def _keep_code(self, bundle: CodeBundle) -> dict[str, Any]:
        """Store a bundle's text under its hash, and describe it for the ledger.

        Raises:
            AssetError: a file is no Python, or a wheel that it names was not uploaded.
        """
        entries = await asyncio.to_thread(entries_of, bundle.files)
        for wheel in bundle.wheels:
            if not await self._blobs.exists(wheel.blob):
                raise AssetError(
                    f"The wheel {wheel.file_name} was not uploaded: its content is to be {wheel.sha256}."
                )
        contents = replace(bundle.described(), entries=entries)
        if not await self._blobs.exists(contents.blob):
            await self._blobs.put(contents.blob, orjson.dumps(bundle.content()))
        return contents.to_json()

    @asynccontextmanager
    async def draft(self, value: Asset | str, kind: AssetKind) -> AsyncIterator[AssetDraft]:
        """Read what an experiment names: an asset object or a reference (`qa`, `qa@3`,
        `qa@production`). Nothing is stored.

        Raises:
            AssetNotFoundError: a reference to nothing, or an object of another store.
            ConfigError: an object that differs from its version in the store.
            DatasetError: the dataset cannot be read.
        """
        if isinstance(value, str):
            yield AssetDraft(await self._referenced(value, kind), stored=True)
        elif value.version is not None:
            stored = await self.get(value.name, version=value.version, kind=kind)
            if isinstance(value, PromptTemplate) and content_hash(value.content()) != stored.hash:
                raise ConfigError(
                    f"{WORDS[kind]} {value.name!r} differs from version {value.version} in the store: make "
                    "it a new version with pl.asset.update(…) first"
                )
            yield AssetDraft(stored, stored=True)
        else:
            async with self._new(value) as draft:
                yield draft

    async def _referenced(self, reference: str, kind: AssetKind) -> Asset:
        name, _, which = reference.partition("@")
        return await self.get(name, kind=kind, **which_version(which))

    @asynccontextmanager
    async def _new(
        self, asset: Asset, on_rows: Callable[[int], None] | None = None
    ) -> AsyncIterator[AssetDraft]:
        if isinstance(asset, Dataset):
            async with stage(asset, on_rows) as staged:
                yield AssetDraft(asset, staged)
        else:
            yield AssetDraft(asset)

    async def commit(self, draft: AssetDraft) -> Asset:
        """Store a draft as the next version, unless the latest one has its content.

        Raises:
            VersionTakenError: others kept creating versions of the same name meanwhile.
        """
        if draft.stored:
            return draft.asset
        kind, name = kind_of(draft.asset), draft.asset.name
        content = await self._store_blobs(draft)
        if kind == "code" and (same := await self._same_code(name, draft.hash)):
            return same
        for _ in range(_TRIES):
            latest = await self._ledger.get_asset(kind, name)
            if (
                latest
                and latest.hash == draft.hash
                and latest.content.get("id_column") == content.get("id_column")
            ):
                return asset_from(latest)
            record = AssetVersion(
                kind=kind,
                name=name,
                version=await next_number(self._ledger, kind, name, latest),
                description=draft.asset.description,
                content=content,
                hash=draft.hash,
                created_at=self._clock.now(),
            )
            try:
                await self._ledger.add_asset(record)
            except VersionTakenError:
                continue
            if not isinstance(draft.asset, PromptTemplate):
                await to_be_kept(self._ledger, self._clock, draft.hash)
                await self._store_blobs(draft)
            return asset_from(record)
        raise VersionTakenError(
            f"{WORDS[kind]} {name!r}: others created versions at the same time, {_TRIES} times over. Try "
            "again."
        )

    async def _store_blobs(self, draft: AssetDraft) -> dict[str, Any]:
        """Store a draft's blobs that are not there, and describe its content for the ledger."""
        if draft.staged:
            await commit(draft.staged, self._blobs)
        if isinstance(draft.asset, CodeBundle):
            return await self._keep_code(draft.asset)
        if isinstance(draft.asset, PromptTemplate):
            return draft.asset.content()
        assert draft.content is not None
        return draft.content.to_json()
