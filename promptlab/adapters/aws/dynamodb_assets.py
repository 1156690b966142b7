"""Assets, their versions and labels in the ledger's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from promptlab.adapters.aws.dynamodb_items import REMEDY, number
from promptlab.adapters.aws.dynamodb_part import LedgerPart, asset_key, keys, listed, put, put_new, together
from promptlab.adapters.aws.dynamodb_table import Item
from promptlab.adapters.records import FAULTS, asset_from, damaged, to_json
from promptlab.domain.asset_checks import unreadable_asset
from promptlab.domain.assets import AssetKind, AssetVersion
from promptlab.errors import AssetNotFoundError, StoreDamagedError, VersionTakenError


class DynamoDBAssets(LedgerPart):
    """The ledger's methods for assets."""

    async def add_asset(self, asset: AssetVersion) -> None:
        await self._check_version(write=True)
        data = to_json(replace(asset, labels=()))
        body = await self._bodies.pack(data, f"assets/text/{asset.kind}")
        version: Item = {
            **keys(asset_key(asset.kind, asset.name), f"V#{number(asset.version, 10, 'a version')}"),
            "b": body,
        }
        if not await self._table.transact(put_new(version), put(keys(f"ASSETS#{asset.kind}", asset.name))):
            raise VersionTakenError(
                f"Version {asset.version} of {asset.kind} {asset.name!r} is recorded already: read the "
                "latest version again and retry."
            )

    async def get_asset(self, kind: AssetKind, name: str, version: int | None = None) -> AssetVersion | None:
        await self._check_version()
        prefix = "V#" if version is None else f"V#{number(version, 10, 'a version')}"
        found = await listed(self._table.query(asset_key(kind, name), prefix, newest=True, limit=1))
        return await self._asset(found[0], await self._labels(kind, name)) if found else None

    async def list_assets(self, kind: AssetKind) -> list[AssetVersion]:
        await self._check_version()
        names = [item["sk"]["S"] async for item in self._table.query(f"ASSETS#{kind}")]
        found = await together(self._latest(kind, name) for name in names)
        return [asset for asset in found if asset]

    async def _latest(self, kind: AssetKind, name: str) -> AssetVersion | None:
        found = await listed(self._table.query(asset_key(kind, name), "V#", newest=True, limit=1))
        return await self._in_list(kind, name, found[0], await self._labels(kind, name)) if found else None

    async def list_versions(self, kind: AssetKind, name: str) -> list[AssetVersion]:
        await self._check_version()
        found = await listed(self._table.query(asset_key(kind, name), "V#"))
        labels = await self._labels(kind, name)
        return await together(self._in_list(kind, name, item, labels) for item in found)

    async def delete_asset(self, kind: AssetKind, name: str, version: int) -> None:
        pk, place = asset_key(kind, name), (f"ASSETS#{kind}", name)
        key = (pk, f"V#{number(version, 10, 'a version')}")
        if found := await self._table.get(key):
            await self._bodies.forget(found["b"])
        labels = (await self._labels(kind, name)).get(version, ())
        await self._table.delete_all([*((pk, f"L#{label}") for label in labels), key])
        if not await self._has_versions(pk):
            await self._table.delete(place)
            if await self._has_versions(pk):  # somebody added one just before
                await self._table.write([keys(*place)])

    async def _has_versions(self, pk: str) -> bool:
        return bool(await listed(self._table.query(pk, "V#", limit=1, only_keys=True)))

    async def set_label(self, kind: AssetKind, name: str, label: str, version: int) -> None:
        there = {
            "Key": keys(asset_key(kind, name), f"V#{number(version, 10, 'a version')}"),
            "ConditionExpression": "attribute_exists(pk)",
        }
        pointer: Item = {**keys(asset_key(kind, name), f"L#{label}"), "v": {"N": str(version)}}
        if not await self._table.transact({"ConditionCheck": there}, put(pointer)):
            raise AssetNotFoundError(f"There is no version {version} of {kind} {name!r} to label {label!r}.")

    async def delete_label(self, kind: AssetKind, name: str, label: str) -> bool:
        key = (asset_key(kind, name), f"L#{label}")
        there = await self._table.get(key) is not None
        await self._table.delete(key)
        return there

    async def get_label(self, kind: AssetKind, name: str, label: str) -> int | None:
        found = await self._table.get((asset_key(kind, name), f"L#{label}"))
        return int(found["v"]["N"]) if found else None

    async def _labels(self, kind: AssetKind, name: str) -> dict[int, list[str]]:
        labels: dict[int, list[str]] = {}
        async for item in self._table.query(asset_key(kind, name), "L#"):
            labels.setdefault(int(item["v"]["N"]), []).append(item["sk"]["S"].removeprefix("L#"))
        return labels

    async def _asset(self, item: Item, labels: Mapping[int, Sequence[str]]) -> AssetVersion:
        """The asset version of an item.

        Raises:
            StoreDamagedError: it is none.
        """
        try:
            body = await self._bodies.unpack(item["b"])
            return asset_from(body, labels.get(_version(item), ()))
        except FAULTS as error:
            raise damaged(error, REMEDY) from error

    async def _in_list(
        self, kind: AssetKind, name: str, item: Item, labels: Mapping[int, Sequence[str]]
    ) -> AssetVersion:
        """The asset version of an item, or one in its place that says why it cannot be read."""
        try:
            return await self._asset(item, labels)
        except StoreDamagedError as error:
            return unreadable_asset(kind, name, _version(item), str(error))


def _version(item: Item) -> int:
    return int(item["sk"]["S"].removeprefix("V#"))
