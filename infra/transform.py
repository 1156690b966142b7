"""The template as CloudFormation sees it: SAM's resources spelled out, the state machine's definition inside.
No network.

    python infra/transform.py FOLDER     writes template.json, experiment.asl.json and watch.asl.json into it

`sam validate --lint` looks at neither: cfn-lint runs on this.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class _NoManagedPolicies:
    """The template names no managed policy, so SAM need not ask an account for them."""

    def load(self) -> dict[str, str]:
        return {}


def transformed(root: Path = ROOT) -> dict[str, Any]:
    """The transformed template, with every parameter left a reference.

    Raises:
        samtranslator.model.exceptions.InvalidDocumentException: SAM refuses the template.
    """
    from samtranslator.translator.transform import transform  # type: ignore[import-untyped]
    from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")  # SAM wants to know the partition
    source = yaml_parse((root / "template.yaml").read_text())
    source["Globals"]["Function"]["CodeUri"] = "s3://bundle/functions.zip"
    definitions = {}
    for name, resource in source["Resources"].items():
        if resource["Type"] == "AWS::Serverless::StateMachine":
            machine = resource["Properties"]
            definitions[name] = filled((root / machine["DefinitionUri"]).read_text())
            machine["DefinitionUri"] = "s3://bundle/machine.asl.json"
    defaults = {name: parameter["Default"] for name, parameter in source["Parameters"].items()}
    template: dict[str, Any] = transform(source, defaults, _NoManagedPolicies())
    for name, definition in definitions.items():
        properties = template["Resources"][name]["Properties"]
        del properties["DefinitionS3Location"]
        properties["Definition"] = definition
    return template


def filled(definition: str) -> dict[str, Any]:
    """The state machine with its `${…}` filled in as a deployment would."""
    text = definition.replace("${Partition}", "aws").replace(
        "${WatchMachine}", "arn:aws:states:us-east-1:123456789012:stateMachine:Watch"
    )
    machine: dict[str, Any] = json.loads(
        re.sub(r"\$\{(\w+)\}", r"arn:aws:lambda:us-east-1:123456789012:function:\1", text)
    )
    return machine


if __name__ == "__main__":
    out = Path(sys.argv[1])
    template = transformed()
    (out / "template.json").write_text(json.dumps(template, indent=1))
    for name in ("Experiment", "Watch"):
        definition = template["Resources"][name]["Properties"]["Definition"]
        (out / f"{name.lower()}.asl.json").write_text(json.dumps(definition, indent=1))
