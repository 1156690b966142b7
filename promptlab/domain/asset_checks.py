"""Whether an asset's version in the ledger can be read, and what stands for one that cannot."""

from __future__ import annotations

from typing import Any

from promptlab.domain.assets import Asset, AssetKind, AssetVersion, DatasetContent, asset_from
from promptlab.domain.code import CodeContent
from promptlab.errors import StoreDamagedError

_EMPTY: dict[AssetKind, dict[str, Any]] = {
    "prompt_template": {"user_prompt": "(cannot be read)"},
    "dataset": DatasetContent(
        blob="", index="", rows=0, bytes=0, shards=0, columns=(), id_column=None
    ).to_json(),
    "code": CodeContent(blob="").to_json(),
}


def unreadable_asset(kind: AssetKind, name: str, version: int, why: str) -> AssetVersion:
    """Make the stand-in for a version that cannot be read: a list shows it in its place, and says why."""
    return AssetVersion(
        kind=kind,
        name=name,
        version=version,
        description=why,
        content=_EMPTY[kind],
        hash="",
        created_at="1970-01-01T00:00:00.000000Z",
    )


def read_asset(record: AssetVersion) -> Asset:
    """Make the user's object for a version.

    Raises:
        StoreDamagedError: its content is that of no such asset.
    """
    try:
        return asset_from(record)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        what = f"The content of {record.name}@{record.version} in the ledger"
        raise StoreDamagedError(f"{what} cannot be read ({type(error).__name__}: {error!s:.200}).") from error


def checked_asset(record: AssetVersion) -> AssetVersion:
    """The version itself; where its content cannot be read, the stand-in for it."""
    try:
        read_asset(record)
    except StoreDamagedError as error:
        return unreadable_asset(record.kind, record.name, record.version, str(error))
    return record
