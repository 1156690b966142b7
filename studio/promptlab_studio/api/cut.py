"""Lists whose items may be as long as they like: as many as fit into an answer, and of those that are longer
themselves the beginnings of their texts, with where the whole is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson

ITEMS_BYTES = 3 << 20
"""Bytes of the items of one answer; the rest of its 4 MB is for what stands around them."""
ITEM_BYTES = 1 << 20
"""An item that is longer has its texts cut."""
KEPT_CHARS = (20_000, 2_000, 200)
"""Characters that are left of a text: the first of these with which the item fits."""

MOST_CUTS = 3_000
"""Cuts that an item tells of one by one; of more, the fields that have them."""

Path = tuple[str | int, ...]
Cuts = list[tuple[Path, int | None]]
Url = Callable[[int], str | None]
"""Where the item of a number can be had whole."""


async def fitted(items: Sequence[Mapping[str, Any]], url: Url) -> tuple[list[bytes], list[dict[str, Any]]]:
    """Write the items that fit, one at least, as JSON; and say what of them was cut.

    Args:
        items: the items.
        url: the address of the whole item, by its place.
    """
    return await asyncio.to_thread(_fitted, items, url)


def _fitted(items: Sequence[Mapping[str, Any]], url: Url) -> tuple[list[bytes], list[dict[str, Any]]]:
    written, cut, size = list[bytes](), list[dict[str, Any]](), 0
    for place, item in enumerate(items):
        data, found = shortened(item)
        told = [
            {"item": place, "path": list(path), "characters": characters, "url": url(place)}
            for path, characters in found
        ]
        size += len(data) + (len(orjson.dumps(told)) if told else 0)
        if written and size > ITEMS_BYTES:
            break
        written.append(data)
        cut += told
    return written, cut


def shortened(item: Mapping[str, Any]) -> tuple[bytes, Cuts]:
    """Write an item as JSON of at most ITEM_BYTES; and give the paths of what was cut, with the characters
    that a text has, or None for what is no text and left out."""
    data = orjson.dumps(item, default=str)
    if len(data) <= ITEM_BYTES:
        return data, []
    short: Any = item
    for chars in KEPT_CHARS:
        cuts: Cuts = []
        short = _cut(item, chars, (), cuts)
        data = orjson.dumps(short, default=str)
        if len(data) <= ITEM_BYTES and len(cuts) <= MOST_CUTS:
            return data, cuts
    return _fields_that_fit(short, cuts)


def _fields_that_fit(item: Mapping[str, Any], cuts: Cuts) -> tuple[bytes, Cuts]:
    """Leave out fields that are long by how many values they have, or whose names are long."""
    left, room, gone, nameless = dict[str, Any](), ITEM_BYTES, set[str](), False
    for name, value in item.items():
        size = len(orjson.dumps({name: value}, default=str))
        if size <= min(room, ITEM_BYTES // 8):
            left[name], room = value, room - size
        elif len(name) <= KEPT_CHARS[-1]:
            left[name] = None
            gone.add(name)
        else:
            nameless = True  # a name cannot be cut: the item lacks the field
    cuts = [(path, characters) for path, characters in cuts if path[0] in left and path[0] not in gone]
    if len(cuts) > MOST_CUTS:
        cuts = [((name,), None) for name in dict.fromkeys(path[0] for path, _ in cuts)]
    cuts += [((name,), None) for name in gone]
    return orjson.dumps(left, default=str), [*cuts, *([((), None)] if nameless else [])]


def _cut(value: Any, chars: int, path: Path, cuts: Cuts) -> Any:
    if isinstance(value, str):
        if len(value) <= chars:
            return value
        cuts.append((path, len(value)))
        return value[:chars]
    if isinstance(value, Mapping):
        return {name: _cut(inner, chars, (*path, name), cuts) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_cut(inner, chars, (*path, place), cuts) for place, inner in enumerate(value)]
    return value


def fragments(written: Sequence[bytes]) -> Iterator[orjson.Fragment]:
    """Items that are JSON already, for `orjson.dumps`."""
    return map(orjson.Fragment, written)
