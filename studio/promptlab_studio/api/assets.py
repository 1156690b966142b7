"""Prompt templates and datasets: create, list, read, label."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Any
from urllib.parse import quote

import orjson
from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from promptlab.assets.store import MOST_VERSIONS
from promptlab.domain.assets import Asset, AssetKind, Dataset, kind_of, which_version
from promptlab.errors import AssetNotFoundError
from promptlab.store_lab import StoreLab
from promptlab_studio.access import Engineer, TheLab, Viewer
from promptlab_studio.api.answers import AssetOut, AssetPage, AssetVersions, RowPage, asset_object
from promptlab_studio.api.bodies import Exact
from promptlab_studio.api.shapes import DatasetIn, LabelIn, PromptIn
from promptlab_studio.api.uploads import uploaded

MAX_BYTES = 4 << 20
router = APIRouter(route_class=Exact)

Name = Annotated[str, Path(max_length=200, description="The asset's name.")]
Version = Annotated[str, Path(max_length=100, description="A number, a label, or latest.")]
Number = Annotated[int, Path(ge=0, le=MOST_VERSIONS, description="The version's number.")]
Label = Annotated[str, Path(max_length=100, description="The label, as in production.")]
Limit = Annotated[int, Query(ge=1, le=500, description="How many at most.")]
After = Annotated[
    str | None, Query(max_length=200, description="Where the page before ended: its next_cursor.")
]


def _add_routes(kind: AssetKind, path: str, one: str, many: str, whole: str) -> None:
    """Add the routes that prompt templates, datasets and code have alike.

    Args:
        kind: which of them.
        path: the beginning of the routes; also the tag that they have.
        one: a single one, for summaries.
        many: several.
        whole: what reading one version gives.
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
    async def list_versions(lab: TheLab, who: Viewer, name: Name) -> Any:
        """Oldest first, with labels."""
        found = await lab.assets.versions(name, kind=kind)
        return {"name": name, "versions": [asset_object(version) for version in found]}

    @router.get(
        f"/{path}/{{name}}/versions/{{version}}",
        tags=[path],
        name=f"get_{name_of_one}",
        summary=f"Read a {one}",
        description=whole,
        response_model=AssetOut,
    )
    async def get_version(lab: TheLab, who: Viewer, name: Name, version: Version) -> Any:
        return await _object(lab, kind, await _get(lab, kind, name, version))

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
    )
    async def set_label(lab: TheLab, who: Engineer, name: Name, label: Label, body: LabelIn) -> Any:
        """Point the label at a version; it leaves the one that it pointed at before."""
        return await _object(lab, kind, await lab.assets.label(name, label, version=body.version, kind=kind))

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
)
async def create_dataset(lab: TheLab, who: Engineer, body: DatasetIn, response: Response) -> Any:
    """From rows, or from an uploaded file. 201 with the new version; 200 with the latest one, if it has these
    rows already."""
    fields = {"name": body.name, "description": body.description, "id_column": body.id_column}
    if body.upload is None:
        from promptlab_studio.api.shapes import RowsIn

        return await _create(lab, RowsIn(**fields, rows=body.rows or []).asset(), response)
    async with uploaded(lab.blobs, body.upload) as path:
        dataset = Dataset(**fields, delimiter=body.delimiter, file_path=path)
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
    rows = [orjson.dumps(row) for row in await lab.assets.rows(dataset, offset, limit)]
    while len(rows) > 1 and sum(map(len, rows)) > MAX_BYTES:
        rows.pop()
    return Response(
        b'{"items":[%b],"offset":%d,"total":%d}' % (b",".join(rows), offset, dataset.content.rows),
        media_type="application/json",
    )


_add_routes("dataset", "datasets", "dataset", "datasets", "One version: its columns, and how many rows.")
_add_routes(
    "code", "code", "piece of code", "code", "One version: its files and packages, without their text."
)


async def _list(lab: StoreLab, kind: AssetKind, limit: int, cursor: str | None) -> dict[str, Any]:
    following = [asset for asset in await lab.assets.latest(kind) if cursor is None or asset.name > cursor]
    return {
        "items": [asset_object(a) for a in following[:limit]],
        "next_cursor": following[limit - 1].name if len(following) > limit else None,
    }


async def _create(lab: StoreLab, asset: Asset, response: Response) -> dict[str, Any]:
    kind = kind_of(asset)
    before = await lab.assets.record(asset.name, kind=kind)
    created = await lab.assets.create(asset)
    if before and before.version == created.version:
        response.status_code = 200
    path = "prompts" if kind == "prompt_template" else "datasets"
    name = quote(created.name, safe="")
    response.headers["Location"] = f"/api/v1/{path}/{name}/versions/{created.version}"
    return await _object(lab, kind, created)


def _get(lab: StoreLab, kind: AssetKind, name: str, version: str) -> Awaitable[Asset]:
    return lab.assets.get(name, **which_version(version), kind=kind)


async def _object(lab: StoreLab, kind: AssetKind, asset: Asset) -> dict[str, Any]:
    found = await lab.assets.record(asset.name, kind=kind, version=asset.version)
    if found is None:
        raise AssetNotFoundError(f"{asset.name!r} has no version {asset.version}.")
    return asset_object(found)
