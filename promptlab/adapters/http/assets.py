"""The assets of a hosted Studio: what `engine.assets.AssetStore` is for a local store."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from promptlab.adapters.http.bodies import asset_version_from, prompt_body
from promptlab.adapters.http.client import ApiClient
from promptlab.adapters.http.jobs import RemoteJobs
from promptlab.assets.given_rows import given_rows
from promptlab.assets.ingest import StagedDataset, stage
from promptlab.assets.store import one_kind
from promptlab.domain.assets import (
    KINDS,
    Asset,
    AssetKind,
    AssetVersion,
    Dataset,
    PromptTemplate,
    asset_from,
    kind_of,
)
from promptlab.domain.code import CodeBundle, CodeHost, Wheel
from promptlab.domain.records import made
from promptlab.errors import (
    AssetError,
    AssetNotFoundError,
    ConfigError,
    DatasetError,
    EndpointUnreachableError,
    RemoteError,
)
from promptlab.scratch import ScratchFolder

PATHS: dict[AssetKind, str] = {"prompt_template": "/prompts", "dataset": "/datasets", "code": "/code"}
INLINE_BYTES = 1 << 20
"""Rows that are longer than this as JSON are uploaded as a file."""
WAITED_BYTES = 20 << 20
"""Files that are longer are read in a job."""
_UPLOADS = 3


class RemoteAssets:
    """Create, read and label versions of assets."""

    def __init__(self, api: ApiClient, jobs: RemoteJobs) -> None:
        self._api, self._jobs = api, jobs

    async def create(self, asset: Asset) -> Asset:
        """The asset's new version; the latest one, if that has this content already.

        Raises:
            DatasetError: the dataset cannot be read.
        """
        if isinstance(asset, PromptTemplate):
            body = prompt_body(asset.model_copy(update={"version": None}))
            return await self._written(await self._api.json("POST", "/prompts", json=body))
        if isinstance(asset, CodeBundle):
            return await self._create_code(asset)
        fields: dict[str, Any] = {
            "name": asset.name,
            "description": asset.description,
            "id_column": asset.id_column,
        }
        if asset.delimiter is not None:
            fields["delimiter"] = asset.delimiter
        if (asset.file_path is None) == (asset.rows is None):
            raise DatasetError(
                f"Dataset {asset.name!r} has {'both' if asset.rows is not None else 'neither'} file_path "
                "and rows: give one of them."
            )
        if asset.media:
            return await self._create_with_media(fields | {"media": asset.media}, asset)
        if asset.file_path is not None:
            return await self._upload(fields, _existing(asset.file_path))
        return await self._create_from_rows(fields, asset.rows)

    async def _create_with_media(self, fields: Mapping[str, Any], dataset: Dataset) -> Asset:
        """Send a dataset's rows with its files in them, as data."""
        async with stage(dataset) as staged:
            path = staged.rows_path.with_name("sent.jsonl")
            await asyncio.to_thread(_write_with_media, staged, path, list(dataset.media))
            return await self._upload({k: v for k, v in fields.items() if k != "delimiter"}, path)

    async def _create_code(self, bundle: CodeBundle) -> Asset:
        body = {"name": bundle.name, "description": bundle.description, **bundle.content()}
        text = {"files": body["files"], "pickled": body["pickled"]}
        data = orjson.dumps(text)
        if len(data) > INLINE_BYTES:
            with ScratchFolder() as folder:
                path = folder / "code.json"
                await asyncio.to_thread(path.write_bytes, data)
                body = {k: v for k, v in body.items() if k not in text}
                body["upload"] = await self._upload_file("/code/uploads", path)
        return asset_from(asset_version_from(await self._api.json("POST", "/code", json=body)))

    async def send_wheel(self, wheel: Wheel, path: Path) -> None:
        """Have a wheel kept there, for code that names it; one that is there is not sent again.

        Raises:
            AssetError: it arrived damaged.
        """
        body = wheel.model_dump()
        try:
            await self._api.json("POST", "/code/wheels", json=body)
        except AssetError:  # it is not there
            body["upload"] = await self._upload_file("/code/uploads", path)
            await self._api.json("POST", "/code/wheels", json=body)

    async def code_host(self) -> CodeHost:
        """Return what code of users finds there.

        Raises:
            ConfigError: code is not taken there, or not from this caller; in words for people.
        """
        try:
            found = await self._api.get("/sandbox")
        except RemoteError as error:
            if error.status != 404:
                raise
            raise ConfigError(
                f"{self._api.endpoint} is of a version that takes no code of one's own: deploy a newer one, "
                "use "
                "built-in metrics, or run the experiment here with a local store."
            ) from None
        if found.get("refusal"):
            raise ConfigError(str(found["refusal"]))
        return made(CodeHost, found)

    async def source(self, bundle: CodeBundle) -> CodeBundle:
        """Read a code version's text; an object in it stays there.

        Raises:
            AssetNotFoundError: there is no such code or version.
        """
        if bundle.version is None:
            return bundle
        found = await self._api.get(f"{_path('code', bundle.name)}/versions/{bundle.version}/source")
        return bundle.shown(found["files"])

    async def _upload_file(self, prepare: str, path: Path) -> str:
        """Send a file to where the Studio says, and give its key."""
        size = (await asyncio.to_thread(path.stat)).st_size
        place = await self._api.json("POST", prepare, json={"file_name": path.name, "size_bytes": size})
        told = self._jobs.sending(size) if size > WAITED_BYTES else None
        await self._api.upload(place["method"], place["upload_url"], place["headers"], path, told)
        return str(place["key"])

    async def _create_from_rows(self, fields: Mapping[str, Any], rows: Any) -> Asset:
        with ScratchFolder() as folder:
            path = folder / "rows.jsonl"
            size = await asyncio.to_thread(_write_rows, path, rows)
            if size > INLINE_BYTES:
                return await self._upload(fields, path)
            lines = (await asyncio.to_thread(path.read_bytes)).splitlines()
        body = {**fields, "rows": [orjson.loads(line) for line in lines]}
        return await self._written(await self._api.json("POST", "/datasets", json=body))

    async def _upload(self, fields: Mapping[str, Any], path: Path) -> Asset:
        for attempt in range(1, _UPLOADS + 1):
            # Each upload is used up by one attempt; creating the same content again changes nothing.
            key = await self._upload_file("/datasets/uploads", path)
            if (await asyncio.to_thread(path.stat)).st_size > WAITED_BYTES:
                return await self._ingested({**fields, "upload": key})
            try:
                answer = await self._api.json(
                    "POST", "/datasets", json={**fields, "upload": key}, repeatable=False
                )
            except EndpointUnreachableError:
                if attempt == _UPLOADS:
                    raise
            else:
                return await self._written(answer)
        raise AssertionError("unreachable")

    async def _written(self, answer: dict[str, Any]) -> Asset:
        """Read the answer to a change; of a version that is too long for it, from where it is whole."""
        (found,) = await self._api.whole({"items": [answer], "cut": answer.get("cut")}, "items")
        return asset_from(asset_version_from(found))

    async def _ingested(self, body: Mapping[str, Any]) -> Asset:
        try:
            job = await self._jobs.done("/datasets/ingests", body)
        except RemoteError as error:
            if error.status not in (404, 405):
                raise
            # A Studio of an older version has no jobs.
            return await self._written(
                await self._api.json("POST", "/datasets", json=dict(body), repeatable=False)
            )
        made = job["result"]
        return await self.get(made["name"], version=made["version"], kind="dataset")

    async def update(self, asset: Asset) -> Asset:
        """As `create`, for an asset that exists.

        Raises:
            AssetNotFoundError: there is no asset of this name.
        """
        await self._api.get(_path(kind_of(asset), asset.name))
        return await self.create(asset)

    async def get(
        self,
        name: str,
        *,
        version: int | None = None,
        label: str | None = None,
        kind: AssetKind | None = None,
    ) -> Asset:
        """One version: by number, by label, or the latest.

        Raises:
            AssetNotFoundError: no such asset, version or label.
            AssetError: the name is that of a prompt template and a dataset.
        """
        if version is not None and label is not None:
            raise AssetError(f"{name!r}: give a version or a label, not both")
        kind = kind or await self._kind(name)
        which = label if label is not None else "latest" if version is None else str(version)
        return asset_from(
            asset_version_from(await self._api.get(f"{_path(kind, name)}/versions/{quote(which, safe='')}"))
        )

    async def record(self, name: str, *, kind: AssetKind, version: int | None = None) -> AssetVersion | None:
        """One version as a record, the latest by default; None if there is none."""
        which = "latest" if version is None else version
        try:
            return asset_version_from(await self._api.get(f"{_path(kind, name)}/versions/{which}"))
        except AssetNotFoundError:
            return None

    async def _kind(self, name: str) -> AssetKind:
        found: list[AssetKind] = []
        missing: AssetNotFoundError | None = None
        for kind in KINDS:
            try:
                await self._api.get(_path(kind, name))
                found.append(kind)
            except AssetNotFoundError as error:
                missing = missing or error
            except RemoteError as error:
                _pass_if_older(kind, error)
        if not found:
            raise AssetNotFoundError(f"There is no asset {name!r} at {self._api.endpoint}.") from missing
        return one_kind(name, found)[0]

    async def list(self, kind: AssetKind | None = None) -> Sequence[Asset]:
        """The latest version of every asset, prompt templates first, sorted by name."""
        return [asset_from(version) for k in ([kind] if kind else KINDS) for version in await self.latest(k)]

    async def latest(self, kind: AssetKind) -> Sequence[AssetVersion]:
        """As `list`, for one kind, as records: with their time and content."""
        found: list[AssetVersion] = []
        cursor = None
        while True:
            try:
                page = await self._api.get(PATHS[kind], limit=500, cursor=cursor)
            except RemoteError as error:
                _pass_if_older(kind, error)
                return []
            found += map(asset_version_from, await self._api.whole(page, "items"))
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    async def versions(self, name: str, *, kind: AssetKind | None = None) -> Sequence[AssetVersion]:
        """Every version of one asset, oldest first.

        Raises:
            AssetNotFoundError: there is no such asset.
        """
        path, cursor = _path(kind or await self._kind(name), name), None
        found: list[AssetVersion] = []
        while True:
            page = await self._api.get(path, cursor=cursor)
            found += map(asset_version_from, await self._api.whole(page, "versions"))
            cursor = page.get("next_cursor")  # an older Studio gives all of them at once
            if cursor is None:
                return found

    async def label(
        self, name: str, label: str, *, version: int | None = None, kind: AssetKind | None = None
    ) -> Asset:
        """Point a label at a version (the latest by default).

        Raises:
            AssetNotFoundError: no such asset or version.
            AssetError: the label is not usable.
        """
        kind = kind or await self._kind(name)
        if version is None:
            version = (await self.get(name, kind=kind)).version
        path = f"{_path(kind, name)}/labels/{quote(label, safe='')}"
        return await self._written(await self._api.json("PUT", path, json={"version": version}))

    async def unlabel(self, name: str, label: str, *, kind: AssetKind | None = None) -> None:
        """Remove a label; the version that it pointed at stays.

        Raises:
            AssetNotFoundError: no such asset or label.
        """
        kind = kind or await self._kind(name)
        await self._api.delete(f"{_path(kind, name)}/labels/{quote(label, safe='')}")

    async def delete(self, name: str, *, version: int, kind: AssetKind | None = None) -> None:
        """Remove one version for good, with what no other version has in the store; its number stays taken.

        Raises:
            AssetNotFoundError: there is no such asset or version.
            VersionInUseError: a run uses it, or a label points at it.
        """
        kind = kind or await self._kind(name)
        await self._api.delete(f"{_path(kind, name)}/versions/{version}")

    async def rows(self, dataset: Dataset, offset: int, limit: int) -> Sequence[dict[str, Any]]:
        """At most `limit` rows (500 are the most) of a dataset's version, from row `offset` (0-based) on;
        long rows make it fewer.

        Raises:
            AssetNotFoundError: there is no such dataset or version.
        """
        path = f"{_path('dataset', dataset.name)}/versions/{dataset.version}/rows"
        return await self._api.whole(await self._api.get(path, offset=offset, limit=limit), "items")

    async def reference(self, value: Dataset | str) -> str:
        """Return a run's reference to a dataset; one that is not in the store yet is put there."""
        if isinstance(value, str):
            return value
        created = value if value.version is not None else await self.create(value)
        return f"{created.name}@{created.version}"


def _pass_if_older(kind: AssetKind, error: RemoteError) -> None:
    """Raise the error again, unless it is the 404 of a Studio of a version that had no code yet."""
    if kind != "code" or error.status != 404:
        raise error


def _path(kind: AssetKind, name: str) -> str:
    return f"{PATHS[kind]}/{quote(name, safe='')}"


def _existing(file: str | Path) -> Path:
    path = Path(file).expanduser()
    if not path.is_file():
        raise DatasetError(
            f"There is no file {str(file)!r}: looked for {path.absolute()}. A relative file_path starts "
            "at the working folder."
        )
    return path


def _write_with_media(staged: StagedDataset, path: Path, columns: Sequence[str]) -> None:
    """Write the rows of a staged dataset with what its files hold as data: addresses."""

    def sent(value: Any) -> Any:
        if isinstance(value, list):
            return [sent(one) for one in value]
        if not isinstance(value, dict):
            return value
        if value["type"] != "blob" or (file := staged.media.get(value["sha256"])) is None:
            return value.get("uri", value)
        return f"data:{value['mime_type']};base64,{base64.b64encode(file.read_bytes()).decode()}"

    with staged.rows_path.open("rb") as rows, path.open("wb") as out:
        for line in rows:
            row = orjson.loads(line)
            row |= {name: sent(row[name]) for name in columns if name in row}
            out.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))


def _write_rows(path: Path, rows: Any) -> int:
    """Write rows as JSON lines, and give the bytes written."""
    with path.open("wb") as file:
        return sum(
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)) for _, row in given_rows(rows)
        )
