"""Prompt templates and datasets: create, list, read, label."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Annotated, Any
from urllib.parse import quote

import orjson
from fastapi import APIRouter, Path, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from promptlab.assets.store import MOST_VERSIONS
from promptlab.domain.assets import Asset, AssetKind, AssetVersion, Dataset, kind_of, which_version
from promptlab.errors import AssetNotFoundError
from promptlab.store_lab import StoreLab
from promptlab_studio.access import Engineer, TheLab, Viewer
from promptlab_studio.api.answers import AssetOut, AssetPage, AssetVersions, RowPage, asset_object
from promptlab_studio.api.bodies import Exact
from promptlab_studio.api.cut import fitted, fragments, shortened
from promptlab_studio.api.shapes import DatasetIn, LabelIn, PromptIn, RowsIn
from promptlab_studio.api.uploads import check_waitable, uploaded
from promptlab_studio.bounds import whole

PATHS: dict[AssetKind, str] = {"prompt_template": "prompts", "dataset": "datasets", "code": "code"}
_ELSEWHERE: dict[int | str, dict[str, Any]] = {
    303: {"description": "Where it is, if it is long: in the cloud it comes from the bucket."}
}
_SAME: dict[int | str, dict[str, Any]] = {
    200: {"model": AssetOut, "description": "The latest version has this content already."}
}
router = APIRouter(route_class=Exact)

Name = Annotated[str, Path(max_length=200, description="The asset's name.")]
Version = Annotated[str, Path(max_length=100, description="A number, a label, or latest.")]
Number = Annotated[int, Path(ge=0, le=MOST_VERSIONS, description="The version's number.")]
Label = Annotated[str, Path(max_length=100, description="The label, as in production.")]
Limit = Annotated[int, Query(ge=1, le=500, description="How many at most.")]
After = Annotated[
    str | None, Query(max_length=200, description="Where the page before ended: its next_cursor.")
]
AfterVersion = Annotated[
    int | None, Query(ge=0, le=10**10, description="Where the page before ended: its next_cursor.")
]


def _add_routes(kind: AssetKind, path: str, one: str, many: str, what: str) -> None:
    """Add the routes that prompt templates, datasets and code have alike.

    Args:
        kind: which of them.
        path: the beginning of the routes; also the tag that they have.
        one: a single one, for summaries.
        many: several.
        what: what reading one version gives.
    """
    name_of_one = path.removesuffix("s")

    @router.get(
        f"/{path}", tags=[path], name=f"list_{path}", summary=f"List {many}", response_model=AssetPage
    )
    async def list_latest(lab: TheLab, who: Viewer, limit: Limit = 100, cursor: After = None) -> Any:
        """The latest version of each, by name."""
        return await _list(lab, kind, limit, cursor)

    @router.get(
        f"/{path}/{{name}}",
        tags=[path],
        name=f"list_{name_of_one}_versions",
        summary=f"List a {one}'s versions",
        response_model=AssetVersions,
    )
    async def list_versions(
        lab: TheLab, who: Viewer, name: Name, limit: Limit = 500, cursor: AfterVersion = None
    ) -> Any:
        """Oldest first, with labels."""
        found = await lab.assets.versions(name, kind=kind)
        found = [asset for asset in found if cursor is None or asset.version > cursor]
        written, cut = await _fitted(path, found[:limit])
        following = found[len(written) - 1].version if len(written) < len(found) else None
        return _json(
            {"name": name, "versions": written, "cut": cut, "next_cursor": following and str(following)}
        )

    @router.get(
        f"/{path}/{{name}}/versions/{{version}}",
        tags=[path],
        name=f"get_{name_of_one}",
        summary=f"Read a {one}",
        description=what,
        response_model=AssetOut,
        responses=_ELSEWHERE,
    )
    async def get_version(
        request: Request, lab: TheLab, who: Viewer, name: Name, version: Version
    ) -> Response:
        found = await _object(lab, kind, await _get(lab, kind, name, version))
        return await whole(
            request,
            lab.blobs,
            orjson.dumps(found),
            file_name=f"{kind}.json",
            media_type="application/json",
        )

    @router.delete(
        f"/{path}/{{name}}/versions/{{version}}",
        status_code=204,
        tags=[path],
        name=f"delete_{name_of_one}",
        summary=f"Delete a {one}'s version",
        response_class=Response,
    )
    async def delete_version(lab: TheLab, who: Engineer, name: Name, version: Number) -> Response:
        """For good, with what no other version has in the store. Its number is not given again. One that a
        run uses, or a label points at, is refused."""
        await lab.assets.delete(name, version=version, kind=kind, by=who.id)
        return Response(status_code=204)

    @router.put(
        f"/{path}/{{name}}/labels/{{label}}",
        tags=[path],
        name=f"label_{name_of_one}",
        summary=f"Label a {one}'s version",
        response_model=AssetOut,
        response_model_exclude_unset=True,
    )
    async def set_label(lab: TheLab, who: Engineer, name: Name, label: Label, body: LabelIn) -> Any:
        """Point the label at a version; it leaves the one that it pointed at before."""
        return await _told(lab, kind, await lab.assets.label(name, label, version=body.version, kind=kind))

    @router.delete(
        f"/{path}/{{name}}/labels/{{label}}",
        status_code=204,
        tags=[path],
        name=f"unlabel_{name_of_one}",
        summary=f"Remove a label of a {one}",
        response_class=Response,
    )
    async def remove_label(lab: TheLab, who: Engineer, name: Name, label: Label) -> Response:
        """The version that it pointed at stays."""
        await lab.assets.unlabel(name, label, kind=kind)
        return Response(status_code=204)


@router.post(
    "/prompts",
    status_code=201,
    tags=["prompts"],
    summary="Create a prompt template's next version",
    response_model=AssetOut,
    responses=_SAME,
    response_model_exclude_unset=True,
)
async def create_prompt(lab: TheLab, who: Engineer, body: PromptIn, response: Response) -> Any:
    """201 with the new version; 200 with the latest one, if it has this content already."""
    return await _create(lab, body.asset(), response)


_add_routes(
    "prompt_template", "prompts", "prompt template", "prompt templates", "One version, with its text."
)


@router.post(
    "/datasets",
    status_code=201,
    tags=["datasets"],
    summary="Create a dataset's next version",
    response_model=AssetOut,
    responses=_SAME,
    response_model_exclude_unset=True,
)
async def create_dataset(lab: TheLab, who: Engineer, body: DatasetIn, response: Response) -> Any:
    """From rows, or from an uploaded file of at most 100 MB (a larger one: POST /datasets/ingests). 201 with
    the new version; 200 with the latest one, if it has these rows already."""
    fields: dict[str, Any] = {
        "name": body.name,
        "description": body.description,
        "id_column": body.id_column,
        "media": body.media,
    }
    if body.upload is None:
        return await _create(lab, RowsIn(**fields, rows=body.rows or []).asset(), response)
    await check_waitable(lab.records, body.upload)
    async with uploaded(lab.blobs, body.upload) as path:
        dataset = Dataset(**fields, delimiter=body.delimiter, file_path=path).without_files()
        return await _create(lab, dataset, response)


@router.get(
    "/datasets/{name}/versions/{version}/rows",
    tags=["datasets"],
    summary="Page through a dataset's rows",
    response_model=RowPage,
)
async def list_rows(
    lab: TheLab,
    who: Viewer,
    name: Name,
    version: Version,
    offset: Annotated[int, Query(ge=0, description="Rows to skip.")] = 0,
    limit: Annotated[
        int, Query(ge=1, le=500, description="Rows at most; long rows make a page shorter.")
    ] = 50,
) -> Response:
    """In the dataset's order."""
    dataset = await _get(lab, "dataset", name, version)
    assert isinstance(dataset, Dataset) and dataset.content is not None
    rows = await lab.assets.rows(dataset, offset, limit)
    written, cut = await fitted(rows, lambda place: row_url(dataset, offset + place))
    total = dataset.content.rows
    return _json({"items": [*fragments(written)], "cut": cut, "offset": offset, "total": total})


def row_url(dataset: Dataset, number: int) -> str:
    """Where a row of a version is, whole."""
    return f"{asset_url('datasets', dataset.name, dataset.version)}/rows/{number}"


@router.get(
    "/datasets/{name}/versions/{version}/rows/{number}",
    tags=["datasets"],
    summary="Read a dataset's row whole",
    response_model=dict[str, Any],
    responses=_ELSEWHERE,
)
async def get_row(
    request: Request,
    lab: TheLab,
    who: Viewer,
    name: Name,
    version: Version,
    number: Annotated[int, Path(ge=0, le=10**12, description="The row's number, from 0.")],
) -> Response:
    """However long its texts are."""
    dataset = await _get(lab, "dataset", name, version)
    assert isinstance(dataset, Dataset)
    rows = await lab.assets.rows(dataset, number, 1)
    if not rows:
        raise HTTPException(404, f"Dataset {name!r} has no row {number:,}: it has {len(dataset):,} rows.")
    data = await asyncio.to_thread(orjson.dumps, rows[0])
    return await whole(
        request, lab.blobs, data, file_name=f"row-{number}.json", media_type="application/json"
    )


_add_routes("dataset", "datasets", "dataset", "datasets", "One version: its columns, and how many rows.")
_add_routes(
    "code", "code", "piece of code", "code", "One version: its files and packages, without their text."
)


async def _list(lab: StoreLab, kind: AssetKind, limit: int, cursor: str | None) -> Response:
    following = [asset for asset in await lab.assets.latest(kind) if cursor is None or asset.name > cursor]
    written, cut = await _fitted(PATHS[kind], following[:limit])
    last = following[len(written) - 1].name if len(written) < len(following) else None
    return _json({"items": written, "cut": cut, "next_cursor": last})


async def _fitted(path: str, found: Sequence[AssetVersion]) -> tuple[list[Any], list[dict[str, Any]]]:
    written, cut = await fitted(
        [asset_object(asset) for asset in found],
        lambda place: asset_url(path, found[place].name, found[place].version),
    )
    return [*fragments(written)], cut


def asset_url(path: str, name: str, version: int | None) -> str:
    """Where a version is."""
    return f"/api/v1/{path}/{quote(name, safe='')}/versions/{version}"


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")


async def _create(lab: StoreLab, asset: Asset, response: Response) -> dict[str, Any]:
    kind = kind_of(asset)
    before = await lab.assets.record(asset.name, kind=kind)
    created = await lab.assets.create(asset)
    if before and before.version == created.version:
        response.status_code = 200
    response.headers["Location"] = asset_url(PATHS[kind], created.name, created.version)
    return await _told(lab, kind, created)


def _get(lab: StoreLab, kind: AssetKind, name: str, version: str) -> Awaitable[Asset]:
    return lab.assets.get(name, **which_version(version), kind=kind)


async def _told(lab: StoreLab, kind: AssetKind, asset: Asset) -> dict[str, Any]:
    """A version that was just written, with the beginning of a long text."""
    found = await _object(lab, kind, asset)
    data, cuts = await asyncio.to_thread(shortened, found)
    if not cuts:
        return found
    url = asset_url(PATHS[kind], asset.name, asset.version)
    told = [{"item": 0, "path": list(path), "characters": n, "url": url} for path, n in cuts]
    short: dict[str, Any] = orjson.loads(data)
    return {**short, "cut": told}


async def _object(lab: StoreLab, kind: AssetKind, asset: Asset) -> dict[str, Any]:
    found = await lab.assets.record(asset.name, kind=kind, version=asset.version)
    if found is None:
        raise AssetNotFoundError(f"{asset.name!r} has no version {asset.version}.")
    return asset_object(found)
