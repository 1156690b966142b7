"""The blobs of one project: a folder of the blobs of a lab."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from promptlab.domain.keys import parts_of
from promptlab.errors import BlobNotFoundError

PASSING = ("uploads/", "exports/")
"""What lifecycle rules remove: they know prefixes only, so that these stay in front."""


class ProjectBlobs:
    """Blobs under `projects/<name>/`, and nothing beside it: no key leads out.

    They need not be closed: the connections are those of the lab's blobs.
    """

    folder: Path | None = None

    def __init__(self, blobs: Any, project: str) -> None:
        self._blobs, self._project = blobs, project

    def whole_key(self, key: str) -> str:
        """The key as the bucket has it."""
        parts_of(key)
        return self._whole(key)

    def _whole(self, key: str) -> str:
        for kind in PASSING:
            if key.startswith(kind):
                return f"{kind}projects/{self._project}/{key.removeprefix(kind)}"
        return f"projects/{self._project}/{key}"

    def _own(self, key: str) -> str:
        for kind in PASSING:
            if key.startswith(kind):
                return kind + key.removeprefix(f"{kind}projects/{self._project}/")
        return key.removeprefix(f"projects/{self._project}/")

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Say what is missing by the key that was asked for."""
        try:
            yield
        except BlobNotFoundError as error:
            raise BlobNotFoundError(self._own(error.key)) from None

    async def put(self, key: str, data: bytes) -> None:
        await self._blobs.put(self.whole_key(key), data)

    async def put_file(self, key: str, path: Path) -> None:
        await self._blobs.put_file(self.whole_key(key), path)

    async def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        with self._named():
            found: bytes = await self._blobs.get(self.whole_key(key), offset=offset, length=length)
        return found

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        with self._named():
            async for piece in self._blobs.stream(self.whole_key(key)):
                yield piece

    async def exists(self, key: str) -> bool:
        there: bool = await self._blobs.exists(self.whole_key(key))
        return there

    async def keys(self, prefix: str) -> list[str]:
        wanted = [self._whole(prefix)]
        if not prefix:
            wanted += [self._whole(kind) for kind in PASSING]
        found = [key for whole in wanted for key in await self._blobs.keys(whole)]
        return sorted(map(self._own, found))

    async def files(self, keys: Sequence[str], folder: Path) -> list[Path]:
        with self._named():
            found: list[Path] = await self._blobs.files([self.whole_key(key) for key in keys], folder)
        return found

    async def delete(self, key: str) -> None:
        await self._blobs.delete(self.whole_key(key))

    async def erase(self, prefix: str, *, limit: int = 1000) -> int:
        done: int = await self._blobs.erase(self._whole(prefix), limit=limit)
        for kind in PASSING if not prefix else ():
            if done < limit:
                done += await self._blobs.erase(self._whole(kind), limit=limit - done)
        return done

    async def close(self) -> None:
        """Nothing is held here."""

    async def presign_put(self, key: str, *, content_type: str, size_bytes: int, max_age_s: int) -> str:
        """Sign a URL that anybody may PUT the blob to, as the lab's blobs do."""
        url: str = await self._blobs.presign_put(
            self.whole_key(key), content_type=content_type, size_bytes=size_bytes, max_age_s=max_age_s
        )
        return url

    async def presign_get(self, key: str, *, max_age_s: int) -> str:
        """A URL that anybody may GET the blob from for some seconds."""
        url: str = await self._blobs.presign_get(self.whole_key(key), max_age_s=max_age_s)
        return url

    async def origin(self) -> str:
        """The origin of all these URLs: the lab's."""
        url: str = await self._blobs.origin()
        return url
