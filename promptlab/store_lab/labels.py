"""The labels of people in a lab over a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from promptlab.store_lab.base import StoreBase

if TYPE_CHECKING:
    from promptlab.labelling.store import StoreLabels
    from promptlab.queries.query_engine import QueryEngine


class Labels(StoreBase):
    """Labels of people on cases."""

    @property
    def labels(self) -> StoreLabels:
        """The labels of people on the cases of its runs."""
        # Here, for its queries are a part of a start that a run does not need.
        from promptlab.labelling.store import StoreLabels

        return StoreLabels(self)  # type: ignore[arg-type]

    async def query_engine(self) -> QueryEngine:
        """Give what answers questions about runs."""
        return await self._queries.get()
