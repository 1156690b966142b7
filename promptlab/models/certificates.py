"""The certificates that TLS connections to models trust, and what to do where they are not enough."""

from __future__ import annotations

import functools
import os
import ssl
from pathlib import Path

import certifi

from promptlab.errors import ConfigError

FILE, FOLDER = "SSL_CERT_FILE", "SSL_CERT_DIR"


def trusted() -> ssl.SSLContext:
    """The certificates of SSL_CERT_FILE or SSL_CERT_DIR, else certifi's.

    Raises:
        ConfigError: the variable names no file or folder with certificates.
    """
    return _loaded(os.environ.get(FILE) or "", os.environ.get(FOLDER) or "")


@functools.cache
def _loaded(file: str, folder: str) -> ssl.SSLContext:
    if not file and folder:
        if not Path(folder).is_dir():
            raise ConfigError(
                f"{FOLDER}={folder} names no folder: set it to one with certificates, or unset it."
            )
        return ssl.create_default_context(capath=folder)
    try:
        return ssl.create_default_context(cafile=file or certifi.where())
    except OSError as error:  # ssl.SSLError is one: the file has no certificates
        why = "has no certificates in PEM form" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(
            f"{FILE}={file}: {why}. Set it to a file of certificates in PEM form, or unset it."
        ) from error


def tls_remedy(*variables: str) -> str:
    """Say which certificates were trusted, and what to do if they are not enough.

    Args:
        variables: those that name certificates, the first one set counts; by default those of `trusted`.
    """
    variables = variables or (FILE, FOLDER)
    if variable := next((name for name in variables if os.environ.get(name)), None):
        return f"trusted are the certificates of {variable}={os.environ[variable]}"
    return (
        f"if a proxy or gateway of your network signs its connections itself, set {variables[0]} to the file "
        "with its certificate"
    )
