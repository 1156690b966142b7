"""The lab over a store: SQLite and files on a laptop, DynamoDB and S3 in the cloud."""

from __future__ import annotations

from collections.abc import Sequence

from promptlab.domain.findings import Finding
from promptlab.store_lab.deletions import Deletions
from promptlab.store_lab.sweeps import Sweeping


class StoreLab(Sweeping, Deletions):
    """Assets, runs and questions of one store; the contract is `promptlab.lab.Lab`."""

    async def findings(self, secrets: Sequence[str] = ()) -> Sequence[Finding]:
        """Say whether the lab is in order: a finding for each thing that was looked at."""
        from promptlab.store_lab.check import lab_findings  # what asks for nothing of it loads nothing of it

        return await lab_findings(self, secrets)
