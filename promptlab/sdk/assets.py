"""The SDK's prompt templates and datasets: `PromptLab().asset`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeVar, overload

from promptlab.deprecated import warn_old
from promptlab.domain.assets import Asset, AssetKind, AssetVersion, Dataset, PromptTemplate
from promptlab.domain.code import CodeBundle
from promptlab.lab import Lab
from promptlab.sync import run_sync

AnyAsset = TypeVar("AnyAsset", PromptTemplate, Dataset)


def _asked_name(name: str, asset_name: str | None) -> str:
    """Give the name, which promptlab 0.1 called asset_name."""
    if asset_name is not None:
        if name:
            raise TypeError("get() takes the name of the asset once: leave asset_name=… out")
        warn_old(f"asset_name={asset_name!r}", f"name={asset_name!r}")
        return asset_name
    if not name:
        raise TypeError("get() needs the name of the asset")
    return name


class Assets:
    """Prompt templates and datasets, versioned."""

    def __init__(self, lab: Lab) -> None:
        self._store = lab.assets

    def create(self, asset: AnyAsset) -> AnyAsset:
        """The asset's new version; the latest one, if that has this content already.

        Raises:
            DatasetError: the dataset cannot be read.
        """
        return run_sync(self.create_async(asset))

    async def create_async(self, asset: AnyAsset) -> AnyAsset:
        """As `create`."""
        return await self._store.create(asset)  # type: ignore[return-value]

    def update(self, asset: AnyAsset) -> AnyAsset:
        """As `create`, for an asset that exists.

        Raises:
            AssetNotFoundError: there is no asset of this name.
        """
        return run_sync(self.update_async(asset))

    async def update_async(self, asset: AnyAsset) -> AnyAsset:
        """As `update`."""
        return await self._store.update(asset)  # type: ignore[return-value]

    @overload
    def get(
        self,
        name: str,
        version: int | None = None,
        *,
        label: str | None = None,
        kind: Literal["prompt_template"],
    ) -> PromptTemplate: ...

    @overload
    def get(
        self, name: str, version: int | None = None, *, label: str | None = None, kind: Literal["dataset"]
    ) -> Dataset: ...

    @overload
    def get(
        self,
        name: str,
        version: int | None = None,
        *,
        label: str | None = None,
        kind: AssetKind | None = None,
    ) -> Any: ...

    def get(
        self,
        name: str = "",
        version: int | None = None,
        *,
        label: str | None = None,
        kind: AssetKind | None = None,
        asset_name: str | None = None,
    ) -> Any:
        """A `PromptTemplate`, `Dataset` or `CodeBundle`: one version by number or label, or the latest.

        `kind` ("prompt_template" or "dataset") is needed only where both have the name; they go before code.

        Raises:
            AssetNotFoundError: no such asset, version or label.
        """
        name = _asked_name(name, asset_name)
        return run_sync(self.get_async(name, version, label=label, kind=kind))

    @overload
    async def get_async(
        self,
        name: str,
        version: int | None = None,
        *,
        label: str | None = None,
        kind: Literal["prompt_template"],
    ) -> PromptTemplate: ...

    @overload
    async def get_async(
        self, name: str, version: int | None = None, *, label: str | None = None, kind: Literal["dataset"]
    ) -> Dataset: ...

    @overload
    async def get_async(
        self,
        name: str,
        version: int | None = None,
        *,
        label: str | None = None,
        kind: AssetKind | None = None,
    ) -> Any: ...

    async def get_async(
        self,
        name: str = "",
        version: int | None = None,
        *,
        label: str | None = None,
        kind: AssetKind | None = None,
        asset_name: str | None = None,
    ) -> Any:
        """As `get`."""
        name = _asked_name(name, asset_name)
        return await self._store.get(name, version=version, label=label, kind=kind)

    def list(self, kind: AssetKind | None = None) -> Sequence[Asset]:
        """The latest version of every asset."""
        return run_sync(self.list_async(kind))

    async def list_async(self, kind: AssetKind | None = None) -> Sequence[Asset]:
        """As `list`."""
        return await self._store.list(kind)

    def versions(self, name: str, *, kind: AssetKind | None = None) -> Sequence[AssetVersion]:
        """Every version of one asset, oldest first.

        Raises:
            AssetNotFoundError: there is no such asset.
        """
        return run_sync(self.versions_async(name, kind=kind))

    async def versions_async(self, name: str, *, kind: AssetKind | None = None) -> Sequence[AssetVersion]:
        """As `versions`."""
        return await self._store.versions(name, kind=kind)

    def source(self, bundle: CodeBundle) -> CodeBundle:
        """The code of a version with its text: `files` by path.

        Raises:
            AssetNotFoundError: there is no such code or version.
        """
        return run_sync(self.source_async(bundle))

    async def source_async(self, bundle: CodeBundle) -> CodeBundle:
        """As `source`."""
        return await self._store.source(bundle)

    def label(
        self, name: str, label: str, *, version: int | None = None, kind: AssetKind | None = None
    ) -> Asset:
        """Point a label such as `production` at a version (the latest by default).

        Raises:
            AssetNotFoundError: no such asset or version.
        """
        return run_sync(self.label_async(name, label, version=version, kind=kind))

    def unlabel(self, name: str, label: str, *, kind: AssetKind | None = None) -> None:
        """Remove a label; the version that it pointed at stays.

        Raises:
            AssetNotFoundError: no such asset or label.
        """
        run_sync(self.unlabel_async(name, label, kind=kind))

    async def unlabel_async(self, name: str, label: str, *, kind: AssetKind | None = None) -> None:
        """Do as `unlabel`."""
        await self._store.unlabel(name, label, kind=kind)

    def delete(self, name: str, *, version: int, kind: AssetKind | None = None) -> None:
        """Remove one version for good, with its rows or text; its number is not given again.

        Rows that another version has too stay with that one.

        Raises:
            AssetNotFoundError: there is no such asset or version.
            VersionInUseError: a run uses it, or a label points at it.
        """
        run_sync(self.delete_async(name, version=version, kind=kind))

    async def delete_async(self, name: str, *, version: int, kind: AssetKind | None = None) -> None:
        """Do as `delete`."""
        await self._store.delete(name, version=version, kind=kind)

    async def label_async(
        self, name: str, label: str, *, version: int | None = None, kind: AssetKind | None = None
    ) -> Asset:
        """As `label`."""
        return await self._store.label(name, label, version=version, kind=kind)
