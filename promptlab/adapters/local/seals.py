"""Says whether something in a store was put there by this user on this machine."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from promptlab.adapters.local.private import FILE, make_folder

_KEY_BYTES = 32


class UserSeals:
    """The Seals of one user on one machine: a keyed hash, with a key that lies in no store.

    Args:
        path: where the key is; default: `promptlab/seal.key` in the user's state folder (XDG_STATE_HOME).
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path

    def seal(self, text: bytes) -> str | None:
        key = self._key()
        return hmac.new(key, text, hashlib.sha256).hexdigest() if key else None

    def _key(self) -> bytes | None:
        """The key, which is made on first use; None where there is no place for one."""
        try:
            path = self._path or _state_folder() / "promptlab" / "seal.key"
            make_folder(path.parent)
            try:
                descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE)
            except FileExistsError:
                pass
            else:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(secrets.token_bytes(_KEY_BYTES))
            key = path.read_bytes()
        except (OSError, RuntimeError):  # a home that is not there, or may not be written
            return None
        return key if len(key) == _KEY_BYTES else None


def _state_folder() -> Path:
    named = os.environ.get("XDG_STATE_HOME", "")
    if named and Path(named).is_absolute():
        return Path(named)
    local = os.environ.get("LOCALAPPDATA")
    return Path(local) if os.name == "nt" and local else Path.home() / ".local" / "state"
