"""The lab over a store: SQLite and files on a laptop, DynamoDB and S3 in the cloud."""

from __future__ import annotations

from promptlab.store_lab.deletions import Deletions
from promptlab.store_lab.sweeps import Sweeping


class StoreLab(Sweeping, Deletions):
    """Assets, runs and questions of one store; the contract is `promptlab.lab.Lab`."""
