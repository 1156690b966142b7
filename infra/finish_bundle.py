"""Finishes what `sam build` made: compiles the bundle, and leaves out what no function uses.

    python3.13 infra/finish_bundle.py .aws-sam/build      with the Python version of the functions

A bundle is read-only on Lambda and SAM puts no bytecode in, so that every cold start would compile all
that it imports: 1.6 s in place of 0.6 s for the Studio. Of botocore's 400 services the functions use eight.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import shutil
import sys
from pathlib import Path

SERVICES = {
    "bedrock",
    "bedrock-runtime",
    "cognito-idp",
    "dynamodb",
    "lambda",
    "s3",
    "secretsmanager",
    "ssm",
    "stepfunctions",
}
CREDENTIALS = {"sso", "sso-oidc", "sts"}
"""The services that botocore itself may ask for credentials."""


def trim(bundle: Path) -> None:
    """Remove the descriptions of services that nothing here calls."""
    for folder in (bundle / "botocore" / "data").iterdir():
        if folder.is_dir() and folder.name not in SERVICES | CREDENTIALS:
            shutil.rmtree(folder)
    for name in ("boto3/examples", "boto3/data", "_duckdb-stubs"):
        shutil.rmtree(bundle / name, ignore_errors=True)


def compile_all(bundle: Path) -> None:
    """Write bytecode that is valid whatever the times of files in an archive are,
    and names them as on Lambda.

    Raises:
        SystemExit: a file does not compile.
    """
    done = compileall.compile_dir(
        bundle,
        quiet=1,
        stripdir=str(bundle),
        prependdir="/var/task",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        workers=os.cpu_count() or 1,
    )
    if not done:
        raise SystemExit(
            f"{bundle}: something in the bundle does not compile with Python {sys.version.split()[0]}"
        )


def copy_bytecode(source: Path, target: Path) -> None:
    """Give a bundle with the same content the bytecode of another."""
    for cache in source.rglob("__pycache__"):
        shutil.copytree(cache, target / cache.relative_to(source), dirs_exist_ok=True)


def main() -> None:
    first, *others = sorted(path for path in Path(sys.argv[1]).resolve().iterdir() if path.is_dir())
    for bundle in (first, *others):
        trim(bundle)
    compile_all(first)
    for bundle in others:
        copy_bytecode(first, bundle)


if __name__ == "__main__":
    main()
