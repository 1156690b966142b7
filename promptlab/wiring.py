"""The only place that chooses adapters."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptlab.adapters.http.lab import RemoteLab
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


def store_from(db: str | None = None, endpoint: str | None = None, api_key: str | None = None) -> dict[str, Any]:
    """The store configuration for what a command line says: a file, or a hosted Studio.

    What is not given comes from PROMPTLAB_ENDPOINT and PROMPTLAB_DB, in this order; without any, it is ./promptlab.db.

    Raises:
        ConfigError: a file and a Studio are given.
    """
    if db is not None and endpoint is not None:
        raise ConfigError(f"--db {db} and --endpoint {endpoint}: give the one or the other")
    if db is None and (endpoint := endpoint or os.environ.get("PROMPTLAB_ENDPOINT")):
        return {"type": "remote", "endpoint": endpoint, "api_key": api_key}
    return {"type": "sqlite", "db_file": db or os.environ.get("PROMPTLAB_DB") or DEFAULT_DB}


def open_remote(config: Mapping[str, Any]) -> RemoteLab:
    """The client for a store configuration `{"type": "remote", "endpoint": …, "api_key": …}`; PROMPTLAB_ENDPOINT and PROMPTLAB_API_KEY stand in for what is left out.

    Raises:
        ConfigError: a key is unknown, or there is no endpoint.
    """
    if unknown := sorted(config.keys() - {"type", "endpoint", "api_key"}):
        raise ConfigError(f"Unknown key {unknown[0]!r} for a remote store: it takes 'endpoint' and 'api_key'.")
    endpoint = config.get("endpoint") or os.environ.get("PROMPTLAB_ENDPOINT")
    if not endpoint:
        raise ConfigError("A remote store needs the Studio's address: {'type': 'remote', 'endpoint': 'https://…'}, or PROMPTLAB_ENDPOINT.")
    return RemoteLab(endpoint, config.get("api_key") or os.environ.get("PROMPTLAB_API_KEY"))


def open_parts(config: Mapping[str, Any] | None = None) -> Parts:
    """The adapters for a store configuration: `{"type": "sqlite", "db_file": …}`; "local" means the same.

    Raises:
        ConfigError: a key is unknown or missing.
    """
    config = dict(config or {"type": "sqlite"})
    kind = config.pop("type", "sqlite")
    if kind not in ("sqlite", "local"):
        raise UnknownNameError("store type", str(kind), ["sqlite", "local", "remote"], "As in PromptLab({'type': 'sqlite', 'db_file': './promptlab.db'}).")
    path = Path(config.pop("db_file", None) or DEFAULT_DB).expanduser().absolute()
    if config:
        raise ConfigError(f"Unknown key {next(iter(config))!r} for a {kind} store: it takes 'db_file'.")
    if path.is_dir():
        raise ConfigError(f"db_file {str(path)!r} is a folder: name a file in it, as in {str(path / DEFAULT_DB)!r}.")
    ledger, clock = SqliteLedger(path), SystemClock()
    folder = path.with_name(path.name + ".blobs")
    blobs = FileBlobs(folder)
    return Parts(ledger, blobs, clock, LocalRunner(ledger, blobs, clock, folder / ".locks"), str(path))
