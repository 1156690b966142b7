"""Servers that answer as a stream of events and in no other way: asked for one, and read as one answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yarl import URL

from promptlab.domain.model_config import ModelConfig
from promptlab.errors import ModelError
from promptlab.models.failures import wants_stream
from promptlab.models.http import Answer, HttpModel
from promptlab.ports import Clock


class StreamingModel(HttpModel):
    """A provider whose protocol has streams. Answers are read whole; where a server wants to stream, its
    events are gathered to one."""

    reads_streams = True

    def __init__(self, config: ModelConfig | dict[str, Any], *, clock: Clock | None = None) -> None:
        super().__init__(config, clock=clock)
        self._streams = bool(self.config.stream)

    async def ask_for_answer(
        self, url: URL, payload: Mapping[str, Any], options: Mapping[str, Any] | None = None
    ) -> Answer:
        """Ask for an answer; as a stream of events where the server wants that, then and from then on.

        Args:
            url: where to.
            payload: the request.
            options: fields of a request for a stream, beside `stream` itself.

        Raises:
            ModelError: no answer came.
            ConfigError: the key must not go there.
        """
        if not self._streams:
            try:
                return await self.post(url, payload)
            except ModelError as error:
                if self.config.stream is False or not wants_stream(error):
                    raise
            self._streams = True
        return await self.post(url, {**payload, "stream": True, **(options or {})})
