"""What every sandbox is given of a bundle: its content only where it does not have that, and where its
packages and the media of its cases are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from promptlab.domain.code import Wheel
from promptlab.domain.keys import media_key
from promptlab.errors import SandboxError
from promptlab.experiments import code_answers
from promptlab.ports import Blobs

MOST_KEPT = 8
"""Bundles whose content is kept, of 4 MB each."""


class BundleSender:
    """Asks a sandbox, with as much of a bundle as it needs.

    Args:
        blobs: where the bundles are.
        url: gives the address from which a sandbox gets a package or a medium, by its blob.
    """

    def __init__(self, blobs: Blobs, url: Callable[[str], Awaitable[str]]) -> None:
        self._blobs, self._url = blobs, url
        self._kept: OrderedDict[str, tuple[bytes, list[Wheel]]] = OrderedDict()
        self._sent: set[str] = set()

    async def ask(
        self,
        bundle_hash: str,
        event: Mapping[str, Any],
        invoke: Callable[[bytes], Awaitable[dict[str, Any]]],
    ) -> dict[str, Any]:
        """Ask for an answer.

        Raises:
            SandboxError: it refuses.
            BlobNotFoundError: there is no such bundle.
        """
        content, wheels = await self._content(bundle_hash)
        media = (sha256 for case in event.get("cases", ()) for sha256 in case.get("media", ()))
        keys = {sha256: media_key(sha256) for sha256 in media} | {one.sha256: one.blob for one in wheels}
        urls = {sha256: await self._url(key) for sha256, key in keys.items()}
        for whole in (False, True) if bundle_hash in self._sent else (True,):
            bundle = {"hash": bundle_hash, "urls": urls}
            if whole:
                bundle["content"] = orjson.Fragment(content)
            answer = await invoke(orjson.dumps({**event, "bundle": bundle}))
            if refused := answer.get("refused"):
                raise SandboxError(f"The sandbox for code of users refuses: {refused}")
            if answer.get("need") != "bundle":
                self._sent.add(bundle_hash)
                return answer
        raise SandboxError("The sandbox for code of users does not keep the code that it is given.")

    async def _content(self, bundle_hash: str) -> tuple[bytes, list[Wheel]]:
        if bundle_hash not in self._kept:
            own = code_answers.bundle()  # of each lab, and in no store
            if bundle_hash == own.content_hash():
                data = orjson.dumps(own.content())
            else:
                data = await self._blobs.get(f"code/bundles/{bundle_hash}.json")
            wheels = [Wheel.model_validate(wheel) for wheel in orjson.loads(data)["wheels"]]
            self._kept[bundle_hash] = data, wheels
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(bundle_hash)
        return self._kept[bundle_hash]
