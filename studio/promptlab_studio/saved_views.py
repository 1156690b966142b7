"""Views of the list of runs that a project keeps: a name, and the address that it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from promptlab.domain.names import visible
from promptlab.domain.records import Swap
from promptlab.errors import ConfigError
from promptlab.ports import Records

KIND, KEY = "VIEWS", "runs"
MOST_VIEWS, NAME_CHARS, ADDRESS_CHARS = 50, 60, 4_000


async def saved_views(records: Records) -> dict[str, str]:
    """The views by name, in their order: the part of the address behind `/?`."""
    return _views(await records.get_record(KIND, KEY))


async def save_view(records: Records, name: str, address: str) -> None:
    """Keep a view under a name, in place of one of the same name.

    Raises:
        ConfigError: the name or the address cannot be kept, or there are too many.
    """
    name = name.strip()
    if not 1 <= len(name) <= NAME_CHARS:
        raise ConfigError(f"A view's name has 1 to {NAME_CHARS} characters, not {len(name):,}.")
    try:
        visible(name)
    except ValueError as error:
        raise ConfigError(f"The view's name {error}") from None
    if len(address) > ADDRESS_CHARS:
        raise ConfigError(f"The view's address has {len(address):,} characters; {ADDRESS_CHARS:,} are kept.")
    record = await records.get_record(KIND, KEY)
    views = {**_views(record), name: address}
    if len(views) > MOST_VIEWS:
        raise ConfigError(f"{MOST_VIEWS} views are kept: remove one first.")
    await _replace(records, record, views)


async def forget_view(records: Records, name: str) -> None:
    """Remove a view; none of that name is fine.

    Raises:
        ConfigError: somebody else changed the views meanwhile.
    """
    record = await records.get_record(KIND, KEY)
    await _replace(records, record, {key: at for key, at in _views(record).items() if key != name})


def _views(record: Mapping[str, Any] | None) -> dict[str, str]:
    views = (record or {}).get("views")
    return {str(name): str(at) for name, at in views.items()} if isinstance(views, Mapping) else {}


async def _replace(records: Records, was: Mapping[str, Any] | None, views: Mapping[str, str]) -> None:
    if not await records.swap_records([Swap(KIND, KEY, was, {"views": dict(views)})]):
        raise ConfigError("Somebody else changed the views just now: do it once more.")
