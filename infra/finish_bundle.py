"""Finishes what `sam build` made: compiles the bundle, leaves out what no function uses, and packs it once.

    python3.13 infra/finish_bundle.py .aws-sam/build      with the Python version of the functions

A bundle is read-only on Lambda and SAM puts no bytecode in, so that every cold start would compile all
that it imports: 1.6 s in place of 0.6 s for the Studio. Of botocore's 400 services the functions use eight.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import re
import shutil
import struct
import sys
import zipfile
from pathlib import Path

KEPT, ARCHIVE = "StudioFunction", "bundle.zip"
"""The folder that stays, and what all functions are deployed from."""

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


UNUSED = (
    "boto3/examples",
    "boto3/data",
    "_duckdb-stubs",
    # A viewer of APIs for a web framework that nothing here uses.
    "aws_lambda_powertools/event_handler/openapi/swagger_ui",
)
NOT_LOADED = re.compile(r"/pygments/(lexers|styles|formatters)/")
"""What comes with rich, which code of users may import: it stays, without bytecode that nothing loads."""
_SOURCES = {".pyi", ".pyx", ".pxd", ".pxi", ".c", ".h"}
"""What modules were compiled from, and stubs for type checkers."""
_ALLOCATED, _NO_BITS = 0x2, 8


def trim(bundle: Path) -> None:
    """Remove the descriptions of services that nothing here calls, and what else no function reads."""
    for folder in (bundle / "botocore" / "data").iterdir():
        if folder.is_dir() and folder.name not in SERVICES | CREDENTIALS:
            shutil.rmtree(folder)
    for unused in (*(bundle / name for name in UNUSED), *bundle.glob("*/tests")):
        shutil.rmtree(unused, ignore_errors=True)
    for path in [path for path in bundle.rglob("*") if path.suffix in _SOURCES and path.is_file()]:
        path.unlink()
    for library in bundle.rglob("*.so*"):
        blank_symbols(library)


def blank_symbols(library: Path) -> None:
    """Fill with zeros what only debuggers read of a shared library: a dozen in the wheels are not stripped.

    Nothing is moved, so that whatever loads a library finds all of it where it was, whichever the processor;
    and zeros take no room in an archive.
    """
    data = bytearray(library.read_bytes())
    if data[:6] != b"\x7fELF\x02\x01":  # 64 bits, little-endian
        return
    (table,) = struct.unpack_from("<Q", data, 0x28)
    entry, count, names = struct.unpack_from("<HHH", data, 0x3A)
    for number in range(count):
        _, kind, flags, _, offset, size = struct.unpack_from("<IIQQQQ", data, table + number * entry)
        if not flags & _ALLOCATED and kind != _NO_BITS and number != names:
            data[offset : offset + size] = bytes(size)
    library.write_bytes(data)


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
        rx=NOT_LOADED,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        workers=os.cpu_count() or 1,
    )
    if not done:
        raise SystemExit(
            f"{bundle}: something in the bundle does not compile with Python {sys.version.split()[0]}"
        )


def pack(bundle: Path, archive: Path) -> None:
    """Pack a bundle. The same files give the same archive, so that it is uploaded once."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(path for path in bundle.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(bundle).as_posix(), date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = path.stat().st_mode << 16
            packed.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)


def files_of(bundle: Path) -> dict[str, int]:
    """The files of a bundle, with their bytes."""
    return {str(p.relative_to(bundle)): p.stat().st_size for p in bundle.rglob("*") if p.is_file()}


def main() -> None:
    build = Path(sys.argv[1]).resolve()
    bundle = build / KEPT
    others = [path for path in build.iterdir() if path.is_dir() and path != bundle]
    known = files_of(bundle)
    for other in others:
        if files_of(other) != known:
            raise SystemExit(f"{other.name} has other code than {KEPT}: functions share one bundle")
        shutil.rmtree(other)
    trim(bundle)
    compile_all(bundle)
    pack(bundle, build / ARCHIVE)
    template = build / "template.yaml"
    folders = "|".join(path.name for path in (bundle, *others))
    text = re.sub(rf"CodeUri: ({folders})$", f"CodeUri: {ARCHIVE}", template.read_text(), flags=re.MULTILINE)
    template.write_text(text)


if __name__ == "__main__":
    main()
