"""The bytes of pictures, sounds and documents that calls of models send: read from blobs as they are sent."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from promptlab.domain.chat import ChatRequest, Prompt
from promptlab.domain.keys import media_key as media_key
from promptlab.domain.media_in import MOST_GIVEN, MOST_MEDIUM, TOO_MUCH, blobs_in
from promptlab.domain.messages import Media, read_media_value
from promptlab.errors import BlobNotFoundError, MessageError, ModelError
from promptlab.ports import Blobs

GONE = "is not in the store any more"
AT_ONCE_BYTES = 24 << 20
"""Bytes of media in calls in flight: each is there about four times (as it is, in base64, in the body, and as
the connection sends it). Six pictures of 4 MB took 110 MB."""


class ReadsMedia(Protocol):
    """Where the media of a case are."""

    async def read(self, media: Media) -> bytes:
        """Read a medium that is a blob.

        Raises:
            ModelError: it cannot be had.
        """


class GivenMedia:
    """Media that came with a case into a process that has no store.

    Args:
        found: their bytes, or what is wrong with one (as the end of a sentence), by their SHA-256.
    """

    def __init__(self, found: Mapping[str, bytes | str]) -> None:
        self._found = found

    async def read(self, media: Media) -> bytes:
        """Give a medium of the case.

        Raises:
            ModelError: it did not come with the case.
        """
        data = self._found.get(media.sha256 or "", "is none of this case's inputs")
        if isinstance(data, str):
            raise ModelError(f"the {media.modality} {str(media.sha256)[:12]}… {data}", type="media_missing")
        return data


class MediaReader:
    """Reads media from blobs, and bounds how many bytes of them calls hold at once."""

    def __init__(self, blobs: Blobs, most: int = AT_ONCE_BYTES) -> None:
        self._blobs, self._most, self._used = blobs, most, 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def read(self, media: Media) -> bytes:
        """Read a medium that is in a blob.

        Raises:
            ModelError: the blob is gone; it says so, and is not tried again.
        """
        assert media.sha256 is not None
        try:
            return await self._blobs.get(media_key(media.sha256))
        except BlobNotFoundError as error:
            raise ModelError(
                f"the {media.modality} {media.sha256[:12]}… {GONE}",
                type="media_missing",
            ) from error

    @asynccontextmanager
    async def room(self, prompt: Prompt) -> AsyncIterator[None]:
        """In the block, the media of a prompt may be in memory; waits until there is room for them. What is
        larger than all of the room goes alone."""
        async with self._room(media_bytes(prompt)):
            yield

    @asynccontextmanager
    async def given(self, data: Any) -> AsyncIterator[Mapping[str, bytes | str]]:
        """In the block, the media that a case's inputs refer to are in memory; waits until there is room for
        them. Gives what `GivenMedia` takes in another process."""
        blobs = blobs_in(data)
        async with self._room(min(sum(blobs.values()), MOST_GIVEN)):
            found: dict[str, bytes | str] = {}
            room = MOST_GIVEN
            for sha256 in blobs:
                most = min(MOST_MEDIUM, room)
                try:
                    one = await self._blobs.get(media_key(sha256), length=most + 1)
                except BlobNotFoundError:
                    found[sha256] = GONE
                    continue
                found[sha256] = one if len(one) <= most else TOO_MUCH
                room -= len(one) if len(one) <= most else 0
            yield found

    @asynccontextmanager
    async def _room(self, size: int) -> AsyncIterator[None]:
        if size:
            await self._take(size)
        try:
            yield
        finally:
            if size:
                self._give(size)

    async def _take(self, size: int) -> None:
        if not self._waiting and self._fits(size):
            self._used += size
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give(size)
            else:
                self._waiting = deque(one for one in self._waiting if one[1] is not turn)
                self._wake()
            raise

    def _fits(self, size: int) -> bool:
        return not self._used or self._used + size <= self._most

    def _give(self, size: int) -> None:
        self._used -= size
        self._wake()

    def _wake(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            size, turn = self._waiting.popleft()
            if not turn.done():
                self._used += size
                turn.set_result(None)


READER: ContextVar[ReadsMedia | None] = ContextVar("promptlab_media_reader", default=None)
"""Reads the media of the cases that are worked on in this context."""


def media_bytes(prompt: Prompt) -> int:
    """How many bytes of media a prompt has in blobs."""
    if not isinstance(prompt, ChatRequest):
        return 0
    parts = (part for message in prompt.messages for part in message.parts)
    return sum(part.size or 0 for part in parts if isinstance(part, Media) and part.sha256 is not None)


async def read_media(media: Media | Mapping[str, Any]) -> bytes:
    """Read the bytes of a picture, sound, film or document that is in the store, while a case is worked on.

    Args:
        media: a part of a `ChatRequest`, or what a row has in a column of media.

    Raises:
        ModelError: it is no file of the store, the store has it no more, or no case is worked on here. Code
            in a process of its own, as in a hosted lab's sandbox, has the media of its case's inputs only.
    """
    if not isinstance(media, Media):
        try:
            media = read_media_value(media, media.get("modality", "document"), "the medium")
        except (AttributeError, MessageError) as error:
            raise ModelError(f"this is no medium: {error}", type="media_missing") from None
    if media.sha256 is None:
        where = media.uri or media.file_id
        raise ModelError(f"the {media.modality} {where!r:.200} is not in the store", type="media_missing")
    reader = READER.get()
    if reader is None:
        raise ModelError(
            f"the {media.modality} {media.sha256[:12]}… is in a store, and nothing says in "
            "which: ask in an experiment",
            type="media_missing",
        )
    return await reader.read(media)
