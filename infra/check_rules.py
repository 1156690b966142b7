"""Holds the template to the rules of checkov and of AWS (Control Tower's proactive controls, with cfn-guard).

    python infra/check_rules.py FOLDER

FOLDER has template.json of infra/transform.py, and the npm packages. Looked at are two deployments: one with
every protection that a parameter gives, and one with the defaults. What a rule finds must stand in
infra/rule-exceptions.json with its reason, and what stands there must be found.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from resolve import resolved

ROOT = Path(__file__).resolve().parent.parent
CHECKOV = ROOT / ".cloud" / "checkov" / "bin" / "checkov"
STRICT = {
    "KmsKeyArn": "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-0000-0000-000000000000",
    "PermissionsBoundary": "arn:aws:iam::123456789012:policy/boundary",
    "SubnetIds": "subnet-00000001,subnet-00000002",
    "SecurityGroupIds": "sg-00000001",
    "WorkerReserved": "100",
    "StudioReserved": "20",
    "AlarmEmail": "lab@example.com",
    "LogRetentionDays": "365",
    "DomainName": "lab.example.com",
    "CertificateArn": "arn:aws:acm:us-east-1:123456789012:certificate/00000000-0000-0000-0000-000000000000",
}
"""The deployment with every protection."""
Finding = tuple[str, str]
"""A rule, and the resource that breaks it; cfn-guard's rules name their resource in a path."""


def checkov(path: Path) -> set[Finding]:
    """The findings of checkov, which is asked not to look anything up in the internet.

    Raises:
        SystemExit: it could not read the template.
    """
    command = [str(CHECKOV), "-f", str(path), "--framework", "cloudformation", "--compact", "--quiet"]
    done = subprocess.run(
        [*command, "--skip-download", "-o", "json"], check=False, capture_output=True, text=True
    )
    try:
        report = json.loads(done.stdout)
        if report["summary"]["parsing_errors"] or report["summary"]["passed"] < 100:
            raise ValueError(report["summary"])
    except (ValueError, KeyError, TypeError) as error:
        sys.exit(f"checkov made nothing of {path}: {error}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return {
        (check["check_id"], check["resource"].rpartition(".")[2])
        for check in report["results"]["failed_checks"]
    }


def guard(path: Path, packages: Path) -> set[Finding]:
    """The findings of AWS's rules.

    Raises:
        SystemExit: there is no cfn-guard for this machine, or it could not read the template.
    """
    package = packages / "@cdklabs" / "cdk-validator-cfnguard"
    machine = "aarch64" if platform.machine() in ("arm64", "aarch64") else "x86_64"
    program = package / "bin" / ("macos" if sys.platform == "darwin" else "ubuntu") / machine / "cfn-guard"
    if not program.exists():
        sys.exit(f"cfn-guard has no program for this machine ({sys.platform}, {machine}).")
    program.chmod(0o755)
    rules = str(package / "rules" / "control-tower")
    done = subprocess.run(
        [str(program), "validate", "-r", rules, "-d", str(path), "--structured", "-o", "json", "-S", "none"],
        check=False,
        capture_output=True,
        text=True,
    )
    try:
        (report,) = json.loads(done.stdout)
        if len(report["compliant"]) < 10:
            raise ValueError(f"only {len(report['compliant'])} rules hold")
    except (ValueError, KeyError) as error:
        sys.exit(f"cfn-guard made nothing of {path}: {error}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return {
        (rule["Rule"]["name"], resource)
        for rule in report["not_compliant"]
        for resource in _resources(rule) or {"?"}
    }


def _resources(report: Any) -> set[str]:
    """The resources that the paths of a finding go through."""
    if isinstance(report, list):
        return {name for one in report for name in _resources(one)}
    if not isinstance(report, dict):
        return set()
    found = {name for value in report.values() for name in _resources(value)}
    path = report.get("path")
    if isinstance(path, str) and path.startswith("/Resources/"):
        found.add(path.split("/")[2])
    return found


def problems(found: set[Finding], deployment: str, exceptions: list[dict[str, Any]]) -> list[str]:
    """Return what is found and not excused, and what is excused and not found; one line each."""
    excused = {
        (rule, resource)
        for entry in exceptions
        if deployment in entry["deployments"]
        for rule in entry["rules"]
        for resource in entry["resources"]
    }

    def covers(excuse: Finding, finding: Finding) -> bool:
        return excuse[0] == finding[0] and fnmatchcase(finding[1], excuse[1])

    broken = [one for one in found if not any(covers(excuse, one) for excuse in excused)]
    idle = [excuse for excuse in excused if not any(covers(excuse, one) for one in found)]
    return [
        *(f"{deployment}: {rule} is broken by {resource}" for rule, resource in sorted(broken)),
        *(
            f"{deployment}: {rule} is excused for {resource}, and not broken: take it off the list"
            for rule, resource in sorted(idle)
        ),
    ]


def main(folder: Path) -> int:
    """Check both deployments; print what is wrong."""
    template = json.loads((folder / "template.json").read_text())
    exceptions = json.loads((ROOT / "infra" / "rule-exceptions.json").read_text())["exceptions"]
    wrong = []
    for deployment, parameters in (("strict", STRICT), ("default", {})):
        path = folder / f"{deployment}.json"
        path.write_text(json.dumps(resolved(template, parameters), indent=1))
        found = checkov(path) | guard(path, folder / "asl" / "node_modules")
        wrong += problems(found, deployment, exceptions)
    print("\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")  # noqa: T201 - a command
    return bool(wrong)


if __name__ == "__main__":
    os.environ.setdefault("LOG_LEVEL", "ERROR")
    sys.exit(main(Path(sys.argv[1])))
