"""Code of users: sent as source text, kept as an asset, shown; never imported here."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import orjson
from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import Response

from promptlab.domain.code import MAX_BYTES, CodeBundle, CodeHost, Wheel
from promptlab.domain.versioned import which_version
from promptlab.errors import AssetError, DatasetError, ForbiddenError
from promptlab.experiments.wheels import normalized
from promptlab.store_lab import StoreLab
from promptlab_studio.access import Principal, TheLab, Viewer, needs
from promptlab_studio.api.answers import AssetOut, SandboxOut, SourceOut, UploadOut, asset_object
from promptlab_studio.api.assets import Name, Version
from promptlab_studio.api.bodies import Exact
from promptlab_studio.api.shapes import CodeIn, CodeUploadIn, WheelIn
from promptlab_studio.api.uploads import prepared, uploaded

router = APIRouter(tags=["code"], route_class=Exact)
Sender = Annotated[Principal, needs("code")]


@router.get("/sandbox", summary="What code of one's own may be, and finds", response_model=SandboxOut)
async def sandbox(lab: TheLab, who: Viewer) -> Any:
    """Whether this lab takes code from the caller, and the Python and packages that it runs with."""
    refusal = lab.code_refusal
    if refusal is None and not who.may("code"):
        refusal = f"Code may be sent by the role engineer or above; {who.name} has the role {who.role}."
    found = await asyncio.to_thread(code_host)
    return {
        "refusal": refusal,
        "python": found.python,
        "machine": found.machine,
        "modules": found.modules,
        "packages": found.packages,
    }


@router.post(
    "/code",
    status_code=201,
    summary="Create code's next version",
    response_model=AssetOut,
    responses={200: {"model": AssetOut, "description": "A version has this content already."}},
)
async def create_code(lab: TheLab, who: Sender, body: CodeIn, response: Response) -> Any:
    """From source text, or from an uploaded file with it. 201 with the new version; 200 with the one that has
    this very content already."""
    check_taken(lab)
    fields = body.model_dump(exclude={"upload"})
    if body.upload is not None:
        fields |= await _uploaded(lab, body.upload)
    asset, created = await keep(lab, CodeBundle(**fields))
    response.status_code = 201 if created else 200
    path = f"/api/v1/code/{quote(asset['name'], safe='')}/versions/{asset['version']}"
    response.headers["Location"] = path
    return asset


@router.post("/code/uploads", status_code=201, summary="Prepare an upload of code", response_model=UploadOut)
async def prepare_code_upload(lab: TheLab, who: Sender, request: Request, body: CodeUploadIn) -> Any:
    """For code of more than 1 MB, as a JSON file of `files` and `pickled`, and for wheels. Send the file to
    upload_url; then POST /code or /code/wheels with the key."""
    check_taken(lab)
    return await prepared(lab, request, body.file_name, body.size_bytes)


@router.post("/code/wheels", summary="Keep an uploaded wheel", response_model=Wheel)
async def keep_wheel(lab: TheLab, who: Sender, body: WheelIn) -> Any:
    """Its content is held against its SHA-256. A wheel that is kept already needs no upload."""
    check_taken(lab)
    try:
        wheel = Wheel(file_name=body.file_name, sha256=body.sha256, size_bytes=body.size_bytes)
    except ValidationError as error:
        raise AssetError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
    if await lab.blobs.exists(wheel.blob):
        return wheel
    if body.upload is None:
        raise AssetError(f"The wheel {wheel.file_name} is not here: upload it first.")
    try:
        async with uploaded(lab.blobs, body.upload) as path:
            size, found = await asyncio.to_thread(_digest, path)
            if (size, found) != (wheel.size_bytes, wheel.sha256):
                raise AssetError(
                    f"The upload of {wheel.file_name} has {size:,} bytes and the SHA-256 {found}, and not "
                    f"{wheel.size_bytes:,} and {wheel.sha256}: upload it again."
                )
            await lab.blobs.put_file(wheel.blob, path)
    except DatasetError as error:
        raise AssetError(str(error)) from None
    return wheel


@router.get(
    "/code/{name}/versions/{version}/source", summary="Read code's source text", response_model=SourceOut
)
async def read_source(lab: TheLab, who: Viewer, name: Name, version: Version) -> Any:
    """Every file of a version. An object that was pickled is not among them: only the sandbox reads it."""
    found = await lab.assets.get(name, **which_version(version), kind="code")
    assert isinstance(found, CodeBundle)
    bundle = await lab.assets.source(found)
    return {"name": bundle.name, "version": bundle.version, "hash": bundle.hash, "files": bundle.files}


def check_taken(lab: StoreLab) -> None:
    """Refuse code where the lab takes none.

    Raises:
        ForbiddenError: it takes none.
    """
    if lab.code_refusal is not None:
        raise ForbiddenError(lab.code_refusal)


async def keep(lab: StoreLab, bundle: CodeBundle) -> tuple[dict[str, Any], bool]:
    """Store a bundle; give its version, and whether it is a new one.

    Raises:
        AssetError: it is for another Python, or a file is no Python.
    """
    host = code_host()
    if bundle.python != host.python and (bundle.pickled or bundle.wheels):
        raise AssetError(
            f"The code is for Python {bundle.python}, and this lab runs {host.python}: send it from Python "
            f"{host.python}, or as source text without an object and packages."
        )
    before = {version.version for version in await _versions(lab, bundle.name)}
    created = await lab.assets.create(bundle)
    record = await lab.assets.record(created.name, kind="code", version=created.version)
    assert record is not None
    return asset_object(record), created.version not in before


async def _versions(lab: StoreLab, name: str) -> Any:
    return await lab.ledger.list_versions("code", name)


async def _uploaded(lab: StoreLab, key: str) -> dict[str, Any]:
    try:
        async with uploaded(lab.blobs, key) as path:
            if (await asyncio.to_thread(path.stat)).st_size > MAX_BYTES + (1 << 20):
                raise AssetError(f"The code is too large: at most {MAX_BYTES // 1_000_000} MB can be sent.")
            found = orjson.loads(await asyncio.to_thread(path.read_bytes))
    except DatasetError as error:
        raise AssetError(str(error)) from None
    except ValueError as error:
        raise AssetError(f"The upload is no JSON: {error}") from None
    if not isinstance(found, dict) or found.keys() - {"files", "pickled"}:
        raise AssetError("The upload is to be one JSON object of files and pickled.")
    return {**{"files": {}, "pickled": None}, **found}


def _digest(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


@functools.lru_cache(maxsize=1)
def code_host() -> CodeHost:
    """What code finds in the sandbox: all functions of a lab have one set of packages."""
    modules: dict[str, str] = {}
    packages: dict[str, str] = {}
    for name, distributions in metadata.packages_distributions().items():
        for distribution in distributions:
            packages[normalized(distribution)] = modules[name] = metadata.version(distribution)
    return CodeHost(
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        machine="arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64",
        modules={name: version for name, version in sorted(modules.items()) if name.isidentifier()},
        packages=dict(sorted(packages.items())),
    )
