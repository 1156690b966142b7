"""The only place that chooses adapters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptlab.adapters.local.file_blobs import FileBlobs
from promptlab.adapters.local.runner import LocalRunner
from promptlab.adapters.local.sqlite_ledger import SqliteLedger
from promptlab.clock import SystemClock
from promptlab.errors import ConfigError, UnknownNameError
from promptlab.ports import Blobs, Clock, Ledger, Runner

DEFAULT_DB = "promptlab.db"


@dataclass(frozen=True, slots=True)
class Parts:
    """The adapters of one place to run."""

    ledger: Ledger
    blobs: Blobs
    clock: Clock
    runner: Runner
    where: str
    """Where things are kept, for people."""


def open_parts(config: Mapping[str, Any] | None = None) -> Parts:
    """The adapters for a store configuration: `{"type": "sqlite", "db_file": …}`; "local" means the same.

    Raises:
        ConfigError: a key is unknown or missing.
    """
    config = dict(config or {"type": "sqlite"})
    kind = config.pop("type", "sqlite")
    if kind not in ("sqlite", "local"):
        raise UnknownNameError("store type", str(kind), ["sqlite", "local"], "As in PromptLab({'type': 'sqlite', 'db_file': './promptlab.db'}).")
    path = Path(config.pop("db_file", None) or DEFAULT_DB).expanduser().absolute()
    if config:
        raise ConfigError(f"Unknown key {next(iter(config))!r} for a {kind} store: it takes 'db_file'.")
    if path.is_dir():
        raise ConfigError(f"db_file {str(path)!r} is a folder: name a file in it, as in {str(path / DEFAULT_DB)!r}.")
    ledger, clock = SqliteLedger(path), SystemClock()
    folder = path.with_name(path.name + ".blobs")
    blobs = FileBlobs(folder)
    return Parts(ledger, blobs, clock, LocalRunner(ledger, blobs, clock, folder / ".locks"), str(path))
